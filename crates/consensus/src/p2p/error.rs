//! What goes wrong between peers.

use std::{io, net::SocketAddr};

/// What goes wrong between peers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The address of a peer cannot be read.
    #[error("{text:?} is no address of a peer: {problem}")]
    PeerAddress {
        /// What was to be read.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The configuration contradicts itself.
    #[error("the network's configuration is wrong: {0}")]
    Config(String),
    /// Nobody can connect to this node.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// TLS cannot be set up at all.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// A connection failed, or ended.
    #[error("the connection failed: {0}")]
    Connection(String),
    /// The peer did not do what it had to within the time it has.
    #[error("the peer took too long: {0}")]
    TimedOut(&'static str),
    /// Who answered is not who was wanted, or not of the same chain.
    #[error("the peer has another {what}: {found} instead of {expected}")]
    WrongPeer {
        /// What differs.
        what: &'static str,
        /// What the peer has.
        found: String,
        /// What it should have.
        expected: String,
    },
    /// The peer's signature does not fit the connection: somebody may sit in between.
    #[error("the peer did not prove who it is: {0}")]
    Unproven(String),
    /// One of both sides does not want the connection.
    #[error("{who} refused the connection: {reason}")]
    Refused {
        /// Who refused.
        who: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// The network was shut down.
    #[error("the network was shut down")]
    ShutDown,
}
