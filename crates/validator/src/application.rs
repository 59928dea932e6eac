//! A native chain as consensus sees it.
//!
//! Consensus moves blocks as bytes and asks for verdicts; [`NativeChain`] makes and checks them. This is the table of which word of the one is which of
//! the other, and of whose fault it is when something does not work.

use alloy::primitives::{Address, B256, Bytes};
use cipherloom_consensus::{Application, ApplicationError, DecidedBlock, Head, ProposedBlock, Verdict};
use cipherloom_node::{
    NodeError,
    native::{self, NativeChain},
};
use cipherloom_primitives::quorum::{CommitCertificate, ValidatorSet};
use futures_util::future::BoxFuture;
use tokio::{sync::broadcast, time::Instant};

/// A native chain, and whose blocks this node makes.
#[derive(Clone)]
pub struct ChainApplication {
    chain: NativeChain,
    /// Who proposes here. A node that is no validator is not asked to.
    proposer: Address,
    /// What this node's clients sent.
    announced: broadcast::Sender<Bytes>,
}

impl ChainApplication {
    /// Makes blocks in the name of `proposer`, and tells peers what is sent to `announced`.
    #[must_use]
    pub const fn new(chain: NativeChain, proposer: Address, announced: broadcast::Sender<Bytes>) -> Self {
        Self {
            chain,
            proposer,
            announced,
        }
    }
}

/// Says whose fault an error is.
fn failure(error: NodeError) -> ApplicationError {
    let text = error.to_string();
    match error {
        NodeError::ExecutorUnavailable(_) | NodeError::UnknownBlock(_) => ApplicationError::Unavailable(text),
        NodeError::UnknownCandidate(_) => ApplicationError::Unknown(text),
        NodeError::BlockRefused(_) => ApplicationError::Refused(text),
        _ => ApplicationError::Fatal(text),
    }
}

/// Says what to make of a transaction that a peer passed on and the pool does not take.
fn not_taken(error: NodeError) -> ApplicationError {
    let text = error.to_string();
    match error {
        // Peers see another block than this node, or have more room; that is no offence.
        NodeError::InvalidTransaction(_) => ApplicationError::Refused(text),
        NodeError::Internal(_) | NodeError::ShutDown => ApplicationError::Fatal(text),
        _ => ApplicationError::Unavailable(text),
    }
}

impl Application for ChainApplication {
    fn head(&self) -> Head {
        // After a panic inside the chain nothing works any more; the next question says so, and this one has no way to.
        match self.chain.head() {
            Ok(native::Head { number, hash }) => Head { height: number, hash },
            Err(error) => {
                tracing::error!(%error, "the chain's head cannot be read");
                Head {
                    height: 0,
                    hash: B256::ZERO,
                }
            }
        }
    }

    fn validators(&self, height: u64) -> Result<ValidatorSet, ApplicationError> {
        self.chain.validators_at(height).map_err(failure)
    }

    fn propose(&self, height: u64, round: u32, deadline: Instant) -> BoxFuture<'_, Result<ProposedBlock, ApplicationError>> {
        Box::pin(async move {
            let proposed = Box::pin(self.chain.propose(height, round, self.proposer, deadline))
                .await
                .map_err(failure)?;
            Ok(ProposedBlock {
                hash: proposed.hash,
                bytes: proposed.bytes,
            })
        })
    }

    fn validate(
        &self,
        height: u64,
        round: u32,
        proposer: Address,
        block: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Verdict, ApplicationError>> {
        Box::pin(async move {
            let verdict = Box::pin(self.chain.validate(height, round, proposer, block, deadline)).await;
            Ok(match verdict.map_err(failure)? {
                native::Verdict::Valid { hash } => Verdict::Valid { hash },
                native::Verdict::Invalid(reason) => {
                    tracing::warn!(height, round, %proposer, reason, "a proposed block is not what this node computes");
                    Verdict::Invalid(reason)
                }
            })
        })
    }

    fn commit(&self, hash: B256, certificate: CommitCertificate) -> BoxFuture<'_, Result<(), ApplicationError>> {
        Box::pin(async move { Box::pin(self.chain.commit(hash, certificate)).await.map_err(failure) })
    }

    fn apply(&self, decided: DecidedBlock) -> BoxFuture<'_, Result<(), ApplicationError>> {
        let decided = native::DecidedBlock {
            block: decided.block,
            certificate: decided.certificate,
            sidecar: decided.sidecar,
        };
        Box::pin(async move { Box::pin(self.chain.apply(decided)).await.map_err(failure) })
    }

    fn decided(&self, height: u64) -> BoxFuture<'_, Result<Option<DecidedBlock>, ApplicationError>> {
        Box::pin(async move {
            let decided = Box::pin(self.chain.decided(height)).await.map_err(failure)?;
            Ok(decided.map(|decided| DecidedBlock {
                block: decided.block,
                certificate: decided.certificate,
                sidecar: decided.sidecar,
            }))
        })
    }

    fn add_transaction(&self, bytes: Bytes) -> Result<bool, ApplicationError> {
        match self.chain.add_transaction(&bytes) {
            Err(NodeError::AlreadyKnown) => Ok(false),
            answer => answer.map_err(not_taken),
        }
    }

    fn new_transactions(&self) -> broadcast::Receiver<Bytes> {
        self.announced.subscribe()
    }
}

impl std::fmt::Debug for ChainApplication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChainApplication")
            .field("proposer", &self.proposer)
            .finish_non_exhaustive()
    }
}
