//! Transactions that are or may be out: looked for, sent again, replaced, and settled.
//!
//! An attempt stays open until a block that has been read contains a transaction of its nonce. So a transaction that a reorganisation drops is open again
//! by itself, and its bytes are still there.

use std::{collections::BTreeMap, time::Duration};

use alloy::primitives::{Address, Bytes, U256};
use cipherloom_chain::{ChainError, Fees, TransactionOutcome, UnsignedTransaction};
use cipherloom_store::CallbackAttempt;

use crate::{config::milliseconds, error::RelayError, relay::Relay, status::Condition};

/// How often a transaction is replaced before it only waits. Each pays a quarter more.
const MAX_REPLACEMENTS: usize = 30;

/// The gas of a transaction that does nothing.
const TRANSFER_GAS: u64 = 21_000;

/// How long a used nonce without a transaction of ours may be a node that lags behind.
const FOREIGN_AFTER: Duration = Duration::from_secs(10);

impl Relay {
    /// Looks after all open attempts, those of other accounts included, which nobody else may look after any more.
    pub(crate) async fn settle(&mut self) -> Result<(), RelayError> {
        let own = self.signer.account();
        let mut groups: BTreeMap<(Address, u64), Vec<CallbackAttempt>> = BTreeMap::new();
        for attempt in self.store.open_attempts().await? {
            groups.entry((attempt.account, attempt.nonce)).or_default().push(attempt);
        }
        self.open_nonces.clear();
        self.open_requests.clear();
        self.status.in_flight = 0;
        let mut used: BTreeMap<Address, u64> = BTreeMap::new();
        let has_others = groups.keys().any(|(account, _)| *account != own);
        for ((account, nonce), group) in groups {
            let used = match used.get(&account) {
                Some(used) => *used,
                None => *used.entry(account).or_insert(self.chain.sent_by(account).await?),
            };
            if nonce < used && self.settle_used(account, nonce, &group).await? {
                continue;
            }
            if account == own {
                self.open_nonces.insert(nonce);
                self.open_requests.extend(group.iter().filter_map(|attempt| attempt.request));
            }
            if nonce >= used {
                self.status.in_flight += u64::from(account == own);
                self.push(account == own, nonce, &group).await?;
            }
        }
        if has_others {
            let before = self.clock.now_ms().saturating_sub(milliseconds(self.config.stuck_after));
            let taken = self.store.take_over(self.claim(), own, before).await?;
            if taken > 0 {
                tracing::info!(
                    site = self.site,
                    requests = taken,
                    "taking over from a relayer whose transactions are not included"
                );
            }
        }
        Ok(())
    }

    /// Settles a nonce that the chain says is used, if what used it is in a block that has been read. Says whether it is settled.
    async fn settle_used(&mut self, account: Address, nonce: u64, group: &[CallbackAttempt]) -> Result<bool, RelayError> {
        let mut found: Option<(&CallbackAttempt, TransactionOutcome)> = None;
        for attempt in group.iter().rev() {
            if let Some(outcome) = self.chain.outcome(attempt.hash).await? {
                found = Some((attempt, outcome));
                break;
            }
        }
        let now_ms = self.clock.now_ms();
        let outcome = match found {
            Some((_, outcome)) if outcome.block.number > self.status.read_to => return Ok(false),
            Some((attempt, outcome)) => {
                self.paid(outcome.gas_used, outcome.gas_price);
                match (attempt.request, outcome.succeeded) {
                    (None, _) => "cancelled",
                    (Some(_), true) => "included",
                    (Some(request), false) => {
                        tracing::warn!(site = self.site, request, transaction = %attempt.hash, "a transaction that was to deliver values reverted");
                        self.is_relayer = false;
                        "reverted"
                    }
                }
            }
            None => {
                let since = *self.foreign_since_ms.entry((account, nonce)).or_insert(now_ms);
                if now_ms.saturating_sub(since) < milliseconds(FOREIGN_AFTER) {
                    return Ok(false);
                }
                tracing::warn!(site = self.site, %account, nonce, "another transaction of the relayer's account has used its nonce; use the account for nothing else");
                "foreign"
            }
        };
        self.store.settle(self.claim(), account, nonce, outcome).await?;
        self.metrics.count(&self.site, "transactions_settled_total", outcome);
        self.foreign_since_ms.remove(&(account, nonce));
        self.offered_ms.remove(&nonce);
        Ok(true)
    }

    /// Sees to it that a transaction gets included.
    async fn push(&mut self, is_own: bool, nonce: u64, group: &[CallbackAttempt]) -> Result<(), RelayError> {
        let Some(latest) = group.last() else { return Ok(()) };
        let now_ms = self.clock.now_ms();
        let is_known = self.offered_ms.contains_key(&nonce);
        let is_stuck = now_ms.saturating_sub(latest.created_at_ms) >= milliseconds(self.config.stuck_after);
        // What this process has not sent was written down by one that ended, perhaps before sending. What has become useless meanwhile is not sent now.
        let is_useless = !is_known && is_own && self.is_over(latest.request).await?;
        if is_own && (is_stuck || is_useless) && group.len() <= MAX_REPLACEMENTS && self.replace(latest).await? {
            return Ok(());
        }
        let offered = self.offered_ms.get(&nonce).copied().unwrap_or_default();
        if is_known && now_ms.saturating_sub(offered) < milliseconds(self.config.resend_after) {
            return Ok(());
        }
        self.metrics.count(&self.site, "transactions_resent_total", "");
        self.offer(nonce, &latest.raw).await
    }

    /// Replaces a transaction by one that pays more, and does the same, or nothing if there is nothing to deliver any more. Says whether it did.
    async fn replace(&mut self, latest: &CallbackAttempt) -> Result<bool, RelayError> {
        let before = UnsignedTransaction::of_signed(&latest.raw)?;
        let quote = Fees::quote(&self.chain, self.config.force_legacy).await?;
        let Some(fees) = before.fees.replacing(quote).within(Some(self.config.max_fee_per_gas)) else {
            self.set_condition(Condition::FeesAboveLimit);
            return Ok(false);
        };
        if !self.is_over(latest.request).await? {
            let same = UnsignedTransaction { fees, ..before.clone() };
            if self.write_and_send(&same, latest.request).await? {
                self.metrics.count(&self.site, "transactions_replaced_total", "");
                return Ok(true);
            }
        }
        let nothing = UnsignedTransaction {
            to: self.signer.account(),
            data: Bytes::new(),
            value: U256::ZERO,
            gas_limit: TRANSFER_GAS,
            nonce: before.nonce,
            fees,
        };
        self.metrics.count(&self.site, "transactions_replaced_total", "");
        self.write_and_send(&nothing, None).await
    }

    /// Signs a transaction, writes it down, and sends it. Says no if the request is none that is to be delivered any more; then nothing was written.
    pub(crate) async fn write_and_send(&mut self, transaction: &UnsignedTransaction, request: Option<u64>) -> Result<bool, RelayError> {
        let signed = self.signer.sign(transaction).await?;
        let most = |fee: u128| u64::try_from(fee).unwrap_or(u64::MAX);
        let (max_fee, tip) = match transaction.fees {
            Fees::Dynamic { max_fee, tip } => (max_fee, Some(most(tip))),
            Fees::Legacy { price } => (price, None),
        };
        let attempt = CallbackAttempt {
            account: self.signer.account(),
            nonce: transaction.nonce,
            hash: signed.hash,
            request,
            raw: signed.raw,
            max_fee: most(max_fee),
            tip,
            created_at_ms: self.clock.now_ms(),
            outcome: None,
        };
        if !self.store.add_attempt(self.claim(), &attempt).await? {
            return Ok(false);
        }
        self.open_nonces.insert(transaction.nonce);
        self.open_requests.extend(request);
        self.offer(transaction.nonce, &attempt.raw).await?;
        Ok(true)
    }

    /// Offers written-down bytes to the chain. What a node refuses stays written down and is offered again.
    async fn offer(&mut self, nonce: u64, raw: &[u8]) -> Result<(), RelayError> {
        self.offered_ms.insert(nonce, self.clock.now_ms());
        match self.chain.offer(raw).await {
            // A used or underpriced nonce shows when it is looked for.
            Ok(_) => Ok(()),
            Err(ChainError::Refused { code, message, .. }) => {
                if message.to_lowercase().contains("insufficient funds") {
                    self.set_condition(Condition::InsufficientBalance);
                }
                tracing::warn!(
                    site = self.site,
                    nonce,
                    code,
                    message,
                    "a node refuses a transaction; it is offered again later"
                );
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Says whether there is nothing to deliver any more: it is delivered, or out of time, or the chain has no such request.
    pub(crate) async fn is_over(&self, request: Option<u64>) -> Result<bool, RelayError> {
        let Some(request) = request else { return Ok(true) };
        match self.chain.is_decryption_over(request).await {
            Ok(is_over) => Ok(is_over),
            Err(error @ ChainError::Refused { .. }) if !error.is_retryable() => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}
