//! Blocks and what their transactions asked for.

use sqlx::{Row, SqlitePool, sqlite::SqliteConnection, sqlite::SqliteRow};

use std::collections::HashSet;

use super::{begin, withdrawn};
use crate::{
    BlockRef, Grantee, RecordedBlock, RecordedTransaction, StoreError,
    columns::{hash, integer, number},
    encoding::encode,
};

pub(super) const RECENT: &str =
    "SELECT number, hash, parent_hash, timestamp_s, pushed FROM blocks WHERE chain_id = ? ORDER BY number DESC LIMIT ?";

pub(super) async fn recent(readers: &SqlitePool, chain_id: u64, limit: u32) -> Result<Vec<BlockRef>, StoreError> {
    let rows = sqlx::query(RECENT)
        .bind(integer("chain id", chain_id)?)
        .bind(i64::from(limit))
        .fetch_all(readers)
        .await?;
    rows.iter().map(block).collect()
}

pub(super) fn block(row: &SqliteRow) -> Result<BlockRef, StoreError> {
    Ok(BlockRef {
        number: number("block number", row.try_get("number")?)?,
        hash: hash("block hash", row.try_get("hash")?)?,
        parent_hash: hash("parent hash", row.try_get("parent_hash")?)?,
        timestamp: number("timestamp", row.try_get("timestamp_s")?)?,
    })
}

pub(super) async fn record(writer: &SqlitePool, chain_id: u64, blocks: &[RecordedBlock]) -> Result<(), StoreError> {
    let chain = integer("chain id", chain_id)?;
    let mut transaction = begin(writer).await?;
    let mut newest = followed(&mut transaction, chain).await?;
    for recorded in blocks {
        if newest.is_some_and(|newest| !newest.is_followed_by(&recorded.block)) {
            return Err(StoreError::NotAChild {
                chain_id,
                number: recorded.block.number,
            });
        }
        record_one(&mut transaction, chain, recorded).await?;
        newest = Some(recorded.block);
    }
    if let Some(newest) = newest {
        withdrawn::forget_old(&mut transaction, chain, newest.number).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Returns the newest block, which must be a followed one.
async fn followed(connection: &mut SqliteConnection, chain: i64) -> Result<Option<BlockRef>, StoreError> {
    let newest = sqlx::query(RECENT).bind(chain).bind(1i64).fetch_optional(connection).await?;
    match newest {
        Some(row) if row.try_get("pushed")? => Err(StoreError::PushedTo),
        newest => newest.as_ref().map(block).transpose(),
    }
}

async fn record_one(connection: &mut SqliteConnection, chain: i64, recorded: &RecordedBlock) -> Result<(), StoreError> {
    let block_number = integer("block number", recorded.block.number)?;
    insert_block(&mut *connection, chain, &recorded.block, false).await?;
    let results = withdrawn::take_up(&mut *connection, chain, &recorded.block).await?;
    for transaction in &recorded.transactions {
        if !transaction.computations.is_empty() {
            let index = integer("transaction index", transaction.index)?;
            record_work(&mut *connection, chain, (block_number, index), transaction, &results).await?;
        }
        record_rights(&mut *connection, chain, block_number, transaction).await?;
    }
    Ok(())
}

pub(super) async fn insert_block(connection: &mut SqliteConnection, chain: i64, block: &BlockRef, pushed: bool) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO blocks (chain_id, number, hash, parent_hash, timestamp_s, pushed, recorded_at_ms)
         VALUES (?, ?, ?, ?, ?, ?, CAST(unixepoch('subsec') * 1000 AS INTEGER))",
    )
    .bind(chain)
    .bind(integer("block number", block.number)?)
    .bind(block.hash.as_slice())
    .bind(block.parent_hash.as_slice())
    .bind(integer("timestamp", block.timestamp)?)
    .bind(pushed)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn record_work(
    connection: &mut SqliteConnection,
    chain: i64,
    (block_number, index): (i64, i64),
    transaction: &RecordedTransaction,
    results: &HashSet<Vec<u8>>,
) -> Result<(), StoreError> {
    let done = transaction.outputs.iter().all(|output| results.contains(output.as_slice()));
    let id = sqlx::query(
        "INSERT INTO transactions (chain_id, block_number, transaction_index, hash, computations, work, state)
         VALUES (?, ?, ?, ?, '', ?, ?)",
    )
    .bind(chain)
    .bind(block_number)
    .bind(index)
    .bind(transaction.hash.as_slice())
    .bind(encode(&transaction.computations))
    .bind(if done { "done" } else { "pending" })
    .execute(&mut *connection)
    .await?
    .last_insert_rowid();
    for handle in &transaction.boundary {
        sqlx::query("INSERT INTO transaction_boundary (transaction_id, handle) VALUES (?, ?) ON CONFLICT DO NOTHING")
            .bind(id)
            .bind(handle.as_slice())
            .execute(&mut *connection)
            .await?;
    }
    for handle in &transaction.outputs {
        sqlx::query("INSERT INTO transaction_outputs (transaction_id, handle) VALUES (?, ?) ON CONFLICT DO NOTHING")
            .bind(id)
            .bind(handle.as_slice())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn record_rights(
    connection: &mut SqliteConnection,
    chain: i64,
    block_number: i64,
    transaction: &RecordedTransaction,
) -> Result<(), StoreError> {
    for grant in &transaction.grants {
        let account: &[u8] = match &grant.grantee {
            Grantee::Account(account) => account.as_slice(),
            Grantee::PublicDecryption => &[],
        };
        sqlx::query("INSERT INTO grants (chain_id, handle, account, block_number) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(chain)
            .bind(grant.handle.as_slice())
            .bind(account)
            .bind(block_number)
            .execute(&mut *connection)
            .await?;
    }
    for delegation in &transaction.delegations {
        sqlx::query(
            "INSERT INTO delegations (chain_id, delegator, delegate, contract, block_number, expires_at_s) VALUES (?, ?, ?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET expires_at_s = excluded.expires_at_s",
        )
        .bind(chain)
        .bind(delegation.delegator.as_slice())
        .bind(delegation.delegate.as_slice())
        .bind(delegation.contract.as_slice())
        .bind(block_number)
        .bind(delegation.expires_at.to_be_bytes().as_slice())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

pub(super) async fn remove_from(writer: &SqlitePool, chain_id: u64, first_removed: u64) -> Result<(), StoreError> {
    let chain = integer("chain id", chain_id)?;
    let first_removed = integer("block number", first_removed)?;
    let mut transaction = begin(writer).await?;
    followed(&mut transaction, chain).await?;
    withdrawn::put_aside(&mut transaction, chain, first_removed).await?;
    // Transactions, grants and delegations go with their block.
    sqlx::query("DELETE FROM blocks WHERE chain_id = ? AND number >= ?")
        .bind(chain)
        .bind(first_removed)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(())
}

pub(super) async fn count_pending(readers: &SqlitePool, chain_id: u64) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM transactions WHERE chain_id = ? AND state = 'pending'")
        .bind(integer("chain id", chain_id)?)
        .fetch_one(readers)
        .await?;
    number("count", count)
}
