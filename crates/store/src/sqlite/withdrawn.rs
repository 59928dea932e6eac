//! Results of withdrawn blocks, kept for a while in case the chain returns to them; see the module of the same name for PostgreSQL.

use std::collections::HashSet;

use sqlx::{Row, sqlite::SqliteConnection};

use crate::{BlockRef, StoreError, columns::integer, postgres::KEPT_BLOCKS};

/// Puts the results of the blocks from this number on aside.
pub(super) async fn put_aside(connection: &mut SqliteConnection, chain: i64, first_removed: i64) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO withdrawn_ciphertexts
            (chain_id, block_hash, block_number, handle, fhe_type, key_set_id, digest, packed_digest, bytes, published)
         SELECT c.chain_id, b.hash, b.number, c.handle, c.fhe_type, c.key_set_id, c.digest, c.packed_digest, c.bytes, c.published
         FROM ciphertexts c JOIN blocks b ON b.chain_id = c.chain_id AND b.number = c.created_block_number
         WHERE c.chain_id = ? AND c.created_block_number >= ?
         ON CONFLICT DO NOTHING",
    )
    .bind(chain)
    .bind(first_removed)
    .execute(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM ciphertexts WHERE chain_id = ? AND created_block_number >= ?")
        .bind(chain)
        .bind(first_removed)
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes up the results of a block that comes back, and returns the handles of these results.
pub(super) async fn take_up(connection: &mut SqliteConnection, chain: i64, block: &BlockRef) -> Result<HashSet<Vec<u8>>, StoreError> {
    let rows = sqlx::query(
        "INSERT INTO ciphertexts (chain_id, handle, fhe_type, key_set_id, digest, packed_digest, bytes, created_block_number, published)
         SELECT chain_id, handle, fhe_type, key_set_id, digest, packed_digest, bytes, block_number, published
         FROM withdrawn_ciphertexts WHERE chain_id = ? AND block_hash = ?
         ON CONFLICT DO NOTHING
         RETURNING handle",
    )
    .bind(chain)
    .bind(block.hash.as_slice())
    .fetch_all(&mut *connection)
    .await?;
    if !rows.is_empty() {
        sqlx::query("DELETE FROM withdrawn_ciphertexts WHERE chain_id = ? AND block_hash = ?")
            .bind(chain)
            .bind(block.hash.as_slice())
            .execute(connection)
            .await?;
    }
    rows.iter().map(|row| Ok(row.try_get("handle")?)).collect()
}

/// Forgets the results of blocks that are too old to come back.
pub(super) async fn forget_old(connection: &mut SqliteConnection, chain: i64, newest: u64) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM withdrawn_ciphertexts WHERE chain_id = ? AND block_number < ?")
        .bind(chain)
        .bind(integer("block number", newest.saturating_sub(KEPT_BLOCKS))?)
        .execute(connection)
        .await?;
    Ok(())
}
