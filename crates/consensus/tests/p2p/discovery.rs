//! Peers that are found through peers.

use crate::nodes::{Node, config};

/// Three nodes of which two know the first only.
async fn strangers(discovery: bool, private: bool) -> [Node; 3] {
    let with = |number| {
        let mut config = config(number);
        config.discovery = discovery;
        config.discover_private_addresses = private;
        config
    };
    let first = Node::start(with(1)).await;
    let mut second = with(2);
    second.peers = vec![first.address()];
    let mut third = with(3);
    third.peers = vec![first.address()];
    let (second, third) = (Node::start(second).await, Node::start(third).await);
    [first, second, third]
}

#[tokio::test]
async fn nodes_find_each_other_through_a_common_peer() {
    let [first, second, third] = strangers(true, true).await;
    first.has_peers(vec![second.id(), third.id()]).await;
    second.has_peers(vec![first.id(), third.id()]).await;
    third.has_peers(vec![first.id(), second.id()]).await;
    assert!(
        second.network.peer_infos().iter().any(|info| !info.favoured),
        "peers that were found are not favoured"
    );
}

#[tokio::test]
async fn addresses_outside_of_the_internet_are_not_tried() {
    let [first, second, third] = strangers(true, false).await;
    for node in [&second, &third] {
        node.has_peers(vec![first.id()]).await;
    }
    // What the first node tells, and what connected nodes say about themselves.
    let refused = "cipherloom_network_discovered_addresses_total{result=\"not_public\"}";
    second.counts(refused, 2).await;
    third.counts(refused, 2).await;
    second.has_peers(vec![first.id()]).await;
}

#[tokio::test]
async fn nobody_is_told_of_without_discovery() {
    let [first, second, third] = strangers(false, true).await;
    first.has_peers(vec![second.id(), third.id()]).await;
    second
        .until(
            |node| node.network.peer_infos().iter().any(|info| info.round_trip.is_some()),
            "a ping",
        )
        .await;
    second.has_peers(vec![first.id()]).await;
    for node in [&first, &second, &third] {
        assert_eq!(node.counted("cipherloom_network_discovered_addresses_total{result=\"noted\"}"), 0);
    }
}
