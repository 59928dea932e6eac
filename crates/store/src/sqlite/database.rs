//! The embedded store as a database of several tenants: turns, and hints within this process.

use futures_util::stream::{self, BoxStream, StreamExt};
use sqlx::{Row, SqlitePool};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{SqliteStore, leases::RUNNABLE_NOW};
use crate::{StoreError, TenantId, columns::integer};

/// How many hints may wait for a slow listener. One that missed some is told of every tenant.
pub(super) const HINTS: usize = 256;

impl SqliteStore {
    /// See [`crate::Database::tenants_by_turn`].
    pub(super) async fn turns(&self, among: &[TenantId], served_last: Option<TenantId>, now_ms: u64) -> Result<Vec<TenantId>, StoreError> {
        let now_ms = integer("time", now_ms)?;
        let rows = sqlx::query(
            "SELECT tenant_id, chain_id, max_concurrent_transactions AS most, (
                SELECT count(*) FROM transactions t WHERE t.chain_id = tenants.chain_id AND t.lease_expires_at_ms > ?) AS live
             FROM tenants WHERE NOT disabled",
        )
        .bind(now_ms)
        .fetch_all(&self.readers)
        .await?;
        let mut turns = Vec::new();
        for row in rows {
            let tenant = TenantId(row.try_get("tenant_id")?);
            let (live, most): (i64, Option<i64>) = (row.try_get("live")?, row.try_get("most")?);
            if !among.contains(&tenant) || most.is_some_and(|most| live >= most) {
                continue;
            }
            let has_work: bool = sqlx::query_scalar(RUNNABLE_NOW)
                .bind(row.try_get::<i64, _>("chain_id")?)
                .bind(now_ms)
                .fetch_one(&self.readers)
                .await?;
            if has_work {
                let before_last = served_last.is_some_and(|last| tenant <= last);
                turns.push((live, before_last, tenant));
            }
        }
        turns.sort_unstable();
        Ok(turns.into_iter().map(|(_, _, tenant)| tenant).collect())
    }

    /// Tells listeners that something changed on a chain. Nobody listening is no error.
    pub(super) fn announce(&self, chain_id: u64) {
        let _ = self.hints.send(chain_id);
    }
}

/// The chains that change; none stands for any.
pub(super) fn changed_chains(hints: Receiver<u64>) -> BoxStream<'static, Option<u64>> {
    stream::unfold(hints, |mut hints| async move {
        match hints.recv().await {
            Ok(chain_id) => Some((Some(chain_id), hints)),
            Err(RecvError::Lagged(_)) => Some((None, hints)),
            // The store is gone and nothing will change any more, but the stream does not end.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    })
    .boxed()
}

/// The tenants that change.
pub(super) fn changed_tenants(hints: Receiver<u64>, readers: SqlitePool) -> BoxStream<'static, TenantId> {
    changed_chains(hints)
        .flat_map(move |chain_id| {
            let readers = readers.clone();
            let tenants = async move {
                let chain = chain_id.and_then(|chain_id| i64::try_from(chain_id).ok());
                let tenants = sqlx::query_scalar::<_, i32>("SELECT tenant_id FROM tenants WHERE ?1 IS NULL OR chain_id = ?1");
                // A hint may be missing.
                stream::iter(tenants.bind(chain).fetch_all(&readers).await.unwrap_or_default())
            };
            stream::once(tenants).flatten().map(TenantId)
        })
        .boxed()
}
