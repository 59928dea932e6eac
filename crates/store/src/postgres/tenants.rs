//! Tenants in PostgreSQL.

use cipherloom_primitives::{Address, B256};
use sqlx::{Row, postgres::PgRow};

use super::PostgresDatabase;
use crate::{
    ApiKeyDigest, KeySetRecord, NewTenant, StoreError, StoreFuture, Tenant, TenantId, TenantLimits, Tenants,
    columns::{integer, limits, number},
};

/// Whose turn it is: fewest live leases first; among equals, the next after the one served last.
const TURNS: &str = "
    SELECT tenant_id FROM (
        SELECT t.tenant_id, t.max_concurrent_transactions AS most, (
            SELECT count(*) FROM transactions l WHERE l.tenant_id = t.tenant_id AND l.lease_expires_at_ms > $3) AS live
        FROM tenants t
        WHERE NOT t.disabled AND t.tenant_id = ANY($1) AND EXISTS (
            SELECT 1 FROM transactions r
            WHERE r.tenant_id = t.tenant_id AND r.state = 'pending' AND r.waits_for = 0
              AND (r.lease_expires_at_ms IS NULL OR r.lease_expires_at_ms <= $3))) AS turns
    WHERE most IS NULL OR live < most
    ORDER BY live, tenant_id <= $2, tenant_id";

impl PostgresDatabase {
    pub(super) async fn turns(&self, among: &[TenantId], served_last: Option<TenantId>, now_ms: u64) -> Result<Vec<TenantId>, StoreError> {
        let numbers = sqlx::query_scalar::<_, i32>(TURNS)
            .bind(among.iter().map(|tenant| tenant.0).collect::<Vec<_>>())
            .bind(served_last.map_or(i32::MIN, |tenant| tenant.0))
            .bind(integer("time", now_ms)?)
            .fetch_all(&self.pool)
            .await?;
        Ok(numbers.into_iter().map(TenantId).collect())
    }

    async fn add(&self, tenant: &NewTenant, api_key: ApiKeyDigest) -> Result<Tenant, StoreError> {
        tenant.check()?;
        let row = sqlx::query(
            "INSERT INTO tenants (tenant_api_key, api_key_digest, name, chain_id, acl_contract_address, verifying_contract_address, is_admin)
             VALUES (NULL, $1, $2, $3, $4, $5, $6) RETURNING *",
        )
        .bind(api_key.0.as_slice())
        .bind(tenant.name.as_str())
        .bind(integer("chain id", tenant.chain_id)?)
        .bind(tenant.acl.to_checksum(None))
        .bind(tenant.input_verifier.to_checksum(None))
        .bind(tenant.is_admin)
        .fetch_one(&self.pool)
        .await
        .map_err(|error| taken(error, &tenant.name))?;
        self::tenant(&row)
    }

    /// Changes one tenant; the statement's first parameter is its number.
    async fn change(
        &self,
        id: TenantId,
        query: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
    ) -> Result<(), StoreError> {
        if query.execute(&self.pool).await?.rows_affected() == 1 {
            return Ok(());
        }
        Err(StoreError::UnknownTenant(id.to_string()))
    }
}

impl Tenants for PostgresDatabase {
    fn add_tenant<'a>(&'a self, tenant: &'a NewTenant, api_key: ApiKeyDigest) -> StoreFuture<'a, Tenant> {
        Box::pin(self.add(tenant, api_key))
    }

    fn tenants(&self) -> StoreFuture<'_, Vec<Tenant>> {
        Box::pin(async {
            let rows = sqlx::query("SELECT * FROM tenants ORDER BY tenant_id")
                .fetch_all(&self.pool)
                .await?;
            rows.iter().map(tenant).collect()
        })
    }

    fn tenant_with_key(&self, api_key: ApiKeyDigest) -> StoreFuture<'_, Option<Tenant>> {
        Box::pin(async move {
            let row = sqlx::query("SELECT * FROM tenants WHERE api_key_digest = $1 AND NOT disabled")
                .bind(api_key.0.as_slice())
                .fetch_optional(&self.pool)
                .await?;
            row.as_ref().map(tenant).transpose()
        })
    }

    fn replace_api_key(&self, id: TenantId, api_key: ApiKeyDigest) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let query = sqlx::query("UPDATE tenants SET api_key_digest = $2 WHERE tenant_id = $1")
                .bind(id.0)
                .bind(api_key.0.to_vec());
            self.change(id, query).await
        })
    }

    fn set_tenant_disabled(&self, id: TenantId, disabled: bool) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let query = sqlx::query("UPDATE tenants SET disabled = $2 WHERE tenant_id = $1")
                .bind(id.0)
                .bind(disabled);
            self.change(id, query).await
        })
    }

    fn set_tenant_limits(&self, id: TenantId, limits: TenantLimits) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let query =
                sqlx::query("UPDATE tenants SET max_pending_transactions = $2, max_concurrent_transactions = $3 WHERE tenant_id = $1")
                    .bind(id.0)
                    .bind(
                        limits
                            .max_pending_transactions
                            .map(|limit| integer("limit of pending transactions", limit))
                            .transpose()?,
                    )
                    .bind(
                        limits
                            .max_concurrent_transactions
                            .map(|limit| i32::try_from(limit).unwrap_or(i32::MAX)),
                    );
            self.change(id, query).await
        })
    }

    fn remove_tenant(&self, id: TenantId) -> StoreFuture<'_, ()> {
        // Everything a tenant has goes with its row.
        Box::pin(self.change(id, sqlx::query("DELETE FROM tenants WHERE tenant_id = $1").bind(id.0)))
    }

    fn put_key_part<'a>(&'a self, digest: B256, bytes: &'a [u8]) -> StoreFuture<'a, ()> {
        Box::pin(super::key_sets::put_part(&self.pool, digest, bytes))
    }

    fn put_key_set<'a>(&'a self, key_set: &'a KeySetRecord) -> StoreFuture<'a, ()> {
        Box::pin(super::key_sets::put(&self.pool, key_set))
    }

    fn attach_key_set(&self, id: TenantId, key_set: B256) -> StoreFuture<'_, ()> {
        Box::pin(super::key_sets::attach(&self.pool, id, key_set))
    }

    fn key_sets_of(&self, id: TenantId) -> StoreFuture<'_, Vec<KeySetRecord>> {
        Box::pin(super::key_sets::of(&self.pool, id))
    }

    fn key_part(&self, digest: B256) -> StoreFuture<'_, Option<std::sync::Arc<[u8]>>> {
        Box::pin(self.key_parts.get_or_read(digest, super::key_sets::part(&self.pool, digest)))
    }
}

pub(super) fn tenant(row: &PgRow) -> Result<Tenant, StoreError> {
    Ok(Tenant {
        id: TenantId(row.try_get("tenant_id")?),
        name: row.try_get("name")?,
        chain_id: number("chain id", row.try_get("chain_id")?)?,
        acl: address("ACL address", row.try_get("acl_contract_address")?)?,
        input_verifier: address("InputVerifier address", row.try_get("verifying_contract_address")?)?,
        is_admin: row.try_get("is_admin")?,
        disabled: row.try_get("disabled")?,
        limits: limits(
            row.try_get("max_pending_transactions")?,
            row.try_get("max_concurrent_transactions")?,
        )?,
    })
}

pub(super) fn address(what: &'static str, text: &str) -> Result<Address, StoreError> {
    text.parse().map_err(|error| StoreError::corrupt(what, error))
}

/// A violated uniqueness is a taken name: digests of random keys do not collide.
fn taken(error: sqlx::Error, name: &str) -> StoreError {
    match &error {
        sqlx::Error::Database(database) if database.is_unique_violation() => StoreError::TenantExists(name.to_owned()),
        _ => StoreError::Database(error),
    }
}
