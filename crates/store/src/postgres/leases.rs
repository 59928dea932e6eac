//! Leases on transactions, and the publication of their results.
//!
//! A transaction has at most one lease because the lease is part of its row. Taking it over raises the generation, so whatever the former
//! owner still tries matches no row.

use cipherloom_primitives::Computation;
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{
    PostgresStore,
    changes::announce,
    ciphertexts::{insert, put_objects},
};
use crate::{
    Finished, Lease, LeaseRequest, LeasedTransaction, StoreError, TenantId, TransactionNumber,
    columns::{handle, hash, integer, number, recorded_at, text},
    encoding::decode,
};

/// The first key of the advisory locks that [`order_waits`] takes; the second is the tenant's number.
const WAITS_LOCK: i32 = 0x6369_7068;

/// Rows that another worker is about to lease are skipped, and a row that it has leased meanwhile no longer matches when it is locked.
macro_rules! lease_of {
    ($which:literal) => {
        concat!(
            "WITH claimed AS MATERIALIZED (
                SELECT id FROM transactions
                WHERE tenant_id = $3 AND state = 'pending' AND waits_for = 0 AND (lease_expires_at_ms IS NULL OR lease_expires_at_ms <= $4)",
            $which,
            "   ORDER BY block_number, transaction_index
                LIMIT $5
                FOR NO KEY UPDATE SKIP LOCKED)
            UPDATE transactions t
            SET lease_owner = $1, lease_expires_at_ms = $2, lease_generation = t.lease_generation + 1, attempts = t.attempts + 1
            FROM claimed WHERE t.id = claimed.id
            RETURNING t.id, t.lease_generation, t.block_number, t.transaction_index, t.hash, t.work, t.computations, t.attempts,
                (SELECT array_agg(o.handle ORDER BY o.handle) FROM transaction_outputs o WHERE o.transaction_id = t.id) AS outputs,
                (SELECT b.recorded_at_ms FROM blocks b WHERE b.tenant_id = t.tenant_id AND b.number = t.block_number) AS recorded_at_ms"
        )
    };
}

/// The oldest of a tenant that nothing limits. What a limited one has is not found here.
const LEASE_UNLIMITED: &str = lease_of!(" AND (SELECT max_concurrent_transactions FROM tenants WHERE tenant_id = $3) IS NULL ");

/// The oldest.
const LEASE_OLDEST: &str = lease_of!("");

/// Some that are named.
const LEASE_NAMED: &str = lease_of!(" AND id = ANY ($6) ");

pub(super) async fn lease(store: &PostgresStore, request: &LeaseRequest) -> Result<Vec<LeasedTransaction>, StoreError> {
    let claim = Claim {
        owner: text(&request.owner),
        now_ms: integer("time", request.now_ms)?,
        expires_at_ms: integer("lease end", request.now_ms.saturating_add(request.duration_ms))?,
        tenant: store.tenant,
    };
    if !store.serves(request.chain_id)? || request.limit == 0 {
        return Ok(Vec::new());
    }
    // Mostly there is nothing to lease first and no limit, and this is all.
    if request.first.is_empty() {
        let leased = claim
            .take(&mut *store.pool().acquire().await?, LEASE_UNLIMITED, request.limit, None)
            .await?;
        if !leased.is_empty() {
            return Ok(leased);
        }
    }
    let mut transaction = store.begin().await?;
    let limit = limit(&mut transaction, &claim, request.limit).await?;
    let mut leased = match limit {
        0 => Vec::new(),
        limit if request.first.is_empty() => claim.take(&mut transaction, LEASE_OLDEST, limit, None).await?,
        limit => claim.take(&mut transaction, LEASE_NAMED, limit, Some(&request.first)).await?,
    };
    let more = limit.saturating_sub(u32::try_from(leased.len()).unwrap_or(u32::MAX));
    if more > 0 && !request.first.is_empty() {
        leased.extend(claim.take(&mut transaction, LEASE_OLDEST, more, None).await?);
    }
    transaction.commit().await?;
    Ok(leased)
}

/// Returns how many transactions may be leased: as many as wanted, and no more than the tenant's limit leaves. The tenant's row stays locked
/// for as long as somebody leases by a limit, so that two who do so at the same time do not both see the same room.
async fn limit(connection: &mut PgConnection, claim: &Claim, wanted: u32) -> Result<u32, StoreError> {
    let limit: Option<i32> = sqlx::query_scalar(
        "SELECT max_concurrent_transactions FROM tenants
         WHERE tenant_id = $1 AND max_concurrent_transactions IS NOT NULL FOR NO KEY UPDATE",
    )
    .bind(claim.tenant.0)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(limit) = limit else {
        return Ok(wanted);
    };
    let live: i64 = sqlx::query_scalar("SELECT count(*) FROM transactions WHERE tenant_id = $1 AND lease_expires_at_ms > $2")
        .bind(claim.tenant.0)
        .bind(claim.now_ms)
        .fetch_one(connection)
        .await?;
    let room = u32::try_from((i64::from(limit) - live).max(0)).unwrap_or(u32::MAX);
    Ok(wanted.min(room))
}

/// Who leases, and for how long.
struct Claim {
    owner: String,
    now_ms: i64,
    expires_at_ms: i64,
    tenant: TenantId,
}

impl Claim {
    /// Leases what a statement finds, oldest first.
    async fn take(
        &self,
        connection: &mut PgConnection,
        statement: &'static str,
        limit: u32,
        among: Option<&[TransactionNumber]>,
    ) -> Result<Vec<LeasedTransaction>, StoreError> {
        let mut query = sqlx::query(statement)
            .bind(self.owner.as_str())
            .bind(self.expires_at_ms)
            .bind(self.tenant.0)
            .bind(self.now_ms)
            .bind(i64::from(limit));
        if let Some(among) = among {
            query = query.bind(among.iter().map(|number| number.0).collect::<Vec<_>>());
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

fn leased(row: &PgRow) -> Result<LeasedTransaction, StoreError> {
    let outputs: Option<Vec<Vec<u8>>> = row.try_get("outputs")?;
    Ok(LeasedTransaction {
        lease: Lease {
            transaction: row.try_get("id")?,
            generation: row.try_get("lease_generation")?,
        },
        block_number: number("block number", row.try_get("block_number")?)?,
        hash: hash("transaction hash", row.try_get("hash")?)?,
        computations: computations(row)?,
        outputs: outputs
            .unwrap_or_default()
            .iter()
            .map(|bytes| handle(bytes))
            .collect::<Result<_, _>>()?,
        recorded_at_ms: recorded_at(row.try_get("recorded_at_ms")?)?,
        attempts: u32::try_from(row.try_get::<i32, _>("attempts")?).unwrap_or(u32::MAX),
    })
}

/// Reads the computations of a row of `transactions`: bytes, or JSON in rows of the first version.
pub(super) fn computations(row: &PgRow) -> Result<Vec<Computation>, StoreError> {
    match (
        row.try_get::<Option<&[u8]>, _>("work")?,
        row.try_get::<Option<&str>, _>("computations")?,
    ) {
        (Some(work), _) => decode(work),
        (None, Some(json)) => serde_json::from_str(json).map_err(|error| StoreError::corrupt("computations", error)),
        (None, None) => Err(StoreError::corrupt("computations", "there are none")),
    }
}

/// What makes a row be under this lease: parameters 1 to 3.
macro_rules! under_lease {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " WHERE tenant_id = $1 AND id = $2 AND lease_generation = $3 AND lease_owner IS NOT NULL ",
            $after
        )
    };
}

pub(super) async fn renew(store: &PostgresStore, lease: &Lease, expires_at_ms: u64) -> Result<(), StoreError> {
    let renewed = sqlx::query(under_lease!("UPDATE transactions SET lease_expires_at_ms = $4", ""))
        .bind(store.tenant.0)
        .bind(lease.transaction)
        .bind(lease.generation)
        .bind(integer("lease end", expires_at_ms)?)
        .execute(store.pool())
        .await?;
    if renewed.rows_affected() == 1 { Ok(()) } else { Err(lease.lost()) }
}

pub(super) async fn release(store: &PostgresStore, lease: &Lease) -> Result<(), StoreError> {
    let mut transaction = store.begin().await?;
    let released = sqlx::query(under_lease!(
        "UPDATE transactions SET lease_owner = NULL, lease_expires_at_ms = NULL, attempts = greatest(attempts - 1, 0)",
        ""
    ))
    .bind(store.tenant.0)
    .bind(lease.transaction)
    .bind(lease.generation)
    .execute(&mut *transaction)
    .await?;
    if released.rows_affected() == 1 {
        announce(&mut transaction, store.tenant).await?;
    }
    transaction.commit().await?;
    Ok(())
}

pub(super) async fn finish(store: &PostgresStore, lease: &Lease, finished: &Finished) -> Result<Vec<TransactionNumber>, StoreError> {
    for ciphertext in &finished.ciphertexts {
        store.require(ciphertext.handle.chain_id())?;
    }
    put_objects(store, &finished.ciphertexts).await?;
    let mut transaction = store.begin().await?;
    let block_number: Option<i64> = sqlx::query_scalar(under_lease!("SELECT block_number FROM transactions", ""))
        .bind(store.tenant.0)
        .bind(lease.transaction)
        .bind(lease.generation)
        .fetch_optional(&mut *transaction)
        .await?;
    let block_number = block_number.ok_or_else(|| lease.lost())?;
    // The large part comes before the lock. If the lease turns out lost below, all of it is undone.
    insert(&mut transaction, store, &finished.ciphertexts, Some(block_number)).await?;
    order_waits(&mut transaction, store.tenant).await?;
    end_lease(&mut transaction, store.tenant, lease, finished).await?;
    let runnable = end_waits(&mut transaction, store.tenant, lease).await?;
    announce(&mut transaction, store.tenant).await?;
    transaction.commit().await?;
    Ok(runnable)
}

async fn end_lease(connection: &mut PgConnection, tenant: TenantId, lease: &Lease, finished: &Finished) -> Result<(), StoreError> {
    let state = if finished.failures.is_empty() { "done" } else { "poisoned" };
    let ended = sqlx::query(under_lease!(
        "WITH counted AS (UPDATE tenant_work SET pending = pending - 1 WHERE tenant_id = $1)
         UPDATE transactions SET state = $4, lease_owner = NULL, lease_expires_at_ms = NULL",
        ""
    ))
    .bind(tenant.0)
    .bind(lease.transaction)
    .bind(lease.generation)
    .bind(state)
    .execute(&mut *connection)
    .await?;
    if ended.rows_affected() != 1 {
        return Err(lease.lost());
    }
    if !finished.failures.is_empty() {
        sqlx::query(
            "UPDATE transaction_outputs o SET failure = f.reason
             FROM unnest($2::BYTEA[], $3::TEXT[]) AS f (handle, reason)
             WHERE o.transaction_id = $1 AND o.handle = f.handle",
        )
        .bind(lease.transaction)
        .bind(
            finished
                .failures
                .iter()
                .map(|failure| failure.handle.as_slice())
                .collect::<Vec<_>>(),
        )
        .bind(finished.failures.iter().map(|failure| text(&failure.reason)).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    }
    Ok(())
}

/// Ends what others waited for because of this transaction, unless still another one makes them wait. Returns those that wait for nothing
/// any more, oldest first.
async fn end_waits(connection: &mut PgConnection, tenant: TenantId, lease: &Lease) -> Result<Vec<TransactionNumber>, StoreError> {
    let rows = sqlx::query(
        "WITH ended AS (
            DELETE FROM transaction_waits w USING transactions t
            WHERE w.tenant_id = $1 AND w.handle = ANY (ARRAY(SELECT handle FROM transaction_outputs WHERE transaction_id = $2))
              AND t.id = w.transaction_id
              AND ((NOT w.publishes AND (SELECT c.handle FROM ciphertexts c WHERE c.tenant_id = $1 AND c.handle = w.handle) IS NOT NULL)
                OR (SELECT 1 FROM transaction_outputs o
                    WHERE o.tenant_id = $1 AND o.handle = w.handle AND (
                        SELECT p.state = 'pending' AND (p.block_number, p.transaction_index) < (t.block_number, t.transaction_index)
                        FROM transactions p WHERE p.id = o.transaction_id)
                    LIMIT 1) IS NULL)
            RETURNING w.transaction_id)
         UPDATE transactions t SET waits_for = t.waits_for - c.ended
         FROM (SELECT transaction_id, count(*) AS ended FROM ended GROUP BY transaction_id) c
         WHERE t.id = c.transaction_id
         RETURNING t.block_number, t.transaction_index, t.id, t.waits_for = 0 AND t.state = 'pending' AS runnable",
    )
    .bind(tenant.0)
    .bind(lease.transaction)
    .fetch_all(connection)
    .await?;
    let mut runnable: Vec<(i64, i64, i64)> = Vec::new();
    for row in rows {
        if row.try_get("runnable")? {
            runnable.push((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
        }
    }
    runnable.sort_unstable();
    Ok(runnable.into_iter().map(|(_, _, id)| TransactionNumber(id)).collect())
}

/// Waits until no other transaction of this tenant is between counting waits and committing. Without it, one that starts to wait and one
/// that ends what it waits for could miss each other.
pub(super) async fn order_waits(connection: &mut PgConnection, tenant: TenantId) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock($1, $2)")
        .bind(WAITS_LOCK)
        .bind(tenant.0)
        .execute(connection)
        .await?;
    Ok(())
}
