//! Storage of the ACL, proven against the header of a block.
//!
//! A read by `eth_call` is believed because the node is; a storage proof (`eth_getProof`, EIP-1186) is believed because hashes fit: the header has the hash
//! that the caller trusts, the account's proof leads from the header's state root to the contract's storage root, and the slot's proof from there to the
//! value. So with a block hash from elsewhere (a light client, a quorum of nodes), one node that may lie is enough.
//!
//! **Slots.** The ACL keeps its state at the ERC-7201 location of `fhevm.storage.ACL`, and proxies keep their storage when they are upgraded, so these places
//! are part of the protocol. Solidity puts the entry of a mapping at `keccak256(key ‖ slot of the mapping)`.
//!
//! [`crate::evidence`] bundles such proofs for all questions of a request.

use alloy::{primitives::keccak256, rpc::types::EIP1186AccountProofResponse};
use alloy_trie::{Nibbles, TrieAccount, proof::verify_proof};
use cipherloom_primitives::{AclQuestion, Address, B256, Bytes, Handle, U256};

use crate::{error::ChainError, host_chain::HostChain};

/// Where the ACL's state begins: `keccak256(keccak256("fhevm.storage.ACL") - 1) & ~0xff`.
pub const ACL_STORAGE: B256 = alloy::primitives::b256!("a688f31953c2015baaf8c0a488ee1ee22eb0e05273cc1fd31ea4cbee42febc00");

/// The most nodes of a trie in one proof: a key has 64 nibbles, and no path is longer.
pub(crate) const MAX_PROOF_NODES: usize = 65;

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
    entry(handle.as_b256(), member(1))
}

/// Returns where the ACL keeps the answer to a question.
#[must_use]
pub fn slot_of_answer(question: &AclQuestion) -> B256 {
    match *question {
        AclQuestion::AllowedForDecryption(handle) => slot_of_allowance_for_decryption(handle),
        AclQuestion::PersistAllowed { handle, account } => slot_of_persisted_allowance(handle, account),
        // The third member: delegator to delegate to contract to a struct of one slot.
        AclQuestion::DelegationExpiration {
            delegator,
            delegate,
            contract,
        } => entry(
            contract.into_word(),
            entry(delegate.into_word(), entry(delegator.into_word(), member(2))),
        ),
        // The fifth member: account to time.
        AclQuestion::SignaturesInvalidatedBefore(account) => entry(account.into_word(), member(4)),
    }
}

/// Reads the answer to a question from the word in its slot.
///
/// # Errors
/// [`ChainError::Proof`] if no ACL can have stored it.
pub fn answer_in_slot(question: &AclQuestion, acl: Address, word: U256) -> Result<u64, ChainError> {
    match question {
        // A bool alone in its slot is 0 or 1; anything else is no ACL.
        AclQuestion::AllowedForDecryption(_) | AclQuestion::PersistAllowed { .. } => match word.try_into() {
            Ok(answer @ (0u64 | 1)) => Ok(answer),
            _ => Err(invalid(acl, "the storage is not that of an ACL")),
        },
        // Of the struct's members the first has the lowest 64 bits.
        AclQuestion::DelegationExpiration { .. } => Ok((word & U256::from(u64::MAX)).saturating_to()),
        // A time beyond 64 bits is after every permit's start, and so is the largest one within them.
        AclQuestion::SignaturesInvalidatedBefore(_) => Ok(word.saturating_to()),
    }
}

/// The slot of a member of the ACL's state.
fn member(index: u64) -> B256 {
    B256::from(U256::from_be_bytes(ACL_STORAGE.0).wrapping_add(U256::from(index)))
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
    verify_account(state_root, contract, &account, &proof.account_proof)?;
    verify_slot(proof.storage_hash, contract, slot, storage.value, &storage.proof)?;
    Ok(storage.value)
}

/// Checks that these nodes prove the value of a slot under the root of a contract's storage.
///
/// # Errors
/// [`ChainError::Proof`] if they do not.
pub(crate) fn verify_slot(storage_root: B256, contract: Address, slot: B256, value: U256, nodes: &[Bytes]) -> Result<(), ChainError> {
    let path = Nibbles::unpack(keccak256(slot));
    let proves = |value: Option<Vec<u8>>| verify_proof(storage_root, path, value, nodes);
    let encoded = alloy::rlp::encode(value);
    let proven = match value.is_zero() {
        // Ethereum has no zeros in its tries; anvil has where it went back. Either proves a zero.
        true => proves(None).or_else(|absent| proves(Some(encoded)).map_err(|_| absent)),
        false => proves(Some(encoded)),
    };
    proven.map_err(|error| invalid(contract, error))
}

/// Checks that these nodes prove that a contract has this account under a state root.
///
/// # Errors
/// [`ChainError::Proof`] if they do not.
pub(crate) fn verify_account(state_root: B256, contract: Address, account: &TrieAccount, nodes: &[Bytes]) -> Result<(), ChainError> {
    let path = Nibbles::unpack(keccak256(contract));
    verify_proof(state_root, path, Some(alloy::rlp::encode(account)), nodes).map_err(|error| invalid(contract, error))
}

pub(crate) fn invalid(contract: Address, reason: impl ToString) -> ChainError {
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

    #[test]
    fn slots_are_where_the_contracts_layout_says() {
        let layout = cipherloom_contracts::HostContract::Acl.storage_layout();
        let namespace = layout
            .namespaces
            .iter()
            .find(|namespace| namespace.id == "erc7201:fhevm.storage.ACL")
            .unwrap();
        assert_eq!(namespace.slot, ACL_STORAGE);
        let at = |label: &str| member(namespace.members.iter().find(|member| member.label == label).unwrap().slot);
        let handle = Handle::computed(B256::repeat_byte(1), 31337, cipherloom_primitives::FheType::Bool);
        let account = |byte| Address::repeat_byte(byte);
        let word = |byte| account(byte).into_word();
        for (question, slot) in [
            (
                AclQuestion::AllowedForDecryption(handle),
                entry(handle.as_b256(), at("allowedForDecryption")),
            ),
            (
                AclQuestion::PersistAllowed {
                    handle,
                    account: account(2),
                },
                entry(word(2), entry(handle.as_b256(), at("persistedAllowed"))),
            ),
            (
                AclQuestion::DelegationExpiration {
                    delegator: account(3),
                    delegate: account(4),
                    contract: account(5),
                },
                entry(word(5), entry(word(4), entry(word(3), at("delegations")))),
            ),
            (
                AclQuestion::SignaturesInvalidatedBefore(account(6)),
                entry(word(6), at("signaturesInvalidatedBefore")),
            ),
        ] {
            assert_eq!(slot_of_answer(&question), slot, "{question:?}");
        }
        let delegation = &layout.types["t_struct(Delegation)_storage"].members[0];
        assert_eq!(
            (delegation.label.as_str(), delegation.slot, delegation.offset),
            ("expirationDate", 0, 0)
        );
        assert_eq!(layout.types[&delegation.ty].bytes, 8);
    }
}
