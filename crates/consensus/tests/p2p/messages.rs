//! What arrives, and what does not arrive twice.

use std::time::Duration;

use alloy::primitives::Bytes;
use cipherloom_consensus::{Channel, Network, Received, p2p::max_message_bytes};
use tokio::time::sleep;

use crate::nodes::{Node, config};

/// Bytes that are wrong at any other place.
fn pattern(length: usize) -> Bytes {
    let mut state = 0x9e37_79b9_u32;
    let next = |state: &mut u32| {
        *state ^= *state << 13;
        *state ^= *state >> 17;
        *state ^= *state << 5;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next(&mut state)).collect::<Vec<u8>>().into()
}

async fn pair() -> (Node, Node) {
    let mut first = Node::start(config(1)).await;
    let mut second = Node::with_peers(2, &[&first]).await;
    first.connected(second.id()).await;
    second.connected(first.id()).await;
    (first, second)
}

#[tokio::test]
async fn messages_arrive_on_their_channels_as_they_were_sent() {
    let (first, mut second) = pair().await;
    let channels = [Channel::Consensus, Channel::Blocks, Channel::Transactions, Channel::Status];
    for channel in channels {
        // One byte, one frame, one more than a frame, and several frames.
        for length in [1, 32 << 10, (32 << 10) + 1, 100_000] {
            let message = pattern(length.min(max_message_bytes(channel)));
            first.network.send(second.id(), channel, message.clone());
            assert_eq!(second.message().await, (first.id(), channel, message));
        }
    }
}

#[tokio::test]
async fn the_longest_block_arrives_and_a_vote_overtakes_it() {
    let (first, mut second) = pair().await;
    let block = pattern(max_message_bytes(Channel::Blocks));
    first.network.broadcast(Channel::Blocks, block.clone());
    first.network.broadcast(Channel::Consensus, Bytes::from_static(b"a vote"));
    assert_eq!(second.message().await.1, Channel::Consensus);
    let (_, channel, received) = second.message().await;
    assert_eq!(channel, Channel::Blocks);
    assert!(received == block);
}

#[tokio::test]
async fn what_may_not_be_sent_is_not_sent() {
    let (first, mut second) = pair().await;
    first
        .network
        .broadcast(Channel::Status, pattern(max_message_bytes(Channel::Status) + 1));
    first.network.broadcast(Channel::Status, Bytes::new());
    first.network.broadcast(Channel::Sync, pattern(10));
    first
        .network
        .send(second.id(), Channel::Consensus, pattern(max_message_bytes(Channel::Consensus) + 1));
    first.network.broadcast(Channel::Consensus, Bytes::from_static(b"the end"));
    assert_eq!(second.message().await.2, Bytes::from_static(b"the end"));
    assert_eq!(first.counted("cipherloom_network_dropped_messages_total{reason=\"unsendable\"}"), 4);
}

#[tokio::test]
async fn gossip_reaches_everybody_once() {
    let (mut first, mut second) = pair().await;
    let mut third = Node::with_peers(3, &[&first, &second]).await;
    for node in [&mut first, &mut second] {
        node.connected(third.id()).await;
    }
    third.has_peers(vec![first.id(), second.id()]).await;
    let transaction = Bytes::from_static(b"a transaction");
    first.network.broadcast(Channel::Transactions, transaction.clone());
    assert_eq!(second.message().await, (first.id(), Channel::Transactions, transaction.clone()));
    assert_eq!(third.message().await, (first.id(), Channel::Transactions, transaction.clone()));
    // Both pass it on; each told the other already, or hears it once more and does not hand it up.
    second.network.relay(first.id(), Channel::Transactions, transaction.clone());
    third.network.relay(first.id(), Channel::Transactions, transaction.clone());
    first.network.broadcast(Channel::Transactions, transaction.clone());
    for node in [&second, &third] {
        node.network.broadcast(Channel::Consensus, pattern(usize::from(node.id().0[0]) + 1));
    }
    for node in [&mut first, &mut second, &mut third] {
        let (_, channel, _) = node.message().await;
        assert_eq!(channel, Channel::Consensus, "the transaction came again");
    }
    // What is sent to one peer is meant, however often.
    first.network.send(second.id(), Channel::Transactions, transaction.clone());
    while second.message().await != (first.id(), Channel::Transactions, transaction.clone()) {}
}

#[tokio::test]
async fn relayed_messages_do_not_go_back() {
    let (mut first, mut second) = pair().await;
    let mut third = Node::with_peers(3, &[&second]).await;
    second.connected(third.id()).await;
    third.connected(second.id()).await;
    let vote = Bytes::from_static(b"a vote");
    first.network.broadcast(Channel::Consensus, vote.clone());
    assert_eq!(second.message().await.2, vote);
    second.network.relay(first.id(), Channel::Consensus, vote.clone());
    assert_eq!(third.message().await, (second.id(), Channel::Consensus, vote));
    second.network.broadcast(Channel::Consensus, Bytes::from_static(b"another"));
    assert_eq!(first.message().await.2, Bytes::from_static(b"another"));
}

#[tokio::test]
async fn a_vote_can_be_repeated_after_a_while() {
    let (first, mut second) = pair().await;
    let vote = Bytes::from_static(b"a vote");
    first.network.broadcast(Channel::Consensus, vote.clone());
    assert_eq!(second.message().await.2, vote);
    // The time itself is what is tested: votes are remembered for a second.
    sleep(Duration::from_millis(1100)).await;
    first.network.broadcast(Channel::Consensus, vote.clone());
    assert_eq!(second.message().await.2, vote);
}

#[tokio::test]
async fn the_end_of_a_node_is_heard() {
    let (first, mut second) = pair().await;
    first.network.shutdown().await;
    second.disconnected(first.id()).await;
    assert!(second.network.peers().is_empty());
    // Whoever holds the receiver of a network that was shut down hears the end of it.
    let mut received = first.received;
    while let Some(event) = received.recv().await {
        assert!(matches!(event, Received::Disconnected(_) | Received::Connected(_)));
    }
}

#[tokio::test]
async fn a_network_without_a_user_shuts_down() {
    let (first, mut second) = pair().await;
    let Node { network, received } = first;
    drop(received);
    second.disconnected(network.id()).await;
    drop(network);
}
