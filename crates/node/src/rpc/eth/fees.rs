//! Gas prices. The base fee follows EIP-1559; tips buy nothing here, the suggested one is a margin
//! for clients that offer exactly the suggested gas price.

use alloy::consensus::Transaction;
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::rpc::types::FeeHistory;
use serde_json::Value;

use super::super::convert::{json, quantity};
use super::super::params::Params;
use crate::chain::block::Block;
use crate::chain::{Chain, resolve_or_fail};
use crate::error::{NodeError, Result};

/// Most blocks in one fee history.
const MAX_HISTORY_BLOCKS: u64 = 1024;

/// Most reward percentiles in one fee history.
const MAX_PERCENTILES: usize = 100;

/// Suggested tip, in wei per gas.
const SUGGESTED_TIP: u64 = 1_000_000_000;

/// Base fee per blob gas: the least possible, as there are no blobs.
const BLOB_BASE_FEE: u64 = 1;

/// Answers a method on fees; `None` if it is not one.
pub(super) fn dispatch(chain: &Chain, method: &str, params: &mut Params) -> Result<Option<Value>> {
    let value = match method {
        "eth_gasPrice" => quantity(chain.core()?.next_base_fee().saturating_add(SUGGESTED_TIP)),
        "eth_maxPriorityFeePerGas" => quantity(SUGGESTED_TIP),
        "eth_blobBaseFee" => quantity(BLOB_BASE_FEE),
        "eth_feeHistory" => {
            let count = params.quantity("block count")?;
            let newest: BlockNumberOrTag = params.required("newest block")?;
            let percentiles: Option<Vec<f64>> = params.optional("reward percentiles")?;
            params.end()?;
            return json(history(chain, count, newest, percentiles.as_deref())?).map(Some);
        }
        _ => return Ok(None),
    };
    params.end()?;
    Ok(Some(value))
}

fn history(chain: &Chain, count: u64, newest: BlockNumberOrTag, percentiles: Option<&[f64]>) -> Result<FeeHistory> {
    let percentiles_in_order = percentiles.unwrap_or_default().is_sorted()
        && percentiles
            .unwrap_or_default()
            .iter()
            .all(|percentile| (0.0..=100.0).contains(percentile));
    if !percentiles_in_order || percentiles.is_some_and(|percentiles| percentiles.len() > MAX_PERCENTILES) {
        let text = format!("argument 2 (reward percentiles): up to {MAX_PERCENTILES} ascending numbers from 0 to 100 are allowed");
        return Err(NodeError::InvalidParams(text));
    }
    let (newest, next_base_fee) = {
        let core = chain.core()?;
        (resolve_or_fail(&core, BlockId::Number(newest))?, core.next_base_fee())
    };
    let count = count.min(MAX_HISTORY_BLOCKS).min(newest.saturating_add(1));
    if count == 0 {
        return Ok(FeeHistory::default());
    }
    let oldest_block = newest.saturating_add(1).saturating_sub(count);
    let mut blocks = chain.blocks(oldest_block, newest.saturating_add(1))?;
    let next = match blocks.pop_if(|block| block.header.number > newest) {
        Some(block) => block.header.base_fee_per_gas.unwrap_or_default(),
        None => next_base_fee,
    };
    let base_fee = |block: &Block| u128::from(block.header.base_fee_per_gas.unwrap_or_default());
    let gas_used_ratio = blocks
        .iter()
        .map(|block| ratio(block.header.gas_used, block.header.gas_limit))
        .collect();
    Ok(FeeHistory {
        base_fee_per_gas: blocks.iter().map(|block| base_fee(block)).chain([u128::from(next)]).collect(),
        gas_used_ratio,
        base_fee_per_blob_gas: vec![u128::from(BLOB_BASE_FEE); blocks.len() + 1],
        blob_gas_used_ratio: vec![0.0; blocks.len()],
        oldest_block,
        reward: percentiles.map(|percentiles| blocks.iter().map(|block| rewards(block, percentiles)).collect()),
    })
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for display needs no more than 53 bits")]
fn ratio(used: u64, limit: u64) -> f64 {
    if limit == 0 { 0.0 } else { used as f64 / limit as f64 }
}

/// The tips paid at the given percentiles of the block's gas.
fn rewards(block: &Block, percentiles: &[f64]) -> Vec<u128> {
    let base_fee = block.header.base_fee_per_gas.unwrap_or_default();
    let mut tips = block
        .transactions
        .iter()
        .zip(&block.receipts)
        .map(|(transaction, receipt)| {
            (
                transaction.envelope.effective_tip_per_gas(base_fee).unwrap_or_default(),
                receipt.gas_used,
            )
        })
        .collect::<Vec<_>>();
    tips.sort_unstable();
    percentiles
        .iter()
        .map(|percentile| {
            let mut below = 0;
            let reached = tips.iter().find(|(_, gas)| {
                below += gas;
                ratio(below, block.header.gas_used) * 100.0 >= *percentile
            });
            reached.or(tips.last()).map_or(0, |(tip, _)| *tip)
        })
        .collect()
}
