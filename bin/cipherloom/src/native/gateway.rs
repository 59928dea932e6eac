//! The gateway of a native stack, with what it pays for: answers that contracts asked for, and deposits of inputs that published SDKs bring.
//!
//! Two accounts pay, whose keys everybody knows. The genesis gives them ether, and registers the one that delivers answers.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use alloy::{primitives::U256, signers::local::PrivateKeySigner};
use anyhow::{Context, Result};
use cipherloom_chain::HostChain;
use cipherloom_fhe::KeySet;
use cipherloom_gateway::{Gateway, GatewayHandle, MoreMetrics, Services, services};
use cipherloom_node::{DEPLOYER_MNEMONIC, DevAccount};
use cipherloom_store::{Database, SqliteStore};
use tokio_util::sync::CancellationToken;

use crate::{
    callbacks::{self, CallbackChain, RunningCallbacks},
    remote::{
        decryption::{Admitting, Computing, RemoteDecryption, RemoteInputs},
        native::{
            NativeInputs,
            deposits::{DepositLimits, Deposits},
        },
    },
    stack::{Listen, accounts, relayer},
    wiring::{Kms, ServedKeys},
};

/// Which account of the deployer's mnemonic pays for deposits: beyond those that chains fund, and not the relay's.
const DEPOSITOR_PATH: &str = "m/44'/60'/0'/0/38";

/// What each of the two accounts has at first, in wei: a thousand ether.
pub(super) const FUNDED_WEI: U256 = U256::from_limbs([3_875_820_019_684_212_736, 54, 0, 0]);

/// Nobody's money is at stake.
const DEPOSITS: DepositLimits = DepositLimits {
    per_hour: u32::MAX,
    max_fee_per_gas: u128::MAX,
};

/// How often the relay looks for new blocks.
const POLL: Duration = Duration::from_millis(200);

/// What callbacks and jobs are called in the stack's own file.
const SITE: &str = "stack";

/// Returns the accounts that pay: who delivers answers, and who deposits inputs.
///
/// # Errors
/// None that can occur: the mnemonic is right.
pub(super) fn payers() -> Result<[DevAccount; 2]> {
    Ok([
        relayer::development_account()?,
        DevAccount::derive(DEPLOYER_MNEMONIC, DEPOSITOR_PATH)?,
    ])
}

/// A running gateway and its relay.
pub(super) struct NativeGateway {
    handle: GatewayHandle,
    callbacks: RunningCallbacks,
    stop: CancellationToken,
}

impl NativeGateway {
    /// Starts both. Jobs and deliveries under way are kept in a file in the directory.
    ///
    /// # Errors
    /// If the port is taken, the file cannot be used, or the chain does not answer.
    pub(super) async fn start(
        keys: Arc<KeySet>,
        kms: Arc<dyn Kms>,
        host: &HostChain,
        chain_id: u64,
        place: &Path,
        listen: Listen,
    ) -> Result<Self> {
        let stop = CancellationToken::new();
        let store = Box::pin(SqliteStore::open(&place.join("gateway-jobs.sqlite")))
            .await
            .context("cannot open the store of the gateway's jobs")?;
        let decryption: Arc<dyn services::Decryption> = Arc::new(RemoteDecryption {
            kms,
            awaited: HashMap::from([(chain_id, Computing::InBlocks)]),
            provers: None,
        });
        let [relayer, depositor] = payers()?;
        let served = CallbackChain {
            name: SITE.to_owned(),
            host: host.clone(),
            chain_id,
            first_block: 0,
            poll_interval: POLL,
            is_final: true,
            store: store.callbacks(SITE),
        };
        let signer: PrivateKeySigner = accounts::signer(&relayer)?;
        let config = relayer::development_config(0);
        let callbacks = callbacks::start(&config, &signer, vec![served], &decryption, &stop)?;

        let deposits = Deposits::new(host.clone(), accounts::signer(&depositor)?, DEPOSITS);
        // Reading the reference string takes a while.
        let encryptor = tokio::task::spawn_blocking({
            let keys = Arc::clone(&keys);
            move || keys.encryptor()
        });
        let checker = encryptor.await.context("reading the public keys was interrupted")??;
        let inputs = NativeInputs::new(host.clone(), Arc::from(checker), Some(deposits));
        let services = Services {
            keys: Arc::new(ServedKeys(keys)),
            inputs: Arc::new(RemoteInputs {
                chains: HashMap::from([(chain_id, Admitting::Native(Arc::new(inputs)))]),
            }),
            decryption,
            progress: None,
            jobs: Some(store.gateway_jobs(SITE)),
        };
        let metrics = callbacks.metrics();
        let config = cipherloom_gateway::Config {
            bind: listen.gateway,
            more_metrics: Some(MoreMetrics::new(move || metrics.render())),
            ..cipherloom_gateway::Config::new(chain_id)
        };
        let handle = Gateway::start(config, services).await.context("cannot start the gateway")?;
        Ok(Self { handle, callbacks, stop })
    }

    /// Returns the gateway's URL, without a version.
    pub(super) fn url(&self) -> &str {
        self.handle.url()
    }

    /// Stops both: no new requests, then no more deliveries.
    pub(super) async fn shutdown(self) {
        self.handle.shutdown().await;
        self.stop.cancel();
        self.callbacks.finished().await;
    }
}
