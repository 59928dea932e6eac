//! Nodes lie.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use alloy::{
    primitives::{Address, B256, Bytes},
    signers::{SignerSync as _, local::PrivateKeySigner},
};
use cipherloom_consensus::{Channel, Network as _, Received};
use cipherloom_primitives::quorum::VoteKind;
use cipherloom_rpc::cipherloom::consensus::v1::{
    DecidedBlock, DecidedRange, Message, ProposedBlock, Status, SyncRequest, SyncResponse, Vote, message::Content, sync_request::Question,
};
use prost::Message as _;

use crate::cluster::{Cluster, key};

const PATIENCE: Duration = Duration::from_secs(30);

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_with_one_wrong_byte_is_never_decided() {
    let cluster = Cluster::new(4, 4);
    cluster.lie(1);
    let mut cluster = cluster;
    for number in 0..4 {
        cluster.start(number).await.unwrap();
    }
    until("the liar proposes", || cluster.places[0].metric("blocks_refused_total") > 0).await;
    cluster.reach(&[0, 1, 2, 3], cluster.highest() + 3).await;
    let liar = cluster.places[1].id();
    for height in 1..=cluster.places[0].disk.height() {
        let maker = Address::from_slice(&cluster.places[0].disk.get(height).unwrap().block[40..60]);
        assert_ne!(maker, liar, "height {height}");
    }
    cluster.check_agreement();
    cluster.end().await;
}

fn vote(cluster: &Cluster, signer: &PrivateKeySigner, height: u64, block: Option<B256>) -> Bytes {
    let digest = cluster.rules.domain.vote_digest(VoteKind::Prevote, height, 0, block);
    let vote = Vote {
        kind: 1,
        height,
        round: 0,
        block: block.map(|block| block.to_vec().into()),
        validator: signer.address().to_vec().into(),
        signature: signer.sign_hash_sync(&digest).unwrap().as_bytes().to_vec().into(),
    };
    let message = Message {
        repetition: 0,
        content: Some(Content::Vote(vote)),
    };
    message.encode_to_vec().into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_that_votes_twice_is_noticed_and_changes_nothing() {
    let mut cluster = Cluster::new(4, 4);
    for number in 0..3 {
        cluster.start(number).await.unwrap();
    }
    let liar = key(3);
    let (port, _inbox) = cluster.network.join(liar.address());
    until("contradictions are noticed", || {
        let height = cluster.highest() + 1;
        for block in [1, 2] {
            port.broadcast(Channel::Consensus, vote(&cluster, &liar, height, Some(B256::repeat_byte(block))));
        }
        (0..3).any(|number| cluster.places[number].metric("contradictions_total") > 0)
    })
    .await;
    cluster.reach(&[0, 1, 2], cluster.highest() + 3).await;
    for height in 1..=cluster.highest() {
        assert_eq!(cluster.places[0].disk.hash(height), cluster.places[1].disk.hash(height));
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_honest_node_sends_counts_against_the_peer() {
    let cluster = Cluster::started(4, 4).await;
    let forged = |height: u64| {
        let mut message = Message::decode(vote(&cluster, &key(9), height, None).as_ref()).unwrap();
        let Some(Content::Vote(vote)) = &mut message.content else {
            panic!("a vote")
        };
        // In the name of a member.
        vote.validator = key(0).address().to_vec().into();
        message.encode_to_vec().into()
    };
    let block = |height: u64| {
        let block = ProposedBlock {
            height,
            round: 0,
            hash: B256::repeat_byte(1).to_vec().into(),
            block: vec![0; 100].into(),
            signature: key(9).sign_hash_sync(&B256::ZERO).unwrap().as_bytes().to_vec().into(),
        };
        block.encode_to_vec().into()
    };
    type Make<'a> = &'a dyn Fn(u64) -> Bytes;
    let offences: [(&str, Channel, Make<'_>); 6] = [
        ("a forged vote", Channel::Consensus, &forged),
        ("a block of a stranger", Channel::Blocks, &block),
        ("no message", Channel::Consensus, &|_| Bytes::from_static(&[0xff; 20])),
        ("no block", Channel::Blocks, &|_| Bytes::from_static(&[0xff; 20])),
        ("no status", Channel::Status, &|_| Bytes::from_static(&[0xff; 20])),
        ("a message in place of a request", Channel::Sync, &|_| Bytes::new()),
    ];
    for (number, (name, channel, make)) in (100u8..).zip(offences) {
        let stranger = Address::repeat_byte(number);
        let (port, _inbox) = cluster.network.join(stranger);
        until(name, || {
            port.broadcast(channel, make(cluster.highest() + 1));
            cluster.network.punished().iter().any(|(_, whom, _)| *whom == stranger)
        })
        .await;
        cluster.network.leave(stranger);
    }
    cluster.reach(&[0, 1, 2, 3], cluster.highest() + 2).await;
    cluster.check_agreement();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decided_blocks_with_forged_certificates_are_refused_and_others_asked() {
    let mut cluster = Cluster::new(4, 5);
    for number in 0..4 {
        cluster.start(number).await.unwrap();
    }
    cluster.reach(&[0, 1, 2, 3], 6).await;
    // The liar claims the most, and hands out real blocks whose certificates lack a vote.
    let liar = Address::repeat_byte(1);
    let (port, mut inbox) = cluster.network.join(liar);
    let source = cluster.places[0].disk.clone();
    let lying = tokio::spawn(async move {
        while let Some(received) = inbox.recv().await {
            match received {
                Received::Connected(peer) => {
                    let status = Status {
                        height: 1_000_000,
                        hash: vec![1; 32].into(),
                    };
                    port.send(peer, Channel::Status, status.encode_to_vec().into());
                }
                Received::Request { request, answer, .. } => {
                    let Ok(SyncRequest {
                        question: Some(Question::Decided(range)),
                    }) = SyncRequest::decode(request.as_ref())
                    else {
                        continue;
                    };
                    // Of heights that are still to come, too: the first block passed off as theirs.
                    let decided = (range.from..).take(range.count as usize).filter_map(|height| {
                        let mut decided = source.get(height).or_else(|| source.get(1))?;
                        decided.certificate.height = height;
                        decided.certificate.signatures.truncate(2);
                        Some(DecidedBlock {
                            block: decided.block.0,
                            certificate: decided.certificate.encode().into(),
                            sidecar: decided.sidecar.0,
                        })
                    });
                    let response = SyncResponse {
                        decided: decided.collect(),
                        undecided: None,
                    };
                    let _ = answer.send(response.encode_to_vec().into());
                }
                _ => {}
            }
        }
    });
    cluster.start(4).await.unwrap();
    cluster.reach(&[4], 6).await;
    let victim = cluster.places[4].id();
    until("the liar is punished", || {
        cluster
            .network
            .punished()
            .iter()
            .any(|(by, whom, _)| *by == victim && *whom == liar)
    })
    .await;
    cluster.check_agreement();
    lying.abort();
    cluster.end().await;
}

/// They ask one node for old blocks, as often as they can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn greedy_strangers_keep_nobody_from_catching_up() {
    let mut cluster = Cluster::new(4, 5);
    for number in 0..3 {
        cluster.start(number).await.unwrap();
    }
    cluster.reach(&[0, 1, 2], 5).await;
    // The chain does not run away.
    cluster.stop(2).await;
    cluster.places[0].faults.reading_ms.store(30, Ordering::Relaxed);
    let asked = cluster.places[0].id();
    let request = SyncRequest {
        question: Some(Question::Decided(DecidedRange { from: 1, count: 2 })),
    };
    let request = Bytes::from(request.encode_to_vec());
    let mut greedy = Vec::new();
    for number in 0..8 {
        let (port, _inbox) = cluster.network.join(Address::repeat_byte(0xa0 + number));
        for _ in 0..2 {
            let (port, request) = (Arc::clone(&port), request.clone());
            greedy.push(tokio::spawn(async move {
                loop {
                    // Declined or answered: once more.
                    let _ = port.request(asked, request.clone()).await;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }));
        }
    }
    // A validator and a stranger that reach nobody else.
    let (late, others) = (cluster.ids(&[3, 4]), cluster.ids(&[1]));
    cluster.network.cut(&late, &others);
    cluster.network.cut(&late[..1], &late[1..]);
    cluster.start(3).await.unwrap();
    cluster.start(4).await.unwrap();
    cluster.reach(&[3, 4], 5).await;
    for asking in greedy {
        asking.abort();
    }
    cluster.check_agreement();
    cluster.end().await;
}
