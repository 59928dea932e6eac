//! Ciphertexts: written once, cooled once.

use cipherloom_primitives::{CiphertextForm, Handle};
use sqlx::{
    Row, SqlitePool,
    sqlite::{SqliteConnection, SqliteRow},
};

use super::begin;
use crate::{
    CoolingRequest, StoreError, StoredCiphertext,
    columns::{handle as read_handle, hash, integer, number},
};

pub(super) async fn find(readers: &SqlitePool, handle: Handle) -> Result<Option<StoredCiphertext>, StoreError> {
    let Ok(chain) = integer("chain id", handle.chain_id()) else {
        return Ok(None);
    };
    let row = sqlx::query(
        "SELECT key_set_id, digest, packed_digest, bytes, created_block_number FROM ciphertexts WHERE chain_id = ? AND handle = ?",
    )
    .bind(chain)
    .bind(handle.as_slice())
    .fetch_optional(readers)
    .await?;
    row.map(|row| stored(handle, &row)).transpose()
}

fn stored(handle: Handle, row: &SqliteRow) -> Result<StoredCiphertext, StoreError> {
    let raw_digest = hash("ciphertext digest", row.try_get("digest")?)?;
    let packed_digest: Option<&[u8]> = row.try_get("packed_digest")?;
    let created_block: Option<i64> = row.try_get("created_block_number")?;
    let raw = StoredCiphertext {
        created_block: created_block.map(|block| number("created block", block)).transpose()?,
        ..StoredCiphertext::raw(
            handle,
            hash("key set id", row.try_get("key_set_id")?)?,
            raw_digest,
            row.try_get("bytes")?,
        )
    };
    Ok(match packed_digest {
        None => raw,
        Some(digest) => StoredCiphertext {
            form: CiphertextForm::Packed,
            digest: hash("packed digest", digest)?,
            ..raw
        },
    })
}

pub(super) async fn add(writer: &SqlitePool, ciphertext: &StoredCiphertext) -> Result<(), StoreError> {
    let mut transaction = begin(writer).await?;
    insert(&mut transaction, ciphertext, None).await?;
    transaction.commit().await?;
    Ok(())
}

/// Stores a ciphertext unless the handle has one.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    ciphertext: &StoredCiphertext,
    block_number: Option<i64>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO ciphertexts (chain_id, handle, fhe_type, key_set_id, digest, packed_digest, bytes, created_block_number)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(integer("chain id", ciphertext.handle.chain_id())?)
    .bind(ciphertext.handle.as_slice())
    .bind(i64::from(ciphertext.handle.fhe_type().id()))
    .bind(ciphertext.key_set_id.as_slice())
    .bind(ciphertext.raw_digest.as_slice())
    .bind(packed_digest(ciphertext))
    .bind(ciphertext.bytes.as_slice())
    .bind(block_number)
    .execute(connection)
    .await?;
    Ok(())
}

fn packed_digest(ciphertext: &StoredCiphertext) -> Option<&[u8]> {
    (ciphertext.form == CiphertextForm::Packed).then(|| ciphertext.digest.as_slice())
}

/// Beyond window and margin behind the newest block, and beyond the window before the first pending transaction, whose block may be
/// far behind the newest one.
const TO_COOL: &str = "
    SELECT handle FROM ciphertexts
    WHERE chain_id = ?1 AND packed_digest IS NULL
      AND created_block_number < (SELECT max(number) FROM blocks WHERE chain_id = ?1) - ?2
      AND created_block_number < coalesce(
        (SELECT min(block_number) FROM transactions WHERE chain_id = ?1 AND state = 'pending') - ?3, 9223372036854775807)
    ORDER BY created_block_number, handle
    LIMIT ?4";

pub(super) async fn to_cool(readers: &SqlitePool, request: &CoolingRequest) -> Result<Vec<Handle>, StoreError> {
    // A sum beyond the database's integers keeps everything, as it should.
    let saturated = |blocks: u64| i64::try_from(blocks).unwrap_or(i64::MAX);
    let rows = sqlx::query_scalar::<_, Vec<u8>>(TO_COOL)
        .bind(integer("chain id", request.chain_id)?)
        .bind(saturated(request.window.0.saturating_add(request.margin_blocks)))
        .bind(saturated(request.window.0))
        .bind(i64::from(request.limit))
        .fetch_all(readers)
        .await?;
    rows.iter().map(|bytes| read_handle(bytes)).collect()
}

pub(super) async fn cool(writer: &SqlitePool, packed: &StoredCiphertext) -> Result<(), StoreError> {
    let Some(digest) = packed_digest(packed) else {
        return Ok(());
    };
    sqlx::query(
        "UPDATE ciphertexts SET bytes = ?, packed_digest = ?
         WHERE chain_id = ? AND handle = ? AND key_set_id = ? AND digest = ? AND packed_digest IS NULL",
    )
    .bind(packed.bytes.as_slice())
    .bind(digest)
    .bind(integer("chain id", packed.handle.chain_id())?)
    .bind(packed.handle.as_slice())
    .bind(packed.key_set_id.as_slice())
    .bind(packed.raw_digest.as_slice())
    .execute(writer)
    .await?;
    Ok(())
}
