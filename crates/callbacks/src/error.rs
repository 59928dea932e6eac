//! What can go wrong while a contract is served. All of it is tried again; nothing is lost meanwhile.

use cipherloom_chain::ChainError;
use cipherloom_store::StoreError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The chain's nodes.
    #[error("chain: {0}")]
    Chain(#[from] ChainError),
    /// The store.
    #[error("store: {0}")]
    Store(#[from] StoreError),
}

impl RelayError {
    /// Says whether another process serves the contract now.
    #[must_use]
    pub const fn is_claim_lost(&self) -> bool {
        matches!(self, Self::Store(StoreError::ClaimLost(_)))
    }
}
