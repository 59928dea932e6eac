//! What operators see of the transactions, and trying poisoned ones again.

use sqlx::{Row, Sqlite, query::Query, sqlite::SqliteArguments, sqlite::SqliteConnection, sqlite::SqliteRow};

use super::{
    SqliteStore, begin,
    leases::{COUNT_RUNNABLE, computations, is_waiting},
};
use crate::{
    Backlog, Inspection, LeaseSummary, OutputSummary, RetryRequest, StoreError, StoreFuture, TransactionDetail, TransactionFilter,
    TransactionKey, TransactionNumber, TransactionPosition, TransactionState, TransactionSummary, WaitSummary,
    columns::{handle, hash, integer, number},
};

impl Inspection for SqliteStore {
    fn list_transactions<'a>(&'a self, filter: &'a TransactionFilter) -> StoreFuture<'a, Vec<TransactionSummary>> {
        Box::pin(list(self, filter))
    }

    fn transaction<'a>(&'a self, key: &'a TransactionKey) -> StoreFuture<'a, Option<TransactionDetail>> {
        Box::pin(find(self, key))
    }

    fn retry<'a>(&'a self, request: &'a RetryRequest) -> StoreFuture<'a, u64> {
        Box::pin(retry(self, request))
    }

    fn backlog(&self, now_ms: u64) -> StoreFuture<'_, Backlog> {
        Box::pin(backlog(self, now_ms))
    }
}

/// Summaries of those that a condition selects; the first parameter is the chain, or none for any.
macro_rules! summaries {
    ($condition:literal) => {
        concat!(
            "SELECT t.id, t.block_number, t.transaction_index, t.hash, t.state, t.attempts, t.lease_owner, t.lease_expires_at_ms, t.work,
                t.computations,
                (SELECT b.timestamp_s FROM blocks b WHERE b.chain_id = t.chain_id AND b.number = t.block_number) AS timestamp_s,
                (SELECT count(*) FROM transaction_outputs o WHERE o.transaction_id = t.id) AS outputs,
                (SELECT o.failure FROM transaction_outputs o WHERE o.transaction_id = t.id AND o.failure IS NOT NULL
                 ORDER BY o.handle LIMIT 1) AS failure
             FROM transactions t WHERE (?1 IS NULL OR t.chain_id = ?1) AND ",
            $condition,
            " ORDER BY t.block_number DESC, t.transaction_index DESC LIMIT ?2"
        )
    };
}

const LISTED: &str = summaries!("(t.block_number, t.transaction_index) < (?3, ?4) AND (?5 IS NULL OR t.state = ?5)");
const LISTED_OF_HANDLE: &str = summaries!(
    "t.id IN (SELECT o.transaction_id FROM transaction_outputs o WHERE o.handle = ?6)
     AND (t.block_number, t.transaction_index) < (?3, ?4) AND (?5 IS NULL OR t.state = ?5)"
);

impl SqliteStore {
    /// The chain of the tenant this is the part of, as a column.
    fn chain_column(&self) -> Result<Option<i64>, StoreError> {
        self.chain.map(|chain| integer("chain id", chain)).transpose()
    }
}

async fn list(store: &SqliteStore, filter: &TransactionFilter) -> Result<Vec<TransactionSummary>, StoreError> {
    let (block, index) = match filter.before {
        None => (i64::MAX, i64::MAX),
        Some(before) => (
            integer("block number", before.block_number)?,
            integer("transaction index", before.index)?,
        ),
    };
    let mut query = sqlx::query(if filter.handle.is_some() { LISTED_OF_HANDLE } else { LISTED })
        .bind(store.chain_column()?)
        .bind(i64::from(filter.limit))
        .bind(block)
        .bind(index)
        .bind(filter.state.map(TransactionState::name));
    if let Some(handle) = &filter.handle {
        query = query.bind(handle.as_slice());
    }
    let mut transaction = store.readers.begin().await?;
    let mut summaries = Vec::new();
    for row in query.fetch_all(&mut *transaction).await? {
        summaries.push(summary(&mut transaction, &row).await?);
    }
    Ok(summaries)
}

async fn summary(connection: &mut SqliteConnection, row: &SqliteRow) -> Result<TransactionSummary, StoreError> {
    let state: &str = row.try_get("state")?;
    let lease = match (row.try_get("lease_owner")?, row.try_get("lease_expires_at_ms")?) {
        (Some(owner), Some(expires_at_ms)) => Some(LeaseSummary {
            owner,
            expires_at_ms: number("lease end", expires_at_ms)?,
        }),
        _ => None,
    };
    let transaction = TransactionNumber(row.try_get("id")?);
    Ok(TransactionSummary {
        number: transaction,
        position: TransactionPosition {
            block_number: number("block number", row.try_get("block_number")?)?,
            index: number("transaction index", row.try_get("transaction_index")?)?,
        },
        recorded_at_s: number("timestamp", row.try_get("timestamp_s")?)?,
        hash: hash("transaction hash", row.try_get("hash")?)?,
        state: TransactionState::from_name(state).ok_or_else(|| StoreError::corrupt("state", state))?,
        outputs: number("count", row.try_get("outputs")?)?,
        failure: row.try_get("failure")?,
        waits: is_waiting(connection, transaction).await?,
        lease,
        attempts: u32::try_from(row.try_get::<i64, _>("attempts")?).unwrap_or(u32::MAX),
    })
}

async fn find(store: &SqliteStore, key: &TransactionKey) -> Result<Option<TransactionDetail>, StoreError> {
    let query: Query<'_, Sqlite, SqliteArguments> = match key {
        TransactionKey::Hash(hash) => sqlx::query(summaries!("t.hash = ?3"))
            .bind(store.chain_column()?)
            .bind(1i64)
            .bind(hash.as_slice()),
        TransactionKey::Handle(handle) => sqlx::query(summaries!(
            "t.id IN (SELECT o.transaction_id FROM transaction_outputs o WHERE o.handle = ?3)"
        ))
        .bind(store.chain_column()?)
        .bind(1i64)
        .bind(handle.as_slice()),
    };
    // Of one instant: the parts of a transaction belong together.
    let mut transaction = store.readers.begin().await?;
    let Some(row) = query.fetch_optional(&mut *transaction).await? else {
        return Ok(None);
    };
    let summary = summary(&mut transaction, &row).await?;
    Ok(Some(TransactionDetail {
        computations: computations(&row)?,
        outputs: outputs(&mut transaction, summary.number).await?,
        waits_for: waits(&mut transaction, &summary).await?,
        summary,
    }))
}

async fn outputs(connection: &mut SqliteConnection, transaction: TransactionNumber) -> Result<Vec<OutputSummary>, StoreError> {
    let rows = sqlx::query(
        "SELECT o.handle, o.failure,
            EXISTS (SELECT 1 FROM ciphertexts c JOIN transactions t ON t.chain_id = c.chain_id
                    WHERE t.id = o.transaction_id AND c.handle = o.handle) AS stored
         FROM transaction_outputs o WHERE o.transaction_id = ? ORDER BY o.handle",
    )
    .bind(transaction.0)
    .fetch_all(connection)
    .await?;
    let output = |row: &SqliteRow| {
        Ok(OutputSummary {
            handle: handle(row.try_get("handle")?)?,
            stored: row.try_get("stored")?,
            failure: row.try_get("failure")?,
        })
    };
    rows.iter().map(output).collect()
}

async fn waits(connection: &mut SqliteConnection, summary: &TransactionSummary) -> Result<Vec<WaitSummary>, StoreError> {
    if summary.state != TransactionState::Pending {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "SELECT handle, producer FROM (
            SELECT needed.handle, (
                SELECT p.hash FROM transaction_outputs o JOIN transactions p ON p.id = o.transaction_id
                WHERE o.handle = needed.handle AND p.chain_id = t.chain_id AND p.state = 'pending'
                  AND (p.block_number, p.transaction_index) < (t.block_number, t.transaction_index)
                ORDER BY p.block_number DESC, p.transaction_index DESC LIMIT 1) AS producer
            FROM transactions t, (
                SELECT b.handle FROM transaction_boundary b WHERE b.transaction_id = ?1 AND NOT EXISTS (
                    SELECT 1 FROM ciphertexts c JOIN transactions own ON own.chain_id = c.chain_id
                    WHERE own.id = ?1 AND c.handle = b.handle)
                UNION
                SELECT o.handle FROM transaction_outputs o WHERE o.transaction_id = ?1) AS needed
            WHERE t.id = ?1)
         WHERE producer IS NOT NULL ORDER BY handle",
    )
    .bind(summary.number.0)
    .fetch_all(connection)
    .await?;
    let wait = |row: &SqliteRow| {
        Ok(WaitSummary {
            handle: handle(row.try_get("handle")?)?,
            transaction: hash("transaction hash", row.try_get("producer")?)?,
        })
    };
    rows.iter().map(wait).collect()
}

/// The poisoned transactions that are asked for, and those that failed because of them: they need a handle that failed before them.
macro_rules! again {
    ($requested:literal) => {
        concat!(
            "WITH RECURSIVE again (id) AS (
                SELECT * FROM (SELECT t.id FROM transactions t WHERE t.state = 'poisoned' AND (?1 IS NULL OR t.chain_id = ?1) AND ",
            $requested,
            ")
                UNION
                SELECT t.id FROM again a
                JOIN transactions f ON f.id = a.id
                JOIN transaction_outputs o ON o.transaction_id = a.id AND o.failure IS NOT NULL
                JOIN transaction_boundary b ON b.handle = o.handle
                JOIN transactions t ON t.id = b.transaction_id
                WHERE t.state = 'poisoned' AND t.chain_id = f.chain_id
                  AND (t.block_number, t.transaction_index) > (f.block_number, f.transaction_index))
             SELECT again.id, t.chain_id FROM again JOIN transactions t ON t.id = again.id"
        )
    };
}

async fn retry(store: &SqliteStore, request: &RetryRequest) -> Result<u64, StoreError> {
    let chain = store.chain_column()?;
    let query: Query<'_, Sqlite, SqliteArguments> = match request {
        RetryRequest::All => sqlx::query(again!("TRUE")).bind(chain),
        RetryRequest::One(TransactionKey::Hash(hash)) => {
            sqlx::query(again!("t.hash = ?2 ORDER BY t.block_number DESC, t.transaction_index DESC LIMIT 1"))
                .bind(chain)
                .bind(hash.as_slice())
        }
        RetryRequest::One(TransactionKey::Handle(handle)) => sqlx::query(again!(
            "t.id IN (SELECT o.transaction_id FROM transaction_outputs o WHERE o.handle = ?2)
             ORDER BY t.block_number DESC, t.transaction_index DESC LIMIT 1"
        ))
        .bind(chain)
        .bind(handle.as_slice()),
    };
    let mut transaction = begin(&store.writer).await?;
    let again = query.fetch_all(&mut *transaction).await?;
    for row in &again {
        for statement in [
            "UPDATE transaction_outputs SET failure = NULL WHERE transaction_id = ?",
            "UPDATE transactions SET state = 'pending', attempts = 0 WHERE id = ?",
        ] {
            sqlx::query(statement)
                .bind(row.try_get::<i64, _>("id")?)
                .execute(&mut *transaction)
                .await?;
        }
    }
    transaction.commit().await?;
    if let Some(row) = again.first() {
        store.announce(number("chain id", row.try_get("chain_id")?)?);
    }
    Ok(u64::try_from(again.len()).unwrap_or(u64::MAX))
}

async fn backlog(store: &SqliteStore, now_ms: u64) -> Result<Backlog, StoreError> {
    let chain = store.chain_column()?;
    let mut transaction = store.readers.begin().await?;
    let row = sqlx::query(
        "SELECT newest, b.number AS oldest, coalesce(b.recorded_at_ms, b.timestamp_s * 1000) AS recorded_at_ms,
            (SELECT count(*) FROM transactions WHERE (?1 IS NULL OR chain_id = ?1) AND state = 'pending') AS pending,
            (SELECT count(*) FROM transactions WHERE (?1 IS NULL OR chain_id = ?1) AND lease_expires_at_ms > ?2) AS leased,
            (SELECT count(*) FROM transactions WHERE (?1 IS NULL OR chain_id = ?1) AND state = 'poisoned') AS poisoned
         FROM (SELECT
                (SELECT max(number) FROM blocks WHERE ?1 IS NULL OR chain_id = ?1) AS newest,
                (SELECT min(block_number) FROM transactions WHERE (?1 IS NULL OR chain_id = ?1) AND state = 'pending') AS first)
         LEFT JOIN blocks b ON b.number = first AND (?1 IS NULL OR b.chain_id = ?1)
         LIMIT 1",
    )
    .bind(chain)
    .bind(integer("time", now_ms)?)
    .fetch_one(&mut *transaction)
    .await?;
    let runnable: i64 = sqlx::query_scalar(COUNT_RUNNABLE).bind(chain).fetch_one(&mut *transaction).await?;
    let (oldest, newest): (Option<i64>, Option<i64>) = (row.try_get("oldest")?, row.try_get("newest")?);
    let recorded_at_ms: Option<i64> = row.try_get("recorded_at_ms")?;
    let recorded_at_ms = recorded_at_ms.map(|at| number("time of recording", at)).transpose()?;
    Ok(Backlog {
        pending: number("count", row.try_get("pending")?)?,
        runnable: number("count", runnable)?,
        leased: number("count", row.try_get("leased")?)?,
        poisoned: number("count", row.try_get("poisoned")?)?,
        oldest_pending_age_ms: recorded_at_ms.map(|at| now_ms.saturating_sub(at)),
        oldest_pending_blocks: match (oldest, newest) {
            (Some(oldest), Some(newest)) => Some(number("count", newest - oldest)?),
            _ => None,
        },
    })
}
