//! Inputs and what is known about a handle.

use cipherloom_primitives::{Handle, input::InputMetadata};
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{PostgresStore, changes::announce};
use crate::{
    AdmittedInput, Grantee, HandleState, InputKey, StoreError, TenantId,
    columns::{address, hash, integer, type_ids, types},
};

pub(super) async fn admit_input(store: &PostgresStore, input: &AdmittedInput, handles: &[Handle], now_ms: u64) -> Result<(), StoreError> {
    store.require(input.metadata.chain_id)?;
    let mut transaction = store.begin().await?;
    sqlx::query(
        "INSERT INTO inputs (tenant_id, digest, contract, sender, acl, types, list, admitted_at_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
    )
    .bind(store.tenant.0)
    .bind(input.digest.as_slice())
    .bind(input.metadata.contract.as_slice())
    .bind(input.metadata.user.as_slice())
    .bind(input.metadata.acl.as_slice())
    .bind(type_ids(&input.types))
    .bind(input.list.as_slice())
    .bind(integer("time", now_ms)?)
    .execute(&mut *transaction)
    .await?;
    sqlx::query(
        "INSERT INTO input_handles (tenant_id, digest, handle)
         SELECT $1, $2, handle FROM unnest($3::BYTEA[]) AS handle ORDER BY handle ON CONFLICT DO NOTHING",
    )
    .bind(store.tenant.0)
    .bind(input.digest.as_slice())
    .bind(handles.iter().map(|handle| handle.as_slice()).collect::<Vec<_>>())
    .execute(&mut *transaction)
    .await?;
    announce(&mut transaction, store.tenant).await?;
    transaction.commit().await?;
    Ok(())
}

pub(super) async fn admitted_input(store: &PostgresStore, key: InputKey) -> Result<Option<AdmittedInput>, StoreError> {
    let row = match key {
        InputKey::Digest { chain_id, digest } => {
            if !store.serves(chain_id)? {
                return Ok(None);
            }
            sqlx::query("SELECT * FROM inputs WHERE tenant_id = $1 AND digest = $2")
                .bind(store.tenant.0)
                .bind(digest.as_slice())
                .fetch_optional(store.pool())
                .await?
        }
        InputKey::Handle(handle) => {
            if !store.serves(handle.chain_id())? {
                return Ok(None);
            }
            sqlx::query("SELECT i.* FROM input_handles h JOIN inputs i USING (tenant_id, digest) WHERE h.tenant_id = $1 AND h.handle = $2")
                .bind(store.tenant.0)
                .bind(handle.as_slice())
                .fetch_optional(store.pool())
                .await?
        }
    };
    row.as_ref().map(|row| input(row, store.chain_id)).transpose()
}

fn input(row: &PgRow, chain_id: u64) -> Result<AdmittedInput, StoreError> {
    Ok(AdmittedInput {
        digest: hash("input digest", row.try_get("digest")?)?,
        metadata: InputMetadata {
            contract: address("input contract", row.try_get("contract")?)?,
            user: address("input user", row.try_get("sender")?)?,
            acl: address("input ACL", row.try_get("acl")?)?,
            chain_id,
        },
        types: types(row.try_get("types")?)?,
        list: row.try_get("list")?,
    })
}

/// Says which handles are known, in their order.
pub(super) async fn known(connection: &mut PgConnection, tenant: TenantId, handles: &[Handle]) -> Result<Vec<bool>, StoreError> {
    let mut known = vec![false; handles.len()];
    if handles.is_empty() {
        return Ok(known);
    }
    let places = sqlx::query_scalar::<_, i64>(
        "SELECT place FROM unnest($2::BYTEA[]) WITH ORDINALITY AS h (handle, place)
         WHERE (SELECT 1 FROM transaction_outputs o WHERE o.tenant_id = $1 AND o.handle = h.handle LIMIT 1) IS NOT NULL
            OR (SELECT 1 FROM ciphertexts c WHERE c.tenant_id = $1 AND c.handle = h.handle) IS NOT NULL
            -- The handle of a computed value is in no input list.
            OR (get_byte(h.handle, 21) <> 255
                AND (SELECT 1 FROM input_handles i WHERE i.tenant_id = $1 AND i.handle = h.handle) IS NOT NULL)",
    )
    .bind(tenant.0)
    .bind(handles.iter().map(Handle::as_slice).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    for place in places {
        if let Some(known) = usize::try_from(place - 1).ok().and_then(|place| known.get_mut(place)) {
            *known = true;
        }
    }
    Ok(known)
}

/// One statement, so that the answer is of one instant: stored beats pending beats failed beats admitted.
const STATE: &str = "
    SELECT
        EXISTS (SELECT 1 FROM ciphertexts WHERE tenant_id = $1 AND handle = $2) AS stored,
        EXISTS (SELECT 1 FROM transaction_outputs o WHERE o.tenant_id = $1 AND o.handle = $2
                AND (SELECT t.state = 'pending' FROM transactions t WHERE t.id = o.transaction_id)) AS pending,
        (SELECT failure FROM transaction_outputs WHERE tenant_id = $1 AND handle = $2 AND failure IS NOT NULL LIMIT 1) AS failure,
        EXISTS (SELECT 1 FROM input_handles WHERE tenant_id = $1 AND handle = $2) AS admitted";

pub(super) async fn state(store: &PostgresStore, handle: Handle) -> Result<HandleState, StoreError> {
    if handle.chain_id() != store.chain_id {
        return Ok(HandleState::Unknown);
    }
    let row = sqlx::query(STATE)
        .bind(store.tenant.0)
        .bind(handle.as_slice())
        .fetch_one(store.pool())
        .await?;
    Ok(HandleState::of(
        row.try_get("stored")?,
        row.try_get("pending")?,
        row.try_get("failure")?,
        row.try_get("admitted")?,
    ))
}

pub(super) async fn grants_of(store: &PostgresStore, handle: Handle) -> Result<Vec<Grantee>, StoreError> {
    if handle.chain_id() != store.chain_id {
        return Ok(Vec::new());
    }
    let accounts = sqlx::query_scalar::<_, Vec<u8>>("SELECT account FROM grants WHERE tenant_id = $1 AND handle = $2 ORDER BY account")
        .bind(store.tenant.0)
        .bind(handle.as_slice())
        .fetch_all(store.pool())
        .await?;
    accounts
        .iter()
        .map(|account| match account.as_slice() {
            [] => Ok(Grantee::PublicDecryption),
            account => Ok(Grantee::Account(address("grantee", account)?)),
        })
        .collect()
}
