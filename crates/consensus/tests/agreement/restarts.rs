//! Validators are killed and come back with what is on their disks.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use alloy::primitives::B256;
use cipherloom_consensus::{ConsensusError, RoundStatus, Step};

use crate::cluster::{Cluster, Place};

/// Small and good enough to choose victims by.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validators_that_are_killed_at_any_time_never_contradict_themselves() {
    let mut dice = Dice(20);
    let mut cluster = Cluster::started(4, 4).await;
    for _ in 0..25 {
        let victim = usize::try_from(dice.roll(4)).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(dice.roll(40))).await;
        cluster.stop(victim).await;
        cluster.start(victim).await.unwrap();
    }
    cluster.reach(&[0, 1, 2, 3], cluster.highest() + 3).await;
    cluster.check_agreement();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_validators_at_once_may_be_killed() {
    let mut cluster = Cluster::started(4, 4).await;
    for _ in 0..4 {
        cluster.reach(&[0, 1, 2, 3], cluster.highest() + 2).await;
        for number in 0..4 {
            cluster.stop(number).await;
        }
        for number in 0..4 {
            cluster.start(number).await.unwrap();
        }
    }
    cluster.reach(&[0, 1, 2, 3], cluster.highest() + 2).await;
    cluster.check_agreement();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_was_decided_and_not_kept_is_committed_after_the_restart() {
    let mut cluster = Cluster::started(4, 4).await;
    cluster.reach(&[0, 1, 2, 3], 2).await;
    for place in &cluster.places {
        place.faults.cannot_keep.store(true, Ordering::Relaxed);
    }
    // Till all decided a block that none of them has, and tried to keep it.
    let all_stuck = async {
        loop {
            let height = cluster.highest() + 1;
            let stuck = |place: &Place| {
                let tried = place.faults.not_kept.load(Ordering::Relaxed) > 0;
                let decided = |round: RoundStatus| round.height == height && round.step == Step::Commit;
                tried && place.node().status().round.is_some_and(decided)
            };
            if cluster.places.iter().all(stuck) {
                return height;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let height = tokio::time::timeout(Duration::from_secs(60), all_stuck).await.unwrap();
    let mut precommits = BTreeMap::new();
    for (_, vote) in cluster.network.votes() {
        if let Some(block) = vote.block.filter(|_| vote.kind == 2 && vote.height == height) {
            *precommits.entry(B256::from_slice(&block)).or_insert(0) += 1;
        }
    }
    for number in 0..4 {
        cluster.stop(number).await;
        assert!(cluster.places[number].disk.height() < height);
    }
    for number in 0..4 {
        cluster.places[number].faults.cannot_keep.store(false, Ordering::Relaxed);
        cluster.start(number).await.unwrap();
    }
    cluster.reach(&[0, 1, 2, 3], height + 2).await;
    let kept = cluster.places[0].disk.hash(height).unwrap();
    assert!(precommits.get(&kept).is_some_and(|votes| *votes >= 3), "{kept} of {precommits:?}");
    cluster.check_agreement();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_whose_chain_was_put_back_votes_again_only_after_what_it_voted_for() {
    let mut cluster = Cluster::started(4, 4).await;
    cluster.reach(&[0, 1, 2, 3], 8).await;
    cluster.stop(3).await;
    cluster.places[3].disk.lose_after(2);
    let voted_before = cluster.network.votes().len();
    let lost = cluster.highest();
    cluster.start(3).await.unwrap();
    cluster.reach(&[3], lost + 3).await;
    let id = cluster.places[3].id();
    let again: Vec<u64> = cluster.network.votes()[voted_before..]
        .iter()
        .filter(|(from, _)| *from == id)
        .map(|(_, vote)| vote.height)
        .collect();
    assert!(
        again.iter().all(|height| *height >= lost - 1),
        "votes at {again:?} after losing blocks up to {lost}"
    );
    cluster.check_agreement();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_cannot_use_one_log() {
    let mut cluster = Cluster::started(1, 1).await;
    assert!(matches!(cluster.start(0).await, Err(ConsensusError::Log(_))));
    cluster.end().await;
}
