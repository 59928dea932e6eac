//! From a request to its transaction: what is refused, what is decrypted, what the call takes, and the transaction.

use alloy::{
    primitives::{Bytes, U256},
    sol_types::{SolCall, SolValue},
};
use cipherloom_chain::{ChainError, Fees, FinalHead, UnsignedTransaction};
use cipherloom_contracts::bindings::GatewayContract;
use cipherloom_primitives::Handle;
use cipherloom_store::{CallbackRecord, CallbackRequest};

use crate::{
    config::milliseconds,
    error::RelayError,
    relay::{Outcome, Ready, Relay},
    services::{Decrypted, DecryptionFailure},
    status::Condition,
};

/// How many requests are looked at in one step.
const LOOKED_AT: u32 = 512;

/// How many transactions for one request may revert.
const MAX_REVERTED: usize = 3;

/// The length of a KMS node's signature.
const SIGNATURE_BYTES: usize = 65;

/// The most signatures, as the contract's proof counts them.
const MAX_SIGNATURES: usize = 255;

/// What the gateway contract takes beside the callback: 64 handles read and deleted, the event, the transaction itself.
const CONTRACT_GAS: u64 = 350_000;

/// What each signature takes.
const SIGNATURE_GAS: u64 = 30_000;

/// What became of a try to deliver.
enum Try {
    /// A transaction is out.
    Sent,
    /// Not now, or not any more; why is noted where it matters.
    Skipped,
    /// Nothing can be sent now.
    Blocked(Condition),
}

impl Relay {
    /// Decrypts what is due, and sends what is decrypted as far as the condition allows. Says whether there is more to do at once.
    pub(crate) async fn deliver(&mut self, head: &FinalHead, condition: Condition) -> Result<bool, RelayError> {
        let now_ms = self.clock.now_ms();
        let mut due = Vec::new();
        for record in self.store.due(now_ms, LOOKED_AT).await? {
            // An attempt that is open may still deliver it.
            if self.open_requests.contains(&record.request.id) {
                continue;
            }
            match self.ready.get(&record.request.id) {
                Some(ready) if ready.block_hash == record.request.block_hash => due.push(record),
                _ => self.begin(&record, head).await?,
            }
        }
        let mut condition = condition;
        if !due.is_empty() && condition.sends() && !self.is_relayer {
            self.is_relayer = self.chain.is_relayer(self.signer.account()).await?;
            if !self.is_relayer {
                condition = Condition::NotARelayer;
            }
        }
        let fees = match due.is_empty() || !condition.sends() {
            true => None,
            false => {
                let quote = Fees::quote(&self.chain, self.config.force_legacy).await?;
                let fees = quote.within(Some(self.config.max_fee_per_gas));
                if fees.is_none() {
                    condition = Condition::FeesAboveLimit;
                }
                fees
            }
        };
        let mut sent = 0_usize;
        if let Some(fees) = fees {
            let mut used = self.chain.sent_by(self.signer.account()).await?;
            let mut in_flight = usize::try_from(self.status.in_flight).unwrap_or(usize::MAX);
            for record in &due {
                if in_flight >= self.config.max_in_flight {
                    break;
                }
                // The lowest free nonce: a gap that a reorganisation left is filled first, or nothing above it would be included.
                while self.open_nonces.contains(&used) {
                    used = used.saturating_add(1);
                }
                match Box::pin(self.deliver_one(record, head, fees, used)).await? {
                    Try::Sent => (in_flight, sent) = (in_flight + 1, sent + 1),
                    Try::Skipped => {}
                    Try::Blocked(why) => {
                        condition = why;
                        break;
                    }
                }
            }
            self.status.in_flight = u64::try_from(in_flight).unwrap_or(u64::MAX);
        }
        self.set_condition(condition);
        Ok(sent > 0)
    }

    /// Begins to decrypt a request, unless that is under way or pointless.
    async fn begin(&mut self, record: &CallbackRecord, head: &FinalHead) -> Result<(), RelayError> {
        let request = &record.request;
        if self.decrypting.contains_key(&request.id)
            || self.decrypting.len() >= self.config.concurrent_decryptions
            || head.head_timestamp >= request.max_timestamp
        {
            return Ok(());
        }
        let handles = match self.acceptable(request) {
            Ok(handles) => handles,
            Err(reason) => return self.fail(request.id, &reason).await,
        };
        let work = self.decryption.decrypt(handles);
        let (id, hash, limit) = (request.id, request.block_hash, self.config.decryption_limit);
        self.decrypting.insert(id, hash);
        self.decryptions.spawn(async move {
            let outcome = tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
                let reason = format!(
                    "it was not decrypted within {} s; its computation may not have ended",
                    limit.as_secs()
                );
                Err(DecryptionFailure::Unavailable(reason))
            });
            (id, hash, outcome)
        });
        Ok(())
    }

    /// Says whether a request is one that is served, and returns its handles, or why not.
    fn acceptable(&self, request: &CallbackRequest) -> Result<Vec<Handle>, String> {
        if !self.config.callers.is_empty() && !self.config.callers.contains(&request.caller) {
            return Err(format!("contract {} is not among those that this relayer serves", request.caller));
        }
        if request.wei > self.config.max_wei {
            return Err(format!(
                "the call is to carry {} wei of the relayer's, and {} are allowed",
                request.wei, self.config.max_wei
            ));
        }
        request
            .handles
            .iter()
            .map(|word| Handle::try_from(*word).map_err(|error| format!("{word} is no handle of a value that can be decrypted: {error}")))
            .collect()
    }

    /// Takes the result of a decryption. A task that panicked or was aborted has none, and is begun again.
    pub(crate) async fn decrypted(&mut self, done: Option<Outcome>) {
        let Some((id, block_hash, outcome)) = done else {
            // Which one it was is not said; those whose results come all the same are not harmed by being begun twice.
            self.decrypting.clear();
            return;
        };
        if self.decrypting.get(&id) == Some(&block_hash) {
            self.decrypting.remove(&id);
        }
        let (word, noted) = match outcome {
            Ok(decrypted) => {
                let since_ms = self.clock.now_ms();
                self.ready.insert(
                    id,
                    Ready {
                        block_hash,
                        decrypted,
                        since_ms,
                    },
                );
                ("decrypted", Ok(()))
            }
            Err(DecryptionFailure::Impossible(reason)) => ("impossible", self.fail(id, &reason).await),
            Err(DecryptionFailure::Refused(reason)) => ("refused", self.refused(id, &reason).await),
            Err(DecryptionFailure::Unavailable(reason)) => ("unavailable", self.postpone(id, &reason).await),
        };
        self.metrics.count(&self.site, "decryptions_total", word);
        if let Err(error) = noted {
            tracing::warn!(%error, site = self.site, request = id, "the result of a decryption could not be noted; it is decrypted again");
        }
    }

    /// Notes a refusal: for good, if it has been one for long enough.
    async fn refused(&self, id: u64, reason: &str) -> Result<(), RelayError> {
        let Some((record, _)) = self.store.find(id).await? else {
            return Ok(());
        };
        let waited = self.clock.now_ms().saturating_sub(record.seen_at_ms);
        if waited >= milliseconds(self.config.refusal_patience) {
            self.fail(id, reason).await
        } else {
            self.postpone(id, reason).await
        }
    }

    async fn fail(&self, id: u64, reason: &str) -> Result<(), RelayError> {
        tracing::warn!(site = self.site, request = id, reason, "a requested decryption is not delivered");
        Ok(self.store.fail(self.claim(), id, reason).await?)
    }

    async fn postpone(&self, id: u64, reason: &str) -> Result<(), RelayError> {
        let tries = self.store.find(id).await?.map_or(0, |(record, _)| record.tries);
        let next = self.clock.now_ms().saturating_add(self.config.pause_ms(tries));
        tracing::debug!(
            site = self.site,
            request = id,
            reason,
            "a requested decryption is tried again later"
        );
        Ok(self.store.postpone(self.claim(), id, next, reason).await?)
    }

    /// Simulates, signs, writes down and sends one delivery.
    async fn deliver_one(&mut self, record: &CallbackRecord, head: &FinalHead, fees: Fees, nonce: u64) -> Result<Try, RelayError> {
        let request = &record.request;
        // The next block is later than this one.
        if head.head_timestamp >= request.max_timestamp {
            self.ready.remove(&request.id);
            return Ok(Try::Skipped);
        }
        if self.reader.hash_of(request.block).await? != Some(request.block_hash) {
            // The next step withdraws it.
            return Ok(Try::Skipped);
        }
        if self.is_over(Some(request.id)).await? {
            self.postpone(request.id, "the contract says that it is over; waiting until that is final")
                .await?;
            return Ok(Try::Skipped);
        }
        if record.reason.as_deref() == Some("reverted") && self.reverted(request.id).await? >= MAX_REVERTED {
            let reason = format!("{MAX_REVERTED} transactions that were to deliver it reverted, although their simulations did not");
            self.fail(request.id, &reason).await?;
            return Ok(Try::Skipped);
        }
        let Some(ready) = self.ready.get(&request.id) else {
            return Ok(Try::Skipped);
        };
        let since_ms = ready.since_ms;
        let delivery = match encode(request, &ready.decrypted) {
            Ok(delivery) => delivery,
            Err(reason) => {
                self.ready.remove(&request.id);
                self.postpone(request.id, &reason).await?;
                return Ok(Try::Skipped);
            }
        };
        let gas_limit = match self.gas(request, &delivery).await {
            Ok(gas) if gas > self.config.max_gas => {
                let reason = format!("it takes {gas} gas to deliver, and {} are allowed", self.config.max_gas);
                self.ready.remove(&request.id);
                self.fail(request.id, &reason).await?;
                return Ok(Try::Skipped);
            }
            Ok(gas) => gas,
            Err(error @ ChainError::Refused { .. }) if !error.is_retryable() => {
                let reason = format!("delivering it fails in simulation: {error}");
                let waited = self.clock.now_ms().saturating_sub(since_ms);
                if waited >= milliseconds(self.config.revert_patience) {
                    self.ready.remove(&request.id);
                    self.fail(request.id, &reason).await?;
                } else {
                    self.postpone(request.id, &reason).await?;
                }
                return Ok(Try::Skipped);
            }
            Err(error) => return Err(error.into()),
        };
        let transaction = UnsignedTransaction {
            to: self.chain.addresses().gateway_contract,
            data: delivery.transaction,
            value: request.wei,
            gas_limit,
            nonce,
            fees,
        };
        let Some(left) = self.status.balance.checked_sub(transaction.most()) else {
            return Ok(Try::Blocked(Condition::InsufficientBalance));
        };
        // The claim may be almost over, after so many questions.
        if !self.renew().await? || !self.write_and_send(&transaction, Some(request.id)).await? {
            return Ok(Try::Skipped);
        }
        self.status.balance = left;
        self.metrics.count(&self.site, "transactions_sent_total", "");
        tracing::info!(
            site = self.site,
            request = request.id,
            nonce,
            gas_limit,
            "values of a requested decryption are sent"
        );
        Ok(Try::Sent)
    }

    /// Counts the transactions that were to deliver a request and reverted.
    async fn reverted(&self, id: u64) -> Result<usize, RelayError> {
        let found = self.store.find(id).await?;
        let attempts = found.map(|(_, attempts)| attempts).unwrap_or_default();
        Ok(attempts
            .iter()
            .filter(|attempt| attempt.outcome.as_deref() == Some("reverted"))
            .count())
    }

    /// Returns the gas that a delivery is given: enough for the callback to succeed, and some more.
    ///
    /// An estimate of the whole transaction is not enough: it succeeds although the callback runs out of gas, and what counts as delivered is not
    /// delivered again. So the callback is estimated by itself, as the gateway contract calls it; of what the contract has, a 64th stays with it.
    async fn gas(&self, request: &CallbackRequest, delivery: &Delivery) -> Result<u64, ChainError> {
        let contract = self.chain.addresses().gateway_contract;
        let callback = self
            .chain
            .gas_of_call(contract, request.caller, delivery.callback.clone(), request.wei)
            .await?;
        let whole = self
            .chain
            .gas_of_call(self.signer.account(), contract, delivery.transaction.clone(), request.wei)
            .await?;
        // The whole is estimated after refunds, which are a fifth at most; and by some nodes as if the callback could fail.
        let with_refunds = whole.saturating_add(whole / 4);
        let signatures = u64::try_from(delivery.signatures).unwrap_or(u64::MAX);
        let around = CONTRACT_GAS.saturating_add(signatures.saturating_mul(SIGNATURE_GAS));
        let needed = with_refunds.max(callback.saturating_add(around)).saturating_add(callback / 63);
        Ok(needed.saturating_add(needed / 10))
    }
}

/// A delivery in bytes.
struct Delivery {
    /// What the relay calls the gateway contract with.
    transaction: Bytes,
    /// What the gateway contract calls the asking contract with.
    callback: Bytes,
    /// How many signatures there are.
    signatures: usize,
}

/// Writes a delivery: the values are words, in the order of the handles; signatures, if they are asked for, are the last argument.
fn encode(request: &CallbackRequest, decrypted: &Decrypted) -> Result<Delivery, String> {
    let Decrypted { values, signatures } = decrypted;
    if values.len() != 32 * request.handles.len() {
        return Err(format!(
            "the KMS answered {} bytes for {} handles",
            values.len(),
            request.handles.len()
        ));
    }
    if signatures.is_empty() || signatures.len() > MAX_SIGNATURES || signatures.iter().any(|one| one.len() != SIGNATURE_BYTES) {
        return Err("the KMS answered with signatures that no contract takes".to_owned());
    }
    let transaction = GatewayContract::fulfillRequestCall {
        requestID: U256::from(request.id),
        decryptedCts: values.clone(),
        signatures: signatures.clone(),
    };
    let mut callback = [&request.selector[..], &U256::from(request.id).to_be_bytes::<32>(), values].concat();
    if request.passes_signatures {
        // The list's place is counted from the first argument; the list stands after the head, without the word that says so in its own encoding.
        let head = U256::from(32 * (2 + request.handles.len()));
        callback.extend_from_slice(&head.to_be_bytes::<32>());
        callback.extend_from_slice(signatures.abi_encode().get(32..).unwrap_or_default());
    }
    Ok(Delivery {
        transaction: transaction.abi_encode().into(),
        callback: callback.into(),
        signatures: signatures.len(),
    })
}

#[cfg(test)]
mod tests {
    use alloy::sol;
    use cipherloom_primitives::{Address, B256};

    use super::*;

    sol! {
        function receiveSigned(uint256 requestID, uint64 number, bool flag, bytes[] calldata signatures) external;
        function receiveValues(uint256 requestID, uint64 number, bool flag) external;
    }

    fn request(passes_signatures: bool) -> CallbackRequest {
        CallbackRequest {
            id: 7,
            handles: vec![B256::ZERO; 2],
            caller: Address::ZERO,
            selector: match passes_signatures {
                true => receiveSignedCall::SELECTOR,
                false => receiveValuesCall::SELECTOR,
            },
            wei: U256::ZERO,
            max_timestamp: 0,
            passes_signatures,
            block: 0,
            block_hash: B256::ZERO,
            transaction: B256::ZERO,
        }
    }

    fn decrypted() -> Decrypted {
        Decrypted {
            values: (5_u64, true).abi_encode().into(),
            signatures: vec![vec![1; 65].into(), vec![2; 65].into()],
        }
    }

    #[test]
    fn the_callback_is_the_call_that_the_contract_declares() {
        let callback = encode(&request(false), &decrypted()).unwrap().callback;
        let call = receiveValuesCall::abi_decode(&callback).unwrap();
        assert_eq!((call.requestID, call.number, call.flag), (U256::from(7), 5, true));
        let callback = encode(&request(true), &decrypted()).unwrap().callback;
        let call = receiveSignedCall::abi_decode_validate(&callback).unwrap();
        assert_eq!((call.requestID, call.number, call.flag), (U256::from(7), 5, true));
        assert_eq!(call.signatures, decrypted().signatures);
    }

    #[test]
    fn answers_that_no_contract_takes_are_not_sent() {
        for wrong in [
            Decrypted {
                values: vec![0; 63].into(),
                ..decrypted()
            },
            Decrypted {
                signatures: Vec::new(),
                ..decrypted()
            },
            Decrypted {
                signatures: vec![vec![0; 64].into()],
                ..decrypted()
            },
        ] {
            assert!(encode(&request(false), &wrong).is_err(), "{wrong:?}");
        }
    }
}
