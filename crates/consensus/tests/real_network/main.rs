//! Validators agree over real connections, on lines that can be cut.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod chain;
#[path = "../../../coprocessor/tests/prometheus/expressions.rs"]
mod expressions;
mod nodes;
#[path = "../../../coprocessor/tests/prometheus/pages.rs"]
mod pages;
#[path = "../p2p/proxy.rs"]
mod proxy;
mod watched;

use std::time::Duration;

use alloy::primitives::Bytes;
use cipherloom_consensus::{Network, Timeouts};

use crate::{
    nodes::{Nodes, timeouts},
    proxy::Line,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validators_agree_and_a_full_node_follows() {
    let nodes = Nodes::started(4, 5).await;
    nodes.reach(&[0, 1, 2, 3, 4], 5).await;
    nodes.check_agreement();
    let follower = nodes.running(4);
    assert!(!follower.node.status().is_validator);
    // Whoever signs is favoured, and the follower is not.
    let infos = nodes.running(0).network.peer_infos();
    assert_eq!(infos.len(), 4);
    assert!(infos.iter().all(|info| info.favoured == (info.id != nodes.id(4))));
    let transaction = Bytes::from_static(b"a transaction");
    follower.chain.send_transaction(transaction.clone());
    for number in 0..4 {
        let chain = &nodes.running(number).chain;
        nodes.until(|| chain.has_transaction(&transaction), "the transaction arrives").await;
    }
    for kind in ["favoured", "stranger"] {
        let bans = format!("cipherloom_network_bans_total{{peer=\"{kind}\"}} ");
        assert_eq!(nodes.counted(0, &bans), 0);
    }
    let running = nodes.running(0);
    watched::check(&(running.node.metrics() + &running.network.metrics()));
    nodes.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halves_stop_while_lines_are_cut_and_go_on_afterwards() {
    let nodes = Nodes::started(4, 4).await;
    nodes.reach(&[0, 1, 2, 3], 3).await;
    for line in [Line::Cut, Line::Dead] {
        nodes.between(&[0, 1], &[2, 3], line);
        for (number, others) in [(0, [2, 3]), (1, [2, 3]), (2, [0, 1]), (3, [0, 1])] {
            let others = others.map(|other| nodes.id(other));
            let network = &nodes.running(number).network;
            nodes
                .until(|| !network.peers().iter().any(|peer| others.contains(peer)), "the others are gone")
                .await;
        }
        // Half the power decides nothing, however often it repeats itself.
        // What was decided before the cut may still be on its way to disks.
        nodes.talk_on(4).await;
        let before = nodes.heights();
        nodes.talk_on(10).await;
        assert_eq!(nodes.heights(), before);
        nodes.between(&[0, 1], &[2, 3], Line::Whole);
        let highest = before.iter().max().unwrap() + 3;
        nodes.reach(&[0, 1, 2, 3], highest).await;
        nodes.check_agreement();
    }
    nodes.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_go_on_without_the_fourth_which_catches_up() {
    let mut nodes = Nodes::started(4, 4).await;
    nodes.reach(&[0, 1, 2, 3], 2).await;
    nodes.kill(3).await;
    let height = nodes.heights()[0] + 8;
    nodes.reach(&[0, 1, 2], height).await;
    nodes.start(3).await;
    nodes.reach(&[3], height).await;
    // It takes part again: without it, and without another one, nothing is decided.
    nodes.kill(0).await;
    let height = nodes.heights().into_iter().max().unwrap() + 3;
    nodes.reach(&[1, 2, 3], height).await;
    nodes.check_agreement();
    nodes.end().await;
}

/// Waiting for who is away, or for votes to be repeated, would take longer than the test has patience.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_quorum_decides_without_waiting_for_who_is_away_or_for_repetitions() {
    let hour = Duration::from_secs(3600);
    for away in [0, 2] {
        let mut nodes = Nodes::new(4, 4, 10).await;
        nodes.timeouts = Timeouts {
            propose: 2 * hour,
            silence: hour,
            rebroadcast: hour,
            longest: 3 * hour,
            ..timeouts()
        };
        let mut there = nodes.proposers();
        there.remove(away);
        for number in &there {
            nodes.start(*number).await;
            let mut status = nodes.running(*number).node.watch();
            let begins = status.wait_for(|status| status.round.is_some());
            tokio::time::timeout(PATIENCE, begins).await.unwrap().unwrap();
        }
        nodes.reach(&there, 1).await;
        nodes.check_agreement();
        nodes.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_full_node_gets_many_large_blocks_while_the_chain_goes_on() {
    let mut nodes = Nodes::new(4, 5, 700 << 10).await;
    for number in 0..4 {
        nodes.start(number).await;
    }
    nodes.reach(&[0, 1, 2, 3], 20).await;
    nodes.start(4).await;
    nodes.reach(&[4], 22).await;
    nodes.check_agreement();
    let answers = nodes.counted(4, "cipherloom_network_received_bytes_total{lane=\"answers\"} ");
    assert!(answers > 20 * 2 * (700 << 10), "{answers} bytes");
    nodes.end().await;
}

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
