//! The whole stack in one process: chain, host contracts, coprocessor, KMS and gateway, started in order and stopped in reverse.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use alloy::signers::local::{MnemonicBuilder, PrivateKeySigner};
use anyhow::{Context, Result, ensure};
use cipherloom_chain::{Follower, FollowerConfig, HostChain};
use cipherloom_contracts::{HostAddresses, SignerSet, deployment_steps, development};
use cipherloom_coprocessor::{Coprocessor, CoprocessorConfig, KeyedEngine, Machine};
use cipherloom_engine::{Engine, PoolOptions};
use cipherloom_fhe::{FheBackend, KeySet};
use cipherloom_gateway::{Gateway, GatewayHandle, Services};
use cipherloom_kms::{AuditLog, KmsLimits, KmsNode, KmsParts, NodeKey};
use cipherloom_node::{DevAccount, DevChain, DevChainConfig, DevChainHandle};
use cipherloom_primitives::B256;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    cli::StackOptions,
    data_dir::DataDir,
    database::StackStore,
    keys,
    wiring::{CoprocessorCiphertexts, ServedDecryption, ServedInputs, ServedKeys},
};

/// How often the follower looks for new blocks. The chain is in the same process, so that looking costs next to nothing.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Where a stack listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listen {
    /// The chain's JSON-RPC.
    pub(crate) rpc: SocketAddr,
    /// The gateway.
    pub(crate) gateway: SocketAddr,
}

impl Listen {
    /// Listens on this machine only, on these ports; 0 is a free one.
    pub(crate) fn local(rpc_port: u16, gateway_port: u16) -> Self {
        Self {
            rpc: ([127, 0, 0, 1], rpc_port).into(),
            gateway: ([127, 0, 0, 1], gateway_port).into(),
        }
    }
}

/// A running stack.
pub(crate) struct Stack {
    chain: DevChainHandle,
    gateway: GatewayHandle,
    coprocessor: Coprocessor,
    addresses: HostAddresses,
    store: Arc<StackStore>,
    tasks: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Stack {
    /// Starts everything. What the data directory holds is taken up where it was left.
    ///
    /// # Errors
    /// If a port is taken, another process uses the data directory, or something in it belongs to another deployment.
    pub(crate) async fn start(keys: Arc<KeySet>, data: &DataDir, options: &StackOptions, listen: Listen) -> Result<Self> {
        let state = &data.state;
        // The store holds the data directory's lock, so a second process fails here, before it can touch anything.
        std::fs::create_dir_all(state).with_context(|| format!("cannot create {}", state.display()))?;
        let store = Arc::new(Box::pin(StackStore::open(&options.store, state)).await?);
        let coprocessor_key = signer(&state.join("coprocessor").join("signing-key"))?;
        let kms_key = NodeKey::open_or_generate(&state.join("kms").join("signing-key"))?;

        // Reading the evaluation key takes seconds of CPU; the chain starts meanwhile.
        let evaluation = tokio::task::spawn_blocking({
            let keys = Arc::clone(&keys);
            move || keys.evaluation()
        });
        let chain = DevChain::start(DevChainConfig {
            chain_id: development::HOST_CHAIN_ID,
            listen: listen.rpc,
            data_dir: Some(state.join("chain")),
            ..DevChainConfig::default()
        })
        .await
        .context("cannot start the chain")?;
        let addresses = development::addresses();
        let host = HostChain::connect(&chain.rpc_url(), addresses)?;
        deploy(&host, &coprocessor_key, &kms_key).await?;
        let backend: Arc<dyn FheBackend> = evaluation.await.context("reading the evaluation key was interrupted")??;

        let stop = CancellationToken::new();
        let key_set_id = B256::from(*keys.manifest().id.as_bytes());
        let mut config = CoprocessorConfig::new(development::signing_domains(), addresses.acl);
        if let Some(workers) = options.workers {
            config.workers = usize::from(workers);
        }
        config.hot_window = keys.manifest().hot_window_blocks;
        let pool = PoolOptions {
            engine: Engine {
                policy: options.engine.schedule,
                ..Engine::default()
            },
            ..PoolOptions::default()
        };
        let engine = KeyedEngine::start(key_set_id, backend, pool, Machine::whole()).context("cannot start the coprocessor")?;
        let coprocessor = Coprocessor::new(config, engine, Arc::clone(&store.store), coprocessor_key);
        let follower = Follower::new(
            host.clone(),
            FollowerConfig {
                poll_interval: POLL_INTERVAL,
                ..FollowerConfig::default()
            },
        );
        let tasks = vec![
            tokio::spawn({
                let (coprocessor, stop) = (coprocessor.clone(), stop.clone());
                async move { coprocessor.record(follower, stop).await }
            }),
            tokio::spawn({
                let (coprocessor, stop) = (coprocessor.clone(), stop.clone());
                async move { coprocessor.work(stop).await }
            }),
            tokio::spawn({
                let (coprocessor, stop) = (coprocessor.clone(), stop.clone());
                async move { coprocessor.listen(stop).await }
            }),
        ];

        let kms = Arc::new(KmsNode::new(KmsParts {
            decrypt: keys.decryptor()?,
            key_set_id,
            signing_key: kms_key,
            domains: development::signing_domains(),
            chain: Arc::new(host),
            ciphertexts: Arc::new(CoprocessorCiphertexts(coprocessor.clone())),
            audit: AuditLog::open(&state.join("kms").join("audit.jsonl"))?,
            clock: Arc::new(cipherloom_kms::SystemClock),
            limits: KmsLimits::default(),
        }));
        kms.check_registration()
            .await
            .context("the KMS is not the one registered on the chain")?;
        let services = Services {
            keys: Arc::new(ServedKeys(keys)),
            inputs: Arc::new(ServedInputs {
                coprocessor: coprocessor.clone(),
                acl: addresses.acl,
            }),
            decryption: Arc::new(ServedDecryption {
                kms,
                coprocessor: coprocessor.clone(),
            }),
        };
        let gateway_config = cipherloom_gateway::Config {
            bind: listen.gateway,
            ..cipherloom_gateway::Config::new(development::HOST_CHAIN_ID)
        };
        let gateway = Gateway::start(gateway_config, services).await.context("cannot start the gateway")?;
        Ok(Self {
            chain,
            gateway,
            coprocessor,
            addresses,
            store,
            tasks,
            stop,
        })
    }

    /// Returns the URL of the chain's JSON-RPC over HTTP.
    pub(crate) fn rpc_url(&self) -> String {
        self.chain.rpc_url()
    }

    /// Returns the URL of the chain's JSON-RPC over WebSocket.
    pub(crate) fn ws_url(&self) -> String {
        self.chain.ws_url()
    }

    /// Returns the gateway's URL, without a version.
    pub(crate) fn gateway_url(&self) -> String {
        self.gateway.url().to_owned()
    }

    /// Returns where the host contracts are.
    pub(crate) const fn addresses(&self) -> &HostAddresses {
        &self.addresses
    }

    /// Returns the funded accounts, whose keys everybody knows.
    pub(crate) fn accounts(&self) -> &[DevAccount] {
        self.chain.accounts()
    }

    /// Returns the coprocessor, to watch its progress.
    pub(crate) const fn coprocessor(&self) -> &Coprocessor {
        &self.coprocessor
    }

    /// Stops everything as [`Self::shutdown`] does, and deletes what is in a shared database; for a stack whose directory goes too.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn shutdown_and_forget(self) -> Result<()> {
        let store = Arc::clone(&self.store);
        self.shutdown().await;
        store.forget().await
    }

    /// Stops everything in order: no new requests, then no new work, then the chain.
    pub(crate) async fn shutdown(self) {
        self.gateway.shutdown().await;
        self.stop.cancel();
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a part of the coprocessor ended with a panic");
            }
        }
        self.chain.shutdown().await;
    }
}

/// Opens the key set that a stack with these options uses, or generates it with a progress bar.
///
/// # Errors
/// If the keys cannot be read, or generated.
pub(crate) async fn open_keys(data: &DataDir, options: &StackOptions) -> Result<Arc<KeySet>> {
    let parameters = options.parameters();
    let directory = data.keys.clone();
    tokio::task::spawn_blocking(move || keys::open_or_generate(&directory, parameters))
        .await
        .context("key generation was interrupted")?
}

/// Deploys the host contracts unless they are there, and makes sure that the chain's signers are ours.
async fn deploy(host: &HostChain, coprocessor: &PrivateKeySigner, kms: &NodeKey) -> Result<()> {
    let steps = deployment_steps(&development::deployment(
        SignerSet::single(coprocessor.address()),
        SignerSet::single(kms.address()),
    ));
    let deployer = MnemonicBuilder::from_phrase(development::INSECURE_DEPLOYER_MNEMONIC)
        .index(development::DEPLOYER_INDEX)?
        .build()
        .context("the development deployer's key")?;
    cipherloom_chain::deploy(host, &steps, &deployer)
        .await
        .context("cannot deploy the host contracts")?;
    let registered = host.coprocessor_signers().await?.signers;
    ensure!(
        registered == [coprocessor.address()],
        "the chain in the data directory knows coprocessors {registered:?}, not ours, {}; the directory mixes files of two stacks",
        coprocessor.address()
    );
    Ok(())
}

/// Reads the coprocessor's signing key, or makes it at the first start.
fn signer(path: &Path) -> Result<PrivateKeySigner> {
    let bytes = NodeKey::open_or_generate(path)?.to_bytes();
    PrivateKeySigner::from_slice(bytes.as_slice()).context("the coprocessor's signing key")
}
