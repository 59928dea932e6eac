//! Results of withdrawn blocks, kept for a while in case the chain returns to them.
//!
//! Nodes of a chain disagree about its newest blocks now and then, and a block that was withdrawn comes back. Its hash determines all blocks before it, so
//! everything that its transactions compute from, and the bytes they compute, are the same as before.

use std::collections::HashSet;

use sqlx::{PgConnection, Row};

use crate::{RecordedBlock, StoreError, TenantId, columns::integer};

/// How many blocks below the newest one withdrawn results are kept.
pub(crate) const KEPT_BLOCKS: u64 = 256;

/// Puts the results of the blocks from this number on aside.
pub(super) async fn put_aside(connection: &mut PgConnection, tenant: TenantId, first_removed: i64) -> Result<(), StoreError> {
    sqlx::query(
        "WITH removed AS (
            DELETE FROM ciphertexts WHERE tenant_id = $1 AND created_block_number >= $2
            RETURNING created_block_number, handle, fhe_type, key_set_id, digest, packed_digest, bytes, published)
         INSERT INTO withdrawn_ciphertexts
            (tenant_id, block_hash, block_number, handle, fhe_type, key_set_id, digest, packed_digest, bytes, published)
         SELECT $1, (SELECT b.hash FROM blocks b WHERE b.tenant_id = $1 AND b.number = r.created_block_number), r.created_block_number,
            r.handle, r.fhe_type, r.key_set_id, r.digest, r.packed_digest, r.bytes, r.published
         FROM removed r
         ON CONFLICT DO NOTHING",
    )
    .bind(tenant.0)
    .bind(first_removed)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes up the results of blocks that come back, and returns the handles of these results. Forgets those that are too old to come back.
pub(super) async fn take_up(
    connection: &mut PgConnection,
    tenant: TenantId,
    blocks: &[RecordedBlock],
) -> Result<HashSet<Vec<u8>>, StoreError> {
    let Some(newest) = blocks.last() else { return Ok(HashSet::new()) };
    let hashes: Vec<&[u8]> = blocks.iter().map(|recorded| recorded.block.hash.as_slice()).collect();
    let rows = sqlx::query(
        "WITH returned AS (
            DELETE FROM withdrawn_ciphertexts WHERE tenant_id = $1 AND block_hash = ANY ($2)
            RETURNING block_number, handle, fhe_type, key_set_id, digest, packed_digest, bytes, published)
         INSERT INTO ciphertexts
            (tenant_id, handle, fhe_type, key_set_id, digest, packed_digest, bytes, created_block_number, published)
         SELECT $1, handle, fhe_type, key_set_id, digest, packed_digest, bytes, block_number, published FROM returned
         ON CONFLICT DO NOTHING
         RETURNING handle",
    )
    .bind(tenant.0)
    .bind(hashes)
    .fetch_all(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM withdrawn_ciphertexts WHERE tenant_id = $1 AND block_number < $2")
        .bind(tenant.0)
        .bind(integer("block number", newest.block.number.saturating_sub(KEPT_BLOCKS))?)
        .execute(connection)
        .await?;
    rows.iter().map(|row| Ok(row.try_get("handle")?)).collect()
}
