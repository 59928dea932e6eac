//! Trying poisoned transactions again.
//!
//! What failed because of another failure is tried again with it. The database does not keep which handles a transaction needs once it
//! waits for none of them, so this reads the computations of what is pending or poisoned, in order: what a transaction needs is
//! published before it.

use std::collections::{HashMap, HashSet};

use cipherloom_primitives::{Computation, Handle};
use futures_util::TryStreamExt;
use sqlx::{PgConnection, Row};

use super::{
    PostgresStore,
    blocks::count_waits,
    changes::announce,
    leases::{computations, order_waits},
};
use crate::{RetryRequest, StoreError, TenantId, TransactionKey, columns::handle};

pub(super) async fn retry(store: &PostgresStore, request: &RetryRequest) -> Result<u64, StoreError> {
    let mut transaction = store.begin().await?;
    order_waits(&mut transaction, store.tenant).await?;
    let Some(first) = first(&mut transaction, store.tenant, request).await? else {
        return Ok(0);
    };
    let plan = plan(&mut transaction, store.tenant, request, first).await?;
    for statement in [
        "UPDATE transaction_outputs SET failure = NULL WHERE transaction_id = ANY ($1) AND failure IS NOT NULL",
        "DELETE FROM transaction_waits WHERE transaction_id = ANY ($1)",
        "UPDATE transactions SET state = 'pending', attempts = 0, waits_for = 0 WHERE id = ANY ($1)",
        "UPDATE tenant_work SET pending = pending + cardinality($1::BIGINT[])
         WHERE tenant_id = (SELECT tenant_id FROM transactions WHERE id = ($1::BIGINT[])[1])",
    ] {
        sqlx::query(statement).bind(&plan.again).execute(&mut *transaction).await?;
    }
    count_waits(
        &mut transaction,
        store.tenant,
        plan.waits.iter().map(|wait| wait.id).collect(),
        plan.waits.iter().map(|wait| wait.handle.as_slice()).collect(),
        plan.waits.iter().map(|wait| wait.publishes).collect(),
    )
    .await?;
    announce(&mut transaction, store.tenant).await?;
    transaction.commit().await?;
    Ok(u64::try_from(plan.again.len()).unwrap_or(u64::MAX))
}

/// Number, block number and index of a transaction.
type Place = (i64, i64, i64);

/// Finds the first poisoned transaction that is asked for.
async fn first(connection: &mut PgConnection, tenant: TenantId, request: &RetryRequest) -> Result<Option<Place>, StoreError> {
    let query = match request {
        RetryRequest::All => sqlx::query_as(
            "SELECT id, block_number, transaction_index FROM transactions WHERE tenant_id = $1 AND state = 'poisoned'
             ORDER BY block_number, transaction_index LIMIT 1",
        )
        .bind(tenant.0),
        RetryRequest::One(TransactionKey::Hash(hash)) => sqlx::query_as(
            "SELECT id, block_number, transaction_index FROM transactions WHERE tenant_id = $1 AND state = 'poisoned' AND hash = $2
             ORDER BY block_number DESC, transaction_index DESC LIMIT 1",
        )
        .bind(tenant.0)
        .bind(hash.as_slice()),
        RetryRequest::One(TransactionKey::Handle(handle)) => sqlx::query_as(
            "SELECT id, block_number, transaction_index FROM transactions
             WHERE id = ANY (ARRAY(SELECT o.transaction_id FROM transaction_outputs o WHERE o.tenant_id = $1 AND o.handle = $2))
               AND state = 'poisoned'
             ORDER BY block_number DESC, transaction_index DESC LIMIT 1",
        )
        .bind(tenant.0)
        .bind(handle.as_slice()),
    };
    Ok(query.fetch_optional(connection).await?)
}

/// What to change.
#[derive(Default)]
struct Plan {
    /// The numbers of the transactions that become pending.
    again: Vec<i64>,
    /// What they, and those that are pending after them, may have to wait for.
    waits: Vec<Wait>,
}

struct Wait {
    id: i64,
    handle: Handle,
    publishes: bool,
}

async fn plan(connection: &mut PgConnection, tenant: TenantId, request: &RetryRequest, first: Place) -> Result<Plan, StoreError> {
    let (requested, block_number, index) = first;
    let mut rows = sqlx::query(
        "SELECT * FROM (
            SELECT id, block_number, transaction_index, state, work, computations,
                ARRAY(SELECT o.handle FROM transaction_outputs o WHERE o.transaction_id = t.id ORDER BY o.handle) AS outputs,
                ARRAY(SELECT o.handle FROM transaction_outputs o WHERE o.transaction_id = t.id AND o.failure IS NOT NULL) AS failed
            FROM transactions t
            WHERE tenant_id = $1 AND state = 'poisoned' AND (block_number, transaction_index) >= ($2, $3)
            UNION ALL
            SELECT id, block_number, transaction_index, state, work, computations,
                ARRAY(SELECT o.handle FROM transaction_outputs o WHERE o.transaction_id = t.id ORDER BY o.handle), ARRAY[]::BYTEA[]
            FROM transactions t
            WHERE tenant_id = $1 AND state = 'pending' AND (block_number, transaction_index) > ($2, $3)) AS unfinished
         ORDER BY block_number, transaction_index",
    )
    .bind(tenant.0)
    .bind(block_number)
    .bind(index)
    .fetch(connection);
    let mut plan = Plan::default();
    let (mut published, mut failed) = (HashSet::new(), HashSet::new());
    while let Some(row) = rows.try_next().await? {
        let id: i64 = row.try_get("id")?;
        let outputs = handles(row.try_get("outputs")?)?;
        let boundary = boundary(&computations(&row)?, &outputs);
        let wait = |handle: &Handle, publishes| Wait {
            id,
            handle: *handle,
            publishes,
        };
        if row.try_get::<&str, _>("state")? == "poisoned" {
            let asked_for = *request == RetryRequest::All || id == requested;
            if asked_for || boundary.iter().any(|handle| failed.contains(handle)) {
                plan.again.push(id);
                plan.waits.extend(boundary.iter().map(|handle| wait(handle, false)));
                plan.waits.extend(outputs.iter().map(|handle| wait(handle, true)));
                published.extend(outputs);
                failed.extend(handles(row.try_get("failed")?)?);
            }
        } else {
            let again = |handle: &&Handle| published.contains(*handle);
            plan.waits.extend(boundary.iter().filter(again).map(|handle| wait(handle, false)));
            plan.waits.extend(outputs.iter().filter(again).map(|handle| wait(handle, true)));
        }
    }
    Ok(plan)
}

fn handles(bytes: Vec<Vec<u8>>) -> Result<Vec<Handle>, StoreError> {
    bytes.iter().map(|bytes| handle(bytes)).collect()
}

/// The handles from outside that the computations behind some outputs need: what was recorded as the boundary.
fn boundary(computations: &[Computation], outputs: &[Handle]) -> Vec<Handle> {
    let producers: HashMap<Handle, &Computation> = computations.iter().map(|computation| (computation.result, computation)).collect();
    let mut seen = HashSet::new();
    let mut boundary = Vec::new();
    let mut open: Vec<&Computation> = outputs.iter().filter_map(|output| producers.get(output).copied()).collect();
    while let Some(computation) = open.pop() {
        for input in &computation.inputs {
            if seen.insert(*input) {
                match producers.get(input) {
                    Some(producer) => open.push(producer),
                    None => boundary.push(*input),
                }
            }
        }
    }
    boundary
}
