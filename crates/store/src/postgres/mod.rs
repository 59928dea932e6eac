//! The shared store: a PostgreSQL database that any number of processes and machines use at the same time.
//!
//! A database serves several *tenants*, each one chain under one set of contracts. [`PostgresDatabase`] is the database:
//! migrations, tenants, keys. [`PostgresStore`] is one tenant's part of it and implements [`Store`]; every row it reads or
//! writes has the tenant's number, so that nothing of one tenant can be seen or touched through another's.
//!
//! **Locks.** Leases are row locks taken with `SKIP LOCKED` for the moment of leasing only; what lasts is the row's
//! expiry. One advisory lock per tenant orders the two steps that count what a transaction waits for: recording, and the
//! last part of finishing. It is always taken before the rows of `transactions`, so that these steps cannot block each
//! other in a circle. No connection is held between two calls.
//!
//! **Notifications** are a hint. Whoever misses one finds the work at its next look.

mod blocks;
mod callbacks;
mod changes;
mod ciphertexts;
mod diagnosis;
mod following;
mod gateway_jobs;
mod handles;
mod inspection;
mod key_sets;
mod leases;
mod migrations;
mod names;
mod publications;
mod pushed;
mod retry;
mod squashed;
mod tenants;
mod withdrawn;

use std::{str::FromStr, sync::Arc, time::Duration};

use cipherloom_primitives::Handle;
use futures_util::stream::{BoxStream, StreamExt};
use sqlx::{
    PgPool, Postgres, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};

pub use diagnosis::PostgresDiagnosis;
pub use migrations::{MigrationState, MigrationStatus};
pub(crate) use withdrawn::KEPT_BLOCKS;

use crate::{
    AdmittedInput, BlockRef, CallbackSite, Callbacks, CiphertextHead, CiphertextObjects, CoolingRequest, Database, Finished, GatewayJobs,
    Grantee, HandleState, InputKey, Inspection, Lease, LeaseRequest, LeasedTransaction, NamedHandle, PushedWork, RecordedBlock, Store,
    StoreError, StoreFuture, StoredCiphertext, Tenant, TenantId, TransactionNumber, columns::integer, key_part_cache::KeyPartCache,
};

/// What every connection sets.
const SESSION: [(&str, &str); 5] = [
    // Nothing here is slow; whoever waits this long should fail, be logged and try again.
    ("lock_timeout", "30s"),
    // A process that stands still between two statements keeps the tenant's order of waits locked, and nobody else publishes for that tenant
    // until the server ends its session. Below the time that others wait for the lock, so that they only get slower.
    ("idle_in_transaction_session_timeout", "10s"),
    // Every statement finds its rows by an index. Left to itself the server plans them while the tables are small, keeps the plan, and
    // reads whole tables when they have grown. For the same reason some statements look things up in scalar subqueries where a join
    // would read better: a join's order is the server's choice.
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];

/// How to reach a database.
#[derive(Clone)]
pub struct PostgresConfig {
    options: PgConnectOptions,
    max_connections: u32,
    acquire_timeout: Duration,
}

impl std::fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL holds a password.
        f.debug_struct("PostgresConfig")
            .field("host", &self.options.get_host())
            .field("database", &self.options.get_database())
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

impl PostgresConfig {
    /// Reads a URL: `postgres://user:password@host:port/database`, with `?host=/directory` for a Unix socket and
    /// `?sslmode=verify-full&sslrootcert=FILE` for a server that is not on this machine.
    ///
    /// # Errors
    /// [`StoreError::DatabaseUrl`], without the URL, which may hold a password.
    pub fn new(url: &str) -> Result<Self, StoreError> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(StoreError::DatabaseUrl("it must begin with postgres://".to_owned()));
        }
        let options = PgConnectOptions::from_str(url).map_err(|error| StoreError::DatabaseUrl(error.to_string()))?;
        Ok(Self {
            options: options.application_name("cipherloom").options(SESSION),
            max_connections: 10,
            acquire_timeout: Duration::from_secs(30),
        })
    }

    /// Sets the most connections this process opens for its calls, at least 1 [default: 10]. Listening for changes takes
    /// one more.
    #[must_use]
    pub fn max_connections(self, max_connections: u32) -> Self {
        Self {
            max_connections: max_connections.max(1),
            ..self
        }
    }

    /// Sets how long a call waits for a free connection [default: 30 seconds].
    #[must_use]
    pub fn acquire_timeout(self, acquire_timeout: Duration) -> Self {
        Self { acquire_timeout, ..self }
    }
}

/// The connections of a process to its database, apart from the one that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// How many are open.
    pub open: u32,
    /// How many of these nobody uses now.
    pub idle: usize,
    /// How many there may be.
    pub limit: u32,
}

/// A PostgreSQL database with Cipherloom's schema. Clones share their connections.
#[derive(Clone)]
pub struct PostgresDatabase {
    pool: PgPool,
    options: Arc<PgConnectOptions>,
    key_parts: Arc<KeyPartCache>,
    objects: Option<Arc<dyn CiphertextObjects>>,
}

impl std::fmt::Debug for PostgresDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresDatabase")
            .field("database", &self.options.get_database())
            .finish_non_exhaustive()
    }
}

impl PostgresDatabase {
    /// Connects, and brings the schema to the newest version.
    ///
    /// Any number of processes may do this at the same time.
    ///
    /// # Errors
    /// [`StoreError::NewerSchema`] if newer software made the schema, [`StoreError::ChangedMigration`] if a migration was not the
    /// one this software knows.
    pub async fn open(config: PostgresConfig) -> Result<Self, StoreError> {
        let database = Self::connect(config).await?;
        database.migrate().await?;
        Ok(database)
    }

    /// Connects, and refuses a schema that is not exactly the newest one.
    ///
    /// # Errors
    /// As [`Self::open`], and [`StoreError::OlderSchema`].
    pub async fn open_migrated(config: PostgresConfig) -> Result<Self, StoreError> {
        let database = Self::connect(config).await?;
        migrations::check(&database.pool).await?;
        Ok(database)
    }

    /// Connects and looks at nothing; for [`Self::migrate`] and [`Self::migration_status`].
    ///
    /// # Errors
    /// [`StoreError::Database`] if the server cannot be reached or refuses.
    pub async fn connect(config: PostgresConfig) -> Result<Self, StoreError> {
        let pool = PgPoolOptions::new()
            .max_connections(config.max_connections)
            .acquire_timeout(config.acquire_timeout);
        // On the heap, because the state of connecting is large and every caller would carry it.
        let pool = Box::pin(pool.connect_with(config.options.clone())).await?;
        Ok(Self {
            pool,
            options: Arc::new(config.options),
            key_parts: Arc::default(),
            objects: None,
        })
    }

    /// Applies the migrations that are missing, and returns their names.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn migrate(&self) -> Result<Vec<&'static str>, StoreError> {
        migrations::run(&self.pool).await
    }

    /// Says which migrations this software knows and which the database has.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn migration_status(&self) -> Result<Vec<MigrationStatus>, StoreError> {
        migrations::status(&self.pool).await
    }

    /// Keeps the bytes of new ciphertexts outside of the database. Those it has stay readable; all processes on a database use the same place.
    #[must_use]
    pub fn with_objects(self, objects: Arc<dyn CiphertextObjects>) -> Self {
        Self {
            objects: Some(objects),
            ..self
        }
    }

    /// Returns a tenant's part of the database.
    #[must_use]
    pub fn store(&self, tenant: &Tenant) -> PostgresStore {
        PostgresStore {
            database: self.clone(),
            tenant: tenant.id,
            chain_id: tenant.chain_id,
        }
    }

    /// Says how many connections there are.
    #[must_use]
    pub fn connections(&self) -> Connections {
        Connections {
            open: self.pool.size(),
            idle: self.pool.num_idle(),
            limit: self.pool.options().get_max_connections(),
        }
    }

    /// Closes all connections, waiting for calls in progress. Dropping without it loses nothing.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// A tenant's part of a database.
#[derive(Clone, Debug)]
pub struct PostgresStore {
    database: PostgresDatabase,
    tenant: TenantId,
    chain_id: u64,
}

impl PostgresStore {
    /// Returns the tenant.
    #[must_use]
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    fn pool(&self) -> &PgPool {
        &self.database.pool
    }

    /// Says whether a chain is the tenant's. What is asked about others is answered as if nothing were known.
    fn serves(&self, chain_id: u64) -> Result<bool, StoreError> {
        integer("chain id", chain_id)?;
        Ok(chain_id == self.chain_id)
    }

    /// Refuses to write what belongs to another chain.
    fn require(&self, chain_id: u64) -> Result<(), StoreError> {
        if self.serves(chain_id)? {
            return Ok(());
        }
        Err(StoreError::ForeignChain {
            expected: self.chain_id,
            found: chain_id,
        })
    }

    async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        Ok(self.pool().begin().await?)
    }
}

impl Database for PostgresDatabase {
    fn store(&self, tenant: &Tenant) -> Arc<dyn Store> {
        Arc::new(Self::store(self, tenant))
    }

    fn inspection(&self, tenant: &Tenant) -> Arc<dyn Inspection> {
        Arc::new(Self::store(self, tenant))
    }

    fn gateway_jobs(&self, deployment: &str) -> Arc<dyn GatewayJobs> {
        Arc::new(gateway_jobs::PostgresJobs::new(self, deployment))
    }

    fn callbacks(&self, site: &str) -> Arc<dyn Callbacks> {
        Arc::new(callbacks::PostgresCallbacks::new(self, site))
    }

    fn callback_sites(&self) -> StoreFuture<'_, Vec<CallbackSite>> {
        Box::pin(callbacks::sites(self))
    }

    fn tenants_by_turn<'a>(&'a self, among: &'a [TenantId], served_last: Option<TenantId>, now_ms: u64) -> StoreFuture<'a, Vec<TenantId>> {
        Box::pin(self.turns(among, served_last, now_ms))
    }

    fn changes(&self) -> BoxStream<'static, TenantId> {
        changes::listen(&self.options)
    }

    fn ping(&self) -> StoreFuture<'_, ()> {
        Box::pin(async {
            sqlx::query("SELECT 1").execute(&self.pool).await?;
            Ok(())
        })
    }

    fn check_schema(&self) -> StoreFuture<'_, ()> {
        Box::pin(migrations::check(&self.pool))
    }
}

impl Store for PostgresStore {
    fn recent_blocks(&self, chain_id: u64, limit: u32) -> StoreFuture<'_, Vec<BlockRef>> {
        Box::pin(blocks::recent(self, chain_id, limit))
    }

    fn record_blocks<'a>(&'a self, chain_id: u64, blocks: &'a [RecordedBlock]) -> StoreFuture<'a, ()> {
        Box::pin(blocks::record(self, chain_id, blocks))
    }

    fn record_pushed<'a>(&'a self, chain_id: u64, work: &'a PushedWork) -> StoreFuture<'a, ()> {
        Box::pin(pushed::record(self, chain_id, work))
    }

    fn add_names<'a>(&'a self, names: &'a [NamedHandle]) -> StoreFuture<'a, ()> {
        Box::pin(names::add(self, names))
    }

    fn handles_of_names<'a>(&'a self, names: &'a [Vec<u8>]) -> StoreFuture<'a, Vec<Option<Handle>>> {
        Box::pin(names::handles(self, names))
    }

    fn remove_blocks_from(&self, chain_id: u64, first_removed: u64) -> StoreFuture<'_, ()> {
        Box::pin(blocks::remove_from(self, chain_id, first_removed))
    }

    fn lease_transactions<'a>(&'a self, request: &'a LeaseRequest) -> StoreFuture<'a, Vec<LeasedTransaction>> {
        Box::pin(leases::lease(self, request))
    }

    fn renew_lease<'a>(&'a self, lease: &'a Lease, expires_at_ms: u64) -> StoreFuture<'a, ()> {
        Box::pin(leases::renew(self, lease, expires_at_ms))
    }

    fn release_lease<'a>(&'a self, lease: &'a Lease) -> StoreFuture<'a, ()> {
        Box::pin(leases::release(self, lease))
    }

    fn finish_transaction<'a>(&'a self, lease: &'a Lease, finished: &'a Finished) -> StoreFuture<'a, Vec<TransactionNumber>> {
        Box::pin(leases::finish(self, lease, finished))
    }

    fn admit_input<'a>(&'a self, input: &'a AdmittedInput, handles: &'a [Handle], now_ms: u64) -> StoreFuture<'a, ()> {
        Box::pin(handles::admit_input(self, input, handles, now_ms))
    }

    fn admitted_input(&self, key: InputKey) -> StoreFuture<'_, Option<AdmittedInput>> {
        Box::pin(handles::admitted_input(self, key))
    }

    fn ciphertexts<'a>(&'a self, handles: &'a [Handle]) -> StoreFuture<'a, Vec<Option<StoredCiphertext>>> {
        Box::pin(ciphertexts::find(self, handles))
    }

    fn ciphertext_heads<'a>(&'a self, handles: &'a [Handle]) -> StoreFuture<'a, Vec<Option<CiphertextHead>>> {
        Box::pin(ciphertexts::heads(self, handles))
    }

    fn add_ciphertexts<'a>(&'a self, ciphertexts: &'a [StoredCiphertext]) -> StoreFuture<'a, ()> {
        Box::pin(ciphertexts::add(self, ciphertexts))
    }

    fn ciphertexts_to_cool<'a>(&'a self, request: &'a CoolingRequest) -> StoreFuture<'a, Vec<Handle>> {
        Box::pin(ciphertexts::to_cool(self, request))
    }

    fn cool_ciphertext<'a>(&'a self, packed: &'a StoredCiphertext) -> StoreFuture<'a, ()> {
        Box::pin(ciphertexts::cool(self, packed))
    }

    fn known_handles<'a>(&'a self, handles: &'a [Handle]) -> StoreFuture<'a, Vec<bool>> {
        Box::pin(async move { handles::known(&mut *self.pool().acquire().await?, self.tenant, handles).await })
    }

    fn handle_state(&self, handle: Handle) -> StoreFuture<'_, HandleState> {
        Box::pin(handles::state(self, handle))
    }

    fn grants_of(&self, handle: Handle) -> StoreFuture<'_, Vec<Grantee>> {
        Box::pin(handles::grants_of(self, handle))
    }

    fn pending_transactions(&self, chain_id: u64) -> StoreFuture<'_, u64> {
        Box::pin(blocks::count_pending(self, chain_id))
    }

    fn changes(&self) -> BoxStream<'static, ()> {
        let own = self.tenant;
        let all = changes::listen(&self.database.options);
        all.filter_map(move |tenant| std::future::ready((tenant == own).then_some(())))
            .boxed()
    }
}
