//! The embedded store: one SQLite file, or memory in tests.
//!
//! One connection writes and a few read; in WAL mode they do not wait for each other. `synchronous = FULL` makes a
//! returned write survive loss of power, not only of the process. A lock file beside the data file, held by the
//! operating system for as long as the store is open, keeps other processes out; since nobody else can hold a lease
//! then, opening ends all leases that a killed process left.

mod blocks;
mod callbacks;
mod ciphertexts;
mod database;
mod following;
mod gateway_jobs;
mod handles;
mod inspection;
mod leases;
mod publications;
mod pushed;
mod squashed;
mod tenants;
mod withdrawn;

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cipherloom_primitives::Handle;
use futures_util::stream::{BoxStream, StreamExt};
use sqlx::{
    Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use tokio::sync::broadcast;

use self::database::HINTS;
use crate::{
    AdmittedInput, BlockRef, CallbackSite, Callbacks, CiphertextHead, CoolingRequest, Database, Finished, GatewayJobs, Grantee,
    HandleState, InputKey, Inspection, Lease, LeaseRequest, LeasedTransaction, NamedHandle, PushedWork, RecordedBlock, Store, StoreError,
    StoreFuture, StoredCiphertext, Tenant, TenantId, TransactionNumber, key_part_cache::KeyPartCache,
};

/// The migrations, oldest first; the position plus one is the version. Only ever appended to.
const MIGRATIONS: &[&str] = &[
    include_str!("0001_initial.sql"),
    include_str!("0002_packed_form.sql"),
    include_str!("0003_tenants.sql"),
    include_str!("0004_pushed_work.sql"),
    include_str!("0005_time_of_recording.sql"),
    include_str!("0006_mirror.sql"),
    include_str!("0007_following.sql"),
    include_str!("0008_gateway_jobs.sql"),
    include_str!("0009_callbacks.sql"),
    include_str!("0010_squashed.sql"),
];

/// Connections that read beside the one that writes.
const READERS: u32 = 4;

/// How long a statement waits for the database file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// A [`Store`] in one SQLite file, and a [`Database`] of one tenant per chain. Clones are the same store.
#[derive(Clone)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    key_parts: Arc<KeyPartCache>,
    /// The chain of the tenant this is the part of, if it is one tenant's part.
    chain: Option<u64>,
    /// Tells listeners of this process which chain changed.
    hints: broadcast::Sender<u64>,
    /// Held for its lock, which ends with the last clone or the process.
    _lock: Option<Arc<File>>,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens the data file for this process alone, creating or migrating it, and ends leases left from before.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it, [`StoreError::NewerSchema`] if newer software wrote it,
    /// [`StoreError::File`] if it or its lock file cannot be created.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let lock = lock(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let writer = pool(1).connect_with(options.clone()).await?;
        migrate(&writer).await?;
        let readers = pool(READERS).connect_with(options.read_only(true)).await?;
        leases::end_all(&writer).await?;
        gateway_jobs::end_leases(&writer).await?;
        callbacks::end_claims(&writer).await?;
        Ok(Self {
            writer,
            readers,
            key_parts: Arc::default(),
            chain: None,
            hints: broadcast::Sender::new(HINTS),
            _lock: Some(Arc::new(lock)),
        })
    }

    /// Opens an empty store in memory, which ends with it.
    ///
    /// # Errors
    /// [`StoreError::Database`] if SQLite cannot start.
    pub async fn in_memory() -> Result<Self, StoreError> {
        // A name of its own, whose connections share one memory.
        let options = "sqlite::memory:".parse::<SqliteConnectOptions>()?.foreign_keys(true);
        // What is in memory ends with its last connection, and one whose user was stopped in the middle is closed. So there is one that nobody uses,
        // kept by the pool, which outlives this value where parts of it are taken.
        let anchor = pool(1).connect_with(options.clone()).await?;
        let writer = pool(1).after_connect(move |_, _| {
            let _kept = &anchor;
            Box::pin(async { Ok(()) })
        });
        let writer = writer.connect_with(options).await?;
        migrate(&writer).await?;
        Ok(Self {
            readers: writer.clone(),
            writer,
            key_parts: Arc::default(),
            chain: None,
            hints: broadcast::Sender::new(HINTS),
            _lock: None,
        })
    }

    /// Closes all connections, waiting for calls in progress. Dropping the store without it loses nothing.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

impl SqliteStore {
    /// The part of a tenant.
    fn of(&self, tenant: &Tenant) -> Self {
        Self {
            chain: Some(tenant.chain_id),
            ..self.clone()
        }
    }

    /// Says whether a chain is this store's. What is asked about others is answered as if nothing were known.
    fn serves(&self, chain_id: u64) -> bool {
        self.chain.is_none_or(|chain| chain == chain_id)
    }

    /// Refuses to write what belongs to another chain.
    fn require(&self, chain_id: u64) -> Result<(), StoreError> {
        match self.chain {
            Some(expected) if expected != chain_id => Err(StoreError::ForeignChain { expected, found: chain_id }),
            _ => Ok(()),
        }
    }

    /// Finishes a write on a chain: tells the listeners.
    fn written<T>(&self, chain_id: u64, result: T) -> Result<T, StoreError> {
        self.announce(chain_id);
        Ok(result)
    }
}

impl Database for SqliteStore {
    fn store(&self, tenant: &Tenant) -> Arc<dyn Store> {
        Arc::new(self.of(tenant))
    }

    fn inspection(&self, tenant: &Tenant) -> Arc<dyn Inspection> {
        Arc::new(self.of(tenant))
    }

    fn gateway_jobs(&self, deployment: &str) -> Arc<dyn GatewayJobs> {
        Arc::new(gateway_jobs::SqliteJobs::new(self, deployment))
    }

    fn callbacks(&self, site: &str) -> Arc<dyn Callbacks> {
        Arc::new(callbacks::SqliteCallbacks::new(self, site))
    }

    fn callback_sites(&self) -> StoreFuture<'_, Vec<CallbackSite>> {
        Box::pin(callbacks::sites(self))
    }

    fn tenants_by_turn<'a>(&'a self, among: &'a [TenantId], served_last: Option<TenantId>, now_ms: u64) -> StoreFuture<'a, Vec<TenantId>> {
        Box::pin(self.turns(among, served_last, now_ms))
    }

    fn changes(&self) -> BoxStream<'static, TenantId> {
        database::changed_tenants(self.hints.subscribe(), self.readers.clone())
    }

    fn ping(&self) -> StoreFuture<'_, ()> {
        Box::pin(async {
            sqlx::query("SELECT 1").execute(&self.readers).await?;
            Ok(())
        })
    }
}

impl Store for SqliteStore {
    fn recent_blocks(&self, chain_id: u64, limit: u32) -> StoreFuture<'_, Vec<BlockRef>> {
        let limit = if self.serves(chain_id) { limit } else { 0 };
        Box::pin(blocks::recent(&self.readers, chain_id, limit))
    }

    fn record_blocks<'a>(&'a self, chain_id: u64, blocks: &'a [RecordedBlock]) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            self.require(chain_id)?;
            self.written(chain_id, blocks::record(&self.writer, chain_id, blocks).await?)
        })
    }

    fn record_pushed<'a>(&'a self, chain_id: u64, work: &'a PushedWork) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            self.require(chain_id)?;
            self.written(chain_id, pushed::record(&self.writer, chain_id, work).await?)
        })
    }

    fn add_names<'a>(&'a self, names: &'a [NamedHandle]) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            names.iter().try_for_each(|named| self.require(named.handle.chain_id()))?;
            pushed::add_names(&self.writer, names).await
        })
    }

    fn handles_of_names<'a>(&'a self, names: &'a [Vec<u8>]) -> StoreFuture<'a, Vec<Option<Handle>>> {
        Box::pin(pushed::handles_of_names(&self.readers, self.chain, names))
    }

    fn remove_blocks_from(&self, chain_id: u64, first_removed: u64) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.require(chain_id)?;
            self.written(chain_id, blocks::remove_from(&self.writer, chain_id, first_removed).await?)
        })
    }

    fn lease_transactions<'a>(&'a self, request: &'a LeaseRequest) -> StoreFuture<'a, Vec<LeasedTransaction>> {
        Box::pin(async move {
            if self.serves(request.chain_id) {
                leases::lease(&self.writer, request).await
            } else {
                Ok(Vec::new())
            }
        })
    }

    fn renew_lease<'a>(&'a self, lease: &'a Lease, expires_at_ms: u64) -> StoreFuture<'a, ()> {
        Box::pin(leases::renew(&self.writer, lease, expires_at_ms))
    }

    fn release_lease<'a>(&'a self, lease: &'a Lease) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            match leases::release(&self.writer, lease).await? {
                Some(chain_id) => self.written(chain_id, ()),
                None => Ok(()),
            }
        })
    }

    fn finish_transaction<'a>(&'a self, lease: &'a Lease, finished: &'a Finished) -> StoreFuture<'a, Vec<TransactionNumber>> {
        Box::pin(async move {
            let (chain_id, freed) = leases::finish(&self.writer, lease, finished).await?;
            self.written(chain_id, freed)
        })
    }

    fn admit_input<'a>(&'a self, input: &'a AdmittedInput, handles: &'a [Handle], now_ms: u64) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            self.require(input.metadata.chain_id)?;
            self.written(
                input.metadata.chain_id,
                handles::admit_input(&self.writer, input, handles, now_ms).await?,
            )
        })
    }

    fn admitted_input(&self, key: InputKey) -> StoreFuture<'_, Option<AdmittedInput>> {
        Box::pin(async move {
            let chain_id = match key {
                InputKey::Handle(handle) => handle.chain_id(),
                InputKey::Digest { chain_id, .. } => chain_id,
            };
            if self.serves(chain_id) {
                handles::admitted_input(&self.readers, key).await
            } else {
                Ok(None)
            }
        })
    }

    fn ciphertexts<'a>(&'a self, handles: &'a [Handle]) -> StoreFuture<'a, Vec<Option<StoredCiphertext>>> {
        Box::pin(ciphertexts::find(&self.readers, self.chain, handles))
    }

    fn ciphertext_heads<'a>(&'a self, handles: &'a [Handle]) -> StoreFuture<'a, Vec<Option<CiphertextHead>>> {
        Box::pin(ciphertexts::heads(&self.readers, self.chain, handles))
    }

    fn add_ciphertexts<'a>(&'a self, ciphertexts: &'a [StoredCiphertext]) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            ciphertexts
                .iter()
                .try_for_each(|ciphertext| self.require(ciphertext.handle.chain_id()))?;
            ciphertexts::add(&self.writer, ciphertexts).await?;
            for ciphertext in ciphertexts {
                self.announce(ciphertext.handle.chain_id());
            }
            Ok(())
        })
    }

    fn ciphertexts_to_cool<'a>(&'a self, request: &'a CoolingRequest) -> StoreFuture<'a, Vec<Handle>> {
        Box::pin(async move {
            if self.serves(request.chain_id) {
                ciphertexts::to_cool(&self.readers, request).await
            } else {
                Ok(Vec::new())
            }
        })
    }

    fn cool_ciphertext<'a>(&'a self, packed: &'a StoredCiphertext) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            self.require(packed.handle.chain_id())?;
            ciphertexts::cool(&self.writer, packed).await
        })
    }

    fn known_handles<'a>(&'a self, handles: &'a [Handle]) -> StoreFuture<'a, Vec<bool>> {
        Box::pin(handles::known(&self.readers, self.chain, handles))
    }

    fn handle_state(&self, handle: Handle) -> StoreFuture<'_, HandleState> {
        Box::pin(async move {
            if self.serves(handle.chain_id()) {
                handles::state(&self.readers, handle).await
            } else {
                Ok(HandleState::Unknown)
            }
        })
    }

    fn grants_of(&self, handle: Handle) -> StoreFuture<'_, Vec<Grantee>> {
        Box::pin(async move {
            if self.serves(handle.chain_id()) {
                handles::grants_of(&self.readers, handle).await
            } else {
                Ok(Vec::new())
            }
        })
    }

    fn pending_transactions(&self, chain_id: u64) -> StoreFuture<'_, u64> {
        Box::pin(async move {
            if self.serves(chain_id) {
                blocks::count_pending(&self.readers, chain_id).await
            } else {
                Ok(0)
            }
        })
    }

    fn changes(&self) -> BoxStream<'static, ()> {
        let own = self.chain;
        let changed = database::changed_chains(self.hints.subscribe());
        let ours = move |chain: Option<u64>| own.is_none() || chain.is_none() || own == chain;
        changed
            .filter_map(move |chain| std::future::ready(ours(chain).then_some(())))
            .boxed()
    }
}

fn pool(connections: u32) -> SqlitePoolOptions {
    // Connections never age out: in memory that would lose the data, on disk it would gain nothing.
    SqlitePoolOptions::new()
        .max_connections(connections)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
}

/// Starts a transaction that holds the write lock from the start, so that it cannot fail halfway for want of it.
async fn begin(writer: &SqlitePool) -> Result<Transaction<'_, Sqlite>, StoreError> {
    Ok(writer.begin_with("BEGIN IMMEDIATE").await?)
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let lock_path = PathBuf::from(format!("{}.lock", path.display()));
    let failed = |source| StoreError::File {
        path: lock_path.clone(),
        source,
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path.to_path_buf())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Brings the schema to the newest version; each migration and its record are one transaction.
async fn migrate(writer: &SqlitePool) -> Result<(), StoreError> {
    sqlx::query("CREATE TABLE IF NOT EXISTS migrations (version INTEGER PRIMARY KEY) STRICT")
        .execute(writer)
        .await?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found: i64 = sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM migrations")
        .fetch_one(writer)
        .await?;
    if found > known {
        return Err(StoreError::NewerSchema { found, known });
    }
    for (version, migration) in (1i64..).zip(MIGRATIONS.iter().copied()).filter(|(version, _)| *version > found) {
        let mut transaction = begin(writer).await?;
        sqlx::raw_sql(migration).execute(&mut *transaction).await?;
        sqlx::query("INSERT INTO migrations (version) VALUES (?)")
            .bind(version)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
    }
    Ok(())
}
