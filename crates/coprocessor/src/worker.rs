//! Workers: lease, load, evaluate, publish.
//!
//! A worker is stopped between two computations, gives its lease back and ends; it is safe to kill at any instant. The
//! lease is renewed while the evaluation runs, at a third of its duration, so it outlives two failed renewals.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use cipherloom_store::{Finished, Lease, LeaseRequest, LeasedTransaction, OutputFailure, StoreError};
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::{
    Coprocessor,
    evaluation::Evaluator,
    loading::{Loaded, load},
    progress::Progress,
};

/// The pause after the store failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// How often results are offered to a store that is busy.
const PUBLISH_ATTEMPTS: u32 = 5;

/// How an evaluation ended.
enum Evaluated {
    /// With results to publish.
    Finished(Finished),
    /// Because it was told to stop.
    Stopped,
    /// Because the transaction is another worker's now, or withdrawn.
    LeaseLost,
    /// With a panic of the computing thread.
    Panicked,
}

impl Coprocessor {
    /// Computes recorded transactions until told to stop, then gives unfinished ones back.
    pub async fn work(&self, stop: CancellationToken) {
        let workers = (0..self.config().workers.max(1)).map(|number| self.work_alone(number, stop.clone()));
        join_all(workers).await;
    }

    async fn work_alone(&self, number: usize, stop: CancellationToken) {
        let owner = format!("{}/{number}", self.config().owner);
        let mut changes = self.changes();
        while !stop.is_cancelled() {
            // Marked as seen before looking, so that a change while looking is not missed.
            changes.mark_unchanged();
            let pause = match self.work_once(&owner, &stop).await {
                Ok(true) => continue,
                Ok(false) => self.config().idle_poll,
                Err(error) => {
                    tracing::error!(%error, owner, "the store failed, trying again");
                    STORE_PAUSE
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                _ = changes.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Computes one transaction; says whether there was one.
    async fn work_once(&self, owner: &str, stop: &CancellationToken) -> Result<bool, StoreError> {
        let config = self.config();
        let request = LeaseRequest {
            chain_id: self.chain_id(),
            owner: owner.to_owned(),
            now_ms: (config.clock)(),
            duration_ms: u64::try_from(config.lease_duration.as_millis()).unwrap_or(u64::MAX),
            limit: 1,
        };
        let Some(transaction) = self.store().lease_transactions(&request).await?.into_iter().next() else {
            return Ok(false);
        };
        self.process(transaction, stop).await?;
        Ok(true)
    }

    async fn process(&self, transaction: LeasedTransaction, stop: &CancellationToken) -> Result<(), StoreError> {
        let start = Instant::now();
        let lease = transaction.lease.clone();
        let (hash, attempts) = (transaction.hash, transaction.attempts);
        let outputs = transaction.outputs.clone();
        let evaluated = if attempts > self.config().max_attempts {
            Evaluated::Finished(all_failed(
                &outputs,
                &format!("given up after {} attempts", self.config().max_attempts),
            ))
        } else {
            match load(self.store().as_ref(), &transaction).await {
                Ok(loaded) => self.evaluate(transaction, loaded, stop).await,
                Err(error) => {
                    // If this fails too, the lease expires.
                    let _ = self.store().release_lease(&lease).await;
                    return Err(error);
                }
            }
        };
        let finished = match evaluated {
            Evaluated::Finished(finished) => finished,
            Evaluated::Stopped => return self.store().release_lease(&lease).await,
            Evaluated::LeaseLost => return Ok(()),
            Evaluated::Panicked if attempts < self.config().max_attempts => {
                // The lease is left to expire: that is the pause before the next attempt, and the attempt counts.
                tracing::error!(transaction = %hash, attempts, "evaluation panicked");
                return Ok(());
            }
            Evaluated::Panicked => all_failed(&outputs, "internal error: evaluation panicked"),
        };
        for failure in &finished.failures {
            tracing::warn!(transaction = %hash, handle = %failure.handle, reason = failure.reason, "cannot be computed");
        }
        match self.publish(&lease, &finished).await {
            Err(StoreError::LeaseLost { .. }) => tracing::info!(transaction = %hash, "results dropped: the lease was lost"),
            Err(error) => return Err(error),
            Ok(()) => self.report(Progress::Transaction {
                transaction: hash,
                outputs: finished.ciphertexts.len(),
                failures: finished.failures.len(),
                seconds: start.elapsed().as_secs_f64(),
            }),
        }
        self.notify_change();
        Ok(())
    }

    /// Publishes results, trying again while the store is only busy: they took long to compute.
    async fn publish(&self, lease: &Lease, finished: &Finished) -> Result<(), StoreError> {
        for _ in 1..PUBLISH_ATTEMPTS {
            match self.store().finish_transaction(lease, finished).await {
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, "publishing results failed, trying again");
                    tokio::time::sleep(STORE_PAUSE).await;
                }
                other => return other,
            }
        }
        self.store().finish_transaction(lease, finished).await
    }

    /// Evaluates on a blocking thread, renewing the lease meanwhile.
    async fn evaluate(&self, transaction: LeasedTransaction, loaded: Loaded, stop: &CancellationToken) -> Evaluated {
        let lease = transaction.lease.clone();
        let stop_evaluation = Arc::new(AtomicBool::new(false));
        // If this future is dropped, the thread notices and ends after the computation it is at.
        let _stop_on_drop = StopOnDrop(Arc::clone(&stop_evaluation));
        let coprocessor = self.clone();
        let thread_stop = Arc::clone(&stop_evaluation);
        let mut evaluation = tokio::task::spawn_blocking(move || {
            let evaluator = Evaluator {
                backend: coprocessor.backend().as_ref(),
                chain_id: coprocessor.chain_id(),
                key_set_id: coprocessor.config().key_set_id,
                stop: &thread_stop,
                finished: &|computation| coprocessor.report(Progress::Computation(computation)),
            };
            evaluator.evaluate(&transaction, loaded)
        });
        let mut lease_lost = false;
        let result = loop {
            tokio::select! {
                result = &mut evaluation => break result,
                () = stop.cancelled(), if !stop_evaluation.load(Ordering::Relaxed) => stop_evaluation.store(true, Ordering::Relaxed),
                () = tokio::time::sleep(self.config().lease_duration / 3) => {
                    if self.renew(&lease).await.is_err() {
                        lease_lost = true;
                        stop_evaluation.store(true, Ordering::Relaxed);
                    }
                }
            }
        };
        match result {
            _ if lease_lost => Evaluated::LeaseLost,
            Ok(Some(finished)) => Evaluated::Finished(finished),
            Ok(None) => Evaluated::Stopped,
            Err(_) => Evaluated::Panicked,
        }
    }

    /// Renews a lease; fails only if it is certainly lost.
    async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
        let duration_ms = u64::try_from(self.config().lease_duration.as_millis()).unwrap_or(u64::MAX);
        match self
            .store()
            .renew_lease(lease, (self.config().clock)().saturating_add(duration_ms))
            .await
        {
            Err(error @ StoreError::LeaseLost { .. }) => Err(error),
            Err(error) => {
                tracing::warn!(%error, "renewing a lease failed, trying again");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn all_failed(outputs: &[cipherloom_primitives::Handle], reason: &str) -> Finished {
    let failures = outputs
        .iter()
        .map(|handle| OutputFailure {
            handle: *handle,
            reason: reason.to_owned(),
        })
        .collect();
    Finished {
        ciphertexts: Vec::new(),
        failures,
    }
}
