//! A key set that is ready to compute.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use cipherloom_engine::{EnginePool, PoolOptions, PoolStatistics};
use cipherloom_fhe::FheBackend;
use cipherloom_primitives::B256;

use crate::{CoprocessorError, Machine};

/// The number of the next engine.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// The backend of a key set and the threads that compute on it. There is one per key set in a process, however many tenants use it: their
/// transactions share its batches, and the keys are in memory once.
///
/// Its threads wait for work until the last coprocessor that uses it is gone, and with it the last transaction.
pub struct KeyedEngine {
    /// Tells engines of the process apart.
    number: u64,
    key_set_id: B256,
    backend: Arc<dyn FheBackend>,
    /// Taken out when the engine is dropped.
    pool: Option<EnginePool>,
    machine: Arc<Machine>,
}

impl KeyedEngine {
    /// Starts the threads for a backend, whose key set has this id.
    ///
    /// # Errors
    /// [`CoprocessorError::Engine`] if the threads cannot be started.
    pub fn start(
        key_set_id: B256,
        backend: Arc<dyn FheBackend>,
        options: PoolOptions,
        machine: Arc<Machine>,
    ) -> Result<Arc<Self>, CoprocessorError> {
        let options = PoolOptions {
            threads: options.threads.or_else(|| machine.processors()),
            permits: machine.permits().cloned(),
            ..options
        };
        Ok(Arc::new(Self {
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            key_set_id,
            pool: Some(EnginePool::start(Arc::clone(&backend), options)?),
            backend,
            machine,
        }))
    }

    /// Returns a number that no other engine of this process has or had.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Returns the id of the key set.
    #[must_use]
    pub const fn key_set_id(&self) -> B256 {
        self.key_set_id
    }

    /// Says what the threads did and have to do.
    #[must_use]
    pub fn statistics(&self) -> PoolStatistics {
        self.pool().statistics()
    }

    pub(crate) const fn backend(&self) -> &Arc<dyn FheBackend> {
        &self.backend
    }

    pub(crate) fn pool(&self) -> &EnginePool {
        self.pool
            .as_ref()
            .expect("it is taken out when the engine is dropped, and nobody can ask then")
    }

    pub(crate) const fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }
}

impl Drop for KeyedEngine {
    /// Ends the threads without waiting for them: the last one to use an engine may be a task that must not block.
    fn drop(&mut self) {
        let pool = self.pool.take();
        // If there can be no thread for it, the pool is dropped with the closure, which waits.
        let _ = std::thread::Builder::new().name("engine-end".to_owned()).spawn(move || drop(pool));
    }
}

impl fmt::Debug for KeyedEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedEngine")
            .field("key_set_id", &self.key_set_id)
            .field("statistics", &self.statistics())
            .finish_non_exhaustive()
    }
}
