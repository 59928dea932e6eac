//! What a bootstrap costs on this machine.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use cipherloom_engine::explain::{BootstrapTime, TimeSource};
use cipherloom_fhe::{
    KeySet,
    blocks::{BlockBackend, BootstrapJob, LookupTable},
};
use cipherloom_primitives::{FheType, TypedOperation};

/// The size of a large batch.
const BATCH: usize = 16;

/// How many bootstraps are timed together. The system counts a thread's time in steps of some milliseconds, so it takes many.
const TIMED: usize = 32;

/// How often that is done; the best counts.
const TRIALS: usize = 2;

/// Measures bootstraps on one core, with the keys in the data directory of `dev` or `demo`, or in the directory of a key set.
///
/// # Errors
/// If there are no keys, or they are those of the clear backend.
pub(super) fn measure(directory: &Path) -> Result<BootstrapTime> {
    let keys = keys_in(directory);
    let keys = KeySet::open(&keys).with_context(|| format!("{} holds no keys", directory.display()))?;
    let backend = keys.evaluation()?;
    let blocks = backend.blocks().context("this backend does not compute on blocks")?;
    // Random numbers are secret from the start, which nothing that is encrypted here would be.
    let random = TypedOperation::Rand {
        ty: FheType::Uint64,
        seed: [7; 16],
        random_bits: 64,
    };
    let inputs = blocks.split(&backend.evaluate(&random, &[])?)?;
    let table = LookupTable::tabulate(&[&|value| value & 3])?;
    let jobs: Vec<BootstrapJob<'_>> = inputs
        .iter()
        .cycle()
        .take(TIMED)
        .map(|input| BootstrapJob { input, table: &table })
        .collect();
    let best = |batch: usize| -> Result<f64> {
        let times = (0..TRIALS).map(|_| time_batches(blocks, &jobs, batch));
        let times = times.collect::<Result<Vec<_>>>()?;
        let best = times.into_iter().min().context("at least one trial is made")?;
        Ok(best.as_secs_f64() / f64::from(u32::try_from(jobs.len())?))
    };
    Ok(BootstrapTime {
        alone_s: best(1)?,
        batched_s: best(BATCH)?,
        source: TimeSource::Measured,
    })
}

fn keys_in(directory: &Path) -> PathBuf {
    let of_stack = directory.join("keys").join("production");
    if of_stack.is_dir() { of_stack } else { directory.to_path_buf() }
}

fn time_batches(blocks: &dyn BlockBackend, jobs: &[BootstrapJob<'_>], batch: usize) -> Result<Duration> {
    let start = clock();
    for jobs in jobs.chunks(batch) {
        blocks.bootstrap_here(jobs)?;
    }
    Ok(clock().saturating_sub(start))
}

/// The CPU time of this thread so far, where the system tells it; else wall-clock time.
fn clock() -> Duration {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    let cpu = || {
        let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        statistics.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    };
    cpu().unwrap_or_else(|| START.elapsed())
}
