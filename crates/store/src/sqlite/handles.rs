//! Inputs, ciphertexts and what is known about a handle.

use cipherloom_primitives::{Handle, input::InputMetadata};
use sqlx::{Row, SqlitePool, sqlite::SqliteConnection, sqlite::SqliteRow};

use super::{
    begin,
    columns::{address, hash, integer, number, type_ids, types},
};
use crate::{AdmittedInput, Grantee, HandleState, InputKey, StoreError, StoredCiphertext};

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

pub(super) async fn ciphertext(readers: &SqlitePool, handle: Handle) -> Result<Option<StoredCiphertext>, StoreError> {
    let Ok(chain) = integer("chain id", handle.chain_id()) else {
        return Ok(None);
    };
    let row = sqlx::query("SELECT key_set_id, digest, bytes FROM ciphertexts WHERE chain_id = ? AND handle = ?")
        .bind(chain)
        .bind(handle.as_slice())
        .fetch_optional(readers)
        .await?;
    row.map(|row| {
        Ok(StoredCiphertext {
            handle,
            key_set_id: hash("key set id", row.try_get("key_set_id")?)?,
            digest: hash("ciphertext digest", row.try_get("digest")?)?,
            bytes: row.try_get("bytes")?,
        })
    })
    .transpose()
}

pub(super) async fn add_ciphertext(writer: &SqlitePool, ciphertext: &StoredCiphertext) -> Result<(), StoreError> {
    let mut transaction = begin(writer).await?;
    insert_ciphertext(&mut transaction, ciphertext, None).await?;
    transaction.commit().await?;
    Ok(())
}

/// Stores a ciphertext unless the handle has one.
pub(super) async fn insert_ciphertext(
    connection: &mut SqliteConnection,
    ciphertext: &StoredCiphertext,
    block_number: Option<i64>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO ciphertexts (chain_id, handle, fhe_type, key_set_id, digest, bytes, created_block_number) VALUES (?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT DO NOTHING",
    )
    .bind(integer("chain id", ciphertext.handle.chain_id())?)
    .bind(ciphertext.handle.as_slice())
    .bind(i64::from(ciphertext.handle.fhe_type().id()))
    .bind(ciphertext.key_set_id.as_slice())
    .bind(ciphertext.digest.as_slice())
    .bind(ciphertext.bytes.as_slice())
    .bind(block_number)
    .execute(connection)
    .await?;
    Ok(())
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
    let failure: Option<String> = row.try_get("failure")?;
    Ok(if row.try_get("stored")? {
        HandleState::Stored
    } else if row.try_get("pending")? {
        HandleState::Pending
    } else if let Some(reason) = failure {
        HandleState::Failed(reason)
    } else if row.try_get("admitted")? {
        HandleState::Admitted
    } else {
        HandleState::Unknown
    })
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
