//! From options to what the parts are told.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use cipherloom_coprocessor::{
    CoprocessorConfig, FollowersOptions, Machine, MachineOptions, SquashingOptions, TenancyOptions, WorkersOptions,
    metrics::Metrics,
    server::{ServerConfig, ServerLimits, TlsIdentity},
};
use cipherloom_engine::{Engine, PoolOptions};
use cipherloom_store::{Database, PostgresConfig, PostgresDatabase, SqliteStore};
use zeroize::Zeroizing;

use super::options::CoprocessorOptions;
use crate::database::random;

/// The most bytes a PEM file may have.
const MAX_PEM_BYTES: u64 = 1 << 20;

/// Returns how many threads compute.
pub(super) fn fhe_threads(options: &CoprocessorOptions) -> NonZeroUsize {
    let wanted = NonZeroUsize::new(options.coprocessor_fhe_threads.into()).unwrap_or(NonZeroUsize::MIN);
    if options.settings.is_given("coprocessor-fhe-threads") {
        return wanted;
    }
    wanted.min(thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
}

/// Makes a name that no other process has.
///
/// # Errors
/// If the system gives no randomness.
pub(super) fn worker_name() -> Result<String> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = host.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("worker");
    Ok(format!("{host}-{}", hex::encode(random::<4>()?)))
}

/// Tells the coprocessors of tenants what they have in common.
pub(super) fn tenancy_options(options: &CoprocessorOptions, worker: &str, threads: NonZeroUsize, metrics: &Metrics) -> TenancyOptions {
    let machine = Machine::new(MachineOptions {
        processors: Some(threads),
        ciphertext_cache_bytes: usize::try_from(options.ciphertext_cache_mib)
            .unwrap_or(usize::MAX)
            .saturating_mul(1 << 20),
    });
    let defaults = TenancyOptions::new(machine);
    TenancyOptions {
        coprocessors: CoprocessorConfig {
            owner: worker.to_owned(),
            lease_duration: Duration::from_secs(options.lease_seconds.into()),
            metrics: metrics.clone(),
            ..defaults.coprocessors
        },
        pool: PoolOptions {
            engine: Engine {
                policy: options.engine.schedule,
                ..Engine::default()
            },
            ..defaults.pool
        },
        key_cache_size: options.tenant_key_cache_size.into(),
        insecure_keys: options.insecure_keys,
        ..defaults
    }
}

/// Tells how much of the process squashing may take.
pub(super) fn squashing_options(options: &CoprocessorOptions, threads: NonZeroUsize) -> SquashingOptions {
    let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    SquashingOptions {
        concurrent: options.squashing_concurrency.map_or((threads.get() / 6).max(1), usize::from),
        batch: options.squashing_batch.into(),
        waiting: number(options.squashing_waiting),
        memory_bytes: number(options.squashing_memory_mib).saturating_mul(1 << 20),
        keep: Duration::from_hours(24).saturating_mul(options.squashing_keep_days),
        public_ahead: options.squash_public_values,
        release_keys_after: Duration::from_mins(options.squashing_release_keys_minutes.into()),
    }
}

/// Tells the followers how to follow.
pub(super) fn followers_options(options: &CoprocessorOptions, name: &str, metrics: &Metrics) -> FollowersOptions {
    FollowersOptions {
        poll_interval: Duration::from_millis(options.follower_polling_interval_ms.into()),
        rollback_patience: Duration::from_secs(options.follower_rollback_seconds.into()),
        lease_duration: Duration::from_secs(options.follower_lease_seconds.into()),
        ..FollowersOptions::new(name, metrics.clone())
    }
}

/// Tells the workers how to share the process.
pub(super) fn workers_options(options: &CoprocessorOptions) -> WorkersOptions {
    let defaults = WorkersOptions::default();
    WorkersOptions {
        concurrent: options.concurrent_transactions.map_or(defaults.concurrent, usize::from),
        batch: options.work_items_batch_size.into(),
        polling_interval: Duration::from_millis(options.worker_polling_interval_ms.into()),
        drain: Duration::from_secs(options.drain_seconds.into()),
        ..defaults
    }
}

/// An open database.
pub(super) struct Opened {
    pub(super) database: Arc<dyn Database>,
    /// The same, if it has connections to count.
    pub(super) postgres: Option<PostgresDatabase>,
}

/// Opens the database of the deployment.
///
/// # Errors
/// If it cannot be reached, its schema cannot be used, or another process uses the embedded one.
pub(super) async fn open_database(options: &CoprocessorOptions, url: &str) -> Result<Opened> {
    if let Some(path) = sqlite_path(url) {
        ensure!(
            options.ciphertext_store.is_none(),
            "--ciphertext-store is for PostgreSQL; an embedded database keeps the bytes itself"
        );
        let store = Box::pin(SqliteStore::open(&path))
            .await
            .with_context(|| format!("cannot open the embedded database {}", path.display()))?;
        return Ok(Opened {
            database: Arc::new(store),
            postgres: None,
        });
    }
    let config = PostgresConfig::new(url)?.max_connections(options.pg_pool_max_connections);
    let opened = match options.no_migrate {
        true => PostgresDatabase::open_migrated(config).await,
        false => PostgresDatabase::open(config).await,
    };
    let mut database = opened.context("cannot open the database")?;
    if let Some(objects) = &options.ciphertext_store {
        ensure!(
            objects.is_writable(),
            "--ciphertext-store {objects} can only be read; name the place that is published there"
        );
        let place = objects.open().context("cannot use the place for ciphertexts")?;
        database = database.with_objects(place);
    }
    Ok(Opened {
        postgres: Some(database.clone()),
        database: Arc::new(database),
    })
}

/// Returns the file of an embedded database's URL.
fn sqlite_path(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("sqlite:")?;
    Some(Path::new(path.strip_prefix("//").unwrap_or(path)).to_owned())
}

/// Reads the server's certificate and key, if there are any.
///
/// # Errors
/// If a file cannot be read.
pub(super) fn tls(options: &CoprocessorOptions) -> Result<Option<TlsIdentity>> {
    let (Some(certificate), Some(key)) = (&options.tls_certificate, &options.tls_private_key) else {
        return Ok(None);
    };
    let read = |path: &Path| {
        let size = std::fs::metadata(path)
            .with_context(|| format!("cannot read {}", path.display()))?
            .len();
        ensure!(size <= MAX_PEM_BYTES, "{} is too large for a PEM file", path.display());
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    Ok(Some(TlsIdentity::from_pem(
        read(certificate)?,
        Zeroizing::new(read(key)?).as_slice(),
    )))
}

/// Tells the server what it may accept.
pub(super) fn server_config(options: &CoprocessorOptions, tls: Option<TlsIdentity>) -> ServerConfig {
    let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let defaults = ServerConfig::new(options.server_addr);
    ServerConfig {
        limits: ServerLimits {
            ciphertexts_to_schedule: number(options.server_maximum_ciphertexts_to_schedule),
            ciphertexts_to_get: number(options.server_maximum_ciphertexts_to_get),
            compact_inputs: options.maximimum_compact_inputs_upload.into(),
            handles_per_input: options.maximum_handles_per_input.into(),
            ..defaults.limits
        },
        tls,
        drain_timeout: Duration::from_secs(options.drain_seconds.into()),
        ..defaults
    }
}
