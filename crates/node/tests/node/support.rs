//! Tiny contracts and signed transactions.

use std::sync::Arc;

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::Encodable2718;
use alloy::primitives::{Address, B256, Bytes, TxKind, U256, bytes};
use alloy::rpc::types::TransactionRequest;
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{Revert, SolError};
use cipherloom_node::{DevChain, DevChainConfig, ManualClock};

/// Time at which every test chain starts, in seconds since the Unix epoch.
pub(crate) const START: u64 = 1_750_000_000;

/// Called without data it returns slot 0; called with a word it stores the word in slot 0, logs
/// it as data and topic, and returns it.
pub(crate) const REGISTER: Bytes = bytes!("36600c575f545f5260205ff35b5f35805f55805f5260205fa160205ff3");

/// Returns the hash of the block whose number is in the call data.
pub(crate) const BLOCKHASH: Bytes = bytes!("5f35405f5260205ff3");

/// Returns the block's timestamp.
pub(crate) const TIMESTAMP: Bytes = bytes!("425f5260205ff3");

/// Stores 1 in transient storage and returns what it reads back.
pub(crate) const TRANSIENT: Bytes = bytes!("60015f5d5f5c5f5260205ff3");

/// Calls the address in the first word of the call data with the rest of it, and returns 1 if it succeeded.
pub(crate) const CALLER: Bytes = bytes!("602036038060205f375f5f825f5f5f355af15f5260205ff3");

/// Calls itself until the gas is gone.
pub(crate) const RECURSIVE: Bytes = bytes!("5f5f5f5f5f305af100");

/// Runs until the gas is gone.
pub(crate) const ENDLESS: Bytes = bytes!("5b5f56");

/// Reverts with `Error("nope")`.
pub(crate) fn reverter() -> Bytes {
    let data = Revert::from("nope").abi_encode();
    assert_eq!(data.len(), 0x64);
    [bytes!("6064600a5f3960645ffd"), data.into()].concat().into()
}

/// Creation code for a runtime code of fewer than 256 bytes.
pub(crate) fn creation(runtime: &Bytes) -> Bytes {
    let length = u8::try_from(runtime.len()).unwrap();
    [&[0x60, length, 0x80, 0x60, 0x09, 0x5f, 0x39, 0x5f, 0xf3], runtime.as_ref()]
        .concat()
        .into()
}

pub(crate) fn word(value: u64) -> Bytes {
    B256::from(U256::from(value)).into()
}

/// A chain in memory whose clock stands still.
pub(crate) fn chain() -> (DevChain, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(START));
    let config = DevChainConfig {
        clock: Arc::clone(&clock) as _,
        ..DevChainConfig::default()
    };
    (DevChain::new(config).unwrap(), clock)
}

pub(crate) fn account(chain: &DevChain, index: usize) -> Address {
    chain.accounts()[index].address()
}

pub(crate) fn signer(chain: &DevChain, index: usize) -> PrivateKeySigner {
    chain.accounts()[index].insecure_private_key_hex().parse().unwrap()
}

pub(crate) fn transaction(chain: &DevChain, nonce: u64, to: TxKind, input: Bytes) -> TxEip1559 {
    TxEip1559 {
        chain_id: chain.chain_id(),
        nonce,
        gas_limit: 1_000_000,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
        to,
        input,
        ..TxEip1559::default()
    }
}

pub(crate) fn signed(chain: &DevChain, index: usize, transaction: TxEip1559) -> TxEnvelope {
    let signature = signer(chain, index).sign_hash_sync(&transaction.signature_hash()).unwrap();
    transaction.into_signed(signature).into()
}

pub(crate) fn raw(chain: &DevChain, index: usize, transaction: TxEip1559) -> Vec<u8> {
    signed(chain, index, transaction).encoded_2718()
}

/// Deploys a runtime code from the first account.
pub(crate) fn deploy(chain: &DevChain, runtime: &Bytes) -> Address {
    let request = TransactionRequest {
        input: creation(runtime).into(),
        ..TransactionRequest::default()
    };
    let hash = chain.send_transaction(request).unwrap();
    let (block, index) = chain.mined_transaction(&hash).unwrap().unwrap();
    assert!(block.receipts[index].is_success());
    block.receipts[index].contract_address.unwrap()
}

pub(crate) fn call_to(to: Address, input: Bytes) -> TransactionRequest {
    TransactionRequest {
        to: Some(TxKind::Call(to)),
        input: input.into(),
        ..TransactionRequest::default()
    }
}
