//! How far the following of chains is. Only the process that follows a chain reports it.

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec};

use super::{Registrar, gauge_value};

/// The blocks whose numbers are shown.
const BLOCKS: [&str; 3] = ["head", "recorded", "final"];

/// How far the following of one chain is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FollowingReading {
    /// The chain's newest block.
    pub head: u64,
    /// The newest block that is recorded.
    pub recorded: u64,
    /// The highest block that is final and recorded.
    pub final_block: u64,
    /// How many seconds the newest recorded block is older than the chain's newest, as they say themselves.
    pub lag_seconds: f64,
    /// How many seconds ago the chain was last reached.
    pub unreached_seconds: f64,
}

/// How far the following of chains is.
#[derive(Clone)]
pub struct FollowingMetrics {
    blocks: IntGaugeVec,
    lag_blocks: IntGaugeVec,
    lag_seconds: GaugeVec,
    unreached_seconds: GaugeVec,
    reorganisations: IntCounterVec,
    removed: IntCounterVec,
    failures: IntCounterVec,
}

impl FollowingMetrics {
    pub(super) fn new(registrar: &mut Registrar) -> Self {
        Self {
            blocks: registrar.gauges(
                "coprocessor_following_block",
                "Numbers of blocks of a chain that this process follows: head (the chain's newest), recorded (the newest recorded), final (the highest that is final and recorded).",
                &["tenant", "block"],
            ),
            lag_blocks: registrar.gauges(
                "coprocessor_following_lag_blocks",
                "How many blocks the chain's newest is ahead of the newest recorded.",
                &["tenant"],
            ),
            lag_seconds: registrar.float_gauges(
                "coprocessor_following_lag_seconds",
                "How much older the newest recorded block is than the chain's newest, by their own times.",
                &["tenant"],
            ),
            unreached_seconds: registrar.float_gauges(
                "coprocessor_following_unreached_seconds",
                "How long ago a node of the chain last answered.",
                &["tenant"],
            ),
            reorganisations: registrar.counters(
                "coprocessor_following_reorganisations_total",
                "How often recorded blocks were withdrawn because the chain has others.",
                &["tenant"],
            ),
            removed: registrar.counters(
                "coprocessor_following_withdrawn_blocks_total",
                "How many numbers of blocks were withdrawn because the chain has others.",
                &["tenant"],
            ),
            failures: registrar.counters(
                "coprocessor_following_failures_total",
                "How often a step of following failed and was tried again: nodes that do not answer or contradict themselves, or the database.",
                &["tenant"],
            ),
        }
    }

    /// Shows how far the following of a tenant's chain is.
    pub fn set(&self, tenant: &str, reading: &FollowingReading) {
        let numbers = [reading.head, reading.recorded, reading.final_block];
        for (block, number) in BLOCKS.into_iter().zip(numbers) {
            self.blocks.with_label_values(&[tenant, block]).set(gauge_value(number));
        }
        let lag = reading.head.saturating_sub(reading.recorded);
        self.lag_blocks.with_label_values(&[tenant]).set(gauge_value(lag));
        self.lag_seconds.with_label_values(&[tenant]).set(reading.lag_seconds);
        self.unreached_seconds.with_label_values(&[tenant]).set(reading.unreached_seconds);
    }

    /// Counts a reorganisation that withdrew this many numbers of blocks.
    pub fn reorganised(&self, tenant: &str, blocks: u64) {
        self.reorganisations.with_label_values(&[tenant]).inc();
        self.removed.with_label_values(&[tenant]).inc_by(blocks);
    }

    /// Counts a step that failed.
    pub fn failed(&self, tenant: &str) {
        self.failures.with_label_values(&[tenant]).inc();
    }

    /// Drops the gauges of a tenant whose chain this process follows no more.
    pub fn ended(&self, tenant: &str) {
        // A label that was never used is no error here.
        for block in BLOCKS {
            let _ = self.blocks.remove_label_values(&[tenant, block]);
        }
        let _ = self.lag_blocks.remove_label_values(&[tenant]);
        let _ = self.lag_seconds.remove_label_values(&[tenant]);
        let _ = self.unreached_seconds.remove_label_values(&[tenant]);
    }

    pub(super) fn forget_tenant(&self, tenant: &str) {
        self.ended(tenant);
        let _ = self.reorganisations.remove_label_values(&[tenant]);
        let _ = self.removed.remove_label_values(&[tenant]);
        let _ = self.failures.remove_label_values(&[tenant]);
    }
}
