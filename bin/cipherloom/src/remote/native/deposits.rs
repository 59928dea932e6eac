//! Brings inputs to a native chain before their users do.
//!
//! Published SDKs end the proof of an input with one zero byte, where a native chain wants the encrypted list. The chain's `InputVerifier` takes such a
//! proof for inputs that were deposited: [`Deposits`] sends the list to it in a transaction of an account of its own, and waits until it is included.
//!
//! **Who pays.** The gateway's operator. Only lists whose proof holds are sent, an input that was deposited already is not sent again, and there is a
//! limit for each hour. The proof binds a list to user and contract, so that nobody is harmed by a deposit that somebody else asked for.
//!
//! **One at a time.** Deposits of an account are sent one after the other, each after the one before it was included: one for each block. The account's
//! nonce on the chain is all the progress there is; a request that is repeated after a restart finds its deposit, or sends it again.

use std::time::{Duration, Instant};

use alloy::signers::local::PrivateKeySigner;
use cipherloom_chain::{ChainError, HostChain, SendOptions, TransactionSender};
use cipherloom_gateway::{Label, ServiceError};
use cipherloom_primitives::{Handle, input::InputMetadata, native::NativeInputProof};
use tokio::sync::Mutex;

/// The time for which deposits are counted.
const WINDOW: Duration = Duration::from_secs(3600);

/// How long one deposit may take to be included.
const PATIENCE: Duration = Duration::from_secs(120);

/// When a deposit that is not included is sent again, and pays more.
const STUCK_AFTER: Duration = Duration::from_secs(20);

/// What deposits may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DepositLimits {
    /// The most deposits within an hour.
    pub(crate) per_hour: u32,
    /// The most wei that a unit of gas may cost.
    pub(crate) max_fee_per_gas: u128,
}

/// Deposits inputs on one chain, paid by one account.
pub(crate) struct Deposits {
    host: HostChain,
    key: PrivateKeySigner,
    limits: DepositLimits,
    /// Who holds it sends.
    sent: Mutex<Sent>,
}

/// How many deposits were sent since when.
struct Sent {
    since: Instant,
    count: u32,
}

impl Sent {
    /// Counts one more, unless there were enough.
    fn admit(&mut self, now: Instant, per_hour: u32) -> bool {
        if now.duration_since(self.since) >= WINDOW {
            *self = Self { since: now, count: 0 };
        }
        let admitted = self.count < per_hour;
        self.count += u32::from(admitted);
        admitted
    }
}

impl Deposits {
    /// Deposits with an account that nobody else sends from.
    pub(crate) fn new(host: HostChain, key: PrivateKeySigner, limits: DepositLimits) -> Self {
        let since = Instant::now();
        Self {
            host,
            key,
            limits,
            sent: Mutex::new(Sent { since, count: 0 }),
        }
    }

    /// Returns once the values of a list, whose proof was checked, are deposited for a user and a contract.
    ///
    /// # Errors
    /// `protocol_overload` above the limit, which clients see as `gateway_not_reachable` since it is their job that fails; `gateway_not_reachable` if the
    /// chain's node does not answer or the transaction is not included; `internal_server_error` if the chain refuses it: the log says why.
    pub(crate) async fn deposit(&self, bound_to: &InputMetadata, handles: &[Handle], list: &[u8]) -> Result<(), ServiceError> {
        let is_there = async || {
            self.host
                .are_inputs_deposited(bound_to, handles)
                .await
                .map_err(|error| failed(&error))
        };
        if is_there().await? {
            return Ok(());
        }
        let proof = NativeInputProof {
            handles: handles.to_vec(),
            list,
        };
        let proof = proof.encode().map_err(|error| {
            tracing::error!(%error, "an input cannot be written as a proof");
            ServiceError::new(Label::InternalServerError, "the input cannot be brought to the chain")
        })?;
        let call = self.host.input_deposit(bound_to, proof);
        let mut sent = self.sent.lock().await;
        // Whoever held it may have deposited the same.
        if is_there().await? {
            return Ok(());
        }
        if !sent.admit(Instant::now(), self.limits.per_hour) {
            tracing::warn!(per_hour = self.limits.per_hour, "no more inputs are deposited within this hour");
            let message = "the gateway has brought as many inputs to the chain as it may within an hour";
            return Err(ServiceError::new(Label::ProtocolOverload, message));
        }
        let options = SendOptions {
            max_fee_per_gas: Some(self.limits.max_fee_per_gas),
            stuck_after: STUCK_AFTER,
            patience: PATIENCE,
            ..SendOptions::default()
        };
        let sending = async {
            let mut sender = TransactionSender::new(&self.host, self.key.clone(), options).await?;
            let nonce = sender.next_nonce().await?;
            sender.send(&call, nonce, &mut |_| {}).await
        };
        let included = Box::pin(sending).await.map_err(|error| failed(&error))?;
        tracing::info!(
            transaction = %included.hash,
            gas = included.gas_used,
            inputs = handles.len(),
            user = %bound_to.user,
            contract = %bound_to.contract,
            "deposited an input"
        );
        Ok(())
    }
}

/// What a client learns of a failure.
fn failed(error: &ChainError) -> ServiceError {
    let passes = error.is_retryable()
        || matches!(
            error,
            ChainError::NotIncluded { .. } | ChainError::FeesAboveLimit { .. } | ChainError::NonceUsed { .. }
        );
    if passes {
        tracing::warn!(%error, "an input cannot be deposited now");
        let message = "the input cannot be brought to the chain now; try again";
        return ServiceError::new(Label::GatewayNotReachable, message);
    }
    tracing::error!(%error, "an input cannot be deposited");
    ServiceError::new(Label::InternalServerError, "the gateway cannot bring inputs to the chain")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_sent_within_an_hour_and_then_as_many_again() {
        let start = Instant::now();
        let mut sent = Sent { since: start, count: 0 };
        for second in 0..3 {
            assert!(sent.admit(start + Duration::from_secs(second), 3));
        }
        assert!(!sent.admit(start + Duration::from_secs(4), 3));
        assert!(!sent.admit(start + WINDOW - Duration::from_secs(1), 3));
        for _ in 0..3 {
            assert!(sent.admit(start + WINDOW, 3));
        }
        assert!(!sent.admit(start + WINDOW, 3));
    }
}
