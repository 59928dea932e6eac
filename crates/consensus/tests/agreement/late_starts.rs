//! Validators that start one after the other, or go. Waiting for somebody who is not there would take longer than these tests have patience.

use std::{sync::atomic::Ordering, time::Duration};

use alloy::primitives::Address;
use cipherloom_consensus::{Timeouts, proposer};

use crate::cluster::{Cluster, timeouts};

/// Nobody repeats himself, and nobody is waited for in vain, before a test is over.
fn patient() -> Timeouts {
    let hour = Duration::from_secs(3600);
    Timeouts {
        propose: 2 * hour,
        silence: hour,
        rebroadcast: hour,
        longest: 3 * hour,
        ..timeouts()
    }
}

fn place_of(cluster: &Cluster, address: Address) -> usize {
    cluster.places.iter().position(|place| place.id() == address).unwrap()
}

/// Prepares four validators, and tells which of them proposes first; the others follow in the order of the rounds.
fn prepared() -> (Cluster, Vec<usize>) {
    let mut cluster = Cluster::new(4, 4);
    cluster.timeouts = patient();
    let set = cluster.rules.sets[&1].clone();
    let mut order = Vec::new();
    for round in 0.. {
        let place = place_of(&cluster, proposer(&set, 1, round));
        if !order.contains(&place) {
            order.push(place);
        }
        if order.len() == 4 {
            break;
        }
    }
    (cluster, order)
}

/// Starts validators, each when the ones before have had time to begin.
async fn start(cluster: &mut Cluster, numbers: &[usize]) {
    for number in numbers {
        cluster.start(*number).await.unwrap();
        let mut status = cluster.places[*number].node().watch();
        let begins = status.wait_for(|status| status.round.is_some());
        tokio::time::timeout(Duration::from_secs(60), begins).await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_completes_the_quorum_is_told_what_was_proposed_and_voted_before() {
    let (mut cluster, order) = prepared();
    // The first proposer is there first, and proposes to nobody.
    let there = [order[0], order[1], order[3]];
    start(&mut cluster, &there).await;
    cluster.reach(&there, 1).await;
    let decided = cluster.places[order[0]].disk.get(1).unwrap();
    assert_eq!(
        decided.certificate.round, 0,
        "the block that was proposed before the others were there"
    );
    cluster.check_agreement();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gives_a_round_up_while_too_few_are_there_to_decide() {
    let (mut cluster, order) = prepared();
    // Both are over when the quorum is there.
    cluster.timeouts.absence = Duration::from_millis(20);
    cluster.timeouts.silence = Duration::from_secs(4);
    start(&mut cluster, &[order[1], order[3]]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    start(&mut cluster, &[order[0]]).await;
    cluster.reach(&[order[0], order[1], order[3]], 1).await;
    let decided = cluster.places[order[0]].disk.get(1).unwrap();
    assert_eq!(decided.certificate.round, 0, "the first proposer came last, and was waited for");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quorum_does_not_wait_for_a_proposer_who_is_not_there() {
    let (mut cluster, order) = prepared();
    let there = [order[1], order[2], order[3]];
    start(&mut cluster, &there).await;
    cluster.reach(&there, 3).await;
    let decided = cluster.places[order[1]].disk.get(1).unwrap();
    assert_eq!(decided.certificate.round, 1);
    cluster.check_agreement();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposer_who_is_killed_at_work_is_not_waited_for() {
    let (mut cluster, order) = prepared();
    let others = [order[1], order[2], order[3]];
    // It says four times that it is at work before it would be given up, and is at work for an hour.
    cluster.timeouts.absence = Duration::from_millis(20);
    cluster.timeouts.silence = Duration::from_secs(4);
    let hour_ms = 3_600_000;
    cluster.places[order[0]].faults.slow_ms.store(hour_ms, Ordering::Relaxed);
    start(&mut cluster, &[order[0], order[1], order[3], order[2]]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    for number in others {
        assert_eq!(
            cluster.places[number].node().status().round.map(|round| round.round),
            Some(0),
            "{number} waits"
        );
    }
    cluster.stop(order[0]).await;
    cluster.reach(&others, 1).await;
    let decided = cluster.places[order[1]].disk.get(1).unwrap();
    assert_eq!(decided.certificate.round, 1);
    cluster.check_agreement();
    cluster.end().await;
}
