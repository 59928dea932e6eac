//! Following a host chain: what is new, and what is no more.
//!
//! The follower keeps nothing that has to be saved. Each [`Follower::poll`] is told which blocks are recorded and answers with
//! the next step: blocks to record, or blocks to remove. A crash between two polls therefore loses nothing.
//!
//! **One node per poll.** All questions of a poll go to the same node, so that its answers fit together; which node that is may change with the next one.
//! Announcements of new blocks ([`Follower::wait`]) only say when to look.
//!
//! **Reorganisations.** Before anything new is read, the newest recorded block is compared with the chain; if its hash
//! differs, the newest block that both share is searched among those recorded. Near the head each block is checked to be
//! the child of the one before, and its logs are asked for by block hash and checked, so they belong to exactly that block.
//!
//! **A chain that is shorter than what is recorded** either went back, or the node is behind others. Nothing tells which, so other nodes are asked, and only
//! when the shorter chain neither grows nor is contradicted for [`FollowerConfig::rollback_patience`] are the blocks above its head removed.
//!
//! **Finality.** Blocks [`FollowerConfig::finality_depth`] below the head are final: they are read in ranges, and never removed, whatever a node says,
//! unless [`FollowerConfig::keeps_final_blocks`] is off, as it is for development chains.
//!
//! **Catching up.** Far behind the head, logs are asked for in ranges of blocks, in which only blocks with events and
//! the last one are returned. Ranges shrink when the node refuses them and grow when it does not (module `ranges`).

use std::time::Duration;

use alloy::{
    eips::BlockNumberOrTag,
    rpc::types::{Header, Log},
};
use cipherloom_primitives::B256;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::{sync::watch, time::Instant};

use crate::{
    error::ChainError,
    events::{BlockEvents, BlockId, transactions},
    host_chain::HostChain,
    log_checks::{self, ReceiptsSeen, contradiction},
    ranges::RangeLength,
};

/// While blocks are announced, polls are this many times rarer: they are only for announcements that get lost.
const ANNOUNCED: u32 = 10;

/// How a chain is followed.
#[derive(Clone, Copy, Debug)]
pub struct FollowerConfig {
    /// Where to begin when nothing is recorded: the block of the host contracts' deployment or earlier.
    pub first_block: u64,
    /// The pause between polls that find nothing new. While a node announces blocks it is ten times as long.
    pub poll_interval: Duration,
    /// How many blocks at the head are read one by one, because they may still be reorganised. Those below are final.
    pub finality_depth: u64,
    /// Whether final blocks are never removed. Off for development chains, which can be reverted to anything.
    pub keeps_final_blocks: bool,
    /// The most blocks in one step, so that one step stays short.
    pub blocks_per_step: u64,
    /// The longest range of blocks that logs are asked for at once.
    pub longest_range: u64,
    /// How long a chain must stay shorter than what is recorded until the rest is removed.
    pub rollback_patience: Duration,
    /// How many questions are asked at the same time.
    pub concurrent_requests: usize,
    /// Whether the logs of each block come from receipts that were checked against its header. It takes two calls for each block, also while catching
    /// up, and needs a chain with the receipts of Ethereum; then a node cannot leave out or change a log of the block it shows.
    pub checks_receipts: bool,
}

impl Default for FollowerConfig {
    fn default() -> Self {
        Self {
            first_block: 0,
            poll_interval: Duration::from_millis(500),
            finality_depth: 64,
            keeps_final_blocks: true,
            blocks_per_step: 64,
            longest_range: 2_000,
            rollback_patience: Duration::from_secs(10),
            concurrent_requests: 8,
            checks_receipts: false,
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

/// How far the chain is, as the node said that was asked last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// The newest block.
    pub number: u64,
    /// When it says it was made, in seconds since the Unix epoch.
    pub timestamp: u64,
    /// The highest block that is final; none if the chain is still too short for one.
    pub final_block: Option<u64>,
}

/// A chain that was shorter than what is recorded.
#[derive(Clone, Copy, Debug)]
struct Shorter {
    head: u64,
    since: Instant,
}

/// Follows one host chain; see the module's documentation.
#[derive(Debug)]
pub struct Follower {
    chain: HostChain,
    config: FollowerConfig,
    range: RangeLength,
    announced: watch::Receiver<u64>,
    head: Option<ChainHead>,
    /// The highest recorded block that was final at some time.
    final_block: Option<u64>,
    shorter: Option<Shorter>,
    receipts: ReceiptsSeen,
}

impl Follower {
    /// Sets up a follower; nothing is asked yet.
    #[must_use]
    pub fn new(chain: HostChain, config: FollowerConfig) -> Self {
        Self {
            announced: chain.announced_blocks(),
            range: RangeLength::new(config.longest_range),
            chain,
            config,
            head: None,
            final_block: None,
            shorter: None,
            receipts: ReceiptsSeen::default(),
        }
    }

    /// Returns how many of the newest recorded blocks [`Self::poll`] should be given: with these, a reorganisation that is not deeper than the finality
    /// depth is resolved in one step.
    #[must_use]
    pub fn blocks_to_compare(&self) -> u32 {
        u32::try_from(self.config.finality_depth.saturating_add(1)).map_or(1024, |blocks| blocks.clamp(64, 1024))
    }

    /// Returns how far the chain was at the last poll that reached it.
    #[must_use]
    pub const fn head(&self) -> Option<ChainHead> {
        self.head
    }

    /// Waits until there may be something new: a block is announced, or the pause between polls is over.
    pub async fn wait(&mut self) {
        let pause = match self.chain.announces_blocks() {
            true => self.config.poll_interval.saturating_mul(ANNOUNCED),
            false => self.config.poll_interval,
        };
        tokio::select! {
            announced = self.announced.changed() => {
                if announced.is_err() {
                    tokio::time::sleep(pause).await;
                }
            }
            () = tokio::time::sleep(pause) => {}
        }
    }

    /// Asks the chain for the next step, given the newest recorded blocks, newest first. The more of them are given, the
    /// deeper a reorganisation is resolved in one step.
    ///
    /// # Errors
    /// [`ChainError`] of the reads; [`ChainError::BlockGone`] if the chain moved meanwhile, [`ChainError::Contradiction`] if a node's answers do not fit
    /// together: ask again later. [`ChainError::FinalityBroken`] if final blocks would have to be removed.
    pub async fn poll(&mut self, recorded: &[BlockId]) -> Result<FollowUpdate, ChainError> {
        // What was announced before is seen by this poll.
        self.announced.mark_unchanged();
        let chain = self.chain.on_one_node();
        let update = self.poll_node(&chain, recorded).await;
        if let Err(ChainError::Contradiction { .. } | ChainError::FinalityBroken { .. } | ChainError::BlockGone(_)) = &update {
            chain.distrust_node();
        }
        update
    }

    async fn poll_node(&mut self, chain: &HostChain, recorded: &[BlockId]) -> Result<FollowUpdate, ChainError> {
        let Some(head) = chain.header(BlockNumberOrTag::Latest).await? else {
            return Err(ChainError::BlockGone(0));
        };
        self.head = Some(ChainHead {
            number: head.number,
            timestamp: head.timestamp,
            final_block: head.number.checked_sub(self.config.finality_depth),
        });
        if let Some(newest) = recorded.first() {
            self.final_block = self.final_block.max(newest.number.checked_sub(self.config.finality_depth));
            if let Some(update) = self.compare(chain, newest, recorded, &head).await? {
                return self.permitted(chain, update);
            }
        }
        let next = recorded
            .first()
            .map_or(self.config.first_block, |newest| newest.number.saturating_add(1));
        if next > head.number {
            return Ok(FollowUpdate::UpToDate);
        }
        // Blocks from here on may still be reorganised.
        let careful = head.number.saturating_sub(self.config.finality_depth);
        if next < careful && !self.config.checks_receipts {
            return self.catch_up(chain, next, careful).await;
        }
        self.read_blocks(chain, next, &head, recorded.first().map(|newest| newest.hash))
            .await
    }

    /// Refuses an update that would remove final blocks.
    fn permitted(&self, chain: &HostChain, update: FollowUpdate) -> Result<FollowUpdate, ChainError> {
        match (&update, self.final_block) {
            (FollowUpdate::Reorganised { first_removed }, Some(final_block))
                if self.config.keeps_final_blocks && *first_removed <= final_block =>
            {
                Err(ChainError::FinalityBroken {
                    node: chain.node_label().to_owned(),
                    number: *first_removed,
                    final_block,
                })
            }
            _ => Ok(update),
        }
    }

    /// Compares the newest recorded block with the chain and finds what has to be removed, if anything.
    async fn compare(
        &mut self,
        chain: &HostChain,
        newest: &BlockId,
        recorded: &[BlockId],
        head: &Header,
    ) -> Result<Option<FollowUpdate>, ChainError> {
        if head.number < newest.number {
            // It went back for certain if it does not continue the block recorded at or below its head's height.
            let below = recorded.iter().position(|block| block.number <= head.number);
            return match below.and_then(|position| recorded.get(position).zip(recorded.get(position..))) {
                Some((block, older)) if !on_chain(chain, block).await? => find_fork(chain, older).await.map(Some),
                _ => Ok(Some(self.wait_for_growth(chain, recorded, head.number))),
            };
        }
        self.shorter = None;
        if head.number == newest.number && head.hash == newest.hash {
            return Ok(Some(FollowUpdate::UpToDate));
        }
        if on_chain(chain, newest).await? {
            Ok(None)
        } else {
            find_fork(chain, recorded).await.map(Some)
        }
    }

    /// Decides about a chain that ends below what is recorded and contradicts none of it.
    fn wait_for_growth(&mut self, chain: &HostChain, recorded: &[BlockId], head: u64) -> FollowUpdate {
        let now = Instant::now();
        let shorter = match self.shorter {
            // A chain that grows will be as long as what is recorded, or contradict it.
            Some(shorter) if shorter.head >= head => Shorter { head, ..shorter },
            _ => Shorter { head, since: now },
        };
        self.shorter = Some(shorter);
        if now.duration_since(shorter.since) < self.config.rollback_patience {
            chain.distrust_node();
            return FollowUpdate::UpToDate;
        }
        let above = recorded.iter().take_while(|block| block.number > head).last();
        above.map_or(FollowUpdate::UpToDate, |lowest| FollowUpdate::Reorganised {
            first_removed: lowest.number,
        })
    }

    /// Reads blocks one by one up to the head, each checked to be the child of the one before.
    async fn read_blocks(
        &self,
        chain: &HostChain,
        first: u64,
        head: &Header,
        mut parent: Option<B256>,
    ) -> Result<FollowUpdate, ChainError> {
        let last = head.number.min(first.saturating_add(self.config.blocks_per_step.max(1) - 1));
        let mut reads = stream::iter(first..=last)
            .map(|number| self.read_block(chain, number))
            .buffered(self.config.concurrent_requests.max(1));
        let mut blocks = Vec::new();
        while let Some(read) = reads.next().await {
            // What was read so far is consistent; the next poll sees the rest.
            let block = match read {
                Ok(block) => block,
                Err(error) if blocks.is_empty() => return Err(error),
                Err(_) => break,
            };
            if parent.is_some_and(|parent| parent != block.parent_hash) {
                // The chain moved since it was compared.
                if blocks.is_empty() {
                    return Err(ChainError::BlockGone(block.number));
                }
                break;
            }
            parent = Some(block.hash);
            blocks.push(block);
        }
        Ok(FollowUpdate::Blocks(blocks))
    }

    async fn read_block(&self, chain: &HostChain, number: u64) -> Result<BlockEvents, ChainError> {
        let header = header_of(chain, number).await?;
        let logs = log_checks::logs_of(chain, &header, self.config.checks_receipts, &self.receipts).await?;
        Ok(block(chain, &header, &logs))
    }

    /// Reads a range of final blocks; returns those with events and the last one.
    async fn catch_up(&mut self, chain: &HostChain, first: u64, careful: u64) -> Result<FollowUpdate, ChainError> {
        loop {
            let last = careful.min(first.saturating_add(self.range.blocks() - 1));
            let length = last - first + 1;
            match chain.logs_of_range(first, last).await {
                Ok(logs) => {
                    self.range.accepted(length, logs.len());
                    return self.blocks_of_range(chain, first, last, logs).await;
                }
                Err(error) if self.range.refused(first, length, &error) => {
                    tracing::debug!(%error, blocks = self.range.blocks(), "the chain's node refused a range of logs, trying a shorter one");
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn blocks_of_range(&self, chain: &HostChain, first: u64, last: u64, logs: Vec<Log>) -> Result<FollowUpdate, ChainError> {
        let outside = |log: &&Log| log.removed || !log.block_number.is_some_and(|number| (first..=last).contains(&number));
        if logs.iter().any(|log| outside(&log)) {
            return Err(contradiction(
                chain,
                "eth_getLogs",
                format!("blocks {first} to {last} were asked for and others answered"),
            ));
        }
        let mut numbers: Vec<u64> = logs.iter().filter_map(|log| log.block_number).collect();
        numbers.push(last);
        numbers.sort_unstable();
        numbers.dedup();
        let headers: Vec<Header> = stream::iter(numbers)
            .map(|number| header_of(chain, number))
            .buffered(self.config.concurrent_requests.max(1))
            .try_collect()
            .await?;
        let contracts = [chain.addresses().executor, chain.addresses().acl];
        let mut blocks = Vec::with_capacity(headers.len());
        let mut logs = logs.into_iter().peekable();
        for header in headers {
            let mut own = Vec::new();
            // Logs come in the order of their blocks; those that do not are found below.
            while let Some(log) = logs.next_if(|log| log.block_number == Some(header.number)) {
                own.push(log);
            }
            blocks.push(block(chain, &header, &log_checks::checked(chain, &header, &contracts, own)?));
        }
        match logs.next() {
            None => Ok(FollowUpdate::Blocks(blocks)),
            Some(_) => Err(contradiction(
                chain,
                "eth_getLogs",
                "logs are not in the order of their blocks".to_owned(),
            )),
        }
    }
}

/// Finds the newest recorded block that is on the chain, given that the first of them is not; what is above it has to go. Most reorganisations are shallow,
/// so steps are short at first.
async fn find_fork(chain: &HostChain, recorded: &[BlockId]) -> Result<FollowUpdate, ChainError> {
    // The block at `gone` is not on the chain; the one at `kept`, if there is one, is.
    let (mut gone, mut kept) = (0usize, recorded.len());
    let mut step = 1usize;
    while gone + 1 < kept {
        let probe = match kept == recorded.len() {
            true => gone.saturating_add(step).min(kept - 1),
            false => gone + (kept - gone) / 2,
        };
        step = step.saturating_mul(2);
        let Some(block) = recorded.get(probe) else { break };
        if on_chain(chain, block).await? {
            kept = probe;
        } else {
            gone = probe;
        }
    }
    Ok(recorded
        .get(gone)
        .map_or(FollowUpdate::UpToDate, |block| FollowUpdate::Reorganised {
            first_removed: block.number,
        }))
}

async fn on_chain(chain: &HostChain, block: &BlockId) -> Result<bool, ChainError> {
    // A block that the node does not have although its head is not below: it moves, and says nothing about the recorded block.
    Ok(header_of(chain, block.number).await?.hash == block.hash)
}

async fn header_of(chain: &HostChain, number: u64) -> Result<Header, ChainError> {
    let header = chain
        .header(BlockNumberOrTag::Number(number))
        .await?
        .ok_or(ChainError::BlockGone(number))?;
    if header.number == number {
        return Ok(header);
    }
    let reason = format!("block {number} was asked for and block {} answered", header.number);
    Err(contradiction(chain, "eth_getBlockByNumber", reason))
}

fn block(chain: &HostChain, header: &Header, logs: &[Log]) -> BlockEvents {
    BlockEvents {
        number: header.number,
        hash: header.hash,
        parent_hash: header.parent_hash,
        timestamp: header.timestamp,
        transactions: transactions(logs, chain.addresses()),
    }
}
