//! How a workload is measured: ours and tfhe-rs in turn, with the cost of a bootstrap in between.
//!
//! One round is: tfhe-rs in both variants on a few transactions, the cost of a bootstrap, ours on all transactions of the round, the cost of a bootstrap
//! again, tfhe-rs again. What drifts while this runs (heat, neighbours) meets all of them. Every result is decrypted and checked outside of the
//! measured time.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use cipherloom_engine::PoolStatistics;
use cipherloom_primitives::Handle;

use super::{
    clock::{self, Cost, measure},
    direct::{self, VARIANTS},
    ground::{Ground, Samples},
    options::{Baseline, WorkloadOptions},
    rate::{Rate, Rates},
    scenario::Scenario,
};

/// What is measured: something of ours that computes scenarios.
pub(crate) trait Subject {
    /// Brings what the scenario starts from to where it belongs. Not measured.
    ///
    /// # Errors
    /// If that fails.
    fn prepare(&mut self, scenario: &Scenario) -> Result<()>;

    /// Computes all transactions of the scenario.
    ///
    /// # Errors
    /// If one cannot be computed.
    fn compute(&mut self, scenario: &Scenario) -> Result<()>;

    /// Returns everything the transactions published, in stored form. Not measured.
    ///
    /// # Errors
    /// If something is missing.
    fn results(&mut self, scenario: &Scenario) -> Result<HashMap<Handle, Vec<u8>>>;

    /// Says what the engine's threads did so far.
    fn statistics(&self) -> PoolStatistics;
}

/// Several transactions and what they cost together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Side {
    /// How many transactions.
    pub(crate) transactions: usize,
    /// What all of them cost.
    pub(crate) cost: Cost,
}

impl Side {
    fn add(&mut self, transactions: usize, cost: Cost) {
        self.transactions += transactions;
        self.cost += cost;
    }

    /// Returns the cost of one transaction.
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    pub(crate) fn each(&self) -> Cost {
        self.cost.per(self.transactions as f64)
    }
}

/// What came out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measurement {
    /// How many rounds there were.
    pub(crate) rounds: u32,
    /// Ours.
    pub(crate) ours: Side,
    /// tfhe-rs, if it was measured, in the order of [`VARIANTS`].
    pub(crate) direct: [Side; 2],
    /// The cost of a bootstrap.
    pub(crate) rate: Rate,
    /// Our bootstraps.
    pub(crate) bootstraps: u64,
    /// The batches they were done in.
    pub(crate) batches: u64,
    /// Operations that our engine left to tfhe-rs.
    pub(crate) whole_operations: u64,
    /// CPU time of our bootstraps.
    pub(crate) bootstrap_cpu: Duration,
    /// CPU time that the engine's threads needed to combine blocks and to keep order.
    pub(crate) scheduling_cpu: Duration,
    /// The largest resident memory while ours ran, in bytes, if the system tells.
    pub(crate) peak_memory: Option<u64>,
    /// How many results were decrypted and found right, all sides together.
    pub(crate) checked: usize,
}

/// Measures a workload.
///
/// # Errors
/// If anything fails or a result is wrong.
pub(crate) fn run(ground: &Ground, samples: &Samples, options: &WorkloadOptions, subject: &mut dyn Subject) -> Result<Measurement> {
    let count = usize::from(options.count.unwrap_or_else(|| options.workload.default_count()));
    let direct_count = options
        .baseline_count
        .map_or_else(|| ground.threads.get().max(2), usize::from)
        .min(count);
    let meter = ground.rate_meter(samples)?;
    let (mut measurement, mut rates) = (Measurement::default(), Rates::default());
    let start = Instant::now();
    let enough_time = |start: Instant| {
        options
            .seconds
            .is_none_or(|seconds| start.elapsed() >= Duration::from_secs(seconds))
    };
    while measurement.rounds < u32::from(options.rounds) || !enough_time(start) {
        measurement.rounds += 1;
        let scenario = options.workload.scenario(u64::from(measurement.rounds), count);
        subject.prepare(&scenario).context("cannot prepare the round")?;
        let sample = scenario.first(direct_count);
        if options.compared.baseline == Baseline::TfheRs {
            measurement.add_direct(ground, samples, &sample)?;
        }
        rates.add(meter.measure()?);
        measurement.add_ours(ground, &scenario, subject)?;
        rates.add(meter.measure()?);
        if options.compared.baseline == Baseline::TfheRs {
            measurement.add_direct(ground, samples, &sample)?;
        }
    }
    measurement.rate = rates.mean();
    Ok(measurement)
}

impl Measurement {
    fn add_direct(&mut self, ground: &Ground, samples: &Samples, scenario: &Scenario) -> Result<()> {
        for (side, variant) in self.direct.iter_mut().zip(VARIANTS) {
            let (cost, checked) = direct::run(ground, samples, variant, scenario)?;
            side.add(scenario.transactions.len(), cost);
            self.checked += checked;
        }
        Ok(())
    }

    fn add_ours(&mut self, ground: &Ground, scenario: &Scenario, subject: &mut dyn Subject) -> Result<()> {
        clock::forget_peak_memory();
        let (before, bootstraps) = (subject.statistics(), ground.bootstraps());
        let (cost, ()) = measure(|| subject.compute(scenario))?;
        let after = subject.statistics();
        self.peak_memory = self.peak_memory.max(clock::peak_memory());
        self.ours.add(scenario.transactions.len(), cost);
        self.bootstraps += ground.bootstraps().saturating_sub(bootstraps);
        self.batches += after.batches.saturating_sub(before.batches);
        self.whole_operations += after.whole_operations.saturating_sub(before.whole_operations);
        self.bootstrap_cpu += after.fhe_cpu.saturating_sub(before.fhe_cpu);
        self.scheduling_cpu += after.scheduling_cpu.saturating_sub(before.scheduling_cpu);
        let results = subject.results(scenario)?;
        let outputs: usize = scenario.transactions.iter().map(|transaction| transaction.outputs.len()).sum();
        anyhow::ensure!(results.len() == outputs, "{} of {outputs} results are there", results.len());
        self.checked += ground
            .check(&results, &scenario.expected()?)
            .context("our engine computed something wrong")?;
        Ok(())
    }
}
