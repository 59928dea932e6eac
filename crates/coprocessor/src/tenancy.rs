//! The coprocessors of a database's tenants, in one process.
//!
//! **Keys.** A tenant's current key set is looked up by its id, read from the database part by part, checked against its digests, and made an engine on
//! a thread that may block. Engines are kept per key set, not per tenant: ten tenants of one key set have one engine, and the key is in memory
//! once. At most a number of key sets is kept; one that makes room ends with the last transaction that uses it.
//!
//! **Tenants without usable keys** (none attached yet, hiding nothing without permission, of a kind this build does not know) are refused with a reason, which is
//! logged once. When other keys are attached to the tenant, they are tried.
//!
//! **Rotation.** Keys are looked at again after [`TenancyOptions::key_check_interval`]. What is under way then ends under the former key set, whose values
//! transactions of the new one refuse.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use alloy::signers::local::PrivateKeySigner;
use cipherloom_engine::{PoolOptions, PoolStatistics};
use cipherloom_fhe::{FheBackend, FheError, KeySetBytes, Manifest, keys::Part};
use cipherloom_primitives::{Address, B256, HotWindow};
use cipherloom_store::{Database, KeySetRecord, Store, Tenant, TenantId};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    Coprocessor, CoprocessorConfig, CoprocessorError, KeyedEngine, Machine, Squashing, SquashingKeys, StoredKeys,
    coprocessor::Channels,
    key_cache::KeyCache,
    metrics::{KeySetLoad, Metrics},
};

/// How the coprocessors of tenants are set up.
#[derive(Clone, Debug)]
pub struct TenancyOptions {
    /// What all have in common; chain, contracts, name and hot window are the tenant's and its key set's.
    pub coprocessors: CoprocessorConfig,
    /// How engines order their work.
    pub pool: PoolOptions,
    /// What they share of the machine.
    pub machine: Arc<Machine>,
    /// How many key sets are kept in memory, at least 1. A production key set takes about half a gigabyte.
    pub key_cache_size: usize,
    /// How long a tenant's keys are taken to be the ones they were.
    pub key_check_interval: Duration,
    /// Accepts key sets that hide nothing. **Insecure.**
    pub insecure_keys: bool,
    /// What squashes noise for committees, if this process does.
    pub squashing: Option<Arc<Squashing>>,
}

impl TenancyOptions {
    /// Builds the options with their defaults.
    #[must_use]
    pub fn new(machine: Arc<Machine>) -> Self {
        Self {
            coprocessors: CoprocessorConfig::for_tenants(),
            pool: PoolOptions::default(),
            machine,
            key_cache_size: 32,
            key_check_interval: Duration::from_secs(10),
            insecure_keys: false,
            squashing: None,
        }
    }
}

/// Which keys a tenant has now.
#[derive(Clone, Debug)]
pub struct TenantKeys {
    /// The id of the key set.
    pub id: B256,
    /// How long its values are read in raw form.
    pub hot_window: HotWindow,
    manifest: Arc<Manifest>,
    record: Arc<KeySetRecord>,
}

impl TenantKeys {
    /// Returns the manifest of the key set as it was attached.
    #[must_use]
    pub fn manifest_json(&self) -> &str {
        &self.record.manifest
    }

    /// Reads what clients encrypt inputs to, unless the database lacks it.
    ///
    /// # Errors
    /// [`CoprocessorError::Store`].
    pub async fn public_key(&self, database: &dyn Database) -> Result<Option<Arc<[u8]>>, CoprocessorError> {
        self.part(database, &self.manifest.parts.public_key).await
    }

    /// Reads the reference string of input proofs, unless the database lacks it.
    ///
    /// # Errors
    /// [`CoprocessorError::Store`].
    pub async fn crs(&self, database: &dyn Database) -> Result<Option<Arc<[u8]>>, CoprocessorError> {
        self.part(database, &self.manifest.parts.crs).await
    }

    /// Says whether the key set has keys that squash noise.
    #[must_use]
    pub fn can_squash_noise(&self) -> bool {
        self.manifest.parts.squashing.is_some()
    }

    async fn part(&self, database: &dyn Database, part: &Part) -> Result<Option<Arc<[u8]>>, CoprocessorError> {
        match self.record.parts.iter().find(|record| record.name == part.file) {
            Some(record) => Ok(database.key_part(record.digest).await?),
            None => Ok(None),
        }
    }
}

/// The coprocessors of a database's tenants. Clones share everything.
#[derive(Clone)]
pub struct Tenancy {
    inner: Arc<Inner>,
}

struct Inner {
    database: Arc<dyn Database>,
    signer: PrivateKeySigner,
    options: TenancyOptions,
    engines: KeyCache,
    /// Key sets are made ready one after the other: each takes all processors and, for a moment, twice its memory.
    loading: Semaphore,
    seats: Mutex<HashMap<TenantId, Seat>>,
    /// Key sets that cannot be used, as they were when that was found, and why.
    refused: Mutex<HashMap<B256, (Arc<KeySetRecord>, String)>>,
}

/// What is known about a tenant.
struct Seat {
    /// Outlives the coprocessors of the tenant, which come and go with engines.
    channels: Arc<Channels>,
    keys: Option<(Instant, TenantKeys)>,
    /// The reason that was logged last, so that it is logged once.
    told: Option<String>,
}

impl Tenancy {
    /// Serves the tenants of a database. Nothing is read or started yet.
    #[must_use]
    pub fn new(database: Arc<dyn Database>, signer: PrivateKeySigner, options: TenancyOptions) -> Self {
        let inner = Inner {
            engines: KeyCache::new(options.key_cache_size),
            loading: Semaphore::new(1),
            seats: Mutex::default(),
            refused: Mutex::default(),
            database,
            signer,
            options,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Returns the address that handles of inputs and ciphertexts are signed with.
    #[must_use]
    pub fn signer_address(&self) -> Address {
        self.inner.signer.address()
    }

    /// Returns the coprocessor of a tenant under its current key set, which is read from the database if it is not in memory. Who
    /// holds a coprocessor keeps its key set in memory, so callers hold it for as long as they use it, and ask again.
    ///
    /// # Errors
    /// [`CoprocessorError::NoKeys`] and [`CoprocessorError::KeysRefused`] if the tenant has no keys that can be used, [`CoprocessorError::Store`] if
    /// the database fails.
    pub async fn coprocessor(&self, tenant: &Tenant) -> Result<Coprocessor, CoprocessorError> {
        let opened = Box::pin(self.open(tenant)).await;
        self.tell(tenant, opened.as_ref().err());
        opened
    }

    async fn open(&self, tenant: &Tenant) -> Result<Coprocessor, CoprocessorError> {
        let keys = self.keys_of(tenant).await?;
        let engine = self.engine(tenant, &keys).await?;
        Ok(self.assemble(tenant, &keys, engine))
    }

    /// Returns the coprocessor of a tenant if it is there without waiting for anything. Its keys may be of twice the
    /// [`TenancyOptions::key_check_interval`] before, so that they can be looked at again meanwhile: see [`Self::keys_are_due`].
    #[must_use]
    pub fn coprocessor_now(&self, tenant: &Tenant) -> Option<Coprocessor> {
        let keys = self.keys_since(tenant, self.inner.options.key_check_interval.saturating_mul(2))?;
        let engine = self.inner.engines.get(keys.id)?;
        self.inner.options.metrics().caches().key_set(KeySetLoad::Held);
        Some(self.assemble(tenant, &keys, engine))
    }

    /// Says whether a tenant's keys are to be looked at again, which [`Self::coprocessor`] does.
    #[must_use]
    pub fn keys_are_due(&self, tenant: &Tenant) -> bool {
        self.keys_since(tenant, self.inner.options.key_check_interval).is_none()
    }

    /// Returns which keys a tenant has, without reading them.
    ///
    /// # Errors
    /// As [`Self::coprocessor`].
    pub async fn keys_of(&self, tenant: &Tenant) -> Result<TenantKeys, CoprocessorError> {
        if let Some(keys) = self.keys_since(tenant, self.inner.options.key_check_interval) {
            return Ok(keys);
        }
        let current = self.inner.database.key_sets_of(tenant.id).await?.into_iter().next();
        let record = current.ok_or_else(|| CoprocessorError::NoKeys {
            tenant: tenant.name.clone(),
        })?;
        let keys = self.accept(tenant, record)?;
        self.seat(tenant).keys = Some((Instant::now(), keys.clone()));
        Ok(keys)
    }

    /// Returns the keys of a tenant if they were looked at within this time.
    fn keys_since(&self, tenant: &Tenant, at_most: Duration) -> Option<TenantKeys> {
        let seats = self.seats();
        let (checked, keys) = seats.get(&tenant.id)?.keys.as_ref()?;
        (checked.elapsed() < at_most).then(|| keys.clone())
    }

    /// Reads the manifest of a key set and decides whether it may be used.
    fn accept(&self, tenant: &Tenant, record: KeySetRecord) -> Result<TenantKeys, CoprocessorError> {
        let refused = |reason: String| CoprocessorError::KeysRefused {
            tenant: tenant.name.clone(),
            key_set: record.id,
            reason,
        };
        if let Some((same, reason)) = self.refused().get(&record.id)
            && **same == record
        {
            return Err(refused(reason.clone()));
        }
        let manifest = Manifest::parse(record.manifest.as_bytes()).map_err(|error| refused(error.to_string()))?;
        let parameters = manifest.parameters().map_err(|error| refused(error.to_string()))?;
        if manifest.id.as_bytes() != &record.id.0 {
            return Err(refused("its manifest has another id".to_owned()));
        }
        if !parameters.is_secure() && !self.inner.options.insecure_keys {
            return Err(refused(format!(
                "it is {parameters}, which hides nothing; --insecure-keys accepts it"
            )));
        }
        Ok(TenantKeys {
            id: record.id,
            hot_window: manifest.hot_window_blocks,
            manifest: Arc::new(manifest),
            record: Arc::new(record),
        })
    }

    async fn engine(&self, tenant: &Tenant, keys: &TenantKeys) -> Result<Arc<KeyedEngine>, CoprocessorError> {
        let metrics = self.inner.options.metrics().caches();
        let start = Instant::now();
        let found = self.inner.engines.get_or_load(keys.id, self.load(tenant, keys)).await;
        let found = found.inspect_err(|_| metrics.key_set(KeySetLoad::Failed))?;
        let took = start.elapsed();
        metrics.key_set(if found.loaded { KeySetLoad::Loaded(took) } else { KeySetLoad::Held });
        (0..found.evicted).for_each(|_| metrics.key_set_evicted());
        metrics.set_key_sets(self.inner.engines.alive().len());
        if found.loaded {
            tracing::info!(key_set = %keys.id, tenant = tenant.name, took_ms = took.as_millis(), evicted = found.evicted, "key set is ready");
        }
        Ok(found.engine)
    }

    /// Reads a key set from the database and makes it ready.
    async fn load(&self, tenant: &Tenant, keys: &TenantKeys) -> Result<Arc<KeyedEngine>, CoprocessorError> {
        let _turn = self.inner.loading.acquire().await.map_err(|_| CoprocessorError::ThreadLost)?;
        let bytes = PartBytes::read(self.inner.database.as_ref(), keys).await?;
        let (manifest, machine) = (Arc::clone(&keys.manifest), Arc::clone(&self.inner.options.machine));
        let made = tokio::task::spawn_blocking(move || match bytes {
            Ok(bytes) => machine.compute(|| bytes.backend(&manifest)).map_err(|error| error.to_string()),
            Err(missing) => Err(missing),
        });
        let backend = match made.await.map_err(|_| CoprocessorError::ThreadLost)? {
            Ok(backend) => backend,
            Err(reason) => {
                self.refused().insert(keys.id, (Arc::clone(&keys.record), reason.clone()));
                self.seat(tenant).keys = None;
                return Err(CoprocessorError::KeysRefused {
                    tenant: tenant.name.clone(),
                    key_set: keys.id,
                    reason,
                });
            }
        };
        if keys.manifest.parameters().is_ok_and(|parameters| !parameters.is_secure()) {
            tracing::warn!(key_set = %keys.id, tenant = tenant.name, "INSECURE: the key set hides nothing");
        }
        let options = &self.inner.options;
        KeyedEngine::start(keys.id, backend, options.pool.clone(), Arc::clone(&options.machine))
    }

    fn assemble(&self, tenant: &Tenant, keys: &TenantKeys, engine: Arc<KeyedEngine>) -> Coprocessor {
        let config = self.inner.options.coprocessors.of_tenant(tenant, keys.hot_window);
        let channels = Arc::clone(&self.seat(tenant).channels);
        let coprocessor = Coprocessor::assemble(
            config,
            engine,
            self.inner.database.store(tenant),
            self.inner.signer.clone(),
            channels,
        );
        let Some(squashing) = &self.inner.options.squashing else {
            return coprocessor;
        };
        let stored = StoredKeys {
            database: Arc::clone(&self.inner.database),
            manifest: Arc::clone(&keys.manifest),
            record: Arc::clone(&keys.record),
        };
        coprocessor.with_squashing(Arc::clone(squashing), SquashingKeys::Stored(stored))
    }

    /// Packs some of a tenant's old values until told to stop; see [`Coprocessor::cool_once`]. Says how many were listed. Its keys are read only if
    /// there are any.
    ///
    /// # Errors
    /// As [`Self::coprocessor`] and [`Coprocessor::cool_once`].
    pub async fn cool_some(&self, tenant: &Tenant, stop: &CancellationToken) -> Result<usize, CoprocessorError> {
        let keys = self.keys_of(tenant).await?;
        let config = self.inner.options.coprocessors.of_tenant(tenant, keys.hot_window);
        let store: Arc<dyn Store> = self.inner.database.store(tenant);
        let handles = store.ciphertexts_to_cool(&config.cooling_request()).await?;
        if handles.is_empty() {
            return Ok(0);
        }
        let coprocessor = self.coprocessor(tenant).await?;
        coprocessor.cool_all(&handles, stop).await?;
        Ok(handles.len())
    }

    /// Returns what the engines of this process did and have to do, each with a number that no other engine of the process ever has.
    #[must_use]
    pub fn engine_statistics(&self) -> Vec<(u64, PoolStatistics)> {
        let engines = self.inner.engines.alive();
        engines.iter().map(|engine| (engine.number(), engine.statistics())).collect()
    }

    /// Counts the key sets that are kept in memory.
    #[must_use]
    pub fn key_sets_kept(&self) -> usize {
        self.inner.engines.kept()
    }

    /// Returns the database.
    #[must_use]
    pub fn database(&self) -> &Arc<dyn Database> {
        &self.inner.database
    }

    /// Returns the options.
    #[must_use]
    pub fn options(&self) -> &TenancyOptions {
        &self.inner.options
    }

    /// Forgets tenants that are not among these.
    pub fn retain(&self, tenants: &[Tenant]) {
        self.seats().retain(|id, _| tenants.iter().any(|tenant| tenant.id == *id));
    }

    /// Logs that a tenant's keys cannot be used, once, and that they can be again.
    fn tell(&self, tenant: &Tenant, error: Option<&CoprocessorError>) {
        let reason = match error {
            None => None,
            Some(error @ (CoprocessorError::NoKeys { .. } | CoprocessorError::KeysRefused { .. })) => Some(error.to_string()),
            // Whether the keys can be used is as unknown as before.
            Some(_) => return,
        };
        let told = std::mem::replace(&mut self.seat(tenant).told, reason.clone());
        match (told, reason) {
            (told, Some(reason)) if told.as_ref() != Some(&reason) => {
                tracing::warn!(tenant = tenant.name, "{reason}; the tenant is not served until it has other keys");
            }
            (Some(_), None) => tracing::info!(tenant = tenant.name, "the tenant's keys can be used now"),
            _ => {}
        }
    }

    fn seat(&self, tenant: &Tenant) -> SeatGuard<'_> {
        let mut seats = self.seats();
        seats.entry(tenant.id).or_insert_with(|| Seat {
            channels: Arc::new(Channels::new(&self.inner.options.coprocessors)),
            keys: None,
            told: None,
        });
        SeatGuard { seats, id: tenant.id }
    }

    fn seats(&self) -> MutexGuard<'_, HashMap<TenantId, Seat>> {
        self.inner.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self) -> MutexGuard<'_, HashMap<B256, (Arc<KeySetRecord>, String)>> {
        self.inner.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TenancyOptions {
    fn metrics(&self) -> &Metrics {
        &self.coprocessors.metrics
    }
}

/// A seat while the list of seats is locked.
struct SeatGuard<'a> {
    seats: MutexGuard<'a, HashMap<TenantId, Seat>>,
    id: TenantId,
}

impl std::ops::Deref for SeatGuard<'_> {
    type Target = Seat;

    fn deref(&self) -> &Seat {
        self.seats.get(&self.id).expect("it was put there under the same lock")
    }
}

impl std::ops::DerefMut for SeatGuard<'_> {
    fn deref_mut(&mut self) -> &mut Seat {
        self.seats.get_mut(&self.id).expect("it was put there under the same lock")
    }
}

/// The parts of a key set, as the database has them. They are let go when the backend is made.
struct PartBytes {
    public_key: Arc<[u8]>,
    crs: Arc<[u8]>,
    evaluation_key: Arc<[u8]>,
}

impl PartBytes {
    /// Reads the parts. The inner error says which one is missing.
    async fn read(database: &dyn Database, keys: &TenantKeys) -> Result<Result<Self, String>, CoprocessorError> {
        let parts = &keys.manifest.parts;
        let read = async |part: &Part| match keys.record.parts.iter().find(|record| record.name == part.file) {
            Some(record) => Ok(database
                .key_part(record.digest)
                .await?
                .ok_or_else(|| format!("the database lacks its part {}", part.file))),
            None => Ok::<_, CoprocessorError>(Err(format!("the database does not know its part {}", part.file))),
        };
        let (public_key, crs, evaluation_key) = (
            read(&parts.public_key).await?,
            read(&parts.crs).await?,
            read(&parts.evaluation_key).await?,
        );
        Ok(public_key.and_then(|public_key| {
            Ok(Self {
                public_key,
                crs: crs?,
                evaluation_key: evaluation_key?,
            })
        }))
    }

    fn backend(&self, manifest: &Manifest) -> Result<Arc<dyn FheBackend>, FheError> {
        manifest.backend(KeySetBytes {
            public_key: &self.public_key,
            crs: &self.crs,
            evaluation_key: &self.evaluation_key,
        })
    }
}

impl fmt::Debug for Tenancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenancy")
            .field("options", &self.inner.options)
            .field("engines", &self.inner.engines)
            .finish_non_exhaustive()
    }
}
