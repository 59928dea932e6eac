//! Ciphertexts: written once, cooled once.

use std::collections::HashMap;

use cipherloom_primitives::{B256, CiphertextForm, Handle};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{PostgresStore, changes::announce};
use crate::{
    CiphertextHead, CoolingRequest, StoreError, StoredCiphertext,
    columns::{handle as read_handle, hash, number},
    model::in_order,
    objects::{put_all, read_checked},
};

/// How many objects are read at the same time for one call.
const OBJECTS_AT_ONCE: usize = 16;

pub(super) async fn find(store: &PostgresStore, handles: &[Handle]) -> Result<Vec<Option<StoredCiphertext>>, StoreError> {
    let rows = sqlx::query(
        "SELECT handle, key_set_id, digest, packed_digest, created_block_number, bytes FROM ciphertexts
         WHERE tenant_id = $1 AND handle = ANY ($2)",
    )
    .bind(store.tenant.0)
    .bind(handles.iter().map(Handle::as_slice).collect::<Vec<_>>())
    .fetch_all(store.pool())
    .await?;
    let mut found = HashMap::with_capacity(rows.len());
    let mut elsewhere = Vec::new();
    for row in &rows {
        let head = head(row)?;
        match row.try_get("bytes")? {
            Some(bytes) => {
                found.insert(head.handle, head.with_bytes(bytes));
            }
            None => elsewhere.push(head),
        }
    }
    let mut read = stream::iter(elsewhere.into_iter().map(|head| object(store, head))).buffer_unordered(OBJECTS_AT_ONCE);
    while let Some(ciphertext) = read.try_next().await? {
        found.insert(ciphertext.handle, ciphertext);
    }
    Ok(in_order(handles, found))
}

/// Reads the bytes of a ciphertext that the object store has.
async fn object(store: &PostgresStore, head: CiphertextHead) -> Result<StoredCiphertext, StoreError> {
    let objects = store.database.objects.as_ref().ok_or(StoreError::NoObjectStore)?;
    Ok(head.with_bytes(read_checked(objects.as_ref(), head.digest).await?))
}

pub(super) async fn heads(store: &PostgresStore, handles: &[Handle]) -> Result<Vec<Option<CiphertextHead>>, StoreError> {
    let rows = sqlx::query(
        "SELECT handle, key_set_id, digest, packed_digest, created_block_number FROM ciphertexts
         WHERE tenant_id = $1 AND handle = ANY ($2)",
    )
    .bind(store.tenant.0)
    .bind(handles.iter().map(Handle::as_slice).collect::<Vec<_>>())
    .fetch_all(store.pool())
    .await?;
    let found = rows.iter().map(|row| head(row).map(|head| (head.handle, head)));
    let found: HashMap<Handle, CiphertextHead> = found.collect::<Result<_, _>>()?;
    Ok(handles.iter().map(|handle| found.get(handle).copied()).collect())
}

/// Reads everything but the bytes.
fn head(row: &PgRow) -> Result<CiphertextHead, StoreError> {
    let raw_digest = hash("ciphertext digest", row.try_get("digest")?)?;
    let packed_digest: Option<&[u8]> = row.try_get("packed_digest")?;
    let created_block: Option<i64> = row.try_get("created_block_number")?;
    let (form, digest) = match packed_digest {
        None => (CiphertextForm::Raw, raw_digest),
        Some(digest) => (CiphertextForm::Packed, hash("packed digest", digest)?),
    };
    Ok(CiphertextHead {
        handle: read_handle(row.try_get("handle")?)?,
        key_set_id: hash("key set id", row.try_get("key_set_id")?)?,
        created_block: created_block.map(|block| number("created block", block)).transpose()?,
        raw_digest,
        form,
        digest,
    })
}

pub(super) async fn add(store: &PostgresStore, ciphertexts: &[StoredCiphertext]) -> Result<(), StoreError> {
    for ciphertext in ciphertexts {
        store.require(ciphertext.handle.chain_id())?;
    }
    put_objects(store, ciphertexts).await?;
    let mut transaction = store.begin().await?;
    insert(&mut transaction, store, ciphertexts, None).await?;
    announce(&mut transaction, store.tenant).await?;
    transaction.commit().await?;
    Ok(())
}

/// Puts bytes into the object store, if there is one; before a connection is taken, since it may be slow.
pub(super) async fn put_objects(store: &PostgresStore, ciphertexts: &[StoredCiphertext]) -> Result<(), StoreError> {
    match &store.database.objects {
        Some(objects) => put_all(objects.as_ref(), ciphertexts).await,
        None => Ok(()),
    }
}

/// Stores ciphertexts, except those whose handle has one. Their bytes are in the object store already, if there is one.
pub(super) async fn insert(
    connection: &mut PgConnection,
    store: &PostgresStore,
    ciphertexts: &[StoredCiphertext],
    block_number: Option<i64>,
) -> Result<(), StoreError> {
    if ciphertexts.is_empty() {
        return Ok(());
    }
    // In one order everywhere: two processes that insert the same handles wait for each other in that order, not in a circle.
    let mut sorted: Vec<&StoredCiphertext> = ciphertexts.iter().collect();
    sorted.sort_by_key(|ciphertext| ciphertext.handle);
    sqlx::query(
        "INSERT INTO ciphertexts (tenant_id, created_block_number, handle, fhe_type, key_set_id, digest, packed_digest, bytes)
         SELECT $1, $2, * FROM unnest($3::BYTEA[], $4::SMALLINT[], $5::BYTEA[], $6::BYTEA[], $7::BYTEA[], $8::BYTEA[])
         ON CONFLICT DO NOTHING",
    )
    .bind(store.tenant.0)
    .bind(block_number)
    .bind(sorted.iter().map(|ciphertext| ciphertext.handle.as_slice()).collect::<Vec<_>>())
    .bind(
        sorted
            .iter()
            .map(|ciphertext| i16::from(ciphertext.handle.fhe_type().id()))
            .collect::<Vec<_>>(),
    )
    .bind(sorted.iter().map(|ciphertext| ciphertext.key_set_id.as_slice()).collect::<Vec<_>>())
    .bind(sorted.iter().map(|ciphertext| ciphertext.raw_digest.as_slice()).collect::<Vec<_>>())
    .bind(sorted.iter().map(|ciphertext| packed_digest(ciphertext)).collect::<Vec<_>>())
    .bind(sorted.iter().map(|ciphertext| column_bytes(store, ciphertext)).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// What the database keeps of the bytes.
fn column_bytes<'a>(store: &PostgresStore, ciphertext: &'a StoredCiphertext) -> Option<&'a [u8]> {
    store.database.objects.is_none().then_some(ciphertext.bytes.as_slice())
}

fn packed_digest(ciphertext: &StoredCiphertext) -> Option<&[u8]> {
    (ciphertext.form == CiphertextForm::Packed).then(|| ciphertext.digest.as_slice())
}

/// Beyond window and margin behind the newest block, and beyond the window before the first pending transaction, whose block may be
/// far behind the newest one.
const TO_COOL: &str = "
    SELECT handle FROM ciphertexts
    WHERE tenant_id = $1 AND packed_digest IS NULL
      AND created_block_number < (SELECT max(number) FROM blocks WHERE tenant_id = $1) - $2::BIGINT
      AND created_block_number < coalesce(
        (SELECT min(block_number) FROM transactions WHERE tenant_id = $1 AND state = 'pending') - $3::BIGINT, 9223372036854775807)
    ORDER BY created_block_number, handle
    LIMIT $4";

pub(super) async fn to_cool(store: &PostgresStore, request: &CoolingRequest) -> Result<Vec<Handle>, StoreError> {
    if !store.serves(request.chain_id)? {
        return Ok(Vec::new());
    }
    // A sum beyond the database's integers keeps everything, as it should.
    let saturated = |blocks: u64| i64::try_from(blocks).unwrap_or(i64::MAX);
    let rows = sqlx::query_scalar::<_, Vec<u8>>(TO_COOL)
        .bind(store.tenant.0)
        .bind(saturated(request.window.0.saturating_add(request.margin_blocks)))
        .bind(saturated(request.window.0))
        .bind(i64::from(request.limit))
        .fetch_all(store.pool())
        .await?;
    rows.iter().map(|bytes| read_handle(bytes)).collect()
}

pub(super) async fn cool(store: &PostgresStore, packed: &StoredCiphertext) -> Result<(), StoreError> {
    let Some(digest) = packed_digest(packed) else {
        return Ok(());
    };
    store.require(packed.handle.chain_id())?;
    put_objects(store, std::slice::from_ref(packed)).await?;
    let cooled = sqlx::query(
        "UPDATE ciphertexts SET bytes = $5, packed_digest = $6
         WHERE tenant_id = $1 AND handle = $2 AND key_set_id = $3 AND digest = $4 AND packed_digest IS NULL",
    )
    .bind(store.tenant.0)
    .bind(packed.handle.as_slice())
    .bind(packed.key_set_id.as_slice())
    .bind(packed.raw_digest.as_slice())
    .bind(column_bytes(store, packed))
    .bind(digest)
    .execute(store.pool())
    .await?;
    if cooled.rows_affected() == 1 {
        remove_object(store, packed.raw_digest).await?;
    }
    Ok(())
}

/// Removes an object that no row refers to any more. Equal ciphertexts, such as those of one public value, share one.
async fn remove_object(store: &PostgresStore, digest: B256) -> Result<(), StoreError> {
    let Some(objects) = &store.database.objects else {
        return Ok(());
    };
    let used: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM ciphertexts WHERE bytes IS NULL AND coalesce(packed_digest, digest) = $1)")
            .bind(digest.as_slice())
            .fetch_one(store.pool())
            .await?;
    if used { Ok(()) } else { objects.remove(digest).await }
}
