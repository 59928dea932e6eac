//! Whether the process works, and whether it should get work.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use cipherloom_coprocessor::metrics::Metrics;
use cipherloom_store::Database;
use cipherloom_telemetry::{Check, Checks, Health};
use futures_util::future::BoxFuture;

/// The health of a coprocessor process.
pub(super) struct ProcessHealth {
    database: Arc<dyn Database>,
    metrics: Metrics,
    /// Whether it was told to stop.
    draining: AtomicBool,
    /// Whether its workers ended although nobody told them to.
    workers_lost: AtomicBool,
}

impl ProcessHealth {
    pub(super) fn new(database: Arc<dyn Database>, metrics: Metrics) -> Arc<Self> {
        metrics.process().set_draining(false);
        Arc::new(Self {
            database,
            metrics,
            draining: AtomicBool::new(false),
            workers_lost: AtomicBool::new(false),
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
}

impl Health for ProcessHealth {
    fn live(&self) -> Checks {
        vec![match self.workers_lost.load(Ordering::Relaxed) {
            false => Check::passed("workers", "as they should be"),
            true => Check::failed("workers", "they ended by themselves; see the log"),
        }]
    }

    fn ready(&self) -> BoxFuture<'_, Checks> {
        Box::pin(async move {
            let draining = match self.draining.load(Ordering::Relaxed) {
                false => Check::passed("accepting", "yes"),
                true => Check::failed("accepting", "the process was told to stop and finishes what is under way"),
            };
            let database = match self.database.ping().await {
                Ok(()) => Check::passed("database", "it answers"),
                // What the database says can name tables and hosts; the log has it.
                Err(error) => {
                    tracing::warn!(%error, "the database does not answer");
                    Check::failed("database", "it does not answer")
                }
            };
            let checks = vec![draining, database];
            for check in &checks {
                self.metrics.process().set_ready(check.name, check.passed);
            }
            checks
        })
    }
}
