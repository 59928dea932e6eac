//! The chain of a node: blocks come from consensus, and everything else is as on any [`Chain`].
//!
//! Consensus asks for a block ([`NativeChain::propose`]), asks what to think of another's ([`NativeChain::validate`]), and says which one was decided
//! ([`NativeChain::commit`]). A block that was executed here stays in memory until one of its height is decided. A node that was away gets decided
//! blocks with what they put into state, and computes nothing ([`NativeChain::apply`]).
//!
//! Execution and the check of proofs take long and run on blocking threads. One lock guards each part; none is held while something is computed.

use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes};
use cipherloom_contracts::HostContract;
use cipherloom_primitives::quorum::{CommitCertificate, ConsensusDomain, ValidatorSet};
use tokio::sync::{Semaphore, broadcast};
use tokio::time::Instant;

use super::candidates::{Candidate, Candidates, check_header, check_same, never_fits, run_all};
use super::checks::{NotedChecks, Verdicts};
use super::codec::{ReceivedBlock, Sidecar, decode_block, encode_header};
use super::execute::BlockRun;
use super::genesis::Genesis;
use super::rpc::MOST_WAITING;
use super::rules::NativeRules;
use super::store::{DecidedBlock, Store};
use super::validators::SetHistory;
use super::work::{CheckInputs, ComputeBlock, Results, compute_checked};
use crate::chain::Chain;
use crate::clock::{Clock, SystemClock};
use crate::config::Limits;
use crate::error::{NodeError, Result};
use crate::exec::BlockContext;

/// How long to wait before an executor that failed is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// How often to look at the clock while it is behind.
const CLOCK_PAUSE: Duration = Duration::from_millis(50);

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
}

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
    store: Mutex<Store>,
    sets: Mutex<SetHistory>,
    certificates: Mutex<Vec<CommitCertificate>>,
    candidates: Mutex<Candidates>,
    network: Mutex<NetworkStatus>,
    /// One permit per client that waits for a receipt.
    waiting: Semaphore,
}

impl NativeChain {
    /// Opens the chain: executes the blocks of the data directory again, without an executor. It blocks for as long as that takes.
    ///
    /// # Errors
    ///
    /// [`NodeError::Genesis`], and those of the data directory: [`NodeError::Io`], [`NodeError::DataDirLocked`],
    /// [`NodeError::JournalOfOtherChain`], [`NodeError::JournalCorrupt`], [`NodeError::ReplayMismatch`].
    pub fn open(config: NativeConfig, compute: Arc<dyn ComputeBlock>, checks: Arc<dyn CheckInputs>) -> Result<Self> {
        let NativeConfig {
            data_dir,
            genesis,
            limits,
            clock,
            max_future_s,
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
                store: Mutex::new(Store::in_memory()),
                sets: Mutex::new(SetHistory::new(genesis.validators.clone())),
                certificates: Mutex::default(),
                candidates: Mutex::default(),
                network: Mutex::default(),
                waiting: Semaphore::new(MOST_WAITING),
                genesis,
            }),
        };
        if let Some(dir) = data_dir {
            let store = Store::open(&dir, hash, &mut |decided| this.replay(&decided))?;
            *this.store() = store;
            let blocks = this.head()?.number;
            tracing::info!(blocks, "native chain restored from its data directory");
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

    /// Makes a block of what waits, has it computed, and keeps it.
    ///
    /// Transactions that do not fit stay for later blocks. `proposer` is the block's beneficiary.
    ///
    /// # Errors
    ///
    /// [`NodeError::UnknownBlock`] if `height` is not the next one, [`NodeError::ExecutorUnavailable`] if the executor did not answer before
    /// the deadline, or [`NodeError::Internal`].
    pub async fn propose(&self, height: u64, round: u32, proposer: Address, deadline: Instant) -> Result<ProposedBlock> {
        self.wait_for_time(deadline).await?;
        let this = self.clone();
        let made = blocking(move || this.collect(height, proposer, deadline)).await?;
        tracing::debug!(
            height,
            round,
            gas = made.run.gas_used(),
            fhe_gas = made.run.fhe_gas_used(),
            "a block is proposed"
        );
        let candidate = self.complete(made, deadline).await?;
        self.candidates().insert(Arc::clone(&candidate));
        Ok(ProposedBlock {
            hash: candidate.block.hash,
            bytes: candidate.bytes.clone(),
        })
    }

    /// Executes a block that `proposer` made in this round and has it computed, to see whether the same comes out. It is kept if so.
    ///
    /// # Errors
    ///
    /// What keeps the node from knowing: [`NodeError::UnknownBlock`] if `height` is not the next one, [`NodeError::ExecutorUnavailable`], or
    /// [`NodeError::Internal`].
    pub async fn validate(&self, height: u64, round: u32, proposer: Address, block: Bytes, deadline: Instant) -> Result<Verdict> {
        let verdict = match self.try_validate(height, proposer, block, deadline).await {
            Ok(hash) => Verdict::Valid { hash },
            Err(NodeError::BlockRefused(reason) | NodeError::Ciphertexts(reason)) => Verdict::Invalid(reason),
            Err(other) => return Err(other),
        };
        if let Verdict::Invalid(reason) = &verdict {
            tracing::warn!(height, round, %proposer, reason, "a proposed block is invalid");
        }
        Ok(verdict)
    }

    async fn try_validate(&self, height: u64, proposer: Address, bytes: Bytes, deadline: Instant) -> Result<B256> {
        let this = self.clone();
        let (received, made) = blocking(move || {
            let received = decode_block(&bytes).map_err(NodeError::BlockRefused)?;
            this.check_next(height)?;
            if received.header.beneficiary != proposer {
                return Err(NodeError::BlockRefused("its beneficiary is not the proposer".to_owned()));
            }
            if this.candidates().get(&received.hash).is_some() {
                return Ok((received, None));
            }
            let now = this.core()?.config.clock.now_unix_s();
            if received.header.timestamp > now.saturating_add(this.inner.max_future_s) {
                return Err(NodeError::BlockRefused("its timestamp is too far in the future".to_owned()));
            }
            let made = this.run_received(&received, Verdicts::new())?;
            Ok((received, Some(made)))
        })
        .await?;
        if let Some(made) = made {
            let candidate = self.complete(made, deadline).await?;
            check_same(&received, &candidate.block)?;
            self.candidates().insert(candidate);
        }
        Ok(received.hash)
    }

    /// Adds a block that [`Self::propose`] or [`Self::validate`] came to. It is on the disk when this returns. To commit the same block again changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`NodeError::UnknownCandidate`], [`NodeError::BlockRefused`] if the certificate is not one for this block, [`NodeError::Io`],
    /// [`NodeError::ShutDown`] or [`NodeError::Internal`].
    pub async fn commit(&self, hash: B256, certificate: CommitCertificate) -> Result<()> {
        let this = self.clone();
        blocking(move || {
            let turn = this.turn();
            if this.core()?.block_number(&hash).is_some() {
                return Ok(());
            }
            let candidate = this.candidates().get(&hash).ok_or(NodeError::UnknownCandidate(hash))?;
            this.check_certificate(&candidate.block.header.number, hash, &certificate)?;
            this.add(&candidate, certificate, &turn)
        })
        .await
    }

    /// Adds a decided block from a peer, with the ciphertexts of its sidecar: nothing is computed, the signed state root proves them.
    ///
    /// # Errors
    ///
    /// [`NodeError::BlockRefused`] if block, certificate and sidecar do not belong together or the block does not follow on the head,
    /// [`NodeError::Io`], [`NodeError::ShutDown`] or [`NodeError::Internal`].
    pub async fn apply(&self, decided: DecidedBlock) -> Result<()> {
        let this = self.clone();
        blocking(move || {
            let turn = this.turn();
            if this.core()?.block_number(&decided.certificate.block_hash).is_some() {
                return Ok(());
            }
            let candidate = this.reconstruct(&decided)?;
            this.add(&candidate, decided.certificate, &turn)
        })
        .await
    }

    /// Returns a decided block for a peer; `None` for one that is not there yet, and for block 0.
    ///
    /// # Errors
    ///
    /// [`NodeError::Io`], [`NodeError::ShutDown`] or [`NodeError::JournalCorrupt`].
    pub async fn decided(&self, height: u64) -> Result<Option<DecidedBlock>> {
        let this = self.clone();
        blocking(move || this.store().get(height)).await
    }

    /// Returns the certificate of a block; `None` for one that is not there yet, and for block 0.
    #[must_use]
    pub fn certificate(&self, height: u64) -> Option<CommitCertificate> {
        let index = usize::try_from(height.checked_sub(1)?).ok()?;
        lock(&self.inner.certificates).get(index).cloned()
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

    /// Gives up the data directory, for all clones: reading from memory goes on, nothing is added any more.
    pub fn close(&self) {
        let _turn = self.turn();
        self.store().close();
    }

    /// The RLP of a header and its certificate, as light clients get them.
    pub(super) fn certified_header(&self, height: u64) -> Result<Option<(Bytes, CommitCertificate)>> {
        let Some(certificate) = self.certificate(height) else {
            return Ok(None);
        };
        let core = self.core()?;
        Ok(core.block(height).map(|block| (encode_header(&block.header), certificate)))
    }

    /// Permits to wait for a receipt.
    pub(super) fn waiting(&self) -> &Semaphore {
        &self.inner.waiting
    }

    /// The sets of validators.
    pub(super) fn sets(&self) -> MutexGuard<'_, SetHistory> {
        lock(&self.inner.sets)
    }

    /// Waits while blocks come faster than seconds and their timestamps run ahead of the clock: others would refuse a block from the future.
    async fn wait_for_time(&self, deadline: Instant) -> Result<()> {
        let until = Instant::now() + deadline.saturating_duration_since(Instant::now()) / 4;
        while Instant::now() < until {
            let (now, next) = {
                let core = self.core()?;
                (core.config.clock.now_unix_s(), core.head().header.timestamp.saturating_add(1))
            };
            if next <= now.saturating_add(self.inner.max_future_s / 3) {
                break;
            }
            tokio::time::sleep(CLOCK_PAUSE).await;
        }
        Ok(())
    }

    /// Chooses and executes transactions for the next block.
    fn collect(&self, height: u64, proposer: Address, deadline: Instant) -> Result<Made> {
        self.check_next(height)?;
        let (state, context, mut waiting, parent) = {
            let core = self.core()?;
            let head = core.head();
            let timestamp = core.config.clock.now_unix_s().max(head.header.timestamp.saturating_add(1));
            let context = core.context_of_next(timestamp, proposer);
            (core.head_state().clone(), context, core.pool.clone(), head.hash)
        };
        let base_fee = context.base_fee;
        let gas_limit = context.gas_limit;
        let (mut run, checks) = self.begin(state, context, Verdicts::new())?;
        // Execution must leave time for the computation, here and at the validators.
        let until = Instant::now() + deadline.saturating_duration_since(Instant::now()) / 4;
        let mut dropped = Vec::new();
        while Instant::now() < until
            && let Some(transaction) = waiting.next_executable(run.state(), base_fee).cloned()
        {
            if let Err(error) = run.run(&transaction) {
                // What comes after it from the same sender must wait, too.
                waiting.remove_sender(&transaction.sender);
                if never_fits(&error, gas_limit, &transaction.envelope) {
                    tracing::debug!(hash = %transaction.hash, %error, "a waiting transaction cannot be in any block and is dropped");
                    dropped.push(transaction.hash);
                }
            }
        }
        if !dropped.is_empty() {
            self.change(|core| {
                for hash in &dropped {
                    core.pool.remove(hash);
                }
                Ok(())
            })?;
        }
        Ok(Made {
            run,
            checks,
            parent,
            height,
        })
    }

    /// Executes the transactions of a block that somebody else made.
    fn run_received(&self, received: &ReceivedBlock, known: Verdicts) -> Result<Made> {
        let header = &received.header;
        let (state, context) = {
            let core = self.core()?;
            check_header(&core, header)?;
            (
                core.head_state().clone(),
                core.context_of_next(header.timestamp, header.beneficiary),
            )
        };
        let (run, checks) = self.begin(state, context, known)?;
        Ok(Made {
            run: run_all(run, received)?,
            checks,
            parent: header.parent_hash,
            height: header.number,
        })
    }

    fn begin(&self, state: crate::state::WorldState, mut context: BlockContext, known: Verdicts) -> Result<(BlockRun, Arc<NotedChecks>)> {
        let checks = Arc::new(NotedChecks::new(Arc::clone(&self.inner.checks), known));
        let inputs: Arc<dyn CheckInputs> = Arc::clone(&checks) as _;
        context.native = Some(Arc::new(rules_of(&self.inner.genesis, inputs)?));
        Ok((BlockRun::begin(state, context)?, checks))
    }

    /// Has an executed block computed, and seals it.
    async fn complete(&self, made: Made, deadline: Instant) -> Result<Arc<Candidate>> {
        let (made, work) = blocking(move || {
            let work = made.run.work();
            Ok((made, work))
        })
        .await?;
        let results = self.results(work, deadline).await?;
        let this = self.clone();
        blocking(move || this.seal(made, results)).await
    }

    /// Asks the executor until it answers or the deadline has come.
    async fn results(&self, work: super::work::BlockWork, deadline: Instant) -> Result<Results> {
        let mut reason = "it did not answer in time".to_owned();
        loop {
            let attempt = tokio::time::timeout_at(deadline, compute_checked(&*self.inner.compute, work.clone())).await;
            match attempt {
                Ok(Ok(results)) => return Ok(results),
                Ok(Err(unavailable)) => reason = unavailable.to_string(),
                Err(_) => return Err(NodeError::ExecutorUnavailable(reason)),
            }
            if Instant::now() + RETRY_PAUSE >= deadline {
                return Err(NodeError::ExecutorUnavailable(reason));
            }
            tracing::warn!(block = work.number, reason, "the block could not be computed and is tried again");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    fn seal(&self, made: Made, results: Results) -> Result<Arc<Candidate>> {
        let signers = self.sets().at(made.height).cloned();
        let signers = signers.ok_or_else(|| NodeError::UnknownBlock(made.height.to_string()))?;
        let verdicts = made.checks.noted();
        // Whoever traces the block later is told what the checks said.
        let checks: Arc<dyn CheckInputs> = Arc::new(NotedChecks::new(Arc::clone(&self.inner.checks), verdicts.clone()));
        let rules = Arc::new(rules_of(&self.inner.genesis, checks)?);
        Candidate::of(made.run, results, verdicts, rules, made.parent, &signers).map(Arc::new)
    }

    /// Comes to a decided block by its sidecar.
    fn reconstruct(&self, decided: &DecidedBlock) -> Result<Arc<Candidate>> {
        let received = decode_block(&decided.block).map_err(NodeError::BlockRefused)?;
        self.check_next(received.header.number)
            .map_err(|error| NodeError::BlockRefused(error.to_string()))?;
        self.check_certificate(&received.header.number, received.hash, &decided.certificate)?;
        let sidecar = Sidecar::decode(&decided.sidecar).map_err(|reason| NodeError::BlockRefused(format!("its sidecar: {reason}")))?;
        let made = self.run_received(&received, sidecar.verdicts)?;
        let results = sidecar.ciphertexts.into_iter().map(|(handle, bytes)| (handle, Ok(bytes)));
        let candidate = self.seal(made, results.collect()).map_err(|error| match error {
            NodeError::Ciphertexts(reason) => NodeError::BlockRefused(format!("its sidecar: {reason}")),
            other => other,
        })?;
        check_same(&received, &candidate.block)?;
        Ok(candidate)
    }

    fn check_next(&self, height: u64) -> Result<()> {
        let next = self.head()?.number.saturating_add(1);
        if height == next {
            return Ok(());
        }
        Err(NodeError::UnknownBlock(format!("{height} (the next one here is {next})")))
    }

    fn check_certificate(&self, height: &u64, hash: B256, certificate: &CommitCertificate) -> Result<()> {
        let refused = |reason: String| NodeError::BlockRefused(format!("its certificate: {reason}"));
        if certificate.height != *height || certificate.block_hash != hash {
            return Err(refused("it is for another block".to_owned()));
        }
        let set = self.validators_at(*height)?;
        certificate
            .check(&self.inner.domain, &set)
            .map_err(|error| refused(error.to_string()))
    }

    /// Writes a block and makes it the head. The caller has its turn.
    fn add(&self, candidate: &Candidate, certificate: CommitCertificate, _turn: &MutexGuard<'_, ()>) -> Result<()> {
        self.check_next(candidate.block.header.number)?;
        self.store().append(DecidedBlock {
            block: candidate.bytes.clone(),
            certificate: certificate.clone(),
            sidecar: candidate.sidecar.clone(),
        })?;
        self.adopt(candidate, certificate)
    }

    fn adopt(&self, candidate: &Candidate, certificate: CommitCertificate) -> Result<()> {
        let number = candidate.block.header.number;
        // Whoever sees the new head must find these.
        self.sets().note(number.saturating_add(1), candidate.next.clone());
        lock(&self.inner.certificates).push(certificate);
        self.change(|core| {
            core.adopt(Arc::clone(&candidate.block), candidate.state.clone());
            Ok(())
        })?;
        self.candidates().clear();
        Ok(())
    }

    /// Executes a block of the data directory.
    fn replay(&self, decided: &DecidedBlock) -> Result<()> {
        let number = self.head()?.number.saturating_add(1);
        let candidate = self.reconstruct(decided).map_err(|error| match error {
            NodeError::BlockRefused(reason) => NodeError::ReplayRefused { number, reason },
            other => other,
        })?;
        self.adopt(&candidate, decided.certificate.clone())
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

/// An executed block that still has to be computed and sealed.
struct Made {
    run: BlockRun,
    checks: Arc<NotedChecks>,
    parent: B256,
    height: u64,
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
    Ok(NativeRules::new(
        genesis.contract(HostContract::FhevmExecutor)?,
        genesis.contract(HostContract::Acl)?,
        genesis.chain_id,
        genesis.fhe_gas_limit,
        checks,
    ))
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
