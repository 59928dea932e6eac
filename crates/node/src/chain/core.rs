//! The chain as a state machine: inputs change it, blocks and events come out.
//!
//! Every input is written to the journal before it takes effect. State is a persistent value, so
//! "before it takes effect" is simple: the new state is computed beside the old one, and adopting
//! it cannot fail.

mod mine;
mod restore;
mod rewind;
pub(crate) mod settings;
mod time;
mod window;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use alloy::consensus::Transaction;
use alloy::eips::eip1559::BaseFeeParams;
use alloy::primitives::{Address, B256, Bytes, U256, address, bytes, keccak256};

use self::rewind::Snapshot;
use self::settings::BlockSettings;
use self::time::MAX_TIMESTAMP;
use super::ChainEventKind;
use super::archive::Archive;
use super::block::{Block, BlockBuilder, prevrandao_after};
use super::journal::{Journal, Record, VERSION};
use super::pool::Pool;
use crate::clock::Clock;
use crate::config::{DevChainConfig, Limits};
use crate::error::{NodeError, Result};
use crate::exec::BlockContext;
use crate::native::rules::NativeRules;
use crate::state::{RecentHashes, WorldState};

/// Base fee of the first block, in wei per gas.
const GENESIS_BASE_FEE: u64 = 1_000_000_000;

/// Least block gas limit: one plain transfer.
const LEAST_GAS_LIMIT: u64 = 21_000;

/// The proxy that deploys contracts at addresses known in advance (CREATE2). Tools expect it at this address on every chain, and send
/// nothing to make it on chains of developers.
const DEPLOYMENT_PROXY: Address = address!("4e59b44847b379578588920cA78FbF26c0B4956C");

/// Its code: create what follows the first word of the call data, with that word as the salt, and return the address.
const DEPLOYMENT_PROXY_CODE: Bytes = bytes!(
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3"
);

/// What the state machine of any chain goes by.
pub(crate) struct CoreConfig {
    pub(crate) chain_id: u64,
    /// Gas limit of every block for which no other was set.
    pub(crate) block_gas_limit: u64,
    /// Receiver of priority fees, where no other was set.
    pub(crate) coinbase: Address,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limits: Limits,
    /// How encrypted computation works inside blocks, on chains where it does.
    pub(crate) native: Option<Arc<NativeRules>>,
}

/// What development chains write where validators would be named.
pub(crate) const DEVELOPMENT_MARK: Bytes = Bytes::from_static(b"cipherloom");

/// The chain's state machine.
pub(crate) struct Core {
    pub(crate) config: CoreConfig,
    /// The blocks in memory, from number [`Self::first`] on; the last one is the head.
    blocks: VecDeque<Arc<Block>>,
    /// Number of the first of them. It is 0 for as long as there is no archive.
    first: u64,
    /// Hashes of up to 256 blocks before that one.
    older_hashes: VecDeque<B256>,
    /// Where older blocks are.
    archive: Option<Arc<dyn Archive>>,
    /// The first block of the chain, which is always here.
    genesis: Arc<Block>,
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
    next_prevrandao: Option<B256>,
    settings: BlockSettings,
    /// The state of the first block as it was made, to go back to.
    genesis_state: WorldState,
    /// How often the chain went back to its first block.
    resets: u64,
    pub(crate) automine: bool,
    pub(crate) impersonated: BTreeSet<Address>,
    pub(crate) impersonate_all: bool,
    journal: Option<Journal>,
    /// The journal was given up at shutdown: nothing may change any more.
    closed: bool,
    /// Events that nobody has been told yet.
    pub(crate) outbox: Vec<ChainEventKind>,
    /// How many events subscribers have been told.
    pub(crate) events_sent: u64,
}

impl Core {
    /// Builds the first block of a development chain, or reads the chain from its journal.
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
        state.set_nonce(DEPLOYMENT_PROXY, 1);
        state.set_code(DEPLOYMENT_PROXY, DEPLOYMENT_PROXY_CODE)?;
        for address in funded {
            state.set_balance(*address, config.accounts.balance_wei);
        }
        let config = CoreConfig {
            chain_id: config.chain_id,
            block_gas_limit: config.block_gas_limit,
            coinbase: config.coinbase,
            clock: config.clock,
            limits: config.limits,
            native: None,
        };
        let mut core = Self::new(config, state, genesis_time, DEVELOPMENT_MARK)?;
        let genesis_record = Record::Genesis {
            version: VERSION,
            chain_id: core.config.chain_id,
            timestamp: genesis_time,
            hash: core.head().hash,
        };
        core.restore(journal, records, &genesis_record)?;
        core.outbox.clear();
        Ok(core)
    }

    /// A chain of one block, with this state. Nothing is kept on the disk.
    pub(crate) fn new(config: CoreConfig, state: WorldState, genesis_time: u64, extra_data: Bytes) -> Result<Self> {
        if config.block_gas_limit < LEAST_GAS_LIMIT {
            return Err(NodeError::InvalidConfig(format!(
                "block gas limit {} is below {LEAST_GAS_LIMIT}",
                config.block_gas_limit
            )));
        }
        let context = BlockContext {
            chain_id: config.chain_id,
            number: U256::ZERO,
            timestamp: U256::from(genesis_time),
            base_fee: GENESIS_BASE_FEE,
            gas_limit: config.block_gas_limit,
            coinbase: config.coinbase,
            prevrandao: prevrandao_after(B256::ZERO),
            hashes: RecentHashes::default(),
            native: config.native.clone(),
        };
        let genesis = Arc::new(BlockBuilder::default().seal(B256::ZERO, &context, state.root_hash(), extra_data));
        let mut core = Self {
            config,
            blocks: VecDeque::new(),
            first: 0,
            older_hashes: VecDeque::new(),
            archive: None,
            genesis: Arc::clone(&genesis),
            states: VecDeque::new(),
            numbers: HashMap::new(),
            transactions: HashMap::new(),
            pool: Pool::default(),
            snapshots: BTreeMap::new(),
            next_snapshot: 1,
            time_offset: 0,
            next_timestamp: None,
            next_base_fee: None,
            next_prevrandao: None,
            settings: BlockSettings::default(),
            genesis_state: state.clone(),
            resets: 0,
            automine: true,
            impersonated: BTreeSet::new(),
            impersonate_all: false,
            journal: None,
            closed: false,
            outbox: Vec::new(),
            events_sent: 0,
        };
        core.adopt(genesis, state);
        core.outbox.clear();
        Ok(core)
    }

    pub(crate) fn head(&self) -> &Arc<Block> {
        self.blocks
            .back()
            .expect("the first block is adopted at construction, and the last one never removed")
    }

    pub(crate) fn head_state(&self) -> &WorldState {
        self.states.back().expect("the head's state is always kept")
    }

    pub(crate) fn block_number(&self, hash: &B256) -> Option<u64> {
        self.numbers.get(hash).copied()
    }

    pub(crate) fn mined_transaction(&self, hash: &B256) -> Option<(Arc<Block>, usize)> {
        let (number, index) = self.transactions.get(hash)?;
        Some((Arc::clone(self.block(*number)?), *index))
    }

    /// Finds the mined transaction with which `sender` used up `nonce`, by looking through the blocks in memory.
    pub(crate) fn transaction_of(&self, sender: &Address, nonce: u64) -> Option<(Arc<Block>, usize)> {
        self.blocks.iter().rev().find_map(|block| {
            let index = block
                .transactions
                .iter()
                .position(|transaction| transaction.sender == *sender && transaction.envelope.nonce() == nonce)?;
            Some((Arc::clone(block), index))
        })
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

    /// Environment of the block that `proposer` makes on the head.
    pub(crate) fn context_of_next(&self, timestamp: u64, proposer: Address) -> BlockContext {
        let (mut context, _) = self.next_context_with(timestamp, self.next_base_fee());
        context.coinbase = proposer;
        context
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
        context.prevrandao = header.mix_hash;
        if let Some(rules) = &block.native {
            context.native = Some(Arc::clone(rules));
        }
        context
    }

    /// Environment of a block that could follow on `parent`, at its timestamp.
    pub(crate) fn context_after(&self, parent: &Block) -> BlockContext {
        let header = &parent.header;
        let base_fee = header.next_block_base_fee(BaseFeeParams::ethereum()).unwrap_or(GENESIS_BASE_FEE);
        self.context(header.number.saturating_add(1), parent.hash, header.timestamp, base_fee)
    }

    /// Tells this chain apart from others, and from itself before it was reset.
    pub(crate) fn instance_id(&self) -> B256 {
        keccak256([self.genesis.hash.as_slice(), &self.resets.to_be_bytes()].concat())
    }

    /// The kept snapshots with the height and hash of the block each goes back to.
    pub(crate) fn snapshots(&self) -> impl Iterator<Item = (u64, u64, B256)> {
        self.snapshots.iter().filter_map(|(id, snapshot)| {
            let height = snapshot.height();
            Some((*id, height, self.block(height)?.hash))
        })
    }

    fn next_context_with(&self, timestamp: u64, base_fee: u64) -> (BlockContext, B256) {
        let parent = self.head();
        (
            self.context(parent.header.number.saturating_add(1), parent.hash, timestamp, base_fee),
            parent.hash,
        )
    }

    fn context(&self, number: u64, parent_hash: B256, timestamp: u64, base_fee: u64) -> BlockContext {
        BlockContext {
            chain_id: self.config.chain_id,
            number: U256::from(number),
            timestamp: U256::from(timestamp),
            base_fee,
            gas_limit: self.gas_limit(),
            coinbase: self.coinbase(),
            prevrandao: self.next_prevrandao.unwrap_or_else(|| prevrandao_after(parent_hash)),
            hashes: self.hashes_before(number),
            native: self.config.native.clone(),
        }
    }

    fn record(&mut self, record: &Record) -> Result<()> {
        if self.closed {
            return Err(NodeError::ShutDown);
        }
        self.journal.as_mut().map_or(Ok(()), |journal| journal.append(record))
    }

    /// Asks the system to put the journal on the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.journal.as_ref().map_or(Ok(()), Journal::sync)
    }

    /// Gives up the journal and the data directory's lock. Reading goes on; changes are refused.
    pub(crate) fn close(&mut self) -> Result<()> {
        let Some(journal) = self.journal.take() else { return Ok(()) };
        self.closed = true;
        journal.sync()
    }
}
