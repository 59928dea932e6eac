//! Nodes and links fail.

use std::{sync::atomic::Ordering, time::Duration};

use cipherloom_consensus::Channel;

use crate::cluster::{Cluster, timeouts};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_of_four_go_on_and_the_fourth_catches_up() {
    let mut cluster = Cluster::started(4, 4).await;
    cluster.reach(&[0, 1, 2, 3], 2).await;
    cluster.stop(3).await;
    let stopped_at = cluster.places[3].disk.height();
    cluster.reach(&[0, 1, 2], stopped_at + 5).await;
    assert_eq!(cluster.places[3].disk.height(), stopped_at);
    cluster.start(3).await.unwrap();
    let behind = cluster.highest();
    cluster.reach(&[3], behind).await;
    assert!(cluster.places[3].metric("blocks_caught_up_total") >= 1);
    // It takes part again: without it, nothing is decided.
    cluster.stop(0).await;
    cluster.reach(&[1, 2, 3], cluster.highest() + 3).await;
    cluster.check_agreement();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halves_stop_and_resume_when_they_are_joined() {
    let cluster = Cluster::started(4, 4).await;
    cluster.reach(&[0, 1, 2, 3], 3).await;
    cluster.network.cut(&cluster.ids(&[0, 1]), &cluster.ids(&[2, 3]));
    // What was under way may still be decided; then nothing is, though rounds go by.
    let rounds = cluster.places[0].metric("rounds_extra_total");
    let before = cluster.highest();
    let mut status = cluster.places[0].node().watch();
    let waits = status.wait_for(|status| status.round.is_some_and(|round| round.step != cipherloom_consensus::Step::Commit));
    tokio::time::timeout(Duration::from_secs(20), waits).await.unwrap().unwrap();
    tokio::time::sleep(timeouts().propose * 2).await;
    assert!(cluster.highest() <= before + 1, "{before} before, {} in halves", cluster.highest());
    assert!(cluster.places[0].metric("rounds_extra_total") >= rounds);
    cluster.network.mend();
    cluster.reach(&[0, 1, 2, 3], before + 5).await;
    cluster.check_agreement();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_node_takes_all_blocks_from_its_peers() {
    let mut cluster = Cluster::new(4, 6);
    for number in 0..4 {
        cluster.start(number).await.unwrap();
    }
    // More than one answer holds.
    cluster.reach(&[0, 1, 2, 3], 40).await;
    cluster.start(4).await.unwrap();
    cluster.reach(&[4], 40).await;
    // From followers, too.
    cluster.start(5).await.unwrap();
    let (others, late) = (cluster.ids(&[0, 1, 2, 3]), cluster.ids(&[5]));
    cluster.network.cut(&others, &late);
    cluster.reach(&[5], 40).await;
    cluster.check_agreement();
    assert_eq!(cluster.network.punished(), []);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_judge_blocks_does_not_vote_for_them() {
    let cluster = Cluster::started(4, 4).await;
    cluster.reach(&[0, 1, 2, 3], 2).await;
    let faults = |number: usize| &cluster.places[number].faults.cannot_tell;
    faults(0).store(true, Ordering::Relaxed);
    cluster.reach(&[0, 1, 2, 3], cluster.highest() + 3).await;
    faults(1).store(true, Ordering::Relaxed);
    let stuck = cluster.highest() + 1;
    tokio::time::sleep(timeouts().propose * 2).await;
    // A block of one of both can still be decided, by three votes: its maker knows it.
    assert!(cluster.highest() <= stuck + 4, "{stuck} and then {}", cluster.highest());
    faults(0).store(false, Ordering::Relaxed);
    faults(1).store(false, Ordering::Relaxed);
    cluster.reach(&[0, 1, 2, 3], cluster.highest() + 5).await;
    cluster.check_agreement();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_got_lost_is_asked_for() {
    let cluster = Cluster::new(4, 4);
    cluster.network.deafen(cluster.places[2].id(), Channel::Blocks);
    // Without one validator, the deaf one is needed.
    let mut cluster = cluster;
    for number in 0..3 {
        cluster.start(number).await.unwrap();
    }
    cluster.reach(&[0, 1, 2], 4).await;
    assert!(cluster.places[2].metric("blocks_committed_total") >= 1);
    cluster.check_agreement();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_that_take_longer_than_a_silent_proposer_is_waited_for_are_decided_in_the_first_round() {
    let cluster = Cluster::new(4, 4);
    for place in &cluster.places {
        let longer = timeouts().silence + Duration::from_millis(150);
        place
            .faults
            .slow_ms
            .store(u64::try_from(longer.as_millis()).unwrap(), Ordering::Relaxed);
    }
    let mut cluster = cluster;
    for number in 0..4 {
        cluster.start(number).await.unwrap();
    }
    cluster.reach(&[0, 1, 2, 3], 3).await;
    let first_rounds = (1..=3)
        .filter(|height| cluster.places[0].disk.get(*height).unwrap().certificate.round == 0)
        .count();
    assert_eq!(first_rounds, 3);
    cluster.end().await;
}
