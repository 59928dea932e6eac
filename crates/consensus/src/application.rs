//! What consensus asks of the chain it agrees on.
//!
//! Consensus knows nothing of an EVM. It moves blocks as bytes, names them by hash, and asks the application to make, check, keep and hand out
//! blocks. One block is decided per height; the height is the block's number, genesis is height 0.
//!
//! # Flow
//!
//! For the height after [`Application::head`], the proposer of a round calls [`Application::propose`], every other validator
//! [`Application::validate`]. Once more than two thirds of the voting power precommitted a block, [`Application::commit`] makes it the head; the
//! next height begins when it returns. A node that is behind gets [`DecidedBlock`]s from its peers, checks their certificates, and hands them to
//! [`Application::apply`]; peers answer from [`Application::decided`].
//!
//! # Restart
//!
//! The application keeps what was committed or applied when the call returned, and nothing else. What was proposed or validated before a restart
//! is validated again with the bytes that consensus kept. Hence [`Application::validate`] must be deterministic, and a block of one's own is
//! validated like everybody's.

use alloy::primitives::{Address, B256, Bytes};
use cipherloom_primitives::quorum::{CommitCertificate, ValidatorSet};
use futures_util::future::BoxFuture;
use tokio::{sync::broadcast, time::Instant};

/// The newest block that the application keeps durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its height; 0 for genesis.
    pub height: u64,
    /// Its hash.
    pub hash: B256,
}

/// A block made by this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposedBlock {
    /// The block's hash: what validators vote for.
    pub hash: B256,
    /// The block as it goes to the other validators, at most [`MAX_BLOCK_BYTES`].
    pub bytes: Bytes,
}

/// A block that validators decided, with all that a late node needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecidedBlock {
    /// The block, as it was proposed.
    pub block: Bytes,
    /// The precommits of more than two thirds of the voting power.
    pub certificate: CommitCertificate,
    /// What a late node takes instead of computing it, in the application's own format; proved by what the block's hash covers.
    pub sidecar: Bytes,
}

/// What the application thinks of a proposed block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The block is what this node would have made of its transactions.
    Valid {
        /// The block's hash.
        hash: B256,
    },
    /// Nobody may vote for the block; why, for the log.
    Invalid(String),
}

/// Largest block, and largest sidecar, in bytes: both fit into one message of the network.
pub const MAX_BLOCK_BYTES: usize = 30 * 1024 * 1024;

/// Why the application did not do what consensus asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplicationError {
    /// Not now: the same question may get an answer later. For a proposed block this means no vote for it.
    #[error("not now: {0}")]
    Unavailable(String),
    /// The application does not have what was named.
    #[error("unknown: {0}")]
    Unknown(String),
    /// What was handed over is wrong; whoever sent it is to blame.
    #[error("refused: {0}")]
    Refused(String),
    /// The node cannot go on: storage failed, or an invariant is broken.
    #[error("the node cannot go on: {0}")]
    Fatal(String),
}

impl ApplicationError {
    /// Whether the node has to stop.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Fatal(_))
    }
}

/// The chain that validators agree on.
///
/// Calls for different rounds of one height may run at the same time. A future that is dropped has no effect that others could see.
pub trait Application: Send + Sync + 'static {
    /// The newest block that is kept durably.
    fn head(&self) -> Head;

    /// The validators that sign the block of `height`: known for every height up to the head's plus one.
    ///
    /// # Errors
    /// [`ApplicationError::Unknown`] for heights beyond that.
    fn validators(&self, height: u64) -> Result<ValidatorSet, ApplicationError>;

    /// Makes the block of `height`, the head's plus one.
    ///
    /// # Errors
    /// [`ApplicationError::Unavailable`] if it cannot be done by `deadline`: the round passes without a proposal.
    fn propose(&self, height: u64, round: u32, deadline: Instant) -> BoxFuture<'_, Result<ProposedBlock, ApplicationError>>;

    /// Checks a block that `proposer` proposed for `height`, the head's plus one. `round` is the round it is proposed in, which may be later than
    /// the one it was made in.
    ///
    /// # Errors
    /// [`ApplicationError::Unavailable`] if it cannot be told by `deadline`: the node votes for no block, and asks again in a later round.
    fn validate(
        &self,
        height: u64,
        round: u32,
        proposer: Address,
        block: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Verdict, ApplicationError>>;

    /// Makes a block that was proposed or validated in this run the head. It is durable when the future is done. A block that is the head already
    /// stays it.
    ///
    /// # Errors
    /// [`ApplicationError::Unknown`] for a block that this run neither proposed nor found valid; others are fatal.
    fn commit(&self, hash: B256, certificate: CommitCertificate) -> BoxFuture<'_, Result<(), ApplicationError>>;

    /// Makes a decided block the head that a peer sent. Its certificate was checked against [`Application::validators`]; that the block has the
    /// hash it names, and that the sidecar fits, is for the application to check.
    ///
    /// # Errors
    /// [`ApplicationError::Refused`] for what does not fit: the peer is blamed and another one asked.
    fn apply(&self, decided: DecidedBlock) -> BoxFuture<'_, Result<(), ApplicationError>>;

    /// The decided block of `height` for a peer; none for genesis, heights to come, and what is no longer kept.
    ///
    /// # Errors
    /// If storage cannot be read.
    fn decided(&self, height: u64) -> BoxFuture<'_, Result<Option<DecidedBlock>, ApplicationError>>;

    /// Takes a transaction that a peer sent. True if it is new and valid: then it is passed on.
    ///
    /// # Errors
    /// [`ApplicationError::Refused`] for bytes that no honest peer passes on; [`ApplicationError::Unavailable`] if there is no room.
    fn add_transaction(&self, bytes: Bytes) -> Result<bool, ApplicationError>;

    /// Transactions that were sent to this node itself, to be passed on to its peers.
    fn new_transactions(&self) -> broadcast::Receiver<Bytes>;
}
