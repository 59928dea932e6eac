//! Workers: lease, load, evaluate, publish.
//!
//! Up to [`workers`](crate::CoprocessorConfig::workers) transactions are under way at a time, in the order in which the store leases them.
//! All are evaluated by the threads of one engine, so that their bootstraps share batches; earlier ones go first.
//!
//! A worker that is stopped cancels its evaluation, gives its lease back and ends; it is safe to kill at any instant. The
//! lease is renewed while the transaction is under way, at a third of its duration, so it outlives two failed renewals.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cipherloom_engine::EngineError;
use cipherloom_primitives::Handle;
use cipherloom_store::{Finished, Lease, LeaseRequest, LeasedTransaction, OutputFailure, StoreError, TransactionNumber};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    Coprocessor,
    evaluation::{Ciphertexts, Compiled, Reader},
    loading::{load, missing_outputs},
    progress::Progress,
};

/// The pause after the store failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// How often results are offered to a store that is busy.
const PUBLISH_ATTEMPTS: u32 = 5;

/// How often the progress of an evaluation is reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// How an evaluation ended.
pub(crate) enum Evaluated {
    /// With results to publish.
    Finished { finished: Finished, bootstraps: u64 },
    /// Because it was told to stop.
    Stopped,
    /// Because the transaction is another worker's now, or withdrawn.
    LeaseLost,
    /// With a panic of a computing thread.
    Panicked,
}

impl Coprocessor {
    /// Computes recorded transactions until told to stop, then gives unfinished ones back. Packs old values meanwhile.
    pub async fn work(&self, stop: CancellationToken) {
        tokio::join!(self.compute_transactions(&stop), self.cool(stop.clone()));
    }

    async fn compute_transactions(&self, stop: &CancellationToken) {
        let limit = self.config().workers.max(1);
        let mut changes = self.changes();
        let mut under_way = JoinSet::new();
        while !stop.is_cancelled() {
            // Marked as seen before looking, so that a change while looking is not missed.
            changes.mark_unchanged();
            let free = limit.saturating_sub(under_way.len());
            let pause = match self.lease(free).await {
                Ok(transactions) => {
                    for transaction in transactions {
                        let (coprocessor, stop) = (self.clone(), stop.clone());
                        under_way.spawn(async move { coprocessor.work_on(transaction, &stop).await });
                    }
                    self.config().idle_poll
                }
                Err(error) => {
                    tracing::error!(%error, "the store failed, trying again");
                    STORE_PAUSE
                }
            };
            let room = under_way.len() < limit;
            tokio::select! {
                () = stop.cancelled() => {}
                Some(_) = under_way.join_next() => {}
                _ = changes.changed(), if room => {}
                () = tokio::time::sleep(pause), if room => {}
            }
        }
        while under_way.join_next().await.is_some() {}
    }

    async fn lease(&self, limit: usize) -> Result<Vec<LeasedTransaction>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let config = self.config();
        let request = LeaseRequest {
            chain_id: self.chain_id(),
            owner: config.owner.clone(),
            now_ms: (config.clock)(),
            duration_ms: u64::try_from(config.lease_duration.as_millis()).unwrap_or(u64::MAX),
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
            first: Vec::new(),
        };
        self.store().lease_transactions(&request).await
    }

    async fn work_on(&self, transaction: LeasedTransaction, stop: &CancellationToken) {
        let hash = transaction.hash;
        if let Err(error) = self.process(transaction, stop).await {
            tracing::error!(%error, transaction = %hash, "the store failed, trying again");
            // The place stays taken meanwhile, so that a store that fails is not asked all the time.
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(STORE_PAUSE) => {}
            }
        }
    }

    async fn process(&self, transaction: LeasedTransaction, stop: &CancellationToken) -> Result<(), StoreError> {
        let start = Instant::now();
        let (hash, lease, attempts) = (transaction.hash, &transaction.lease, transaction.attempts);
        let all_failed = |reason: &str| all_failed(&transaction.outputs, reason);
        let max_attempts = self.config().max_attempts;
        let evaluated = if attempts > max_attempts {
            all_failed(&format!("given up after {max_attempts} attempts"))
        } else {
            match self.evaluate_under_lease(&transaction, stop).await {
                Ok(evaluated) => evaluated,
                Err(error) => {
                    // If this fails too, the lease expires.
                    let _ = self.store().release_lease(lease).await;
                    return Err(error);
                }
            }
        };
        let evaluated = match evaluated {
            Evaluated::Panicked if attempts >= max_attempts => all_failed("internal error: evaluation panicked"),
            other => other,
        };
        let (finished, bootstraps) = match evaluated {
            Evaluated::Finished { finished, bootstraps } => (finished, bootstraps),
            Evaluated::Stopped => return self.store().release_lease(lease).await,
            Evaluated::LeaseLost => {
                tracing::info!(transaction = %hash, "evaluation ended: the lease was lost");
                return Ok(());
            }
            Evaluated::Panicked => {
                // The lease is left to expire: that is the pause before the next attempt, and the attempt counts.
                tracing::error!(transaction = %hash, attempts, "evaluation panicked");
                return Ok(());
            }
        };
        for failure in &finished.failures {
            tracing::warn!(transaction = %hash, handle = %failure.handle, reason = failure.reason, "cannot be computed");
        }
        match self.publish(lease, &finished).await {
            Err(StoreError::LeaseLost { .. }) => tracing::info!(transaction = %hash, "results dropped: the lease was lost"),
            Err(error) => return Err(error),
            Ok(_) => {
                let (outputs, failures) = (finished.ciphertexts.len(), finished.failures.len());
                let seconds = start.elapsed().as_secs_f64();
                tracing::info!(transaction = %hash, outputs, failures, bootstraps, seconds, "published");
                self.report(Progress::Transaction {
                    transaction: hash,
                    outputs,
                    failures,
                    bootstraps,
                    seconds,
                });
            }
        }
        self.notify_change();
        Ok(())
    }

    /// Publishes results, trying again while the store is only busy: they took long to compute.
    async fn publish(&self, lease: &Lease, finished: &Finished) -> Result<Vec<TransactionNumber>, StoreError> {
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

    /// Evaluates, renewing the lease meanwhile. An evaluation that is told to stop is cancelled by dropping it.
    async fn evaluate_under_lease(&self, transaction: &LeasedTransaction, stop: &CancellationToken) -> Result<Evaluated, StoreError> {
        let mut evaluation = std::pin::pin!(self.evaluate(transaction));
        loop {
            tokio::select! {
                evaluated = &mut evaluation => return evaluated,
                () = stop.cancelled() => return Ok(Evaluated::Stopped),
                () = tokio::time::sleep(self.config().lease_duration / 3) => {
                    if self.renew(&transaction.lease).await.is_err() {
                        return Ok(Evaluated::LeaseLost);
                    }
                }
            }
        }
    }

    async fn evaluate(&self, transaction: &LeasedTransaction) -> Result<Evaluated, StoreError> {
        let missing = missing_outputs(self.store().as_ref(), &transaction.outputs).await?;
        let (coprocessor, computations) = (self.clone(), transaction.computations.clone());
        let compile = move || Compiled::new(coprocessor.engine().engine(), coprocessor.chain_id(), &computations, &missing);
        let compiled = match self.compute(compile).await {
            Ok(Ok(compiled)) => compiled,
            Ok(Err(error)) => return Ok(all_failed(&transaction.outputs, &error.to_string())),
            Err(ended) => return Ok(ended),
        };
        let loaded = load(self.store().as_ref(), &compiled.needed).await?;
        let ciphertexts = self.ciphertexts();
        let reader = Reader {
            transaction: transaction.hash,
            block: transaction.block_number,
        };
        let given = match self.compute(move || ciphertexts.take_in(loaded, reader)).await {
            Ok(given) => given,
            Err(ended) => return Ok(ended),
        };
        self.report(Progress::Started {
            transaction: transaction.hash,
            operations: compiled.operations(),
            bootstraps: compiled.program.bootstraps(),
        });
        let mut evaluation = self.engine().submit(compiled.program.clone(), given.ciphertexts);
        let evaluated = loop {
            tokio::select! {
                evaluated = &mut evaluation => break evaluated,
                () = tokio::time::sleep(REPORT_INTERVAL) => {
                    let done = evaluation.done();
                    self.report(Progress::Evaluating { transaction: transaction.hash, done: done.tasks, of: done.of });
                }
            }
        };
        let (outputs, bootstraps) = match evaluated {
            Ok(evaluated) => (evaluated.outputs, evaluated.bootstraps),
            Err(EngineError::Stopped) => return Ok(Evaluated::Stopped),
            Err(error) => {
                tracing::error!(transaction = %transaction.hash, %error, "the engine failed");
                return Ok(Evaluated::Panicked);
            }
        };
        let ciphertexts = self.ciphertexts();
        let finish = move || ciphertexts.finished(&compiled, &given.reasons, &outputs);
        Ok(match self.compute(finish).await {
            Ok(finished) => Evaluated::Finished { finished, bootstraps },
            Err(ended) => ended,
        })
    }

    pub(crate) fn ciphertexts(&self) -> Ciphertexts {
        Ciphertexts {
            backend: self.backend().clone(),
            key_set_id: self.key_set_id(),
            chain_id: self.chain_id(),
            hot_window: self.config().hot_window,
        }
    }

    /// Computes on a thread that may block, as soon as there is a processor for it.
    pub(crate) async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Evaluated> {
        let Ok(permit) = self.computing().acquire_owned().await else {
            return Err(Evaluated::Stopped);
        };
        let machine = Arc::clone(self.keyed_engine().machine());
        let computed = tokio::task::spawn_blocking(move || {
            // If nobody waits for the result any more, the processor is taken all the same until here.
            let result = machine.compute(work);
            drop(permit);
            result
        });
        computed.await.map_err(|error| {
            if error.is_panic() {
                Evaluated::Panicked
            } else {
                Evaluated::Stopped
            }
        })
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

fn all_failed(outputs: &[Handle], reason: &str) -> Evaluated {
    let failure = |handle: &Handle| OutputFailure {
        handle: *handle,
        reason: reason.to_owned(),
    };
    let finished = Finished {
        ciphertexts: Vec::new(),
        failures: outputs.iter().map(failure).collect(),
    };
    Evaluated::Finished { finished, bootstraps: 0 }
}
