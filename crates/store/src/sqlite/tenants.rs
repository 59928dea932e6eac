//! Tenants and their keys in SQLite.

use std::sync::Arc;

use cipherloom_primitives::B256;
use sqlx::{Row, SqlitePool, sqlite::SqliteRow};

use super::{SqliteStore, begin};
use crate::{
    ApiKeyDigest, KeyPartRecord, KeySetRecord, NewTenant, StoreError, StoreFuture, Tenant, TenantId, TenantLimits, Tenants,
    columns::{address, hash, integer, limits, number},
    tenants::check_part,
};

impl Tenants for SqliteStore {
    fn add_tenant<'a>(&'a self, tenant: &'a NewTenant, api_key: ApiKeyDigest) -> StoreFuture<'a, Tenant> {
        Box::pin(add(&self.writer, tenant, api_key))
    }

    fn tenants(&self) -> StoreFuture<'_, Vec<Tenant>> {
        Box::pin(async {
            let rows = sqlx::query("SELECT * FROM tenants ORDER BY tenant_id")
                .fetch_all(&self.readers)
                .await?;
            rows.iter().map(tenant).collect()
        })
    }

    fn tenant_with_key(&self, api_key: ApiKeyDigest) -> StoreFuture<'_, Option<Tenant>> {
        Box::pin(async move {
            let row = sqlx::query("SELECT * FROM tenants WHERE api_key_digest = ? AND NOT disabled")
                .bind(api_key.0.as_slice())
                .fetch_optional(&self.readers)
                .await?;
            row.as_ref().map(tenant).transpose()
        })
    }

    fn replace_api_key(&self, id: TenantId, api_key: ApiKeyDigest) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let changed = sqlx::query("UPDATE tenants SET api_key_digest = ? WHERE tenant_id = ?")
                .bind(api_key.0.as_slice())
                .bind(id.0)
                .execute(&self.writer)
                .await?;
            expect_tenant(id, changed.rows_affected())
        })
    }

    fn set_tenant_disabled(&self, id: TenantId, disabled: bool) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let changed = sqlx::query("UPDATE tenants SET disabled = ? WHERE tenant_id = ?")
                .bind(disabled)
                .bind(id.0)
                .execute(&self.writer)
                .await?;
            expect_tenant(id, changed.rows_affected())
        })
    }

    fn set_tenant_limits(&self, id: TenantId, limits: TenantLimits) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let pending = limits
                .max_pending_transactions
                .map(|limit| integer("limit of pending transactions", limit));
            let changed =
                sqlx::query("UPDATE tenants SET max_pending_transactions = ?, max_concurrent_transactions = ? WHERE tenant_id = ?")
                    .bind(pending.transpose()?)
                    .bind(
                        limits
                            .max_concurrent_transactions
                            .map(|limit| i32::try_from(limit).unwrap_or(i32::MAX)),
                    )
                    .bind(id.0)
                    .execute(&self.writer)
                    .await?;
            expect_tenant(id, changed.rows_affected())
        })
    }

    fn remove_tenant(&self, id: TenantId) -> StoreFuture<'_, ()> {
        Box::pin(remove(&self.writer, id))
    }

    fn put_key_part<'a>(&'a self, digest: B256, bytes: &'a [u8]) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            check_part(digest, u64::try_from(bytes.len()).unwrap_or(u64::MAX), bytes)?;
            sqlx::query("INSERT INTO key_parts (digest, bytes) VALUES (?, ?) ON CONFLICT DO NOTHING")
                .bind(digest.as_slice())
                .bind(bytes)
                .execute(&self.writer)
                .await?;
            Ok(())
        })
    }

    fn put_key_set<'a>(&'a self, key_set: &'a KeySetRecord) -> StoreFuture<'a, ()> {
        Box::pin(put_key_set(&self.writer, key_set))
    }

    fn attach_key_set(&self, id: TenantId, key_set: B256) -> StoreFuture<'_, ()> {
        Box::pin(attach(&self.writer, id, key_set))
    }

    fn key_sets_of(&self, id: TenantId) -> StoreFuture<'_, Vec<KeySetRecord>> {
        Box::pin(key_sets_of(&self.readers, id))
    }

    fn key_part(&self, digest: B256) -> StoreFuture<'_, Option<Arc<[u8]>>> {
        Box::pin(self.key_parts.get_or_read(digest, key_part(&self.readers, digest)))
    }
}

async fn add(writer: &SqlitePool, new: &NewTenant, api_key: ApiKeyDigest) -> Result<Tenant, StoreError> {
    new.check()?;
    let row = sqlx::query(
        "INSERT INTO tenants (name, api_key_digest, chain_id, verifying_contract_address, acl_contract_address, is_admin)
         VALUES (?, ?, ?, ?, ?, ?) RETURNING *",
    )
    .bind(new.name.as_str())
    .bind(api_key.0.as_slice())
    .bind(integer("chain id", new.chain_id)?)
    .bind(new.input_verifier.as_slice())
    .bind(new.acl.as_slice())
    .bind(new.is_admin)
    .fetch_one(writer)
    .await
    .map_err(|error| match &error {
        sqlx::Error::Database(database) if database.is_unique_violation() => StoreError::TenantExists(new.name.clone()),
        _ => StoreError::Database(error),
    })?;
    tenant(&row)
}

pub(super) fn tenant(row: &SqliteRow) -> Result<Tenant, StoreError> {
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

async fn remove(writer: &SqlitePool, id: TenantId) -> Result<(), StoreError> {
    let mut transaction = begin(writer).await?;
    let chain: Option<i64> = sqlx::query_scalar("DELETE FROM tenants WHERE tenant_id = ? RETURNING chain_id")
        .bind(id.0)
        .fetch_optional(&mut *transaction)
        .await?;
    let chain = chain.ok_or_else(|| StoreError::UnknownTenant(id.to_string()))?;
    // Transactions, grants and delegations go with their block.
    for statement in [
        "DELETE FROM blocks WHERE chain_id = ?",
        "DELETE FROM ciphertexts WHERE chain_id = ?",
        "DELETE FROM withdrawn_ciphertexts WHERE chain_id = ?",
        "DELETE FROM input_handles WHERE chain_id = ?",
        "DELETE FROM inputs WHERE chain_id = ?",
        "DELETE FROM handle_names WHERE chain_id = ?",
    ] {
        sqlx::query(statement).bind(chain).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

async fn put_key_set(writer: &SqlitePool, key_set: &KeySetRecord) -> Result<(), StoreError> {
    let mut transaction = begin(writer).await?;
    sqlx::query(
        "INSERT INTO key_sets (key_set_id, manifest) VALUES (?, ?) ON CONFLICT (key_set_id) DO UPDATE SET manifest = excluded.manifest",
    )
    .bind(key_set.id.as_slice())
    .bind(key_set.manifest.as_str())
    .execute(&mut *transaction)
    .await?;
    sqlx::query("DELETE FROM key_set_parts WHERE key_set_id = ?")
        .bind(key_set.id.as_slice())
        .execute(&mut *transaction)
        .await?;
    for part in &key_set.parts {
        sqlx::query("INSERT INTO key_set_parts (key_set_id, name, digest) VALUES (?, ?, ?)")
            .bind(key_set.id.as_slice())
            .bind(part.name.as_str())
            .bind(part.digest.as_slice())
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}

async fn attach(writer: &SqlitePool, tenant: TenantId, key_set: B256) -> Result<(), StoreError> {
    let mut transaction = begin(writer).await?;
    let known = |statement: &'static str| sqlx::query_scalar::<_, bool>(statement);
    if !known("SELECT EXISTS (SELECT 1 FROM tenants WHERE tenant_id = ?)")
        .bind(tenant.0)
        .fetch_one(&mut *transaction)
        .await?
    {
        return Err(StoreError::UnknownTenant(tenant.to_string()));
    }
    if !known("SELECT EXISTS (SELECT 1 FROM key_sets WHERE key_set_id = ?)")
        .bind(key_set.as_slice())
        .fetch_one(&mut *transaction)
        .await?
    {
        return Err(StoreError::UnknownKeySet(key_set));
    }
    // Deleted and inserted, because the order is the number of the row.
    for statement in [
        "DELETE FROM tenant_key_sets WHERE tenant_id = ? AND key_set_id = ?",
        "INSERT INTO tenant_key_sets (tenant_id, key_set_id) VALUES (?, ?)",
    ] {
        sqlx::query(statement)
            .bind(tenant.0)
            .bind(key_set.as_slice())
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}

async fn key_sets_of(readers: &SqlitePool, tenant: TenantId) -> Result<Vec<KeySetRecord>, StoreError> {
    let rows = sqlx::query(
        "SELECT k.key_set_id, k.manifest, p.name, p.digest, length(b.bytes) AS size_bytes
         FROM tenant_key_sets t JOIN key_sets k USING (key_set_id)
         JOIN key_set_parts p USING (key_set_id) JOIN key_parts b ON b.digest = p.digest
         WHERE t.tenant_id = ? ORDER BY t.attached_order DESC, p.name",
    )
    .bind(tenant.0)
    .fetch_all(readers)
    .await?;
    let mut key_sets: Vec<KeySetRecord> = Vec::new();
    for row in rows {
        let id = hash("key set id", row.try_get("key_set_id")?)?;
        let part = KeyPartRecord {
            name: row.try_get("name")?,
            digest: hash("digest of a key part", row.try_get("digest")?)?,
            size_bytes: number("size of a key part", row.try_get("size_bytes")?)?,
        };
        match key_sets.last_mut() {
            Some(last) if last.id == id => last.parts.push(part),
            _ => key_sets.push(KeySetRecord {
                id,
                manifest: row.try_get("manifest")?,
                parts: vec![part],
            }),
        }
    }
    Ok(key_sets)
}

async fn key_part(readers: &SqlitePool, digest: B256) -> Result<Option<Vec<u8>>, StoreError> {
    let bytes: Option<Vec<u8>> = sqlx::query_scalar("SELECT bytes FROM key_parts WHERE digest = ?")
        .bind(digest.as_slice())
        .fetch_optional(readers)
        .await?;
    if let Some(bytes) = &bytes {
        check_part(digest, u64::try_from(bytes.len()).unwrap_or(u64::MAX), bytes)?;
    }
    Ok(bytes)
}

fn expect_tenant(id: TenantId, rows: u64) -> Result<(), StoreError> {
    if rows == 1 {
        Ok(())
    } else {
        Err(StoreError::UnknownTenant(id.to_string()))
    }
}
