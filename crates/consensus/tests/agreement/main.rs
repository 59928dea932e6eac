//! Validators agree over a network in memory, whatever happens to some of them.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod cluster;
mod faults;
mod late_starts;
mod liars;
mod memory_network;
mod restarts;
mod toy_chain;

use std::collections::BTreeSet;

use alloy::primitives::{Address, Bytes};

use crate::cluster::{Cluster, key, set_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_validators_agree_and_a_full_node_follows_without_voting() {
    let cluster = Cluster::started(4, 5).await;
    cluster.reach(&[0, 1, 2, 3, 4], 10).await;
    cluster.check_agreement();
    let follower = &cluster.places[4];
    assert!(cluster.network.votes().iter().all(|(from, _)| *from != follower.id()));
    assert!(!follower.node().status().is_validator);
    assert_eq!(follower.node().status().round, None);
    assert!(follower.metric("blocks_caught_up_total") >= 10);
    let makers: BTreeSet<Address> = (1..=10)
        .map(|height| Address::from_slice(&follower.disk.get(height).unwrap().block[40..60]))
        .collect();
    assert!(makers.len() > 1, "validators take turns");
    assert_eq!(cluster.network.punished(), []);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_validator_alone_decides() {
    let cluster = Cluster::started(1, 1).await;
    cluster.reach(&[0], 5).await;
    assert!(cluster.places[0].node().status().is_alone());
    cluster.check_agreement();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_reach_every_node_once_and_bad_ones_count_against_their_sender() {
    let cluster = Cluster::started(4, 4).await;
    let transaction = Bytes::from_static(b"a transaction");
    cluster.places[0].chain().send_transaction(transaction.clone());
    let arrived = async {
        for place in &cluster.places {
            while place.chain().transactions.lock().unwrap().as_slice() != [transaction.clone()] {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), arrived).await.unwrap();

    let (stranger, _inbox) = cluster.network.join(Address::repeat_byte(9));
    cipherloom_consensus::Network::broadcast(&*stranger, cipherloom_consensus::Channel::Transactions, Bytes::new());
    let noticed = async {
        while cluster
            .network
            .punished()
            .iter()
            .filter(|(_, whom, _)| *whom == Address::repeat_byte(9))
            .count()
            < 4
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), noticed).await.unwrap();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validators_that_are_not_all_connected_hear_each_other_through_others() {
    let cluster = Cluster::new(4, 4);
    let ring = |a: usize, b: usize| cluster.network.cut(&cluster.ids(&[a]), &cluster.ids(&[b]));
    ring(0, 2);
    ring(1, 3);
    let mut cluster = cluster;
    for number in 0..4 {
        cluster.start(number).await.unwrap();
    }
    cluster.reach(&[0, 1, 2, 3], 8).await;
    cluster.check_agreement();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_set_takes_over_at_its_height() {
    let mut cluster = Cluster::new(4, 5);
    let keys: Vec<_> = [0, 1, 2, 4].map(key).into();
    cluster.rules.sets.insert(6, set_of(&keys));
    for number in 0..5 {
        cluster.start(number).await.unwrap();
    }
    cluster.reach(&[0, 1, 2, 3, 4], 15).await;
    // Certificates are checked against the set of their height.
    cluster.check_agreement();
    let (left, joined) = (cluster.places[3].id(), cluster.places[4].id());
    for (_, vote) in cluster.network.votes() {
        let voter = Address::from_slice(&vote.validator);
        assert!(voter != left || vote.height < 6, "who left voted at {}", vote.height);
        assert!(voter != joined || vote.height >= 6, "who joins voted at {}", vote.height);
    }
    assert!(cluster.network.votes().iter().any(|(from, _)| *from == joined), "who joined votes");
    assert!(!cluster.places[3].node().status().is_validator);
    assert!(cluster.places[4].node().status().is_validator);
    cluster.end().await;
}
