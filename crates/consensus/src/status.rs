//! How a node's consensus is doing, for people and for monitoring.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

use alloy::primitives::{Address, B256};

use crate::core::Step;

/// How a node's consensus is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// The height of the newest block that the node has.
    pub height: u64,
    /// That block's hash.
    pub hash: B256,
    /// The largest height that a peer claims.
    pub best_peer_height: u64,
    /// The peers that are connected.
    pub peers: usize,
    /// Whether the node's key is in the set that signs the next block.
    pub is_validator: bool,
    /// How many validators sign the next block.
    pub validators: usize,
    /// What the node takes part in, if it does: validators that catch up do not.
    pub round: Option<RoundStatus>,
}

impl NodeStatus {
    /// How many blocks the node lacks, if its peers tell the truth.
    #[must_use]
    pub const fn behind(&self) -> u64 {
        self.best_peer_height.saturating_sub(self.height)
    }

    /// Whether the node is a chain's only validator, which needs no peers.
    #[must_use]
    pub const fn is_alone(&self) -> bool {
        self.is_validator && self.validators == 1
    }
}

/// The round that a validator takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundStatus {
    /// The height that is being decided.
    pub height: u64,
    /// The round.
    pub round: u32,
    /// Where in it the node is.
    pub step: Step,
    /// Who proposes.
    pub proposer: Address,
}

/// Counts what happened since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) committed: AtomicU64,
    pub(crate) applied: AtomicU64,
    pub(crate) proposed: AtomicU64,
    pub(crate) late_proposals: AtomicU64,
    pub(crate) refused_blocks: AtomicU64,
    pub(crate) undecided_blocks: AtomicU64,
    pub(crate) rounds: AtomicU64,
    pub(crate) extra_rounds: AtomicU64,
    pub(crate) contradictions: AtomicU64,
    pub(crate) punished: AtomicU64,
    pub(crate) log_writes: AtomicU64,
    pub(crate) transactions: AtomicU64,
}

/// Counts one more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    /// Writes them, with a node's status, in Prometheus' text format.
    pub(crate) fn to_text(&self, status: &NodeStatus) -> String {
        let counters = [
            (
                "blocks_committed_total",
                "Blocks whose decision the node took part in.",
                &self.committed,
            ),
            ("blocks_caught_up_total", "Decided blocks taken from peers.", &self.applied),
            ("blocks_proposed_total", "Blocks this node made and proposed.", &self.proposed),
            (
                "proposals_missed_total",
                "Rounds in which this node's own block was not ready in time.",
                &self.late_proposals,
            ),
            (
                "blocks_refused_total",
                "Proposed blocks that were found invalid.",
                &self.refused_blocks,
            ),
            (
                "blocks_unjudged_total",
                "Proposed blocks for which no verdict was found in time.",
                &self.undecided_blocks,
            ),
            ("rounds_total", "Rounds that began.", &self.rounds),
            ("rounds_extra_total", "Rounds after the first of their height.", &self.extra_rounds),
            (
                "contradictions_total",
                "Validators that were seen contradicting themselves, per height.",
                &self.contradictions,
            ),
            ("offences_total", "Messages of peers that no honest node sends.", &self.punished),
            ("log_writes_total", "Records written to the log and synced.", &self.log_writes),
            ("transactions_received_total", "New transactions from peers.", &self.transactions),
        ];
        let round = status.round.map_or((0, 0), |round| (u64::from(round.round), 1));
        let gauges = [
            ("height", "The height of the newest block.", status.height),
            (
                "best_peer_height",
                "The largest height that a peer claims.",
                status.best_peer_height,
            ),
            ("peers", "The peers that are connected.", status.peers as u64),
            (
                "validator",
                "Whether the node's key is in the set that signs the next block.",
                status.is_validator.into(),
            ),
            ("participating", "Whether the node takes part in deciding the next block.", round.1),
            ("round", "The round the node is in.", round.0),
        ];
        let mut text = String::new();
        let mut write = |name, help, kind, value| {
            let name = format!("cipherloom_consensus_{name}");
            // Writing to a string does not fail.
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        };
        for (name, help, counter) in counters {
            write(name, help, "counter", counter.load(Ordering::Relaxed));
        }
        for (name, help, value) in gauges {
            write(name, help, "gauge", value);
        }
        text
    }
}
