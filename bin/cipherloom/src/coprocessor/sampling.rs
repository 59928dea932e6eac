//! What metrics show of things that do not report by themselves: backlogs in the database, connections, engines, the cache of ciphertexts.

use std::{collections::HashSet, num::NonZeroUsize, time::Duration};

use cipherloom_coprocessor::{
    Tenancy,
    metrics::{EngineReading, Metrics, QueueReading},
};
use cipherloom_store::{Backlog, PostgresDatabase, StoreError};
use tokio_util::sync::CancellationToken;

/// How often these are read. Prometheus asks every fifteen seconds or so.
const INTERVAL: Duration = Duration::from_secs(5);

/// What is read.
pub(super) struct Sampled {
    pub(super) tenancy: Tenancy,
    /// The database, if it has connections to count.
    pub(super) postgres: Option<PostgresDatabase>,
    /// How many threads compute.
    pub(super) threads: NonZeroUsize,
}

/// Reads it until told to stop.
pub(super) async fn run(sampled: Sampled, metrics: Metrics, stop: CancellationToken) {
    let Sampled {
        tenancy,
        postgres,
        threads,
    } = sampled;
    let mut engines = EngineReading::default();
    let mut known = HashSet::new();
    loop {
        metrics.fhe().set_engines(threads.get(), &mut engines, tenancy.engine_statistics());
        metrics.caches().set_key_sets(tenancy.key_sets_kept());
        metrics.caches().set_ciphertext_cache(&tenancy.options().machine.cache_statistics());
        if let Some(connections) = postgres.as_ref().map(PostgresDatabase::connections) {
            metrics
                .caches()
                .set_connections(connections.open, connections.idle, connections.limit);
        }
        // A busy database takes its time; whoever stops does not wait for a figure nobody will read.
        let read = stop.run_until_cancelled(read_backlogs(&tenancy, &metrics, &mut known)).await;
        if let Some(Err(error)) = read {
            metrics.queue().read_failed();
            tracing::warn!(%error, "the backlogs could not be read");
        }
        if stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_none() {
            return;
        }
    }
}

async fn read_backlogs(tenancy: &Tenancy, metrics: &Metrics, known: &mut HashSet<String>) -> Result<(), StoreError> {
    let database = tenancy.database();
    let now_ms = (tenancy.options().coprocessors.clock)();
    let tenants = database.tenants().await?;
    for tenant in &tenants {
        let backlog = database.inspection(tenant).backlog(now_ms).await?;
        metrics.queue().set(&tenant.name, &reading(&backlog));
    }
    let there: HashSet<String> = tenants.into_iter().map(|tenant| tenant.name).collect();
    known.difference(&there).for_each(|name| metrics.forget_tenant(name));
    *known = there;
    Ok(())
}

fn reading(backlog: &Backlog) -> QueueReading {
    QueueReading {
        pending: backlog.pending,
        runnable: backlog.runnable,
        leased: backlog.leased,
        poisoned: backlog.poisoned,
        oldest_pending: Duration::from_millis(backlog.oldest_pending_age_ms.unwrap_or_default()),
        oldest_pending_blocks: backlog.oldest_pending_blocks.unwrap_or_default(),
    }
}
