//! Work that a node sends, and names of handles.

use std::collections::HashSet;

use cipherloom_primitives::Handle;
use sqlx::{Row, SqlitePool, sqlite::SqliteConnection};

use super::{
    begin,
    blocks::{RECENT, block, insert_block, record_work},
    handles::is_known,
};
use crate::{
    BlockRef, NamedHandle, PushedWork, StoreError,
    columns::{handle as read_handle, integer, number},
};

pub(super) async fn record(writer: &SqlitePool, chain_id: u64, work: &PushedWork) -> Result<(), StoreError> {
    let chain = integer("chain id", chain_id)?;
    work.check_outputs()?;
    if work.transactions.is_empty() {
        return add_names(writer, &work.names).await;
    }
    let mut transaction = begin(writer).await?;
    let newest = newest(&mut transaction, chain).await?;
    let known = listed(&mut transaction, chain, work.outputs().collect(), true).await?;
    if !known.is_empty() {
        return Err(StoreError::KnownHandles(known));
    }
    // After what is known, so that what is sent again is not refused for want of room.
    if work.max_pending.is_some() {
        work.check_backlog(pending(&mut transaction, chain).await?)?;
    }
    let unknown = listed(&mut transaction, chain, work.outside(), false).await?;
    if !unknown.is_empty() {
        return Err(StoreError::UnknownHandles(unknown));
    }
    let block = work.block_after(newest.as_ref());
    insert_block(&mut transaction, chain, &block, true).await?;
    for (index, recorded) in (0..).zip(&work.transactions) {
        record_work(
            &mut transaction,
            chain,
            (integer("block number", block.number)?, index),
            recorded,
            &HashSet::new(),
        )
        .await?;
    }
    insert_names(&mut transaction, &work.names).await?;
    transaction.commit().await?;
    Ok(())
}

/// Returns the newest block, which must be one of pushed work.
async fn newest(connection: &mut SqliteConnection, chain: i64) -> Result<Option<BlockRef>, StoreError> {
    let newest = sqlx::query(RECENT).bind(chain).bind(1i64).fetch_optional(connection).await?;
    match newest {
        Some(row) if !row.try_get::<bool, _>("pushed")? => Err(StoreError::Followed),
        newest => newest.as_ref().map(block).transpose(),
    }
}

async fn pending(connection: &mut SqliteConnection, chain: i64) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM transactions WHERE chain_id = ? AND state = 'pending'")
        .bind(chain)
        .fetch_one(connection)
        .await?;
    number("pending transactions", count)
}

/// Returns those handles that are known, or those that are not.
async fn listed(connection: &mut SqliteConnection, chain: i64, handles: Vec<Handle>, known: bool) -> Result<Vec<Handle>, StoreError> {
    let mut listed = Vec::new();
    for handle in handles {
        if is_known(&mut *connection, chain, handle).await? == known {
            listed.push(handle);
        }
    }
    Ok(listed)
}

pub(super) async fn add_names(writer: &SqlitePool, names: &[NamedHandle]) -> Result<(), StoreError> {
    let mut transaction = begin(writer).await?;
    insert_names(&mut transaction, names).await?;
    transaction.commit().await?;
    Ok(())
}

async fn insert_names(connection: &mut SqliteConnection, names: &[NamedHandle]) -> Result<(), StoreError> {
    for named in names {
        named.check()?;
        let chain = integer("chain id", named.handle.chain_id())?;
        // Changed to what it is, because otherwise nothing is returned.
        let handle: Vec<u8> = sqlx::query_scalar(
            "INSERT INTO handle_names (chain_id, name, handle) VALUES (?, ?, ?)
             ON CONFLICT DO UPDATE SET handle = handle RETURNING handle",
        )
        .bind(chain)
        .bind(named.name.as_slice())
        .bind(named.handle.as_slice())
        .fetch_one(&mut *connection)
        .await?;
        if handle != named.handle.as_slice() {
            return Err(StoreError::NameTaken(read_handle(&handle)?));
        }
    }
    Ok(())
}

/// Finds names on a chain, or on any.
pub(super) async fn handles_of_names(
    readers: &SqlitePool,
    chain_id: Option<u64>,
    names: &[Vec<u8>],
) -> Result<Vec<Option<Handle>>, StoreError> {
    let chain = chain_id.map(|chain_id| integer("chain id", chain_id)).transpose()?;
    let mut connection = readers.acquire().await?;
    let mut handles = Vec::with_capacity(names.len());
    for name in names {
        let handle = sqlx::query_scalar::<_, Vec<u8>>(
            "SELECT handle FROM handle_names WHERE name = ?1 AND (?2 IS NULL OR chain_id = ?2) ORDER BY chain_id LIMIT 1",
        )
        .bind(name.as_slice())
        .bind(chain)
        .fetch_optional(&mut *connection)
        .await?;
        handles.push(handle.map(|bytes| read_handle(&bytes)).transpose()?);
    }
    Ok(handles)
}
