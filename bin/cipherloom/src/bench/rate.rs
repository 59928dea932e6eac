//! What one bootstrap costs on this machine at this moment.

use std::{num::NonZeroUsize, sync::Arc};

use anyhow::{Result, anyhow};
use cipherloom_fhe::{Block, BlockBackend, BootstrapJob, Ciphertext, CpuBlocks, EvaluationKeys, LookupTable};

use super::clock::measure;

/// The cost of one bootstrap in milliseconds of CPU time, on all threads at the same time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rate {
    /// In batches of the size our backend prefers.
    pub(crate) batched_ms: f64,
    /// One at a time, as tfhe-rs does them.
    pub(crate) single_ms: f64,
}

/// Averages rates over several moments.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rates {
    sum: Rate,
    count: f64,
}

impl Rates {
    /// Takes a measurement in.
    pub(crate) fn add(&mut self, rate: Rate) {
        self.sum.batched_ms += rate.batched_ms;
        self.sum.single_ms += rate.single_ms;
        self.count += 1.0;
    }

    /// Returns the average of all so far.
    pub(crate) fn mean(&self) -> Rate {
        Rate {
            batched_ms: self.sum.batched_ms / self.count.max(1.0),
            single_ms: self.sum.single_ms / self.count.max(1.0),
        }
    }
}

/// Does bootstraps of no consequence to see what they cost.
pub(crate) struct RateMeter {
    machinery: CpuBlocks,
    inputs: Vec<Block>,
    table: LookupTable,
    batch: usize,
    threads: usize,
}

impl RateMeter {
    /// Takes the blocks of a ciphertext to bootstrap.
    ///
    /// # Errors
    /// If the backend refuses them.
    pub(crate) fn new(keys: &Arc<EvaluationKeys>, sample: &Ciphertext, batch: usize, threads: NonZeroUsize) -> Result<Self> {
        let machinery = CpuBlocks::with_threads(Arc::clone(keys), 1);
        // Message and carry of a block, as an adder looks them up.
        let functions: [&dyn Fn(u8) -> u8; 2] = [&|sum| sum % 4, &|sum| sum / 4];
        Ok(Self {
            inputs: machinery.split(sample)?,
            table: LookupTable::tabulate(&functions)?,
            batch,
            threads: threads.get(),
            machinery,
        })
    }

    /// Measures both rates: some dozens of bootstraps per thread.
    ///
    /// # Errors
    /// If the backend refuses.
    pub(crate) fn measure(&self) -> Result<Rate> {
        let jobs: Vec<BootstrapJob<'_>> = self.inputs.iter().map(|input| self.job(input)).collect();
        // A whole number of full batches, at least as many bootstraps as the sample has blocks.
        let per_thread = self.batch.max(1) * self.inputs.len().div_ceil(self.batch.max(1));
        let full: Vec<BootstrapJob<'_>> = jobs.iter().copied().cycle().take(per_thread).collect();
        Ok(Rate {
            batched_ms: self.on_all_threads(full.len(), &|| {
                self.machinery.bootstrap_on_this_thread(&full, self.batch)?;
                Ok(())
            })?,
            single_ms: self.on_all_threads(jobs.len(), &|| {
                self.machinery.bootstrap_one_by_one(&jobs)?;
                Ok(())
            })?,
        })
    }

    fn job<'a>(&'a self, input: &'a Block) -> BootstrapJob<'a> {
        BootstrapJob { input, table: &self.table }
    }

    /// Runs the work, which is so many bootstraps, on every thread; returns the CPU time of one bootstrap.
    fn on_all_threads(&self, bootstraps: usize, work: &(dyn Fn() -> Result<()> + Sync)) -> Result<f64> {
        let (cost, ()) = measure(|| {
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..self.threads).map(|_| scope.spawn(work)).collect();
                threads
                    .into_iter()
                    .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a bootstrap panicked"))?)
            })
        })?;
        #[expect(clippy::cast_precision_loss, reason = "some hundreds")]
        let bootstraps = (bootstraps * self.threads) as f64;
        Ok(cost.cpu * 1000.0 / bootstraps)
    }
}
