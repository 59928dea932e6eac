//! What a coprocessor process counts and measures, for Prometheus.
//!
//! One [`Metrics`] belongs to one process and is handed to its server and its workers; clones are the same one. It has a registry of its own, so
//! that tests and several coprocessors in one process do not mix. The parts follow what an operator asks: what do callers ask for
//! ([`RequestMetrics`]), what becomes of transactions ([`WorkMetrics`]), how far behind is each tenant ([`QueueMetrics`]),
//! how far is the following of its chain ([`FollowingMetrics`]), what do caches serve
//! ([`CacheMetrics`]), where does computing time go ([`FheMetrics`]), what is squashed for committees ([`SquashingMetrics`]), and what does the process take ([`ProcessMetrics`]).
//!
//! The counters of the 0.6 generation keep their names, so that existing dashboards work; they have no labels. Labels of the others are bounded:
//! tenants' names (an operator gives them, and [`Metrics::forget_tenant`] lets them go), operations, types, and words that are listed here.
//! `docs/observability.md` says what each means; a test compares its table with [`Metrics::descriptions`].

mod caches;
mod fhe;
mod following;
mod process;
mod queue;
mod requests;
mod squashing;
mod work;

use std::{fmt, sync::Arc};

use prometheus::{
    Counter, CounterVec, Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder, core::Collector,
};

pub use self::{
    caches::{CacheMetrics, KeySetLoad},
    fhe::{EngineReading, FheMetrics},
    following::{FollowingMetrics, FollowingReading},
    process::ProcessMetrics,
    queue::{QueueMetrics, QueueReading},
    requests::{Method, RequestInProgress, RequestMetrics},
    squashing::{SquashedFrom, SquashingMetrics, SquashingRefusal},
    work::{Outcome, Retry, Stage, WorkMetrics},
};

/// The content type of [`Metrics::encode`].
pub const METRICS_CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It has `_bucket`, `_sum` and `_count`.
    Histogram,
}

/// A metric as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricDescription {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: MetricKind,
    /// The names of its labels.
    pub labels: Vec<String>,
    /// What it means.
    pub help: String,
}

/// The metrics of one process. Clones are the same ones.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    descriptions: Vec<MetricDescription>,
    requests: RequestMetrics,
    work: WorkMetrics,
    queue: QueueMetrics,
    following: FollowingMetrics,
    caches: CacheMetrics,
    fhe: FheMetrics,
    squashing: SquashingMetrics,
    process: ProcessMetrics,
}

impl Metrics {
    /// Makes metrics that all begin at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registrar = Registrar::default();
        let inner = Inner {
            requests: RequestMetrics::new(&mut registrar),
            work: WorkMetrics::new(&mut registrar),
            queue: QueueMetrics::new(&mut registrar),
            following: FollowingMetrics::new(&mut registrar),
            caches: CacheMetrics::new(&mut registrar),
            fhe: FheMetrics::new(&mut registrar),
            squashing: SquashingMetrics::new(&mut registrar),
            process: ProcessMetrics::new(&mut registrar),
            registry: registrar.registry,
            descriptions: registrar.descriptions,
        };
        Self { inner: Arc::new(inner) }
    }

    /// What callers ask for.
    #[must_use]
    pub fn requests(&self) -> &RequestMetrics {
        &self.inner.requests
    }

    /// What becomes of transactions.
    #[must_use]
    pub fn work(&self) -> &WorkMetrics {
        &self.inner.work
    }

    /// How far behind each tenant is.
    #[must_use]
    pub fn queue(&self) -> &QueueMetrics {
        &self.inner.queue
    }

    /// How far the following of chains is.
    #[must_use]
    pub fn following(&self) -> &FollowingMetrics {
        &self.inner.following
    }

    /// What caches serve.
    #[must_use]
    pub fn caches(&self) -> &CacheMetrics {
        &self.inner.caches
    }

    /// Where computing time goes.
    #[must_use]
    pub fn fhe(&self) -> &FheMetrics {
        &self.inner.fhe
    }

    /// What noise squashing does.
    #[must_use]
    pub fn squashing(&self) -> &SquashingMetrics {
        &self.inner.squashing
    }

    /// What the process takes, and how it is.
    #[must_use]
    pub fn process(&self) -> &ProcessMetrics {
        &self.inner.process
    }

    /// Drops what is kept for a tenant that is served no more.
    pub fn forget_tenant(&self, tenant: &str) {
        self.inner.work.forget_tenant(tenant);
        self.inner.queue.forget_tenant(tenant);
        self.inner.following.forget_tenant(tenant);
    }

    /// Lists every metric, in the order of their parts.
    #[must_use]
    pub fn descriptions(&self) -> &[MetricDescription] {
        &self.inner.descriptions
    }

    /// Writes all metrics in Prometheus' text format. Reads what the process takes first.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.inner.process.read();
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.inner.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics could not be written");
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl fmt::Display for MetricKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

/// Makes metrics, registers and lists them.
#[derive(Default)]
pub(crate) struct Registrar {
    registry: Registry,
    descriptions: Vec<MetricDescription>,
}

/// Why making a metric cannot fail.
const FIXED: &str = "names, labels and buckets are fixed, valid and used once, as every test that makes metrics checks";

impl Registrar {
    fn add<M: Collector + Clone + 'static>(&mut self, kind: MetricKind, made: prometheus::Result<M>) -> M {
        let metric = made.expect(FIXED);
        for description in metric.desc() {
            self.descriptions.push(MetricDescription {
                name: description.fq_name.clone(),
                kind,
                labels: description.variable_labels.clone(),
                help: description.help.clone(),
            });
        }
        self.registry.register(Box::new(metric.clone())).expect(FIXED);
        metric
    }

    fn counter(&mut self, name: &str, help: &str) -> IntCounter {
        self.add(MetricKind::Counter, IntCounter::new(name, help))
    }

    fn counters(&mut self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(MetricKind::Counter, IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn seconds_counter(&mut self, name: &str, help: &str) -> Counter {
        self.add(MetricKind::Counter, Counter::new(name, help))
    }

    fn seconds_counters(&mut self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        self.add(MetricKind::Counter, CounterVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&mut self, name: &str, help: &str) -> IntGauge {
        self.add(MetricKind::Gauge, IntGauge::new(name, help))
    }

    fn gauges(&mut self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(MetricKind::Gauge, IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn float_gauge(&mut self, name: &str, help: &str) -> Gauge {
        self.add(MetricKind::Gauge, Gauge::new(name, help))
    }

    fn float_gauges(&mut self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.add(MetricKind::Gauge, GaugeVec::new(Opts::new(name, help), labels))
    }

    fn histogram(&mut self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add(MetricKind::Histogram, Histogram::with_opts(options))
    }

    fn histograms(&mut self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add(MetricKind::Histogram, HistogramVec::new(options, labels))
    }
}

/// As a gauge has it. Nothing that is counted here comes near the limit.
fn gauge_value(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The counters of the 0.6 generation, which dashboards of its operators name.
    const GENERATION: [&str; 14] = [
        "coprocessor_upload_inputs_count",
        "coprocessor_upload_inputs_errors",
        "coprocessor_async_compute_count",
        "coprocessor_async_compute_errors",
        "coprocessor_trivial_encrypt_count",
        "coprocessor_trivial_encrypt_errors",
        "coprocessor_get_ciphertexts_count",
        "coprocessor_get_ciphertexts_errors",
        "coprocessor_worker_errors",
        "coprocessor_work_items_polls",
        "coprocessor_work_items_notifications",
        "coprocessor_work_items_found",
        "coprocessor_work_items_errors",
        "coprocessor_work_items_processed",
    ];

    fn text(metrics: &Metrics) -> String {
        String::from_utf8(metrics.encode()).unwrap()
    }

    #[test]
    fn the_generations_counters_are_there_from_the_start() {
        let text = text(&Metrics::new());
        for name in GENERATION {
            assert!(text.contains(&format!("# TYPE {name} counter\n{name} 0\n")), "{name} in {text}");
        }
    }

    #[test]
    fn every_metric_has_one_name_a_prefix_and_a_meaning() {
        let metrics = Metrics::new();
        let mut names = BTreeSet::new();
        for description in metrics.descriptions() {
            let MetricDescription { name, kind, help, .. } = description;
            assert!(names.insert(name.clone()), "{name} twice");
            assert!(name.starts_with("coprocessor_") || name.starts_with("process_"), "{name}");
            assert!(help.ends_with('.') && help.len() > 20, "{name}: {help}");
            // What a histogram adds to its name must not be another metric's.
            if *kind == MetricKind::Histogram {
                let taken = |suffix: &str| metrics.descriptions().iter().any(|other| other.name == format!("{name}{suffix}"));
                assert!(!["_bucket", "_sum", "_count"].into_iter().any(taken), "{name}");
            } else if *kind == MetricKind::Counter {
                assert!(
                    name.ends_with("_total") || GENERATION.contains(&name.as_str()),
                    "{name} is a counter without _total"
                );
            }
        }
    }

    #[test]
    fn clones_count_together_and_registries_do_not_mix() {
        let (one, other) = (Metrics::new(), Metrics::new());
        one.clone().work().polled(true, 3);
        assert!(text(&one).contains("coprocessor_work_items_found 3\n"));
        assert!(text(&other).contains("coprocessor_work_items_found 0\n"));
    }

    #[test]
    fn a_forgotten_tenant_leaves_nothing_behind() {
        let metrics = Metrics::new();
        metrics.work().leased("gone", 1);
        metrics.work().finished("gone", Outcome::Computed, None);
        metrics.queue().set("gone", &QueueReading::default());
        metrics.following().set("gone", &FollowingReading::default());
        metrics.following().reorganised("gone", 3);
        metrics.following().failed("gone");
        metrics.queue().set("stays", &QueueReading::default());
        assert!(text(&metrics).contains("gone"));
        metrics.forget_tenant("gone");
        let text = text(&metrics);
        assert!(!text.contains("gone") && text.contains("stays"), "{text}");
    }
}
