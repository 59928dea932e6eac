//! Noise-squashed lists.

use cipherloom_primitives::{B256, Handle};
use sqlx::Row;

use super::PostgresStore;
use crate::{
    Squashed, SquashedList, StoreError, StoreFuture,
    columns::{handle as read_handle, hash, integer},
    objects::read_checked,
    squashed::attestation,
};

impl Squashed for PostgresStore {
    fn squashed(&self, handle: Handle) -> StoreFuture<'_, Option<SquashedList>> {
        Box::pin(find(self, handle))
    }

    fn add_squashed<'a>(&'a self, list: &'a SquashedList, now_ms: u64) -> StoreFuture<'a, bool> {
        Box::pin(add(self, list, now_ms))
    }

    fn public_without_list(&self, chain_id: u64, blocks: u64, limit: u32) -> StoreFuture<'_, Vec<Handle>> {
        Box::pin(public(self, chain_id, blocks, limit))
    }

    fn forget_squashed(&self, chain_id: u64, before_ms: u64, limit: u32) -> StoreFuture<'_, u64> {
        Box::pin(forget(self, chain_id, before_ms, limit))
    }
}

async fn find(store: &PostgresStore, handle: Handle) -> Result<Option<SquashedList>, StoreError> {
    let row = sqlx::query(
        "SELECT key_set_id, raw_digest, squashing_keys, digest, attestation, bytes FROM squashed_ciphertexts WHERE tenant_id = $1 AND handle = $2",
    )
    .bind(store.tenant.0)
    .bind(handle.as_slice())
    .fetch_optional(store.pool())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let digest = hash("digest of a squashed list", row.try_get("digest")?)?;
    let bytes = match row.try_get("bytes")? {
        Some(bytes) => bytes,
        None => {
            let objects = store.database.objects.as_ref().ok_or(StoreError::NoObjectStore)?;
            read_checked(objects.as_ref(), digest).await?
        }
    };
    let list = SquashedList {
        handle,
        key_set_id: hash("key set id", row.try_get("key_set_id")?)?,
        raw_digest: hash("ciphertext digest", row.try_get("raw_digest")?)?,
        squashing_keys: hash("digest of squashing keys", row.try_get("squashing_keys")?)?,
        digest,
        bytes,
        attestation: attestation(row.try_get("attestation")?)?,
    };
    list.check()?;
    Ok(Some(list))
}

async fn add(store: &PostgresStore, list: &SquashedList, now_ms: u64) -> Result<bool, StoreError> {
    list.check()?;
    store.require(list.handle.chain_id())?;
    let squashed_at = integer("time of squashing", now_ms)?;
    // Before a connection is taken, since it may be slow.
    let bytes = match &store.database.objects {
        Some(objects) => {
            objects.put(list.digest, &list.bytes).await?;
            None
        }
        None => Some(list.bytes.as_slice()),
    };
    // The ciphertext's row is kept from going away until this one, which goes with it, is there.
    let added = sqlx::query(
        "INSERT INTO squashed_ciphertexts (tenant_id, handle, key_set_id, raw_digest, squashing_keys, digest, attestation, bytes, squashed_at_ms)
         SELECT c.tenant_id, c.handle, c.key_set_id, c.digest, $5, $6, $7, $8, $9 FROM ciphertexts c
         WHERE c.tenant_id = $1 AND c.handle = $2 AND c.key_set_id = $3 AND c.digest = $4 FOR KEY SHARE
         ON CONFLICT (tenant_id, handle) DO UPDATE SET key_set_id = excluded.key_set_id, raw_digest = excluded.raw_digest,
            squashing_keys = excluded.squashing_keys, digest = excluded.digest, attestation = excluded.attestation, bytes = excluded.bytes, squashed_at_ms = excluded.squashed_at_ms",
    )
    .bind(store.tenant.0)
    .bind(list.handle.as_slice())
    .bind(list.key_set_id.as_slice())
    .bind(list.raw_digest.as_slice())
    .bind(list.squashing_keys.as_slice())
    .bind(list.digest.as_slice())
    .bind(list.attestation.as_slice())
    .bind(bytes)
    .bind(squashed_at)
    .execute(store.pool())
    .await?;
    Ok(added.rows_affected() == 1)
}

async fn public(store: &PostgresStore, chain_id: u64, blocks: u64, limit: u32) -> Result<Vec<Handle>, StoreError> {
    if !store.serves(chain_id)? {
        return Ok(Vec::new());
    }
    let rows = sqlx::query_scalar::<_, Vec<u8>>(
        "SELECT g.handle FROM grants g
         WHERE g.tenant_id = $1 AND g.account = '' AND g.block_number > (SELECT max(number) FROM blocks WHERE tenant_id = $1) - $2
           AND (SELECT c.handle FROM ciphertexts c WHERE c.tenant_id = $1 AND c.handle = g.handle) IS NOT NULL
           AND (SELECT s.handle FROM squashed_ciphertexts s WHERE s.tenant_id = $1 AND s.handle = g.handle) IS NULL
         ORDER BY g.block_number, g.handle LIMIT $3",
    )
    .bind(store.tenant.0)
    .bind(i64::try_from(blocks).unwrap_or(i64::MAX))
    .bind(i64::from(limit))
    .fetch_all(store.pool())
    .await?;
    rows.iter().map(|bytes| read_handle(bytes)).collect()
}

async fn forget(store: &PostgresStore, chain_id: u64, before_ms: u64, limit: u32) -> Result<u64, StoreError> {
    if !store.serves(chain_id)? {
        return Ok(0);
    }
    let rows = sqlx::query(
        "DELETE FROM squashed_ciphertexts WHERE tenant_id = $1 AND handle IN (
            SELECT handle FROM squashed_ciphertexts WHERE tenant_id = $1 AND squashed_at_ms < $2
            ORDER BY squashed_at_ms, handle LIMIT $3 FOR UPDATE SKIP LOCKED)
         RETURNING digest, bytes IS NULL AS elsewhere",
    )
    .bind(store.tenant.0)
    .bind(integer("time", before_ms)?)
    .bind(i64::from(limit))
    .fetch_all(store.pool())
    .await?;
    let mut forgotten = 0u64;
    for row in rows {
        forgotten += 1;
        if row.try_get("elsewhere")? {
            remove_object(store, hash("digest of a squashed list", row.try_get("digest")?)?).await?;
        }
    }
    Ok(forgotten)
}

/// Removes the bytes of a list that no row refers to any more. Equal values of several tenants may share them.
async fn remove_object(store: &PostgresStore, digest: B256) -> Result<(), StoreError> {
    let Some(objects) = &store.database.objects else {
        return Ok(());
    };
    let used: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM squashed_ciphertexts WHERE bytes IS NULL AND digest = $1)")
        .bind(digest.as_slice())
        .fetch_one(store.pool())
        .await?;
    if used { Ok(()) } else { objects.remove(digest).await }
}
