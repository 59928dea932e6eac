//! WebSocket connections.

use std::time::{Duration, Instant};

use cipherloom_chain::{FollowerConfig, HostChain};

use crate::{
    chain::{MadeUpChain, Random, addresses},
    following::{CONFIG, LIMITS, Recorded, follower},
    node::{Faults, Node, PATIENCE},
};

/// Polls are so rare that only announcements can be the reason for one.
const RARE: FollowerConfig = FollowerConfig {
    poll_interval: Duration::from_secs(600),
    ..CONFIG
};

fn announcing(times: usize) -> Faults {
    Faults {
        announcements: times,
        ..Faults::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn announced_blocks_are_read_at_once_and_once() {
    let chain = MadeUpChain::new(5, 1);
    let node = Node::start(&chain, announcing(4), 1).await;
    let mut following = follower(&[node.ws()], RARE);
    let mut recorded = Recorded::default();
    recorded.settle(&mut following, &chain).await;
    let mut random = Random::new(1);
    for _ in 0..5 {
        chain.grow(&mut random);
        node.announce();
        tokio::time::timeout(PATIENCE, following.wait()).await.unwrap();
        recorded.settle(&mut following, &chain).await;
    }
    assert_eq!(recorded.0.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_ends_the_wait_for_announcements() {
    let chain = MadeUpChain::new(5, 1);
    let node = Node::start(&chain, announcing(1), 1).await;
    let mut following = follower(&[node.ws()], RARE);
    let mut recorded = Recorded::default();
    let mut random = Random::new(2);
    for _ in 0..3 {
        recorded.settle(&mut following, &chain).await;
        // Nobody announces this one.
        chain.grow(&mut random);
        node.cut();
        tokio::time::timeout(PATIENCE, following.wait()).await.unwrap();
    }
    recorded.settle(&mut following, &chain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_announcements_the_node_is_asked() {
    let chain = MadeUpChain::new(5, 1);
    let faults = Faults {
        no_subscriptions: true,
        ..Faults::default()
    };
    let node = Node::start(&chain, faults, 1).await;
    let mut following = follower(&[node.ws()], CONFIG);
    let mut recorded = Recorded::default();
    recorded.settle(&mut following, &chain).await;
    chain.grow(&mut Random::new(1));
    tokio::time::timeout(PATIENCE, following.wait()).await.unwrap();
    recorded.settle(&mut following, &chain).await;
    assert_eq!(recorded.0.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_made_again() {
    let chain = MadeUpChain::new(5, 1);
    let node = Node::start(&chain, announcing(1), 1).await;
    let host = HostChain::connect_all(&[node.ws()], addresses(), LIMITS, None).unwrap();
    let start = Instant::now();
    for round in 0..5 {
        node.cut();
        // The first call may meet the end of the old connection.
        while host.chain_id().await.is_err() || !host.announces_blocks() {
            assert!(start.elapsed() < PATIENCE, "round {round}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_share_a_connection_and_each_gets_its_answer() {
    let chain = MadeUpChain::new(200, 1);
    let node = Node::start(&chain, announcing(1), 1).await;
    let host = HostChain::connect(&node.ws(), addresses()).unwrap();
    let calls = (0..200u64).map(|number| {
        let (host, expected) = (host.clone(), chain.block(number).unwrap().hash);
        async move { assert_eq!(host.header(number.into()).await.unwrap().unwrap().hash, expected) }
    });
    futures_util::future::join_all(calls).await;
}
