//! How far behind each tenant is, as the store has it. Every process that watches one database reports the same numbers.

use std::time::Duration;

use prometheus::{GaugeVec, IntCounter, IntGaugeVec};

use super::{Registrar, gauge_value};

/// The states that transactions are counted in.
const STATES: [&str; 4] = ["pending", "runnable", "leased", "poisoned"];

/// How much one tenant has waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueReading {
    /// Transactions that have no results yet, those that wait for others and those under way included.
    pub pending: u64,
    /// Those that wait for no other, leased ones included.
    pub runnable: u64,
    /// Those that a worker has.
    pub leased: u64,
    /// Finished ones with an output that can never be computed.
    pub poisoned: u64,
    /// How long ago the oldest that is pending was committed.
    pub oldest_pending: Duration,
    /// How many blocks the tenant's newest is ahead of the oldest that is pending.
    pub oldest_pending_blocks: u64,
}

/// How far behind each tenant is.
#[derive(Clone)]
pub struct QueueMetrics {
    transactions: IntGaugeVec,
    age_seconds: GaugeVec,
    age_blocks: IntGaugeVec,
    failures: IntCounter,
}

impl QueueMetrics {
    pub(super) fn new(registrar: &mut Registrar) -> Self {
        Self {
            transactions: registrar.gauges(
                "coprocessor_queue_transactions",
                "Transactions in the store: pending (without results), of these runnable (waiting for no other) and leased; poisoned (some output can never be computed).",
                &["tenant", "state"],
            ),
            age_seconds: registrar.float_gauges(
                "coprocessor_queue_lag_seconds",
                "Age of the oldest transaction without results, 0 if there is none.",
                &["tenant"],
            ),
            age_blocks: registrar.gauges(
                "coprocessor_queue_lag_blocks",
                "How many blocks the newest one is ahead of that of the oldest transaction without results, 0 if there is none.",
                &["tenant"],
            ),
            failures: registrar.counter(
                "coprocessor_queue_read_failures_total",
                "How often the numbers of the queue could not be read from the store; they are then those of before.",
            ),
        }
    }

    /// Shows what one tenant has waiting.
    pub fn set(&self, tenant: &str, reading: &QueueReading) {
        let counts = [reading.pending, reading.runnable, reading.leased, reading.poisoned];
        for (state, count) in STATES.into_iter().zip(counts) {
            self.transactions.with_label_values(&[tenant, state]).set(gauge_value(count));
        }
        self.age_seconds
            .with_label_values(&[tenant])
            .set(reading.oldest_pending.as_secs_f64());
        self.age_blocks
            .with_label_values(&[tenant])
            .set(gauge_value(reading.oldest_pending_blocks));
    }

    /// Notes that the store could not say.
    pub fn read_failed(&self) {
        self.failures.inc();
    }

    pub(super) fn forget_tenant(&self, tenant: &str) {
        // A label that was never used is no error here.
        for state in STATES {
            let _ = self.transactions.remove_label_values(&[tenant, state]);
        }
        let _ = self.age_seconds.remove_label_values(&[tenant]);
        let _ = self.age_blocks.remove_label_values(&[tenant]);
    }
}
