//! Following the chains of all tenants that have theirs followed, several at once, together with other processes.
//!
//! **Roles.** Operators say in the database which chains are followed ([`cipherloom_store::Following`]). Each process that runs [`Followers`] looks there
//! every few seconds and has one task per chain. A task claims its chain, and follows it for as long as it can renew the claim; the tasks of other
//! processes wait for the claim to end. With each renewal the task writes how far it is.
//!
//! **Restart.** A process that is told to stop gives its claims up; one that is killed has them end by their time. Whoever comes next goes on after the
//! newest recorded block. Should two follow for a moment, each block is recorded once, since the store takes a block only after the one it continues.
//!
//! **Failures.** Whatever fails is tried again with growing pauses. A task that ends, or whose chain is configured in another way, is replaced.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use cipherloom_chain::{CallLimits, ChainError, Follower, FollowerConfig, HostChain};
use cipherloom_contracts::HostAddresses;
use cipherloom_primitives::Address;
use cipherloom_store::{Database, FollowClaim, FollowProgress, FollowedChain, StoreError, Tenant, TenantId};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{Clock, metrics::Metrics, recording::Recorder, system_clock};

/// How chains are followed by this process.
#[derive(Clone)]
pub struct FollowersOptions {
    /// The name of the process for operators. Claims do not rely on it being unique.
    pub owner: String,
    /// How often the database is asked which chains are followed, and whether a claim can be had.
    pub check_interval: Duration,
    /// How long a claim lasts unless it is renewed: what a process that was killed followed waits as long for another one.
    pub lease_duration: Duration,
    /// The pause between looks for new blocks where no node announces them.
    pub poll_interval: Duration,
    /// How long a chain must stay shorter than what is recorded until the rest is withdrawn.
    pub rollback_patience: Duration,
    /// How patient calls to nodes are.
    pub limits: CallLimits,
    /// Where it is shown how far following is.
    pub metrics: Metrics,
    /// Tells the time.
    pub clock: Clock,
}

impl FollowersOptions {
    /// The usual ones.
    #[must_use]
    pub fn new(owner: &str, metrics: Metrics) -> Self {
        let usual = FollowerConfig::default();
        Self {
            owner: owner.to_owned(),
            check_interval: Duration::from_secs(2),
            lease_duration: Duration::from_secs(15),
            poll_interval: usual.poll_interval,
            rollback_patience: usual.rollback_patience,
            limits: CallLimits::default(),
            metrics,
            clock: system_clock(),
        }
    }
}

impl std::fmt::Debug for FollowersOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FollowersOptions")
            .field("owner", &self.owner)
            .field("check_interval", &self.check_interval)
            .field("lease_duration", &self.lease_duration)
            .field("poll_interval", &self.poll_interval)
            .finish_non_exhaustive()
    }
}

/// Follows chains until it is told to stop. Its owner spawns [`Followers::run`] and awaits it after cancelling the token.
#[derive(Clone, Debug)]
pub struct Followers {
    parts: Parts,
}

/// What the tasks share.
#[derive(Clone)]
struct Parts {
    database: Arc<dyn Database>,
    options: Arc<FollowersOptions>,
    /// Distinguishes this process from others of its name.
    owner: Arc<str>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// A chain that has a task.
struct Running {
    tenant: Tenant,
    chain: FollowedChain,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// Ends the task and waits for its end.
    async fn end(self, metrics: &Metrics) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(tenant = self.tenant.name, %error, "following a chain ended with a panic");
        }
        metrics.following().ended(&self.tenant.name);
    }
}

impl Followers {
    /// Puts it together; nothing happens yet.
    #[must_use]
    pub fn new(database: Arc<dyn Database>, options: FollowersOptions) -> Self {
        let owner = format!("{}-{}", options.owner, uuid::Uuid::new_v4()).into();
        Self {
            parts: Parts {
                database,
                options: Arc::new(options),
                owner,
            },
        }
    }

    /// Follows until told to stop.
    pub async fn run(&self, stop: CancellationToken) {
        let options = &self.parts.options;
        let mut running = HashMap::new();
        while !stop.is_cancelled() {
            match self.parts.database.followed().await {
                Ok(followed) => self.adjust(&mut running, followed).await,
                Err(error) => tracing::warn!(%error, "cannot read which chains are followed, trying again"),
            }
            let _ = stop.run_until_cancelled(tokio::time::sleep(options.check_interval)).await;
        }
        running.values().for_each(|running: &Running| running.stop.cancel());
        for (_, running) in running {
            running.end(&options.metrics).await;
        }
    }

    /// Starts and ends tasks so that each followed chain has one.
    async fn adjust(&self, running: &mut HashMap<TenantId, Running>, followed: Vec<(Tenant, FollowedChain)>) {
        let wanted: HashMap<TenantId, (Tenant, FollowedChain)> = followed
            .into_iter()
            .filter(|(tenant, _)| !tenant.disabled)
            .map(|(tenant, chain)| (tenant.id, (tenant, chain)))
            .collect();
        let stale: Vec<TenantId> = running
            .iter()
            .filter(|(id, running)| running.task.is_finished() || wanted.get(id).is_none_or(|(_, chain)| *chain != running.chain))
            .map(|(id, _)| *id)
            .collect();
        for id in stale {
            if let Some(ended) = running.remove(&id) {
                ended.end(&self.parts.options.metrics).await;
            }
        }
        for (id, (tenant, chain)) in wanted {
            running.entry(id).or_insert_with(|| {
                let stop = CancellationToken::new();
                let task = Task {
                    parts: self.parts.clone(),
                    tenant: tenant.clone(),
                    chain: chain.clone(),
                };
                Running {
                    task: tokio::spawn(task.run(stop.clone())),
                    tenant,
                    chain,
                    stop,
                }
            });
        }
    }
}

/// Follows one chain.
struct Task {
    parts: Parts,
    tenant: Tenant,
    chain: FollowedChain,
}

impl Task {
    /// Waits for the claim, follows while it holds, and so on until told to stop.
    async fn run(self, stop: CancellationToken) {
        let mut reported = false;
        while !stop.is_cancelled() {
            match self.lead(&stop).await {
                Ok(()) => {}
                Err(error) if !reported => {
                    tracing::error!(tenant = self.tenant.name, %error, "the chain cannot be followed as it is configured");
                    reported = true;
                }
                Err(_) => {}
            }
            let options = &self.parts.options;
            let pause = options.check_interval.min(options.lease_duration / 3);
            let _ = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
        let options = &self.parts.options;
        let now_ms = (options.clock)();
        if let Err(error) = self.claim(now_ms, now_ms, FollowProgress::default()).await {
            tracing::debug!(tenant = self.tenant.name, %error, "the claim to follow the chain ends by its time");
        }
    }

    /// Follows for as long as this process has the claim.
    async fn lead(&self, stop: &CancellationToken) -> Result<(), ChainError> {
        let options = &self.parts.options;
        if !self.renew(FollowProgress::default()).await {
            return Ok(());
        }
        let mut follower = self.follower()?;
        let store = self.parts.database.store(&self.tenant);
        let mut recorder = Recorder::new(&self.tenant.name, self.tenant.chain_id, store, options.metrics.clone());
        tracing::info!(
            tenant = self.tenant.name,
            chain_id = self.tenant.chain_id,
            nodes = self.chain.urls.len(),
            "following the chain"
        );
        let mut renewed = Instant::now();
        while !stop.is_cancelled() {
            // A step that was begun is finished: it is one write at most, and calls to nodes have limits.
            let step = recorder.step(&mut follower).await;
            if renewed.elapsed() >= options.lease_duration / 3 {
                if !self.renew(progress(&follower, &recorder)).await {
                    tracing::info!(tenant = self.tenant.name, "another process follows the chain now");
                    break;
                }
                renewed = Instant::now();
            }
            let next_renewal = (options.lease_duration / 3).saturating_sub(renewed.elapsed());
            tokio::select! {
                () = stop.cancelled() => {}
                () = step.pause(&mut follower) => {}
                () = tokio::time::sleep(next_renewal) => {}
            }
        }
        options.metrics.following().ended(&self.tenant.name);
        if stop.is_cancelled() {
            self.renew(progress(&follower, &recorder)).await;
        }
        Ok(())
    }

    /// Renews the claim; says whether this process has it. If the database cannot say, the claim is over: the process that has a database will
    /// follow.
    async fn renew(&self, progress: FollowProgress) -> bool {
        let now_ms = (self.parts.options.clock)();
        let lease_ms = u64::try_from(self.parts.options.lease_duration.as_millis()).unwrap_or(u64::MAX);
        match self.claim(now_ms, now_ms.saturating_add(lease_ms), progress).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::warn!(tenant = self.tenant.name, %error, "the claim to follow the chain cannot be renewed");
                false
            }
        }
    }

    async fn claim(&self, now_ms: u64, until_ms: u64, progress: FollowProgress) -> Result<bool, StoreError> {
        let claim = FollowClaim {
            owner: &self.parts.owner,
            now_ms,
            until_ms,
            progress,
        };
        self.parts.database.claim_following(self.tenant.id, claim).await
    }

    fn follower(&self) -> Result<Follower, ChainError> {
        let options = &self.parts.options;
        let addresses = HostAddresses {
            acl: self.tenant.acl,
            executor: self.chain.executor,
            input_verifier: self.tenant.input_verifier,
            // Following reads nothing of the others.
            ..HostAddresses::of_deployer(Address::ZERO)
        };
        let chain = HostChain::connect_all(&self.chain.urls, addresses, options.limits, Some(self.tenant.chain_id))?;
        let config = FollowerConfig {
            first_block: self.chain.first_block,
            poll_interval: options.poll_interval,
            finality_depth: self.chain.finality_depth,
            rollback_patience: options.rollback_patience,
            checks_receipts: self.chain.checks_receipts,
            ..FollowerConfig::default()
        };
        Ok(Follower::new(chain, config))
    }
}

fn progress(follower: &Follower, recorder: &Recorder) -> FollowProgress {
    let head = follower.head();
    let recorded = recorder.newest().map(|newest| newest.number);
    let final_block = head.and_then(|head| head.final_block).zip(recorded);
    let reached = recorder
        .reached()
        .and_then(|reached: SystemTime| reached.duration_since(UNIX_EPOCH).ok());
    FollowProgress {
        head: head.map(|head| head.number),
        recorded,
        final_block: final_block.map(|(final_block, recorded)| final_block.min(recorded)),
        reached_at_ms: reached.map(|since_epoch| u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)),
    }
}
