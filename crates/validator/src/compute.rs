//! Who computes on ciphertexts for this node: executors elsewhere, or one in this process.
//!
//! Both compute the same bytes, which is what validators agree on. A result that fails, such as a division by zero, fails with every executor and
//! becomes part of the block. That no executor answers is another matter: then there is no block, and the question is asked again.

mod embedded;
mod remote;
mod split;
mod wire;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use cipherloom_node::native::BlockWork;

pub use self::{
    embedded::{EmbeddedExecutor, EmbeddedOptions},
    remote::{RemoteExecutors, RemoteOptions},
    wire::Computed,
};

/// What was computed so far, for metrics.
#[derive(Debug, Default)]
pub struct ComputeCounts {
    blocks: AtomicU64,
    computations: AtomicU64,
    outputs: AtomicU64,
    failed_outputs: AtomicU64,
    unavailable: AtomicU64,
    micros: AtomicU64,
}

/// [`ComputeCounts`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ComputeFigures {
    /// Blocks that were computed; a block is computed by whoever proposes it and by whoever checks it.
    pub blocks: u64,
    /// Their computations, before what nothing needs is left out.
    pub computations: u64,
    /// Ciphertexts that came out.
    pub outputs: u64,
    /// Outputs that cannot be computed by anybody.
    pub failed_outputs: u64,
    /// Times that no executor answered.
    pub unavailable: u64,
    /// Seconds from question to answer, all together.
    pub seconds: f64,
}

impl ComputeCounts {
    /// Counts how a block went.
    fn answered(&self, work: &BlockWork, start: Instant, outcome: Result<&Computed, &str>) {
        let add = |counter: &AtomicU64, more: usize| counter.fetch_add(more as u64, Ordering::Relaxed);
        let took = start.elapsed();
        let results = match outcome {
            Ok(results) => results,
            Err(reason) => {
                add(&self.unavailable, 1);
                tracing::warn!(block = work.number, reason, "no executor computed the block");
                return;
            }
        };
        add(&self.blocks, 1);
        add(&self.computations, work.computations.len());
        let failed = results.iter().filter(|(_, result)| result.is_err());
        let count = failed
            .inspect(|(handle, result)| {
                let reason = result.as_ref().err().map(String::as_str).unwrap_or_default();
                tracing::warn!(block = work.number, %handle, reason, "a value that a contract stores cannot be computed");
            })
            .count();
        add(&self.failed_outputs, count);
        add(&self.outputs, results.len().saturating_sub(count));
        self.micros
            .fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        tracing::debug!(
            block = work.number,
            computations = work.computations.len(),
            outputs = results.len(),
            seconds = took.as_secs_f64(),
            "computed a block"
        );
    }

    /// Reads all of them.
    #[must_use]
    pub fn figures(&self) -> ComputeFigures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ComputeFigures {
            blocks: read(&self.blocks),
            computations: read(&self.computations),
            outputs: read(&self.outputs),
            failed_outputs: read(&self.failed_outputs),
            unavailable: read(&self.unavailable),
            seconds: Duration::from_micros(read(&self.micros)).as_secs_f64(),
        }
    }
}

/// Counts shared between whoever computes and whoever reports.
pub type SharedCounts = Arc<ComputeCounts>;
