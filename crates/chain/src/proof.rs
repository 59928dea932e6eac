//! Storage of the ACL, proven against the header of a block.
//!
//! A read by `eth_call` is believed because the node is; a storage proof (`eth_getProof`, EIP-1186) is believed because hashes fit: the header has the hash
//! that the caller trusts, the account's proof leads from the header's state root to the contract's storage root, and the slot's proof from there to the
//! value. So with a block hash from elsewhere (a light client, a quorum of nodes), one node that may lie is enough.
//!
//! **Slots.** The ACL keeps its state at the ERC-7201 location of `fhevm.storage.ACL`, and proxies keep their storage when they are upgraded, so these places
//! are part of the protocol. Solidity puts the entry of a mapping at `keccak256(key ‖ slot of the mapping)`.

use alloy::{primitives::keccak256, rpc::types::EIP1186AccountProofResponse};
use alloy_trie::{Nibbles, TrieAccount, proof::verify_proof};
use cipherloom_primitives::{Address, B256, Handle, U256};

use crate::{error::ChainError, host_chain::HostChain};

/// Where the ACL's state begins: `keccak256(keccak256("fhevm.storage.ACL") - 1) & ~0xff`.
pub const ACL_STORAGE: B256 = alloy::primitives::b256!("a688f31953c2015baaf8c0a488ee1ee22eb0e05273cc1fd31ea4cbee42febc00");

/// The most nodes of a trie in one proof: a key has 64 nibbles, and no path is longer.
const MAX_PROOF_NODES: usize = 65;

/// Returns where the ACL remembers that an account may use a handle for good.
#[must_use]
pub fn slot_of_persisted_allowance(handle: Handle, account: Address) -> B256 {
    // The first member of the state: handle to account to bool.
    entry(account.into_word(), entry(handle.as_b256(), ACL_STORAGE))
}

/// Returns where the ACL remembers that anyone may decrypt a handle.
#[must_use]
pub fn slot_of_allowance_for_decryption(handle: Handle) -> B256 {
    // The second member of the state: handle to bool.
    let mapping = U256::from_be_bytes(ACL_STORAGE.0).wrapping_add(U256::from(1));
    entry(handle.as_b256(), B256::from(mapping))
}

/// Where a mapping at a slot has the value of a key.
fn entry(key: B256, slot: B256) -> B256 {
    keccak256([key.0, slot.0].concat())
}

impl HostChain {
    /// Says whether an account was allowed a handle for good after a block, proven against the block's hash.
    ///
    /// # Errors
    /// [`ChainError::BlockGone`] if the node does not have the block, [`ChainError::Proof`] if what it says does not fit the hash; and as all reads.
    pub async fn prove_persist_allowed(&self, handle: Handle, account: Address, block: B256) -> Result<bool, ChainError> {
        let slot = slot_of_persisted_allowance(handle, account);
        self.prove_flag(slot, block).await
    }

    /// Says whether anyone may decrypt a handle after a block, proven against the block's hash.
    ///
    /// # Errors
    /// As [`Self::prove_persist_allowed`].
    pub async fn prove_allowed_for_decryption(&self, handle: Handle, block: B256) -> Result<bool, ChainError> {
        self.prove_flag(slot_of_allowance_for_decryption(handle), block).await
    }

    /// Returns a word of a contract's storage after a block, proven against the block's hash.
    ///
    /// # Errors
    /// As [`Self::prove_persist_allowed`].
    pub async fn prove_storage(&self, contract: Address, slot: B256, block: B256) -> Result<U256, ChainError> {
        let header = self.header_with_hash(block).await?.ok_or(ChainError::BlockGone(0))?;
        // The node's word for the hash is worth nothing; only what hashes to it is.
        if header.inner.hash_slow() != block {
            return Err(invalid(contract, "the header does not have the hash of the block"));
        }
        let proof = self.storage_proof(contract, &[slot], block).await?;
        verify(&proof, header.state_root, contract, slot)
    }

    async fn prove_flag(&self, slot: B256, block: B256) -> Result<bool, ChainError> {
        let contract = self.addresses().acl;
        let value = self.prove_storage(contract, slot, block).await?;
        // A bool alone in its slot is 0 or 1; anything else is no ACL.
        match value.try_into() {
            Ok(0u8) => Ok(false),
            Ok(1u8) => Ok(true),
            _ => Err(invalid(contract, "the storage is not that of an ACL")),
        }
    }
}

/// Checks that a proof proves the value of a contract's slot under a state root, and returns the value. A contract that does not exist has nothing but zeros.
///
/// # Errors
/// [`ChainError::Proof`] if it proves nothing.
pub fn verify(proof: &EIP1186AccountProofResponse, state_root: B256, contract: Address, slot: B256) -> Result<U256, ChainError> {
    if proof.address != contract {
        return Err(invalid(contract, "it is about another contract"));
    }
    let [storage] = proof.storage_proof.as_slice() else {
        return Err(invalid(contract, "it is not about one slot"));
    };
    if storage.key.as_b256() != slot {
        return Err(invalid(contract, "it is about another slot"));
    }
    if proof.account_proof.len() > MAX_PROOF_NODES || storage.proof.len() > MAX_PROOF_NODES {
        return Err(invalid(contract, "it is longer than any path"));
    }
    let path = Nibbles::unpack(keccak256(contract));
    // Which of the two it is need not be believed: each proof fits only one.
    if proof.is_empty() && verify_proof(state_root, path, None, &proof.account_proof).is_ok() {
        return match storage.value.is_zero() {
            true => Ok(U256::ZERO),
            false => Err(invalid(contract, "the contract does not exist")),
        };
    }
    let account = TrieAccount {
        nonce: proof.nonce,
        balance: proof.balance,
        storage_root: proof.storage_hash,
        code_hash: proof.code_hash,
    };
    verify_proof(state_root, path, Some(alloy::rlp::encode(account)), &proof.account_proof).map_err(|error| invalid(contract, error))?;
    let path = Nibbles::unpack(keccak256(slot));
    let proves = |value: Option<Vec<u8>>| verify_proof(proof.storage_hash, path, value, &storage.proof);
    let encoded = alloy::rlp::encode(storage.value);
    let proven = match storage.value.is_zero() {
        // Ethereum has no zeros in its tries; anvil has where it went back. Either proves a zero.
        true => proves(None).or_else(|absent| proves(Some(encoded)).map_err(|_| absent)),
        false => proves(Some(encoded)),
    };
    proven.map_err(|error| invalid(contract, error))?;
    Ok(storage.value)
}

fn invalid(contract: Address, reason: impl ToString) -> ChainError {
    ChainError::Proof {
        contract,
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_begins_where_erc_7201_says() {
        let id = U256::from_be_bytes(keccak256("fhevm.storage.ACL").0).wrapping_sub(U256::from(1));
        let mut location = keccak256(id.to_be_bytes::<32>());
        location.0[31] = 0;
        assert_eq!(ACL_STORAGE, location);
    }
}
