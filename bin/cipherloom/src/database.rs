//! Which database a command uses: given by URL, opened with an error that helps.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use cipherloom_contracts::HostAddresses;
use cipherloom_store::{
    ApiKey, Callbacks, CiphertextDirectory, Database, GatewayJobs, NewTenant, PostgresConfig, PostgresDatabase, SqliteStore, Store, Tenant,
    Tenants,
};
use clap::Args;

/// Where `demo` and `dev` keep blocks, inputs and ciphertexts.
#[derive(Clone, Args)]
pub(crate) struct StoreOptions {
    /// Keep blocks, inputs and ciphertexts in this PostgreSQL database instead of a file in the data directory:
    /// `postgres://USER:PASSWORD@HOST/DATABASE`. The schema is brought up to date, and each data directory is a tenant of its own.
    #[arg(long, value_name = "URL", env = "CIPHERLOOM_DATABASE_URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,

    /// Keep the bytes of ciphertexts in this directory, by digest, instead of in the database. All processes on the database need the same
    /// directory; a web server can publish it as it is.
    #[arg(long, value_name = "DIR", requires = "database_url")]
    pub(crate) ciphertext_dir: Option<PathBuf>,
}

impl std::fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL holds a password.
        f.debug_struct("StoreOptions").finish_non_exhaustive()
    }
}

/// What the callbacks of a stack are called in a file of its own.
const CALLBACK_SITE: &str = "stack";

/// The store of a stack.
pub(crate) struct StackStore {
    /// The store.
    pub(crate) store: Arc<dyn Store>,
    /// The jobs of its gateway. An embedded store is written to while values are computed, for long at a time, so they have a file of their own.
    pub(crate) jobs: Arc<dyn GatewayJobs>,
    /// Decryptions that contracts asked for; in the same place.
    pub(crate) callbacks: Arc<dyn Callbacks>,
    /// Where it is in a shared database.
    shared: Option<(PostgresDatabase, Tenant)>,
    /// Keeps other processes out of the data directory; an embedded store has a lock of its own.
    _lock: Option<File>,
}

impl StackStore {
    /// Opens the store of the stack whose data is in a directory, for a chain and the host contracts there. A second process on the directory
    /// fails here.
    ///
    /// # Errors
    /// If another process uses the directory, or the store cannot be opened.
    pub(crate) async fn open(options: &StoreOptions, state: &Path, chain_id: u64, addresses: &HostAddresses) -> Result<Self> {
        let Some(url) = &options.database_url else {
            let store = Box::pin(SqliteStore::open(&state.join("store.sqlite")))
                .await
                .context("cannot open the store")?;
            let jobs = Box::pin(SqliteStore::open(&state.join("gateway-jobs.sqlite")))
                .await
                .context("cannot open the store of the gateway's jobs")?;
            return Ok(Self {
                store: Arc::new(store),
                jobs: jobs.gateway_jobs("stack"),
                callbacks: jobs.callbacks(CALLBACK_SITE),
                shared: None,
                _lock: None,
            });
        };
        let lock = lock(&state.join("stack.lock"))?;
        let mut database = open(url).await?;
        if let Some(directory) = &options.ciphertext_dir {
            let objects = CiphertextDirectory::open(directory).context("cannot use the directory for ciphertexts")?;
            database = database.with_objects(Arc::new(objects));
        }
        let tenant = stack_tenant(&database, &state.join("tenant"), chain_id, addresses).await?;
        tracing::info!(tenant = tenant.name, "blocks, inputs and ciphertexts are in the database");
        Ok(Self {
            store: Arc::new(database.store(&tenant)),
            jobs: database.gateway_jobs(&tenant.name),
            callbacks: database.callbacks(&tenant.name),
            shared: Some((database, tenant)),
            _lock: Some(lock),
        })
    }

    /// Returns what its callbacks are called.
    pub(crate) fn callback_site(&self) -> String {
        self.shared.as_ref().map_or(CALLBACK_SITE, |(_, tenant)| &tenant.name).to_owned()
    }

    /// Deletes what a stack leaves in a shared database; what is in the directory goes with it.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn forget(&self) -> Result<()> {
        if let Some((database, tenant)) = &self.shared {
            self.callbacks
                .clear()
                .await
                .context("cannot remove the callbacks from the database")?;
            self.jobs
                .clear()
                .await
                .context("cannot remove the gateway's jobs from the database")?;
            database
                .remove_tenant(tenant.id)
                .await
                .context("cannot remove the stack from the database")?;
        }
        Ok(())
    }
}

/// Finds the tenant whose name is in a file, or makes one. The name is random, because the chain belongs to the directory: two
/// directories on one database are two chains, although both may have the same number.
async fn stack_tenant(database: &PostgresDatabase, file: &Path, chain_id: u64, addresses: &HostAddresses) -> Result<Tenant> {
    let name = match std::fs::read_to_string(file) {
        Ok(name) => name.trim().to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let name = format!("dev-{}", hex::encode(random::<6>()?));
            std::fs::write(file, &name).with_context(|| format!("cannot write {}", file.display()))?;
            name
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    if let Some(tenant) = database.tenants().await?.into_iter().find(|tenant| tenant.name == name) {
        ensure!(
            tenant.chain_id == chain_id,
            "tenant {name} of the database is of chain {}, not {chain_id}; the data directory belongs to another database",
            tenant.chain_id
        );
        return Ok(tenant);
    }
    let new = NewTenant {
        name,
        chain_id,
        acl: addresses.acl,
        input_verifier: addresses.input_verifier,
        is_admin: false,
    };
    // Nobody calls as this tenant, so nobody needs to know its key.
    Ok(database.add_tenant(&new, ApiKey::from_random(random()?).digest()).await?)
}

/// Returns random bytes of the operating system.
///
/// # Errors
/// If it has none.
pub(crate) fn random<const LENGTH: usize>() -> Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("the system gives no randomness: {error}"))?;
    Ok(bytes)
}

fn lock(path: &PathBuf) -> Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            bail!(
                "another process uses the data directory ({}); stop it or choose another one",
                path.display()
            )
        }
        Err(std::fs::TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// The database of commands that administrate one.
#[derive(Clone, Args)]
pub(crate) struct DatabaseOptions {
    /// The database: `postgres://USER:PASSWORD@HOST/DATABASE`, or `sqlite:FILE` for an embedded store. A password is safer in the
    /// environment than on the command line, which other users can see.
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    pub(crate) database_url: String,
}

impl std::fmt::Debug for DatabaseOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL holds a password.
        f.debug_struct("DatabaseOptions").finish_non_exhaustive()
    }
}

/// Connects to a PostgreSQL database and looks at nothing in it.
///
/// # Errors
/// If the URL is none of PostgreSQL, or the server cannot be reached.
pub(crate) async fn connect(url: &str) -> Result<PostgresDatabase> {
    if url.starts_with("sqlite:") {
        bail!("an embedded store brings its schema up to date whenever it is opened; this command is for PostgreSQL");
    }
    PostgresDatabase::connect(PostgresConfig::new(url)?)
        .await
        .context("cannot connect to the database")
}

/// Opens a PostgreSQL database, bringing its schema up to date.
///
/// # Errors
/// If it cannot be reached, or its schema cannot be used.
pub(crate) async fn open(url: &str) -> Result<PostgresDatabase> {
    PostgresDatabase::open(PostgresConfig::new(url)?)
        .await
        .context("cannot open the database")
}

/// Opens a database with all its tenants and what they have to compute. Bytes outside of it are not needed.
///
/// # Errors
/// As [`tenants`].
pub(crate) async fn shared(options: &DatabaseOptions) -> Result<Arc<dyn Database>> {
    if let Some(path) = options.database_url.strip_prefix("sqlite:") {
        let path = Path::new(path.strip_prefix("//").unwrap_or(path));
        let store = Box::pin(SqliteStore::open(path)).await.context("cannot open the embedded store")?;
        return Ok(Arc::new(store));
    }
    let database = PostgresDatabase::open_migrated(PostgresConfig::new(&options.database_url)?)
        .await
        .context("cannot open the database")?;
    Ok(Arc::new(database))
}

/// Opens the tenants of a database.
///
/// # Errors
/// If it cannot be reached, its schema is not the newest, or another process uses the embedded store.
pub(crate) async fn tenants(options: &DatabaseOptions) -> Result<Arc<dyn Tenants>> {
    if let Some(path) = options.database_url.strip_prefix("sqlite:") {
        let path = Path::new(path.strip_prefix("//").unwrap_or(path));
        let store = Box::pin(SqliteStore::open(path)).await.context("cannot open the embedded store")?;
        return Ok(Arc::new(store));
    }
    let database = PostgresDatabase::open_migrated(PostgresConfig::new(&options.database_url)?)
        .await
        .context("cannot open the database")?;
    Ok(Arc::new(database))
}
