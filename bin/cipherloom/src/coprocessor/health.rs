//! Whether the process works, and whether it should get work.
//!
//! Liveness depends on nothing outside of the process: what a restart does not mend is no reason for one. Readiness depends on all it needs.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use cipherloom_coprocessor::{CoprocessorError, Tenancy, WorkersStatistics, metrics::Metrics};
use cipherloom_store::StoreError;
use cipherloom_telemetry::{Check, Checks, Health};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

/// How much longer than their interval workers may take to look for work, which is asking the database.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much longer they may take until only a restart helps. A database that hangs lets go of them before.
const STUCK: Duration = Duration::from_secs(600);

/// The health of a coprocessor process.
pub(super) struct ProcessHealth {
    tenancy: Tenancy,
    metrics: Metrics,
    /// Whether it was told to stop.
    draining: AtomicBool,
    /// Whether its workers ended although nobody told them to.
    workers_lost: AtomicBool,
    /// Says whether the server is over, once it was started; nothing if there is to be none.
    server: Option<OnceLock<Box<dyn Fn() -> bool + Send + Sync>>>,
    /// What the workers are at; nothing if there are none.
    workers: Mutex<Option<Watched>>,
}

/// What is known about the workers.
#[derive(Clone, Copy)]
struct Watched {
    interval: Duration,
    last_round: Instant,
    reached_database: bool,
}

impl ProcessHealth {
    pub(super) fn new(tenancy: Tenancy, metrics: Metrics, serves: bool) -> Arc<Self> {
        metrics.process().set_draining(false);
        Arc::new(Self {
            tenancy,
            metrics,
            draining: AtomicBool::new(false),
            workers_lost: AtomicBool::new(false),
            server: serves.then(OnceLock::new),
            workers: Mutex::default(),
        })
    }

    /// Notes that the process was told to stop.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.metrics.process().set_draining(true);
    }

    /// Notes that the workers ended by themselves, which only a restart mends.
    pub(super) fn lose_workers(&self) {
        self.workers_lost.store(true, Ordering::Relaxed);
    }

    /// Notes that the server was started, and how to find out whether it is over.
    pub(super) fn watch_server(&self, is_over: impl Fn() -> bool + Send + Sync + 'static) {
        if let Some(server) = &self.server {
            // It is started once.
            let _ = server.set(Box::new(is_over));
        }
    }

    /// Notes what the workers are at, for as long as it is asked to. They say so after each look for work, which is at least once in an interval.
    pub(super) async fn watch_workers(&self, mut statistics: watch::Receiver<WorkersStatistics>, interval: Duration) -> Infallible {
        loop {
            let reached_database = statistics.borrow_and_update().reached_database;
            *self.workers() = Some(Watched {
                interval,
                last_round: Instant::now(),
                reached_database,
            });
            if statistics.changed().await.is_err() {
                // They are gone; what is known of them gets old.
                std::future::pending::<()>().await;
            }
        }
    }

    fn workers(&self) -> std::sync::MutexGuard<'_, Option<Watched>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    fn accepting(&self) -> Check {
        match self.is_draining() {
            false => Check::passed("accepting", "yes"),
            true => Check::failed("accepting", "the process was told to stop and finishes what is under way"),
        }
    }

    fn server(&self) -> Option<Check> {
        Some(match self.server.as_ref()?.get() {
            None => Check::failed("server", "it starts"),
            Some(is_over) if is_over() => Check::failed("server", "it ended by itself; see the log"),
            Some(_) => Check::passed("server", "it listens"),
        })
    }

    fn work(&self) -> Option<Check> {
        let watched = (*self.workers())?;
        let since = watched.last_round.elapsed();
        Some(if since > watched.interval + PATIENCE {
            Check::failed("work", format!("not looked for since {} s", since.as_secs()))
        } else if watched.reached_database {
            Check::passed("work", "looked for")
        } else {
            Check::failed("work", "cannot be looked for; see the log")
        })
    }

    async fn database(&self) -> Check {
        match self.tenancy.database().ping().await {
            Ok(()) => Check::passed("database", "it answers"),
            Err(error) => told("database", "it does not answer; see the log", &error),
        }
    }

    async fn schema(&self) -> Check {
        match self.tenancy.database().check_schema().await {
            Ok(()) => Check::passed("schema", "as this software has it"),
            Err(error @ StoreError::Database(_)) => told("schema", "it cannot be read; see the log", &error),
            Err(error) => Check::failed("schema", error.to_string()),
        }
    }

    /// Looks for a tenant whose keys can be used. If no tenant has any, there is nothing to be ready for, and what comes can be served.
    async fn keys(&self) -> Check {
        let tenants = match self.tenancy.database().tenants().await {
            Ok(tenants) => tenants,
            Err(error) => return told("keys", "tenants cannot be read; see the log", &error),
        };
        let mut refused = Vec::new();
        for tenant in tenants.iter().filter(|tenant| !tenant.disabled) {
            match self.tenancy.keys_of(tenant).await {
                Ok(_) => return Check::passed("keys", "there are some that can be used"),
                Err(CoprocessorError::NoKeys { .. }) => {}
                Err(CoprocessorError::KeysRefused { .. }) => refused.push(tenant.name.as_str()),
                Err(error) => return told("keys", "they cannot be read; see the log", &error),
            }
        }
        match refused.as_slice() {
            [] => Check::passed("keys", "no tenant has any yet"),
            [name, ..] => Check::failed("keys", format!("no tenant has keys that can be used; see the log about {name}")),
        }
    }
}

/// What the database says can name tables and hosts; the log has it, and who asks does not learn it.
fn told(check: &'static str, detail: &'static str, error: &dyn std::error::Error) -> Check {
    tracing::warn!(%error, check, "not ready");
    Check::failed(check, detail)
}

impl Health for ProcessHealth {
    fn live(&self) -> Checks {
        let stuck = self
            .workers()
            .is_some_and(|watched| watched.last_round.elapsed() > watched.interval + STUCK);
        vec![if self.workers_lost.load(Ordering::Relaxed) {
            Check::failed("workers", "they ended by themselves; see the log")
        } else if stuck && !self.is_draining() {
            Check::failed("workers", "they have not looked for work for more than ten minutes")
        } else {
            Check::passed("workers", "as they should be")
        }]
    }

    fn ready(&self) -> BoxFuture<'_, Checks> {
        Box::pin(async move {
            let mut checks = vec![self.accepting()];
            checks.extend(self.server());
            checks.extend(self.work());
            let database = self.database().await;
            // Without an answer there is nothing more to ask.
            let answers = database.passed;
            checks.push(database);
            if answers {
                checks.push(self.schema().await);
                checks.push(self.keys().await);
            }
            for check in &checks {
                self.metrics.process().set_ready(check.name, check.passed);
            }
            checks
        })
    }
}
