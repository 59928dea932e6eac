//! A node while it runs: the chain, the network between nodes, consensus on top of both, and JSON-RPC.
//!
//! # Order
//! The chain comes first, because its head says where consensus goes on; then the network, then consensus, which is deaf until peers are there; JSON-RPC
//! last, so that whoever gets an answer gets it from a whole node. They end in reverse: consensus first, so that nothing is decided any more while the
//! chain is closed.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use alloy::{primitives::Address, signers::local::PrivateKeySigner};
use anyhow::{Context, Result};
use cipherloom_consensus::{
    Node, NodeConfig, NodeStatus, Timeouts,
    p2p::{NetworkConfig, PeerAddress, PeerInfo, PeerNetwork},
};
use cipherloom_node::native::{CheckInputs, ComputeBlock, Genesis, NativeChain, NativeChainHandle, NativeConfig, NetworkStatus};
use tokio::{
    sync::{broadcast, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{announcing, application::ChainApplication};

/// Where the parts of a node keep what they keep, below its data directory.
const CHAIN_DIRECTORY: &str = "chain";
const CONSENSUS_DIRECTORY: &str = "consensus";
const BANS_FILE: &str = "bans";

/// How a node reaches others.
#[derive(Clone, Debug)]
pub struct Peers {
    /// Where others connect; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Peers to stay connected to.
    pub known: Vec<PeerAddress>,
    /// Whether nobody else is let in.
    pub closed: bool,
    /// Whether peers tell each other of others.
    pub discovery: bool,
    /// The address that others are told of.
    pub advertise: Option<SocketAddr>,
    /// How many peers that nobody named may be connected to this node.
    pub inbound: usize,
}

impl Peers {
    /// Listens on a free port of this machine, and knows these peers.
    #[must_use]
    pub fn local(known: Vec<PeerAddress>) -> Self {
        Self {
            listen: ([127, 0, 0, 1], 0).into(),
            known,
            closed: false,
            discovery: false,
            advertise: None,
            inbound: 64,
        }
    }
}

/// What a node is made of.
pub struct NodeParts {
    /// What the chain begins with.
    pub genesis: Genesis,
    /// Where blocks, state and the log of consensus are kept.
    pub data_dir: PathBuf,
    /// After how many blocks the state is written to the data directory, at least 1.
    pub state_interval: u64,
    /// The key that peers know the node by, and that it signs with.
    pub key: PrivateKeySigner,
    /// Whether it signs at all. It does not while its key is none of a validator.
    pub votes: bool,
    /// Who computes on ciphertexts.
    pub compute: Arc<dyn ComputeBlock>,
    /// Who checks the proofs of inputs.
    pub checks: Arc<dyn CheckInputs>,
    /// How it reaches others.
    pub peers: Peers,
    /// Where JSON-RPC is served, if it is.
    pub rpc: Option<SocketAddr>,
    /// How fast rounds go. All validators of a chain should have the same.
    pub timeouts: Timeouts,
}

/// A running node.
pub struct RunningNode {
    address: Address,
    chain: NativeChain,
    network: PeerNetwork,
    consensus: Node,
    rpc: Option<NativeChainHandle>,
    stop: CancellationToken,
    tasks: [JoinHandle<()>; 2],
}

impl RunningNode {
    /// Starts a node. What its data directory holds is taken up where it was left.
    ///
    /// # Errors
    /// If an address is taken, another process uses the directory, or what is in it belongs to another chain.
    pub async fn start(parts: NodeParts) -> Result<Self> {
        let NodeParts {
            genesis,
            data_dir,
            state_interval,
            key,
            votes,
            compute,
            checks,
            peers,
            rpc,
            timeouts,
        } = parts;
        let address = key.address();
        let chain_directory = data_dir.join(CHAIN_DIRECTORY);
        std::fs::create_dir_all(&chain_directory).with_context(|| format!("cannot create {}", chain_directory.display()))?;
        let config = NativeConfig {
            data_dir: Some(chain_directory),
            state_interval,
            ..NativeConfig::new(genesis)
        };
        // The state is read, and the blocks after it are executed again, which takes its time.
        let opened = tokio::task::spawn_blocking(move || NativeChain::open(config, compute, checks));
        let chain = opened
            .await
            .context("opening the chain was interrupted")?
            .context("cannot open the chain")?;
        let domain = chain.domain();

        let mut network = NetworkConfig::new(key.clone(), domain.chain_id, domain.genesis_hash);
        network.listen = Some(peers.listen);
        network.peers = peers.known;
        network.closed = peers.closed;
        network.discovery = peers.discovery;
        network.advertise = peers.advertise;
        network.limits.inbound = peers.inbound;
        network.bans = Some(data_dir.join(BANS_FILE));
        let (network, received) = Box::pin(PeerNetwork::start(network))
            .await
            .context("cannot start the network between nodes")?;

        let (announced, _) = broadcast::channel(announcing::BACKLOG);
        let application = Arc::new(ChainApplication::new(chain.clone(), address, announced.clone()));
        let config = NodeConfig {
            domain,
            signer: votes.then_some(key),
            directory: data_dir.join(CONSENSUS_DIRECTORY),
            timeouts,
        };
        let started = Box::pin(Node::start(config, application, Arc::new(network.clone()), received)).await;
        let consensus = started.context("cannot start consensus")?;
        let sent = chain.new_transactions();
        let rpc = match rpc {
            Some(listen) => Some(Box::pin(chain.serve(listen)).await.context("cannot serve JSON-RPC")?),
            None => None,
        };
        let stop = CancellationToken::new();
        let announcer = tokio::spawn(announcing::run(chain.clone(), sent, announced, stop.clone()));
        let teller = tokio::spawn(tell_peers(chain.clone(), consensus.watch(), stop.clone()));
        Ok(Self {
            address,
            chain,
            network,
            consensus,
            rpc,
            stop,
            tasks: [announcer, teller],
        })
    }

    /// Returns the address of the node's key.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.address
    }

    /// Returns the chain, to read and to send to.
    #[must_use]
    pub const fn chain(&self) -> &NativeChain {
        &self.chain
    }

    /// Returns the URL of JSON-RPC over HTTP, if it is served.
    #[must_use]
    pub fn rpc_url(&self) -> Option<String> {
        self.rpc.as_ref().map(NativeChainHandle::rpc_url)
    }

    /// Returns the URL of JSON-RPC over WebSocket, if it is served.
    #[must_use]
    pub fn ws_url(&self) -> Option<String> {
        self.rpc.as_ref().map(NativeChainHandle::ws_url)
    }

    /// Returns how others on this machine reach the node.
    #[must_use]
    pub fn peer_address(&self) -> Option<PeerAddress> {
        let listening = self.network.local_address()?;
        Some(PeerAddress {
            id: Some(self.address),
            host: listening.to_string(),
        })
    }

    /// Returns how far consensus is.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        self.consensus.status()
    }

    /// Returns who is connected.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.network.peer_infos()
    }

    /// Returns what only the network and consensus know, in Prometheus' text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.consensus.metrics() + &self.network.metrics()
    }

    /// Hears of every change of [`Self::status`].
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<NodeStatus> {
        self.consensus.watch()
    }

    /// Waits until the node cannot go on; [`Self::shutdown`] then tells why.
    pub async fn stopped(&self) {
        self.consensus.stopped().await;
    }

    /// Ends the node. What was decided is kept.
    ///
    /// # Errors
    /// Why it could not go on, if it had ended by itself.
    pub async fn shutdown(self) -> Result<()> {
        self.stop.cancel();
        let ended = Box::pin(self.consensus.shutdown()).await;
        Box::pin(self.network.shutdown()).await;
        if let Some(rpc) = self.rpc {
            rpc.shutdown().await;
        }
        for task in self.tasks {
            if task.await.is_err() {
                tracing::error!("a task of the node was lost");
            }
        }
        // The state is written, which takes its time, too.
        let chain = self.chain;
        if tokio::task::spawn_blocking(move || chain.close()).await.is_err() {
            tracing::error!("closing the chain was interrupted");
        }
        ended.context("consensus could not go on")
    }
}

impl std::fmt::Debug for RunningNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningNode")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Tells the chain, for those who ask it over JSON-RPC, who is connected and how far others are.
async fn tell_peers(chain: NativeChain, mut status: watch::Receiver<NodeStatus>, stop: CancellationToken) {
    loop {
        let network = {
            let status = status.borrow_and_update();
            NetworkStatus {
                peers: status.peers,
                highest: status.best_peer_height,
            }
        };
        chain.set_network_status(network);
        tokio::select! {
            () = stop.cancelled() => return,
            changed = status.changed() => if changed.is_err() {
                return;
            },
        }
    }
}
