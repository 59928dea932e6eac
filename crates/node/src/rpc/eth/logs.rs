//! Log queries and filters.

use std::sync::Arc;

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::U256;
use alloy::rpc::types::{Filter, FilterBlockOption};
use serde_json::{Value, json};

use super::super::convert::json;
use super::super::filters::FilterKind;
use super::super::params::Params;
use crate::chain::Chain;
use crate::chain::archive::Older;
use crate::chain::block::Block;
use crate::chain::logs::check_filter;
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
    let kind = filters.poll(id)?;
    let from = match kind {
        FilterKind::Logs { filter, next_block } => start(filter, *next_block),
        FilterKind::Blocks { next_block } => *next_block,
        FilterKind::Pending { hashes } => return json(std::mem::take(hashes)),
    };
    let newer = core.blocks(from, head);
    if let Some(older) = core.older().filter(|older| from < older.end()) {
        // Nobody waits for the disk: what was polled is noted afterwards.
        let seen = kind.clone();
        drop(core);
        drop(filters);
        let answer = report(chain, &seen, from, head, &newer, Some(older))?;
        let mut filters = chain.filters()?;
        let kind = filters.poll(id)?;
        advance(kind, from, head);
        return Ok(answer);
    }
    let answer = report(chain, kind, from, head, &newer, None)?;
    advance(kind, from, head);
    Ok(answer)
}

/// Notes that the blocks `from..=head` were reported, unless somebody else polled meanwhile.
fn advance(kind: &mut FilterKind, from: u64, head: u64) {
    if let FilterKind::Logs { next_block, .. } | FilterKind::Blocks { next_block } = kind
        && *next_block <= from
    {
        *next_block = head.saturating_add(1);
    }
}

/// What a filter says about the blocks `from..=head`, of which `newer` are in memory.
fn report(chain: &Chain, kind: &FilterKind, from: u64, head: u64, newer: &[Arc<Block>], older: Option<Older>) -> Result<Value> {
    match kind {
        FilterKind::Logs { filter, .. } => {
            let to = head.min(end(filter));
            let last = newer.partition_point(|block| block.header.number <= to);
            let newer = newer.get(..last).unwrap_or_default();
            json(chain.matching_logs(from, to, newer, older, filter)?)
        }
        FilterKind::Blocks { .. } => {
            let mut hashes = Vec::new();
            if let Some(older) = older {
                chain.check_old(from, head, &older)?;
                hashes = older.hashes(from, head)?;
            }
            hashes.extend(newer.iter().map(|block| block.hash));
            json(hashes)
        }
        FilterKind::Pending { hashes } => json(hashes),
    }
}
