//! Nodes that talk over the real network, in one process: their links can be cut.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use alloy::signers::local::PrivateKeySigner;
use cipherloom_consensus::{Timeouts, p2p::PeerAddress};
use cipherloom_node::native::{ComputeBlock, NativeChain};
use cipherloom_validator::{NodeParts, Peers, RunningNode};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::ground::{Founded, WORKSHOP, eventually, state_root};

/// Nodes of one chain.
pub(crate) struct Cluster {
    pub(crate) founded: Founded,
    place: tempfile::TempDir,
    keys: Vec<PrivateKeySigner>,
    nodes: Vec<Option<RunningNode>>,
    /// Where each node listens, once it does.
    targets: Vec<Target>,
    /// The links by which a node reaches those before it.
    links: Vec<Vec<Link>>,
}

/// How fast the tests' chains go. Blocks on toy parameters take milliseconds, and much longer on a machine that does ten other things.
pub(crate) fn timeouts() -> Timeouts {
    Timeouts {
        block_interval: Duration::from_millis(150),
        ..Timeouts::local(Duration::from_secs(5))
    }
}

impl Cluster {
    /// Prepares a node for each validator, and more that follow. None is started.
    pub(crate) async fn new(founded: Founded, followers: usize) -> Self {
        let mut keys = founded.validators.clone();
        keys.extend((0..followers).map(|_| PrivateKeySigner::random()));
        let targets: Vec<Target> = keys.iter().map(|_| Target::default()).collect();
        let mut links = Vec::new();
        for number in 0..keys.len() {
            let mut own = Vec::new();
            for target in &targets[..number] {
                own.push(Link::to(Arc::clone(target)).await);
            }
            links.push(own);
        }
        Self {
            founded,
            place: tempfile::tempdir().unwrap(),
            nodes: keys.iter().map(|_| None).collect(),
            keys,
            targets,
            links,
        }
    }

    /// Starts all nodes with the tests' executor.
    pub(crate) async fn start_all(&mut self) {
        for number in 0..self.keys.len() {
            self.start(number).await;
        }
        let others = self.keys.len() - 1;
        eventually("all nodes are connected", || async {
            self.nodes.iter().flatten().all(|node| node.peers().len() == others)
        })
        .await;
    }

    pub(crate) async fn start(&mut self, number: usize) {
        self.start_with(number, Arc::clone(&WORKSHOP.executor) as _).await;
    }

    /// Starts a node with an executor of its own. Its directory is what it was when it ended.
    pub(crate) async fn start_with(&mut self, number: usize, compute: Arc<dyn ComputeBlock>) {
        let known = self.links[number].iter().zip(&self.keys).map(|(link, key)| PeerAddress {
            id: Some(key.address()),
            host: link.address.to_string(),
        });
        let parts = NodeParts {
            genesis: self.founded.genesis.clone(),
            data_dir: self.place.path().join(format!("node-{number}")),
            state_interval: 4,
            key: self.keys[number].clone(),
            votes: number < self.founded.validators.len(),
            compute,
            checks: Arc::clone(&WORKSHOP.checks) as _,
            peers: Peers::local(known.collect()),
            rpc: None,
            timeouts: timeouts(),
        };
        let node = Box::pin(RunningNode::start(parts)).await.unwrap();
        *self.targets[number].lock().unwrap() = node.peer_address().map(|peer| peer.host);
        self.nodes[number] = Some(node);
    }

    /// Ends a node.
    pub(crate) async fn stop(&mut self, number: usize) {
        self.nodes[number].take().unwrap().shutdown().await.unwrap();
    }

    /// Cuts all links between nodes below this number and the others, or restores them.
    pub(crate) fn set_partition(&self, below: usize, cut: bool) {
        for links in &self.links[below..] {
            for link in links.iter().take(below) {
                link.set_cut(cut);
            }
        }
    }

    pub(crate) fn node(&self, number: usize) -> &RunningNode {
        self.nodes[number].as_ref().unwrap()
    }

    pub(crate) fn chain(&self, number: usize) -> &NativeChain {
        self.node(number).chain()
    }

    pub(crate) fn height(&self, number: usize) -> u64 {
        self.chain(number).head().unwrap().number
    }

    /// Waits until all running nodes have a block.
    pub(crate) async fn all_reach(&self, height: u64) {
        let running = || (0..self.nodes.len()).filter(|number| self.nodes[*number].is_some());
        eventually(&format!("all nodes have block {height}"), || async {
            running().all(|number| self.height(number) >= height)
        })
        .await;
        let roots: Vec<_> = running().map(|number| state_root(self.chain(number), height)).collect();
        assert!(roots.iter().all(|root| *root == roots[0]), "{roots:?}");
    }

    /// Ends all nodes.
    pub(crate) async fn shutdown(mut self) {
        for node in self.nodes.iter_mut().filter_map(Option::take) {
            node.shutdown().await.unwrap();
        }
    }
}

/// Where a node listens now.
type Target = Arc<Mutex<Option<String>>>;

/// A way to a node that can be cut.
struct Link {
    address: SocketAddr,
    /// Open while the link is; a new one after each cut.
    open: Arc<Mutex<CancellationToken>>,
    server: JoinHandle<()>,
}

impl Link {
    async fn to(target: Target) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::new(Mutex::new(CancellationToken::new()));
        let current = Arc::clone(&open);
        let server = tokio::spawn(async move {
            loop {
                let Ok((mut inbound, _)) = listener.accept().await else { continue };
                let cut = current.lock().unwrap().clone();
                let target = target.lock().unwrap().clone();
                tokio::spawn(async move {
                    let carry = async {
                        let mut outbound = TcpStream::connect(target.unwrap_or_default()).await?;
                        tokio::io::copy_bidirectional(&mut inbound, &mut outbound).await
                    };
                    tokio::select! {
                        // How a connection ended, both ends see for themselves.
                        _ = carry => {}
                        () = cut.cancelled() => {}
                    }
                });
            }
        });
        Self { address, open, server }
    }

    fn set_cut(&self, cut: bool) {
        let mut open = self.open.lock().unwrap();
        if cut {
            open.cancel();
        } else if open.is_cancelled() {
            *open = CancellationToken::new();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.server.abort();
    }
}
