//! From the chain into the store.

use std::time::{Duration, SystemTime};

use cipherloom_chain::{BlockEvents, BlockId, FollowUpdate, Follower, GrantEvent, TransactionEvents};
use cipherloom_primitives::Handle;
use cipherloom_store::{BlockRef, Delegation, Grant, Grantee, RecordedBlock, RecordedTransaction};
use cipherloom_telemetry::transaction::{self, Past};
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::{Coprocessor, CoprocessorError, graph::Plan};

/// How many recorded blocks are compared with the chain to find where it reorganised.
const COMPARED_BLOCKS: u32 = 64;

/// The shortest and the longest pause after failures.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

impl Coprocessor {
    /// Follows the chain into the store until told to stop. Failures of the chain's node or the store are logged and
    /// retried with growing pauses.
    pub async fn record(&self, mut follower: Follower, stop: CancellationToken) {
        let interval = follower.poll_interval();
        let mut backoff = Duration::ZERO;
        while !stop.is_cancelled() {
            let pause = match self.record_next(&mut follower).await {
                Ok(more) => {
                    backoff = Duration::ZERO;
                    if more { Duration::ZERO } else { interval }
                }
                Err(error) => {
                    backoff = backoff.saturating_mul(2).clamp(BACKOFF.0, BACKOFF.1);
                    tracing::warn!(%error, pause_ms = backoff.as_millis(), "following the chain failed, trying again");
                    backoff
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Takes one step; says whether there may be more to do at once.
    async fn record_next(&self, follower: &mut Follower) -> Result<bool, RecordError> {
        let recent = self.store().recent_blocks(self.chain_id(), COMPARED_BLOCKS).await?;
        let recent: Vec<BlockId> = recent
            .iter()
            .map(|block| BlockId {
                number: block.number,
                hash: block.hash,
            })
            .collect();
        match follower.poll(&recent).await? {
            FollowUpdate::UpToDate => Ok(false),
            FollowUpdate::Blocks(blocks) => {
                self.record_blocks(&blocks).await?;
                Ok(true)
            }
            FollowUpdate::Reorganised { first_removed } => {
                self.remove_blocks_from(first_removed).await?;
                Ok(true)
            }
        }
    }

    /// Records blocks, all or nothing, and wakes the workers.
    ///
    /// # Errors
    /// [`CoprocessorError::Store`], also if the blocks do not continue the recorded ones.
    pub async fn record_blocks(&self, blocks: &[BlockEvents]) -> Result<(), CoprocessorError> {
        let recorded: Vec<RecordedBlock> = blocks.iter().map(|block| recorded_block(self.chain_id(), block)).collect();
        let start = SystemTime::now();
        self.store().record_blocks(self.chain_id(), &recorded).await?;
        let transactions = recorded.iter().flat_map(|block| &block.transactions);
        trace_recorded(&self.config().tenant, start, transactions);
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
    Store(#[from] cipherloom_store::StoreError),
    #[error(transparent)]
    Coprocessor(#[from] CoprocessorError),
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
