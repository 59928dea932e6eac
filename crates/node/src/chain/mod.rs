//! The chain in process: everything a client can do, without a server.
//!
//! [`DevChain`] is a handle; clones refer to the same chain. One lock guards the chain's state
//! machine; calls, estimates and log queries copy what they need (which is cheap, see
//! [`crate::state`]) and run outside the lock.

mod access;
pub(crate) mod block;
mod call;
mod control;
pub(crate) mod core;
pub(crate) mod interval;
pub(crate) mod journal;
pub(crate) mod logs;
pub(crate) mod pool;
mod settings;
pub(crate) mod simulate;
mod submit;
pub(crate) mod trace;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{Address, B256, Bytes, U256};
use tokio::sync::{broadcast, watch};

use self::block::Block;
use self::core::Core;
use self::interval::MiningInterval;
use crate::accounts::{DevAccount, derive_accounts};
use crate::config::{DevChainConfig, Limits};
use crate::error::{NodeError, Result};
use crate::exec::BlockContext;
use crate::rpc::filters::Filters;
use crate::state::WorldState;

/// Events a slow subscriber may be behind before it is cut off.
const EVENT_BACKLOG: usize = 4096;

/// A development chain; clones share it.
#[derive(Clone)]
pub struct DevChain {
    inner: Arc<Inner>,
}

struct Inner {
    chain_id: u64,
    limits: Limits,
    accounts: Vec<DevAccount>,
    deployer: Option<DevAccount>,
    core: Mutex<Core>,
    events: broadcast::Sender<ChainEvent>,
    filters: Mutex<Filters>,
    /// What the task that mines by itself listens to.
    interval: watch::Sender<Option<MiningInterval>>,
}

/// Something that happened on the chain.
#[derive(Clone, Debug)]
pub struct ChainEvent {
    /// Position of the event in the chain's history since the process started, from 1.
    pub sequence: u64,
    /// What happened.
    pub kind: Arc<ChainEventKind>,
}

/// The kinds of [`ChainEvent`].
#[derive(Debug)]
#[non_exhaustive]
pub enum ChainEventKind {
    /// A block was added.
    NewBlock(Arc<Block>),
    /// The chain went back to a snapshot; these blocks, in ascending order, are gone.
    Reverted(Vec<Arc<Block>>),
    /// A transaction was accepted.
    PendingTransaction(B256),
}

/// A block with its state and the environment that calls on it run in.
pub(crate) struct View {
    pub(crate) state: WorldState,
    pub(crate) context: BlockContext,
}

impl DevChain {
    /// Creates the chain, or restores it from the configured data directory.
    ///
    /// # Errors
    ///
    /// [`NodeError::Accounts`] for an unusable mnemonic, [`NodeError::InvalidConfig`], and the journal's errors:
    /// [`NodeError::Io`], [`NodeError::DataDirLocked`], [`NodeError::JournalOfOtherChain`],
    /// [`NodeError::JournalCorrupt`], [`NodeError::ReplayMismatch`].
    pub fn new(config: DevChainConfig) -> Result<Self> {
        let (accounts, deployer) = derive_accounts(&config.accounts)?;
        let unlocked = accounts.iter().chain(&deployer).map(DevAccount::address);
        let funded = unlocked.chain(config.accounts.extra_funded.iter().copied()).collect::<Vec<_>>();
        let chain_id = config.chain_id;
        let limits = config.limits.clone();
        let core = Core::open(config, &funded)?;
        let filters = Mutex::new(Filters::new(limits.filters));
        let events = broadcast::Sender::new(EVENT_BACKLOG);
        Ok(Self {
            inner: Arc::new(Inner {
                chain_id,
                limits,
                accounts,
                deployer,
                core: Mutex::new(core),
                events,
                filters,
                interval: watch::Sender::new(None),
            }),
        })
    }

    /// Returns the EIP-155 chain id.
    pub fn chain_id(&self) -> u64 {
        self.inner.chain_id
    }

    /// Returns the configured limits.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Returns the funded, unlocked development accounts, without the deployer.
    pub fn accounts(&self) -> &[DevAccount] {
        &self.inner.accounts
    }

    /// Returns the funded, unlocked account that deploys the host contracts at their published
    /// addresses, if configured.
    pub fn deployer(&self) -> Option<&DevAccount> {
        self.inner.deployer.as_ref()
    }

    /// Subscribes to everything that happens from now on. A receiver that falls more than 4096
    /// events behind gets [`broadcast::error::RecvError::Lagged`].
    pub fn subscribe(&self) -> broadcast::Receiver<ChainEvent> {
        self.inner.events.subscribe()
    }

    /// Returns the number of the latest block.
    ///
    /// # Errors
    ///
    /// Only [`NodeError::Internal`], after a panic inside the chain.
    pub fn block_number(&self) -> Result<u64> {
        Ok(self.core()?.head().header.number)
    }

    /// Returns a block; `None` if there is none with this hash or number. `Pending` gives the
    /// block that would be mined now.
    ///
    /// # Errors
    ///
    /// Only [`NodeError::Internal`], after a panic inside the chain.
    pub fn block(&self, id: BlockId) -> Result<Option<Arc<Block>>> {
        let core = self.core()?;
        if id == BlockId::pending() {
            return Ok(Some(Arc::new(core.preview())));
        }
        Ok(resolve(&core, id).and_then(|number| core.block(number).cloned()))
    }

    /// Returns the block that contains a transaction, and the transaction's index in it.
    ///
    /// # Errors
    ///
    /// Only [`NodeError::Internal`], after a panic inside the chain.
    pub fn mined_transaction(&self, hash: &B256) -> Result<Option<(Arc<Block>, usize)>> {
        Ok(self.core()?.mined_transaction(hash))
    }

    /// Returns the balance of an account in wei.
    ///
    /// # Errors
    ///
    /// [`NodeError::UnknownBlock`] or [`NodeError::StatePruned`].
    pub fn balance(&self, address: Address, id: BlockId) -> Result<U256> {
        Ok(self.state(id)?.balance(&address))
    }

    /// Returns the next nonce of an account; for the pending block it counts waiting transactions.
    ///
    /// # Errors
    ///
    /// [`NodeError::UnknownBlock`] or [`NodeError::StatePruned`].
    pub fn nonce(&self, address: Address, id: BlockId) -> Result<u64> {
        if id == BlockId::pending() {
            let core = self.core()?;
            return Ok(core.pool.pending_nonce(&address, core.head_state().nonce(&address)));
        }
        Ok(self.state(id)?.nonce(&address))
    }

    /// Returns the code of an account.
    ///
    /// # Errors
    ///
    /// [`NodeError::UnknownBlock`] or [`NodeError::StatePruned`].
    pub fn code(&self, address: Address, id: BlockId) -> Result<Bytes> {
        Ok(self.state(id)?.code(&address))
    }

    /// Returns one storage slot of an account.
    ///
    /// # Errors
    ///
    /// [`NodeError::UnknownBlock`] or [`NodeError::StatePruned`].
    pub fn storage(&self, address: Address, slot: U256, id: BlockId) -> Result<U256> {
        Ok(self.state(id)?.storage(&address, slot))
    }

    /// Asks the system to put the journal on the disk; without a data directory it does nothing.
    ///
    /// # Errors
    ///
    /// [`NodeError::Io`].
    pub fn sync(&self) -> Result<()> {
        self.core()?.sync()
    }

    /// Puts the journal on the disk and gives up the data directory, for all clones of this chain:
    /// reading goes on, changes fail with [`NodeError::ShutDown`]. A chain without a data directory
    /// is not affected.
    ///
    /// # Errors
    ///
    /// [`NodeError::Io`].
    pub fn close(&self) -> Result<()> {
        self.change(Core::close)
    }

    /// The state and call environment of a block.
    pub(crate) fn view(&self, id: BlockId) -> Result<View> {
        let core = self.core()?;
        if id == BlockId::pending() {
            return Ok(View {
                state: core.head_state().clone(),
                context: core.next_context(),
            });
        }
        let number = resolve_or_fail(&core, id)?;
        let state = core.state_of(number)?.clone();
        let block = core.block(number).ok_or_else(|| unknown(id))?;
        Ok(View {
            state,
            context: core.context_of(block),
        })
    }

    pub(crate) fn state(&self, id: BlockId) -> Result<WorldState> {
        let core = self.core()?;
        if id == BlockId::pending() {
            return Ok(core.head_state().clone());
        }
        core.state_of(resolve_or_fail(&core, id)?).cloned()
    }

    pub(crate) fn core(&self) -> Result<MutexGuard<'_, Core>> {
        // A panic while the lock was held may have left half a change behind; nothing is trusted then.
        self.inner
            .core
            .lock()
            .map_err(|_| NodeError::Internal("the chain stopped after a panic".to_owned()))
    }

    /// The installed filters. Whoever needs the chain's lock too takes that one first.
    pub(crate) fn filters(&self) -> Result<MutexGuard<'_, Filters>> {
        self.inner
            .filters
            .lock()
            .map_err(|_| NodeError::Internal("the filters stopped after a panic".to_owned()))
    }

    /// Changes the chain and tells subscribers what happened, in order.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Core) -> Result<T>) -> Result<T> {
        let mut core = self.core()?;
        let result = change(&mut core);
        for kind in std::mem::take(&mut core.outbox) {
            match &kind {
                ChainEventKind::PendingTransaction(hash) => self.filters()?.note_pending(*hash),
                ChainEventKind::Reverted(blocks) => self.filters()?.note_reverted(blocks.first().map_or(0, |block| block.header.number)),
                ChainEventKind::NewBlock(_) => {}
            }
            core.events_sent = core.events_sent.saturating_add(1);
            // Sending fails only when nobody subscribes.
            let _ = self.inner.events.send(ChainEvent {
                sequence: core.events_sent,
                kind: Arc::new(kind),
            });
        }
        result
    }
}

impl fmt::Debug for DevChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevChain")
            .field("chain_id", &self.inner.chain_id)
            .finish_non_exhaustive()
    }
}

/// Number of the block that `id` names; every block counts as safe and final.
pub(crate) fn resolve(core: &Core, id: BlockId) -> Option<u64> {
    let head = core.head().header.number;
    match id {
        BlockId::Hash(hash) => core.block_number(&hash.block_hash),
        BlockId::Number(BlockNumberOrTag::Number(number)) => (number <= head).then_some(number),
        BlockId::Number(BlockNumberOrTag::Earliest) => Some(0),
        BlockId::Number(_) => Some(head),
    }
}

pub(crate) fn resolve_or_fail(core: &Core, id: BlockId) -> Result<u64> {
    resolve(core, id).ok_or_else(|| unknown(id))
}

pub(crate) fn unknown(id: BlockId) -> NodeError {
    NodeError::UnknownBlock(match id {
        BlockId::Hash(hash) => hash.block_hash.to_string(),
        BlockId::Number(number) => number.to_string(),
    })
}
