//! Reading the chain: new requests and deliveries in final blocks, and what a reorganisation takes back.

use std::time::Duration;

use cipherloom_chain::{DeliveredDecryption, FinalHead, RequestedDecryption};
use cipherloom_store::{CallbackCursor, CallbackDelivery, CallbackProgress, CallbackRequest};

use crate::{config::milliseconds, error::RelayError, relay::Relay};

/// How many ranges of blocks are read in one step.
const RANGES: u32 = 16;

/// How many recorded blocks are compared at a time.
const COMPARED: u32 = 64;

/// How long a chain may be shorter than what was read until that is believed: a node that lags catches up.
const ROLLBACK_PATIENCE: Duration = Duration::from_secs(10);

impl Relay {
    /// Reads what is new up to the last final block, and says whether there is more.
    pub(crate) async fn follow(&mut self) -> Result<(FinalHead, bool), RelayError> {
        let head = self.reader.head(self.config.finality_depth).await?;
        self.status.head = head.head;
        let Some(last_final) = head.last_final else {
            return Ok((head, false));
        };
        let mut cursor = self.store.site().await?.and_then(|site| site.cursor);
        if let Some(read) = cursor
            && !self.is_continued(&read).await?
        {
            return Ok((head, self.shorter_since_ms.is_none()));
        }
        for _ in 0..RANGES {
            let first = cursor.map_or(self.config.first_block, |cursor| cursor.block.saturating_add(1));
            if first > last_final.number {
                break;
            }
            let next = match cursor {
                Some(cursor) => cursor.next_request,
                None => self.reader.requests_before(first).await?,
            };
            let events = self.reader.read(first, next, last_final).await?;
            let read = CallbackCursor {
                block: events.last.number,
                block_hash: events.last.hash,
                next_request: events.next_request,
            };
            let requests: Vec<CallbackRequest> = events.requests.into_iter().map(request).collect();
            let deliveries: Vec<CallbackDelivery> = events.deliveries.into_iter().map(delivery).collect();
            for request in &requests {
                tracing::info!(site = self.site, request = request.id, caller = %request.caller, handles = request.handles.len(), "a decryption was requested");
            }
            for delivery in &deliveries {
                self.ready.remove(&delivery.request);
                tracing::info!(site = self.site, request = delivery.request, transaction = %delivery.transaction, failure = delivery.failure, "a decryption was delivered");
            }
            let progress = CallbackProgress {
                cursor: read,
                requests: &requests,
                deliveries: &deliveries,
                chain_time: events.last_timestamp,
            };
            self.store.record(self.claim(), &progress).await?;
            if !requests.is_empty() || !deliveries.is_empty() {
                self.metrics.set_totals(&self.site, &self.store.totals().await?);
            }
            self.status.read_to = read.block;
            cursor = Some(read);
            if !self.renew().await? {
                break;
            }
        }
        let next = cursor.map_or(self.config.first_block, |cursor| cursor.block.saturating_add(1));
        let is_behind = next <= last_final.number;
        Ok((head, is_behind))
    }

    /// Says whether the chain continues what was read. If it does not, what it took back is withdrawn, and the next step reads on from there.
    async fn is_continued(&mut self, read: &CallbackCursor) -> Result<bool, RelayError> {
        match self.reader.hash_of(read.block).await? {
            Some(hash) if hash == read.block_hash => {
                self.shorter_since_ms = None;
                self.status.read_to = read.block;
                return Ok(true);
            }
            Some(_) => {}
            None => {
                let now_ms = self.clock.now_ms();
                let since = *self.shorter_since_ms.get_or_insert(now_ms);
                if now_ms.saturating_sub(since) < milliseconds(ROLLBACK_PATIENCE) {
                    return Ok(false);
                }
            }
        }
        self.shorter_since_ms = None;
        self.withdraw().await?;
        Ok(false)
    }

    async fn withdraw(&mut self) -> Result<(), RelayError> {
        self.metrics.count(&self.site, "reorganisations_total", "");
        let mut below = None;
        let kept = 'search: loop {
            let blocks = self.store.recorded_blocks(below, COMPARED).await?;
            for (number, hash) in &blocks {
                if self.reader.hash_of(*number).await? == Some(*hash) {
                    break 'search Some((*number, *hash));
                }
            }
            match blocks.last() {
                Some((lowest, _)) => below = Some(*lowest),
                None => break None,
            }
        };
        tracing::warn!(
            site = self.site,
            kept = kept.map(|(number, _)| number),
            "the chain has other blocks than were read; reading them anew"
        );
        self.ready.clear();
        self.decryptions.abort_all();
        self.decrypting.clear();
        self.store.withdraw(self.claim(), kept).await?;
        if kept.is_none() {
            // Nothing is left of the chain that the transactions were for: their nonces mean nothing on this one.
            let account = self.signer.account();
            for attempt in self.store.open_attempts().await? {
                if attempt.account == account && self.chain.outcome(attempt.hash).await?.is_none() {
                    self.store.settle(self.claim(), account, attempt.nonce, "withdrawn").await?;
                }
            }
        }
        Ok(())
    }
}

fn request(event: RequestedDecryption) -> CallbackRequest {
    CallbackRequest {
        id: event.id,
        handles: event.handles,
        caller: event.caller,
        selector: event.selector,
        wei: event.wei,
        max_timestamp: event.max_timestamp,
        passes_signatures: event.passes_signatures,
        block: event.block.number,
        block_hash: event.block.hash,
        transaction: event.transaction,
    }
}

fn delivery(event: DeliveredDecryption) -> CallbackDelivery {
    CallbackDelivery {
        request: event.id,
        failure: event.failure,
        block: event.block.number,
        block_hash: event.block.hash,
        transaction: event.transaction,
    }
}
