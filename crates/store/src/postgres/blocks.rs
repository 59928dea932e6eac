//! Blocks and what their transactions asked for, written as sets: the number of statements does not depend on the number of rows.

use std::collections::{BTreeMap, HashSet};

use cipherloom_primitives::Handle;
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{PostgresStore, changes::announce, leases::order_waits, withdrawn};
use crate::{
    BlockRef, Grantee, RecordedBlock, RecordedTransaction, StoreError, TenantId,
    columns::{hash, integer, number},
    encoding::encode,
};

const RECENT: &str = "SELECT number, hash, parent_hash, timestamp_s, pushed FROM blocks WHERE tenant_id = $1 ORDER BY number DESC LIMIT $2";

pub(super) async fn recent(store: &PostgresStore, chain_id: u64, limit: u32) -> Result<Vec<BlockRef>, StoreError> {
    if !store.serves(chain_id)? {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(RECENT)
        .bind(store.tenant.0)
        .bind(i64::from(limit))
        .fetch_all(store.pool())
        .await?;
    rows.iter().map(block).collect()
}

pub(super) fn block(row: &PgRow) -> Result<BlockRef, StoreError> {
    Ok(BlockRef {
        number: number("block number", row.try_get("number")?)?,
        hash: hash("block hash", row.try_get("hash")?)?,
        parent_hash: hash("parent hash", row.try_get("parent_hash")?)?,
        timestamp: number("timestamp", row.try_get("timestamp_s")?)?,
    })
}

pub(super) async fn record(store: &PostgresStore, chain_id: u64, blocks: &[RecordedBlock]) -> Result<(), StoreError> {
    store.require(chain_id)?;
    let mut transaction = store.begin().await?;
    order_waits(&mut transaction, store.tenant).await?;
    let mut newest = followed(&mut transaction, store.tenant).await?;
    for recorded in blocks {
        if newest.is_some_and(|newest| !newest.is_followed_by(&recorded.block)) {
            return Err(StoreError::NotAChild {
                chain_id,
                number: recorded.block.number,
            });
        }
        newest = Some(recorded.block);
    }
    insert_blocks(&mut transaction, store.tenant, blocks).await?;
    let results = withdrawn::take_up(&mut transaction, store.tenant, blocks).await?;
    insert_work(&mut transaction, store.tenant, blocks, &results).await?;
    insert_rights(&mut transaction, store.tenant, blocks).await?;
    announce(&mut transaction, store.tenant).await?;
    transaction.commit().await?;
    Ok(())
}

async fn insert_blocks(connection: &mut PgConnection, tenant: TenantId, blocks: &[RecordedBlock]) -> Result<(), StoreError> {
    let numbers = integers("block number", blocks.iter().map(|recorded| recorded.block.number))?;
    let timestamps = integers("timestamp", blocks.iter().map(|recorded| recorded.block.timestamp))?;
    let hashes: Vec<&[u8]> = blocks.iter().map(|recorded| recorded.block.hash.as_slice()).collect();
    let parents: Vec<&[u8]> = blocks.iter().map(|recorded| recorded.block.parent_hash.as_slice()).collect();
    sqlx::query(
        "INSERT INTO blocks (tenant_id, number, hash, parent_hash, timestamp_s)
         SELECT $1, * FROM unnest($2::BIGINT[], $3::BYTEA[], $4::BYTEA[], $5::BIGINT[])",
    )
    .bind(tenant.0)
    .bind(numbers)
    .bind(hashes)
    .bind(parents)
    .bind(timestamps)
    .execute(connection)
    .await?;
    Ok(())
}

/// Returns the newest block, which must be a followed one.
async fn followed(connection: &mut PgConnection, tenant: TenantId) -> Result<Option<BlockRef>, StoreError> {
    let newest = sqlx::query(RECENT).bind(tenant.0).bind(1i64).fetch_optional(connection).await?;
    match newest {
        Some(row) if row.try_get("pushed")? => Err(StoreError::PushedTo),
        newest => newest.as_ref().map(block).transpose(),
    }
}

/// A transaction with something to compute, and where it stands.
pub(super) struct Placed<'a> {
    pub(super) block_number: u64,
    pub(super) index: u64,
    pub(super) transaction: &'a RecordedTransaction,
    /// Whether there is nothing left to compute.
    pub(super) done: bool,
}

/// Lists what there is to compute, given the results that are there already.
fn work<'a>(blocks: &'a [RecordedBlock], results: &HashSet<Vec<u8>>) -> Vec<Placed<'a>> {
    let all = blocks.iter().flat_map(|recorded| {
        recorded.transactions.iter().map(|transaction| Placed {
            block_number: recorded.block.number,
            index: transaction.index,
            transaction,
            done: transaction.outputs.iter().all(|output| results.contains(output.as_slice())),
        })
    });
    let mut work: Vec<Placed<'_>> = all.filter(|placed| !placed.transaction.computations.is_empty()).collect();
    work.sort_by_key(|placed| (placed.block_number, placed.index));
    work
}

async fn insert_work(
    connection: &mut PgConnection,
    tenant: TenantId,
    blocks: &[RecordedBlock],
    results: &HashSet<Vec<u8>>,
) -> Result<(), StoreError> {
    let work = work(blocks, results);
    if work.is_empty() {
        return Ok(());
    }
    // What they wait for is counted below.
    let ids = insert_transactions(&mut *connection, tenant, &work, &[]).await?;
    insert_outputs(&mut *connection, tenant, &work, &ids).await?;
    let (mut wait_ids, mut waits, mut publishes): (Vec<i64>, Vec<&[u8]>, Vec<bool>) = (Vec::new(), Vec::new(), Vec::new());
    let mut pending = 0u64;
    for (id, placed) in ids.into_iter().zip(&work) {
        // A transaction whose outputs are all there, if it has any, waits for nothing.
        if !placed.done {
            pending += 1;
            for (handles, own) in [(&placed.transaction.boundary, false), (&placed.transaction.outputs, true)] {
                wait_ids.extend(handles.iter().map(|_| id));
                waits.extend(handles.iter().map(|handle| handle.as_slice()));
                publishes.extend(handles.iter().map(|_| own));
            }
        }
    }
    count_waits(&mut *connection, tenant, wait_ids, waits, publishes).await?;
    sqlx::query(
        "INSERT INTO tenant_work AS w (tenant_id, pending) VALUES ($1, $2)
         ON CONFLICT (tenant_id) DO UPDATE SET pending = w.pending + excluded.pending",
    )
    .bind(tenant.0)
    .bind(integer("pending transactions", pending)?)
    .execute(connection)
    .await?;
    Ok(())
}

/// Records which of some handles transactions wait for, each given with the transaction's number and whether it publishes the handle
/// itself, and how many these are.
pub(super) async fn count_waits(
    connection: &mut PgConnection,
    tenant: TenantId,
    ids: Vec<i64>,
    handles: Vec<&[u8]>,
    publishes: Vec<bool>,
) -> Result<(), StoreError> {
    sqlx::query(
        "WITH found AS (
            INSERT INTO transaction_waits (tenant_id, transaction_id, handle, publishes)
            SELECT $1, w.id, w.handle, w.publishes
            FROM unnest($2::BIGINT[], $3::BYTEA[], $4::BOOLEAN[]) AS w (id, handle, publishes)
            JOIN transactions t ON t.id = w.id
            WHERE EXISTS (
                SELECT 1 FROM transaction_outputs o
                WHERE o.tenant_id = $1 AND o.handle = w.handle AND (
                    SELECT p.state = 'pending' AND (p.block_number, p.transaction_index) < (t.block_number, t.transaction_index)
                    FROM transactions p WHERE p.id = o.transaction_id))
              AND (w.publishes OR (SELECT c.handle FROM ciphertexts c WHERE c.tenant_id = $1 AND c.handle = w.handle) IS NULL)
            ON CONFLICT DO NOTHING
            RETURNING transaction_id)
         UPDATE transactions t SET waits_for = t.waits_for + c.waits
         FROM (SELECT transaction_id, count(*) AS waits FROM found GROUP BY transaction_id) c
         WHERE t.id = c.transaction_id",
    )
    .bind(tenant.0)
    .bind(ids)
    .bind(handles)
    .bind(publishes)
    .execute(connection)
    .await?;
    Ok(())
}

/// Inserts transactions and returns their numbers in the same order. Each waits for as many handles as `waits` lists at its place.
pub(super) async fn insert_transactions(
    connection: &mut PgConnection,
    tenant: TenantId,
    work: &[Placed<'_>],
    waits: &[Vec<Handle>],
) -> Result<Vec<i64>, StoreError> {
    let numbers = integers("block number", work.iter().map(|placed| placed.block_number))?;
    let indexes = integers("transaction index", work.iter().map(|placed| placed.index))?;
    let hashes: Vec<&[u8]> = work.iter().map(|placed| placed.transaction.hash.as_slice()).collect();
    let computations: Vec<Vec<u8>> = work.iter().map(|placed| encode(&placed.transaction.computations)).collect();
    let states: Vec<&str> = work.iter().map(|placed| if placed.done { "done" } else { "pending" }).collect();
    let waits = (0..work.len()).map(|place| waits.get(place).map_or(0, Vec::len));
    let waits: Vec<i32> = waits.map(|waits| i32::try_from(waits).unwrap_or(i32::MAX)).collect();
    let rows = sqlx::query(
        "INSERT INTO transactions (tenant_id, block_number, transaction_index, hash, work, state, waits_for)
         SELECT $1, * FROM unnest($2::BIGINT[], $3::BIGINT[], $4::BYTEA[], $5::BYTEA[], $6::TEXT[], $7::INTEGER[])
         RETURNING block_number, transaction_index, id",
    )
    .bind(tenant.0)
    .bind(numbers)
    .bind(indexes)
    .bind(hashes)
    .bind(computations)
    .bind(states)
    .bind(waits)
    .fetch_all(connection)
    .await?;
    let mut ids = rows
        .iter()
        .map(|row| Ok(((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?)))
        .collect::<Result<Vec<((i64, i64), i64)>, StoreError>>()?;
    // The order of RETURNING is not defined; that of the work is by position.
    ids.sort_unstable();
    Ok(ids.into_iter().map(|(_, id)| id).collect())
}

/// Inserts the outputs of transactions that were inserted under these numbers.
pub(super) async fn insert_outputs(
    connection: &mut PgConnection,
    tenant: TenantId,
    work: &[Placed<'_>],
    ids: &[i64],
) -> Result<(), StoreError> {
    let (mut output_ids, mut outputs): (Vec<i64>, Vec<&[u8]>) = (Vec::new(), Vec::new());
    for (id, placed) in ids.iter().zip(work) {
        // A followed transaction may grant the same handle twice.
        let mut handles: Vec<&[u8]> = placed.transaction.outputs.iter().map(Handle::as_slice).collect();
        handles.sort_unstable();
        handles.dedup();
        output_ids.extend(handles.iter().map(|_| *id));
        outputs.extend(handles);
    }
    sqlx::query("INSERT INTO transaction_outputs (tenant_id, transaction_id, handle) SELECT $1, * FROM unnest($2::BIGINT[], $3::BYTEA[])")
        .bind(tenant.0)
        .bind(output_ids)
        .bind(outputs)
        .execute(connection)
        .await?;
    Ok(())
}

/// Delegator, delegate and contract of a delegation, and the number of the block that changed it.
type DelegationKey<'a> = (&'a [u8], &'a [u8], &'a [u8], i64);

async fn insert_rights(connection: &mut PgConnection, tenant: TenantId, blocks: &[RecordedBlock]) -> Result<(), StoreError> {
    let (mut handles, mut accounts, mut numbers): (Vec<&[u8]>, Vec<&[u8]>, Vec<i64>) = (Vec::new(), Vec::new(), Vec::new());
    // One statement may not change a row twice, so the last change of a block is found here.
    let mut delegations: BTreeMap<DelegationKey<'_>, Vec<u8>> = BTreeMap::new();
    for recorded in blocks {
        let block_number = integer("block number", recorded.block.number)?;
        for transaction in &recorded.transactions {
            for grant in &transaction.grants {
                handles.push(grant.handle.as_slice());
                accounts.push(match &grant.grantee {
                    Grantee::Account(account) => account.as_slice(),
                    Grantee::PublicDecryption => &[],
                });
                numbers.push(block_number);
            }
            for delegation in &transaction.delegations {
                let parties = (
                    delegation.delegator.as_slice(),
                    delegation.delegate.as_slice(),
                    delegation.contract.as_slice(),
                    block_number,
                );
                delegations.insert(parties, delegation.expires_at.to_be_bytes().to_vec());
            }
        }
    }
    if !handles.is_empty() {
        sqlx::query(
            "INSERT INTO grants (tenant_id, handle, account, block_number)
             SELECT $1, * FROM unnest($2::BYTEA[], $3::BYTEA[], $4::BIGINT[]) ON CONFLICT DO NOTHING",
        )
        .bind(tenant.0)
        .bind(handles)
        .bind(accounts)
        .bind(numbers)
        .execute(&mut *connection)
        .await?;
    }
    if !delegations.is_empty() {
        sqlx::query(
            "INSERT INTO delegations (tenant_id, delegator, delegate, contract, block_number, expires_at_s)
             SELECT $1, * FROM unnest($2::BYTEA[], $3::BYTEA[], $4::BYTEA[], $5::BIGINT[], $6::BYTEA[])",
        )
        .bind(tenant.0)
        .bind(delegations.keys().map(|parties| parties.0).collect::<Vec<_>>())
        .bind(delegations.keys().map(|parties| parties.1).collect::<Vec<_>>())
        .bind(delegations.keys().map(|parties| parties.2).collect::<Vec<_>>())
        .bind(delegations.keys().map(|parties| parties.3).collect::<Vec<_>>())
        .bind(delegations.into_values().collect::<Vec<_>>())
        .execute(connection)
        .await?;
    }
    Ok(())
}

pub(super) async fn remove_from(store: &PostgresStore, chain_id: u64, first_removed: u64) -> Result<(), StoreError> {
    let first_removed = integer("block number", first_removed)?;
    if !store.serves(chain_id)? {
        return Ok(());
    }
    let mut transaction = store.begin().await?;
    order_waits(&mut transaction, store.tenant).await?;
    followed(&mut transaction, store.tenant).await?;
    withdrawn::put_aside(&mut transaction, store.tenant, first_removed).await?;
    // Transactions, grants and delegations go with their block. Nothing that stays waits for something that goes: waits are for earlier
    // transactions.
    sqlx::query("DELETE FROM blocks WHERE tenant_id = $1 AND number >= $2")
        .bind(store.tenant.0)
        .bind(first_removed)
        .execute(&mut *transaction)
        .await?;
    sqlx::query(
        "UPDATE tenant_work SET pending = (SELECT count(*) FROM transactions WHERE tenant_id = $1 AND state = 'pending')
         WHERE tenant_id = $1",
    )
    .bind(store.tenant.0)
    .execute(&mut *transaction)
    .await?;
    announce(&mut transaction, store.tenant).await?;
    transaction.commit().await?;
    Ok(())
}

pub(super) async fn count_pending(store: &PostgresStore, chain_id: u64) -> Result<u64, StoreError> {
    if !store.serves(chain_id)? {
        return Ok(0);
    }
    let count: Option<i64> = sqlx::query_scalar("SELECT pending FROM tenant_work WHERE tenant_id = $1")
        .bind(store.tenant.0)
        .fetch_optional(store.pool())
        .await?;
    number("count", count.unwrap_or_default())
}

fn integers(what: &'static str, values: impl Iterator<Item = u64>) -> Result<Vec<i64>, StoreError> {
    values.map(|value| integer(what, value)).collect()
}
