//! Where computing time goes.

use std::{collections::BTreeMap, time::Duration};

use cipherloom_engine::PoolStatistics;
use cipherloom_primitives::{FheType, Operation};
use prometheus::{Counter, CounterVec, Gauge, IntCounter, IntCounterVec, IntGauge};

use super::{Registrar, gauge_value};

/// What the engine's threads did by operation, and what they have to do.
#[derive(Clone)]
pub struct FheMetrics {
    cpu_seconds: CounterVec,
    bootstraps: IntCounterVec,
    operations: IntCounterVec,
    threads: IntGauge,
    batches: IntCounter,
    engine_bootstraps: IntCounter,
    whole_operations: IntCounter,
    engine_cpu_seconds: Counter,
    scheduling_seconds: Counter,
    mean_batch: Gauge,
    queued: IntGauge,
    programs: IntGauge,
}

impl FheMetrics {
    pub(super) fn new(registrar: &mut Registrar) -> Self {
        Self {
            cpu_seconds: registrar.seconds_counters(
                "coprocessor_fhe_cpu_seconds_total",
                "CPU time of bootstraps by operation. What a transaction took is shared out by its operations' bootstraps.",
                &["operation", "type"],
            ),
            bootstraps: registrar.counters(
                "coprocessor_fhe_bootstraps_total",
                "Bootstraps by operation and type of its operands; one that several operations share counts for the first.",
                &["operation", "type"],
            ),
            operations: registrar.counters(
                "coprocessor_fhe_operations_total",
                "Operations that were evaluated, by type of their operands.",
                &["operation", "type"],
            ),
            threads: registrar.gauge("coprocessor_engine_threads", "Threads for bootstraps."),
            batches: registrar.counter("coprocessor_engine_batches_total", "Batches that bootstraps were done in."),
            engine_bootstraps: registrar.counter(
                "coprocessor_engine_bootstraps_total",
                "Bootstraps that were done, lookups of public blocks included.",
            ),
            whole_operations: registrar.counter(
                "coprocessor_engine_whole_operations_total",
                "Operations that the backend evaluated as a whole.",
            ),
            engine_cpu_seconds: registrar.seconds_counter(
                "coprocessor_engine_fhe_cpu_seconds_total",
                "CPU time of the engine's threads in bootstraps.",
            ),
            scheduling_seconds: registrar.seconds_counter(
                "coprocessor_engine_scheduling_cpu_seconds_total",
                "CPU time of the engine's threads outside of bootstraps.",
            ),
            mean_batch: registrar.float_gauge("coprocessor_engine_mean_batch", "Bootstraps per batch since the process began."),
            queued: registrar.gauge(
                "coprocessor_engine_queued_tasks",
                "Bootstraps that are ready and wait for a thread.",
            ),
            programs: registrar.gauge("coprocessor_engine_programs", "Transactions that the engine has under way."),
        }
    }

    /// Notes what a transaction's evaluation took: its operations with the type of their operands, the bootstraps of each kind, and the CPU
    /// time of all of them.
    pub fn evaluated(&self, operations: &[(Operation, FheType)], bootstraps: &BTreeMap<(Operation, FheType), u64>, cpu: Duration) {
        for (operation, ty) in operations {
            self.operations.with_label_values(&[name(*operation), ty.solidity_name()]).inc();
        }
        let all: u64 = bootstraps.values().sum();
        for ((operation, ty), count) in bootstraps.iter().filter(|(_, count)| **count > 0) {
            let labels = [name(*operation), ty.solidity_name()];
            self.bootstraps.with_label_values(&labels).inc_by(*count);
            self.cpu_seconds
                .with_label_values(&labels)
                .inc_by(cpu.as_secs_f64() * share(*count, all));
        }
    }

    /// Shows what engines do now. Their totals are added up with those of engines that are gone.
    pub fn set_engines(&self, threads: usize, reading: &mut EngineReading, engines: impl IntoIterator<Item = (u64, PoolStatistics)>) {
        let (mut queued, mut programs) = (0usize, 0usize);
        let mut seen = BTreeMap::new();
        for (engine, now) in engines {
            let before = reading.seen.get(&engine).copied().unwrap_or_default();
            self.batches.inc_by(now.batches.saturating_sub(before.batches));
            self.engine_bootstraps.inc_by(now.bootstraps.saturating_sub(before.bootstraps));
            self.whole_operations
                .inc_by(now.whole_operations.saturating_sub(before.whole_operations));
            self.engine_cpu_seconds
                .inc_by(now.fhe_cpu.saturating_sub(before.fhe_cpu).as_secs_f64());
            self.scheduling_seconds
                .inc_by(now.scheduling_cpu.saturating_sub(before.scheduling_cpu).as_secs_f64());
            queued = queued.saturating_add(now.queued);
            programs = programs.saturating_add(now.programs);
            seen.insert(engine, now);
        }
        reading.seen = seen;
        self.threads.set(gauge_value(threads));
        self.queued.set(gauge_value(queued));
        self.programs.set(gauge_value(programs));
        self.mean_batch.set(share(self.engine_bootstraps.get(), self.batches.get()));
    }
}

/// What was seen of each engine when they were last read, by numbers that are never used twice.
#[derive(Debug, Default)]
pub struct EngineReading {
    seen: BTreeMap<u64, PoolStatistics>,
}

fn name(operation: Operation) -> &'static str {
    operation.spec().function
}

#[expect(clippy::cast_precision_loss, reason = "a share, for people to read")]
fn share(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn value(metrics: &Metrics, series: &str) -> f64 {
        let text = String::from_utf8(metrics.encode()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)).map(str::trim);
        line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
    }

    #[test]
    fn cpu_time_is_shared_out_by_bootstraps() {
        let metrics = Metrics::new();
        let (add, mul) = ((Operation::Add, FheType::Uint64), (Operation::Mul, FheType::Uint8));
        let bootstraps = BTreeMap::from([(add, 30), (mul, 90)]);
        metrics.fhe().evaluated(&[add, add, mul], &bootstraps, Duration::from_secs(8));
        assert!((value(&metrics, r#"coprocessor_fhe_cpu_seconds_total{operation="fheAdd",type="euint64"}"#) - 2.0).abs() < 1e-9);
        assert!((value(&metrics, r#"coprocessor_fhe_cpu_seconds_total{operation="fheMul",type="euint8"}"#) - 6.0).abs() < 1e-9);
        assert!((value(&metrics, r#"coprocessor_fhe_operations_total{operation="fheAdd",type="euint64"}"#) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn totals_do_not_fall_when_an_engine_goes() {
        let metrics = Metrics::new();
        let mut reading = EngineReading::default();
        let engine = |bootstraps| PoolStatistics {
            bootstraps,
            batches: 1,
            queued: 2,
            ..PoolStatistics::default()
        };
        metrics.fhe().set_engines(2, &mut reading, [(1, engine(10)), (2, engine(5))]);
        metrics.fhe().set_engines(2, &mut reading, [(2, engine(7))]);
        metrics.fhe().set_engines(2, &mut reading, [(2, engine(7)), (3, engine(1))]);
        assert!((value(&metrics, "coprocessor_engine_bootstraps_total") - 18.0).abs() < 1e-9);
        assert!((value(&metrics, "coprocessor_engine_queued_tasks") - 4.0).abs() < 1e-9);
        assert!((value(&metrics, "coprocessor_engine_mean_batch") - 6.0).abs() < 1e-9);
    }
}
