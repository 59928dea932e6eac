//! Blocks and what their transactions asked for, written as sets: the number of statements does not depend on the number of rows.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{PostgresStore, changes::announce, leases::order_waits};
use crate::{
    BlockRef, Grantee, RecordedBlock, RecordedTransaction, StoreError, TenantId,
    columns::{hash, integer, number},
};

const RECENT: &str = "SELECT number, hash, parent_hash, timestamp_s FROM blocks WHERE tenant_id = $1 ORDER BY number DESC LIMIT $2";

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

fn block(row: &PgRow) -> Result<BlockRef, StoreError> {
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
    let mut newest = sqlx::query(RECENT)
        .bind(store.tenant.0)
        .bind(1i64)
        .fetch_optional(&mut *transaction)
        .await?
        .as_ref()
        .map(block)
        .transpose()?;
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
    insert_work(&mut transaction, store.tenant, blocks).await?;
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

/// The transactions with something to compute, with their block.
fn work(blocks: &[RecordedBlock]) -> impl Iterator<Item = (u64, &RecordedTransaction)> {
    let all = blocks
        .iter()
        .flat_map(|recorded| recorded.transactions.iter().map(|transaction| (recorded.block.number, transaction)));
    all.filter(|(_, transaction)| !transaction.computations.is_empty())
}

async fn insert_work(connection: &mut PgConnection, tenant: TenantId, blocks: &[RecordedBlock]) -> Result<(), StoreError> {
    let ids = insert_transactions(&mut *connection, tenant, blocks).await?;
    if ids.is_empty() {
        return Ok(());
    }
    let (mut output_ids, mut outputs): (Vec<i64>, Vec<&[u8]>) = (Vec::new(), Vec::new());
    let (mut wait_ids, mut waits, mut publishes): (Vec<i64>, Vec<&[u8]>, Vec<bool>) = (Vec::new(), Vec::new(), Vec::new());
    for (block_number, transaction) in work(blocks) {
        let position = (
            integer("block number", block_number)?,
            integer("transaction index", transaction.index)?,
        );
        let id = *ids
            .get(&position)
            .ok_or_else(|| StoreError::corrupt("recorded transaction", "its number was not returned"))?;
        output_ids.extend(transaction.outputs.iter().map(|_| id));
        outputs.extend(transaction.outputs.iter().map(|handle| handle.as_slice()));
        // A transaction without outputs is done as it is, and waits for nothing.
        if !transaction.outputs.is_empty() {
            for (handles, own) in [(&transaction.boundary, false), (&transaction.outputs, true)] {
                wait_ids.extend(handles.iter().map(|_| id));
                waits.extend(handles.iter().map(|handle| handle.as_slice()));
                publishes.extend(handles.iter().map(|_| own));
            }
        }
    }
    sqlx::query(
        "INSERT INTO transaction_outputs (tenant_id, transaction_id, handle)
         SELECT $1, * FROM unnest($2::BIGINT[], $3::BYTEA[]) ON CONFLICT DO NOTHING",
    )
    .bind(tenant.0)
    .bind(output_ids)
    .bind(outputs)
    .execute(&mut *connection)
    .await?;
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
         UPDATE transactions t SET waits_for = c.waits
         FROM (SELECT transaction_id, count(*) AS waits FROM found GROUP BY transaction_id) c
         WHERE t.id = c.transaction_id",
    )
    .bind(tenant.0)
    .bind(wait_ids)
    .bind(waits)
    .bind(publishes)
    .execute(connection)
    .await?;
    Ok(())
}

/// Inserts the transactions and returns their numbers by block number and index.
async fn insert_transactions(
    connection: &mut PgConnection,
    tenant: TenantId,
    blocks: &[RecordedBlock],
) -> Result<BTreeMap<(i64, i64), i64>, StoreError> {
    let numbers = integers("block number", work(blocks).map(|(block_number, _)| block_number))?;
    if numbers.is_empty() {
        return Ok(BTreeMap::new());
    }
    let indexes = integers("transaction index", work(blocks).map(|(_, transaction)| transaction.index))?;
    let hashes: Vec<&[u8]> = work(blocks).map(|(_, transaction)| transaction.hash.as_slice()).collect();
    let computations = work(blocks)
        .map(|(_, transaction)| serde_json::to_string(&transaction.computations))
        .collect::<Result<Vec<String>, _>>()
        .map_err(|error| StoreError::corrupt("computations to record", error))?;
    let states: Vec<&str> = work(blocks)
        .map(|(_, transaction)| if transaction.outputs.is_empty() { "done" } else { "pending" })
        .collect();
    let rows = sqlx::query(
        "INSERT INTO transactions (tenant_id, block_number, transaction_index, hash, computations, state)
         SELECT $1, * FROM unnest($2::BIGINT[], $3::BIGINT[], $4::BYTEA[], $5::TEXT[], $6::TEXT[])
         RETURNING block_number, transaction_index, id",
    )
    .bind(tenant.0)
    .bind(numbers)
    .bind(indexes)
    .bind(hashes)
    .bind(computations)
    .bind(states)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| Ok(((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?)))
        .collect()
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
    // Transactions, grants and delegations go with their block. Nothing that stays waits for something that goes: waits are for earlier
    // transactions.
    for statement in [
        "DELETE FROM blocks WHERE tenant_id = $1 AND number >= $2",
        "DELETE FROM ciphertexts WHERE tenant_id = $1 AND created_block_number >= $2",
    ] {
        sqlx::query(statement)
            .bind(store.tenant.0)
            .bind(first_removed)
            .execute(&mut *transaction)
            .await?;
    }
    announce(&mut transaction, store.tenant).await?;
    transaction.commit().await?;
    Ok(())
}

pub(super) async fn count_pending(store: &PostgresStore, chain_id: u64) -> Result<u64, StoreError> {
    if !store.serves(chain_id)? {
        return Ok(0);
    }
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM transactions WHERE tenant_id = $1 AND state = 'pending'")
        .bind(store.tenant.0)
        .fetch_one(store.pool())
        .await?;
    number("count", count)
}

fn integers(what: &'static str, values: impl Iterator<Item = u64>) -> Result<Vec<i64>, StoreError> {
    values.map(|value| integer(what, value)).collect()
}
