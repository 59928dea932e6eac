//! Leases on transactions, and the publication of their results.
//!
//! A transaction has at most one lease because the lease is part of its row. Taking it over raises the generation, so
//! whatever the former owner still tries matches no row.

use cipherloom_primitives::Computation;
use sqlx::{
    Row, SqlitePool,
    sqlite::{SqliteConnection, SqliteRow},
};

use super::{begin, ciphertexts::insert};
use crate::{
    Finished, Lease, LeaseRequest, LeasedTransaction, StoreError, TransactionNumber,
    columns::{handle, hash, integer, number, recorded_at},
    encoding::decode,
};

/// What makes a transaction `t` able to run: no earlier pending one publishes a ciphertext it needs and that is not there yet, or one that
/// it publishes too.
///
/// `CROSS JOIN` is SQLite's word for "in this order": from a handle to who publishes it. Left alone, it begins with all earlier pending
/// transactions instead, for each one, and takes minutes where there are some ten thousand.
macro_rules! waiting_for_nothing {
    ($before:expr, $after:expr) => {
        concat!(
            $before,
            " t.state = 'pending'
              AND NOT EXISTS (
                SELECT 1 FROM transaction_boundary b
                CROSS JOIN transaction_outputs o ON o.handle = b.handle
                CROSS JOIN transactions p ON p.id = o.transaction_id
                WHERE b.transaction_id = t.id AND p.chain_id = t.chain_id AND p.state = 'pending'
                  AND (p.block_number, p.transaction_index) < (t.block_number, t.transaction_index)
                  AND NOT EXISTS (SELECT 1 FROM ciphertexts c WHERE c.chain_id = t.chain_id AND c.handle = b.handle))
              AND NOT EXISTS (
                SELECT 1 FROM transaction_outputs own
                CROSS JOIN transaction_outputs o ON o.handle = own.handle
                CROSS JOIN transactions p ON p.id = o.transaction_id
                WHERE own.transaction_id = t.id AND p.chain_id = t.chain_id AND p.state = 'pending'
                  AND (p.block_number, p.transaction_index) < (t.block_number, t.transaction_index)) ",
            $after
        )
    };
}

/// Whether a chain has a transaction to lease.
pub(super) const RUNNABLE_NOW: &str = waiting_for_nothing!(
    "SELECT EXISTS (SELECT 1 FROM transactions t
     WHERE t.chain_id = ?1 AND (t.lease_expires_at_ms IS NULL OR t.lease_expires_at_ms <= ?2) AND ",
    ")"
);

/// How many transactions of a chain, or of all, wait for nothing.
pub(super) const COUNT_RUNNABLE: &str =
    waiting_for_nothing!("SELECT count(*) FROM transactions t WHERE (?1 IS NULL OR t.chain_id = ?1) AND ", "");

/// Says whether a transaction is pending and waits for another one.
pub(super) async fn is_waiting(connection: &mut SqliteConnection, transaction: TransactionNumber) -> Result<bool, StoreError> {
    let waiting = sqlx::query_scalar(waiting_for_nothing!(
        "SELECT EXISTS (SELECT 1 FROM transactions WHERE id = ?1 AND state = 'pending')
            AND NOT EXISTS (SELECT 1 FROM transactions t WHERE t.id = ?1 AND ",
        ")"
    ));
    Ok(waiting.bind(transaction.0).fetch_one(connection).await?)
}

macro_rules! lease_of {
    ($which:literal) => {
        waiting_for_nothing!(
            concat!(
                "UPDATE transactions
                 SET lease_owner = ?1, lease_expires_at_ms = ?2, lease_generation = lease_generation + 1, attempts = attempts + 1
                 WHERE id IN (
                    SELECT t.id FROM transactions t
                    WHERE t.chain_id = ?3 AND (t.lease_expires_at_ms IS NULL OR t.lease_expires_at_ms <= ?4) AND ",
                $which
            ),
            " ORDER BY t.block_number, t.transaction_index
              LIMIT ?5)
              RETURNING id, lease_generation, block_number, transaction_index, hash, work, computations, attempts,
                (SELECT b.recorded_at_ms FROM blocks b
                 WHERE b.chain_id = transactions.chain_id AND b.number = transactions.block_number) AS recorded_at_ms"
        )
    };
}

/// The oldest.
const LEASE_OLDEST: &str = lease_of!("");

/// Some that are named, as a JSON list of numbers.
const LEASE_NAMED: &str = lease_of!(" t.id IN (SELECT value FROM json_each(?6)) AND ");

/// Those that may wait for a transaction, oldest first: they come later, and need what it publishes or publish it too.
const FOLLOWERS: &str = "
    SELECT t.id FROM transactions t JOIN transactions f ON f.id = ?1
    WHERE t.id IN (
        SELECT b.transaction_id FROM transaction_outputs o JOIN transaction_boundary b ON b.handle = o.handle WHERE o.transaction_id = ?1
        UNION
        SELECT own.transaction_id FROM transaction_outputs o JOIN transaction_outputs own ON own.handle = o.handle
        WHERE o.transaction_id = ?1)
      AND t.chain_id = f.chain_id AND (t.block_number, t.transaction_index) > (f.block_number, f.transaction_index)
    ORDER BY t.block_number, t.transaction_index";

pub(super) async fn lease(writer: &SqlitePool, request: &LeaseRequest) -> Result<Vec<LeasedTransaction>, StoreError> {
    let claim = Claim {
        owner: &request.owner,
        chain: integer("chain id", request.chain_id)?,
        now_ms: integer("time", request.now_ms)?,
        expires_at_ms: integer("lease end", request.now_ms.saturating_add(request.duration_ms))?,
    };
    let mut transaction = begin(writer).await?;
    let limit = claim.limit(&mut transaction, request.limit).await?;
    let mut leased = match request.first.as_slice() {
        [] => Vec::new(),
        first => claim.take(&mut transaction, LEASE_NAMED, limit, Some(first)).await?,
    };
    let more = limit.saturating_sub(u32::try_from(leased.len()).unwrap_or(u32::MAX));
    if more > 0 {
        leased.extend(claim.take(&mut transaction, LEASE_OLDEST, more, None).await?);
    }
    for leased in &mut leased {
        let outputs = sqlx::query_scalar::<_, Vec<u8>>("SELECT handle FROM transaction_outputs WHERE transaction_id = ?")
            .bind(leased.lease.transaction)
            .fetch_all(&mut *transaction)
            .await?;
        leased.outputs = outputs.iter().map(|bytes| handle(bytes)).collect::<Result<_, _>>()?;
    }
    transaction.commit().await?;
    Ok(leased)
}

/// Who leases, and for how long.
struct Claim<'a> {
    owner: &'a str,
    chain: i64,
    now_ms: i64,
    expires_at_ms: i64,
}

impl Claim<'_> {
    /// Returns how many transactions may be leased: as many as wanted, and no more than the limit of the chain's tenant leaves.
    async fn limit(&self, connection: &mut SqliteConnection, wanted: u32) -> Result<u32, StoreError> {
        let room: Option<i64> = sqlx::query_scalar(
            "SELECT max_concurrent_transactions - (
                SELECT count(*) FROM transactions t WHERE t.chain_id = ?1 AND t.lease_expires_at_ms > ?2)
             FROM tenants WHERE chain_id = ?1 AND max_concurrent_transactions IS NOT NULL",
        )
        .bind(self.chain)
        .bind(self.now_ms)
        .fetch_optional(connection)
        .await?;
        Ok(room.map_or(wanted, |room| wanted.min(u32::try_from(room.max(0)).unwrap_or(u32::MAX))))
    }

    /// Leases what a statement finds, oldest first, without the outputs.
    async fn take(
        &self,
        connection: &mut SqliteConnection,
        statement: &'static str,
        limit: u32,
        among: Option<&[TransactionNumber]>,
    ) -> Result<Vec<LeasedTransaction>, StoreError> {
        let mut query = sqlx::query(statement)
            .bind(self.owner)
            .bind(self.expires_at_ms)
            .bind(self.chain)
            .bind(self.now_ms)
            .bind(i64::from(limit));
        if let Some(among) = among {
            let among: Vec<i64> = among.iter().map(|number| number.0).collect();
            query = query.bind(serde_json::json!(among).to_string());
        }
        let mut rows = query
            .fetch_all(connection)
            .await?
            .iter()
            .map(|row| Ok(((row.try_get("block_number")?, row.try_get("transaction_index")?), leased(row)?)))
            .collect::<Result<Vec<((i64, i64), LeasedTransaction)>, StoreError>>()?;
        // The order of RETURNING is not defined.
        rows.sort_by_key(|(position, _)| *position);
        Ok(rows.into_iter().map(|(_, leased)| leased).collect())
    }
}

/// Reads the computations of a row of `transactions`: bytes, or JSON in rows of earlier versions.
pub(super) fn computations(row: &SqliteRow) -> Result<Vec<Computation>, StoreError> {
    match row.try_get::<Option<&[u8]>, _>("work")? {
        Some(work) => decode(work),
        None => serde_json::from_str(row.try_get("computations")?).map_err(|error| StoreError::corrupt("computations", error)),
    }
}

fn leased(row: &SqliteRow) -> Result<LeasedTransaction, StoreError> {
    Ok(LeasedTransaction {
        lease: Lease {
            transaction: row.try_get("id")?,
            generation: row.try_get("lease_generation")?,
        },
        block_number: number("block number", row.try_get("block_number")?)?,
        hash: hash("transaction hash", row.try_get("hash")?)?,
        computations: computations(row)?,
        outputs: Vec::new(),
        recorded_at_ms: recorded_at(row.try_get("recorded_at_ms")?)?,
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

/// Gives a lease back and returns the chain, unless the lease was lost.
pub(super) async fn release(writer: &SqlitePool, lease: &Lease) -> Result<Option<u64>, StoreError> {
    let chain: Option<i64> = sqlx::query_scalar(
        "UPDATE transactions SET lease_owner = NULL, lease_expires_at_ms = NULL, attempts = max(attempts - 1, 0)
         WHERE id = ? AND lease_generation = ? AND lease_owner IS NOT NULL RETURNING chain_id",
    )
    .bind(lease.transaction)
    .bind(lease.generation)
    .fetch_optional(writer)
    .await?;
    chain.map(|chain| number("chain id", chain)).transpose()
}

/// Ends every lease; only for a store that no other process uses.
pub(super) async fn end_all(writer: &SqlitePool) -> Result<(), StoreError> {
    sqlx::query("UPDATE transactions SET lease_owner = NULL, lease_expires_at_ms = NULL WHERE lease_owner IS NOT NULL")
        .execute(writer)
        .await?;
    Ok(())
}

/// Publishes, and returns the chain and what can run now.
pub(super) async fn finish(writer: &SqlitePool, lease: &Lease, finished: &Finished) -> Result<(u64, Vec<TransactionNumber>), StoreError> {
    let state = if finished.failures.is_empty() { "done" } else { "poisoned" };
    let mut transaction = begin(writer).await?;
    let mut waiting = Vec::new();
    let followers = sqlx::query_scalar::<_, i64>(FOLLOWERS).bind(lease.transaction);
    for follower in followers.fetch_all(&mut *transaction).await? {
        if is_waiting(&mut transaction, TransactionNumber(follower)).await? {
            waiting.push(TransactionNumber(follower));
        }
    }
    let place = sqlx::query(
        "UPDATE transactions SET state = ?, lease_owner = NULL, lease_expires_at_ms = NULL
         WHERE id = ? AND lease_generation = ? AND lease_owner IS NOT NULL RETURNING chain_id, block_number",
    )
    .bind(state)
    .bind(lease.transaction)
    .bind(lease.generation)
    .fetch_optional(&mut *transaction)
    .await?;
    let place = place.ok_or_else(|| lease.lost())?;
    let (chain, block_number): (i64, i64) = (place.try_get("chain_id")?, place.try_get("block_number")?);
    for ciphertext in &finished.ciphertexts {
        insert(&mut transaction, ciphertext, Some(block_number)).await?;
    }
    for failure in &finished.failures {
        sqlx::query("UPDATE transaction_outputs SET failure = ? WHERE transaction_id = ? AND handle = ?")
            .bind(failure.reason.as_str())
            .bind(lease.transaction)
            .bind(failure.handle.as_slice())
            .execute(&mut *transaction)
            .await?;
    }
    let mut freed = Vec::new();
    for follower in waiting {
        if !is_waiting(&mut transaction, follower).await? {
            freed.push(follower);
        }
    }
    transaction.commit().await?;
    Ok((number("chain id", chain)?, freed))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SqliteStore;

    #[tokio::test]
    async fn what_can_run_is_found_from_handles_and_never_by_looking_at_everything_pending() {
        let store = SqliteStore::in_memory().await.unwrap();
        for statement in [RUNNABLE_NOW, COUNT_RUNNABLE, LEASE_OLDEST, LEASE_NAMED] {
            let plan = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")))
                .fetch_all(&store.readers)
                .await
                .unwrap();
            let steps: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
            let earlier: Vec<_> = steps.iter().filter(|step| step.starts_with("SEARCH p ")).collect();
            assert_eq!(earlier.len(), 2, "{steps:#?}");
            assert!(earlier.iter().all(|step| step.contains("INTEGER PRIMARY KEY")), "{steps:#?}");
        }
    }
}
