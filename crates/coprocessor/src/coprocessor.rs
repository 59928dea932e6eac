//! The parts of a coprocessor, put together.

use std::sync::Arc;

use alloy::signers::local::PrivateKeySigner;
use cipherloom_engine::{EnginePool, PoolStatistics};
use cipherloom_fhe::FheBackend;
use cipherloom_primitives::{Address, B256};
use cipherloom_store::Store;
use tokio::sync::{Semaphore, broadcast, watch};

use crate::{CoprocessorConfig, KeyedEngine, Progress, Squashing, SquashingKeys, prepared::Prepared};

/// How many progress messages a slow listener may be behind before it misses some.
const PROGRESS_BACKLOG: usize = 1024;

/// One coprocessor: a key set that is ready to compute, a store, a signing key, for one host chain. Clones are the same one. Coprocessors of several
/// chains may share an engine.
///
/// Nothing runs by itself but the engine's threads: the owner spawns [`Coprocessor::record`] and [`Coprocessor::work`] and awaits them after
/// cancelling their token.
#[derive(Clone)]
pub struct Coprocessor {
    inner: Arc<Inner>,
}

struct Inner {
    config: CoprocessorConfig,
    engine: Arc<KeyedEngine>,
    store: Arc<dyn Store>,
    signer: PrivateKeySigner,
    channels: Arc<Channels>,
    squashing: Option<(Arc<Squashing>, SquashingKeys)>,
}

/// What stays the same when a tenant gets other keys: who listens, and how many proofs are here.
pub(crate) struct Channels {
    /// One permit per proof that may be checked now.
    checking: Arc<Semaphore>,
    /// One permit per proof that may be here at all.
    admitted: Arc<Semaphore>,
    progress: broadcast::Sender<Progress>,
    /// Counts changes of what the store knows that happened in this process.
    changes: watch::Sender<u64>,
    /// Ciphertexts that are ready to be handed out.
    prepared: Prepared,
}

impl Channels {
    pub(crate) fn new(config: &CoprocessorConfig) -> Self {
        let concurrent = config.concurrent_proofs.max(1);
        Self {
            checking: Arc::new(Semaphore::new(concurrent.min(Semaphore::MAX_PERMITS))),
            admitted: Arc::new(Semaphore::new(
                concurrent.saturating_add(config.waiting_proofs).min(Semaphore::MAX_PERMITS),
            )),
            progress: broadcast::Sender::new(PROGRESS_BACKLOG),
            changes: watch::Sender::new(0),
            prepared: Prepared::new(),
        }
    }
}

impl Coprocessor {
    /// Puts a coprocessor together.
    #[must_use]
    pub fn new(config: CoprocessorConfig, engine: Arc<KeyedEngine>, store: Arc<dyn Store>, signer: PrivateKeySigner) -> Self {
        let channels = Arc::new(Channels::new(&config));
        Self::assemble(config, engine, store, signer, channels)
    }

    pub(crate) fn assemble(
        config: CoprocessorConfig,
        engine: Arc<KeyedEngine>,
        store: Arc<dyn Store>,
        signer: PrivateKeySigner,
        channels: Arc<Channels>,
    ) -> Self {
        let inner = Inner {
            config,
            engine,
            store,
            signer,
            channels,
            squashing: None,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Returns the same coprocessor, which can squash noise for committees, with these keys; see [`Self::signed_squashed`]. Coprocessors of one process
    /// share the squashing.
    #[must_use]
    pub fn with_squashing(self, squashing: Arc<Squashing>, keys: SquashingKeys) -> Self {
        let inner = Inner {
            config: self.inner.config.clone(),
            engine: Arc::clone(&self.inner.engine),
            store: Arc::clone(&self.inner.store),
            signer: self.inner.signer.clone(),
            channels: Arc::clone(&self.inner.channels),
            squashing: Some((squashing, keys)),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Returns the address the coprocessor signs with.
    #[must_use]
    pub fn signer_address(&self) -> Address {
        self.inner.signer.address()
    }

    /// Returns the id of the host chain it serves.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        self.inner.config.domains.host_chain_id
    }

    /// Subscribes to what is finished from now on. A listener that falls behind misses messages; the work does not wait.
    #[must_use]
    pub fn progress(&self) -> broadcast::Receiver<Progress> {
        self.inner.channels.progress.subscribe()
    }

    /// Subscribes to changes: the value counts recordings, publications and admissions in this process.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.channels.changes.subscribe()
    }

    /// Returns the key set it computes under, with its threads.
    #[must_use]
    pub fn keyed_engine(&self) -> &Arc<KeyedEngine> {
        &self.inner.engine
    }

    /// Returns the id of the key set it computes under.
    #[must_use]
    pub fn key_set_id(&self) -> B256 {
        self.inner.engine.key_set_id()
    }

    /// Says what the engine's threads did and have to do.
    #[must_use]
    pub fn engine_statistics(&self) -> PoolStatistics {
        self.inner.engine.statistics()
    }

    pub(crate) fn config(&self) -> &CoprocessorConfig {
        &self.inner.config
    }

    pub(crate) fn backend(&self) -> &Arc<dyn FheBackend> {
        self.inner.engine.backend()
    }

    pub(crate) fn engine(&self) -> &EnginePool {
        self.inner.engine.pool()
    }

    pub(crate) fn computing(&self) -> Arc<Semaphore> {
        self.inner.engine.machine().computing()
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    pub(crate) fn signer(&self) -> &PrivateKeySigner {
        &self.inner.signer
    }

    pub(crate) fn squashing(&self) -> Option<&(Arc<Squashing>, SquashingKeys)> {
        self.inner.squashing.as_ref()
    }

    pub(crate) fn checking(&self) -> Arc<Semaphore> {
        Arc::clone(&self.inner.channels.checking)
    }

    pub(crate) fn admitted(&self) -> Arc<Semaphore> {
        Arc::clone(&self.inner.channels.admitted)
    }

    pub(crate) fn prepared(&self) -> &Prepared {
        &self.inner.channels.prepared
    }

    pub(crate) fn report(&self, progress: Progress) {
        // Nobody listening is fine.
        let _ = self.inner.channels.progress.send(progress);
    }

    pub(crate) fn notify_change(&self) {
        self.inner.channels.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl std::fmt::Debug for Coprocessor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coprocessor")
            .field("config", &self.inner.config)
            .field("signer", &self.signer_address())
            .finish_non_exhaustive()
    }
}
