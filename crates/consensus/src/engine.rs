//! Drives the algorithm: between the network, the application, the log and the clock.
//!
//! One task owns everything and takes one event after the other, so that there is nothing to lock and no two steps at once. What takes long (the
//! application, requests to peers) runs as jobs beside it and comes back as events. Only the log is waited for: nothing that follows from an event
//! leaves the node before what led to it is on disk.
//!
//! # Roles
//!
//! A node whose key is in the set that signs the next block takes part in deciding it. Every other node follows: it takes decided blocks from its
//! peers and votes on nothing. Which of both a node is may change with every block. A validator that is behind follows, too, till it has caught up.
//!
//! # Restart
//!
//! The application says how far it is. If the log is for the height after, it is gone through again: the algorithm comes to the same votes, which
//! are sent again. A log of an earlier height is of no use any more. A log of a **later** height means that the application lost blocks which the
//! validator had voted after: then the node only follows till it is past that height, since it no longer knows how it voted before.

mod act;
mod greeting;
mod jobs;
mod receive;

use std::{collections::HashMap, sync::Arc, time::Duration};

use alloy::primitives::{B256, Bytes};
use cipherloom_primitives::quorum::{CommitCertificate, ValidatorSet};
use cipherloom_rpc::cipherloom::consensus::v1::{LogEntry, log_entry::Content};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{greeting::Said, jobs::Done};
use crate::{
    answers::Answers,
    application::{Application, Head},
    blocks::{BlockKey, Blocks, Knowledge},
    codec::{self, Working},
    config::NodeConfig,
    core::Core,
    log::Log,
    network::{Channel, Network, PeerId, Received},
    node::ConsensusError,
    signing::Digests,
    status::{Counters, NodeStatus, RoundStatus},
    sync::Sync,
};

/// How often to look after what no event reports.
const TICK: Duration = Duration::from_millis(200);
/// How often peers are told where this node is, in ticks.
const TICKS_PER_STATUS: u64 = 10;
/// For how long a validator waits for the next block to be decided by itself before it asks a peer that has it.
const GRACE: Duration = Duration::from_secs(1);
/// After what time something that did not work is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// How long a block that is being committed may take when the node stops.
const LAST_COMMIT: Duration = Duration::from_secs(10);

/// Everything.
pub(crate) struct Engine {
    config: NodeConfig,
    digests: Digests,
    application: Arc<dyn Application>,
    network: Arc<dyn Network>,
    counters: Arc<Counters>,
    status: watch::Sender<NodeStatus>,
    transactions: mpsc::Sender<(PeerId, Bytes)>,
    /// None while it is being written to.
    log: Option<Log>,
    log_height: u64,
    /// What the log held at the start.
    found: Vec<LogEntry>,
    /// What is to be written before the next message leaves.
    unwritten: Vec<LogEntry>,
    /// While the node takes part.
    core: Option<Core>,
    /// The height that began last, whether the node takes part or not.
    height: u64,
    began: Instant,
    /// When the next height may begin.
    begin_at: Instant,
    /// The digest and the size of the set that signs the next block.
    validators: (Option<B256>, usize),
    is_validator: bool,
    blocks: Blocks,
    /// Hashes of proposals whose blocks did not come, who has them, and when to ask.
    wanted: HashMap<B256, (PeerId, Instant)>,
    /// The same of the next height.
    wanted_next: HashMap<B256, PeerId>,
    /// What the node is making a block for, and when to say so again.
    working: Option<(Working, Instant)>,
    /// Messages and when they came last, so that repetitions are not looked at too often.
    seen: HashMap<B256, Instant>,
    decision: Option<CommitCertificate>,
    sync: Sync,
    jobs: JoinSet<Result<Done, ConsensusError>>,
    /// A block is being committed or applied.
    busy: bool,
    /// When the last block of a peer was applied.
    applied_at: Option<Instant>,
    /// How many peers there were at the last tick.
    peers: usize,
    /// Nothing is committed or applied before.
    retry_at: Option<Instant>,
    /// Who asks for decided blocks, and whose turn it is.
    answers: Answers<jobs::Wanted>,
    /// What this validator said last at this height.
    said: Said,
    repetition: u64,
    ticks: u64,
}

impl Engine {
    /// Opens the log and looks where the application is.
    pub(crate) async fn open(
        config: NodeConfig,
        application: Arc<dyn Application>,
        network: Arc<dyn Network>,
        counters: Arc<Counters>,
        transactions: mpsc::Sender<(PeerId, Bytes)>,
    ) -> Result<(Self, watch::Receiver<NodeStatus>), ConsensusError> {
        let directory = config.directory.clone();
        let opened = tokio::task::spawn_blocking(move || Log::open(&directory)).await;
        let (log, found) = opened.map_err(|error| ConsensusError::Panicked(error.to_string()))??;
        let head = application.head();
        let set = application.validators(head.height.saturating_add(1))?;
        let is_validator = config.signer.as_ref().is_some_and(|signer| set.contains(&signer.address()));
        let (status, watch) = watch::channel(NodeStatus {
            height: head.height,
            hash: head.hash,
            best_peer_height: 0,
            peers: 0,
            is_validator,
            validators: set.len(),
            round: None,
        });
        let engine = Self {
            digests: Digests { domain: config.domain },
            config,
            application,
            network,
            counters,
            status,
            transactions,
            log_height: log.height(),
            log: Some(log),
            found,
            unwritten: Vec::new(),
            core: None,
            height: head.height,
            began: Instant::now(),
            begin_at: Instant::now(),
            validators: (None, set.len()),
            is_validator,
            blocks: Blocks::default(),
            wanted: HashMap::new(),
            wanted_next: HashMap::new(),
            working: None,
            seen: HashMap::new(),
            decision: None,
            sync: Sync::default(),
            jobs: JoinSet::new(),
            busy: false,
            applied_at: None,
            peers: 0,
            retry_at: None,
            answers: Answers::default(),
            said: Said::default(),
            repetition: 0,
            ticks: 0,
        };
        Ok((engine, watch))
    }

    /// Runs until it is told to stop, or cannot go on.
    pub(crate) async fn run(mut self, mut received: mpsc::Receiver<Received>, stop: CancellationToken) -> Result<(), ConsensusError> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut network_is_there = true;
        for peer in self.network.peers() {
            self.sync.connected(peer);
        }
        self.tell_height();
        loop {
            self.advance().await?;
            self.note_status();
            let due = self.core.as_ref().and_then(Core::next_timeout);
            tokio::select! {
                () = stop.cancelled() => break,
                event = received.recv(), if network_is_there => match event {
                    Some(event) => self.receive(event).await?,
                    None => network_is_there = false,
                },
                Some(done) = self.jobs.join_next(), if !self.jobs.is_empty() => {
                    let done = done.map_err(|error| ConsensusError::Panicked(error.to_string()))??;
                    self.finish(done).await?;
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    if let Some(core) = &mut self.core {
                        core.elapse(Instant::now())?;
                    }
                    self.carry_out().await?;
                }
                _ = tick.tick() => self.tick(),
            }
        }
        let finish = async {
            while self.busy {
                match self.jobs.join_next().await {
                    Some(Ok(Ok(done))) if done.ends_a_commit() => self.busy = false,
                    Some(_) => {}
                    None => break,
                }
            }
        };
        // A commit that takes longer is cut short, as by a crash.
        let _ = timeout(LAST_COMMIT, finish).await;
        self.jobs.shutdown().await;
        Ok(())
    }

    /// Starts whatever can be started now.
    async fn advance(&mut self) -> Result<(), ConsensusError> {
        let now = Instant::now();
        let head = self.application.head();
        if self.decision.as_ref().is_some_and(|decision| decision.height <= head.height) {
            self.decision = None;
        }
        if !self.busy && self.retry_at.is_none_or(|at| at <= now) {
            self.retry_at = None;
            match self.sync.next_block(head.height) {
                Some((peer, decided)) => self.apply(peer, decided)?,
                None => self.commit_decision(),
            }
        }
        let grace = if self.core.is_some() { GRACE } else { Duration::ZERO };
        if let Some(range) = self.sync.next_question(head.height, grace, now) {
            self.ask_for_decided(range);
        }
        let next = head.height.saturating_add(1);
        // Who catches up waits for more. A peer that claims much and delivers nothing must not keep a validator from its work.
        let catches_up = self.applied_at.is_some_and(|at| at.elapsed() < GRACE);
        let idle = !self.busy && self.decision.is_none() && !self.sync.is_under_way(catches_up);
        if idle && self.height < next && self.begin_at <= now {
            self.begin(next).await?;
        }
        Ok(())
    }

    /// Begins a height: takes part in it, if this is a validator.
    async fn begin(&mut self, height: u64) -> Result<(), ConsensusError> {
        let set = self.application.validators(height)?;
        self.height = height;
        self.began = Instant::now();
        self.working = None;
        self.said = Said::default();
        let now = Instant::now();
        self.wanted = self.wanted_next.drain().map(|(hash, peer)| (hash, (peer, now + RETRY))).collect();
        self.seen.retain(|_, at| at.elapsed() < self.config.timeouts.rebroadcast);
        let early = self.blocks.next_height();
        self.favour(&set);
        let signer = self.config.signer.clone().filter(|signer| set.contains(&signer.address()));
        self.is_validator = signer.is_some();
        let Some(signer) = signer else {
            self.core = None;
            return Ok(());
        };
        if self.log_height > height {
            tracing::warn!(
                height,
                voted = self.log_height,
                "the chain is behind what this validator voted for: it follows till it is past that"
            );
            self.core = None;
            return Ok(());
        }
        let found = if self.log_height == height {
            std::mem::take(&mut self.found)
        } else {
            self.found.clear();
            self.use_log(move |log| log.begin(height)).await?;
            self.log_height = height;
            Vec::new()
        };
        let timeouts = self.config.timeouts;
        let mut core = match self.core.take() {
            Some(core) => core,
            None => Core::new(self.digests, signer, timeouts, height, set.clone()),
        };
        core.connected(self.network.peers());
        core.begin(height, set)?;
        if !found.is_empty() {
            tracing::info!(
                height,
                entries = found.len(),
                "going again through what was written down before the restart"
            );
            self.take_blocks_of_log(&found)?;
            core.replay(&found)?;
        }
        self.core = Some(core);
        self.carry_out().await?;
        self.judge_unknown();
        for (peer, block) in early {
            self.take_block(peer, block);
        }
        Ok(())
    }

    fn take_blocks_of_log(&mut self, entries: &[LogEntry]) -> Result<(), ConsensusError> {
        for entry in entries {
            if let Some(Content::Block(block)) = &entry.content {
                let block = codec::read_block(block.clone()).map_err(|error| ConsensusError::Core(error.to_string()))?;
                let key = BlockKey::of(&block);
                self.blocks.add(key, block, Knowledge::Unknown, None);
                self.blocks.is_logged(&key);
            }
        }
        Ok(())
    }

    /// Takes note of a new head.
    fn head_moved(&mut self) {
        self.tell_height();
        let next = self.began + self.config.timeouts.block_interval;
        self.begin_at = next.max(Instant::now());
    }

    fn favour(&mut self, set: &ValidatorSet) {
        let digest = set.digest();
        if self.validators.0 != Some(digest) {
            self.validators = (Some(digest), set.len());
            self.network.favour(set.iter().map(|validator| validator.address).collect());
        }
    }

    fn tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(TICKS_PER_STATUS) {
            self.tell_height();
        }
        self.note_peers();
        self.ask_for_wanted();
        self.answer_waiting();
        self.say_working();
    }

    fn tell_height(&self) {
        let Head { height, hash } = self.application.head();
        self.network.broadcast(Channel::Status, codec::encode_status(height, hash));
    }

    fn note_status(&self) {
        let Head { height, hash } = self.application.head();
        let round = self.core.as_ref().filter(|core| core.height() > height).map(|core| RoundStatus {
            height: core.height(),
            round: core.round(),
            step: core.step(),
            proposer: core.proposer(core.round()),
        });
        let status = NodeStatus {
            height,
            hash,
            best_peer_height: self.sync.best(),
            peers: self.peers,
            is_validator: self.is_validator,
            validators: self.validators.1,
            round,
        };
        self.status.send_if_modified(|known| {
            let changed = *known != status;
            *known = status;
            changed
        });
    }

    /// Has the log do something that waits for the disk.
    async fn use_log<F>(&mut self, work: F) -> Result<(), ConsensusError>
    where
        F: FnOnce(&mut Log) -> Result<(), crate::log::LogError> + Send + 'static,
    {
        let mut log = self.log.take().expect("the engine waits for each use of the log");
        let used = tokio::task::spawn_blocking(move || work(&mut log).map(|()| log)).await;
        self.log = Some(used.map_err(|error| ConsensusError::Panicked(error.to_string()))??);
        Ok(())
    }
}
