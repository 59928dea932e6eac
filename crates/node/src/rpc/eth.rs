//! The standard methods that every chain has: `web3_`, `net_` and the `eth_` methods on state and transactions.
//!
//! Blocks, receipts, logs, filters, fees, waiting transactions and simulations are in the modules below; each module answers the
//! methods it knows and passes on the others.

mod blocks;
mod fees;
mod logs;
mod pool;
mod proof;
mod simulate;

use alloy::eips::{BlockId, Encodable2718};
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::rpc::types::state::StateOverride;
use alloy::rpc::types::{BlockOverrides, TransactionRequest};
use alloy::serde::storage::JsonStorageKey;
use serde_json::{Value, json};

use super::convert::{self, json, quantity};
use super::params::Params;
use crate::chain::Chain;
use crate::error::{NodeError, Result};

/// Answers a standard method; `None` if it is not one.
pub(super) fn dispatch(chain: &Chain, method: &str, params: &mut Params) -> Result<Option<Value>> {
    for answer in [
        meta,
        state,
        transactions,
        blocks::dispatch,
        logs::dispatch,
        fees::dispatch,
        proof::dispatch,
        pool::dispatch,
        simulate::dispatch,
    ] {
        if let Some(value) = answer(chain, method, params)? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

fn meta(chain: &Chain, method: &str, params: &mut Params) -> Result<Option<Value>> {
    let value = match method {
        "web3_sha3" => {
            let data: Bytes = params.required("data")?;
            json(keccak256(data))?
        }
        "net_version" => json!(chain.chain_id().to_string()),
        "net_listening" => json!(true),
        "net_peerCount" => quantity(0u64),
        "eth_chainId" => quantity(chain.chain_id()),
        "eth_protocolVersion" => json!("0x44"),
        "eth_syncing" | "eth_mining" => json!(false),
        "eth_hashrate" => quantity(0u64),
        "eth_blockNumber" => quantity(chain.block_number()?),
        "eth_coinbase" => json(chain.core()?.coinbase())?,
        // This node signs for nobody.
        "eth_accounts" | "eth_requestAccounts" => json!([]),
        _ => return Ok(None),
    };
    params.end()?;
    Ok(Some(value))
}

fn state(chain: &Chain, method: &str, params: &mut Params) -> Result<Option<Value>> {
    match method {
        "eth_getBalance" | "eth_getTransactionCount" | "eth_getCode" => {
            let address: Address = params.required("address")?;
            let block = params.block()?;
            params.end()?;
            match method {
                "eth_getBalance" => json(chain.balance(address, block)?),
                "eth_getCode" => json(chain.code(address, block)?),
                _ => Ok(quantity(chain.nonce(address, block)?)),
            }
            .map(Some)
        }
        "eth_getAccountInfo" => {
            let address: Address = params.required("address")?;
            let state = chain.state(params.block()?)?;
            params.end()?;
            let (balance, nonce) = (json(state.balance(&address))?, quantity(state.nonce(&address)));
            Ok(Some(
                json!({ "balance": balance, "nonce": nonce, "code": json(state.code(&address))? }),
            ))
        }
        "eth_getStorageAt" => {
            let address: Address = params.required("address")?;
            let slot: JsonStorageKey = params.required("slot")?;
            let block = params.block()?;
            params.end()?;
            let value = chain.storage(address, U256::from_be_bytes(slot.as_b256().0), block)?;
            json(B256::from(value)).map(Some)
        }
        "eth_call" => {
            let request: TransactionRequest = params.required("transaction")?;
            let block = params.block()?;
            let state: Option<StateOverride> = params.optional("state overrides")?;
            let overrides: Option<BlockOverrides> = params.optional("block overrides")?;
            params.end()?;
            json(chain.call_with(&request, block, state, overrides)?).map(Some)
        }
        "eth_estimateGas" => {
            let request: TransactionRequest = params.required("transaction")?;
            let block = params.optional("block")?.unwrap_or_else(BlockId::pending);
            let state: Option<StateOverride> = params.optional("state overrides")?;
            params.end()?;
            Ok(Some(quantity(chain.estimate_gas_with(&request, block, state)?)))
        }
        _ => Ok(None),
    }
}

fn transactions(chain: &Chain, method: &str, params: &mut Params) -> Result<Option<Value>> {
    match method {
        "eth_sendRawTransaction" => {
            let raw: Bytes = params.required("signed transaction")?;
            params.end()?;
            json(chain.send_raw_transaction(&raw)?).map(Some)
        }
        "eth_sendRawTransactionSync" => {
            let raw: Bytes = params.required("signed transaction")?;
            params.optional_quantity("timeout")?;
            params.end()?;
            let hash = chain.send_raw_transaction(&raw)?;
            receipt_now(chain, &hash).map(Some)
        }
        "eth_getTransactionByHash" => {
            let hash: B256 = params.required("hash")?;
            params.end()?;
            json(convert::transaction_of(chain, &hash)?).map(Some)
        }
        "eth_getTransactionBySenderAndNonce" => {
            let (sender, nonce) = (params.required("address")?, params.quantity("nonce")?);
            params.end()?;
            let waiting = chain.core()?.pool.of(&sender, nonce).map(convert::pending_transaction);
            let found = match chain.transaction_of(&sender, nonce)? {
                Some((block, index)) => convert::transaction(&block, index),
                None => waiting,
            };
            json(found).map(Some)
        }
        "eth_getRawTransactionByHash" | "debug_getRawTransaction" => {
            let hash: B256 = params.required("hash")?;
            params.end()?;
            let mined = chain.mined_transaction(&hash)?;
            let raw = mined.and_then(|(block, index)| {
                block
                    .transactions
                    .get(index)
                    .map(|found| Bytes::from(found.envelope.encoded_2718()))
            });
            json(raw).map(Some)
        }
        "eth_getTransactionReceipt" => {
            let hash: B256 = params.required("hash")?;
            params.end()?;
            json(
                chain
                    .mined_transaction(&hash)?
                    .and_then(|(block, index)| convert::receipt(&block, index)),
            )
            .map(Some)
        }
        _ => Ok(None),
    }
}

/// The receipt of a transaction that was just sent. One that waits (for an earlier nonce, or to be mined on demand) has none.
pub(super) fn receipt_now(chain: &Chain, hash: &B256) -> Result<Value> {
    let (block, index) = chain.mined_transaction(hash)?.ok_or(NodeError::TimedOut)?;
    json(convert::receipt(&block, index))
}
