//! Queries of the logs that transactions left.

use std::sync::Arc;

use alloy::eips::BlockId;
use alloy::rpc::types::{Filter, FilterBlockOption, Log};

use super::archive::Older;
use super::block::Block;
use super::{Chain, resolve};
use crate::config::Limits;
use crate::error::{NodeError, Result};

impl Chain {
    /// Returns the logs that a filter selects, in chain order.
    ///
    /// # Errors
    ///
    /// [`NodeError::LimitExceeded`] for too large filters or answers, and for too many blocks that are not in memory,
    /// [`NodeError::UnknownBlock`] for an unknown block hash, [`NodeError::InvalidParams`] for a range that ends before it begins.
    pub fn logs(&self, filter: &Filter) -> Result<Vec<Log>> {
        check_filter(filter, self.limits())?;
        let core = self.core()?;
        let (core, from, to) = match filter.block_option {
            FilterBlockOption::AtBlockHash(hash) => {
                let (core, number) = self.resolved(core, BlockId::hash(hash))?;
                (core, number, number)
            }
            FilterBlockOption::Range { from_block, to_block } => {
                let head = core.head().header.number;
                let from = resolve(&core, from_block.unwrap_or_default().into());
                let to = resolve(&core, to_block.unwrap_or_default().into()).unwrap_or(head);
                match from {
                    Some(from) if from > to => {
                        return Err(NodeError::InvalidParams(format!("invalid block range: from {from} to {to}")));
                    }
                    Some(from) => (core, from, to),
                    // A range that starts in the future is empty so far.
                    None => return Ok(Vec::new()),
                }
            }
        };
        let (newer, older) = (core.blocks(from, to), core.older());
        drop(core);
        self.matching_logs(from, to, &newer, older, filter)
    }

    /// Logs of the blocks `from..=to`, of which `newer` are those in memory.
    pub(crate) fn matching_logs(
        &self,
        from: u64,
        to: u64,
        newer: &[Arc<Block>],
        older: Option<Older>,
        filter: &Filter,
    ) -> Result<Vec<Log>> {
        let mut found = Found::new(filter, self.limits());
        if let Some(older) = older.filter(|older| from < older.end()) {
            self.check_old(from, to, &older)?;
            for number in older.matching(from, to, &|header| filter.matches_bloom(header.logs_bloom))? {
                if let Some(block) = older.block(number)? {
                    found.add(&block)?;
                }
            }
        }
        newer.iter().try_for_each(|block| found.add(block))?;
        Ok(found.logs)
    }

    /// Refuses to look through too many blocks that are not in memory.
    pub(crate) fn check_old(&self, from: u64, to: u64, older: &Older) -> Result<()> {
        let most = self.limits().old_blocks_per_query;
        let asked = older.end().min(to.saturating_add(1)).saturating_sub(from);
        if asked > most {
            return Err(NodeError::LimitExceeded(format!(
                "the query covers {asked} blocks before block {}, at most {most} are searched at one time; ask for a smaller range",
                older.end()
            )));
        }
        Ok(())
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

/// Matching logs, as far as blocks were looked at.
struct Found<'a> {
    filter: &'a Filter,
    limits: &'a Limits,
    logs: Vec<Log>,
    size_bytes: usize,
}

impl<'a> Found<'a> {
    fn new(filter: &'a Filter, limits: &'a Limits) -> Self {
        Self {
            filter,
            limits,
            logs: Vec::new(),
            size_bytes: 0,
        }
    }

    fn add(&mut self, block: &Block) -> Result<()> {
        let (most, most_bytes) = (self.limits.logs_per_query, self.limits.response_size_bytes);
        if !self.filter.matches_bloom(block.header.logs_bloom) {
            return Ok(());
        }
        for log in block_logs(block, false).filter(|log| self.filter.matches(&log.inner)) {
            self.size_bytes = self.size_bytes.saturating_add(log.inner.data.data.len());
            if self.size_bytes > most_bytes {
                return Err(NodeError::LimitExceeded(format!(
                    "query returned more than {most_bytes} bytes of log data"
                )));
            }
            self.logs.push(log);
        }
        if self.logs.len() > most {
            return Err(NodeError::LimitExceeded(format!("query returned more than {most} results")));
        }
        Ok(())
    }
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
