//! Decryption callbacks: how a process serves them, and `cipherloom callbacks`, which shows what became of them.
//!
//! [`start`] runs a relay for each chain, wired to the decryption that the gateway has too.

mod commands;
mod describe;
mod options;

use std::{sync::Arc, time::Duration};

use alloy::signers::local::PrivateKeySigner;
use anyhow::Result;
use cipherloom_callbacks::{CallbackMetrics, Decrypted, Decryption, DecryptionFailure, Relay, RelayConfig, RelayParts, SystemClock};
use cipherloom_chain::HostChain;
use cipherloom_gateway::{Label, ServiceError, services};
use cipherloom_primitives::{Bytes, Handle, decryption::PublicDecryptionRequest};
use cipherloom_store::Callbacks;
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use self::{
    commands::{CallbacksCommand, HELP, run},
    options::{CallbacksSection, gwei},
};
use crate::database;

/// A chain whose gateway contract is served.
pub(crate) struct CallbackChain {
    /// Its name in the database: the same for all processes that serve it.
    pub(crate) name: String,
    /// The chain.
    pub(crate) host: HostChain,
    /// Its id.
    pub(crate) chain_id: u64,
    /// The block of the gateway contract's deployment, or an earlier one.
    pub(crate) first_block: u64,
    /// How often to look for new blocks.
    pub(crate) poll_interval: Duration,
    /// Whether blocks are final at once, so that nothing has to be waited for.
    pub(crate) is_final: bool,
    /// Where progress is kept: that of this name.
    pub(crate) store: Arc<dyn Callbacks>,
}

/// Relays that run.
pub(crate) struct RunningCallbacks {
    metrics: CallbackMetrics,
    relays: Vec<JoinHandle<()>>,
}

impl RunningCallbacks {
    /// Returns what relays count, to be read at any time.
    pub(crate) fn metrics(&self) -> CallbackMetrics {
        self.metrics.clone()
    }

    /// Waits until all have ended, after they were told to.
    pub(crate) async fn finished(self) {
        for relay in self.relays {
            if let Err(error) = relay.await {
                tracing::error!(%error, "a relay of callbacks ended with a panic");
            }
        }
    }
}

/// Serves the callbacks of chains until it is told to stop, all paid by one account.
///
/// # Errors
/// If the system gives no randomness.
pub(crate) fn start(
    config: &RelayConfig,
    key: &PrivateKeySigner,
    chains: Vec<CallbackChain>,
    decryption: &Arc<dyn services::Decryption>,
    stop: &CancellationToken,
) -> Result<RunningCallbacks> {
    let metrics = CallbackMetrics::default();
    let owner = format!("relay-{}", hex::encode(database::random::<8>()?));
    let relays = chains.into_iter().map(|chain| {
        let finality_depth = if chain.is_final { 0 } else { config.finality_depth };
        tracing::info!(
            site = chain.name,
            account = %key.address(),
            finality = finality_depth,
            "delivering decryptions that contracts ask for"
        );
        let relay = Relay::new(RelayParts {
            chain: chain.host,
            chain_id: chain.chain_id,
            site: chain.name,
            owner: owner.clone(),
            signer: key.clone(),
            store: chain.store,
            decryption: Arc::new(GatewayDecryption(Arc::clone(decryption))),
            clock: Arc::new(SystemClock),
            config: RelayConfig {
                finality_depth,
                first_block: chain.first_block,
                poll_interval: chain.poll_interval,
                ..config.clone()
            },
            metrics: metrics.clone(),
        });
        tokio::spawn(relay.run(stop.clone()))
    });
    Ok(RunningCallbacks {
        relays: relays.collect(),
        metrics,
    })
}

/// The relays' decryption: the gateway's.
struct GatewayDecryption(Arc<dyn services::Decryption>);

impl Decryption for GatewayDecryption {
    fn decrypt(&self, handles: Vec<Handle>) -> BoxFuture<'static, Result<Decrypted, DecryptionFailure>> {
        let request = PublicDecryptionRequest {
            handles,
            // What the gateway contract checks signatures with.
            extra_data: Bytes::new(),
        };
        let answer = self.0.public_decrypt(request);
        Box::pin(async move {
            let answer = answer.await.map_err(failure)?;
            Ok(Decrypted {
                values: answer.decrypted_result,
                signatures: answer.signatures,
            })
        })
    }
}

fn failure(error: ServiceError) -> DecryptionFailure {
    let reason = error.to_string();
    match error.label {
        Label::ValidationFailed | Label::MissingFields | Label::MalformedJson => DecryptionFailure::Impossible(reason),
        Label::NotAllowedOnHostAcl | Label::RequestError => DecryptionFailure::Refused(reason),
        _ => DecryptionFailure::Unavailable(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_never_be_is_given_up_at_once() {
        let sorted = |label| failure(ServiceError::new(label, "why"));
        assert!(matches!(sorted(Label::ValidationFailed), DecryptionFailure::Impossible(_)));
        for label in [Label::NotAllowedOnHostAcl, Label::RequestError] {
            assert!(matches!(sorted(label), DecryptionFailure::Refused(reason) if reason.contains("why")));
        }
        for label in [
            Label::GatewayNotReachable,
            Label::ProtocolPaused,
            Label::InternalServerError,
            Label::NotReadyForDecryption,
        ] {
            assert!(matches!(sorted(label), DecryptionFailure::Unavailable(_)));
        }
    }
}
