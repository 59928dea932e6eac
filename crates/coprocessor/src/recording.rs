//! From the chain into the store.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use cipherloom_chain::{BlockEvents, BlockId, FollowUpdate, Follower, GrantEvent, TransactionEvents};
use cipherloom_primitives::Handle;
use cipherloom_store::{BlockRef, Delegation, Grant, Grantee, RecordedBlock, RecordedTransaction, Store, StoreError};
use cipherloom_telemetry::transaction::{self, Past};
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::{
    Coprocessor, CoprocessorError,
    graph::Plan,
    metrics::{FollowingReading, Metrics},
    prepared::{self, Announcements},
};

/// The shortest and the longest pause after failures.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

impl Coprocessor {
    /// Follows the chain into the store until told to stop. Failures of the chain's node or the store are logged and
    /// retried with growing pauses.
    pub async fn record(&self, follower: Follower, stop: CancellationToken) {
        let (announcements, announced) = prepared::announcements();
        let until = stop.clone();
        let prepare = async {
            tokio::select! {
                () = until.cancelled() => {}
                () = self.prepare(announced) => {}
            }
        };
        tokio::join!(self.follow(follower, announcements, stop), prepare);
    }

    async fn follow(&self, mut follower: Follower, announcements: Announcements, stop: CancellationToken) {
        let mut recorder = Recorder {
            announcements: Some(announcements),
            ..self.recorder()
        };
        while !stop.is_cancelled() {
            let step = recorder.step(&mut follower).await;
            if matches!(step, Step::Changed) {
                self.notify_change();
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = step.pause(&mut follower) => {}
            }
        }
    }

    /// Records blocks, all or nothing, and wakes the workers.
    ///
    /// # Errors
    /// [`CoprocessorError::Store`], also if the blocks do not continue the recorded ones.
    pub async fn record_blocks(&self, blocks: &[BlockEvents]) -> Result<(), CoprocessorError> {
        self.recorder().record_blocks(blocks).await?;
        self.notify_change();
        Ok(())
    }

    /// Withdraws blocks that the chain removed, with their grants and unfinished transactions.
    ///
    /// # Errors
    /// [`CoprocessorError::Store`].
    pub async fn remove_blocks_from(&self, first_removed: u64) -> Result<(), CoprocessorError> {
        tracing::warn!(first_removed, "the chain reorganised");
        self.store().remove_blocks_from(self.chain_id(), first_removed).await?;
        self.notify_change();
        Ok(())
    }

    fn recorder(&self) -> Recorder {
        let config = self.config();
        Recorder::new(&config.tenant, self.chain_id(), Arc::clone(self.store()), config.metrics.clone())
    }
}

/// Takes what followers find into the store of one tenant. It needs no keys.
pub(crate) struct Recorder {
    tenant: String,
    chain_id: u64,
    store: Arc<dyn Store>,
    metrics: Metrics,
    backoff: Duration,
    /// The newest recorded block, as the last step found or left it.
    newest: Option<BlockRef>,
    reached: Option<SystemTime>,
    /// Who is told of values that may soon be asked for, to prepare them.
    announcements: Option<Announcements>,
}

/// What came of a step.
pub(crate) enum Step {
    /// Nothing is new.
    UpToDate,
    /// What is recorded changed, and there may be more.
    Changed,
    /// It failed and should be tried again after a pause.
    Failed(Duration),
}

impl Step {
    /// Waits until the next step should be taken.
    pub(crate) async fn pause(&self, follower: &mut Follower) {
        match self {
            Self::UpToDate => follower.wait().await,
            Self::Changed => {}
            Self::Failed(pause) => tokio::time::sleep(*pause).await,
        }
    }
}

impl Recorder {
    pub(crate) fn new(tenant: &str, chain_id: u64, store: Arc<dyn Store>, metrics: Metrics) -> Self {
        Self {
            tenant: tenant.to_owned(),
            chain_id,
            store,
            metrics,
            backoff: Duration::ZERO,
            newest: None,
            reached: None,
            announcements: None,
        }
    }

    /// Returns the newest recorded block, as far as this knows.
    pub(crate) const fn newest(&self) -> Option<&BlockRef> {
        self.newest.as_ref()
    }

    /// Returns when the chain was last reached.
    pub(crate) const fn reached(&self) -> Option<SystemTime> {
        self.reached
    }

    /// Takes one step. Failures are logged and counted.
    pub(crate) async fn step(&mut self, follower: &mut Follower) -> Step {
        let step = match self.next(follower).await {
            Ok(changed) => {
                self.backoff = Duration::ZERO;
                self.reached = Some(SystemTime::now());
                if changed { Step::Changed } else { Step::UpToDate }
            }
            Err(error) => {
                self.backoff = self.backoff.saturating_mul(2).clamp(BACKOFF.0, BACKOFF.1);
                self.metrics.following().failed(&self.tenant);
                tracing::warn!(tenant = self.tenant, %error, pause_ms = self.backoff.as_millis(), "following the chain failed, trying again");
                Step::Failed(self.backoff)
            }
        };
        self.show(follower);
        step
    }

    /// Says whether what is recorded changed.
    async fn next(&mut self, follower: &mut Follower) -> Result<bool, RecordError> {
        let recent = self.store.recent_blocks(self.chain_id, follower.blocks_to_compare()).await?;
        self.newest = recent.first().copied();
        let recorded: Vec<BlockId> = recent
            .iter()
            .map(|block| BlockId {
                number: block.number,
                hash: block.hash,
            })
            .collect();
        let update = follower.poll(&recorded).await?;
        match &update {
            FollowUpdate::UpToDate => Ok(false),
            FollowUpdate::Blocks(blocks) => {
                self.newest = self.record_blocks(blocks).await?.or(self.newest);
                if let Some(announcements) = &self.announcements {
                    announcements.announce(&update);
                }
                Ok(true)
            }
            FollowUpdate::Reorganised { first_removed } => {
                let first_removed = *first_removed;
                let newest = recorded.first().map_or(first_removed, |block| block.number);
                tracing::warn!(
                    tenant = self.tenant,
                    first_removed,
                    newest,
                    "the chain reorganised; recorded blocks are withdrawn"
                );
                self.store.remove_blocks_from(self.chain_id, first_removed).await?;
                self.metrics
                    .following()
                    .reorganised(&self.tenant, newest.saturating_sub(first_removed).saturating_add(1));
                self.newest = recent.iter().find(|block| block.number < first_removed).copied();
                Ok(true)
            }
        }
    }

    /// Records blocks, all or nothing, and returns the newest of them.
    async fn record_blocks(&self, blocks: &[BlockEvents]) -> Result<Option<BlockRef>, StoreError> {
        let recorded: Vec<RecordedBlock> = blocks.iter().map(|block| recorded_block(self.chain_id, block)).collect();
        let start = SystemTime::now();
        self.store.record_blocks(self.chain_id, &recorded).await?;
        let transactions = recorded.iter().flat_map(|block| &block.transactions);
        trace_recorded(&self.tenant, start, transactions);
        Ok(recorded.last().map(|recorded| recorded.block))
    }

    fn show(&self, follower: &Follower) {
        let (Some(head), Some(reached)) = (follower.head(), self.reached) else {
            return;
        };
        let recorded = self.newest.unwrap_or(BlockRef {
            number: 0,
            hash: Default::default(),
            parent_hash: Default::default(),
            timestamp: head.timestamp,
        });
        let behind = head.number > recorded.number;
        let lag = if behind {
            head.timestamp.saturating_sub(recorded.timestamp)
        } else {
            0
        };
        let reading = FollowingReading {
            head: head.number,
            recorded: recorded.number,
            final_block: head.final_block.unwrap_or_default().min(recorded.number),
            lag_seconds: Duration::from_secs(lag).as_secs_f64(),
            unreached_seconds: reached.elapsed().unwrap_or_default().as_secs_f64(),
        };
        self.metrics.following().set(&self.tenant, &reading);
    }
}

/// Sends spans for transactions that were recorded just now, if traces are sent at all.
pub(crate) fn trace_recorded<'a>(tenant: &str, start: SystemTime, transactions: impl IntoIterator<Item = &'a RecordedTransaction>) {
    if !transaction::is_traced() {
        return;
    }
    let (span, end) = (Span::current(), SystemTime::now());
    for recorded in transactions.into_iter().filter(|recorded| !recorded.computations.is_empty()) {
        let past = Past {
            name: "record",
            start,
            end,
            attributes: vec![
                ("tenant", tenant.to_owned()),
                ("transaction", recorded.hash.to_string()),
                ("computations", recorded.computations.len().to_string()),
            ],
            failure: None,
        };
        transaction::past(&recorded.hash, past, &span);
    }
}

/// Why a step of following failed; only for the log.
#[derive(Debug, thiserror::Error)]
enum RecordError {
    #[error(transparent)]
    Chain(#[from] cipherloom_chain::ChainError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn recorded_block(chain_id: u64, block: &BlockEvents) -> RecordedBlock {
    RecordedBlock {
        block: BlockRef {
            number: block.number,
            hash: block.hash,
            parent_hash: block.parent_hash,
            timestamp: block.timestamp,
        },
        transactions: block
            .transactions
            .iter()
            .map(|transaction| recorded_transaction(chain_id, transaction))
            .collect(),
    }
}

fn recorded_transaction(chain_id: u64, transaction: &TransactionEvents) -> RecordedTransaction {
    let grants: Vec<Grant> = transaction.grants.iter().map(grant).collect();
    let outputs = outputs(transaction, &grants);
    // A transaction that cannot be planned fails as a whole when it is evaluated, and waits for nothing before.
    let plan = Plan::new(chain_id, &transaction.computations, &outputs);
    let boundary = plan.map(|plan| plan.boundary.into_iter().collect()).unwrap_or_default();
    let delegation = |event: &cipherloom_chain::DelegationEvent| Delegation {
        delegator: event.delegator,
        delegate: event.delegate,
        contract: event.contract,
        expires_at: event.expires_at,
    };
    RecordedTransaction {
        hash: transaction.hash,
        index: transaction.index,
        computations: transaction.computations.clone(),
        boundary,
        outputs,
        grants,
        delegations: transaction.delegations.iter().map(delegation).collect(),
    }
}

fn grant(event: &GrantEvent) -> Grant {
    match event {
        GrantEvent::Account { handle, account } => Grant {
            handle: *handle,
            grantee: Grantee::Account(*account),
        },
        GrantEvent::PublicDecryption { handle } => Grant {
            handle: *handle,
            grantee: Grantee::PublicDecryption,
        },
    }
}

/// Finds what leaves the transaction: what it computed and granted, in event order and without repetition.
fn outputs(transaction: &TransactionEvents, grants: &[Grant]) -> Vec<Handle> {
    let granted: std::collections::BTreeSet<Handle> = grants.iter().map(|grant| grant.handle).collect();
    let mut seen = std::collections::BTreeSet::new();
    transaction
        .computations
        .iter()
        .map(|computation| computation.result)
        .filter(|result| granted.contains(result) && seen.insert(*result))
        .collect()
}
