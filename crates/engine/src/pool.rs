//! The threads of an engine, which evaluate any number of programs at a time.
//!
//! There are no rounds: each thread takes a batch of what is ready, of all programs under way, bootstraps it, says so and takes the next one. What
//! waits for a result becomes ready the moment it exists, on whichever thread. Results depend on none of this.

mod clock;
mod evaluation;
mod permits;
mod workshop;

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use cipherloom_fhe::{Ciphertext, FheBackend};
use cipherloom_primitives::Handle;

pub(crate) use self::workshop::Workshop;
pub use self::{
    evaluation::{Evaluated, Evaluation},
    permits::{Permit, Permits},
};
use crate::{error::EngineError, evaluate::Engine, program::Program, schedule::GroupId};

/// How a pool is set up. None of it has an influence on results, apart from the engine's rules.
#[derive(Clone, Debug, Default)]
pub struct PoolOptions {
    /// Policy and rules. The granularity is the backend's.
    pub engine: Engine,
    /// How many threads compute; by default one per processor.
    pub threads: Option<NonZeroUsize>,
    /// How many bootstraps a thread does at a time, at most; by default what is cheapest on this machine, which is measured.
    pub batch: Option<NonZeroUsize>,
    /// What the pools of a process share, so that together they compute as many batches at a time as there are permits; by default each pool
    /// computes as it likes.
    pub permits: Option<Arc<Permits>>,
}

/// What a pool did and has to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct PoolStatistics {
    /// How many threads there are.
    pub threads: usize,
    /// How many bootstraps were done. Lookups of public blocks, which cost nothing, are among them.
    pub bootstraps: u64,
    /// In how many batches.
    pub batches: u64,
    /// How many operations the backend evaluated as a whole.
    pub whole_operations: u64,
    /// What the threads computed in bootstraps. Whole operations run on threads of the backend's and are not counted.
    pub fhe_cpu: Duration,
    /// What the threads computed apart from that: taking ciphertexts apart, combining blocks, and keeping order.
    pub scheduling_cpu: Duration,
    /// How many programs are under way.
    pub programs: usize,
    /// How many tasks are ready and wait for a thread.
    pub queued: usize,
}

impl PoolStatistics {
    /// Returns how many bootstraps a batch had on average.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "an average for people to read")]
    pub fn mean_batch(&self) -> f64 {
        if self.batches == 0 {
            0.0
        } else {
            self.bootstraps as f64 / self.batches as f64
        }
    }
}

/// Threads that evaluate programs. Dropping it ends them after the batches they are at; what is not finished fails with
/// [`EngineError::Stopped`].
pub struct EnginePool {
    engine: Engine,
    backend: Arc<dyn FheBackend>,
    workshop: Arc<Workshop>,
    threads: Vec<JoinHandle<()>>,
}

impl EnginePool {
    /// Starts the threads. If the options do not give a batch size, they measure the best one: at once, or before their first batch if they share
    /// permits with other pools, most of which may never have one.
    ///
    /// # Errors
    /// [`EngineError::NoBlocks`] if the backend has no machinery of blocks, [`EngineError::Threads`] if the operating system refuses.
    pub fn start(backend: Arc<dyn FheBackend>, options: PoolOptions) -> Result<Self, EngineError> {
        backend.blocks().ok_or(EngineError::NoBlocks)?;
        let processors = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = options.threads.map_or_else(processors, NonZeroUsize::get);
        let batch = options.batch.map(NonZeroUsize::get);
        // Threads are added to the pool one by one, so that those that did start are ended if one does not.
        let mut pool = Self {
            workshop: Arc::new(Workshop::new(options.engine.policy, batch, threads, options.permits)),
            engine: options.engine.for_backend(backend.as_ref()),
            backend,
            threads: Vec::with_capacity(threads),
        };
        for worker in 0..threads {
            let (workshop, backend) = (Arc::clone(&pool.workshop), Arc::clone(&pool.backend));
            let thread = thread::Builder::new().name(format!("engine-{worker}")).spawn(move || {
                if let Some(blocks) = backend.blocks() {
                    workshop.work(backend.as_ref(), blocks, worker);
                }
            });
            pool.threads.push(thread.map_err(|error| EngineError::Threads(error.to_string()))?);
        }
        tracing::debug!(threads, policy = %pool.engine.policy, "engine started");
        Ok(pool)
    }

    /// Returns the engine with which programs for this pool are compiled.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Adds a program to those under way. May be called at any time from any thread; takes the time of some copies in memory.
    #[must_use = "dropping an evaluation cancels it"]
    pub fn submit(&self, program: Arc<Program>, inputs: HashMap<Handle, Ciphertext>) -> Evaluation {
        self.submit_for(GroupId::default(), program, inputs)
    }

    /// Adds a program of a group. Under the default policy groups share the threads evenly, whatever each has under way, and batches have tasks of
    /// all of them.
    #[must_use = "dropping an evaluation cancels it"]
    pub fn submit_for(&self, group: GroupId, program: Arc<Program>, inputs: HashMap<Handle, Ciphertext>) -> Evaluation {
        match self.backend.blocks() {
            Some(blocks) => self.workshop.submit(blocks, group, program, inputs),
            None => Evaluation::failed(EngineError::NoBlocks),
        }
    }

    /// Says what the pool did and has to do.
    #[must_use]
    pub fn statistics(&self) -> PoolStatistics {
        self.workshop.statistics()
    }
}

impl Drop for EnginePool {
    fn drop(&mut self) {
        self.workshop.stop();
        for thread in self.threads.drain(..) {
            // Panics of programs are caught where they happen and reported to their callers.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for EnginePool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnginePool")
            .field("engine", &self.engine)
            .field("statistics", &self.statistics())
            .finish_non_exhaustive()
    }
}
