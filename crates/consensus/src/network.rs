//! What consensus asks of the network between nodes, and what it hears from it.
//!
//! Peers are authenticated, but not trusted: anybody may run a node. Nothing here waits: a message that finds a full queue is dropped, which
//! consensus makes good by repeating itself. Whether a message goes further is for consensus to decide, after it checked it.

use std::collections::HashSet;

use alloy::primitives::{Address, Bytes};
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

/// A peer, named by the address of the key it proved to hold.
pub type PeerId = Address;

/// What a message is about. Each channel has its own queue and its own limit of size, so that blocks do not hold up votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// Votes, proposals and certificates: small and urgent.
    Consensus,
    /// Proposed blocks.
    Blocks,
    /// Transactions.
    Transactions,
    /// How far a node is.
    Status,
    /// Requests of decided blocks and their answers.
    Sync,
}

/// What the network hears.
#[derive(Debug)]
pub enum Received {
    /// A peer is there.
    Connected(PeerId),
    /// A peer is gone.
    Disconnected(PeerId),
    /// A message.
    Message {
        /// Who sent it, or passed it on.
        peer: PeerId,
        /// What it is about.
        channel: Channel,
        /// Its bytes.
        message: Bytes,
    },
    /// A question. Dropping `answer` refuses it.
    Request {
        /// Who asks.
        peer: PeerId,
        /// The question.
        request: Bytes,
        /// Takes the answer.
        answer: oneshot::Sender<Bytes>,
    },
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// There is no connection to the peer.
    #[error("{0} is not connected")]
    NotConnected(PeerId),
    /// The peer refused, or was too slow.
    #[error("{0} gave no answer")]
    NoAnswer(PeerId),
    /// Too many requests are under way, or the message is too large.
    #[error("not sent: {0}")]
    NotSent(String),
}

/// The network between nodes.
pub trait Network: Send + Sync + 'static {
    /// Sends a message to all peers.
    fn broadcast(&self, channel: Channel, message: Bytes);

    /// Passes a message on to all peers but the one it came from.
    fn relay(&self, from: PeerId, channel: Channel, message: Bytes);

    /// Sends a message to one peer.
    fn send(&self, peer: PeerId, channel: Channel, message: Bytes);

    /// Asks one peer.
    ///
    /// # Errors
    /// If there is no answer in time.
    fn request(&self, peer: PeerId, request: Bytes) -> BoxFuture<'_, Result<Bytes, NetworkError>>;

    /// Counts something against a peer that no honest node does.
    fn punish(&self, peer: PeerId, reason: &str);

    /// Who is connected.
    fn peers(&self) -> Vec<PeerId>;

    /// Says who the validators are, so that there is always room for them.
    fn favour(&self, _validators: HashSet<PeerId>) {}

    /// Says whether a peer comes before strangers: a validator, or one that the operator named.
    fn is_favoured(&self, _peer: &PeerId) -> bool {
        false
    }
}
