//! The parts of a running coprocessor: started in order, announced, and ended in reverse.

use std::{num::NonZeroUsize, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use alloy::{primitives::Address, signers::local::PrivateKeySigner};
use anyhow::{Context, Result};
use cipherloom_coprocessor::{
    Followers, Squashing, SquashingAhead, Tenancy, TenancyOptions, Workers,
    metrics::{METRICS_CONTENT_TYPE, Metrics},
    mirror::Publishing,
    server::{CoprocessorServer, ServerHandle, TlsIdentity},
    system_clock,
};
use cipherloom_telemetry::{Health, MonitoringServer};
use futures_util::FutureExt;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    health::ProcessHealth,
    options::CoprocessorOptions,
    sampling::{self, Sampled},
    setup::{self, Opened},
};

/// How often what became ready is published to the mirror.
const PUBLISHING_INTERVAL: Duration = Duration::from_secs(10);

/// Everything that runs.
pub(super) struct Process {
    server: Option<ServerHandle>,
    /// The task of the workers.
    workers: Option<JoinHandle<()>>,
    /// The task that follows chains.
    followers: Option<JoinHandle<()>>,
    samples: JoinHandle<()>,
    /// The task that publishes to the mirror.
    publishing: Option<JoinHandle<()>>,
    /// What squashes for committees.
    squashing: Option<Arc<Squashing>>,
    /// The task that has public values squashed before somebody asks.
    squashing_ahead: Option<JoinHandle<()>>,
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
    ///
    /// # Errors
    /// If an address is taken, or the certificate or the mirror cannot be used.
    pub(super) async fn start(
        options: &CoprocessorOptions,
        Opened { database, postgres }: Opened,
        signer: PrivateKeySigner,
        tls: Option<TlsIdentity>,
    ) -> Result<Self> {
        let metrics = Metrics::new();
        let stop = CancellationToken::new();
        let summary = Summary {
            worker: match &options.worker_name {
                Some(name) => name.clone(),
                None => setup::worker_name()?,
            },
            signer: options.run_server.then(|| signer.address()),
            fhe_threads: setup::fhe_threads(options),
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
        // Only servers are asked for squashed values.
        let squashing = options
            .run_server
            .then(|| Squashing::start(setup::squashing_options(options, summary.fhe_threads), metrics.clone()));
        let tenancy = Tenancy::new(
            Arc::clone(&database),
            signer,
            TenancyOptions {
                squashing: squashing.clone(),
                ..setup::tenancy_options(options, &summary.worker, summary.fhe_threads, &metrics)
            },
        );
        let squashing_ahead = squashing
            .as_ref()
            .is_some_and(|squashing| squashing.options().public_ahead)
            .then(|| {
                let (ahead, stop) = (SquashingAhead::new(tenancy.clone()), stop.clone());
                tokio::spawn(async move { ahead.run(stop).await })
            });
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
            let server = CoprocessorServer::start(setup::server_config(options, tls), tenancy.clone()).await?;
            health.watch_server(server.watch());
            Some(server)
        } else {
            None
        };
        let workers = options.run_bg_worker.then(|| {
            let workers = Workers::new(tenancy.clone(), setup::workers_options(options));
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
        let followers = options.run_follower.then(|| {
            let followers = Followers::new(
                Arc::clone(tenancy.database()),
                setup::followers_options(options, &summary.worker, &metrics),
            );
            let (stop, health) = (stop.clone(), Arc::clone(&health));
            tokio::spawn(async move {
                let ended = AssertUnwindSafe(followers.run(stop.clone())).catch_unwind().await;
                if ended.is_err() || !stop.is_cancelled() {
                    tracing::error!("following chains ended by itself; restart the process");
                    health.lose_workers();
                }
            })
        });
        let sampled = Sampled {
            tenancy,
            postgres,
            threads: summary.fhe_threads,
        };
        let samples = tokio::spawn(sampling::run(sampled, metrics, stop.clone()));
        Ok(Self {
            server,
            workers,
            followers,
            samples,
            publishing,
            squashing,
            squashing_ahead,
            monitoring,
            health,
            stop,
            summary,
        })
    }

    /// Prints where everything is.
    pub(super) fn announce(&self, options: &CoprocessorOptions) {
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
                    "follower": self.followers.as_ref().map(|_| &self.summary.worker),
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
        if self.followers.is_some() {
            println!("follower {}", self.summary.worker);
        }
        println!("metrics on http://{metrics}/metrics, health on http://{metrics}/health");
    }

    /// Lets requests and computations under way finish, and ends everything.
    ///
    /// # Errors
    /// If the server had ended by itself.
    pub(super) async fn shutdown(self) -> Result<()> {
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
        if let Some(followers) = self.followers {
            // The task catches panics of what it runs.
            let _ = followers.await;
        }
        let _ = self.samples.await;
        if let Some(publishing) = self.publishing {
            let _ = publishing.await;
        }
        if let Some(ahead) = self.squashing_ahead {
            let _ = ahead.await;
        }
        if let Some(squashing) = self.squashing {
            squashing.shutdown().await;
        }
        self.monitoring.shutdown().await;
        tracing::info!("stopped");
        server.context("the server had ended before it was told to")
    }
}
