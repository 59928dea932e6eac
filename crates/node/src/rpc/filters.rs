//! Installed filters: what a polling client has not seen yet.

use std::collections::HashMap;

use alloy::primitives::{B256, U256};
use alloy::rpc::types::Filter;

use crate::error::{NodeError, Result};

/// Pending transaction hashes kept for one filter between two polls.
const PENDING_BACKLOG: usize = 4096;

/// What a filter watches.
#[derive(Clone, Debug)]
pub(crate) enum FilterKind {
    /// Logs that match, from blocks not polled yet.
    Logs { filter: Box<Filter>, next_block: u64 },
    /// Hashes of blocks not polled yet.
    Blocks { next_block: u64 },
    /// Hashes of transactions accepted since the last poll.
    Pending { hashes: Vec<B256> },
}

/// All installed filters. There is no expiry by time; the least recently polled filter makes room.
#[derive(Debug)]
pub(crate) struct Filters {
    installed: HashMap<U256, (u64, FilterKind)>,
    most: usize,
    next_id: u64,
    polls: u64,
}

impl Filters {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            installed: HashMap::new(),
            most: most.max(1),
            next_id: 1,
            polls: 0,
        }
    }

    pub(crate) fn install(&mut self, kind: FilterKind) -> U256 {
        if self.installed.len() >= self.most
            && let Some(oldest) = self.installed.iter().min_by_key(|(_, (polled, _))| *polled).map(|(id, _)| *id)
        {
            self.installed.remove(&oldest);
        }
        let id = U256::from(self.next_id);
        self.next_id = self.next_id.saturating_add(1);
        self.polls = self.polls.saturating_add(1);
        self.installed.insert(id, (self.polls, kind));
        id
    }

    pub(crate) fn uninstall(&mut self, id: &U256) -> bool {
        self.installed.remove(id).is_some()
    }

    /// Gives access to a filter and marks it as polled.
    pub(crate) fn poll(&mut self, id: &U256) -> Result<&mut FilterKind> {
        self.polls = self.polls.saturating_add(1);
        let (polled, kind) = self.installed.get_mut(id).ok_or(NodeError::UnknownFilter)?;
        *polled = self.polls;
        Ok(kind)
    }

    /// Tells pending-transaction filters about an accepted transaction.
    pub(crate) fn note_pending(&mut self, hash: B256) {
        for (_, kind) in self.installed.values_mut() {
            if let FilterKind::Pending { hashes } = kind
                && hashes.len() < PENDING_BACKLOG
            {
                hashes.push(hash);
            }
        }
    }

    /// Lets filters report the blocks from `number` on again: the reported ones are gone.
    pub(crate) fn note_reverted(&mut self, number: u64) {
        for (_, kind) in self.installed.values_mut() {
            if let FilterKind::Logs { next_block, .. } | FilterKind::Blocks { next_block } = kind {
                *next_block = number.min(*next_block);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_polled_filter_makes_room() {
        let mut filters = Filters::new(2);
        let first = filters.install(FilterKind::Blocks { next_block: 0 });
        let second = filters.install(FilterKind::Blocks { next_block: 0 });
        filters.poll(&first).unwrap();
        filters.install(FilterKind::Blocks { next_block: 0 });
        assert!(filters.poll(&first).is_ok());
        assert!(matches!(filters.poll(&second), Err(NodeError::UnknownFilter)));
    }
}
