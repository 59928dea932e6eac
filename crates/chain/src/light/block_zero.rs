//! The hash of a native chain's block 0, from the accounts it begins with.
//!
//! Nothing is executed for it: the state root is that of two levels of tries, and everything else in the header is known. Nodes come to the same hash by
//! their own code, which a test compares.

use std::collections::BTreeMap;

use alloy::{
    consensus::{
        Header,
        constants::{EMPTY_OMMER_ROOT_HASH, EMPTY_ROOT_HASH, EMPTY_WITHDRAWALS},
        proofs::{state_root_unhashed, storage_root_unhashed},
    },
    eips::eip7685::EMPTY_REQUESTS_HASH,
    primitives::{B256, Bytes, KECCAK256_EMPTY, U256, b256, keccak256},
};
use alloy_trie::TrieAccount;
use cipherloom_primitives::{Address, ciphertext_state::FHELIB, genesis_terms::TERMS_SLOT, quorum::ValidatorSet};
use serde::Deserialize;

/// The base fee of block 0, in wei per gas.
const BASE_FEE: u64 = 1_000_000_000;

/// PREVRANDAO of block 0: keccak-256 of `cipherloom development prevrandao` and a word of zeros, since it has no parent.
const PREVRANDAO: B256 = b256!("498095c08511a36939a1513b616d3fe553b190714f39b17ecbfdc41ba4de209e");

/// An account of the first state.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Account {
    pub(super) nonce: u64,
    pub(super) balance: U256,
    pub(super) code: Bytes,
    pub(super) storage: BTreeMap<B256, B256>,
}

/// What makes block 0.
pub(super) struct BlockZero<'a> {
    pub(super) timestamp: u64,
    pub(super) gas_limit: u64,
    /// Who signs block 1.
    pub(super) validators: &'a ValidatorSet,
    pub(super) accounts: &'a BTreeMap<Address, Account>,
}

impl BlockZero<'_> {
    pub(super) fn hash(&self) -> B256 {
        let header = Header {
            ommers_hash: EMPTY_OMMER_ROOT_HASH,
            state_root: self.state_root(),
            transactions_root: EMPTY_ROOT_HASH,
            receipts_root: EMPTY_ROOT_HASH,
            gas_limit: self.gas_limit,
            timestamp: self.timestamp,
            extra_data: self.validators.digest().into(),
            mix_hash: PREVRANDAO,
            base_fee_per_gas: Some(BASE_FEE),
            withdrawals_root: Some(EMPTY_WITHDRAWALS),
            blob_gas_used: Some(0),
            excess_blob_gas: Some(0),
            parent_beacon_block_root: Some(B256::ZERO),
            requests_hash: Some(EMPTY_REQUESTS_HASH),
            ..Header::default()
        };
        header.hash_slow()
    }

    /// The word that commits to the chain's terms; zeros if there is none.
    pub(super) fn terms_digest(&self) -> B256 {
        let fhelib = self.accounts.get(&FHELIB);
        fhelib
            .and_then(|account| account.storage.get(&TERMS_SLOT))
            .copied()
            .unwrap_or_default()
    }

    fn state_root(&self) -> B256 {
        let leaves = self.accounts.iter().map(|(address, account)| (*address, account.leaf()));
        let nothing = TrieAccount {
            storage_root: EMPTY_ROOT_HASH,
            code_hash: KECCAK256_EMPTY,
            ..TrieAccount::default()
        };
        // An account without anything is none.
        state_root_unhashed(leaves.filter(|(_, leaf)| *leaf != nothing))
    }
}

impl Account {
    fn leaf(&self) -> TrieAccount {
        let set = self.storage.iter().filter(|(_, value)| !value.is_zero());
        TrieAccount {
            nonce: self.nonce,
            balance: self.balance,
            storage_root: storage_root_unhashed(set.map(|(slot, value)| (*slot, U256::from_be_bytes(value.0)))),
            code_hash: keccak256(&self.code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_prevrandao_is_what_nodes_write() {
        let preimage = [b"cipherloom development prevrandao".as_slice(), B256::ZERO.as_slice()].concat();
        assert_eq!(PREVRANDAO, keccak256(preimage));
    }
}
