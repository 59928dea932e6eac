//! Engines by key set: at most a number of them is kept, and there is never a second one of the same key set.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use cipherloom_primitives::B256;
use tokio::sync::OnceCell;

use crate::{CoprocessorError, KeyedEngine};

/// Engines by the id of their key set. Those that were not used for the longest time are let go; they end with the last transaction that uses
/// them, and until then who asks for one gets the same one again.
#[derive(Debug)]
pub(crate) struct KeyCache {
    limit: usize,
    engines: Mutex<Engines>,
}

#[derive(Debug, Default)]
struct Engines {
    kept: HashMap<B256, Kept>,
    /// All that still exist, the kept ones included.
    alive: HashMap<B256, Weak<KeyedEngine>>,
    uses: u64,
}

#[derive(Debug)]
struct Kept {
    /// Filled by the first of those who ask; the others wait for it.
    engine: Arc<OnceCell<Arc<KeyedEngine>>>,
    used: u64,
}

/// How an engine was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) engine: Arc<KeyedEngine>,
    /// Whether this call loaded it.
    pub(crate) loaded: bool,
    /// How many others were let go for it.
    pub(crate) evicted: usize,
}

impl KeyCache {
    /// Keeps this many engines, at least 1.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            engines: Mutex::default(),
        }
    }

    /// Returns the engine of a key set if it is kept, and notes that it is used.
    pub(crate) fn get(&self, key_set: B256) -> Option<Arc<KeyedEngine>> {
        let mut engines = self.lock();
        let engine = engines.kept.get(&key_set)?.engine.get().map(Arc::clone)?;
        engines.use_slot(key_set);
        Some(engine)
    }

    /// Returns the engine of a key set, or loads it. Those who ask for the same one at the same time load it once.
    ///
    /// # Errors
    /// Those of loading, to each who asked and waited; the next one loads again.
    pub(crate) async fn get_or_load(
        &self,
        key_set: B256,
        load: impl Future<Output = Result<Arc<KeyedEngine>, CoprocessorError>>,
    ) -> Result<Found, CoprocessorError> {
        let slot = self.lock().use_slot(key_set);
        let mut loaded = false;
        let made = slot.get_or_try_init(|| async {
            loaded = true;
            load.await
        });
        let made = made.await.map(Arc::clone);
        let mut engines = self.lock();
        let engine = made.inspect_err(|_| engines.forget_empty(key_set))?;
        engines.alive.retain(|_, engine| engine.strong_count() > 0);
        engines.alive.insert(key_set, Arc::downgrade(&engine));
        let evicted = engines.evict(self.limit, key_set);
        drop(engines);
        Ok(Found {
            engine,
            loaded,
            // Dropped here, outside of the lock.
            evicted: evicted.len(),
        })
    }

    /// Returns all engines that exist.
    pub(crate) fn alive(&self) -> Vec<Arc<KeyedEngine>> {
        self.lock().alive.values().filter_map(Weak::upgrade).collect()
    }

    /// Counts the engines that are kept.
    pub(crate) fn kept(&self) -> usize {
        self.lock().kept.values().filter(|kept| kept.engine.initialized()).count()
    }

    fn lock(&self) -> MutexGuard<'_, Engines> {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engines {
    fn use_slot(&mut self, key_set: B256) -> Arc<OnceCell<Arc<KeyedEngine>>> {
        self.uses += 1;
        let used = self.uses;
        let alive = self.alive.get(&key_set).and_then(Weak::upgrade);
        let kept = self.kept.entry(key_set).or_insert_with(|| Kept {
            engine: Arc::new(OnceCell::new_with(alive)),
            used,
        });
        kept.used = used;
        Arc::clone(&kept.engine)
    }

    /// Forgets a place that nobody filled, unless somebody is about to.
    fn forget_empty(&mut self, key_set: B256) {
        let empty = |kept: &Kept| !kept.engine.initialized() && Arc::strong_count(&kept.engine) <= 2;
        if self.kept.get(&key_set).is_some_and(empty) {
            self.kept.remove(&key_set);
        }
    }

    /// Lets go what was not used for the longest time, but not the one that is used now.
    fn evict(&mut self, limit: usize, used_now: B256) -> Vec<Kept> {
        let mut evicted = Vec::new();
        while self.kept.values().filter(|kept| kept.engine.initialized()).count() > limit {
            let others = self.kept.iter().filter(|(id, kept)| **id != used_now && kept.engine.initialized());
            let Some(oldest) = others.min_by_key(|(_, kept)| kept.used).map(|(id, _)| *id) else {
                break;
            };
            evicted.extend(self.kept.remove(&oldest));
        }
        evicted
    }
}
