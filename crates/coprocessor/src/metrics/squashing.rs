//! Noise squashing: what is asked for, what is made, and how long it takes.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use super::{Registrar, gauge_value};

/// A bit takes half a second, 256 bits on busy processors minutes; with toy parameters milliseconds.
const SQUASHING_SECONDS: [f64; 13] = [0.01, 0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// Values of one batch.
const BATCH_VALUES: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// Where a squashed list came from that was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SquashedFrom {
    /// It was in memory.
    Memory,
    /// It was in the store.
    Store,
    /// It was squashed for whoever asked, and for those who asked meanwhile.
    Made,
}

impl SquashedFrom {
    const ALL: [Self; 3] = [Self::Memory, Self::Store, Self::Made];

    const fn label(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Store => "store",
            Self::Made => "made",
        }
    }
}

/// Why nothing was squashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SquashingRefusal {
    /// Too many values were waiting.
    Busy,
    /// The key set cannot squash noise, or its keys for it cannot be used.
    Keys,
    /// Something went wrong.
    Failed,
}

impl SquashingRefusal {
    const ALL: [Self; 3] = [Self::Busy, Self::Keys, Self::Failed];

    const fn label(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Keys => "keys",
            Self::Failed => "failed",
        }
    }
}

/// What noise squashing does.
#[derive(Clone)]
pub struct SquashingMetrics {
    handed_out: IntCounterVec,
    made: IntCounter,
    refused: IntCounterVec,
    waiting: IntGauge,
    seconds: Histogram,
    batch_values: Histogram,
    memory_bytes: IntGauge,
    keys_held: IntGauge,
    key_load_seconds: Histogram,
}

impl SquashingMetrics {
    pub(super) fn new(registrar: &mut Registrar) -> Self {
        let metrics = Self {
            handed_out: registrar.counters(
                "coprocessor_squashed_lists_total",
                "Noise-squashed values that were handed out, by where they came from: memory, store, made.",
                &["from"],
            ),
            made: registrar.counter(
                "coprocessor_squashed_values_total",
                "Values whose noise was squashed, each once, whoever waited for it.",
            ),
            refused: registrar.counters(
                "coprocessor_squashing_refused_total",
                "Values that were not squashed: too many were waiting (busy), the key set cannot (keys), or something went wrong (failed).",
                &["reason"],
            ),
            waiting: registrar.gauge(
                "coprocessor_squashing_waiting",
                "Values that wait to be squashed or are being squashed now.",
            ),
            seconds: registrar.histogram(
                "coprocessor_squashing_seconds",
                "Time from a value's turn to its stored list, with the others of its batch.",
                &SQUASHING_SECONDS,
            ),
            batch_values: registrar.histogram(
                "coprocessor_squashing_batch_values",
                "Values that were squashed together.",
                &BATCH_VALUES,
            ),
            memory_bytes: registrar.gauge("coprocessor_squashing_memory_bytes", "Bytes of the squashed lists in memory."),
            keys_held: registrar.gauge("coprocessor_squashing_keys_held", "Keys of noise squashing that are in memory now."),
            key_load_seconds: registrar.histogram(
                "coprocessor_squashing_key_load_seconds",
                "Time to read the keys of noise squashing and make them usable.",
                &SQUASHING_SECONDS,
            ),
        };
        for from in SquashedFrom::ALL {
            metrics.handed_out.with_label_values(&[from.label()]);
        }
        for reason in SquashingRefusal::ALL {
            metrics.refused.with_label_values(&[reason.label()]);
        }
        metrics
    }

    /// Notes that a list was handed out.
    pub fn handed_out(&self, from: SquashedFrom) {
        self.handed_out.with_label_values(&[from.label()]).inc();
    }

    /// Notes that a value was squashed, which took this long.
    pub fn made(&self, took: Duration) {
        self.made.inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// Notes that a value was not squashed.
    pub fn refused(&self, reason: SquashingRefusal) {
        self.refused.with_label_values(&[reason.label()]).inc();
    }

    /// Notes how many values are squashed together.
    pub fn batch(&self, values: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a batch has a few values")]
        self.batch_values.observe(values as f64);
    }

    /// Notes that keys were read, which took this long.
    pub fn keys_read(&self, took: Duration) {
        self.key_load_seconds.observe(took.as_secs_f64());
    }

    /// Shows how many values wait or are being squashed.
    pub fn set_waiting(&self, values: usize) {
        self.waiting.set(gauge_value(values));
    }

    /// Shows how many bytes of lists are in memory.
    pub fn set_memory(&self, bytes: usize) {
        self.memory_bytes.set(gauge_value(bytes));
    }

    /// Shows how many keys are in memory.
    pub fn set_keys_held(&self, keys: usize) {
        self.keys_held.set(gauge_value(keys));
    }
}
