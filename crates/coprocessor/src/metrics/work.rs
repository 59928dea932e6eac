//! What becomes of transactions.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge};

use super::{Registrar, gauge_value};

/// From half a millisecond, which public values take, to ten minutes.
const STAGE_SECONDS: [f64; 19] = [
    0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
];

/// From commit to result; a backlog may last.
const TOTAL_SECONDS: [f64; 16] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0,
];

/// What a transaction goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From its commit in the store to its lease by a worker. Waiting for other transactions' results is part of it.
    Queued,
    /// Reading what it needs from the cache or the store.
    Load,
    /// Compiling its computations to bootstraps.
    Compile,
    /// Making ciphertexts of what was read: unpacking, expanding inputs, re-randomising.
    TakeIn,
    /// Its bootstraps, from handing it to the engine to the results.
    Evaluate,
    /// Writing its results as bytes.
    Serialise,
    /// Publishing them in the store.
    Publish,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Load,
        Self::Compile,
        Self::TakeIn,
        Self::Evaluate,
        Self::Serialise,
        Self::Publish,
    ];

    /// Returns the name that labels carry.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Load => "load",
            Self::Compile => "compile",
            Self::TakeIn => "take_in",
            Self::Evaluate => "evaluate",
            Self::Serialise => "serialise",
            Self::Publish => "publish",
        }
    }
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every output was computed.
    Computed,
    /// Some output can never be computed.
    Poisoned,
    /// None of its outputs will be computed, because it was tried too often.
    GivenUp,
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Computed, Self::Poisoned, Self::GivenUp];

    const fn label(self) -> &'static str {
        match self {
            Self::Computed => "computed",
            Self::Poisoned => "poisoned",
            Self::GivenUp => "given_up",
        }
    }
}

/// Why something is done once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// A transaction is tried again: its lease expired, its evaluation panicked, or the store failed.
    Attempt,
    /// The store failed when work was looked for or loaded.
    Store,
    /// The store failed when results were published.
    Publish,
    /// The store failed when a lease was renewed.
    Renewal,
}

impl Retry {
    const ALL: [Self; 4] = [Self::Attempt, Self::Store, Self::Publish, Self::Renewal];

    const fn label(self) -> &'static str {
        match self {
            Self::Attempt => "attempt",
            Self::Store => "store",
            Self::Publish => "publish",
            Self::Renewal => "renewal",
        }
    }
}

/// What workers do.
#[derive(Clone)]
pub struct WorkMetrics {
    errors: IntCounter,
    polls: IntCounter,
    notifications: IntCounter,
    found: IntCounter,
    item_errors: IntCounter,
    processed: IntCounter,
    stage_seconds: HistogramVec,
    transaction_seconds: HistogramVec,
    transactions: IntCounterVec,
    outputs_failed: IntCounterVec,
    leases: IntCounterVec,
    leases_lost: IntCounterVec,
    retries: IntCounterVec,
    under_way: IntGauge,
    cooled: IntCounter,
}

impl WorkMetrics {
    pub(super) fn new(registrar: &mut Registrar) -> Self {
        let metrics = Self {
            errors: registrar.counter(
                "coprocessor_worker_errors",
                "Failures of a worker as a whole: the store could not be used, a computing thread panicked.",
            ),
            polls: registrar.counter(
                "coprocessor_work_items_polls",
                "How often work was looked for because the polling interval was over.",
            ),
            notifications: registrar.counter(
                "coprocessor_work_items_notifications",
                "How often work was looked for because the store said that there is some.",
            ),
            found: registrar.counter("coprocessor_work_items_found", "Transactions that were leased."),
            item_errors: registrar.counter(
                "coprocessor_work_items_errors",
                "Outputs of transactions that can never be computed.",
            ),
            processed: registrar.counter("coprocessor_work_items_processed", "Transactions whose results were published."),
            stage_seconds: registrar.histograms(
                "coprocessor_stage_seconds",
                "Time a transaction spends in a stage: queued, load, compile, take_in, evaluate, serialise, publish.",
                &["stage"],
                &STAGE_SECONDS,
            ),
            transaction_seconds: registrar.histograms(
                "coprocessor_transaction_seconds",
                "Time from a transaction's commit in the store to the publication of its results.",
                &["tenant"],
                &TOTAL_SECONDS,
            ),
            transactions: registrar.counters(
                "coprocessor_transactions_total",
                "Transactions that ended: computed, poisoned (some output can never be computed), given_up (tried too often).",
                &["tenant", "outcome"],
            ),
            outputs_failed: registrar.counters(
                "coprocessor_outputs_failed_total",
                "Outputs that can never be computed.",
                &["tenant"],
            ),
            leases: registrar.counters("coprocessor_leases_total", "Transactions that this process leased.", &["tenant"]),
            leases_lost: registrar.counters(
                "coprocessor_leases_lost_total",
                "Leases that expired or were taken away while this process worked on the transaction; the work was thrown away.",
                &["tenant"],
            ),
            retries: registrar.counters(
                "coprocessor_retries_total",
                "What was done once more: attempt (a transaction), store, publish, renewal (calls of a store that failed).",
                &["reason"],
            ),
            under_way: registrar.gauge("coprocessor_transactions_under_way", "Transactions that this process works on now."),
            cooled: registrar.counter("coprocessor_values_packed_total", "Old values that were packed in the background."),
        };
        for stage in Stage::ALL {
            metrics.stage_seconds.with_label_values(&[stage.label()]);
        }
        for retry in Retry::ALL {
            metrics.retries.with_label_values(&[retry.label()]);
        }
        metrics
    }

    /// Notes that work was looked for, because the store said so or because it was time, and how much there was.
    pub fn polled(&self, notified: bool, found: usize) {
        if notified {
            self.notifications.inc();
        } else {
            self.polls.inc();
        }
        self.found.inc_by(u64::try_from(found).unwrap_or(u64::MAX));
    }

    /// Notes a failure of a worker as a whole.
    pub fn worker_failed(&self) {
        self.errors.inc();
    }

    /// Notes leases of a tenant's transactions.
    pub fn leased(&self, tenant: &str, transactions: usize) {
        let transactions = u64::try_from(transactions).unwrap_or(u64::MAX);
        self.leases.with_label_values(&[tenant]).inc_by(transactions);
        // Shown from the start: what grows from nothing to one has no increase.
        self.leases_lost.with_label_values(&[tenant]);
        for outcome in Outcome::ALL {
            self.transactions.with_label_values(&[tenant, outcome.label()]);
        }
    }

    /// Notes that a lease was lost.
    pub fn lease_lost(&self, tenant: &str) {
        self.leases_lost.with_label_values(&[tenant]).inc();
    }

    /// Notes that something is done once more.
    pub fn retried(&self, retry: Retry) {
        self.retries.with_label_values(&[retry.label()]).inc();
    }

    /// Notes how long a transaction spent in a stage.
    pub fn stage(&self, stage: Stage, took: Duration) {
        self.stage_seconds.with_label_values(&[stage.label()]).observe(took.as_secs_f64());
    }

    /// Notes that the results of a transaction are published, and how long after its commit if that is known.
    pub fn finished(&self, tenant: &str, outcome: Outcome, since_commit: Option<Duration>) {
        self.processed.inc();
        self.transactions.with_label_values(&[tenant, outcome.label()]).inc();
        if let Some(since_commit) = since_commit {
            self.transaction_seconds
                .with_label_values(&[tenant])
                .observe(since_commit.as_secs_f64());
        }
    }

    /// Notes outputs that can never be computed.
    pub fn outputs_failed(&self, tenant: &str, outputs: usize) {
        let outputs = u64::try_from(outputs).unwrap_or(u64::MAX);
        self.item_errors.inc_by(outputs);
        self.outputs_failed.with_label_values(&[tenant]).inc_by(outputs);
    }

    /// Notes how many transactions this process works on now.
    pub fn set_under_way(&self, transactions: usize) {
        self.under_way.set(gauge_value(transactions));
    }

    /// Notes that old values were packed.
    pub fn packed(&self, values: usize) {
        self.cooled.inc_by(u64::try_from(values).unwrap_or(u64::MAX));
    }

    pub(super) fn forget_tenant(&self, tenant: &str) {
        // A label that was never used is no error here.
        for outcome in Outcome::ALL {
            let _ = self.transactions.remove_label_values(&[tenant, outcome.label()]);
        }
        let _ = self.transaction_seconds.remove_label_values(&[tenant]);
        for counters in [&self.outputs_failed, &self.leases, &self.leases_lost] {
            let _ = counters.remove_label_values(&[tenant]);
        }
    }
}
