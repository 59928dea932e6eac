//! Noise-squashed lists.

use cipherloom_primitives::Handle;
use sqlx::Row;

use super::{SqliteStore, ciphertexts::chain};
use crate::{
    Squashed, SquashedList, StoreError, StoreFuture,
    columns::{handle as read_handle, hash, integer},
    squashed::attestation,
};

impl Squashed for SqliteStore {
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

async fn find(store: &SqliteStore, handle: Handle) -> Result<Option<SquashedList>, StoreError> {
    let row = sqlx::query(
        "SELECT key_set_id, raw_digest, squashing_keys, digest, attestation, bytes FROM squashed_ciphertexts WHERE chain_id = ? AND handle = ?",
    )
    .bind(chain(store.chain, handle))
    .bind(handle.as_slice())
    .fetch_optional(&store.readers)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let list = SquashedList {
        handle,
        key_set_id: hash("key set id", row.try_get("key_set_id")?)?,
        raw_digest: hash("ciphertext digest", row.try_get("raw_digest")?)?,
        squashing_keys: hash("digest of squashing keys", row.try_get("squashing_keys")?)?,
        digest: hash("digest of a squashed list", row.try_get("digest")?)?,
        bytes: row.try_get("bytes")?,
        attestation: attestation(row.try_get("attestation")?)?,
    };
    list.check()?;
    Ok(Some(list))
}

async fn add(store: &SqliteStore, list: &SquashedList, now_ms: u64) -> Result<bool, StoreError> {
    list.check()?;
    store.require(list.handle.chain_id())?;
    let added = sqlx::query(
        "INSERT INTO squashed_ciphertexts (chain_id, handle, key_set_id, raw_digest, squashing_keys, digest, attestation, bytes, squashed_at_ms)
         SELECT c.chain_id, c.handle, c.key_set_id, c.digest, ?5, ?6, ?7, ?8, ?9 FROM ciphertexts c
         WHERE c.chain_id = ?1 AND c.handle = ?2 AND c.key_set_id = ?3 AND c.digest = ?4
         ON CONFLICT (chain_id, handle) DO UPDATE SET key_set_id = excluded.key_set_id, raw_digest = excluded.raw_digest,
            squashing_keys = excluded.squashing_keys, digest = excluded.digest, attestation = excluded.attestation, bytes = excluded.bytes, squashed_at_ms = excluded.squashed_at_ms",
    )
    .bind(integer("chain id", list.handle.chain_id())?)
    .bind(list.handle.as_slice())
    .bind(list.key_set_id.as_slice())
    .bind(list.raw_digest.as_slice())
    .bind(list.squashing_keys.as_slice())
    .bind(list.digest.as_slice())
    .bind(list.attestation.as_slice())
    .bind(list.bytes.as_slice())
    .bind(integer("time of squashing", now_ms)?)
    .execute(&store.writer)
    .await?;
    Ok(added.rows_affected() == 1)
}

async fn public(store: &SqliteStore, chain_id: u64, blocks: u64, limit: u32) -> Result<Vec<Handle>, StoreError> {
    if !store.serves(chain_id) {
        return Ok(Vec::new());
    }
    let rows = sqlx::query_scalar::<_, Vec<u8>>(
        "SELECT g.handle FROM grants g
         WHERE g.chain_id = ?1 AND g.account = x'' AND g.block_number > (SELECT max(number) FROM blocks WHERE chain_id = ?1) - ?2
           AND EXISTS (SELECT 1 FROM ciphertexts c WHERE c.chain_id = ?1 AND c.handle = g.handle)
           AND NOT EXISTS (SELECT 1 FROM squashed_ciphertexts s WHERE s.chain_id = ?1 AND s.handle = g.handle)
         ORDER BY g.block_number, g.handle LIMIT ?3",
    )
    .bind(integer("chain id", chain_id)?)
    .bind(i64::try_from(blocks).unwrap_or(i64::MAX))
    .bind(i64::from(limit))
    .fetch_all(&store.readers)
    .await?;
    rows.iter().map(|bytes| read_handle(bytes)).collect()
}

async fn forget(store: &SqliteStore, chain_id: u64, before_ms: u64, limit: u32) -> Result<u64, StoreError> {
    if !store.serves(chain_id) {
        return Ok(0);
    }
    let forgotten = sqlx::query(
        "DELETE FROM squashed_ciphertexts WHERE rowid IN (
            SELECT rowid FROM squashed_ciphertexts WHERE chain_id = ?1 AND squashed_at_ms < ?2 ORDER BY squashed_at_ms, handle LIMIT ?3)",
    )
    .bind(integer("chain id", chain_id)?)
    .bind(integer("time", before_ms)?)
    .bind(i64::from(limit))
    .execute(&store.writer)
    .await?;
    Ok(forgotten.rows_affected())
}
