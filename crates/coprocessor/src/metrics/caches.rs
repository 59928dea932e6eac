//! What caches serve: ciphertexts, key sets, and the connections to the database.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge, IntGaugeVec};

use super::{Registrar, gauge_value};
use crate::CacheStatistics;

/// Key sets take from milliseconds (clear) to half a minute.
const LOAD_SECONDS: [f64; 10] = [0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// How a key set came to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySetLoad {
    /// It was there.
    Held,
    /// It was read from the store, which took this long.
    Loaded(Duration),
    /// It could not be had.
    Failed,
}

/// What caches serve.
#[derive(Clone)]
pub struct CacheMetrics {
    ciphertext_hits: IntCounter,
    ciphertext_misses: IntCounter,
    ciphertext_evictions: IntCounter,
    ciphertext_bytes: IntGauge,
    ciphertexts: IntGauge,
    key_hits: IntCounter,
    key_loads: IntCounter,
    key_failures: IntCounter,
    key_evictions: IntCounter,
    key_sets: IntGauge,
    key_load_seconds: Histogram,
    connections: IntGaugeVec,
}

impl CacheMetrics {
    pub(super) fn new(registrar: &mut Registrar) -> Self {
        Self {
            ciphertext_hits: registrar.counter(
                "coprocessor_ciphertext_cache_hits_total",
                "Values of earlier transactions that were in memory when a transaction needed them.",
            ),
            ciphertext_misses: registrar.counter(
                "coprocessor_ciphertext_cache_misses_total",
                "Values of earlier transactions that had to be read from the store.",
            ),
            ciphertext_evictions: registrar.counter(
                "coprocessor_ciphertext_cache_evictions_total",
                "Values that were dropped from memory to make room.",
            ),
            ciphertext_bytes: registrar.gauge("coprocessor_ciphertext_cache_bytes", "Bytes of the values in memory."),
            ciphertexts: registrar.gauge("coprocessor_ciphertext_cache_values", "Values that are in memory now."),
            key_hits: registrar.counter(
                "coprocessor_key_cache_hits_total",
                "How often a key set was in memory when it was needed.",
            ),
            key_loads: registrar.counter("coprocessor_key_cache_loads_total", "Key sets that were read from the store."),
            key_failures: registrar.counter("coprocessor_key_cache_failures_total", "Key sets that could not be read or used."),
            key_evictions: registrar.counter(
                "coprocessor_key_cache_evictions_total",
                "Key sets that were dropped from memory to make room.",
            ),
            key_sets: registrar.gauge("coprocessor_key_sets_held", "Key sets that are in memory now."),
            key_load_seconds: registrar.histogram(
                "coprocessor_key_load_seconds",
                "Time to read a key set and make it usable.",
                &LOAD_SECONDS,
            ),
            connections: registrar.gauges(
                "coprocessor_database_connections",
                "Connections to the database: used, idle, limit.",
                &["state"],
            ),
        }
    }

    /// Shows what the cache of values served so far and holds. There is one such cache in a process.
    pub fn set_ciphertext_cache(&self, statistics: &CacheStatistics) {
        let counts = [
            (&self.ciphertext_hits, statistics.hits),
            (&self.ciphertext_misses, statistics.misses),
            (&self.ciphertext_evictions, statistics.evictions),
        ];
        for (counter, total) in counts {
            counter.inc_by(total.saturating_sub(counter.get()));
        }
        self.ciphertexts.set(gauge_value(statistics.values));
        self.ciphertext_bytes.set(gauge_value(statistics.bytes));
    }

    /// Notes how a key set came to memory.
    pub fn key_set(&self, load: KeySetLoad) {
        match load {
            KeySetLoad::Held => self.key_hits.inc(),
            KeySetLoad::Loaded(took) => {
                self.key_loads.inc();
                self.key_load_seconds.observe(took.as_secs_f64());
            }
            KeySetLoad::Failed => self.key_failures.inc(),
        }
    }

    /// Notes that a key set was dropped to make room.
    pub fn key_set_evicted(&self) {
        self.key_evictions.inc();
    }

    /// Shows how many key sets are in memory.
    pub fn set_key_sets(&self, held: usize) {
        self.key_sets.set(gauge_value(held));
    }

    /// Shows how many connections there are, of these idle ones, and how many there may be.
    pub fn set_connections(&self, open: u32, idle: usize, limit: u32) {
        let open = usize::try_from(open).unwrap_or(usize::MAX);
        let set = |state: &str, count: i64| self.connections.with_label_values(&[state]).set(count);
        set("used", gauge_value(open.saturating_sub(idle)));
        set("idle", gauge_value(idle));
        set("limit", gauge_value(limit));
    }
}
