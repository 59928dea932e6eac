//! Blocks, their transactions and their receipts.

use std::sync::Arc;

use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::B256;
use serde_json::Value;

use super::super::convert::{self, json, quantity};
use super::super::params::Params;
use crate::chain::Chain;
use crate::chain::block::Block;
use crate::error::Result;

/// Answers a method on blocks; `None` if it is not one.
pub(super) fn dispatch(chain: &Chain, method: &str, params: &mut Params) -> Result<Option<Value>> {
    let value = match method {
        "eth_getBlockByNumber" | "eth_getBlockByHash" => {
            let id = block_id(method, params)?;
            let full = params.optional::<bool>("full transactions")?.unwrap_or(false);
            params.end()?;
            return block(chain, id, full).map(Some);
        }
        "eth_getHeaderByNumber" | "eth_getHeaderByHash" => {
            let found = find(chain, method, params)?;
            params.end()?;
            json(found.map(|block| convert::header(&block)))?
        }
        "eth_getBlockTransactionCountByNumber" | "eth_getBlockTransactionCountByHash" => {
            let found = find(chain, method, params)?;
            params.end()?;
            count(found.map(|block| block.transactions.len()))
        }
        "eth_getUncleCountByBlockNumber" | "eth_getUncleCountByBlockHash" => {
            let found = find(chain, method, params)?;
            params.end()?;
            count(found.map(|_| 0))
        }
        "eth_getUncleByBlockNumberAndIndex" | "eth_getUncleByBlockHashAndIndex" => {
            find(chain, method, params)?;
            params.quantity("index")?;
            params.end()?;
            Value::Null
        }
        "eth_getTransactionByBlockNumberAndIndex" | "eth_getTransactionByBlockHashAndIndex" => {
            let found = find(chain, method, params)?;
            let index = usize::try_from(params.quantity("index")?).unwrap_or(usize::MAX);
            params.end()?;
            json(found.and_then(|block| convert::transaction(&block, index)))?
        }
        "eth_getBlockReceipts" => {
            let id = params.block()?;
            params.end()?;
            let found = chain.block(id)?;
            json(found.map(|block| {
                (0..block.receipts.len())
                    .filter_map(|index| convert::receipt(&block, index))
                    .collect::<Vec<_>>()
            }))?
        }
        _ => return Ok(None),
    };
    Ok(Some(value))
}

fn block(chain: &Chain, id: BlockId, full: bool) -> Result<Value> {
    let Some(found) = chain.block(id)? else { return Ok(Value::Null) };
    let mut value = json(convert::block(&found, full))?;
    if id == BlockId::pending()
        && let Some(fields) = value.as_object_mut()
    {
        // A block that is not sealed has no hash yet; clients expect null here.
        for field in ["hash", "nonce", "logsBloom"] {
            fields.insert(field.to_owned(), Value::Null);
        }
    }
    Ok(value)
}

fn block_id(method: &str, params: &mut Params) -> Result<BlockId> {
    if method.contains("Hash") {
        return params.required::<B256>("block hash").map(BlockId::hash);
    }
    params.required::<BlockNumberOrTag>("block number").map(BlockId::Number)
}

fn find(chain: &Chain, method: &str, params: &mut Params) -> Result<Option<Arc<Block>>> {
    let id = block_id(method, params)?;
    chain.block(id)
}

fn count(found: Option<usize>) -> Value {
    found.map_or(Value::Null, |count| quantity(u64::try_from(count).unwrap_or(u64::MAX)))
}
