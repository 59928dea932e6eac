//! Questions and answers.

use std::time::Duration;

use alloy::primitives::Bytes;
use cipherloom_consensus::{
    Channel, Network, NetworkError, Received,
    p2p::{MAX_REQUEST_BYTES, max_message_bytes},
};
use tokio::sync::oneshot;

use crate::nodes::{Node, config, key};

async fn pair(timeout: Duration) -> (Node, Node) {
    let mut first = Node::start(config(1)).await;
    let mut asking = config(2);
    asking.peers = vec![first.address()];
    asking.limits.request_timeout = timeout;
    asking.limits.requests_per_peer = 2;
    let mut second = Node::start(asking).await;
    first.connected(second.id()).await;
    second.connected(first.id()).await;
    (first, second)
}

async fn question(node: &mut Node) -> (Bytes, oneshot::Sender<Bytes>) {
    loop {
        if let Received::Request { request, answer, .. } = node.next().await {
            return (request, answer);
        }
    }
}

#[tokio::test]
async fn answers_reach_the_question_they_belong_to() {
    let (mut first, second) = pair(Duration::from_secs(30)).await;
    let asked = tokio::spawn({
        let (network, id) = (second.network.clone(), first.id());
        async move {
            let one = network.request(id, Bytes::from_static(b"one"));
            let two = network.request(id, Bytes::from_static(b""));
            tokio::join!(one, two)
        }
    });
    let mut questions = [question(&mut first).await, question(&mut first).await];
    questions.sort_by_key(|(request, _)| request.len());
    let [(empty, for_empty), (one, for_one)] = questions;
    assert_eq!((empty.as_ref(), one.as_ref()), (&b""[..], &b"one"[..]));
    for_empty.send(Bytes::new()).unwrap();
    let long = Bytes::from(vec![7; 5 << 20]);
    for_one.send(long.clone()).unwrap();
    let (one, two) = asked.await.unwrap();
    assert!(one.unwrap() == long);
    assert_eq!(two.unwrap(), Bytes::new());
}

#[tokio::test]
async fn a_declined_question_and_one_without_an_answer_fail() {
    let (mut first, second) = pair(Duration::from_millis(300)).await;
    let ask = |second: &Node, first: &Node| {
        let (network, id) = (second.network.clone(), first.id());
        tokio::spawn(async move { network.request(id, Bytes::from_static(b"?")).await })
    };
    let declined = ask(&second, &first);
    drop(question(&mut first).await);
    assert!(matches!(declined.await.unwrap(), Err(NetworkError::NoAnswer(_))));
    let ignored = ask(&second, &first);
    let (_, answer) = question(&mut first).await;
    assert!(matches!(ignored.await.unwrap(), Err(NetworkError::NoAnswer(_))));
    // The answer comes late: it is thrown away, and the connection goes on.
    answer.send(Bytes::from(vec![1; 1 << 20])).unwrap();
    let next = ask(&second, &first);
    question(&mut first).await.1.send(Bytes::from_static(b"!")).unwrap();
    assert_eq!(next.await.unwrap().unwrap(), Bytes::from_static(b"!"));
    assert_eq!(second.counted("cipherloom_network_requests_total{result=\"no_answer\"}"), 2);
}

#[tokio::test]
async fn what_cannot_be_asked_is_said_at_once() {
    let (mut first, second) = pair(Duration::from_secs(30)).await;
    let stranger = second.network.request(key(9).address(), Bytes::new()).await;
    assert!(matches!(stranger, Err(NetworkError::NotConnected(_))));
    let long = second.network.request(first.id(), vec![0; MAX_REQUEST_BYTES + 1].into()).await;
    assert!(matches!(long, Err(NetworkError::NotSent(_))));
    let (network, id) = (second.network.clone(), first.id());
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let network = network.clone();
            tokio::spawn(async move { network.request(id, Bytes::from_static(b"?")).await })
        })
        .collect();
    let held = [question(&mut first).await, question(&mut first).await];
    let third = second.network.request(first.id(), Bytes::new()).await;
    assert!(matches!(third, Err(NetworkError::NotSent(_))));
    // The peer goes away: nobody waits for its answers any more.
    first.network.shutdown().await;
    for request in waiting {
        assert!(matches!(request.await.unwrap(), Err(NetworkError::NotConnected(_))));
    }
    drop(held);
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_no_answer() {
    let (mut first, second) = pair(Duration::from_secs(30)).await;
    let asked = tokio::spawn({
        let (network, id) = (second.network.clone(), first.id());
        async move { network.request(id, Bytes::from_static(b"?")).await }
    });
    let (_, answer) = question(&mut first).await;
    answer.send(vec![0; max_message_bytes(Channel::Sync) + 1].into()).unwrap();
    assert!(matches!(asked.await.unwrap(), Err(NetworkError::NoAnswer(_))));
}
