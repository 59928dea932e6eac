//! One transaction under its lease: load, compile, take in, evaluate, write, publish.
//!
//! The lease is renewed while the transaction is under way, at a third of its duration, so it outlives two failed renewals.
//!
//! **Failures.** What may pass (the database cannot be reached, a connection is cut, the place of ciphertext bytes is full) is tried again with growing pauses for as long
//! as the lease is held; results that were computed are kept meanwhile. What does not pass, and a panic, ends the attempt: the lease is left to
//! expire, which is the pause before the next one, and the attempt counts. After [`max_attempts`](crate::CoprocessorConfig::max_attempts) all outputs are
//! marked failed with the reason, so that one transaction holds nobody up for ever.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use cipherloom_engine::{EngineError, Evaluation};
use cipherloom_primitives::{B256, Handle};
use cipherloom_store::{Finished, Lease, LeasedTransaction, OutputFailure, StoreError, TransactionNumber};
use cipherloom_telemetry::transaction::{self, Past};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, error_span, info_span};

use crate::{
    Coprocessor,
    backoff::Backoff,
    evaluation::{Ciphertexts, Compiled, Reader, Results},
    loading::{Heads, load},
    metrics::{Outcome, Retry, Stage},
    progress::{Progress, StageTimes},
};

/// How often the progress of an evaluation is reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// How an evaluation ended.
enum Evaluated {
    /// With results to publish.
    Finished { results: Results, bootstraps: u64 },
    /// Because its threads were stopped.
    Stopped,
    /// With a panic of a computing thread.
    Panicked,
}

/// Why there is nothing of something that was to be computed.
pub(crate) enum NotComputed {
    /// Its thread panicked.
    Panicked,
    /// Its thread was stopped with the process.
    Stopped,
}

impl From<NotComputed> for Evaluated {
    fn from(reason: NotComputed) -> Self {
        match reason {
            NotComputed::Panicked => Self::Panicked,
            NotComputed::Stopped => Self::Stopped,
        }
    }
}

/// How work on a transaction ended.
enum Ended {
    /// Its results are published.
    Published(Published),
    /// It was told to stop.
    Stopped,
    /// The transaction is another worker's now, or withdrawn.
    LeaseLost,
    /// A computing thread panicked.
    Panicked,
    /// The store failed for good.
    Failed(StoreError),
}

/// What was published for a transaction.
struct Published {
    /// The transactions that can run because of it.
    next: Vec<TransactionNumber>,
    outputs: usize,
    failures: usize,
    bootstraps: u64,
    outcome: Outcome,
}

impl Coprocessor {
    /// Works on a leased transaction until its results are published or it is told to stop, which gives the lease back. Returns the
    /// transactions that can run because of it.
    pub(crate) async fn process(&self, transaction: LeasedTransaction, stop: &CancellationToken) -> Vec<TransactionNumber> {
        let (hash, tenant) = (transaction.hash, self.config().tenant.as_str());
        // Part of every line that is logged about the transaction, whatever is logged.
        let span = error_span!("work", tenant, transaction = %hash, attempts = transaction.attempts);
        transaction::join(&span, &hash);
        Box::pin(self.finish(transaction, stop)).instrument(span).await
    }

    async fn finish(&self, transaction: LeasedTransaction, stop: &CancellationToken) -> Vec<TransactionNumber> {
        let start = Instant::now();
        let (hash, attempts, tenant) = (transaction.hash, transaction.attempts, self.config().tenant.as_str());
        let work = self.config().metrics.work();
        if attempts > 1 {
            work.retried(Retry::Attempt);
        }
        let mut times = StageTimes {
            queued: self.waited(&transaction),
            ..StageTimes::default()
        };
        let published = match self.under_lease(&transaction, &mut times, stop).await {
            Ended::Published(published) => published,
            Ended::Stopped => {
                if let Err(error) = self.store().release_lease(&transaction.lease).await {
                    tracing::warn!(%error, "a lease could not be given back; it expires");
                }
                return Vec::new();
            }
            Ended::LeaseLost => {
                work.lease_lost(tenant);
                tracing::info!("the lease was lost, what was done is thrown away");
                return Vec::new();
            }
            Ended::Panicked => {
                work.worker_failed();
                tracing::error!("evaluation panicked; it is tried again when its lease is over");
                return Vec::new();
            }
            Ended::Failed(error) => {
                work.worker_failed();
                tracing::error!(%error, "the store failed; the transaction is tried again when its lease is over");
                return Vec::new();
            }
        };
        let Published {
            outputs,
            failures,
            bootstraps,
            outcome,
            ..
        } = published;
        let took = start.elapsed();
        times.report(work);
        work.finished(tenant, outcome, times.queued.map(|queued| queued.saturating_add(took)));
        if failures > 0 {
            work.outputs_failed(tenant, failures);
        }
        let seconds = took.as_secs_f64();
        tracing::info!(outputs, failures, bootstraps, seconds, "published");
        self.trace(&transaction, &published, took);
        self.report(Progress::Transaction {
            transaction: hash,
            outputs,
            failures,
            bootstraps,
            seconds,
            times,
        });
        self.notify_change();
        published.next
    }

    /// Sends the span that contains what all processes did for a transaction, now that it is over.
    fn trace(&self, transaction: &LeasedTransaction, published: &Published, took: Duration) {
        if !transaction::is_traced() {
            return;
        }
        let end = SystemTime::now();
        let at = |ms| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms));
        let recorded = transaction.recorded_at_ms.and_then(at);
        let leased = end.checked_sub(took).unwrap_or(end);
        let past = Past {
            name: "transaction",
            start: recorded.unwrap_or(leased).min(end),
            end,
            attributes: vec![
                ("tenant", self.config().tenant.clone()),
                ("transaction", transaction.hash.to_string()),
                ("block", transaction.block_number.to_string()),
                ("outputs", published.outputs.to_string()),
                ("failures", published.failures.to_string()),
                ("bootstraps", published.bootstraps.to_string()),
                ("attempts", transaction.attempts.to_string()),
            ],
            failure: (published.failures > 0).then(|| "some outputs can never be computed".to_owned()),
        };
        transaction::whole(&transaction.hash, past);
    }

    /// Returns how long a transaction waited for its lease. The clocks of database and process may differ a little.
    fn waited(&self, transaction: &LeasedTransaction) -> Option<Duration> {
        let recorded_at_ms = transaction.recorded_at_ms?;
        Some(Duration::from_millis((self.config().clock)().saturating_sub(recorded_at_ms)))
    }

    /// Works on a transaction, renewing the lease meanwhile. Work that is told to stop is cancelled by dropping it.
    async fn under_lease(&self, transaction: &LeasedTransaction, times: &mut StageTimes, stop: &CancellationToken) -> Ended {
        let publishing = AtomicBool::new(false);
        let mut work = std::pin::pin!(self.evaluate_and_publish(transaction, times, &publishing));
        let mut lost = std::pin::pin!(self.keep_lease(&transaction.lease));
        let mut watched = true;
        loop {
            tokio::select! {
                ended = &mut work => return ended,
                () = stop.cancelled() => return Ended::Stopped,
                () = &mut lost, if watched => {
                    // A lease also ends by what is being published under it, which itself says whether it was lost.
                    if !publishing.load(Ordering::Relaxed) {
                        return Ended::LeaseLost;
                    }
                    watched = false;
                }
            }
        }
    }

    /// Renews a lease until it is certainly lost.
    async fn keep_lease(&self, lease: &Lease) {
        let config = self.config();
        let duration_ms = u64::try_from(config.lease_duration.as_millis()).unwrap_or(u64::MAX);
        loop {
            tokio::time::sleep(config.lease_duration / 3).await;
            let renewed = self.store().renew_lease(lease, (config.clock)().saturating_add(duration_ms)).await;
            match renewed {
                Ok(()) => {}
                Err(StoreError::LeaseLost { .. }) => return,
                Err(error) => {
                    config.metrics.work().retried(Retry::Renewal);
                    tracing::warn!(%error, "renewing a lease failed, trying again");
                }
            }
        }
    }

    async fn evaluate_and_publish(&self, transaction: &LeasedTransaction, times: &mut StageTimes, publishing: &AtomicBool) -> Ended {
        let (attempts, max_attempts) = (transaction.attempts, self.config().max_attempts.max(1));
        let give_up = |reason: &str| all_failed(&transaction.outputs, reason);
        let mut outcome = None;
        let evaluated = if attempts > max_attempts {
            outcome = Some(Outcome::GivenUp);
            give_up(&format!("given up after {max_attempts} attempts"))
        } else {
            match Box::pin(self.evaluate(transaction, times)).await {
                Ok(Evaluated::Panicked) if attempts >= max_attempts => {
                    outcome = Some(Outcome::GivenUp);
                    give_up("internal error: evaluation panicked")
                }
                Err(error) if attempts >= max_attempts => {
                    outcome = Some(Outcome::GivenUp);
                    give_up(&format!("given up after {max_attempts} attempts: {error}"))
                }
                Ok(evaluated) => evaluated,
                Err(error) => return Ended::Failed(error),
            }
        };
        let (results, bootstraps) = match evaluated {
            Evaluated::Finished { results, bootstraps } => (results, bootstraps),
            Evaluated::Stopped => return Ended::Stopped,
            Evaluated::Panicked => return Ended::Panicked,
        };
        for OutputFailure { handle, reason } in &results.finished.failures {
            tracing::warn!(%handle, reason, "cannot be computed");
        }
        publishing.store(true, Ordering::Relaxed);
        let start = Instant::now();
        let publish = || self.store().finish_transaction(&transaction.lease, &results.finished);
        let next = match self.patiently(Retry::Publish, publish).instrument(info_span!("publish")).await {
            Ok(next) => next,
            Err(StoreError::LeaseLost { .. }) => return Ended::LeaseLost,
            Err(error) => return Ended::Failed(error),
        };
        times.publish = start.elapsed();
        let cache = self.keyed_engine().machine().cache();
        results.values.into_iter().for_each(|(key, value)| cache.put(key, value));
        let (outputs, failures) = (results.finished.ciphertexts.len(), results.finished.failures.len());
        let whole = if failures == 0 { Outcome::Computed } else { Outcome::Poisoned };
        Ended::Published(Published {
            next,
            outputs,
            failures,
            bootstraps,
            outcome: outcome.unwrap_or(whole),
        })
    }

    async fn evaluate(&self, transaction: &LeasedTransaction, times: &mut StageTimes) -> Result<Evaluated, StoreError> {
        let store = self.store().as_ref();
        let mut clock = Lap::start();
        let heads = || Heads::load(store, &transaction.computations, &transaction.outputs);
        let heads = self.patiently(Retry::Store, heads).instrument(info_span!("load")).await?;
        times.load = clock.lap();
        let (coprocessor, computations, missing) = (self.clone(), transaction.computations.clone(), heads.missing.clone());
        let compile = move || Compiled::new(coprocessor.engine().engine(), coprocessor.chain_id(), &computations, &missing);
        let compiled = match self.compute(compile).instrument(info_span!("compile")).await {
            Ok(Ok(compiled)) => compiled,
            Ok(Err(error)) => return Ok(all_failed(&transaction.outputs, &error.to_string())),
            Err(reason) => return Ok(reason.into()),
        };
        times.compile = clock.lap();
        let ciphertexts = self.ciphertexts();
        let values = || load(store, &ciphertexts, &compiled.needed, &heads, transaction.block_number);
        let loaded = self.patiently(Retry::Store, values).instrument(info_span!("load")).await?;
        times.load = times.load.saturating_add(clock.lap());
        let reader = Reader {
            transaction: transaction.hash,
            block: transaction.block_number,
        };
        let taker = ciphertexts.clone();
        let taking = self.compute(move || taker.take_in(loaded, reader));
        let given = match taking.instrument(info_span!("take_in")).await {
            Ok(given) => given,
            Err(reason) => return Ok(reason.into()),
        };
        times.take_in = clock.lap();
        let operations = compiled.operations();
        self.report(Progress::Started {
            transaction: transaction.hash,
            operations: operations.clone(),
            bootstraps: compiled.program.bootstraps(),
        });
        let program = compiled.program.clone();
        let evaluation = self.engine().submit_for(self.config().group, program, given.ciphertexts);
        let span = info_span!("evaluate", bootstraps = compiled.program.bootstraps());
        let evaluated = self.watch(transaction.hash, evaluation).instrument(span).await;
        times.evaluate = clock.lap();
        let (outputs, bootstraps) = match evaluated {
            Ok(evaluated) => {
                self.config()
                    .metrics
                    .fhe()
                    .evaluated(&operations, &compiled.bootstraps, evaluated.fhe_cpu);
                (evaluated.outputs, evaluated.bootstraps)
            }
            Err(EngineError::Stopped) => return Ok(Evaluated::Stopped),
            Err(error) => {
                tracing::error!(%error, "the engine failed");
                return Ok(Evaluated::Panicked);
            }
        };
        let finish = move || ciphertexts.finished(&compiled, &given.reasons, outputs);
        let results = self.compute(finish).instrument(info_span!("serialise")).await;
        times.serialise = clock.lap();
        Ok(match results {
            Ok(results) => Evaluated::Finished { results, bootstraps },
            Err(reason) => reason.into(),
        })
    }

    /// Waits for an evaluation, and reports how far it is meanwhile.
    async fn watch(&self, transaction: B256, mut evaluation: Evaluation) -> Result<cipherloom_engine::Evaluated, EngineError> {
        loop {
            tokio::select! {
                evaluated = &mut evaluation => return evaluated,
                () = tokio::time::sleep(REPORT_INTERVAL) => {
                    let done = evaluation.done();
                    self.report(Progress::Evaluating { transaction, done: done.tasks, of: done.of });
                }
            }
        }
    }

    /// Calls the store until it answers, or fails in a way that does not pass.
    async fn patiently<T, F>(&self, retry: Retry, mut call: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut backoff = Backoff::default();
        loop {
            match call().await {
                Err(error) if error.is_retryable() => {
                    let pause = backoff.next();
                    self.config().metrics.work().retried(retry);
                    tracing::warn!(%error, pause_ms = pause.as_millis(), "the store failed, trying again");
                    tokio::time::sleep(pause).await;
                }
                other => return other,
            }
        }
    }

    pub(crate) fn ciphertexts(&self) -> Ciphertexts {
        Ciphertexts {
            backend: self.backend().clone(),
            key_set_id: self.key_set_id(),
            chain_id: self.chain_id(),
            hot_window: self.config().hot_window,
            cache: Arc::clone(self.keyed_engine().machine().cache()),
        }
    }

    /// Computes on a thread that may block, as soon as there is a processor for it.
    pub(crate) async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, NotComputed> {
        let Ok(permit) = self.computing().acquire_owned().await else {
            return Err(NotComputed::Stopped);
        };
        let machine = Arc::clone(self.keyed_engine().machine());
        let span = Span::current();
        let computed = tokio::task::spawn_blocking(move || {
            let _inside = span.entered();
            // If nobody waits for the result any more, the processor is taken all the same until here.
            let result = machine.compute(work);
            drop(permit);
            result
        });
        computed.await.map_err(|error| {
            if error.is_panic() {
                NotComputed::Panicked
            } else {
                NotComputed::Stopped
            }
        })
    }
}

impl StageTimes {
    fn report(&self, work: &crate::metrics::WorkMetrics) {
        if let Some(queued) = self.queued {
            work.stage(Stage::Queued, queued);
        }
        for (stage, took) in [
            (Stage::Load, self.load),
            (Stage::Compile, self.compile),
            (Stage::TakeIn, self.take_in),
            (Stage::Evaluate, self.evaluate),
            (Stage::Serialise, self.serialise),
            (Stage::Publish, self.publish),
        ] {
            work.stage(stage, took);
        }
    }
}

/// Times one thing after the other.
struct Lap(Instant);

impl Lap {
    fn start() -> Self {
        Self(Instant::now())
    }

    /// Returns the time since the last call, or the start.
    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now.saturating_duration_since(std::mem::replace(&mut self.0, now))
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
    let results = Results {
        finished,
        values: Vec::new(),
    };
    Evaluated::Finished { results, bootstraps: 0 }
}
