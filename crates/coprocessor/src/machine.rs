//! What all coprocessors of a process share of the machine.

use std::{num::NonZeroUsize, sync::Arc, thread};

use cipherloom_engine::Permits;
use tokio::sync::Semaphore;

use crate::ciphertext_cache::{CacheStatistics, CiphertextCache};

/// How much of the machine is to be used.
#[derive(Clone, Copy, Debug)]
pub struct MachineOptions {
    /// How many threads all engines together may keep busy. By default each engine has a thread per processor, for a process with one engine.
    pub processors: Option<NonZeroUsize>,
    /// How many bytes of memory values may take that were published or read a short time ago; 0 for none. A value of 64 bits takes half a megabyte.
    pub ciphertext_cache_bytes: usize,
}

impl Default for MachineOptions {
    fn default() -> Self {
        Self {
            processors: None,
            ciphertext_cache_bytes: 1 << 30,
        }
    }
}

/// Processors and memory, as far as encrypted computation may use them. A process has one machine for all its engines.
///
/// With a number of processors, batches of bootstraps, whole operations, expansions of inputs, proofs, and the reading and writing of ciphertexts,
/// of all key sets together, keep at most that many threads busy.
#[derive(Debug)]
pub struct Machine {
    permits: Option<Arc<Permits>>,
    /// One permit per blocking thread that reads, expands or writes ciphertexts now.
    computing: Arc<Semaphore>,
    cache: Arc<CiphertextCache>,
}

impl Machine {
    /// Makes a machine.
    #[must_use]
    pub fn new(options: MachineOptions) -> Arc<Self> {
        let all = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = options.processors.map_or_else(all, NonZeroUsize::get);
        Arc::new(Self {
            permits: options.processors.map(|processors| Arc::new(Permits::new(processors))),
            computing: Arc::new(Semaphore::new(threads.min(Semaphore::MAX_PERMITS))),
            cache: Arc::new(CiphertextCache::new(options.ciphertext_cache_bytes)),
        })
    }

    /// Makes the machine of a process with one engine.
    #[must_use]
    pub fn whole() -> Arc<Self> {
        Self::new(MachineOptions::default())
    }

    /// Says what the values in memory served.
    #[must_use]
    pub fn cache_statistics(&self) -> CacheStatistics {
        self.cache.statistics()
    }

    /// Returns how many threads may compute at the same time, if that is limited.
    #[must_use]
    pub fn processors(&self) -> Option<NonZeroUsize> {
        self.permits.as_ref().map(|permits| permits.limit())
    }

    pub(crate) const fn cache(&self) -> &Arc<CiphertextCache> {
        &self.cache
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
