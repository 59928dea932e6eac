//! Words of storage and whole ciphertexts, proven against a header.

use alloy::{consensus::Header, primitives::keccak256, rpc::types::EIP1186AccountProofResponse};
use alloy_trie::{Nibbles, TrieAccount, proof::verify_proof};
use cipherloom_primitives::{
    Address, B256, Handle, U256,
    ciphertext_state::{STORAGE_ACCOUNT, StoredMetadata, bytes_of, word_slot},
};

use crate::{
    error::ChainError,
    host_chain::HostChain,
    proof::{MAX_PROOF_NODES, invalid, verify_account, verify_slot},
};

/// How many slots a node is asked for at once: with all the nodes of their paths some megabytes.
const SLOTS_PER_CALL: usize = 256;

/// Has one node prove the ciphertext behind a handle; `None` if it proves that there is none.
///
/// # Errors
/// As all reads; [`ChainError::Proof`] if what the node says proves nothing; [`ChainError::StoredCiphertext`] if it is proven that something is
/// stored which is no ciphertext of the handle's type.
pub(super) async fn ciphertext(host: &HostChain, header: &Header, hash: B256, handle: Handle) -> Result<Option<Vec<u8>>, ChainError> {
    let unusable = |source| ChainError::StoredCiphertext { handle, source };
    let base = handle.as_b256();
    let first = words(host, header, hash, STORAGE_ACCOUNT, vec![base]).await?;
    let metadata = first.first().copied().unwrap_or_default();
    let Some(metadata) = StoredMetadata::decode_for(handle, metadata).map_err(unusable)? else {
        return Ok(None);
    };
    let slots: Vec<B256> = (0..metadata.words()).map(|index| word_slot(base, index)).collect();
    let mut found = Vec::with_capacity(slots.len());
    for chunk in slots.chunks(SLOTS_PER_CALL) {
        found.extend(words(host, header, hash, STORAGE_ACCOUNT, chunk.to_vec()).await?);
    }
    bytes_of(metadata, &found).map(Some).map_err(unusable)
}

/// Says whether a node proves that an account has code.
pub(super) async fn has_code(host: &HostChain, header: &Header, hash: B256, account: Address) -> Result<bool, ChainError> {
    let proof = host.storage_proof(account, &[], hash).await?;
    let found = proven_account(header.state_root, account, &proof)?;
    Ok(found.is_some_and(|found| found.code_hash != keccak256([])))
}

/// Has a node prove words of an account's storage.
async fn words(host: &HostChain, header: &Header, hash: B256, account: Address, slots: Vec<B256>) -> Result<Vec<U256>, ChainError> {
    let proof = host.storage_proof(account, &slots, hash).await?;
    let root = header.state_root;
    // Hundreds of paths are some milliseconds of hashing.
    let verified = tokio::task::spawn_blocking(move || proven_words(root, account, &slots, &proof));
    verified.await.map_err(|_| invalid(account, "its verification ended early"))?
}

/// Returns the words that a proof proves, in the order of the slots.
fn proven_words(state_root: B256, account: Address, slots: &[B256], proof: &EIP1186AccountProofResponse) -> Result<Vec<U256>, ChainError> {
    if proof.storage_proof.len() != slots.len() {
        return Err(invalid(account, "it is not about the slots that were asked for"));
    }
    let Some(found) = proven_account(state_root, account, proof)? else {
        // Who does not exist has nothing but zeros.
        return Ok(vec![U256::ZERO; slots.len()]);
    };
    let word = |(slot, storage): (&B256, &alloy::rpc::types::EIP1186StorageProof)| {
        if storage.proof.len() > MAX_PROOF_NODES {
            return Err(invalid(account, "it is longer than any path"));
        }
        verify_slot(found.storage_root, account, *slot, storage.value, &storage.proof)?;
        Ok(storage.value)
    };
    slots.iter().zip(&proof.storage_proof).map(word).collect()
}

/// Returns the account that a proof proves; `None` if it proves that there is none.
fn proven_account(state_root: B256, account: Address, proof: &EIP1186AccountProofResponse) -> Result<Option<TrieAccount>, ChainError> {
    if proof.address != account {
        return Err(invalid(account, "it is about another account"));
    }
    if proof.account_proof.len() > MAX_PROOF_NODES {
        return Err(invalid(account, "it is longer than any path"));
    }
    // Which of the two it is need not be believed: each proof fits only one. Nodes differ in the hashes that they name for an account that does not exist.
    let may_be_absent = proof.nonce == 0 && proof.balance.is_zero();
    if may_be_absent && verify_proof(state_root, Nibbles::unpack(keccak256(account)), None, &proof.account_proof).is_ok() {
        return Ok(None);
    }
    let found = TrieAccount {
        nonce: proof.nonce,
        balance: proof.balance,
        storage_root: proof.storage_hash,
        code_hash: proof.code_hash,
    };
    verify_account(state_root, account, &found, &proof.account_proof)?;
    Ok(Some(found))
}
