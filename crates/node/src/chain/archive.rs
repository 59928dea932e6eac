//! Old blocks of a chain, which are not kept in memory.
//!
//! [`Core`](super::core::Core) keeps the blocks of its window. Where an [`Archive`] has the ones before it, they leave memory, and whoever asks for one is
//! answered from there, without the chain's lock: a disk may be slow. Development chains have no archive and keep everything.

use std::sync::Arc;

use alloy::consensus::Header;
use alloy::primitives::{Address, B256};

use super::block::Block;
use crate::error::Result;

/// Where blocks are that are not in memory.
pub(crate) trait Archive: Send + Sync {
    /// Number of the block with this hash.
    fn number_of(&self, hash: &B256) -> Result<Option<u64>>;

    /// The block with this number, which has left memory.
    fn block(&self, number: u64) -> Result<Arc<Block>>;

    /// The numbers of those of the blocks `from..end` whose headers are wanted, in ascending order.
    fn matching(&self, from: u64, end: u64, wanted: &dyn Fn(&Header) -> bool) -> Result<Vec<u64>>;

    /// The hashes of the blocks `from..end`, as far as they are here.
    fn hashes(&self, from: u64, end: u64) -> Result<Vec<B256>>;

    /// Number of the block that has this transaction, and the transaction's index in it.
    fn transaction(&self, hash: &B256) -> Result<Option<(u64, usize)>>;

    /// The same for the transaction with which `sender` used up `nonce`.
    fn transaction_of(&self, sender: &Address, nonce: u64) -> Result<Option<(u64, usize)>>;
}

/// The part of an archive whose blocks have left memory, at a moment: what is written there, but not yet part of the chain, does not show.
#[derive(Clone)]
pub(crate) struct Older {
    archive: Arc<dyn Archive>,
    /// The first block of the chain, which archives do not have.
    genesis: Arc<Block>,
    /// The first block that is in memory.
    end: u64,
}

impl Older {
    pub(super) fn new(archive: Arc<dyn Archive>, genesis: Arc<Block>, end: u64) -> Self {
        Self { archive, genesis, end }
    }

    /// The first block that is in memory.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn number_of(&self, hash: &B256) -> Result<Option<u64>> {
        Ok(self.archive.number_of(hash)?.filter(|number| *number < self.end))
    }

    pub(crate) fn block(&self, number: u64) -> Result<Option<Arc<Block>>> {
        match number {
            0 => Ok(Some(Arc::clone(&self.genesis))),
            number if number < self.end => self.archive.block(number).map(Some),
            _ => Ok(None),
        }
    }

    /// The blocks `from..=to`, as far as they are here.
    pub(crate) fn blocks(&self, from: u64, to: u64) -> Result<Vec<Arc<Block>>> {
        let numbers = from..self.end.min(to.saturating_add(1));
        numbers.filter_map(|number| self.block(number).transpose()).collect()
    }

    /// The numbers of those of the blocks `from..=to` that are here and whose headers are wanted.
    pub(crate) fn matching(&self, from: u64, to: u64, wanted: &dyn Fn(&Header) -> bool) -> Result<Vec<u64>> {
        self.archive.matching(from, self.end.min(to.saturating_add(1)), wanted)
    }

    /// The hashes of those of the blocks `from..=to` that are here.
    pub(crate) fn hashes(&self, from: u64, to: u64) -> Result<Vec<B256>> {
        self.archive.hashes(from, self.end.min(to.saturating_add(1)))
    }

    pub(crate) fn transaction(&self, hash: &B256) -> Result<Option<(Arc<Block>, usize)>> {
        self.located(self.archive.transaction(hash)?)
    }

    pub(crate) fn transaction_of(&self, sender: &Address, nonce: u64) -> Result<Option<(Arc<Block>, usize)>> {
        self.located(self.archive.transaction_of(sender, nonce)?)
    }

    fn located(&self, found: Option<(u64, usize)>) -> Result<Option<(Arc<Block>, usize)>> {
        let Some((number, index)) = found else { return Ok(None) };
        Ok(self.block(number)?.map(|block| (block, index)))
    }
}
