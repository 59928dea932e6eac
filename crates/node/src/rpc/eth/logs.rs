//! Log queries and filters.

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::U256;
use alloy::rpc::types::{Filter, FilterBlockOption};
use serde_json::{Value, json};

use super::super::convert::json;
use super::super::filters::FilterKind;
use super::super::params::Params;
use crate::chain::Chain;
use crate::chain::logs::{check_filter, collect};
use crate::error::{NodeError, Result};

/// Answers a method on logs or filters; `None` if it is not one.
pub(super) fn dispatch(chain: &Chain, method: &str, params: &mut Params) -> Result<Option<Value>> {
    match method {
        "eth_getLogs" => {
            let filter: Filter = params.required("filter")?;
            params.end()?;
            json(chain.logs(&filter)?).map(Some)
        }
        "eth_newFilter" => {
            let filter: Filter = params.required("filter")?;
            params.end()?;
            check_filter(&filter, chain.limits())?;
            install(chain, |next_block| FilterKind::Logs {
                next_block: start(&filter, next_block),
                filter: Box::new(filter),
            })
            .map(Some)
        }
        "eth_newBlockFilter" => {
            params.end()?;
            install(chain, |next_block| FilterKind::Blocks { next_block }).map(Some)
        }
        "eth_newPendingTransactionFilter" => {
            params.end()?;
            install(chain, |_| FilterKind::Pending { hashes: Vec::new() }).map(Some)
        }
        "eth_getFilterChanges" => {
            let id: U256 = params.required("filter id")?;
            params.end()?;
            changes(chain, &id).map(Some)
        }
        "eth_getFilterLogs" => {
            let id: U256 = params.required("filter id")?;
            params.end()?;
            let filter = match chain.filters()?.poll(&id)? {
                FilterKind::Logs { filter, .. } => (**filter).clone(),
                _ => return Err(NodeError::UnknownFilter),
            };
            json(chain.logs(&filter)?).map(Some)
        }
        "eth_uninstallFilter" => {
            let id: U256 = params.required("filter id")?;
            params.end()?;
            Ok(Some(json!(chain.filters()?.uninstall(&id))))
        }
        _ => Ok(None),
    }
}

fn install(chain: &Chain, kind: impl FnOnce(u64) -> FilterKind) -> Result<Value> {
    let core = chain.core()?;
    let next_block = core.head().header.number.saturating_add(1);
    json(chain.filters()?.install(kind(next_block)))
}

/// First block whose logs the filter reports: never an old one, possibly a future one.
fn start(filter: &Filter, next_block: u64) -> u64 {
    match filter.block_option {
        FilterBlockOption::Range {
            from_block: Some(BlockNumberOrTag::Number(number)),
            ..
        } => number.max(next_block),
        _ => next_block,
    }
}

/// Last block whose logs the filter reports.
fn end(filter: &Filter) -> u64 {
    match filter.block_option {
        FilterBlockOption::Range {
            to_block: Some(BlockNumberOrTag::Number(number)),
            ..
        } => number,
        _ => u64::MAX,
    }
}

fn changes(chain: &Chain, id: &U256) -> Result<Value> {
    let core = chain.core()?;
    let head = core.head().header.number;
    let mut filters = chain.filters()?;
    match filters.poll(id)? {
        FilterKind::Logs { filter, next_block } => {
            let from = start(filter, *next_block);
            let logs = collect(&core.blocks(from, head.min(end(filter))), filter, chain.limits())?;
            *next_block = head.saturating_add(1);
            json(logs)
        }
        FilterKind::Blocks { next_block } => {
            let from = std::mem::replace(next_block, head.saturating_add(1));
            json(core.blocks(from, head).iter().map(|block| block.hash).collect::<Vec<_>>())
        }
        FilterKind::Pending { hashes } => json(std::mem::take(hashes)),
    }
}
