//! The network as its user sees it.

use std::{
    collections::HashSet,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use alloy::primitives::Bytes;
use futures_util::future::BoxFuture;
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    NetworkConfig, Offence, PeerError, PeerInfo, ban_file, delivery::delivery, dial::keep, discovery::discover, identity::Identity,
    listen::listen, node::Node, peer::Direction, requests,
};
use crate::network::{Channel, Network, NetworkError, PeerId, Received};

/// How long connections may take to end when the network is shut down.
const GOODBYE: Duration = Duration::from_secs(5);

/// A node's place in the network between nodes. Clones are the same one; when the last is dropped, or the receiver of messages is, it shuts down.
#[derive(Clone)]
pub struct PeerNetwork {
    node: Arc<Node>,
    address: Option<SocketAddr>,
    _end: Arc<DropGuard>,
}

impl std::fmt::Debug for PeerNetwork {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("PeerNetwork")
            .field("id", &self.id())
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl PeerNetwork {
    /// Listens, connects to the configured peers, and goes on trying. What comes is taken from the receiver, promptly: if it is full, peers are read no
    /// further.
    ///
    /// # Errors
    /// If the configuration contradicts itself, or the address to listen on is taken.
    pub async fn start(config: NetworkConfig) -> Result<(Self, mpsc::Receiver<Received>), PeerError> {
        config.check()?;
        let listener = match config.listen {
            Some(address) => {
                let listener = TcpListener::bind(address).await;
                Some(listener.map_err(|source| PeerError::Listen { address, source })?)
            }
            None => None,
        };
        let address = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let identity = Identity::new(&config, address)?;
        let stop = CancellationToken::new();
        let (delivery, received, pump) = delivery(stop.clone());
        let node = Arc::new(Node::new(config, identity, delivery, stop.clone()));
        if let Some(path) = node.config.bans.clone() {
            restore_bans(&node, path.clone()).await;
            node.tasks.spawn(ban_file::keep(Arc::clone(&node), path));
        }
        node.tasks.spawn(pump);
        if let Some(listener) = listener {
            node.tasks.spawn(listen(Arc::clone(&node), listener));
        }
        for peer in node.config.peers.clone() {
            node.tasks.spawn(keep(Arc::clone(&node), peer));
        }
        if node.config.discovery {
            node.tasks.spawn(discover(Arc::clone(&node)));
        }
        let network = Self {
            node,
            address,
            _end: Arc::new(stop.drop_guard()),
        };
        Ok((network, received))
    }

    /// Returns who this node is.
    #[must_use]
    pub fn id(&self) -> PeerId {
        self.node.identity.id()
    }

    /// Returns where this node listens.
    #[must_use]
    pub const fn local_address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Returns what is known about the connected peers, by id.
    #[must_use]
    pub fn peer_infos(&self) -> Vec<PeerInfo> {
        let peers: Vec<_> = self.node.peers().values().cloned().collect();
        let mut infos: Vec<PeerInfo> = peers.iter().map(|peer| peer.info(self.node.is_favoured(&peer.id))).collect();
        infos.sort_by_key(|info| info.id);
        infos
    }

    /// Counts an offence against a peer, and bans it when they are too many.
    pub fn punish_for(&self, peer: PeerId, offence: Offence, reason: &str) {
        self.node.punish(peer, offence, reason);
    }

    /// Returns the network's metrics in Prometheus' text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        let mut numbers = [(Direction::Inbound, 0), (Direction::Outbound, 0)];
        for peer in self.node.peers().values() {
            for (direction, number) in &mut numbers {
                *number += usize::from(peer.direction == *direction);
            }
        }
        self.node
            .metrics
            .render(&numbers.map(|(direction, number)| (direction.as_str(), number)))
    }

    /// Ends all connections and waits for everything that runs, for some seconds at most.
    pub async fn shutdown(&self) {
        self.node.stop.cancel();
        self.node.tasks.close();
        if timeout(GOODBYE, self.node.tasks.wait()).await.is_err() {
            tracing::warn!("some connections did not end in time");
        }
        self.node.peers().clear();
    }
}

/// Takes the bans of before a restart, if they can be read.
async fn restore_bans(node: &Node, path: PathBuf) {
    let place = path.clone();
    let read = tokio::task::spawn_blocking(move || ban_file::read(&place, SystemTime::now())).await;
    match read.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
        Ok(kept) => node.restore_bans(kept),
        Err(error) => tracing::warn!(path = %path.display(), %error, "the bans of before the restart cannot be read and are forgotten"),
    }
}

impl Network for PeerNetwork {
    fn broadcast(&self, channel: Channel, message: Bytes) {
        self.node.spread(channel, &message, None);
    }

    fn relay(&self, from: PeerId, channel: Channel, message: Bytes) {
        self.node.spread(channel, &message, Some(from));
    }

    fn send(&self, peer: PeerId, channel: Channel, message: Bytes) {
        self.node.send(&peer, channel, &message);
    }

    fn request(&self, peer: PeerId, request: Bytes) -> BoxFuture<'_, Result<Bytes, NetworkError>> {
        Box::pin(requests::ask(&self.node, peer, request))
    }

    fn punish(&self, peer: PeerId, reason: &str) {
        self.node.punish(peer, Offence::WrongContent, reason);
    }

    fn peers(&self) -> Vec<PeerId> {
        let mut peers: Vec<PeerId> = self.node.peers().keys().copied().collect();
        peers.sort_unstable();
        peers
    }

    /// Besides configured peers: they are let in however full the node is, use memory that no stranger can fill, and are banned for a short time only.
    /// Replaces those named before.
    fn favour(&self, validators: HashSet<PeerId>) {
        self.node.favour(validators);
    }

    fn is_favoured(&self, peer: &PeerId) -> bool {
        self.node.is_favoured(peer)
    }
}
