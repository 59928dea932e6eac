//! What operators see of a tenant's transactions.

use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{PostgresStore, leases::computations, retry};
use crate::{
    Backlog, Inspection, LeaseSummary, OutputSummary, RetryRequest, StoreError, StoreFuture, TransactionDetail, TransactionFilter,
    TransactionKey, TransactionNumber, TransactionPosition, TransactionState, TransactionSummary, WaitSummary,
    columns::{handle, hash, integer, number},
};

impl Inspection for PostgresStore {
    fn list_transactions<'a>(&'a self, filter: &'a TransactionFilter) -> StoreFuture<'a, Vec<TransactionSummary>> {
        Box::pin(list(self, filter))
    }

    fn transaction<'a>(&'a self, key: &'a TransactionKey) -> StoreFuture<'a, Option<TransactionDetail>> {
        Box::pin(find(self, key))
    }

    fn retry<'a>(&'a self, request: &'a RetryRequest) -> StoreFuture<'a, u64> {
        Box::pin(retry::retry(self, request))
    }

    fn backlog(&self, now_ms: u64) -> StoreFuture<'_, Backlog> {
        Box::pin(backlog(self, now_ms))
    }
}

/// Summaries of those that a condition selects; the first parameter is the tenant.
macro_rules! summaries {
    ($condition:literal, $order:literal) => {
        concat!(
            "SELECT t.id, t.block_number, t.transaction_index, t.hash, t.state, t.waits_for, t.attempts, t.lease_owner,
                t.lease_expires_at_ms, t.work, t.computations,
                (SELECT b.timestamp_s FROM blocks b WHERE b.tenant_id = t.tenant_id AND b.number = t.block_number) AS timestamp_s,
                (SELECT count(*) FROM transaction_outputs o WHERE o.transaction_id = t.id) AS outputs,
                (SELECT o.failure FROM transaction_outputs o WHERE o.transaction_id = t.id AND o.failure IS NOT NULL
                 ORDER BY o.handle LIMIT 1) AS failure
             FROM transactions t WHERE t.tenant_id = $1 AND ",
            $condition,
            " ORDER BY t.block_number DESC, t.transaction_index DESC ",
            $order
        )
    };
}

/// Before a position. States are literal, so that what is pending or poisoned is found in its index.
const ANY: &str = summaries!("(t.block_number, t.transaction_index) < ($2, $3)", "LIMIT $4");
const PENDING: &str = summaries!(
    "(t.block_number, t.transaction_index) < ($2, $3) AND t.state = 'pending'",
    "LIMIT $4"
);
const DONE: &str = summaries!("(t.block_number, t.transaction_index) < ($2, $3) AND t.state = 'done'", "LIMIT $4");
const POISONED: &str = summaries!(
    "(t.block_number, t.transaction_index) < ($2, $3) AND t.state = 'poisoned'",
    "LIMIT $4"
);

/// The same of those that publish a handle.
const OF_HANDLE: &str = summaries!(
    "t.id = ANY (ARRAY(SELECT o.transaction_id FROM transaction_outputs o WHERE o.tenant_id = $1 AND o.handle = $5))
     AND (t.block_number, t.transaction_index) < ($2, $3) AND ($6::TEXT IS NULL OR t.state = $6)",
    "LIMIT $4"
);

async fn list(store: &PostgresStore, filter: &TransactionFilter) -> Result<Vec<TransactionSummary>, StoreError> {
    let (block, index) = match filter.before {
        None => (i64::MAX, i64::MAX),
        Some(before) => (
            integer("block number", before.block_number)?,
            integer("transaction index", before.index)?,
        ),
    };
    let statement = match (filter.handle, filter.state) {
        (Some(_), _) => OF_HANDLE,
        (None, None) => ANY,
        (None, Some(TransactionState::Pending)) => PENDING,
        (None, Some(TransactionState::Done)) => DONE,
        (None, Some(TransactionState::Poisoned)) => POISONED,
    };
    let mut query = sqlx::query(statement)
        .bind(store.tenant.0)
        .bind(block)
        .bind(index)
        .bind(i64::from(filter.limit));
    if let Some(handle) = &filter.handle {
        query = query.bind(handle.as_slice()).bind(filter.state.map(TransactionState::name));
    }
    query.fetch_all(store.pool()).await?.iter().map(summary).collect()
}

fn summary(row: &PgRow) -> Result<TransactionSummary, StoreError> {
    let state: &str = row.try_get("state")?;
    let state = TransactionState::from_name(state).ok_or_else(|| StoreError::corrupt("state", state))?;
    let lease = match (row.try_get("lease_owner")?, row.try_get("lease_expires_at_ms")?) {
        (Some(owner), Some(expires_at_ms)) => Some(LeaseSummary {
            owner,
            expires_at_ms: number("lease end", expires_at_ms)?,
        }),
        _ => None,
    };
    Ok(TransactionSummary {
        number: TransactionNumber(row.try_get("id")?),
        position: TransactionPosition {
            block_number: number("block number", row.try_get("block_number")?)?,
            index: number("transaction index", row.try_get("transaction_index")?)?,
        },
        recorded_at_s: number("timestamp", row.try_get("timestamp_s")?)?,
        hash: hash("transaction hash", row.try_get("hash")?)?,
        state,
        outputs: number("count", row.try_get("outputs")?)?,
        failure: row.try_get("failure")?,
        waits: state == TransactionState::Pending && row.try_get::<i32, _>("waits_for")? > 0,
        lease,
        attempts: u32::try_from(row.try_get::<i32, _>("attempts")?).unwrap_or(u32::MAX),
    })
}

async fn find(store: &PostgresStore, key: &TransactionKey) -> Result<Option<TransactionDetail>, StoreError> {
    let query = match key {
        TransactionKey::Hash(hash) => sqlx::query(summaries!("t.hash = $2", "LIMIT 1"))
            .bind(store.tenant.0)
            .bind(hash.as_slice()),
        TransactionKey::Handle(handle) => sqlx::query(summaries!(
            "t.id = ANY (ARRAY(SELECT o.transaction_id FROM transaction_outputs o WHERE o.tenant_id = $1 AND o.handle = $2))",
            "LIMIT 1"
        ))
        .bind(store.tenant.0)
        .bind(handle.as_slice()),
    };
    // Of one instant: the parts of a transaction belong together.
    let mut transaction = store.begin().await?;
    sqlx::raw_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .execute(&mut *transaction)
        .await?;
    let Some(row) = query.fetch_optional(&mut *transaction).await? else {
        return Ok(None);
    };
    let summary = summary(&row)?;
    Ok(Some(TransactionDetail {
        computations: computations(&row)?,
        outputs: outputs(&mut transaction, store, summary.number).await?,
        waits_for: waits(&mut transaction, store, summary.number).await?,
        summary,
    }))
}

async fn outputs(
    connection: &mut PgConnection,
    store: &PostgresStore,
    transaction: TransactionNumber,
) -> Result<Vec<OutputSummary>, StoreError> {
    let rows = sqlx::query(
        "SELECT o.handle, o.failure,
            (SELECT 1 FROM ciphertexts c WHERE c.tenant_id = $1 AND c.handle = o.handle) IS NOT NULL AS stored
         FROM transaction_outputs o WHERE o.transaction_id = $2 ORDER BY o.handle",
    )
    .bind(store.tenant.0)
    .bind(transaction.0)
    .fetch_all(connection)
    .await?;
    let output = |row: &PgRow| {
        Ok(OutputSummary {
            handle: handle(row.try_get("handle")?)?,
            stored: row.try_get("stored")?,
            failure: row.try_get("failure")?,
        })
    };
    rows.iter().map(output).collect()
}

async fn waits(
    connection: &mut PgConnection,
    store: &PostgresStore,
    transaction: TransactionNumber,
) -> Result<Vec<WaitSummary>, StoreError> {
    let rows = sqlx::query(
        "SELECT handle, producer FROM (
            SELECT w.handle, (
                SELECT p.hash FROM transactions p, transactions t
                WHERE p.id = ANY (ARRAY(SELECT o.transaction_id FROM transaction_outputs o WHERE o.tenant_id = $1 AND o.handle = w.handle))
                  AND t.id = $2 AND t.state = 'pending' AND p.state = 'pending'
                  AND (p.block_number, p.transaction_index) < (t.block_number, t.transaction_index)
                ORDER BY p.block_number DESC, p.transaction_index DESC LIMIT 1) AS producer
            FROM (SELECT DISTINCT handle FROM transaction_waits WHERE transaction_id = $2) AS w) AS found
         WHERE producer IS NOT NULL ORDER BY handle",
    )
    .bind(store.tenant.0)
    .bind(transaction.0)
    .fetch_all(connection)
    .await?;
    let wait = |row: &PgRow| {
        Ok(WaitSummary {
            handle: handle(row.try_get("handle")?)?,
            transaction: hash("transaction hash", row.try_get("producer")?)?,
        })
    };
    rows.iter().map(wait).collect()
}

async fn backlog(store: &PostgresStore, now_ms: u64) -> Result<Backlog, StoreError> {
    let row = sqlx::query(
        "SELECT oldest.*, newest, pending,
            (SELECT count(*) FROM transactions WHERE tenant_id = $1 AND state = 'pending' AND waits_for = 0) AS runnable,
            (SELECT count(*) FROM transactions WHERE tenant_id = $1 AND lease_expires_at_ms > $2) AS leased,
            (SELECT count(*) FROM transactions WHERE tenant_id = $1 AND state = 'poisoned') AS poisoned
         FROM (SELECT
                (SELECT pending FROM tenant_work WHERE tenant_id = $1) AS pending,
                (SELECT max(number) FROM blocks WHERE tenant_id = $1) AS newest,
                (SELECT min(block_number) FROM transactions WHERE tenant_id = $1 AND state = 'pending') AS first) AS counted
         LEFT JOIN LATERAL (
            SELECT number, coalesce(recorded_at_ms, timestamp_s * 1000) AS recorded_at_ms FROM blocks
            WHERE tenant_id = $1 AND number = first) AS oldest ON TRUE",
    )
    .bind(store.tenant.0)
    .bind(integer("time", now_ms)?)
    .fetch_one(store.pool())
    .await?;
    let (first, newest): (Option<i64>, Option<i64>) = (row.try_get("number")?, row.try_get("newest")?);
    let recorded_at_ms: Option<i64> = row.try_get("recorded_at_ms")?;
    let recorded_at_ms = recorded_at_ms.map(|at| number("time of recording", at)).transpose()?;
    Ok(Backlog {
        pending: number("count", row.try_get::<Option<i64>, _>("pending")?.unwrap_or_default())?,
        runnable: number("count", row.try_get("runnable")?)?,
        leased: number("count", row.try_get("leased")?)?,
        poisoned: number("count", row.try_get("poisoned")?)?,
        oldest_pending_age_ms: recorded_at_ms.map(|at| now_ms.saturating_sub(at)),
        oldest_pending_blocks: match (first, newest) {
            (Some(first), Some(newest)) => Some(number("count", newest - first)?),
            _ => None,
        },
    })
}
