//! The chain as a state machine: inputs change it, blocks and events come out.
//!
//! Every input is written to the journal before it takes effect. State is a persistent value, so
//! "before it takes effect" is simple: the new state is computed beside the old one, and adopting
//! it cannot fail.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use alloy::consensus::{Transaction, TxEnvelope};
use alloy::eips::eip1559::BaseFeeParams;
use alloy::eips::{Decodable2718, Encodable2718};
use alloy::primitives::{Address, B256, U256};

use super::ChainEventKind;
use super::block::{Block, BlockBuilder, MinedTransaction, prevrandao_after};
use super::journal::{Journal, Record, RecordedTransaction, StateEdit, VERSION};
use super::pool::{Pool, PoolTransaction};
use crate::config::DevChainConfig;
use crate::error::{NodeError, Result};
use crate::exec::{self, BlockContext, Sender};
use crate::state::{RecentHashes, WorldState};

/// Base fee of the first block, in wei per gas.
const GENESIS_BASE_FEE: u64 = 1_000_000_000;

/// Blocks that the BLOCKHASH opcode can look back.
const BLOCKHASH_WINDOW: u64 = 256;

/// Latest accepted timestamp: the end of the year 9999, far from any overflow.
const MAX_TIMESTAMP: u64 = 253_402_300_799;

pub(crate) struct Core {
    pub(crate) config: DevChainConfig,
    blocks: Vec<Arc<Block>>,
    /// States after the last blocks; the last one is the head's and receives state edits.
    states: VecDeque<WorldState>,
    numbers: HashMap<B256, u64>,
    transactions: HashMap<B256, (u64, usize)>,
    pub(crate) pool: Pool,
    snapshots: BTreeMap<u64, Snapshot>,
    next_snapshot: u64,
    time_offset: i64,
    next_timestamp: Option<u64>,
    next_base_fee: Option<u64>,
    pub(crate) automine: bool,
    pub(crate) impersonated: BTreeSet<Address>,
    pub(crate) impersonate_all: bool,
    journal: Option<Journal>,
    /// Events that nobody has been told yet.
    pub(crate) outbox: Vec<ChainEventKind>,
    /// How many events subscribers have been told.
    pub(crate) events_sent: u64,
}

#[derive(Clone)]
struct Snapshot {
    height: u64,
    state: WorldState,
    pool: Pool,
    time_offset: i64,
    next_timestamp: Option<u64>,
    next_base_fee: Option<u64>,
}

impl Core {
    /// Builds the first block, or reads the chain from its journal.
    pub(crate) fn open(config: DevChainConfig, funded: &[Address]) -> Result<Self> {
        let (journal, records) = match &config.data_dir {
            Some(dir) => Journal::open(dir).map(|(journal, records)| (Some(journal), records))?,
            None => (None, Vec::new()),
        };
        let genesis_time = match records.first() {
            Some(Record::Genesis { timestamp, .. }) => *timestamp,
            _ => config.clock.now_unix_s().min(MAX_TIMESTAMP),
        };
        let mut state = WorldState::default();
        for address in funded {
            state.set_balance(*address, config.accounts.balance_wei);
        }
        let mut core = Self {
            config,
            blocks: Vec::new(),
            states: VecDeque::new(),
            numbers: HashMap::new(),
            transactions: HashMap::new(),
            pool: Pool::default(),
            snapshots: BTreeMap::new(),
            next_snapshot: 1,
            time_offset: 0,
            next_timestamp: None,
            next_base_fee: None,
            automine: true,
            impersonated: BTreeSet::new(),
            impersonate_all: false,
            journal: None,
            outbox: Vec::new(),
            events_sent: 0,
        };
        let context = core.context(0, B256::ZERO, genesis_time, GENESIS_BASE_FEE);
        let genesis = BlockBuilder::default().seal(B256::ZERO, &context, state.root_hash());
        let genesis_record = Record::Genesis {
            version: VERSION,
            chain_id: core.config.chain_id,
            timestamp: genesis_time,
            hash: genesis.hash,
        };
        core.adopt(genesis, state);
        core.restore(journal, records, &genesis_record)?;
        core.outbox.clear();
        Ok(core)
    }

    fn restore(&mut self, journal: Option<Journal>, records: Vec<Record>, genesis: &Record) -> Result<()> {
        let Some(mut journal) = journal else { return Ok(()) };
        let count = records.len();
        for (index, record) in records.into_iter().enumerate() {
            if index == 0 {
                check_genesis(&record, genesis, &journal)?;
                continue;
            }
            self.replay(record).map_err(|error| match error {
                mismatch @ NodeError::ReplayMismatch { .. } => mismatch,
                other => NodeError::JournalCorrupt {
                    path: journal.path().to_owned(),
                    record: index + 1,
                    reason: other.to_string(),
                },
            })?;
        }
        if count == 0 {
            journal.append(genesis)?;
        } else {
            tracing::info!(
                blocks = self.head().header.number,
                records = count,
                "development chain restored from its journal"
            );
        }
        self.journal = Some(journal);
        Ok(())
    }

    fn replay(&mut self, record: Record) -> Result<()> {
        match record {
            Record::Genesis { .. } => Err(NodeError::Internal("a second genesis record".to_owned())),
            Record::Block {
                number,
                timestamp,
                base_fee,
                time_offset,
                transactions,
                hash,
            } => {
                let (context, parent) = self.next_context_with(timestamp, base_fee);
                let mut state = self.head_state().clone();
                let mut builder = BlockBuilder::default();
                for recorded in transactions {
                    let envelope = TxEnvelope::decode_2718_exact(&recorded.raw)
                        .map_err(|error| NodeError::Internal(format!("transaction: {error}")))?;
                    let kind = if recorded.impersonated {
                        Sender::Impersonated
                    } else {
                        Sender::Signed
                    };
                    let transaction = PoolTransaction {
                        hash: *envelope.tx_hash(),
                        sender: recorded.sender,
                        envelope,
                        kind,
                    };
                    run(&mut state, &mut builder, &context, &transaction)?;
                }
                let block = builder.seal(parent, &context, state.root_hash());
                if block.hash != hash || block.header.number != number {
                    return Err(NodeError::ReplayMismatch {
                        number,
                        recorded: hash,
                        actual: block.hash,
                    });
                }
                self.time_offset = time_offset;
                self.adopt(block, state);
                Ok(())
            }
            Record::Edit(edit) => {
                let edited = edited(self.head_state(), &edit)?;
                self.replace_head_state(edited);
                Ok(())
            }
            Record::Snapshot { id } => {
                self.keep_snapshot(id);
                Ok(())
            }
            Record::Revert { id } => {
                self.restore_snapshot(id);
                Ok(())
            }
            Record::TimeOffset { seconds } => {
                self.time_offset = seconds;
                Ok(())
            }
        }
    }

    // ----- reading -----

    pub(crate) fn head(&self) -> &Arc<Block> {
        self.blocks
            .last()
            .expect("the first block is adopted at construction and never removed")
    }

    pub(crate) fn head_state(&self) -> &WorldState {
        self.states.back().expect("the head's state is always kept")
    }

    pub(crate) fn block(&self, number: u64) -> Option<&Arc<Block>> {
        self.blocks.get(usize::try_from(number).ok()?)
    }

    pub(crate) fn block_number(&self, hash: &B256) -> Option<u64> {
        self.numbers.get(hash).copied()
    }

    pub(crate) fn mined_transaction(&self, hash: &B256) -> Option<(Arc<Block>, usize)> {
        let (number, index) = self.transactions.get(hash)?;
        Some((Arc::clone(self.block(*number)?), *index))
    }

    /// Returns the blocks `from..=to`, as far as they exist.
    pub(crate) fn blocks(&self, from: u64, to: u64) -> Vec<Arc<Block>> {
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(self.blocks.len());
        let end = usize::try_from(to).unwrap_or(usize::MAX).saturating_add(1).min(self.blocks.len());
        self.blocks.get(from..end.max(from)).unwrap_or_default().to_vec()
    }

    pub(crate) fn state_of(&self, number: u64) -> Result<&WorldState> {
        let total = u64::try_from(self.blocks.len()).unwrap_or(u64::MAX);
        let oldest = total.saturating_sub(u64::try_from(self.states.len()).unwrap_or(u64::MAX));
        let index = number.checked_sub(oldest).ok_or(NodeError::StatePruned { number, oldest })?;
        usize::try_from(index)
            .ok()
            .and_then(|index| self.states.get(index))
            .ok_or_else(|| NodeError::UnknownBlock(number.to_string()))
    }

    /// Base fee of the next block, in wei per gas (EIP-1559).
    pub(crate) fn next_base_fee(&self) -> u64 {
        self.next_base_fee
            .or_else(|| self.head().header.next_block_base_fee(BaseFeeParams::ethereum()))
            .unwrap_or(GENESIS_BASE_FEE)
    }

    /// Environment of the block after the head, as of now.
    pub(crate) fn next_context(&self) -> BlockContext {
        self.next_context_with(self.next_timestamp(), self.next_base_fee()).0
    }

    /// Environment in which an existing block was executed.
    pub(crate) fn context_of(&self, block: &Block) -> BlockContext {
        let header = &block.header;
        let mut context = self.context(
            header.number,
            header.parent_hash,
            header.timestamp,
            header.base_fee_per_gas.unwrap_or_default(),
        );
        context.gas_limit = header.gas_limit;
        context.coinbase = header.beneficiary;
        context
    }

    fn next_context_with(&self, timestamp: u64, base_fee: u64) -> (BlockContext, B256) {
        let parent = self.head();
        (
            self.context(parent.header.number.saturating_add(1), parent.hash, timestamp, base_fee),
            parent.hash,
        )
    }

    fn context(&self, number: u64, parent_hash: B256, timestamp: u64, base_fee: u64) -> BlockContext {
        let first = number.saturating_sub(BLOCKHASH_WINDOW);
        let hashes = if number == 0 {
            Vec::new()
        } else {
            self.blocks(first, number - 1).iter().map(|block| block.hash).collect()
        };
        BlockContext {
            chain_id: self.config.chain_id,
            number: U256::from(number),
            timestamp: U256::from(timestamp),
            base_fee,
            gas_limit: self.config.block_gas_limit,
            coinbase: self.config.coinbase,
            prevrandao: prevrandao_after(parent_hash),
            hashes: RecentHashes { first, hashes },
        }
    }

    // ----- time -----

    fn next_timestamp(&self) -> u64 {
        let now = self.config.clock.now_unix_s().saturating_add_signed(self.time_offset);
        self.next_timestamp
            .unwrap_or(now)
            .max(self.head().header.timestamp)
            .min(MAX_TIMESTAMP)
    }

    /// Moves the time of the following blocks forward and returns the whole offset, in seconds.
    pub(crate) fn increase_time(&mut self, seconds: u64) -> Result<i64> {
        let offset = i64::try_from(seconds)
            .ok()
            .and_then(|seconds| self.time_offset.checked_add(seconds));
        let now = self.config.clock.now_unix_s();
        let offset = offset
            .filter(|offset| now.saturating_add_signed(*offset) <= MAX_TIMESTAMP)
            .ok_or_else(|| NodeError::InvalidParams("the time would be beyond the year 9999".to_owned()))?;
        self.set_time_offset(offset)?;
        Ok(offset)
    }

    /// Sets the time that following blocks count from.
    pub(crate) fn set_time(&mut self, timestamp: u64) -> Result<()> {
        self.check_timestamp(timestamp)?;
        self.set_time_offset(offset_between(self.config.clock.now_unix_s(), timestamp))
    }

    /// Fixes the timestamp of the next block; later blocks count from it.
    pub(crate) fn set_next_timestamp(&mut self, timestamp: u64) -> Result<()> {
        self.check_timestamp(timestamp)?;
        self.next_timestamp = Some(timestamp);
        Ok(())
    }

    pub(crate) fn set_next_base_fee(&mut self, base_fee: u64) {
        self.next_base_fee = Some(base_fee);
    }

    fn check_timestamp(&self, timestamp: u64) -> Result<()> {
        let earliest = self.head().header.timestamp;
        if (earliest..=MAX_TIMESTAMP).contains(&timestamp) {
            return Ok(());
        }
        Err(NodeError::InvalidParams(format!(
            "timestamp {timestamp} is not between the latest block's, {earliest}, and the year 9999"
        )))
    }

    fn set_time_offset(&mut self, seconds: i64) -> Result<()> {
        self.record(&Record::TimeOffset { seconds })?;
        self.time_offset = seconds;
        Ok(())
    }

    // ----- transactions and blocks -----

    /// Takes a transaction; with automining, it is in a block when this returns, unless its
    /// nonce is in the future.
    pub(crate) fn submit(&mut self, transaction: PoolTransaction) -> Result<B256> {
        self.check_submission(&transaction)?;
        let hash = transaction.hash;
        self.pool.insert(transaction, &self.config.limits)?;
        self.outbox.push(ChainEventKind::PendingTransaction(hash));
        if self.automine
            && let Some(reason) = self.mine_executable()?.remove(&hash)
        {
            return Err(reason);
        }
        Ok(hash)
    }

    fn check_submission(&self, transaction: &PoolTransaction) -> Result<()> {
        let PoolTransaction { sender, envelope, .. } = transaction;
        let sender = *sender;
        if let Some(chain_id) = envelope.chain_id()
            && chain_id != self.config.chain_id
        {
            let expected = self.config.chain_id;
            return Err(NodeError::InvalidTransaction(format!(
                "invalid chain id for signer: have {chain_id} want {expected}"
            )));
        }
        let state = self.head_state();
        let (nonce, expected) = (envelope.nonce(), state.nonce(&sender));
        if nonce < expected {
            return Err(NodeError::NonceTooLow { sender, nonce, expected });
        }
        let limit = self.config.block_gas_limit;
        if envelope.gas_limit() > limit {
            return Err(NodeError::InvalidTransaction(format!(
                "exceeds block gas limit: have {}, limit {limit}",
                envelope.gas_limit()
            )));
        }
        let max_fee = envelope.max_fee_per_gas();
        if envelope.max_priority_fee_per_gas().is_some_and(|tip| tip > max_fee) {
            return Err(NodeError::InvalidTransaction(
                "max priority fee per gas higher than max fee per gas".to_owned(),
            ));
        }
        let base_fee = self.next_base_fee();
        if self.automine && max_fee < u128::from(base_fee) {
            return Err(NodeError::FeeTooLow { sender, max_fee, base_fee });
        }
        let gas_cost = U256::from(max_fee).saturating_mul(U256::from(envelope.gas_limit()));
        let cost = gas_cost.saturating_add(envelope.value());
        let balance = state.balance(&sender);
        if balance < cost {
            return Err(NodeError::InsufficientFunds { sender, balance, cost });
        }
        Ok(())
    }

    /// Mines one block per executable transaction; returns the transactions that turned out invalid.
    pub(crate) fn mine_executable(&mut self) -> Result<HashMap<B256, NodeError>> {
        let mut rejected = HashMap::new();
        while self.pool.next_executable(self.head_state(), self.next_base_fee()).is_some() {
            let (builder, context, state, invalid) = self.build(1);
            for (hash, reason) in invalid {
                self.pool.remove(&hash);
                rejected.insert(hash, reason);
            }
            if !builder.is_empty() {
                self.seal(builder, &context, state)?;
            }
        }
        Ok(rejected)
    }

    /// Mines a block of everything executable that fits, possibly nothing.
    pub(crate) fn mine_block(&mut self) -> Result<()> {
        let (builder, context, state, invalid) = self.build(usize::MAX);
        for (hash, _) in invalid {
            self.pool.remove(&hash);
        }
        self.seal(builder, &context, state)
    }

    /// Builds the block that [`Self::mine_block`] would mine now, without mining it.
    pub(crate) fn preview(&self) -> Block {
        let (builder, context, state, _) = self.build(usize::MAX);
        builder.seal(self.head().hash, &context, state.root_hash())
    }

    #[expect(clippy::type_complexity, reason = "an intermediate result of three neighbouring functions")]
    fn build(&self, most: usize) -> (BlockBuilder, BlockContext, WorldState, Vec<(B256, NodeError)>) {
        let context = self.next_context();
        let mut state = self.head_state().clone();
        let mut builder = BlockBuilder::default();
        let mut rejected = Vec::new();
        let mut executed = 0;
        let mut pool = None::<Pool>;
        while executed < most {
            let candidates = pool.as_ref().unwrap_or(&self.pool);
            let Some(transaction) = candidates.next_executable(&state, context.base_fee).cloned() else {
                break;
            };
            if builder.gas_used().saturating_add(transaction.envelope.gas_limit()) > context.gas_limit {
                break;
            }
            match run(&mut state, &mut builder, &context, &transaction) {
                Ok(()) => executed += 1,
                Err(reason) => {
                    tracing::debug!(hash = %transaction.hash, %reason, "a waiting transaction became invalid and is dropped");
                    pool.get_or_insert_with(|| self.pool.clone()).remove(&transaction.hash);
                    rejected.push((transaction.hash, reason));
                    if most == 1 {
                        break;
                    }
                }
            }
        }
        (builder, context, state, rejected)
    }

    fn seal(&mut self, builder: BlockBuilder, context: &BlockContext, state: WorldState) -> Result<()> {
        let block = builder.seal(self.head().hash, context, state.root_hash());
        let time_offset = match self.next_timestamp {
            Some(timestamp) => offset_between(self.config.clock.now_unix_s(), timestamp),
            None => self.time_offset,
        };
        if self.journal.is_some() {
            let transactions = block.transactions.iter().map(|transaction| self.recorded(transaction)).collect();
            self.record(&Record::Block {
                number: block.header.number,
                timestamp: block.header.timestamp,
                base_fee: context.base_fee,
                time_offset,
                transactions,
                hash: block.hash,
            })?;
        }
        self.time_offset = time_offset;
        self.adopt(block, state);
        Ok(())
    }

    fn recorded(&self, transaction: &MinedTransaction) -> RecordedTransaction {
        RecordedTransaction {
            raw: transaction.envelope.encoded_2718().into(),
            sender: transaction.sender,
            impersonated: self
                .pool
                .get(&transaction.hash)
                .is_some_and(|waiting| waiting.kind == Sender::Impersonated),
        }
    }

    fn adopt(&mut self, block: Block, state: WorldState) {
        let block = Arc::new(block);
        for (index, transaction) in block.transactions.iter().enumerate() {
            self.transactions.insert(transaction.hash, (block.header.number, index));
            self.pool.remove(&transaction.hash);
        }
        self.pool.drop_stale(&state);
        self.numbers.insert(block.hash, block.header.number);
        self.blocks.push(Arc::clone(&block));
        self.states.push_back(state);
        while self.states.len() > self.config.limits.state_history_blocks.max(1) {
            self.states.pop_front();
        }
        self.next_timestamp = None;
        self.next_base_fee = None;
        self.outbox.push(ChainEventKind::NewBlock(block));
    }

    // ----- state edits and snapshots -----

    pub(crate) fn edit(&mut self, edit: StateEdit) -> Result<()> {
        let edited = edited(self.head_state(), &edit)?;
        self.record(&Record::Edit(edit))?;
        self.replace_head_state(edited);
        Ok(())
    }

    fn replace_head_state(&mut self, state: WorldState) {
        if let Some(head) = self.states.back_mut() {
            self.pool.drop_stale(&state);
            *head = state;
        }
    }

    pub(crate) fn snapshot(&mut self) -> Result<u64> {
        let limit = self.config.limits.snapshots;
        if self.snapshots.len() >= limit {
            return Err(NodeError::LimitExceeded(format!(
                "{limit} snapshots are kept already; revert to one of them first"
            )));
        }
        let id = self.next_snapshot;
        self.record(&Record::Snapshot { id })?;
        self.keep_snapshot(id);
        Ok(id)
    }

    fn keep_snapshot(&mut self, id: u64) {
        let snapshot = Snapshot {
            height: self.head().header.number,
            state: self.head_state().clone(),
            pool: self.pool.clone(),
            time_offset: self.time_offset,
            next_timestamp: self.next_timestamp,
            next_base_fee: self.next_base_fee,
        };
        self.snapshots.insert(id, snapshot);
        self.next_snapshot = id.saturating_add(1);
    }

    /// Goes back to a snapshot and forgets it and all later ones; false if there is none.
    pub(crate) fn revert(&mut self, id: u64) -> Result<bool> {
        if !self.snapshots.contains_key(&id) {
            return Ok(false);
        }
        self.record(&Record::Revert { id })?;
        self.restore_snapshot(id);
        Ok(true)
    }

    fn restore_snapshot(&mut self, id: u64) {
        let mut later = self.snapshots.split_off(&id);
        let Some(snapshot) = later.remove(&id) else { return };
        let keep = usize::try_from(snapshot.height)
            .unwrap_or(usize::MAX)
            .saturating_add(1)
            .min(self.blocks.len());
        let removed = self.blocks.split_off(keep);
        for block in &removed {
            self.numbers.remove(&block.hash);
            for transaction in &block.transactions {
                self.transactions.remove(&transaction.hash);
            }
        }
        self.states.truncate(self.states.len().saturating_sub(removed.len()));
        self.states.pop_back();
        self.states.push_back(snapshot.state);
        self.pool = snapshot.pool;
        self.time_offset = snapshot.time_offset;
        self.next_timestamp = snapshot.next_timestamp;
        self.next_base_fee = snapshot.next_base_fee;
        if !removed.is_empty() {
            self.outbox.push(ChainEventKind::Reverted(removed));
        }
    }

    // ----- journal -----

    fn record(&mut self, record: &Record) -> Result<()> {
        self.journal.as_mut().map_or(Ok(()), |journal| journal.append(record))
    }

    /// Asks the system to put the journal on the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.journal.as_ref().map_or(Ok(()), Journal::sync)
    }
}

fn offset_between(now: u64, timestamp: u64) -> i64 {
    i64::try_from(i128::from(timestamp) - i128::from(now)).unwrap_or(0)
}

fn check_genesis(found: &Record, expected: &Record, journal: &Journal) -> Result<()> {
    let reason = match (found, expected) {
        (found, expected) if found == expected => return Ok(()),
        (Record::Genesis { version, .. }, _) if *version != VERSION => {
            format!("it has format version {version}, this program reads {VERSION}")
        }
        (Record::Genesis { chain_id, .. }, Record::Genesis { chain_id: ours, .. }) if chain_id != ours => {
            format!("its chain id is {chain_id}, the configured one {ours}")
        }
        (Record::Genesis { .. }, _) => "its first block has other funded accounts, balances, gas limit or coinbase".to_owned(),
        _ => "it does not begin with a genesis record".to_owned(),
    };
    Err(NodeError::JournalOfOtherChain {
        path: journal.path().to_owned(),
        reason,
    })
}

/// Executes one transaction on the block being built.
fn run(state: &mut WorldState, builder: &mut BlockBuilder, context: &BlockContext, transaction: &PoolTransaction) -> Result<()> {
    let env = exec::transaction_env(&transaction.envelope, transaction.sender);
    let (result, changes) = exec::execute(state, context, env, transaction.kind)?;
    state.apply(changes);
    let PoolTransaction {
        hash, sender, envelope, ..
    } = transaction.clone();
    builder.push(MinedTransaction { hash, sender, envelope }, result, context.base_fee);
    Ok(())
}

fn edited(state: &WorldState, edit: &StateEdit) -> Result<WorldState> {
    let mut state = state.clone();
    match edit.clone() {
        StateEdit::Balance { address, balance } => state.set_balance(address, balance),
        StateEdit::Nonce { address, nonce } => state.set_nonce(address, nonce),
        StateEdit::Code { address, code } => state.set_code(address, code)?,
        StateEdit::Storage { address, slot, value } => state.set_storage(address, slot, value),
    }
    Ok(state)
}
