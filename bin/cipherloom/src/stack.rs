//! The whole stack in one process: chain, host contracts, coprocessor, KMS and gateway, started in order and stopped in reverse. The chain is the
//! stack's own, or one that is there already.

pub(crate) mod accounts;
pub(crate) mod chain;
pub(crate) mod committee;
mod kms;
pub(crate) mod network;
pub(crate) mod relayer;
mod site;
mod waiting;

use std::{net::SocketAddr, path::Path, sync::Arc};

use alloy::signers::local::PrivateKeySigner;
use anyhow::{Context, Result};
use cipherloom_chain::{Follower, HostChain};
use cipherloom_contracts::{Face, HostAddresses};
use cipherloom_coprocessor::{
    Coprocessor, CoprocessorConfig, KeyedEngine, Machine, Squashing, SquashingKeys, SquashingOptions, metrics::Metrics,
};
use cipherloom_engine::{Engine, PoolOptions};
use cipherloom_fhe::{FheBackend, KeySet};
use cipherloom_gateway::{Gateway, GatewayHandle, MoreMetrics, Services, services};
use cipherloom_kms::{KmsNode, NodeKey};
use cipherloom_node::DevAccount;
use cipherloom_primitives::eip712::SigningDomains;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::{
    chain::{Signers, StackChain},
    committee::{Computes, Surroundings},
    kms::{KmsFounders, StackKms},
    network::Network,
    site::Site,
    waiting::ComputedHere,
};
use crate::{
    callbacks::RunningCallbacks,
    cli::StackOptions,
    data_dir::DataDir,
    database::StackStore,
    keys,
    wiring::{ServedDecryption, ServedInputs, ServedKeys},
};

pub(crate) use self::committee::NodeSummary;

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
    chain: StackChain,
    gateway: GatewayHandle,
    coprocessor: Coprocessor,
    kms: StackKms,
    store: Arc<StackStore>,
    callbacks: Option<RunningCallbacks>,
    squashing: Option<Arc<Squashing>>,
    tasks: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Stack {
    /// Starts everything on a chain. What the data directory holds is taken up where it was left.
    ///
    /// # Errors
    /// If a port is taken, another process uses the data directory, the chain outside cannot be used, or something in the directory belongs to
    /// another deployment.
    pub(crate) async fn start(keys: Arc<KeySet>, network: Network, data: &DataDir, options: &StackOptions, listen: Listen) -> Result<Self> {
        let state = &data.state;
        std::fs::create_dir_all(state).with_context(|| format!("cannot create {}", state.display()))?;
        let coprocessor_key = signer(&state.join("coprocessor").join("signing-key"))?;
        let founders = Box::pin(KmsFounders::open(state, options.kms_nodes, network.chain_id())).await?;
        let signers = Signers {
            coprocessor: coprocessor_key.address(),
            kms: founders.signers(),
        };
        let site = Site::find(network, &options.chain, state, &signers)?;
        // The store holds the data directory's lock, so a second process fails here, before it can touch anything but its own signing keys.
        let store = Arc::new(Box::pin(StackStore::open(&options.store, state, site.network.chain_id(), &site.addresses)).await?);

        // Reading the evaluation key takes seconds of CPU; the chain starts meanwhile.
        let evaluation = tokio::task::spawn_blocking({
            let keys = Arc::clone(&keys);
            move || keys.evaluation()
        });
        let chain = Box::pin(StackChain::open(site, &listen, state, &signers)).await?;
        let (host, domains, acl) = (chain.host().clone(), *chain.domains(), chain.addresses().acl);
        let backend: Arc<dyn FheBackend> = evaluation.await.context("reading the evaluation key was interrupted")??;

        let stop = CancellationToken::new();
        let key_set_id = committee::key_set_id(&keys);
        let mut config = CoprocessorConfig::new(domains, acl);
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
        let squashing = options.kms_nodes.map(|_| {
            let options = SquashingOptions {
                public_ahead: true,
                ..SquashingOptions::default()
            };
            Squashing::start(options, Metrics::new())
        });
        let coprocessor = match &squashing {
            Some(squashing) => coprocessor.with_squashing(Arc::clone(squashing), SquashingKeys::KeySet(Arc::clone(&keys))),
            None => coprocessor,
        };
        let follower = Follower::new(host.clone(), chain.follower_config(options.chain.finality));
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

        let around = Surroundings {
            keys: &keys,
            host: &host,
            domains,
            computes: Computes::Coprocessor(&coprocessor),
        };
        let kms = Box::pin(founders.start(&around, state)).await?;
        let decryption: Arc<dyn services::Decryption> = Arc::new(ServedDecryption {
            kms: kms.asked(),
            coprocessor: coprocessor.clone(),
        });
        let callbacks = Box::pin(relayer::start(&chain, &options.chain, &store, &decryption, &stop)).await?;
        let services = Services {
            keys: Arc::new(ServedKeys(keys)),
            inputs: Arc::new(ServedInputs {
                coprocessor: coprocessor.clone(),
                acl,
            }),
            decryption,
            progress: Some(Arc::new(ComputedHere {
                coprocessor: coprocessor.clone(),
                store: Arc::clone(&store.store),
                chain_id: chain.chain_id(),
            })),
            jobs: Some(Arc::clone(&store.jobs)),
        };
        let of_callbacks = callbacks.as_ref().map(RunningCallbacks::metrics);
        let of_kms = kms.metrics();
        let gateway_config = cipherloom_gateway::Config {
            bind: listen.gateway,
            more_metrics: Some(MoreMetrics::new(move || {
                let callbacks = of_callbacks.as_ref().map(|metrics| metrics.render()).unwrap_or_default();
                callbacks + &of_kms()
            })),
            ..cipherloom_gateway::Config::new(chain.chain_id())
        };
        let gateway = Gateway::start(gateway_config, services).await.context("cannot start the gateway")?;
        Ok(Self {
            chain,
            gateway,
            coprocessor,
            kms,
            store,
            callbacks,
            squashing,
            tasks,
            stop,
        })
    }

    /// Returns the version of the protocol that the contracts speak for, if it is one that this build knows.
    ///
    /// # Errors
    /// If the chain does not answer.
    pub(crate) async fn face(&self) -> Result<Option<Face>> {
        self.chain.face().await
    }

    /// Returns the chain's id.
    pub(crate) const fn chain_id(&self) -> u64 {
        self.chain.chain_id()
    }

    /// Returns the chain as the parts of the stack read it.
    pub(crate) const fn host(&self) -> &HostChain {
        self.chain.host()
    }

    /// Returns the URL of the chain's JSON-RPC, over HTTP where one is known.
    pub(crate) fn rpc_url(&self) -> String {
        self.chain.rpc_url()
    }

    /// Returns the URL of the chain's JSON-RPC over WebSocket, if one is known.
    pub(crate) fn ws_url(&self) -> Option<String> {
        self.chain.ws_url()
    }

    /// Returns the gateway's URL, without a version.
    pub(crate) fn gateway_url(&self) -> String {
        self.gateway.url().to_owned()
    }

    /// Returns where the host contracts are.
    pub(crate) const fn addresses(&self) -> &HostAddresses {
        self.chain.addresses()
    }

    /// Returns where signatures are valid.
    pub(crate) const fn domains(&self) -> &SigningDomains {
        self.chain.domains()
    }

    /// Returns the funded accounts whose keys everybody knows; none on a chain that is not for development.
    pub(crate) fn accounts(&self) -> &[DevAccount] {
        self.chain.accounts()
    }

    /// Returns the coprocessor, to watch its progress.
    pub(crate) const fn coprocessor(&self) -> &Coprocessor {
        &self.coprocessor
    }

    /// Returns the KMS node, for what its decryptions take; nothing if it is a committee.
    pub(crate) fn kms(&self) -> Option<&KmsNode> {
        self.kms.node()
    }

    /// Returns the nodes of the committee; none if one node has the whole key.
    pub(crate) fn committee(&self) -> &[NodeSummary] {
        self.kms.committee()
    }

    /// Stops a node of the committee; the others go on.
    pub(crate) async fn stop_kms_node(&self, party: u32) {
        self.kms.stop_node(party).await;
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
        if let Some(callbacks) = self.callbacks {
            callbacks.finished().await;
        }
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a part of the coprocessor ended with a panic");
            }
        }
        self.kms.shutdown().await;
        if let Some(squashing) = self.squashing {
            squashing.shutdown().await;
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
    let squashes = options.kms_nodes.is_some();
    tokio::task::spawn_blocking(move || {
        let keys = keys::open_or_generate(&directory, parameters)?;
        match squashes && !keys.has_noise_squashing() {
            true => keys::with_noise_squashing(&keys),
            false => Ok(keys),
        }
    })
    .await
    .context("key generation was interrupted")?
}

/// Reads the coprocessor's signing key, or makes it at the first start.
fn signer(path: &Path) -> Result<PrivateKeySigner> {
    let bytes = NodeKey::open_or_generate(path)?.to_bytes();
    PrivateKeySigner::from_slice(bytes.as_slice()).context("the coprocessor's signing key")
}
