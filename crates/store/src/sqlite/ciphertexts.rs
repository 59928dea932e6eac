//! Ciphertexts: written once, cooled once.

use cipherloom_primitives::{CiphertextForm, Handle};
use sqlx::{
    Row, SqlitePool,
    sqlite::{SqliteConnection, SqliteRow},
};

use super::begin;
use crate::{
    CiphertextHead, CoolingRequest, StoreError, StoredCiphertext,
    columns::{handle as read_handle, hash, integer, number},
};

pub(super) async fn find(readers: &SqlitePool, own: Option<u64>, handles: &[Handle]) -> Result<Vec<Option<StoredCiphertext>>, StoreError> {
    let mut connection = readers.acquire().await?;
    let mut found = Vec::with_capacity(handles.len());
    for handle in handles {
        let row = sqlx::query(
            "SELECT key_set_id, digest, packed_digest, created_block_number, bytes FROM ciphertexts WHERE chain_id = ? AND handle = ?",
        );
        let row = row
            .bind(chain(own, *handle))
            .bind(handle.as_slice())
            .fetch_optional(&mut *connection)
            .await?;
        let ciphertext = row.map(|row| Ok::<_, StoreError>(head(*handle, &row)?.with_bytes(row.try_get("bytes")?)));
        found.push(ciphertext.transpose()?);
    }
    Ok(found)
}

pub(super) async fn heads(readers: &SqlitePool, own: Option<u64>, handles: &[Handle]) -> Result<Vec<Option<CiphertextHead>>, StoreError> {
    let mut connection = readers.acquire().await?;
    let mut found = Vec::with_capacity(handles.len());
    for handle in handles {
        let row = sqlx::query(
            "SELECT key_set_id, digest, packed_digest, created_block_number FROM ciphertexts WHERE chain_id = ? AND handle = ?",
        );
        let row = row
            .bind(chain(own, *handle))
            .bind(handle.as_slice())
            .fetch_optional(&mut *connection)
            .await?;
        found.push(row.map(|row| head(*handle, &row)).transpose()?);
    }
    Ok(found)
}

/// The chain of a handle as a column. No row has -1, which stands for chains that are not asked for and numbers that do not fit.
pub(super) fn chain(own: Option<u64>, handle: Handle) -> i64 {
    let chain_id = handle.chain_id();
    match i64::try_from(chain_id) {
        Ok(chain) if own.is_none_or(|own| own == chain_id) => chain,
        _ => -1,
    }
}

/// Reads everything but the bytes.
fn head(handle: Handle, row: &SqliteRow) -> Result<CiphertextHead, StoreError> {
    let raw_digest = hash("ciphertext digest", row.try_get("digest")?)?;
    let packed_digest: Option<&[u8]> = row.try_get("packed_digest")?;
    let created_block: Option<i64> = row.try_get("created_block_number")?;
    let (form, digest) = match packed_digest {
        None => (CiphertextForm::Raw, raw_digest),
        Some(digest) => (CiphertextForm::Packed, hash("packed digest", digest)?),
    };
    Ok(CiphertextHead {
        handle,
        key_set_id: hash("key set id", row.try_get("key_set_id")?)?,
        created_block: created_block.map(|block| number("created block", block)).transpose()?,
        raw_digest,
        form,
        digest,
    })
}

pub(super) async fn add(writer: &SqlitePool, ciphertexts: &[StoredCiphertext]) -> Result<(), StoreError> {
    let mut transaction = begin(writer).await?;
    for ciphertext in ciphertexts {
        insert(&mut transaction, ciphertext, None).await?;
    }
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
