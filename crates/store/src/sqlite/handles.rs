//! Inputs and what is known about a handle.

use cipherloom_primitives::{Handle, input::InputMetadata};
use sqlx::{
    Row, SqlitePool,
    sqlite::{SqliteConnection, SqliteRow},
};

use super::{begin, ciphertexts::chain};
use crate::{
    AdmittedInput, Grantee, HandleState, InputKey, StoreError,
    columns::{address, hash, integer, number, type_ids, types},
};

pub(super) async fn admit_input(writer: &SqlitePool, input: &AdmittedInput, handles: &[Handle], now_ms: u64) -> Result<(), StoreError> {
    let chain = integer("chain id", input.metadata.chain_id)?;
    let mut transaction = begin(writer).await?;
    sqlx::query(
        "INSERT INTO inputs (chain_id, digest, contract, user, acl, types, list, admitted_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT DO NOTHING",
    )
    .bind(chain)
    .bind(input.digest.as_slice())
    .bind(input.metadata.contract.as_slice())
    .bind(input.metadata.user.as_slice())
    .bind(input.metadata.acl.as_slice())
    .bind(type_ids(&input.types))
    .bind(input.list.as_slice())
    .bind(integer("time", now_ms)?)
    .execute(&mut *transaction)
    .await?;
    for handle in handles {
        sqlx::query("INSERT INTO input_handles (chain_id, handle, digest) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(chain)
            .bind(handle.as_slice())
            .bind(input.digest.as_slice())
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}

pub(super) async fn admitted_input(readers: &SqlitePool, key: InputKey) -> Result<Option<AdmittedInput>, StoreError> {
    let row = match key {
        InputKey::Digest { chain_id, digest } => {
            sqlx::query("SELECT * FROM inputs WHERE chain_id = ? AND digest = ?")
                .bind(integer("chain id", chain_id)?)
                .bind(digest.as_slice())
                .fetch_optional(readers)
                .await?
        }
        InputKey::Handle(handle) => {
            sqlx::query("SELECT i.* FROM input_handles h JOIN inputs i USING (chain_id, digest) WHERE h.chain_id = ? AND h.handle = ?")
                .bind(integer("chain id", handle.chain_id())?)
                .bind(handle.as_slice())
                .fetch_optional(readers)
                .await?
        }
    };
    row.as_ref().map(input).transpose()
}

fn input(row: &SqliteRow) -> Result<AdmittedInput, StoreError> {
    Ok(AdmittedInput {
        digest: hash("input digest", row.try_get("digest")?)?,
        metadata: InputMetadata {
            contract: address("input contract", row.try_get("contract")?)?,
            user: address("input user", row.try_get("user")?)?,
            acl: address("input ACL", row.try_get("acl")?)?,
            chain_id: number("chain id", row.try_get("chain_id")?)?,
        },
        types: types(row.try_get("types")?)?,
        list: row.try_get("list")?,
    })
}

/// Says whether a handle is known.
pub(super) async fn is_known(connection: &mut SqliteConnection, chain: i64, handle: Handle) -> Result<bool, StoreError> {
    let known = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM transaction_outputs o JOIN transactions t ON t.id = o.transaction_id
                        WHERE o.handle = ?2 AND t.chain_id = ?1)
             OR EXISTS (SELECT 1 FROM ciphertexts WHERE chain_id = ?1 AND handle = ?2)
             OR EXISTS (SELECT 1 FROM input_handles WHERE chain_id = ?1 AND handle = ?2)",
    );
    Ok(known.bind(chain).bind(handle.as_slice()).fetch_one(connection).await?)
}

pub(super) async fn known(readers: &SqlitePool, own: Option<u64>, handles: &[Handle]) -> Result<Vec<bool>, StoreError> {
    let mut connection = readers.acquire().await?;
    let mut known = Vec::with_capacity(handles.len());
    for handle in handles {
        known.push(is_known(&mut connection, chain(own, *handle), *handle).await?);
    }
    Ok(known)
}

/// One statement, so that the answer is of one instant: stored beats pending beats failed beats admitted.
const STATE: &str = "
    SELECT
        EXISTS (SELECT 1 FROM ciphertexts WHERE chain_id = ?1 AND handle = ?2) AS stored,
        EXISTS (SELECT 1 FROM transaction_outputs o JOIN transactions t ON t.id = o.transaction_id
                WHERE o.handle = ?2 AND t.state = 'pending') AS pending,
        (SELECT failure FROM transaction_outputs WHERE handle = ?2 AND failure IS NOT NULL LIMIT 1) AS failure,
        EXISTS (SELECT 1 FROM input_handles WHERE chain_id = ?1 AND handle = ?2) AS admitted";

pub(super) async fn state(readers: &SqlitePool, handle: Handle) -> Result<HandleState, StoreError> {
    let Ok(chain) = integer("chain id", handle.chain_id()) else {
        return Ok(HandleState::Unknown);
    };
    let row = sqlx::query(STATE).bind(chain).bind(handle.as_slice()).fetch_one(readers).await?;
    Ok(HandleState::of(
        row.try_get("stored")?,
        row.try_get("pending")?,
        row.try_get("failure")?,
        row.try_get("admitted")?,
    ))
}

pub(super) async fn grants_of(readers: &SqlitePool, handle: Handle) -> Result<Vec<Grantee>, StoreError> {
    let Ok(chain) = integer("chain id", handle.chain_id()) else {
        return Ok(Vec::new());
    };
    let accounts = sqlx::query_scalar::<_, Vec<u8>>("SELECT account FROM grants WHERE chain_id = ? AND handle = ? ORDER BY account")
        .bind(chain)
        .bind(handle.as_slice())
        .fetch_all(readers)
        .await?;
    accounts
        .iter()
        .map(|account| match account.as_slice() {
            [] => Ok(Grantee::PublicDecryption),
            account => Ok(Grantee::Account(address("grantee", account)?)),
        })
        .collect()
}
