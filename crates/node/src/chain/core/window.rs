//! Which blocks and states are in memory, and where the others are.

use std::sync::Arc;

use alloy::primitives::B256;

use super::Core;
use crate::chain::archive::{Archive, Older};
use crate::chain::block::Block;
use crate::error::{NodeError, Result};
use crate::state::{BLOCKHASH_WINDOW, RecentHashes, WorldState};

impl Core {
    /// From now on, blocks leave memory when their states do, and are asked of `archive`.
    pub(crate) fn keep_old_blocks_in(&mut self, archive: Arc<dyn Archive>) {
        self.archive = Some(archive);
    }

    /// Goes on from a block of the archive instead of the first one. `older_hashes` are those of the blocks before it, up to 256.
    pub(crate) fn resume(&mut self, block: Arc<Block>, state: WorldState, older_hashes: Vec<B256>) {
        self.blocks.clear();
        self.states.clear();
        self.transactions.clear();
        self.first = block.header.number;
        self.older_hashes = older_hashes.into();
        self.adopt(block, state);
        self.outbox.clear();
    }

    /// A block that is in memory.
    pub(crate) fn block(&self, number: u64) -> Option<&Arc<Block>> {
        if number == 0 {
            return Some(&self.genesis);
        }
        self.blocks.get(self.place_of(number)?)
    }

    /// Blocks that are not in memory.
    pub(crate) fn older(&self) -> Option<Older> {
        let archive = self.archive.as_ref().filter(|_| self.first > 0)?;
        Some(Older::new(Arc::clone(archive), Arc::clone(&self.genesis), self.first))
    }

    fn place_of(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }

    /// Lets the oldest block in memory go; the archive has it.
    pub(super) fn forget_oldest(&mut self) {
        let Some(block) = self.blocks.pop_front() else { return };
        self.first = self.first.saturating_add(1);
        self.older_hashes.push_back(block.hash);
        if self.older_hashes.len() > BLOCKHASH_WINDOW {
            self.older_hashes.pop_front();
        }
        // The first block of the chain stays known.
        if block.header.number > 0 {
            self.numbers.remove(&block.hash);
        }
        for transaction in &block.transactions {
            self.transactions.remove(&transaction.hash);
        }
    }

    /// The hash of a block in memory, or of one of the 256 before.
    fn hash_of(&self, number: u64) -> Option<B256> {
        if let Some(place) = self.place_of(number) {
            return self.blocks.get(place).map(|block| block.hash);
        }
        let back = usize::try_from(self.first.checked_sub(number)?).ok()?;
        self.older_hashes.get(self.older_hashes.len().checked_sub(back)?).copied()
    }

    /// Returns the blocks `from..=to`, as far as they exist and are in memory.
    pub(crate) fn blocks(&self, from: u64, to: u64) -> Vec<Arc<Block>> {
        let place = |number: u64| {
            usize::try_from(number.saturating_sub(self.first))
                .unwrap_or(usize::MAX)
                .min(self.blocks.len())
        };
        let (start, end) = (place(from), place(to.saturating_add(1)));
        self.blocks.range(start..end.max(start)).cloned().collect()
    }

    pub(crate) fn state_of(&self, number: u64) -> Result<&WorldState> {
        let total = self.head().header.number.saturating_add(1);
        let oldest = total.saturating_sub(u64::try_from(self.states.len()).unwrap_or(u64::MAX));
        let index = number.checked_sub(oldest).ok_or(NodeError::StatePruned { number, oldest })?;
        usize::try_from(index)
            .ok()
            .and_then(|index| self.states.get(index))
            .ok_or_else(|| NodeError::UnknownBlock(number.to_string()))
    }

    /// Hashes of the up to 256 blocks before a block, for the BLOCKHASH opcode.
    pub(super) fn hashes_before(&self, number: u64) -> RecentHashes {
        let known = self
            .first
            .saturating_sub(u64::try_from(self.older_hashes.len()).unwrap_or(u64::MAX));
        let window = number.saturating_sub(u64::try_from(BLOCKHASH_WINDOW).unwrap_or(u64::MAX));
        let first = window.max(known);
        let hashes = (first..number).map_while(|number| self.hash_of(number)).collect();
        RecentHashes { first, hashes }
    }
}
