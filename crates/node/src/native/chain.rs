//! The chain of a node: blocks come from consensus, and everything else is as on any [`Chain`].
//!
//! Consensus asks for a block ([`NativeChain::propose`]), asks what to think of another's ([`NativeChain::validate`]), and says which one was decided
//! ([`NativeChain::commit`]). A block that was executed here stays in memory until one of its height is decided. A node that was away gets decided
//! blocks with what they put into state, and computes nothing ([`NativeChain::apply`]).
//!
//! Execution and the check of proofs take long and run on blocking threads. One lock guards each part; none is held while something is computed.

mod adding;
mod judging;
mod keeping;
mod making;
mod opening;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy::primitives::{B256, Bytes};
use cipherloom_contracts::HostContract;
use cipherloom_primitives::quorum::{CommitCertificate, ConsensusDomain, ValidatorSet};
use tokio::sync::{Semaphore, broadcast};

use super::candidates::Candidates;
use super::genesis::Genesis;
use super::recorder::NativeContracts;
use super::rpc::MOST_WAITING;
use super::rules::NativeRules;
use super::store::Store;
use super::store::states::States;
use super::validators::SetHistory;
use super::work::{CheckInputs, ComputeBlock};
use crate::chain::Chain;
use crate::clock::{Clock, SystemClock};
use crate::config::Limits;
use crate::error::{NodeError, Result};

pub use self::opening::Restored;

/// What a node of a native chain is started with.
#[derive(Clone)]
pub struct NativeConfig {
    /// Directory that keeps the chain across restarts; `None` keeps it in memory only.
    pub data_dir: Option<PathBuf>,
    /// What the chain began with.
    pub genesis: Genesis,
    /// Bounds on what clients can ask for.
    pub limits: Limits,
    /// Source of the timestamps of proposed blocks.
    pub clock: Arc<dyn Clock>,
    /// How far in the future a proposed block's timestamp may be, in seconds.
    pub max_future_s: u64,
    /// After how many blocks the state is written to the data directory, at least 1: a start after a crash executes about as many at most.
    pub state_interval: u64,
}

/// After how many blocks the state is written, if nobody says otherwise.
pub const STATE_INTERVAL: u64 = 1024;

impl NativeConfig {
    /// Defaults for everything but the genesis: nothing on the disk, the system's clock, 15 seconds.
    #[must_use]
    pub fn new(genesis: Genesis) -> Self {
        Self {
            data_dir: None,
            genesis,
            limits: Limits::default(),
            clock: Arc::new(SystemClock),
            max_future_s: 15,
            state_interval: STATE_INTERVAL,
        }
    }
}

/// The last block of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
}

/// A block to be voted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposedBlock {
    /// Its hash, which votes are about.
    pub hash: B256,
    /// The RLP of the block.
    pub bytes: Bytes,
}

/// What a node thinks of a proposed block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It came to the same block, bit for bit.
    Valid {
        /// The block's hash.
        hash: B256,
    },
    /// It did not, and nobody who follows the rules does.
    Invalid(String),
}

/// What the network part of a node knows, for `cipherloom_nodeStatus` and its like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkStatus {
    /// Connected peers.
    pub peers: usize,
    /// The highest block that peers tell of.
    pub highest: u64,
}

/// A native chain; clones share it. What it has in common with other chains is in [`Chain`].
#[derive(Clone)]
pub struct NativeChain {
    chain: Chain,
    inner: Arc<Inner>,
}

struct Inner {
    genesis: Genesis,
    domain: ConsensusDomain,
    compute: Arc<dyn ComputeBlock>,
    checks: Arc<dyn CheckInputs>,
    max_future_s: u64,
    /// Held while a block is added, so that blocks are added one after the other.
    turn: Mutex<()>,
    /// Writes states, where there is a data directory. Dropped before the directory is given up.
    states: Mutex<Option<Arc<States>>>,
    store: Mutex<Store>,
    restored: Mutex<Restored>,
    sets: Mutex<SetHistory>,
    /// Those of the blocks in memory.
    certificates: Mutex<BTreeMap<u64, CommitCertificate>>,
    candidates: Mutex<Candidates>,
    network: Mutex<NetworkStatus>,
    /// One permit per client that waits for a receipt.
    waiting: Semaphore,
}

impl NativeChain {
    /// Opens the chain: takes the newest good state of the data directory, and executes the blocks after it again, without an executor. It blocks for as
    /// long as that takes.
    ///
    /// # Errors
    ///
    /// [`NodeError::Genesis`], and those of the data directory: [`NodeError::Io`], [`NodeError::DataDirLocked`],
    /// [`NodeError::JournalOfOtherChain`], [`NodeError::JournalCorrupt`], [`NodeError::ReplayRefused`].
    pub fn open(config: NativeConfig, compute: Arc<dyn ComputeBlock>, checks: Arc<dyn CheckInputs>) -> Result<Self> {
        match Self::begin_with(config.clone(), Arc::clone(&compute), Arc::clone(&checks)) {
            // It left a mark, by which the index is made again.
            Err(NodeError::IndexDamaged { .. }) => Self::begin_with(config, compute, checks),
            opened => opened,
        }
    }

    fn begin_with(config: NativeConfig, compute: Arc<dyn ComputeBlock>, checks: Arc<dyn CheckInputs>) -> Result<Self> {
        let NativeConfig {
            data_dir,
            genesis,
            limits,
            clock,
            max_future_s,
            state_interval,
        } = config;
        let rules = rules_of(&genesis, Arc::clone(&checks))?;
        let core = genesis.core(limits, clock, Some(Arc::new(rules)))?;
        let hash = core.head().hash;
        if genesis.hash.is_some_and(|named| named != hash) {
            return Err(NodeError::Genesis(format!(
                "it describes a block with hash {hash}, and names another"
            )));
        }
        let this = Self {
            chain: Chain::of(core),
            inner: Arc::new(Inner {
                domain: genesis.domain(hash),
                compute,
                checks,
                max_future_s,
                turn: Mutex::default(),
                states: Mutex::default(),
                store: Mutex::new(Store::Memory(Vec::new())),
                restored: Mutex::default(),
                sets: Mutex::new(SetHistory::new(genesis.validators.clone())),
                certificates: Mutex::default(),
                candidates: Mutex::default(),
                network: Mutex::default(),
                waiting: Semaphore::new(MOST_WAITING),
                genesis,
            }),
        };
        if let Some(dir) = data_dir {
            let restored = this.restore(&dir, state_interval)?;
            *lock(&this.inner.restored) = restored;
            let (head, executed) = (this.head()?.number, restored.executed);
            match restored.state {
                Some(state) => tracing::info!(head, state, executed, "native chain restored from a state and the blocks after it"),
                None => tracing::info!(head, executed, "native chain restored by executing all its blocks"),
            }
        }
        Ok(this)
    }

    /// What the chain began with.
    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        &self.inner.genesis
    }

    /// What validators' signatures are bound to.
    #[must_use]
    pub fn domain(&self) -> ConsensusDomain {
        self.inner.domain
    }

    /// Returns the last block.
    ///
    /// # Errors
    ///
    /// Only [`NodeError::Internal`], after a panic inside the chain.
    pub fn head(&self) -> Result<Head> {
        let core = self.core()?;
        let head = core.head();
        Ok(Head {
            number: head.header.number,
            hash: head.hash,
        })
    }

    /// Returns who signs the block `height`: any that was decided, or the next one.
    ///
    /// # Errors
    ///
    /// [`NodeError::UnknownBlock`] for block 0, which nobody signs, and for blocks after the next one.
    pub fn validators_at(&self, height: u64) -> Result<ValidatorSet> {
        let next = self.head()?.number.saturating_add(1);
        let sets = self.sets();
        let set = sets.at(height).filter(|_| height <= next);
        set.cloned().ok_or_else(|| NodeError::UnknownBlock(height.to_string()))
    }

    /// Takes a transaction from a peer; true if it is new and may be passed on, false if it is known or cannot be taken now.
    ///
    /// # Errors
    ///
    /// [`NodeError::InvalidTransaction`] for what no node passes on that looked at it, or [`NodeError::Internal`].
    pub fn add_transaction(&self, raw: &[u8]) -> Result<bool> {
        match self.take_transaction(raw) {
            Ok(_) => Ok(true),
            Err(error @ (NodeError::InvalidTransaction(_) | NodeError::Internal(_))) => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// Subscribes to the transactions that clients of this node send from now on.
    #[must_use]
    pub fn new_transactions(&self) -> broadcast::Receiver<Bytes> {
        self.sent_transactions()
    }

    /// Notes what the network part of the node knows.
    pub fn set_network_status(&self, status: NetworkStatus) {
        *lock(&self.inner.network) = status;
    }

    /// Returns what was last noted.
    #[must_use]
    pub fn network_status(&self) -> NetworkStatus {
        *lock(&self.inner.network)
    }

    /// Permits to wait for a receipt.
    pub(super) fn waiting(&self) -> &Semaphore {
        &self.inner.waiting
    }

    /// The sets of validators.
    pub(super) fn sets(&self) -> MutexGuard<'_, SetHistory> {
        lock(&self.inner.sets)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        lock(&self.inner.turn)
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.inner.store)
    }

    fn candidates(&self) -> MutexGuard<'_, Candidates> {
        lock(&self.inner.candidates)
    }
}

impl Deref for NativeChain {
    type Target = Chain;

    fn deref(&self) -> &Chain {
        &self.chain
    }
}

impl fmt::Debug for NativeChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NativeChain")
            .field("chain_id", &self.chain_id())
            .finish_non_exhaustive()
    }
}

fn rules_of(genesis: &Genesis, checks: Arc<dyn CheckInputs>) -> Result<NativeRules> {
    let contracts = NativeContracts {
        executor: genesis.contract(HostContract::FhevmExecutor)?,
        acl: genesis.contract(HostContract::Acl)?,
        input_verifier: genesis.contract(HostContract::InputVerifier)?,
        chain_id: genesis.chain_id,
    };
    Ok(NativeRules::new(contracts, genesis.fhe_gas_limit, checks))
}

/// Locks one part of the chain. Each is changed in one step, so that a panic elsewhere leaves nothing half done in it.
fn lock<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs what takes long on a thread for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| NodeError::Internal(error.to_string()))?
}
