//! What all coprocessors of a process share of the machine.

use std::{num::NonZeroUsize, sync::Arc, thread};

use cipherloom_engine::Permits;
use tokio::sync::Semaphore;

/// The processors of this machine, as far as encrypted computation may use them.
///
/// A process that serves one key set takes [`Machine::whole`]: one engine, which has the processors for itself. One that serves several takes
/// [`Machine::with_processors`]: then batches of bootstraps, whole operations, expansions of inputs, proofs, and the reading and writing of ciphertexts,
/// of all key sets together, keep at most that many threads busy.
#[derive(Debug)]
pub struct Machine {
    permits: Option<Arc<Permits>>,
    /// One permit per blocking thread that reads, expands or writes ciphertexts now.
    computing: Arc<Semaphore>,
}

impl Machine {
    /// Lets every engine compute with a thread per processor.
    #[must_use]
    pub fn whole() -> Arc<Self> {
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Arc::new(Self {
            permits: None,
            computing: Arc::new(Semaphore::new(processors)),
        })
    }

    /// Lets all engines together keep this many threads busy.
    #[must_use]
    pub fn with_processors(processors: NonZeroUsize) -> Arc<Self> {
        Arc::new(Self {
            permits: Some(Arc::new(Permits::new(processors))),
            computing: Arc::new(Semaphore::new(processors.get().min(Semaphore::MAX_PERMITS))),
        })
    }

    /// Returns how many threads may compute at the same time, if that is limited.
    #[must_use]
    pub fn processors(&self) -> Option<NonZeroUsize> {
        self.permits.as_ref().map(|permits| permits.limit())
    }

    pub(crate) fn permits(&self) -> Option<&Arc<Permits>> {
        self.permits.as_ref()
    }

    /// Computes something on this thread, when there is a processor for it. It must not wait for anything else that computes.
    pub(crate) fn compute<T>(&self, work: impl FnOnce() -> T) -> T {
        let _permit = self.permits.as_ref().map(|permits| permits.acquire());
        work()
    }

    pub(crate) fn computing(&self) -> Arc<Semaphore> {
        Arc::clone(&self.computing)
    }
}
