//! Nodes to be tested.

use std::time::Duration;

use alloy::{
    primitives::{B256, Bytes, keccak256},
    signers::local::PrivateKeySigner,
};
use cipherloom_consensus::{
    Channel, Network, PeerId, Received,
    p2p::{NetworkConfig, PeerAddress, PeerNetwork},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const CHAIN_ID: u64 = 31338;

pub(crate) fn genesis() -> B256 {
    keccak256("a chain for tests")
}

pub(crate) fn key(number: u8) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&keccak256([number])).unwrap()
}

/// A node that listens locally and knows nobody; quick to try again.
pub(crate) fn config(number: u8) -> NetworkConfig {
    let mut config = NetworkConfig::new(key(number), CHAIN_ID, genesis());
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    config.limits.first_retry = Duration::from_millis(50);
    config.limits.last_retry = Duration::from_millis(400);
    config.limits.ping_interval = Duration::from_millis(500);
    config.limits.idle_timeout = Duration::from_secs(5);
    config
}

pub(crate) struct Node {
    pub(crate) network: PeerNetwork,
    pub(crate) received: mpsc::Receiver<Received>,
}

impl Node {
    pub(crate) async fn start(config: NetworkConfig) -> Self {
        let (network, received) = PeerNetwork::start(config).await.unwrap();
        Self { network, received }
    }

    /// A node that is connected to others from the start.
    pub(crate) async fn with_peers(number: u8, peers: &[&Self]) -> Self {
        let mut config = config(number);
        config.peers = peers.iter().map(|peer| peer.address()).collect();
        Self::start(config).await
    }

    pub(crate) fn id(&self) -> PeerId {
        self.network.id()
    }

    pub(crate) fn address(&self) -> PeerAddress {
        PeerAddress {
            id: Some(self.id()),
            host: self.network.local_address().unwrap().to_string(),
        }
    }

    pub(crate) async fn next(&mut self) -> Received {
        timeout(PATIENCE, self.received.recv()).await.unwrap().unwrap()
    }

    /// Waits for a peer to be connected; skips everything else.
    pub(crate) async fn connected(&mut self, id: PeerId) {
        while !matches!(self.next().await, Received::Connected(peer) if peer == id) {}
    }

    /// Waits for a peer to be gone; skips everything else.
    pub(crate) async fn disconnected(&mut self, id: PeerId) {
        while !matches!(self.next().await, Received::Disconnected(peer) if peer == id) {}
    }

    /// Waits for a message; skips who comes and goes.
    pub(crate) async fn message(&mut self) -> (PeerId, Channel, Bytes) {
        loop {
            if let Received::Message { peer, channel, message } = self.next().await {
                return (peer, channel, message);
            }
        }
    }

    /// Counts from the metrics; 0 if there is no such line.
    pub(crate) fn counted(&self, series: &str) -> u64 {
        let metrics = self.network.metrics();
        let line = metrics.lines().find_map(|line| line.strip_prefix(series));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }

    /// Waits until a series has at least this value.
    pub(crate) async fn counts(&self, series: &str, at_least: u64) {
        self.until(|node| node.counted(series) >= at_least, series).await;
    }

    pub(crate) async fn until(&self, condition: impl Fn(&Self) -> bool, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "{what} did not happen:\n{}", self.network.metrics());
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn has_peers(&self, mut ids: Vec<PeerId>) {
        ids.sort_unstable();
        self.until(|node| node.network.peers() == ids, "the expected peers").await;
    }
}
