//! An executor in this process.

use std::{num::NonZeroUsize, sync::Arc, thread, time::Instant};

use alloy::primitives::B256;
use anyhow::{Context, Result};
use cipherloom_engine::{Engine, Policy, PoolOptions};
use cipherloom_executor::{ExecutorConfig, Limits, LocalExecutor};
use cipherloom_fhe::FheBackend;
use cipherloom_node::native::{BlockWork, ComputeBlock, ComputeUnavailable};
use futures_util::{StreamExt as _, future::BoxFuture};
use tokio::sync::Semaphore;

use super::{
    SharedCounts,
    wire::{Answers, Computed, request},
};

/// How many blocks are computed at a time: the one that is proposed and one that is checked. More would only slow each other down.
const BLOCKS_AT_A_TIME: usize = 2;

/// The most input lists of a block. What a block may hold is limited by gas and FHE gas, long before.
const MAX_INPUT_LISTS: usize = 4096;

/// How the executor computes. Results do not depend on it.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmbeddedOptions {
    /// In which order bootstraps are done.
    pub schedule: Policy,
    /// How many threads do them; all processors without a number.
    pub threads: Option<NonZeroUsize>,
}

/// An executor in this process. Several nodes in one process may share it.
pub struct EmbeddedExecutor {
    executor: LocalExecutor,
    turns: Semaphore,
    counts: SharedCounts,
}

impl EmbeddedExecutor {
    /// Starts the threads that compute.
    ///
    /// # Errors
    /// If the backend or the machine does not allow it.
    pub fn start(backend: Arc<dyn FheBackend>, key_set_id: B256, options: EmbeddedOptions) -> Result<Self> {
        let defaults = ExecutorConfig::new(([127, 0, 0, 1], 0).into(), key_set_id.0);
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let config = ExecutorConfig {
            engine: PoolOptions {
                engine: Engine {
                    policy: options.schedule,
                    ..Engine::default()
                },
                threads: options
                    .threads
                    .map(|threads| threads.min(NonZeroUsize::new(processors).unwrap_or(threads))),
                ..PoolOptions::default()
            },
            limits: Limits {
                input_lists: MAX_INPUT_LISTS,
                computations: usize::MAX,
                ciphertexts: usize::MAX / 2,
                ..defaults.limits
            },
            // The node has checked every proof itself when the input verifier asked it to.
            client_checks_proofs: true,
            ..defaults
        };
        Ok(Self {
            executor: LocalExecutor::start(config, backend).context("cannot start the executor")?,
            turns: Semaphore::new(BLOCKS_AT_A_TIME),
            counts: SharedCounts::default(),
        })
    }

    /// Returns what was computed so far.
    #[must_use]
    pub fn counts(&self) -> SharedCounts {
        Arc::clone(&self.counts)
    }

    async fn answer(&self, work: &BlockWork) -> Result<Computed, String> {
        let _turn = self.turns.acquire().await.map_err(|_| "the executor is stopping".to_owned())?;
        let refused = |status: tonic::Status| status.message().to_owned();
        let mut results = self.executor.compute(request(work)).await.map_err(refused)?;
        let mut answers = Answers::to(work);
        while let Some(result) = results.next().await {
            answers.take(result.map_err(refused)?)?;
        }
        answers.finish()
    }
}

impl ComputeBlock for EmbeddedExecutor {
    fn compute(&self, work: BlockWork) -> BoxFuture<'_, Result<Computed, ComputeUnavailable>> {
        Box::pin(async move {
            let start = Instant::now();
            let answer = Box::pin(self.answer(&work)).await;
            self.counts.answered(&work, start, answer.as_ref().map_err(String::as_str));
            answer.map_err(ComputeUnavailable::new)
        })
    }
}

impl std::fmt::Debug for EmbeddedExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedExecutor").finish_non_exhaustive()
    }
}
