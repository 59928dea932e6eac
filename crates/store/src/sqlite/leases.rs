//! Leases on transactions, and the publication of their results.
//!
//! A transaction has at most one lease because the lease is part of its row. Taking it over raises the generation, so
//! whatever the former owner still tries matches no row.

use sqlx::{Row, SqlitePool, sqlite::SqliteRow};

use super::{begin, ciphertexts::insert};
use crate::{
    Finished, Lease, LeaseRequest, LeasedTransaction, StoreError,
    columns::{handle, hash, integer, number},
};

/// A transaction can run if no earlier pending one publishes a ciphertext it needs and that is not there yet, or one that it
/// publishes too.
const LEASE: &str = "
    UPDATE transactions
    SET lease_owner = ?1, lease_expires_at_ms = ?2, lease_generation = lease_generation + 1, attempts = attempts + 1
    WHERE id IN (
        SELECT t.id FROM transactions t
        WHERE t.chain_id = ?3 AND t.state = 'pending' AND (t.lease_expires_at_ms IS NULL OR t.lease_expires_at_ms <= ?4)
          AND NOT EXISTS (
            SELECT 1 FROM transaction_boundary b
            JOIN transaction_outputs o ON o.handle = b.handle
            JOIN transactions p ON p.id = o.transaction_id
            WHERE b.transaction_id = t.id AND p.chain_id = t.chain_id AND p.state = 'pending'
              AND (p.block_number, p.transaction_index) < (t.block_number, t.transaction_index)
              AND NOT EXISTS (SELECT 1 FROM ciphertexts c WHERE c.chain_id = t.chain_id AND c.handle = b.handle))
          AND NOT EXISTS (
            SELECT 1 FROM transaction_outputs own
            JOIN transaction_outputs o ON o.handle = own.handle
            JOIN transactions p ON p.id = o.transaction_id
            WHERE own.transaction_id = t.id AND p.chain_id = t.chain_id AND p.state = 'pending'
              AND (p.block_number, p.transaction_index) < (t.block_number, t.transaction_index))
        ORDER BY t.block_number, t.transaction_index
        LIMIT ?5)
    RETURNING id, lease_generation, block_number, transaction_index, hash, computations, attempts";

pub(super) async fn lease(writer: &SqlitePool, request: &LeaseRequest) -> Result<Vec<LeasedTransaction>, StoreError> {
    let now_ms = integer("time", request.now_ms)?;
    let expires_at_ms = integer("lease end", request.now_ms.saturating_add(request.duration_ms))?;
    let mut transaction = begin(writer).await?;
    let mut rows = sqlx::query(LEASE)
        .bind(request.owner.as_str())
        .bind(expires_at_ms)
        .bind(integer("chain id", request.chain_id)?)
        .bind(now_ms)
        .bind(i64::from(request.limit))
        .fetch_all(&mut *transaction)
        .await?
        .iter()
        .map(|row| Ok(((row.try_get("block_number")?, row.try_get("transaction_index")?), leased(row)?)))
        .collect::<Result<Vec<((i64, i64), LeasedTransaction)>, StoreError>>()?;
    for (_, leased) in &mut rows {
        let outputs = sqlx::query_scalar::<_, Vec<u8>>("SELECT handle FROM transaction_outputs WHERE transaction_id = ?")
            .bind(leased.lease.transaction)
            .fetch_all(&mut *transaction)
            .await?;
        leased.outputs = outputs.iter().map(|bytes| handle(bytes)).collect::<Result<_, _>>()?;
    }
    transaction.commit().await?;
    // The order of RETURNING is not defined.
    rows.sort_by_key(|(position, _)| *position);
    Ok(rows.into_iter().map(|(_, leased)| leased).collect())
}

fn leased(row: &SqliteRow) -> Result<LeasedTransaction, StoreError> {
    let computations: &str = row.try_get("computations")?;
    Ok(LeasedTransaction {
        lease: Lease {
            transaction: row.try_get("id")?,
            generation: row.try_get("lease_generation")?,
        },
        block_number: number("block number", row.try_get("block_number")?)?,
        hash: hash("transaction hash", row.try_get("hash")?)?,
        computations: serde_json::from_str(computations).map_err(|error| StoreError::corrupt("computations", error))?,
        outputs: Vec::new(),
        attempts: u32::try_from(row.try_get::<i64, _>("attempts")?).unwrap_or(u32::MAX),
    })
}

pub(super) async fn renew(writer: &SqlitePool, lease: &Lease, expires_at_ms: u64) -> Result<(), StoreError> {
    let renewed =
        sqlx::query("UPDATE transactions SET lease_expires_at_ms = ? WHERE id = ? AND lease_generation = ? AND lease_owner IS NOT NULL")
            .bind(integer("lease end", expires_at_ms)?)
            .bind(lease.transaction)
            .bind(lease.generation)
            .execute(writer)
            .await?;
    expect_one(lease, renewed.rows_affected())
}

pub(super) async fn release(writer: &SqlitePool, lease: &Lease) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE transactions SET lease_owner = NULL, lease_expires_at_ms = NULL, attempts = max(attempts - 1, 0)
         WHERE id = ? AND lease_generation = ? AND lease_owner IS NOT NULL",
    )
    .bind(lease.transaction)
    .bind(lease.generation)
    .execute(writer)
    .await?;
    Ok(())
}

/// Ends every lease; only for a store that no other process uses.
pub(super) async fn end_all(writer: &SqlitePool) -> Result<(), StoreError> {
    sqlx::query("UPDATE transactions SET lease_owner = NULL, lease_expires_at_ms = NULL WHERE lease_owner IS NOT NULL")
        .execute(writer)
        .await?;
    Ok(())
}

pub(super) async fn finish(writer: &SqlitePool, lease: &Lease, finished: &Finished) -> Result<(), StoreError> {
    let state = if finished.failures.is_empty() { "done" } else { "poisoned" };
    let mut transaction = begin(writer).await?;
    let block_number: Option<i64> = sqlx::query_scalar(
        "UPDATE transactions SET state = ?, lease_owner = NULL, lease_expires_at_ms = NULL
         WHERE id = ? AND lease_generation = ? AND lease_owner IS NOT NULL RETURNING block_number",
    )
    .bind(state)
    .bind(lease.transaction)
    .bind(lease.generation)
    .fetch_optional(&mut *transaction)
    .await?;
    expect_one(lease, u64::from(block_number.is_some()))?;
    for ciphertext in &finished.ciphertexts {
        insert(&mut transaction, ciphertext, block_number).await?;
    }
    for failure in &finished.failures {
        sqlx::query("UPDATE transaction_outputs SET failure = ? WHERE transaction_id = ? AND handle = ?")
            .bind(failure.reason.as_str())
            .bind(lease.transaction)
            .bind(failure.handle.as_slice())
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}

fn expect_one(lease: &Lease, rows: u64) -> Result<(), StoreError> {
    if rows == 1 {
        Ok(())
    } else {
        Err(StoreError::LeaseLost {
            transaction: lease.transaction,
        })
    }
}
