//! Queries of the logs that transactions left.

use std::sync::Arc;

use alloy::eips::BlockId;
use alloy::rpc::types::{Filter, FilterBlockOption, Log};

use super::block::Block;
use super::{Chain, resolve, resolve_or_fail};
use crate::config::Limits;
use crate::error::{NodeError, Result};

impl Chain {
    /// Returns the logs that a filter selects, in chain order.
    ///
    /// # Errors
    ///
    /// [`NodeError::LimitExceeded`] for too large filters or answers, [`NodeError::UnknownBlock`] for
    /// an unknown block hash, [`NodeError::InvalidParams`] for a range that ends before it begins.
    pub fn logs(&self, filter: &Filter) -> Result<Vec<Log>> {
        check_filter(filter, self.limits())?;
        let blocks = {
            let core = self.core()?;
            match filter.block_option {
                FilterBlockOption::AtBlockHash(hash) => {
                    let number = resolve_or_fail(&core, BlockId::hash(hash))?;
                    core.blocks(number, number)
                }
                FilterBlockOption::Range { from_block, to_block } => {
                    let head = core.head().header.number;
                    let from = resolve(&core, from_block.unwrap_or_default().into());
                    let to = resolve(&core, to_block.unwrap_or_default().into()).unwrap_or(head);
                    match from {
                        Some(from) if from > to => {
                            return Err(NodeError::InvalidParams(format!("invalid block range: from {from} to {to}")));
                        }
                        Some(from) => core.blocks(from, to),
                        // A range that starts in the future is empty so far.
                        None => Vec::new(),
                    }
                }
            }
        };
        collect(&blocks, filter, self.limits())
    }
}

/// Refuses filters that would be slow to match.
pub(crate) fn check_filter(filter: &Filter, limits: &Limits) -> Result<()> {
    let most = limits.filter_alternatives;
    if filter.address.len() > most || filter.topics.iter().any(|topic| topic.len() > most) {
        return Err(NodeError::LimitExceeded(format!(
            "a filter may name at most {most} addresses and {most} values per topic"
        )));
    }
    Ok(())
}

/// Collects matching logs of `blocks`.
pub(crate) fn collect(blocks: &[Arc<Block>], filter: &Filter, limits: &Limits) -> Result<Vec<Log>> {
    let (most, most_bytes) = (limits.logs_per_query, limits.response_size_bytes);
    let mut found = Vec::new();
    let mut size_bytes = 0usize;
    for block in blocks {
        if !filter.matches_bloom(block.header.logs_bloom) {
            continue;
        }
        for log in block_logs(block, false).filter(|log| filter.matches(&log.inner)) {
            size_bytes = size_bytes.saturating_add(log.inner.data.data.len());
            if size_bytes > most_bytes {
                return Err(NodeError::LimitExceeded(format!(
                    "query returned more than {most_bytes} bytes of log data"
                )));
            }
            found.push(log);
        }
        if found.len() > most {
            return Err(NodeError::LimitExceeded(format!("query returned more than {most} results")));
        }
    }
    Ok(found)
}

/// All logs of a block in RPC form.
pub(crate) fn block_logs(block: &Block, removed: bool) -> impl Iterator<Item = Log> + '_ {
    block
        .receipts
        .iter()
        .zip(&block.transactions)
        .enumerate()
        .flat_map(move |(index, (receipt, transaction))| {
            receipt
                .logs()
                .iter()
                .zip(receipt.first_log_index..)
                .map(move |(log, log_index)| Log {
                    inner: log.clone(),
                    block_hash: Some(block.hash),
                    block_number: Some(block.header.number),
                    block_timestamp: Some(block.header.timestamp),
                    transaction_hash: Some(transaction.hash),
                    transaction_index: u64::try_from(index).ok(),
                    log_index: Some(log_index),
                    removed,
                })
        })
}
