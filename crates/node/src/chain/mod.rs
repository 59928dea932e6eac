//! The chain in process: what clients of any chain can do, without a server.
//!
//! [`Chain`] is a handle; clones refer to the same chain. One lock guards the chain's state
//! machine; calls, estimates and log queries copy what they need (which is cheap, see
//! [`crate::state`]) and run outside the lock. [`DevChain`] and [`crate::native::NativeChain`] are this and their own ways to
//! make blocks.

mod access;
pub(crate) mod archive;
pub(crate) mod block;
mod call;
mod control;
pub(crate) mod core;
mod dev;
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
use tokio::sync::broadcast;

use self::block::Block;
use self::core::Core;
pub use self::dev::DevChain;
use crate::config::Limits;
use crate::error::{NodeError, Result};
use crate::exec::BlockContext;
use crate::rpc::filters::Filters;
use crate::state::WorldState;

/// Events a slow subscriber may be behind before it is cut off.
const EVENT_BACKLOG: usize = 4096;

/// Sent transactions that whoever passes them on may be behind before it misses some.
const SENT_BACKLOG: usize = 1024;

/// What all kinds of chains offer their clients; clones share it.
#[derive(Clone)]
pub struct Chain {
    inner: Arc<Inner>,
}

struct Inner {
    chain_id: u64,
    limits: Limits,
    core: Mutex<Core>,
    events: broadcast::Sender<ChainEvent>,
    /// Raw transactions that clients of this node sent.
    sent: broadcast::Sender<Bytes>,
    filters: Mutex<Filters>,
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

impl Chain {
    /// Makes a state machine available to many.
    pub(crate) fn of(core: Core) -> Self {
        let chain_id = core.config.chain_id;
        let limits = core.config.limits.clone();
        let filters = Mutex::new(Filters::new(limits.filters));
        Self {
            inner: Arc::new(Inner {
                chain_id,
                limits,
                core: Mutex::new(core),
                events: broadcast::Sender::new(EVENT_BACKLOG),
                sent: broadcast::Sender::new(SENT_BACKLOG),
                filters,
            }),
        }
    }

    /// Returns the EIP-155 chain id.
    pub fn chain_id(&self) -> u64 {
        self.inner.chain_id
    }

    /// Returns the configured limits.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
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
    /// block that would be mined now; on a native chain, where that takes validators, the latest one.
    ///
    /// # Errors
    ///
    /// As [`Self::mined_transaction`].
    pub fn block(&self, id: BlockId) -> Result<Option<Arc<Block>>> {
        let core = self.core()?;
        if id == BlockId::pending() && core.config.native.is_none() {
            return Ok(Some(Arc::new(core.preview())));
        }
        let number = resolve(&core, id);
        if let Some(block) = number.and_then(|number| core.block(number)) {
            return Ok(Some(Arc::clone(block)));
        }
        let Some(older) = core.older() else { return Ok(None) };
        drop(core);
        let number = match (number, id) {
            (None, BlockId::Hash(hash)) => older.number_of(&hash.block_hash)?,
            (number, _) => number,
        };
        number.map_or(Ok(None), |number| older.block(number))
    }

    /// Returns the blocks `from..=to`, as far as they exist.
    pub(crate) fn blocks(&self, from: u64, to: u64) -> Result<Vec<Arc<Block>>> {
        let (newer, older) = {
            let core = self.core()?;
            (core.blocks(from, to), core.older())
        };
        let mut blocks = older.map_or_else(|| Ok(Vec::new()), |older| older.blocks(from, to))?;
        blocks.extend(newer);
        Ok(blocks)
    }

    /// Tells whether a block with this hash is part of the chain.
    pub(crate) fn has_block(&self, hash: &B256) -> Result<bool> {
        let older = {
            let core = self.core()?;
            if core.block_number(hash).is_some() {
                return Ok(true);
            }
            core.older()
        };
        Ok(older.map(|older| older.number_of(hash)).transpose()?.flatten().is_some())
    }

    /// Returns the block that contains a transaction, and the transaction's index in it.
    ///
    /// # Errors
    ///
    /// [`NodeError::Internal`] after a panic inside the chain; for blocks that have left memory also [`NodeError::Io`], [`NodeError::ShutDown`],
    /// [`NodeError::JournalCorrupt`] and [`NodeError::IndexDamaged`].
    pub fn mined_transaction(&self, hash: &B256) -> Result<Option<(Arc<Block>, usize)>> {
        let older = {
            let core = self.core()?;
            if let Some(found) = core.mined_transaction(hash) {
                return Ok(Some(found));
            }
            core.older()
        };
        older.map_or(Ok(None), |older| older.transaction(hash))
    }

    /// As [`Self::mined_transaction`], for those who wait for a transaction: blocks that have left memory are not looked at, nor the disk.
    ///
    /// # Errors
    ///
    /// Only [`NodeError::Internal`], after a panic inside the chain.
    pub fn recently_mined(&self, hash: &B256) -> Result<Option<(Arc<Block>, usize)>> {
        Ok(self.core()?.mined_transaction(hash))
    }

    /// Returns the block that contains the transaction with which `sender` used up `nonce`, and the transaction's index in it.
    pub(crate) fn transaction_of(&self, sender: &Address, nonce: u64) -> Result<Option<(Arc<Block>, usize)>> {
        let older = {
            let core = self.core()?;
            if let Some(found) = core.transaction_of(sender, nonce) {
                return Ok(Some(found));
            }
            core.older()
        };
        older.map_or(Ok(None), |older| older.transaction_of(sender, nonce))
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

    /// The state and call environment of a block.
    pub(crate) fn view(&self, id: BlockId) -> Result<View> {
        let core = self.core()?;
        if id == BlockId::pending() {
            return Ok(View {
                state: core.head_state().clone(),
                context: core.next_context(),
            });
        }
        let (core, number) = self.resolved(core, id)?;
        let state = core.state_of(number)?.clone();
        // Blocks are in memory for as long as their states are.
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
        let (core, number) = self.resolved(core, id)?;
        core.state_of(number).cloned()
    }

    /// The number of the block that `id` names, with the chain locked; what is locked now is let go of while the disk is asked.
    pub(crate) fn resolved<'a>(&'a self, core: MutexGuard<'a, Core>, id: BlockId) -> Result<(MutexGuard<'a, Core>, u64)> {
        if let Some(number) = resolve(&core, id) {
            return Ok((core, number));
        }
        let (Some(older), BlockId::Hash(hash)) = (core.older(), id) else {
            return Err(unknown(id));
        };
        drop(core);
        let number = older.number_of(&hash.block_hash)?.ok_or_else(|| unknown(id))?;
        Ok((self.core()?, number))
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

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain")
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
