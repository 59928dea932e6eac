//! What can go wrong in the coprocessor.

use cipherloom_engine::EngineError;
use cipherloom_fhe::FheError;
use cipherloom_primitives::{Address, B256, Handle};
use cipherloom_store::StoreError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoprocessorError {
    /// An input list is made for another chain.
    #[error("the input is for chain {found}; this coprocessor serves chain {expected}")]
    WrongChain {
        /// The chain this coprocessor serves.
        expected: u64,
        /// The chain of the input or handle.
        found: u64,
    },
    /// An input list names another access-control contract.
    #[error("the input names ACL {found}; chain's host contracts have {expected}")]
    WrongAcl {
        /// The ACL this coprocessor serves.
        expected: Address,
        /// The ACL of the input.
        found: Address,
    },
    /// Something handed in is too large.
    #[error("{what} has {size} bytes; at most {limit} are accepted")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The input list or its proof is not valid.
    #[error(transparent)]
    InputRefused(FheError),
    /// The input list has no values.
    #[error("the input list is empty")]
    EmptyInput,
    /// Too many proofs are being checked already.
    #[error("too many input proofs are waiting; try again")]
    Busy,
    /// A tenant has no keys.
    #[error("tenant {tenant} has no key set; `cipherloom tenant set-keys` gives it one")]
    NoKeys {
        /// The tenant's name.
        tenant: String,
    },
    /// A tenant's keys cannot be used.
    #[error("key set {key_set} of tenant {tenant} cannot be used: {reason}")]
    KeysRefused {
        /// The tenant's name.
        tenant: String,
        /// The key set.
        key_set: B256,
        /// Why.
        reason: String,
    },
    /// Nothing is known about the handle.
    #[error("handle {0} is unknown: no followed transaction published it and it is no admitted input")]
    UnknownHandle(Handle),
    /// The ciphertext is still being computed.
    #[error("handle {0} is not computed yet")]
    NotComputed(Handle),
    /// The ciphertext can never be computed.
    #[error("handle {handle} cannot be computed: {reason}")]
    Failed {
        /// The handle.
        handle: Handle,
        /// Why.
        reason: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A ciphertext of our own could not be read, written or expanded.
    #[error("ciphertext of {handle}: {source}")]
    Ciphertext {
        /// The handle.
        handle: Handle,
        /// What went wrong.
        source: FheError,
    },
    /// A ciphertext cannot be squashed: its key set has no keys for it, or they cannot be used.
    #[error("key set {key_set} cannot squash noise, which threshold decryption needs: {reason}")]
    NoSquashing {
        /// The key set.
        key_set: B256,
        /// Why.
        reason: String,
    },
    /// Too many ciphertexts wait to be squashed.
    #[error("too many ciphertexts are waiting to be squashed; try again")]
    SquashingBusy,
    /// Squashing a ciphertext went wrong.
    #[error("handle {handle} could not be squashed: {reason}")]
    SquashingFailed {
        /// The handle.
        handle: Handle,
        /// Why.
        reason: String,
    },
    /// The coprocessor's key could not sign.
    #[error("signing: {0}")]
    Signing(#[from] alloy::signers::Error),
    /// The engine could not be started.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A computing thread ended without a result.
    #[error("a computing thread panicked or was stopped with the runtime")]
    ThreadLost,
}

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What was sent or asked.
    Request,
    /// This coprocessor or what it runs on.
    Coprocessor,
}

impl CoprocessorError {
    /// Says whose fault the error is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::WrongChain { .. }
            | Self::WrongAcl { .. }
            | Self::TooLarge { .. }
            | Self::InputRefused(_)
            | Self::EmptyInput
            | Self::UnknownHandle(_)
            | Self::NotComputed(_)
            | Self::Failed { .. } => Fault::Request,
            Self::Busy
            | Self::NoKeys { .. }
            | Self::KeysRefused { .. }
            | Self::Store(_)
            | Self::Ciphertext { .. }
            | Self::NoSquashing { .. }
            | Self::SquashingBusy
            | Self::SquashingFailed { .. }
            | Self::Signing(_)
            | Self::Engine(_)
            | Self::ThreadLost => Fault::Coprocessor,
        }
    }

    /// Says whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Busy | Self::SquashingBusy | Self::NotComputed(_) | Self::UnknownHandle(_) | Self::ThreadLost => true,
            Self::Store(error) => error.is_retryable(),
            _ => false,
        }
    }
}
