//! When blocks are mined, and which time and fees they get.

use alloy::eips::BlockId;
use alloy::primitives::B256;
use serde_json::{Value, json};

use super::super::convert::{self, json};
use super::super::params::Params;
use super::Namespace;
use crate::chain::DevChain;
use crate::chain::interval::MiningInterval;
use crate::error::{NodeError, Result};

/// Answers a method on mining; `None` if it is not one.
pub(super) fn dispatch(chain: &DevChain, namespace: Namespace, name: &str, params: &mut Params) -> Result<Option<Value>> {
    let value = match name {
        "mine" if namespace == Namespace::Evm => {
            mine_with_options(chain, params)?;
            json!("0x0")
        }
        "mine" => {
            let count = params.optional_quantity("blocks")?.unwrap_or(1);
            let interval = params.optional_quantity("interval")?;
            params.end()?;
            mine(chain, count, interval)?;
            namespace.done()
        }
        "mine_detailed" => {
            let mined = mine_with_options(chain, params)?;
            let first = chain.block_number()?.saturating_add(1).saturating_sub(mined);
            let blocks = chain.core()?.blocks(first, u64::MAX);
            json(blocks.iter().map(|block| convert::block(block, true)).collect::<Vec<_>>())?
        }
        "setAutomine" => {
            let on: bool = params.required("on")?;
            params.end()?;
            chain.set_automine(on)?;
            namespace.done()
        }
        "getAutomine" => {
            params.end()?;
            json!(chain.automine()?)
        }
        "setIntervalMining" => {
            let interval = interval(namespace, params)?;
            chain.set_interval_mining(interval)?;
            if namespace == Namespace::Anvil {
                // There, blocks come at once or in intervals, never both.
                chain.set_automine(false)?;
            }
            namespace.done()
        }
        "getIntervalMining" => {
            params.end()?;
            let least_ms = chain.interval_mining().map(|interval| interval.least_ms);
            json!(least_ms.map(|least_ms| if namespace == Namespace::Anvil { least_ms / 1000 } else { least_ms }))
        }
        "increaseTime" => {
            let seconds = params.quantity("seconds")?;
            params.end()?;
            json!(chain.increase_time(seconds)?)
        }
        "setTime" => {
            let timestamp = params.quantity("timestamp")?;
            params.end()?;
            let before = chain.core()?.next_context().timestamp.saturating_to::<u64>();
            chain.set_time(timestamp)?;
            json!(timestamp.saturating_sub(before))
        }
        "setNextBlockTimestamp" => {
            let timestamp = params.quantity("timestamp")?;
            params.end()?;
            chain.set_next_block_timestamp(timestamp)?;
            Value::Null
        }
        "setBlockTimestampInterval" => {
            let interval = params.quantity("interval")?;
            params.end()?;
            let seconds = match namespace {
                // As viem sends it to Hardhat.
                Namespace::Hardhat => whole_seconds(interval)?,
                Namespace::Evm | Namespace::Anvil => interval,
            };
            chain.set_block_timestamp_interval(Some(seconds))?;
            namespace.done()
        }
        "removeBlockTimestampInterval" => {
            params.end()?;
            json!(chain.set_block_timestamp_interval(None)?)
        }
        "setNextBlockBaseFeePerGas" => {
            let base_fee = params.quantity("base fee")?;
            params.end()?;
            chain.set_next_block_base_fee(base_fee)?;
            namespace.done()
        }
        "setPrevRandao" => {
            let value: B256 = params.required("value")?;
            params.end()?;
            chain.set_next_block_prevrandao(value)?;
            namespace.done()
        }
        "setBlockGasLimit" => {
            let gas_limit = params.quantity("gas limit")?;
            params.end()?;
            chain.set_block_gas_limit(gas_limit)?;
            json!(true)
        }
        "setCoinbase" => {
            let coinbase = params.required("address")?;
            params.end()?;
            chain.set_coinbase(coinbase)?;
            namespace.done()
        }
        _ => return Ok(None),
    };
    Ok(Some(value))
}

/// Mines as `evm_mine` is told to, by a timestamp or by an object with `timestamp` and `blocks`; returns how many blocks.
fn mine_with_options(chain: &DevChain, params: &mut Params) -> Result<u64> {
    let argument: Option<Value> = params.optional("timestamp")?;
    params.end()?;
    let (timestamp, blocks) = match argument {
        Some(Value::Object(mut fields)) => (fields.remove("timestamp"), fields.remove("blocks")),
        other => (other, None),
    };
    let mut options = Params::new(json!([timestamp, blocks]))?;
    let timestamp = options.optional_quantity("timestamp")?;
    let count = options.optional_quantity("blocks")?.unwrap_or(1);
    chain.check_block_count(count)?;
    if let Some(timestamp) = timestamp {
        chain.set_next_block_timestamp(timestamp)?;
    }
    chain.mine(count)?;
    Ok(count)
}

fn mine(chain: &DevChain, count: u64, interval: Option<u64>) -> Result<()> {
    chain.check_block_count(count)?;
    for index in 0..count {
        // The interval is the time between the mined blocks, not before the first one. Tools write zero for none.
        if let Some(interval) = interval.filter(|interval| index > 0 && *interval > 0) {
            let latest = chain.block(BlockId::latest())?.map_or(0, |block| block.header.timestamp);
            chain.set_next_block_timestamp(latest.saturating_add(interval))?;
        }
        chain.mine(1)?;
    }
    Ok(())
}

fn whole_seconds(ms: u64) -> Result<u64> {
    if ms.is_multiple_of(1000) {
        return Ok(ms / 1000);
    }
    Err(NodeError::InvalidParams(format!(
        "argument 0 (interval): {ms} ms are no whole seconds, which block timestamps count"
    )))
}

/// Reads a pause: milliseconds or a pair of them or, for anvil, seconds. Zero stops.
fn interval(namespace: Namespace, params: &mut Params) -> Result<Option<MiningInterval>> {
    let value: Value = params.required("interval")?;
    params.end()?;
    if let Value::Array(bounds) = &value {
        let [least_ms, most_ms] = serde_json::from_value::<[u64; 2]>(Value::Array(bounds.clone()))
            .map_err(|error| NodeError::InvalidParams(format!("argument 0 (interval): {error}")))?;
        return Ok(Some(MiningInterval { least_ms, most_ms }));
    }
    let number = Params::new(json!([value]))?.quantity("interval")?;
    let ms = if namespace == Namespace::Anvil {
        number.saturating_mul(1000)
    } else {
        number
    };
    Ok((ms > 0).then_some(MiningInterval { least_ms: ms, most_ms: ms }))
}
