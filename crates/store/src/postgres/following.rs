//! Followed chains in PostgreSQL.

use sqlx::{Row, postgres::PgRow};

use super::{
    PostgresDatabase,
    tenants::{address, tenant},
};
use crate::{
    FollowClaim, FollowProgress, FollowState, FollowedChain, Following, StoreError, StoreFuture, Tenant, TenantId,
    columns::{integer, number, optional_integer, optional_number, text},
};

impl Following for PostgresDatabase {
    fn follow<'a>(&'a self, tenant: TenantId, chain: &'a FollowedChain) -> StoreFuture<'a, ()> {
        Box::pin(follow(self, tenant, chain))
    }

    fn unfollow(&self, tenant: TenantId) -> StoreFuture<'_, bool> {
        Box::pin(async move {
            let removed = sqlx::query("DELETE FROM followed_chains WHERE tenant_id = $1")
                .bind(tenant.0)
                .execute(&self.pool)
                .await?;
            Ok(removed.rows_affected() == 1)
        })
    }

    fn followed(&self) -> StoreFuture<'_, Vec<(Tenant, FollowedChain)>> {
        Box::pin(async {
            let rows = sqlx::query("SELECT * FROM followed_chains JOIN tenants USING (tenant_id) ORDER BY tenant_id")
                .fetch_all(&self.pool)
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
                 WHERE tenant_id = $1 AND owner IS NOT NULL",
            )
            .bind(tenant.0)
            .fetch_optional(&self.pool)
            .await?;
            row.as_ref().map(state).transpose()
        })
    }
}

async fn follow(database: &PostgresDatabase, tenant: TenantId, chain: &FollowedChain) -> Result<(), StoreError> {
    let followed = sqlx::query(
        "INSERT INTO followed_chains (tenant_id, urls, executor, first_block, finality_depth, checks_receipts)
         SELECT tenant_id, $2, $3, $4, $5, $6 FROM tenants WHERE tenant_id = $1
         ON CONFLICT (tenant_id) DO UPDATE SET urls = excluded.urls, executor = excluded.executor, first_block = excluded.first_block,
             finality_depth = excluded.finality_depth, checks_receipts = excluded.checks_receipts",
    )
    .bind(tenant.0)
    .bind(text(&serde_json::json!(chain.urls).to_string()))
    .bind(chain.executor.to_checksum(None))
    .bind(integer("first block", chain.first_block)?)
    .bind(integer("finality depth", chain.finality_depth)?)
    .bind(chain.checks_receipts)
    .execute(&database.pool)
    .await?;
    match followed.rows_affected() {
        1 => Ok(()),
        _ => Err(StoreError::UnknownTenant(tenant.to_string())),
    }
}

async fn claim(database: &PostgresDatabase, tenant: TenantId, wanted: FollowClaim<'_>) -> Result<bool, StoreError> {
    // What another process found out stays until this one finds out more.
    let claimed = sqlx::query(
        "UPDATE followed_chains SET owner = $2, claimed_until_ms = $4, head = coalesce($5, head), recorded = coalesce($6, recorded),
             final_block = coalesce($7, final_block), reached_at_ms = coalesce($8, reached_at_ms)
         WHERE tenant_id = $1 AND (owner IS NULL OR owner = $2 OR claimed_until_ms <= $3)",
    )
    .bind(tenant.0)
    .bind(text(wanted.owner))
    .bind(integer("time", wanted.now_ms)?)
    .bind(integer("claim end", wanted.until_ms)?)
    .bind(optional_integer("head", wanted.progress.head)?)
    .bind(optional_integer("newest block", wanted.progress.recorded)?)
    .bind(optional_integer("final block", wanted.progress.final_block)?)
    .bind(optional_integer("time", wanted.progress.reached_at_ms)?)
    .execute(&database.pool)
    .await?;
    Ok(claimed.rows_affected() == 1)
}

fn chain(row: &PgRow) -> Result<FollowedChain, StoreError> {
    Ok(FollowedChain {
        urls: serde_json::from_str(row.try_get("urls")?).map_err(|_| StoreError::corrupt("URLs of nodes", "they are no JSON list"))?,
        executor: address("executor address", row.try_get("executor")?)?,
        first_block: number("first block", row.try_get("first_block")?)?,
        finality_depth: number("finality depth", row.try_get("finality_depth")?)?,
        checks_receipts: row.try_get("checks_receipts")?,
    })
}

fn state(row: &PgRow) -> Result<FollowState, StoreError> {
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
