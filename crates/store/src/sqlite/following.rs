//! Followed chains in SQLite.

use sqlx::{Row, sqlite::SqliteRow};

use super::{SqliteStore, tenants::tenant};
use crate::{
    FollowClaim, FollowProgress, FollowState, FollowedChain, Following, StoreError, StoreFuture, Tenant, TenantId,
    columns::{address, integer, number, optional_integer, optional_number},
};

impl Following for SqliteStore {
    fn follow<'a>(&'a self, tenant: TenantId, chain: &'a FollowedChain) -> StoreFuture<'a, ()> {
        Box::pin(follow(self, tenant, chain))
    }

    fn unfollow(&self, tenant: TenantId) -> StoreFuture<'_, bool> {
        Box::pin(async move {
            let removed = sqlx::query("DELETE FROM followed_chains WHERE tenant_id = ?")
                .bind(tenant.0)
                .execute(&self.writer)
                .await?;
            Ok(removed.rows_affected() == 1)
        })
    }

    fn followed(&self) -> StoreFuture<'_, Vec<(Tenant, FollowedChain)>> {
        Box::pin(async {
            let rows = sqlx::query("SELECT * FROM followed_chains JOIN tenants USING (tenant_id) ORDER BY tenant_id")
                .fetch_all(&self.readers)
                .await?;
            rows.iter().map(|row| Ok((tenant(row)?, chain(row)?))).collect()
        })
    }

    fn claim_following<'a>(&'a self, tenant: TenantId, wanted: FollowClaim<'a>) -> StoreFuture<'a, bool> {
        Box::pin(claim(self, tenant, wanted))
    }

    fn follow_state(&self, tenant: TenantId) -> StoreFuture<'_, Option<FollowState>> {
        Box::pin(async move {
            let row = sqlx::query(
                "SELECT owner, claimed_until_ms, head, recorded, final_block, reached_at_ms FROM followed_chains
                 WHERE tenant_id = ? AND owner IS NOT NULL",
            )
            .bind(tenant.0)
            .fetch_optional(&self.readers)
            .await?;
            row.as_ref().map(state).transpose()
        })
    }
}

async fn follow(store: &SqliteStore, tenant: TenantId, chain: &FollowedChain) -> Result<(), StoreError> {
    let followed = sqlx::query(
        "INSERT INTO followed_chains (tenant_id, urls, executor, first_block, finality_depth, checks_receipts)
         SELECT tenant_id, ?, ?, ?, ?, ? FROM tenants WHERE tenant_id = ?
         ON CONFLICT (tenant_id) DO UPDATE SET urls = excluded.urls, executor = excluded.executor, first_block = excluded.first_block,
             finality_depth = excluded.finality_depth, checks_receipts = excluded.checks_receipts",
    )
    .bind(serde_json::json!(chain.urls).to_string())
    .bind(chain.executor.as_slice())
    .bind(integer("first block", chain.first_block)?)
    .bind(integer("finality depth", chain.finality_depth)?)
    .bind(chain.checks_receipts)
    .bind(tenant.0)
    .execute(&store.writer)
    .await?;
    match followed.rows_affected() {
        1 => Ok(()),
        _ => Err(StoreError::UnknownTenant(tenant.to_string())),
    }
}

async fn claim(store: &SqliteStore, tenant: TenantId, wanted: FollowClaim<'_>) -> Result<bool, StoreError> {
    // What another process found out stays until this one finds out more.
    let claimed = sqlx::query(
        "UPDATE followed_chains SET owner = ?1, claimed_until_ms = ?3, head = coalesce(?4, head), recorded = coalesce(?5, recorded),
             final_block = coalesce(?6, final_block), reached_at_ms = coalesce(?7, reached_at_ms)
         WHERE tenant_id = ?8 AND (owner IS NULL OR owner = ?1 OR claimed_until_ms <= ?2)",
    )
    .bind(wanted.owner)
    .bind(integer("time", wanted.now_ms)?)
    .bind(integer("claim end", wanted.until_ms)?)
    .bind(optional_integer("head", wanted.progress.head)?)
    .bind(optional_integer("newest block", wanted.progress.recorded)?)
    .bind(optional_integer("final block", wanted.progress.final_block)?)
    .bind(optional_integer("time", wanted.progress.reached_at_ms)?)
    .bind(tenant.0)
    .execute(&store.writer)
    .await?;
    Ok(claimed.rows_affected() == 1)
}

fn chain(row: &SqliteRow) -> Result<FollowedChain, StoreError> {
    Ok(FollowedChain {
        urls: serde_json::from_str(row.try_get("urls")?).map_err(|_| StoreError::corrupt("URLs of nodes", "they are no JSON list"))?,
        executor: address("executor address", row.try_get("executor")?)?,
        first_block: number("first block", row.try_get("first_block")?)?,
        finality_depth: number("finality depth", row.try_get("finality_depth")?)?,
        checks_receipts: row.try_get("checks_receipts")?,
    })
}

fn state(row: &SqliteRow) -> Result<FollowState, StoreError> {
    Ok(FollowState {
        owner: row.try_get("owner")?,
        claimed_until_ms: number("claim end", row.try_get("claimed_until_ms")?)?,
        progress: FollowProgress {
            head: optional_number("head", row.try_get("head")?)?,
            recorded: optional_number("newest block", row.try_get("recorded")?)?,
            final_block: optional_number("final block", row.try_get("final_block")?)?,
            reached_at_ms: optional_number("time", row.try_get("reached_at_ms")?)?,
        },
    })
}
