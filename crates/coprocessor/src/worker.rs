//! The workers of one coprocessor.
//!
//! Up to [`workers`](crate::CoprocessorConfig::workers) transactions are under way at a time, in the order in which the store leases them: what can run because of
//! something that was just finished first, because its operands are in memory, then the oldest.
//! All are evaluated by the threads of one engine, so that their bootstraps share batches; earlier ones go first, and within a transaction those on which
//! the longest chains wait.
//!
//! A worker that is stopped cancels its evaluation, gives its lease back and ends; it is safe to kill at any instant.

use std::time::Duration;

use cipherloom_store::{LeaseRequest, LeasedTransaction, StoreError, TransactionNumber};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{Coprocessor, backoff::Backoff, metrics::Retry};

impl Coprocessor {
    /// Computes recorded transactions until told to stop, then gives unfinished ones back. Packs old values meanwhile.
    pub async fn work(&self, stop: CancellationToken) {
        tokio::join!(self.compute_transactions(&stop), self.cool(stop.clone()));
    }

    async fn compute_transactions(&self, stop: &CancellationToken) {
        let limit = self.config().workers.max(1);
        let (mut changes, mut backoff) = (self.changes(), Backoff::default());
        let mut under_way = JoinSet::new();
        let mut next = Vec::new();
        while !stop.is_cancelled() {
            // Marked as seen before looking, so that a change while looking is not missed.
            changes.mark_unchanged();
            let free = limit.saturating_sub(under_way.len());
            let pause = match self.lease(free, std::mem::take(&mut next)).await {
                Ok(transactions) => {
                    backoff.reset();
                    for transaction in transactions {
                        let (coprocessor, stop) = (self.clone(), stop.clone());
                        under_way.spawn(async move { coprocessor.process(transaction, &stop).await });
                    }
                    self.config().idle_poll
                }
                Err(error) => self.pause_after(&error, &mut backoff),
            };
            let room = under_way.len() < limit;
            tokio::select! {
                () = stop.cancelled() => {}
                Some(ended) = under_way.join_next() => {
                    next = self.next_of(ended);
                    // Whatever else ended meanwhile is made up for by the same look.
                    while let Some(ended) = under_way.try_join_next() {
                        next.extend(self.next_of(ended));
                    }
                }
                _ = changes.changed(), if room => {}
                () = tokio::time::sleep(pause), if room => {}
            }
        }
        while under_way.join_next().await.is_some() {}
    }

    /// Leases up to this many transactions, those that are named first.
    pub(crate) async fn lease(&self, limit: usize, first: Vec<TransactionNumber>) -> Result<Vec<LeasedTransaction>, StoreError> {
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
            first,
        };
        let leased = self.store().lease_transactions(&request).await?;
        if !leased.is_empty() {
            config.metrics.work().leased(&config.tenant, leased.len());
        }
        Ok(leased)
    }

    /// Says what can run because of a transaction that ended. A panic outside of the computing threads ends the transaction alone.
    fn next_of(&self, ended: Result<Vec<TransactionNumber>, JoinError>) -> Vec<TransactionNumber> {
        ended.unwrap_or_else(|error| {
            self.config().metrics.work().worker_failed();
            tracing::error!(%error, "work on a transaction panicked; it is tried again when its lease is over");
            Vec::new()
        })
    }

    fn pause_after(&self, error: &StoreError, backoff: &mut Backoff) -> Duration {
        let pause = backoff.next();
        let work = self.config().metrics.work();
        work.worker_failed();
        work.retried(Retry::Store);
        tracing::error!(%error, pause_ms = pause.as_millis(), "the store failed, trying again");
        pause
    }
}
