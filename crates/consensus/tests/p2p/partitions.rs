//! Lines that break and are mended.

use alloy::primitives::Bytes;
use cipherloom_consensus::{Channel, Network};

use crate::{
    nodes::{Node, config},
    proxy::{Line, Proxy},
};

async fn over_a_line() -> (Node, Node, Proxy) {
    let mut first = Node::start(config(1)).await;
    let proxy = Proxy::to(first.network.local_address().unwrap()).await;
    let mut second = config(2);
    second.peers = vec![proxy.address(first.id())];
    second.limits.idle_timeout = std::time::Duration::from_millis(1500);
    second.limits.handshake_timeout = std::time::Duration::from_millis(1000);
    let mut second = Node::start(second).await;
    first.connected(second.id()).await;
    second.connected(first.id()).await;
    (first, second, proxy)
}

async fn talk(first: &mut Node, second: &mut Node, text: &'static str) {
    let message = Bytes::from_static(text.as_bytes());
    first.network.broadcast(Channel::Consensus, message.clone());
    assert_eq!(second.message().await.2, message);
    second.network.send(first.id(), Channel::Consensus, message.clone());
    assert_eq!(first.message().await.2, message);
}

#[tokio::test]
async fn nodes_find_each_other_again_after_a_line_was_cut() {
    let (mut first, mut second, proxy) = over_a_line().await;
    talk(&mut first, &mut second, "before").await;
    for round in ["once", "twice"] {
        proxy.set(Line::Cut);
        first.disconnected(second.id()).await;
        second.disconnected(first.id()).await;
        assert!(second.network.peers().is_empty());
        proxy.set(Line::Whole);
        first.connected(second.id()).await;
        second.connected(first.id()).await;
        talk(&mut first, &mut second, round).await;
    }
}

#[tokio::test]
async fn a_line_that_carries_nothing_is_found_out() {
    let (mut first, mut second, proxy) = over_a_line().await;
    proxy.set(Line::Dead);
    second.disconnected(first.id()).await;
    second
        .counts("cipherloom_network_disconnections_total{reason=\"timed_out\"}", 1)
        .await;
    // Attempts meanwhile hang, and are given up.
    second.counts("cipherloom_network_connections_total{result=\"failed\"}", 1).await;
    proxy.set(Line::Whole);
    second.connected(first.id()).await;
    first.connected(second.id()).await;
    talk(&mut first, &mut second, "after").await;
}
