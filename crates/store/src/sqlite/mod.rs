//! The embedded store: one SQLite file, or memory in tests.
//!
//! One connection writes and a few read; in WAL mode they do not wait for each other. `synchronous = FULL` makes a
//! returned write survive loss of power, not only of the process. A lock file beside the data file, held by the
//! operating system for as long as the store is open, keeps other processes out; since nobody else can hold a lease
//! then, opening ends all leases that a killed process left.

mod blocks;
mod ciphertexts;
mod handles;
mod leases;
mod tenants;

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

use cipherloom_primitives::Handle;
use sqlx::{
    Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{
    AdmittedInput, BlockRef, CoolingRequest, Finished, Grantee, HandleState, InputKey, Lease, LeaseRequest, LeasedTransaction,
    RecordedBlock, Store, StoreError, StoreFuture, StoredCiphertext, key_part_cache::KeyPartCache,
};

/// The migrations, oldest first; the position plus one is the version. Only ever appended to.
const MIGRATIONS: &[&str] = &[
    include_str!("0001_initial.sql"),
    include_str!("0002_packed_form.sql"),
    include_str!("0003_tenants.sql"),
];

/// Connections that read beside the one that writes.
const READERS: u32 = 4;

/// How long a statement waits for the database file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// A [`Store`] in one SQLite file.
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    key_parts: KeyPartCache,
    /// Held for its lock, which ends with the store or the process.
    _lock: Option<File>,
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
        Ok(Self {
            writer,
            readers,
            key_parts: KeyPartCache::default(),
            _lock: Some(lock),
        })
    }

    /// Opens an empty store in memory, which ends with it.
    ///
    /// # Errors
    /// [`StoreError::Database`] if SQLite cannot start.
    pub async fn in_memory() -> Result<Self, StoreError> {
        // Each connection would have a memory of its own, so there is one for everything.
        let options = SqliteConnectOptions::new().in_memory(true).foreign_keys(true);
        let writer = pool(1).connect_with(options).await?;
        migrate(&writer).await?;
        Ok(Self {
            readers: writer.clone(),
            writer,
            key_parts: KeyPartCache::default(),
            _lock: None,
        })
    }

    /// Closes all connections, waiting for calls in progress. Dropping the store without it loses nothing.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

impl Store for SqliteStore {
    fn recent_blocks(&self, chain_id: u64, limit: u32) -> StoreFuture<'_, Vec<BlockRef>> {
        Box::pin(blocks::recent(&self.readers, chain_id, limit))
    }

    fn record_blocks<'a>(&'a self, chain_id: u64, blocks: &'a [RecordedBlock]) -> StoreFuture<'a, ()> {
        Box::pin(blocks::record(&self.writer, chain_id, blocks))
    }

    fn remove_blocks_from(&self, chain_id: u64, first_removed: u64) -> StoreFuture<'_, ()> {
        Box::pin(blocks::remove_from(&self.writer, chain_id, first_removed))
    }

    fn lease_transactions<'a>(&'a self, request: &'a LeaseRequest) -> StoreFuture<'a, Vec<LeasedTransaction>> {
        Box::pin(leases::lease(&self.writer, request))
    }

    fn renew_lease<'a>(&'a self, lease: &'a Lease, expires_at_ms: u64) -> StoreFuture<'a, ()> {
        Box::pin(leases::renew(&self.writer, lease, expires_at_ms))
    }

    fn release_lease<'a>(&'a self, lease: &'a Lease) -> StoreFuture<'a, ()> {
        Box::pin(leases::release(&self.writer, lease))
    }

    fn finish_transaction<'a>(&'a self, lease: &'a Lease, finished: &'a Finished) -> StoreFuture<'a, ()> {
        Box::pin(leases::finish(&self.writer, lease, finished))
    }

    fn admit_input<'a>(&'a self, input: &'a AdmittedInput, handles: &'a [Handle], now_ms: u64) -> StoreFuture<'a, ()> {
        Box::pin(handles::admit_input(&self.writer, input, handles, now_ms))
    }

    fn admitted_input(&self, key: InputKey) -> StoreFuture<'_, Option<AdmittedInput>> {
        Box::pin(handles::admitted_input(&self.readers, key))
    }

    fn ciphertext(&self, handle: Handle) -> StoreFuture<'_, Option<StoredCiphertext>> {
        Box::pin(ciphertexts::find(&self.readers, handle))
    }

    fn add_ciphertext<'a>(&'a self, ciphertext: &'a StoredCiphertext) -> StoreFuture<'a, ()> {
        Box::pin(ciphertexts::add(&self.writer, ciphertext))
    }

    fn ciphertexts_to_cool<'a>(&'a self, request: &'a CoolingRequest) -> StoreFuture<'a, Vec<Handle>> {
        Box::pin(ciphertexts::to_cool(&self.readers, request))
    }

    fn cool_ciphertext<'a>(&'a self, packed: &'a StoredCiphertext) -> StoreFuture<'a, ()> {
        Box::pin(ciphertexts::cool(&self.writer, packed))
    }

    fn handle_state(&self, handle: Handle) -> StoreFuture<'_, HandleState> {
        Box::pin(handles::state(&self.readers, handle))
    }

    fn grants_of(&self, handle: Handle) -> StoreFuture<'_, Vec<Grantee>> {
        Box::pin(handles::grants_of(&self.readers, handle))
    }

    fn pending_transactions(&self, chain_id: u64) -> StoreFuture<'_, u64> {
        Box::pin(blocks::count_pending(&self.readers, chain_id))
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
