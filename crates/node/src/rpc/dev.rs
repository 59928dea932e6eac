//! The methods of development chains: time, mining, snapshots, state edits, impersonation.
//!
//! Tools know them as `evm_`, `anvil_` and `hardhat_` methods; the last two are the same here.

use alloy::eips::BlockId;
use alloy::primitives::{Address, B256, Bytes, U256};
use serde_json::{Value, json};

use super::convert::{json, quantity};
use super::params::Params;
use crate::chain::DevChain;
use crate::error::{NodeError, Result};

/// Answers a development method; `None` if it is not one.
pub(super) fn dispatch(chain: &DevChain, method: &str, params: &mut Params) -> Result<Option<Value>> {
    let Some((namespace, name)) = method.split_once('_') else {
        return Ok(None);
    };
    let value = match namespace {
        "evm" => evm(chain, name, params)?,
        "anvil" | "hardhat" => shared(chain, name, params)?,
        _ => None,
    };
    Ok(value)
}

fn evm(chain: &DevChain, name: &str, params: &mut Params) -> Result<Option<Value>> {
    let value = match name {
        "snapshot" => {
            params.end()?;
            quantity(chain.snapshot()?)
        }
        "revert" => {
            let id = params.quantity("snapshot id")?;
            params.end()?;
            json!(chain.revert(id)?)
        }
        // One block, optionally at a given time; tools write the time as a number or in an object.
        "mine" => {
            let argument: Option<Value> = params.optional("timestamp")?;
            params.end()?;
            let timestamp = match argument {
                Some(Value::Object(fields)) => fields.get("timestamp").cloned(),
                other => other,
            };
            if let Some(timestamp) = Params::new(json!([timestamp]))?.optional_quantity("timestamp")? {
                chain.set_next_block_timestamp(timestamp)?;
            }
            chain.mine(1)?;
            json!("0x0")
        }
        "increaseTime" => {
            let seconds = params.quantity("seconds")?;
            params.end()?;
            json!(chain.increase_time(seconds)?)
        }
        "setNextBlockTimestamp" => {
            let timestamp = params.quantity("timestamp")?;
            params.end()?;
            chain.set_next_block_timestamp(timestamp)?;
            Value::Null
        }
        "setTime" => {
            let timestamp = params.quantity("timestamp")?;
            params.end()?;
            chain.set_time(timestamp)?;
            Value::Null
        }
        "setAutomine" => {
            let on: bool = params.required("on")?;
            params.end()?;
            chain.set_automine(on)?;
            json!(true)
        }
        "getAutomine" => {
            params.end()?;
            json!(chain.automine()?)
        }
        // Tools write them in both namespaces.
        "setAccountBalance" => return shared(chain, "setBalance", params),
        "setAccountCode" => return shared(chain, "setCode", params),
        "setAccountNonce" => return shared(chain, "setNonce", params),
        "setAccountStorageAt" => return shared(chain, "setStorageAt", params),
        _ => return Ok(None),
    };
    Ok(Some(value))
}

fn shared(chain: &DevChain, name: &str, params: &mut Params) -> Result<Option<Value>> {
    let value = match name {
        "mine" => {
            let count = params.optional_quantity("blocks")?.unwrap_or(1);
            let interval = params.optional_quantity("interval")?;
            params.end()?;
            mine(chain, count, interval)?;
            Value::Null
        }
        "setBalance" => {
            let (address, balance): (Address, U256) = (params.required("address")?, params.required("balance")?);
            params.end()?;
            chain.set_balance(address, balance)?;
            json!(true)
        }
        "setCode" => {
            let (address, code): (Address, Bytes) = (params.required("address")?, params.required("code")?);
            params.end()?;
            chain.set_code(address, code)?;
            json!(true)
        }
        "setNonce" => {
            let (address, nonce) = (params.required::<Address>("address")?, params.quantity("nonce")?);
            params.end()?;
            chain.set_nonce(address, nonce)?;
            json!(true)
        }
        "setStorageAt" => {
            let (address, slot): (Address, U256) = (params.required("address")?, params.required("slot")?);
            let value: B256 = params.required("value")?;
            params.end()?;
            chain.set_storage(address, slot, U256::from_be_bytes(value.0))?;
            json!(true)
        }
        "setNextBlockBaseFeePerGas" => {
            let base_fee = params.quantity("base fee")?;
            params.end()?;
            chain.set_next_block_base_fee(base_fee)?;
            Value::Null
        }
        "impersonateAccount" | "stopImpersonatingAccount" => {
            let address: Address = params.required("address")?;
            params.end()?;
            chain.impersonate(address, name == "impersonateAccount")?;
            json!(true)
        }
        "autoImpersonateAccount" => {
            let on: bool = params.required("on")?;
            params.end()?;
            chain.impersonate_all(on)?;
            Value::Null
        }
        "dropTransaction" => {
            let hash: B256 = params.required("hash")?;
            params.end()?;
            json!(chain.change(|core| Ok(core.pool.remove(&hash).is_some()))?)
        }
        "rollback" => {
            let depth = params.optional_quantity("depth")?.unwrap_or(1);
            params.end()?;
            chain.rollback(depth)?;
            Value::Null
        }
        "reorg" => {
            let depth = params.quantity("depth")?;
            let replacements: Vec<Value> = params.optional("transactions")?.unwrap_or_default();
            params.end()?;
            if !replacements.is_empty() {
                return Err(NodeError::InvalidParams(
                    "argument 1 (transactions): replacement transactions are not supported".to_owned(),
                ));
            }
            chain.reorganize(depth)?;
            Value::Null
        }
        "nodeInfo" | "metadata" => {
            params.end()?;
            node_info(chain)?
        }
        "snapshot" | "revert" | "increaseTime" | "setNextBlockTimestamp" | "setTime" | "setAutomine" | "getAutomine" => {
            return evm(chain, name, params);
        }
        _ => return Ok(None),
    };
    Ok(Some(value))
}

fn mine(chain: &DevChain, count: u64, interval: Option<u64>) -> Result<()> {
    chain.check_block_count(count)?;
    for index in 0..count {
        // The interval is the time between the mined blocks, not before the first one.
        if let Some(interval) = interval.filter(|_| index > 0) {
            let latest = chain.block(BlockId::latest())?.map_or(0, |block| block.header.timestamp);
            chain.set_next_block_timestamp(latest.saturating_add(interval))?;
        }
        chain.mine(1)?;
    }
    Ok(())
}

fn node_info(chain: &DevChain) -> Result<Value> {
    let core = chain.core()?;
    let head = core.head();
    Ok(json!({
        "clientVersion": concat!("cipherloom-node/", env!("CARGO_PKG_VERSION")),
        "chainId": chain.chain_id(),
        "currentBlockNumber": quantity(head.header.number),
        "currentBlockTimestamp": head.header.timestamp,
        "currentBlockHash": json(head.hash)?,
        "hardFork": "prague",
        "latestBlockHash": json(head.hash)?,
        "latestBlockNumber": head.header.number,
    }))
}
