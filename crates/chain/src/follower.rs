//! Following a host chain: what is new, and what is no more.
//!
//! The follower keeps nothing that has to be saved. Each [`Follower::poll`] is told which blocks are recorded and answers with
//! the next step: blocks to record, or blocks to remove. A crash between two polls therefore loses nothing.
//!
//! **Reorganisations.** Before anything new is read, the newest recorded block is compared with the chain; if its hash
//! differs, the newest block that both share is searched among those recorded. Near the head each block is checked to be
//! the child of the one before, and its logs are asked for by block hash, so they belong to exactly that block.
//!
//! **Catching up.** Far behind the head, logs are asked for in ranges of blocks, in which only blocks with events and
//! the last one are returned. Ranges shrink when the node refuses them and grow when it does not.

use std::time::Duration;

use alloy::{
    eips::BlockNumberOrTag,
    rpc::types::{Header, Log},
};
use cipherloom_primitives::B256;

use crate::{
    error::ChainError,
    events::{BlockEvents, BlockId, transactions},
    host_chain::HostChain,
};

/// How a chain is followed.
#[derive(Clone, Copy, Debug)]
pub struct FollowerConfig {
    /// Where to begin when nothing is recorded: the block of the host contracts' deployment or earlier.
    pub first_block: u64,
    /// The pause between polls that find nothing new.
    pub poll_interval: Duration,
    /// How many blocks at the head are read one by one, because they may still be reorganised.
    pub careful_blocks: u64,
    /// The most blocks in one step, so that one step stays short.
    pub blocks_per_step: u64,
    /// The longest range of blocks that logs are asked for at once.
    pub longest_range: u64,
}

impl Default for FollowerConfig {
    fn default() -> Self {
        Self {
            first_block: 0,
            poll_interval: Duration::from_millis(100),
            careful_blocks: 64,
            blocks_per_step: 64,
            longest_range: 2_000,
        }
    }
}

/// What to do next with the recorded blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FollowUpdate {
    /// Nothing: everything is recorded.
    UpToDate,
    /// Record these blocks, in ascending order. Blocks without events may be left out while catching up.
    Blocks(Vec<BlockEvents>),
    /// Remove the recorded blocks from this number on, then ask again.
    Reorganised {
        /// The lowest block that is not on the chain any more.
        first_removed: u64,
    },
}

/// Follows one host chain; see the module's documentation.
#[derive(Debug)]
pub struct Follower {
    chain: HostChain,
    config: FollowerConfig,
    /// How many blocks the next range has.
    range: u64,
}

impl Follower {
    /// Sets up a follower; nothing is asked yet.
    #[must_use]
    pub fn new(chain: HostChain, config: FollowerConfig) -> Self {
        let range = config.longest_range.max(1);
        Self { chain, config, range }
    }

    /// Returns the pause between polls that find nothing new.
    #[must_use]
    pub const fn poll_interval(&self) -> Duration {
        self.config.poll_interval
    }

    /// Asks the chain for the next step, given the newest recorded blocks, newest first. The more of them are given, the
    /// deeper a reorganisation is resolved in one step.
    ///
    /// # Errors
    /// [`ChainError`] of the reads; [`ChainError::BlockGone`] if the chain moved meanwhile. Ask again later.
    pub async fn poll(&mut self, recorded: &[BlockId]) -> Result<FollowUpdate, ChainError> {
        let Some(head) = self.chain.header(BlockNumberOrTag::Latest).await? else {
            return Err(ChainError::BlockGone(0));
        };
        if let Some(newest) = recorded.first()
            && let Some(update) = self.compare(newest, recorded, &head).await?
        {
            return Ok(update);
        }
        let next = recorded
            .first()
            .map_or(self.config.first_block, |newest| newest.number.saturating_add(1));
        if next > head.number {
            return Ok(FollowUpdate::UpToDate);
        }
        // Blocks from here on may still be reorganised.
        let careful = head.number.saturating_sub(self.config.careful_blocks);
        if next < careful {
            return self.catch_up(next, careful).await;
        }
        self.read_blocks(next, &head, recorded.first().map(|newest| newest.hash)).await
    }

    /// Compares the newest recorded block with the chain and finds what has to be removed, if anything.
    async fn compare(&self, newest: &BlockId, recorded: &[BlockId], head: &Header) -> Result<Option<FollowUpdate>, ChainError> {
        if head.number < newest.number {
            // Either the node lags behind the one asked before, or the chain went back. It went back for certain if its head
            // does not continue the block recorded at or below that height; otherwise the next block will show.
            return match recorded.iter().find(|block| block.number <= head.number) {
                Some(block) if self.on_chain(block).await? => Ok(Some(FollowUpdate::UpToDate)),
                Some(block) => self.find_fork(block, recorded).await,
                // The whole recent past is above the head: this is another chain, or a fresh start of a development chain.
                None => Ok(recorded.last().map(|oldest| FollowUpdate::Reorganised {
                    first_removed: oldest.number,
                })),
            };
        }
        if head.number == newest.number && head.hash == newest.hash {
            return Ok(Some(FollowUpdate::UpToDate));
        }
        if self.on_chain(newest).await? {
            Ok(None)
        } else {
            self.find_fork(newest, recorded).await
        }
    }

    /// Finds the newest recorded block at or below `from` that is on the chain; what is above it has to go.
    async fn find_fork(&self, from: &BlockId, recorded: &[BlockId]) -> Result<Option<FollowUpdate>, ChainError> {
        let mut first_removed = None;
        for block in recorded {
            if block.number <= from.number && self.on_chain(block).await? {
                break;
            }
            first_removed = Some(block.number);
        }
        Ok(Some(first_removed.map_or(FollowUpdate::UpToDate, |first_removed| {
            FollowUpdate::Reorganised { first_removed }
        })))
    }

    async fn on_chain(&self, block: &BlockId) -> Result<bool, ChainError> {
        let header = self.chain.header(BlockNumberOrTag::Number(block.number)).await?;
        Ok(header.is_some_and(|header| header.hash == block.hash))
    }

    /// Reads blocks one by one up to the head, each checked to be the child of the one before.
    async fn read_blocks(&self, first: u64, head: &Header, mut parent: Option<B256>) -> Result<FollowUpdate, ChainError> {
        let last = head.number.min(first.saturating_add(self.config.blocks_per_step.max(1) - 1));
        let mut blocks = Vec::new();
        for number in first..=last {
            let header = self.header_of(number).await?;
            if parent.is_some_and(|parent| parent != header.parent_hash) {
                // The chain moved since it was compared. What was read so far is consistent; the next poll sees the rest.
                if blocks.is_empty() {
                    return Err(ChainError::BlockGone(number));
                }
                break;
            }
            let logs = self.chain.logs_of_block(header.hash).await?;
            parent = Some(header.hash);
            blocks.push(self.block(&header, &logs));
        }
        Ok(FollowUpdate::Blocks(blocks))
    }

    /// Reads a range of old blocks; returns those with events and the last one.
    async fn catch_up(&mut self, first: u64, careful: u64) -> Result<FollowUpdate, ChainError> {
        let last = careful.min(first.saturating_add(self.range - 1));
        let logs = match self.chain.logs_of_range(first, last).await {
            Ok(logs) => {
                self.range = self.range.saturating_mul(2).min(self.config.longest_range.max(1));
                logs
            }
            // Nodes limit ranges and results, each with words and codes of its own.
            Err(ChainError::Refused { .. } | ChainError::Timeout { .. } | ChainError::Transport { .. }) if self.range > 1 => {
                self.range /= 2;
                tracing::debug!(range = self.range, "the chain's node refused a range of logs, trying a shorter one");
                return Box::pin(self.catch_up(first, careful)).await;
            }
            Err(error) => return Err(error),
        };
        let mut numbers: Vec<u64> = logs.iter().filter_map(|log| log.block_number).collect();
        numbers.push(last);
        numbers.sort_unstable();
        numbers.dedup();
        let mut blocks = Vec::with_capacity(numbers.len());
        for number in numbers.into_iter().filter(|number| (first..=last).contains(number)) {
            let header = self.header_of(number).await?;
            let own: Vec<Log> = logs.iter().filter(|log| log.block_number == Some(number)).cloned().collect();
            if own.iter().any(|log| log.block_hash != Some(header.hash)) {
                return Err(ChainError::BlockGone(number));
            }
            blocks.push(self.block(&header, &own));
        }
        Ok(FollowUpdate::Blocks(blocks))
    }

    async fn header_of(&self, number: u64) -> Result<Header, ChainError> {
        self.chain
            .header(BlockNumberOrTag::Number(number))
            .await?
            .ok_or(ChainError::BlockGone(number))
    }

    fn block(&self, header: &Header, logs: &[Log]) -> BlockEvents {
        BlockEvents {
            number: header.number,
            hash: header.hash,
            parent_hash: header.parent_hash,
            timestamp: header.timestamp,
            transactions: transactions(logs, self.chain.addresses()),
        }
    }
}
