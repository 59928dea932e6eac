//! What a node's network is told when it starts.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use alloy::{primitives::B256, signers::local::PrivateKeySigner};

use super::{PeerAddress, PeerError};

/// A node's network.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// Where peers connect; port 0 picks a free one. Without it nobody can connect, but this node connects to others.
    pub listen: Option<SocketAddr>,
    /// The node key: its address is this node's [`PeerId`](crate::network::PeerId). If it is also a validator's signing key, [`Network::favour`](crate::network::Network::favour)
    /// can be told a validator set.
    pub key: PrivateKeySigner,
    /// The chain.
    pub chain_id: u64,
    /// The hash of the chain's first block.
    pub genesis_hash: B256,
    /// Peers to be connected to at all times. They are let in however full the node is, and use buffers that no stranger can fill.
    pub peers: Vec<PeerAddress>,
    /// Whether nobody but configured and favoured peers is let in.
    pub closed: bool,
    /// Whether to tell peers about other peers and to connect to those that are heard of.
    pub discovery: bool,
    /// The address under which this node wants to be known to others. Without it, the address that peers see with the port of `listen`.
    pub advertise: Option<SocketAddr>,
    /// Whether to connect to private, local and other addresses outside of the internet that peers tell of. Configured peers may be anywhere.
    pub discover_private_addresses: bool,
    /// The file in which bans outlive the process. Without it they are forgotten.
    pub bans: Option<PathBuf>,
    /// Limits of everything.
    pub limits: NetworkLimits,
}

impl NetworkConfig {
    /// The network of a node that neither listens nor knows peers.
    #[must_use]
    pub fn new(key: PrivateKeySigner, chain_id: u64, genesis_hash: B256) -> Self {
        Self {
            listen: None,
            key,
            chain_id,
            genesis_hash,
            peers: Vec::new(),
            closed: false,
            discovery: false,
            advertise: None,
            discover_private_addresses: false,
            bans: None,
            limits: NetworkLimits::default(),
        }
    }

    /// Checks what can be checked without a network.
    ///
    /// # Errors
    /// [`PeerError::Config`] for limits with which nothing works, and for contradictions.
    pub fn check(&self) -> Result<(), PeerError> {
        let wrong = |problem: &str| Err(PeerError::Config(problem.to_owned()));
        let limits = &self.limits;
        if self.closed && self.discovery {
            return wrong("a closed network has no use for discovery");
        }
        if self.closed && self.peers.iter().any(|peer| peer.id.is_none()) {
            return wrong("peers of a closed network need their ids: ADDRESS@host:port");
        }
        if self.peers.len() > MAX_CONFIGURED_PEERS {
            return wrong("there are more than 256 configured peers");
        }
        if limits.messages_per_second == 0 || limits.bytes_per_second == 0 || limits.handshakes == 0 || limits.requests_per_peer == 0 {
            return wrong("rates, handshakes and requests must be above zero");
        }
        let times = [
            limits.handshake_timeout,
            limits.message_timeout,
            limits.write_timeout,
            limits.request_timeout,
            limits.ping_interval,
            limits.first_retry,
            limits.last_retry,
        ];
        if times.iter().any(Duration::is_zero) {
            return wrong("no time limit may be zero");
        }
        if limits.idle_timeout <= limits.ping_interval {
            return wrong("peers must be pinged more often than silence is tolerated");
        }
        Ok(())
    }
}

/// How many peers can be configured.
const MAX_CONFIGURED_PEERS: usize = 256;

/// The limits of a node's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkLimits {
    /// How many strangers may be connected to this node. Configured and favoured peers do not count.
    pub inbound: usize,
    /// How many of them may come from one IP address, except from the machine itself.
    pub inbound_per_address: usize,
    /// How many connections this node makes to peers it heard of.
    pub outbound: usize,
    /// How many connections may be in the course of being set up from outside.
    pub handshakes: usize,
    /// How long setting up a connection may take.
    pub handshake_timeout: Duration,
    /// How many messages a peer may send per second on average, bursts of four seconds included; beyond that it is read more slowly.
    pub messages_per_second: u32,
    /// How many bytes a peer may send per second on average, bursts of four seconds included; beyond that it is read more slowly.
    pub bytes_per_second: u32,
    /// How many bytes of blocks may wait for a peer to take them before it is cut off, and how many of answers before it is declined; of other channels, at
    /// most 8 MiB.
    pub queue_bytes: usize,
    /// How many bytes of long messages from strangers may be held in memory, and as many of long answers to them. A stranger that needs more is cut
    /// off, or declined. Favoured peers do not count.
    pub buffer_bytes: usize,
    /// How long a message may take from its first byte to its last, in both directions.
    pub message_timeout: Duration,
    /// How long a peer may take to accept 32 KiB.
    pub write_timeout: Duration,
    /// How long an answer to a request may take.
    pub request_timeout: Duration,
    /// How many requests to, and from, a peer may wait for their answers.
    pub requests_per_peer: usize,
    /// How often to ping a peer.
    pub ping_interval: Duration,
    /// After how much silence a peer is given up.
    pub idle_timeout: Duration,
    /// When to try again after a connection failed. Doubles with each failure, up to `last_retry`, and varies by half.
    pub first_retry: Duration,
    /// The longest time between two attempts.
    pub last_retry: Duration,
    /// For how long a peer is banned. Favoured peers are shut out for a sixtieth of it: a mistake about them would cost the chain's progress.
    pub ban: Duration,
}

impl Default for NetworkLimits {
    fn default() -> Self {
        Self {
            inbound: 64,
            inbound_per_address: 8,
            outbound: 8,
            handshakes: 16,
            handshake_timeout: Duration::from_secs(10),
            messages_per_second: 2000,
            bytes_per_second: 64 << 20,
            queue_bytes: 160 << 20,
            buffer_bytes: 256 << 20,
            message_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(15),
            request_timeout: Duration::from_secs(60),
            requests_per_peer: 4,
            ping_interval: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(20),
            first_retry: Duration::from_millis(250),
            last_retry: Duration::from_secs(10),
            ban: Duration::from_secs(3600),
        }
    }
}
