//! Merkle proofs of accounts and storage (EIP-1186).

use alloy::consensus::constants::{EMPTY_ROOT_HASH, KECCAK_EMPTY};
use alloy::primitives::{Address, U256};
use alloy::rpc::types::{EIP1186AccountProofResponse, EIP1186StorageProof};
use alloy::serde::storage::JsonStorageKey;
use serde_json::Value;

use super::super::convert::json;
use super::super::params::Params;
use crate::chain::Chain;
use crate::error::{NodeError, Result};

/// Most storage slots proved in one call.
const MAX_SLOTS: usize = 1024;

/// Answers `eth_getProof`; `None` for other methods.
pub(super) fn dispatch(chain: &Chain, method: &str, params: &mut Params) -> Result<Option<Value>> {
    if method != "eth_getProof" {
        return Ok(None);
    }
    let address: Address = params.required("address")?;
    let slots: Vec<JsonStorageKey> = params.required("storage keys")?;
    let block = params.block()?;
    params.end()?;
    if slots.len() > MAX_SLOTS {
        return Err(NodeError::LimitExceeded(format!("too many slots (max {MAX_SLOTS})")));
    }
    let state = chain.state(block)?;
    let account = state.account(&address);
    let storage_proof = slots.into_iter().map(|key| {
        let slot = U256::from_be_bytes(key.as_b256().0);
        EIP1186StorageProof {
            key,
            value: state.storage(&address, slot),
            proof: state.storage_proof(&address, slot),
        }
    });
    json(EIP1186AccountProofResponse {
        address,
        balance: account.map_or(U256::ZERO, |account| account.balance),
        code_hash: account.map_or(KECCAK_EMPTY, |account| account.code_hash),
        nonce: account.map_or(0, |account| account.nonce),
        storage_hash: account.map_or(EMPTY_ROOT_HASH, |account| account.storage.root_hash()),
        account_proof: state.account_proof(&address),
        storage_proof: storage_proof.collect(),
    })
    .map(Some)
}
