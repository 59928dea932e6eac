//! Running what the options ask for, until a signal ends it.

use std::{
    num::NonZeroUsize,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process,
    sync::Arc,
    thread,
    time::Duration,
};

use alloy::{primitives::Address, signers::local::PrivateKeySigner};
use anyhow::{Context, Result, ensure};
use cipherloom_coprocessor::{
    CoprocessorConfig, Machine, MachineOptions, Tenancy, TenancyOptions, Workers, WorkersOptions,
    metrics::{METRICS_CONTENT_TYPE, Metrics},
    mirror::Publishing,
    server::{CoprocessorServer, ServerConfig, ServerHandle, ServerLimits, TlsIdentity},
    system_clock,
};
use cipherloom_engine::{Engine, PoolOptions};
use cipherloom_store::{Database, PostgresConfig, PostgresDatabase, SqliteStore};
use cipherloom_telemetry::{Health, MonitoringServer};
use futures_util::FutureExt;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{health::ProcessHealth, options::CoprocessorOptions, sampling, signals::Signals, signing_key};
use crate::database::random;

/// The exit code of a process that a second signal ended.
const INTERRUPTED: i32 = 130;

/// How often what became ready is published to the mirror.
const PUBLISHING_INTERVAL: Duration = Duration::from_secs(10);

/// The most bytes a PEM file may have.
const MAX_PEM_BYTES: u64 = 1 << 20;

/// Runs the process until it is told to stop.
///
/// # Errors
/// If something that the options name cannot be used, or an address is taken.
pub(super) fn run(options: &CoprocessorOptions, url: &str) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(usize::from(options.tokio_threads))
        .thread_name("tokio")
        .enable_all()
        .build()?
        .block_on(serve(options, url))
}

/// Returns how many threads compute.
fn fhe_threads(options: &CoprocessorOptions) -> NonZeroUsize {
    let wanted = NonZeroUsize::new(options.coprocessor_fhe_threads.into()).unwrap_or(NonZeroUsize::MIN);
    if options.settings.is_given("coprocessor-fhe-threads") {
        return wanted;
    }
    wanted.min(thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
}

async fn serve(options: &CoprocessorOptions, url: &str) -> Result<()> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    // Files first: a process that cannot sign need not touch a database.
    let signer = match options.run_server {
        true => signing_key::read(&options.coprocessor_private_key)?,
        false => unused_signer()?,
    };
    let tls = tls(options)?;
    let database = open_database(options, url).await?;
    let process = Box::pin(Process::start(options, database, signer, tls)).await?;
    process.announce(options);
    signals.next().await;
    tracing::info!(
        drain_seconds = options.drain_seconds,
        "told to stop; a second signal ends the process at once"
    );
    tokio::select! {
        ended = process.shutdown() => ended,
        () = signals.next() => {
            tracing::warn!("told to stop at once; leases end by themselves, and what was under way is computed again");
            process::exit(INTERRUPTED);
        }
    }
}

/// Makes a key for a process that signs nothing.
fn unused_signer() -> Result<PrivateKeySigner> {
    let bytes = Zeroizing::new(random::<32>()?);
    PrivateKeySigner::from_slice(bytes.as_slice()).context("the system's randomness made no key")
}

/// Everything that runs.
struct Process {
    server: Option<ServerHandle>,
    /// The task of the workers.
    workers: Option<JoinHandle<()>>,
    samples: JoinHandle<()>,
    /// The task that publishes to the mirror.
    publishing: Option<JoinHandle<()>>,
    monitoring: MonitoringServer,
    health: Arc<ProcessHealth>,
    stop: CancellationToken,
    summary: Summary,
}

/// What is told once everything runs.
struct Summary {
    worker: String,
    signer: Option<Address>,
    fhe_threads: NonZeroUsize,
}

impl Process {
    /// Starts everything.
    async fn start(
        options: &CoprocessorOptions,
        database: Arc<dyn Database>,
        signer: PrivateKeySigner,
        tls: Option<TlsIdentity>,
    ) -> Result<Self> {
        let metrics = Metrics::new();
        let stop = CancellationToken::new();
        let summary = Summary {
            worker: match &options.worker_name {
                Some(name) => name.clone(),
                None => worker_name()?,
            },
            signer: options.run_server.then(|| signer.address()),
            fhe_threads: fhe_threads(options),
        };
        let publishing = match &options.mirror {
            Some(mirror) if options.run_server => {
                let place = mirror.open().context("cannot use the mirror")?;
                let publishing = Publishing::new(
                    Arc::clone(&database),
                    place,
                    signer.clone(),
                    &summary.worker,
                    PUBLISHING_INTERVAL,
                    system_clock(),
                );
                let stop = stop.clone();
                Some(tokio::spawn(async move { publishing.run(stop).await }))
            }
            Some(mirror) => {
                tracing::info!(%mirror, "publishing to the mirror is left to the servers: this process has no key to sign with");
                None
            }
            None => None,
        };
        let tenancy = Tenancy::new(Arc::clone(&database), signer, tenancy_options(options, &summary, &metrics));
        let health = ProcessHealth::new(tenancy.clone(), metrics.clone(), options.run_server);
        // Health is served from the beginning: keys take a while to be read.
        let served = cipherloom_telemetry::Metrics {
            content_type: METRICS_CONTENT_TYPE,
            read: Arc::new({
                let metrics = metrics.clone();
                move || metrics.encode()
            }),
        };
        let monitoring = MonitoringServer::start(options.metrics_addr, served, Arc::clone(&health) as Arc<dyn Health>).await?;
        let server = if options.run_server {
            let server = CoprocessorServer::start(server_config(options, tls), tenancy.clone()).await?;
            health.watch_server(server.watch());
            Some(server)
        } else {
            None
        };
        let workers = options.run_bg_worker.then(|| {
            let workers = Workers::new(tenancy.clone(), workers_options(options));
            let interval = Duration::from_millis(options.worker_polling_interval_ms.into());
            let (stop, health) = (stop.clone(), Arc::clone(&health));
            tokio::spawn(async move {
                let ended = tokio::select! {
                    ended = AssertUnwindSafe(workers.run(stop.clone())).catch_unwind() => ended,
                    never = health.watch_workers(workers.statistics(), interval) => match never {},
                };
                if ended.is_err() || !stop.is_cancelled() {
                    tracing::error!("the workers ended by themselves; restart the process");
                    health.lose_workers();
                }
            })
        });
        let samples = tokio::spawn(sampling::run(tenancy, metrics, summary.fhe_threads, stop.clone()));
        Ok(Self {
            server,
            workers,
            samples,
            publishing,
            monitoring,
            health,
            stop,
            summary,
        })
    }

    /// Prints where everything is.
    fn announce(&self, options: &CoprocessorOptions) {
        let address = self.server.as_ref().map(|server| server.address().to_string());
        let metrics = self.monitoring.address().to_string();
        if options.json {
            println!(
                "{}",
                json!({
                    "serverAddress": address,
                    "metricsAddress": metrics,
                    "signerAddress": self.summary.signer.map(|signer| signer.to_checksum(None)),
                    "worker": self.workers.as_ref().map(|_| &self.summary.worker),
                    "fheThreads": self.summary.fhe_threads,
                    "policy": options.engine.schedule.name(),
                })
            );
            return;
        }
        if let Some((address, signer)) = address.zip(self.summary.signer) {
            println!("API on {address}, signing as {}", signer.to_checksum(None));
        }
        if self.workers.is_some() {
            println!(
                "worker {} with {} FHE threads, policy {}",
                self.summary.worker, self.summary.fhe_threads, options.engine.schedule
            );
        }
        println!("metrics on http://{metrics}/metrics, health on http://{metrics}/health");
    }

    /// Lets requests and computations under way finish, and ends everything.
    async fn shutdown(self) -> Result<()> {
        self.health.drain();
        self.stop.cancel();
        let server = async {
            match self.server {
                Some(server) => server.shutdown().await,
                None => Ok(()),
            }
        };
        let workers = async {
            if let Some(workers) = self.workers {
                // The task catches panics of what it runs.
                let _ = workers.await;
            }
        };
        let (server, ()) = tokio::join!(server, workers);
        let _ = self.samples.await;
        if let Some(publishing) = self.publishing {
            let _ = publishing.await;
        }
        self.monitoring.shutdown().await;
        tracing::info!("stopped");
        server.context("the server had ended before it was told to")
    }
}

/// Makes a name that no other process has.
fn worker_name() -> Result<String> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = host.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("worker");
    Ok(format!("{host}-{}", hex::encode(random::<4>()?)))
}

fn tenancy_options(options: &CoprocessorOptions, summary: &Summary, metrics: &Metrics) -> TenancyOptions {
    let machine = Machine::new(MachineOptions {
        processors: Some(summary.fhe_threads),
        ciphertext_cache_bytes: usize::try_from(options.ciphertext_cache_mib)
            .unwrap_or(usize::MAX)
            .saturating_mul(1 << 20),
    });
    let defaults = TenancyOptions::new(machine);
    TenancyOptions {
        coprocessors: CoprocessorConfig {
            owner: summary.worker.clone(),
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

fn workers_options(options: &CoprocessorOptions) -> WorkersOptions {
    let defaults = WorkersOptions::default();
    WorkersOptions {
        concurrent: options.concurrent_transactions.map_or(defaults.concurrent, usize::from),
        batch: options.work_items_batch_size.into(),
        polling_interval: Duration::from_millis(options.worker_polling_interval_ms.into()),
        drain: Duration::from_secs(options.drain_seconds.into()),
        ..defaults
    }
}

/// Opens the database of the deployment.
///
/// # Errors
/// If it cannot be reached, its schema cannot be used, or another process uses the embedded one.
async fn open_database(options: &CoprocessorOptions, url: &str) -> Result<Arc<dyn Database>> {
    if let Some(path) = sqlite_path(url) {
        ensure!(
            options.ciphertext_store.is_none(),
            "--ciphertext-store is for PostgreSQL; an embedded database keeps the bytes itself"
        );
        let store = Box::pin(SqliteStore::open(&path))
            .await
            .with_context(|| format!("cannot open the embedded database {}", path.display()))?;
        return Ok(Arc::new(store));
    }
    let config = PostgresConfig::new(url)?.max_connections(options.pg_pool_max_connections);
    let opened = match options.no_migrate {
        true => PostgresDatabase::open_migrated(config).await,
        false => PostgresDatabase::open(config).await,
    };
    let database = opened.context("cannot open the database")?;
    let Some(objects) = &options.ciphertext_store else {
        return Ok(Arc::new(database));
    };
    ensure!(
        objects.is_writable(),
        "--ciphertext-store {objects} can only be read; name the place that is published there"
    );
    let place = objects.open().context("cannot use the place for ciphertexts")?;
    Ok(Arc::new(database.with_objects(place)))
}

/// Returns the file of an embedded database's URL.
fn sqlite_path(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("sqlite:")?;
    Some(Path::new(path.strip_prefix("//").unwrap_or(path)).to_owned())
}

/// Reads the server's certificate and key.
fn tls(options: &CoprocessorOptions) -> Result<Option<TlsIdentity>> {
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
fn server_config(options: &CoprocessorOptions, tls: Option<TlsIdentity>) -> ServerConfig {
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
