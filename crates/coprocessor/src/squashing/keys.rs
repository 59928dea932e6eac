//! Where the keys of noise squashing come from, and which are in memory.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use alloy::primitives::keccak256;
use cipherloom_fhe::{FheBackend, KeySet, Manifest, NoiseSquasher, SquashingKeyBytes, keys::Part};
use cipherloom_primitives::B256;
use cipherloom_store::{Database, KeySetRecord};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use crate::KeyedEngine;

/// Where a coprocessor reads the keys of noise squashing, when a value is first squashed.
#[derive(Clone)]
pub enum SquashingKeys {
    /// A key set in a directory.
    KeySet(Arc<KeySet>),
    /// A tenant's key set in a database.
    Stored(StoredKeys),
}

/// A key set in a database.
#[derive(Clone)]
pub struct StoredKeys {
    pub(crate) database: Arc<dyn Database>,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) record: Arc<KeySetRecord>,
}

impl SquashingKeys {
    /// Returns a digest of both keys, without reading them, or says why there are none.
    pub(super) fn digest(&self) -> Result<B256, String> {
        let manifest = match self {
            Self::KeySet(keys) => keys.manifest(),
            Self::Stored(keys) => keys.manifest.as_ref(),
        };
        let parts = manifest.squashing().map_err(|error| error.to_string())?;
        Ok(keccak256(format!("{}{}", parts.key.sha3_256, parts.packing_key.sha3_256)))
    }

    /// Reads the keys and makes them usable, which takes some ten seconds with production parameters.
    async fn open(&self, engine: &KeyedEngine) -> Result<NoiseSquasher, String> {
        let (manifest, read): (Arc<Manifest>, Read) = match self {
            Self::KeySet(keys) => (Arc::new(keys.manifest().clone()), Read::Directory(Arc::clone(keys))),
            Self::Stored(keys) => (Arc::clone(&keys.manifest), keys.read().await?),
        };
        let (backend, machine) = (Arc::clone(engine.backend()), Arc::clone(engine.machine()));
        let made = tokio::task::spawn_blocking(move || machine.compute(|| read.squasher(&manifest, backend.as_ref())));
        made.await
            .map_err(|_| "the keys could not be made usable: a thread panicked".to_owned())?
    }
}

/// The bytes of the keys, or where they are.
enum Read {
    Directory(Arc<KeySet>),
    Bytes { key: Arc<[u8]>, packing_key: Arc<[u8]> },
}

impl Read {
    fn squasher(self, manifest: &Manifest, backend: &dyn FheBackend) -> Result<NoiseSquasher, String> {
        let made = match &self {
            Self::Directory(keys) => keys.squasher_on(backend),
            Self::Bytes { key, packing_key } => manifest.noise_squasher(backend, SquashingKeyBytes { key, packing_key }),
        };
        made.map_err(|error| error.to_string())
    }
}

impl StoredKeys {
    async fn read(&self) -> Result<Read, String> {
        let parts = self.manifest.squashing().map_err(|error| error.to_string())?;
        Ok(Read::Bytes {
            key: self.part(&parts.key).await?,
            packing_key: self.part(&parts.packing_key).await?,
        })
    }

    async fn part(&self, part: &Part) -> Result<Arc<[u8]>, String> {
        let lacks = || {
            format!(
                "the database lacks its part {}; `cipherloom tenant set-keys` stores it from a directory that has it",
                part.file
            )
        };
        let record = self.record.parts.iter().find(|record| record.name == part.file).ok_or_else(lacks)?;
        let bytes = self.database.key_part(record.digest).await;
        bytes.map_err(|error| error.to_string())?.ok_or_else(lacks)
    }
}

impl fmt::Debug for SquashingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeySet(_) => "SquashingKeys::KeySet",
            Self::Stored(_) => "SquashingKeys::Stored",
        })
    }
}

/// Keys that are in memory, by their digest and the key set they belong to.
pub(super) struct KeyShelf {
    places: Mutex<HashMap<(B256, B256), Arc<Place>>>,
    /// Keys are made usable one after the other: each takes, for a moment, twice its memory.
    loading: Semaphore,
}

#[derive(Default)]
struct Place {
    /// Locked while the keys are read, so that they are read once.
    squasher: AsyncMutex<Option<Arc<NoiseSquasher>>>,
    used: Mutex<Option<Instant>>,
}

impl Default for KeyShelf {
    fn default() -> Self {
        Self {
            places: Mutex::default(),
            loading: Semaphore::new(1),
        }
    }
}

impl KeyShelf {
    /// Returns the squasher of an engine's key set; says how long reading the keys took, if they were read.
    pub(super) async fn squasher(
        &self,
        engine: &KeyedEngine,
        keys: &SquashingKeys,
    ) -> Result<(Arc<NoiseSquasher>, Option<Duration>), String> {
        let name = (engine.key_set_id(), keys.digest()?);
        let place = Arc::clone(self.places.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default());
        place.touch();
        let mut held = place.squasher.lock().await;
        if let Some(squasher) = &*held {
            return Ok((Arc::clone(squasher), None));
        }
        let start = Instant::now();
        let turn = self.loading.acquire().await;
        let squasher = Arc::new(keys.open(engine).await?);
        drop(turn);
        *held = Some(Arc::clone(&squasher));
        place.touch();
        Ok((squasher, Some(start.elapsed())))
    }

    /// Lets go of keys that were not used for this long.
    pub(super) fn release(&self, unused: Duration) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever reads keys or is about to has the place too, and whoever squashes has the squasher.
        places.retain(|_, place| {
            Arc::strong_count(place) > 1 || place.is_squashing() || place.last_used().is_none_or(|used| used.elapsed() < unused)
        });
    }

    /// Counts the keys in memory.
    pub(super) fn held(&self) -> usize {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let is_held = |place: &&Arc<Place>| place.squasher.try_lock().is_ok_and(|squasher| squasher.is_some());
        places.values().filter(is_held).count()
    }
}

impl Place {
    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_squashing(&self) -> bool {
        let used = |squasher: &Arc<NoiseSquasher>| Arc::strong_count(squasher) > 1;
        self.squasher.try_lock().map_or(true, |held| held.as_ref().is_some_and(used))
    }

    fn last_used(&self) -> Option<Instant> {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
