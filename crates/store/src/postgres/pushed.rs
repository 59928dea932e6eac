//! Work that a node sends: checked and recorded under the lock that orders waits, in a number of statements that does not depend on how
//! much it is.

use std::collections::HashSet;

use cipherloom_primitives::Handle;
use sqlx::{PgConnection, Row};

use super::{
    PostgresStore,
    blocks::{Placed, block, insert_outputs, insert_transactions},
    changes::CHANNEL,
    handles::known,
    leases::order_waits,
    names,
};
use crate::{
    BlockRef, PushedWork, StoreError, TenantId,
    columns::{integer, number},
};

pub(super) async fn record(store: &PostgresStore, chain_id: u64, work: &PushedWork) -> Result<(), StoreError> {
    store.require(chain_id)?;
    work.check_outputs()?;
    if work.transactions.is_empty() {
        return names::add(store, &work.names).await;
    }
    let mut transaction = store.begin().await?;
    order_waits(&mut transaction, store.tenant).await?;
    let (newest, pending) = before(&mut transaction, store.tenant).await?;
    // First, so that what is sent again is not refused for want of room.
    refuse_known_outputs(&mut transaction, store.tenant, work).await?;
    work.check_backlog(pending)?;
    let awaited = awaited(&mut transaction, store.tenant, &work.outside()).await?;

    let block = work.block_after(newest.as_ref());
    begin_block(&mut transaction, store.tenant, &block, work.pending()).await?;
    let placed: Vec<Placed<'_>> = (0..)
        .zip(&work.transactions)
        .map(|(index, transaction)| Placed {
            block_number: block.number,
            index,
            transaction,
            done: transaction.outputs.is_empty(),
        })
        .collect();
    let waits = waits(work, awaited);
    let ids = insert_transactions(&mut transaction, store.tenant, &placed, &waits).await?;
    insert_outputs(&mut transaction, store.tenant, &placed, &ids).await?;
    insert_waits(&mut transaction, store.tenant, &ids, &waits).await?;
    names::insert(&mut transaction, store, &work.names).await?;
    transaction.commit().await?;
    Ok(())
}

/// Returns the newest block, which must be one of pushed work, and how many transactions are pending.
async fn before(connection: &mut PgConnection, tenant: TenantId) -> Result<(Option<BlockRef>, u64), StoreError> {
    let row = sqlx::query(
        "SELECT b.*, (SELECT pending FROM tenant_work WHERE tenant_id = $1) AS pending
         FROM (SELECT $1 AS tenant_id) AS t LEFT JOIN LATERAL (
            SELECT number, hash, parent_hash, timestamp_s, pushed FROM blocks WHERE tenant_id = $1 ORDER BY number DESC LIMIT 1
         ) AS b ON TRUE",
    )
    .bind(tenant.0)
    .fetch_one(connection)
    .await?;
    let pending: Option<i64> = row.try_get("pending")?;
    let newest = match row.try_get::<Option<bool>, _>("pushed")? {
        None => None,
        Some(true) => Some(block(&row)?),
        Some(false) => return Err(StoreError::Followed),
    };
    Ok((newest, number("pending transactions", pending.unwrap_or_default())?))
}

async fn refuse_known_outputs(connection: &mut PgConnection, tenant: TenantId, work: &PushedWork) -> Result<(), StoreError> {
    let outputs: Vec<Handle> = work.outputs().collect();
    let known = known(connection, tenant, &outputs).await?;
    let known: Vec<Handle> = outputs
        .into_iter()
        .zip(known)
        .filter_map(|(handle, known)| known.then_some(handle))
        .collect();
    if known.is_empty() {
        Ok(())
    } else {
        Err(StoreError::KnownHandles(known))
    }
}

/// Returns those of some handles that a pending transaction will publish and that have no ciphertext yet, and refuses unknown ones.
async fn awaited(connection: &mut PgConnection, tenant: TenantId, handles: &[Handle]) -> Result<HashSet<Handle>, StoreError> {
    if handles.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = sqlx::query(
        "SELECT place, known FROM (
            SELECT h.place, CASE
                WHEN (SELECT 1 FROM ciphertexts c WHERE c.tenant_id = $1 AND c.handle = h.handle) IS NOT NULL THEN NULL
                WHEN (SELECT 1 FROM transaction_outputs o WHERE o.tenant_id = $1 AND o.handle = h.handle
                      AND (SELECT p.state FROM transactions p WHERE p.id = o.transaction_id) = 'pending' LIMIT 1) IS NOT NULL THEN TRUE
                WHEN (SELECT 1 FROM input_handles i WHERE i.tenant_id = $1 AND i.handle = h.handle) IS NOT NULL THEN NULL
                WHEN (SELECT 1 FROM transaction_outputs o WHERE o.tenant_id = $1 AND o.handle = h.handle LIMIT 1) IS NOT NULL THEN NULL
                ELSE FALSE END AS known
            FROM unnest($2::BYTEA[]) WITH ORDINALITY AS h (handle, place)) AS found
         WHERE known IS NOT NULL",
    )
    .bind(tenant.0)
    .bind(handles.iter().map(Handle::as_slice).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let (mut awaited, mut unknown) = (HashSet::new(), Vec::new());
    for row in rows {
        let place = usize::try_from(row.try_get::<i64, _>("place")? - 1).ok();
        let Some(handle) = place.and_then(|place| handles.get(place)) else {
            return Err(StoreError::corrupt("handle", "its place was not asked for"));
        };
        if row.try_get("known")? {
            awaited.insert(*handle);
        } else {
            unknown.push(*handle);
        }
    }
    if unknown.is_empty() {
        Ok(awaited)
    } else {
        Err(StoreError::UnknownHandles(unknown))
    }
}

/// What each transaction waits for: what is awaited anyhow, and what an earlier one of the same work publishes.
fn waits(work: &PushedWork, mut awaited: HashSet<Handle>) -> Vec<Vec<Handle>> {
    let of_one = |transaction: &crate::RecordedTransaction| {
        if transaction.outputs.is_empty() {
            return Vec::new();
        }
        let mut waits: Vec<Handle> = transaction
            .boundary
            .iter()
            .copied()
            .filter(|handle| awaited.contains(handle))
            .collect();
        waits.sort_unstable();
        waits.dedup();
        awaited.extend(&transaction.outputs);
        waits
    };
    work.transactions.iter().map(of_one).collect()
}

/// Writes the block, counts its transactions, and tells everybody.
async fn begin_block(connection: &mut PgConnection, tenant: TenantId, block: &BlockRef, pending: u64) -> Result<(), StoreError> {
    sqlx::query(
        "WITH block AS (
            INSERT INTO blocks (tenant_id, number, hash, parent_hash, timestamp_s, pushed) VALUES ($1, $2, $3, $4, $5, TRUE)),
         counted AS (
            INSERT INTO tenant_work AS w (tenant_id, pending) VALUES ($1, $6)
            ON CONFLICT (tenant_id) DO UPDATE SET pending = w.pending + excluded.pending)
         SELECT pg_notify($7, $8)",
    )
    .bind(tenant.0)
    .bind(integer("block number", block.number)?)
    .bind(block.hash.as_slice())
    .bind(block.parent_hash.as_slice())
    .bind(integer("timestamp", block.timestamp)?)
    .bind(integer("pending transactions", pending)?)
    .bind(CHANNEL)
    .bind(tenant.0.to_string())
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert_waits(connection: &mut PgConnection, tenant: TenantId, ids: &[i64], waits: &[Vec<Handle>]) -> Result<(), StoreError> {
    let rows = || {
        ids.iter()
            .zip(waits)
            .flat_map(|(id, waits)| waits.iter().map(move |handle| (*id, handle)))
    };
    if rows().next().is_none() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO transaction_waits (tenant_id, transaction_id, handle, publishes)
         SELECT $1, id, handle, FALSE FROM unnest($2::BIGINT[], $3::BYTEA[]) AS w (id, handle)",
    )
    .bind(tenant.0)
    .bind(rows().map(|(id, _)| id).collect::<Vec<_>>())
    .bind(rows().map(|(_, handle)| handle.as_slice()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
