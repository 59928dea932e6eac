//! Making blocks: what a proposer does, and what everybody does to come to a block.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256};
use tokio::time::Instant;

use super::{NativeChain, ProposedBlock, blocking, rules_of};
use crate::error::{NodeError, Result};
use crate::exec::BlockContext;
use crate::native::candidates::{Candidate, never_fits};
use crate::native::checks::{NotedChecks, Verdicts};
use crate::native::execute::BlockRun;
use crate::native::work::{BlockWork, CheckInputs, Results, compute_checked};
use crate::state::WorldState;

/// How long to wait before an executor that failed is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// How often to look at the clock while it is behind.
const CLOCK_PAUSE: Duration = Duration::from_millis(50);

/// An executed block that still has to be computed and sealed.
pub(super) struct Made {
    pub(super) run: BlockRun,
    pub(super) checks: Arc<NotedChecks>,
    pub(super) parent: B256,
    pub(super) height: u64,
}

impl NativeChain {
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
        let (state, context, waiting, parent) = {
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
        let mut queue = waiting.executable(run.state(), base_fee);
        while Instant::now() < until
            && let Some((_, (sender, nonce))) = queue.pop_first()
        {
            let Some(transaction) = waiting.of(&sender, nonce) else { continue };
            match run.run(transaction) {
                Ok(()) => queue.extend(waiting.queued(&sender, nonce.saturating_add(1), base_fee)),
                // What comes after it from the same sender must wait, too.
                Err(error) if never_fits(&error, gas_limit, &transaction.envelope) => {
                    tracing::debug!(hash = %transaction.hash, %error, "a waiting transaction cannot be in any block and is dropped");
                    dropped.push(transaction.hash);
                }
                Err(_) => {}
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

    pub(super) fn begin(&self, state: WorldState, mut context: BlockContext, known: Verdicts) -> Result<(BlockRun, Arc<NotedChecks>)> {
        let checks = Arc::new(NotedChecks::new(Arc::clone(&self.inner.checks), known));
        let inputs: Arc<dyn CheckInputs> = Arc::clone(&checks) as _;
        context.native = Some(Arc::new(rules_of(&self.inner.genesis, inputs)?));
        Ok((BlockRun::begin(state, context)?, checks))
    }

    /// Has an executed block computed, and seals it.
    pub(super) async fn complete(&self, made: Made, deadline: Instant) -> Result<Arc<Candidate>> {
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
    async fn results(&self, work: BlockWork, deadline: Instant) -> Result<Results> {
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

    pub(super) fn seal(&self, made: Made, results: Results) -> Result<Arc<Candidate>> {
        let signers = self.sets().at(made.height).cloned();
        let signers = signers.ok_or_else(|| NodeError::UnknownBlock(made.height.to_string()))?;
        let verdicts = made.checks.noted();
        // Whoever traces the block later is told what the checks said.
        let checks: Arc<dyn CheckInputs> = Arc::new(NotedChecks::new(Arc::clone(&self.inner.checks), verdicts.clone()));
        let rules = Arc::new(rules_of(&self.inner.genesis, checks)?);
        Candidate::of(made.run, results, verdicts, rules, made.parent, &signers).map(Arc::new)
    }
}
