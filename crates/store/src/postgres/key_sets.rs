//! Key sets in PostgreSQL: parts in chunks, each part once.

use cipherloom_primitives::B256;
use sqlx::{PgPool, Row};

use crate::{
    KeyPartRecord, KeySetRecord, StoreError, TenantId,
    columns::{hash, integer, number},
    tenants::check_part,
};

/// The length of a chunk. A value of a column may have a gigabyte, but is held in memory several times on its way.
const CHUNK_BYTES: usize = 4 << 20;

pub(super) async fn put_part(pool: &PgPool, digest: B256, bytes: &[u8]) -> Result<(), StoreError> {
    let size_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    check_part(digest, size_bytes, bytes)?;
    let mut transaction = pool.begin().await?;
    let new = sqlx::query("INSERT INTO key_parts (digest, size_bytes) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(digest.as_slice())
        .bind(integer("size of a key part", size_bytes)?)
        .execute(&mut *transaction)
        .await?;
    if new.rows_affected() == 0 {
        return Ok(());
    }
    for (index, chunk) in (0i32..).zip(bytes.chunks(CHUNK_BYTES)) {
        sqlx::query("INSERT INTO key_part_chunks (digest, index, bytes) VALUES ($1, $2, $3)")
            .bind(digest.as_slice())
            .bind(index)
            .bind(chunk)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}

pub(super) async fn part(pool: &PgPool, digest: B256) -> Result<Option<Vec<u8>>, StoreError> {
    let size: Option<i64> = sqlx::query_scalar("SELECT size_bytes FROM key_parts WHERE digest = $1")
        .bind(digest.as_slice())
        .fetch_optional(pool)
        .await?;
    let Some(size) = size else {
        return Ok(None);
    };
    let size_bytes = number("size of a key part", size)?;
    let mut bytes = Vec::new();
    for index in 0i32.. {
        let chunk: Option<Vec<u8>> = sqlx::query_scalar("SELECT bytes FROM key_part_chunks WHERE digest = $1 AND index = $2")
            .bind(digest.as_slice())
            .bind(index)
            .fetch_optional(pool)
            .await?;
        let Some(chunk) = chunk else {
            break;
        };
        bytes.extend(chunk);
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > size_bytes {
            break;
        }
    }
    check_part(digest, size_bytes, &bytes)?;
    Ok(Some(bytes))
}

pub(super) async fn put(pool: &PgPool, key_set: &KeySetRecord) -> Result<(), StoreError> {
    let mut transaction = pool.begin().await?;
    sqlx::query(
        "INSERT INTO key_sets (key_set_id, manifest) VALUES ($1, $2) ON CONFLICT (key_set_id) DO UPDATE SET manifest = excluded.manifest",
    )
    .bind(key_set.id.as_slice())
    .bind(key_set.manifest.as_str())
    .execute(&mut *transaction)
    .await?;
    sqlx::query("DELETE FROM key_set_parts WHERE key_set_id = $1")
        .bind(key_set.id.as_slice())
        .execute(&mut *transaction)
        .await?;
    for part in &key_set.parts {
        sqlx::query("INSERT INTO key_set_parts (key_set_id, name, digest) VALUES ($1, $2, $3)")
            .bind(key_set.id.as_slice())
            .bind(part.name.as_str())
            .bind(part.digest.as_slice())
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}

pub(super) async fn attach(pool: &PgPool, tenant: TenantId, key_set: B256) -> Result<(), StoreError> {
    let attached = sqlx::query(
        "INSERT INTO tenant_key_sets (tenant_id, key_set_id) VALUES ($1, $2)
         ON CONFLICT (tenant_id, key_set_id) DO UPDATE SET attached_order = DEFAULT",
    )
    .bind(tenant.0)
    .bind(key_set.as_slice())
    .execute(pool)
    .await;
    match attached {
        Ok(_) => Ok(()),
        Err(sqlx::Error::Database(error)) if error.is_foreign_key_violation() => {
            let known: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM key_sets WHERE key_set_id = $1)")
                .bind(key_set.as_slice())
                .fetch_one(pool)
                .await?;
            Err(if known {
                StoreError::UnknownTenant(tenant.to_string())
            } else {
                StoreError::UnknownKeySet(key_set)
            })
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn of(pool: &PgPool, tenant: TenantId) -> Result<Vec<KeySetRecord>, StoreError> {
    let rows = sqlx::query(
        "SELECT k.key_set_id, k.manifest, p.name, p.digest, b.size_bytes
         FROM tenant_key_sets t JOIN key_sets k USING (key_set_id)
         JOIN key_set_parts p USING (key_set_id) JOIN key_parts b ON b.digest = p.digest
         WHERE t.tenant_id = $1 ORDER BY t.attached_order DESC, p.name",
    )
    .bind(tenant.0)
    .fetch_all(pool)
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
