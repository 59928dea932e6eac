//! Ciphertexts in state: reading them, and the changes of state that write them.
//!
//! The layout is `cipherloom_primitives::ciphertext_state`. Reading goes through a closure, so that it works on any database; [`write_ciphertexts`] gives
//! changes as a transaction would leave them, for `DatabaseCommit` or whatever applies those. Nothing is ever written twice: what state has, stays.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, Bytes, U256};
use cipherloom_primitives::Handle;
use cipherloom_primitives::ciphertext_state::{
    FHELIB, PUBLIC_KEY_SLOT, STORAGE_ACCOUNT, StoredError, StoredMetadata, bytes_of, word_slot, words_of,
};
use revm::DatabaseRef;
use revm::state::{Account, EvmState, EvmStorageSlot, TransactionId};

/// Why something could not be read from state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError<E> {
    /// The database failed.
    #[error("{0}")]
    Database(E),
    /// The words are not what a native chain writes.
    #[error("the state's words are damaged: {0}")]
    Damaged(StoredError),
}

/// Reads the first word of a ciphertext; `None` if state has no ciphertext for the handle.
///
/// # Errors
/// [`ReadError`].
pub fn read_metadata<E>(
    handle: Handle,
    read: &mut impl FnMut(Address, U256) -> Result<U256, E>,
) -> Result<Option<StoredMetadata>, ReadError<E>> {
    let word = read(STORAGE_ACCOUNT, handle.as_b256().into()).map_err(ReadError::Database)?;
    StoredMetadata::decode_for(handle, word).map_err(ReadError::Damaged)
}

/// Reads a ciphertext; `None` if state has none for the handle.
///
/// # Errors
/// [`ReadError`].
pub fn read_ciphertext<E>(handle: Handle, read: &mut impl FnMut(Address, U256) -> Result<U256, E>) -> Result<Option<Bytes>, ReadError<E>> {
    let Some(metadata) = read_metadata(handle, read)? else {
        return Ok(None);
    };
    read_words(STORAGE_ACCOUNT, handle.as_b256(), metadata, read).map(Some)
}

/// Reads the first word of the public key for encryption; `None` if the chain has no key.
///
/// # Errors
/// [`ReadError`].
pub fn read_public_key_metadata<E>(
    read: &mut impl FnMut(Address, U256) -> Result<U256, E>,
) -> Result<Option<StoredMetadata>, ReadError<E>> {
    let word = read(FHELIB, PUBLIC_KEY_SLOT.into()).map_err(ReadError::Database)?;
    StoredMetadata::decode(word).map_err(ReadError::Damaged)
}

/// Reads the public key for encryption; `None` if the chain has none.
///
/// # Errors
/// [`ReadError`].
pub fn read_public_key<E>(read: &mut impl FnMut(Address, U256) -> Result<U256, E>) -> Result<Option<Bytes>, ReadError<E>> {
    let Some(metadata) = read_public_key_metadata(read)? else {
        return Ok(None);
    };
    read_words(FHELIB, PUBLIC_KEY_SLOT, metadata, read).map(Some)
}

fn read_words<E>(
    account: Address,
    base: B256,
    metadata: StoredMetadata,
    read: &mut impl FnMut(Address, U256) -> Result<U256, E>,
) -> Result<Bytes, ReadError<E>> {
    let words = (0..metadata.words()).map(|index| read(account, word_slot(base, index).into()));
    let words = words.collect::<Result<Vec<_>, _>>().map_err(ReadError::Database)?;
    bytes_of(metadata, &words).map(Bytes::from).map_err(ReadError::Damaged)
}

/// Returns the slots of a ciphertext and what goes there.
///
/// # Errors
/// [`StoredError::Length`] if the bytes are none or too many.
pub fn ciphertext_slots(handle: Handle, bytes: &[u8]) -> Result<Vec<(U256, U256)>, StoredError> {
    let metadata = StoredMetadata::of_ciphertext(handle.fhe_type(), bytes)?;
    Ok(slots(handle.as_b256(), metadata, bytes))
}

/// Returns the slots of the public key in the storage of the precompiled contract, and what goes there: part of a genesis.
///
/// # Errors
/// [`StoredError::Length`] if the bytes are none or too many.
pub fn public_key_slots(bytes: &[u8]) -> Result<Vec<(U256, U256)>, StoredError> {
    let metadata = StoredMetadata::of_public_key(bytes)?;
    Ok(slots(PUBLIC_KEY_SLOT, metadata, bytes))
}

fn slots(base: B256, metadata: StoredMetadata, bytes: &[u8]) -> Vec<(U256, U256)> {
    let words = (0..)
        .map(|index| U256::from_be_bytes(word_slot(base, index).0))
        .zip(words_of(bytes));
    std::iter::once((base.into(), metadata.encode())).chain(words).collect()
}

/// Returns the change of state that stores ciphertexts, as a transaction would leave it.
///
/// The account gets nonce 1, so that it is never empty and cannot be swept away (EIP-161). What state has already is left as it is.
///
/// # Errors
/// [`WriteError`].
pub fn write_ciphertexts<D: DatabaseRef>(stored: &[(Handle, Bytes)], state: &D) -> Result<EvmState, WriteError<D::Error>> {
    let mut words = BTreeMap::new();
    for (handle, bytes) in stored {
        let present = state
            .storage_ref(STORAGE_ACCOUNT, handle.as_b256().into())
            .map_err(WriteError::Database)?;
        if present.is_zero() {
            words.extend(ciphertext_slots(*handle, bytes).map_err(|source| WriteError::Bytes { handle: *handle, source })?);
        }
    }
    if words.is_empty() {
        return Ok(EvmState::default());
    }
    let info = state.basic_ref(STORAGE_ACCOUNT).map_err(WriteError::Database)?.unwrap_or_default();
    let mut account = Account::from(info);
    account.info.nonce = account.info.nonce.max(1);
    account.mark_touch();
    for (slot, value) in words {
        let changed = EvmStorageSlot::new_changed(U256::ZERO, value, TransactionId::ZERO);
        account.storage.insert(slot, changed);
    }
    Ok(EvmState::from_iter([(STORAGE_ACCOUNT, account)]))
}

/// Why ciphertexts cannot be stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError<E> {
    /// The database failed.
    #[error("{0}")]
    Database(E),
    /// The bytes of a ciphertext are none or too many.
    #[error("the ciphertext of {handle} cannot be stored: {source}")]
    Bytes {
        /// Whose ciphertext it is.
        handle: Handle,
        /// What is wrong.
        source: StoredError,
    },
}
