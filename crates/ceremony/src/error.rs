//! Why a step of a ceremony is refused.

use alloy_primitives::{Address, B256};
use cipherloom_attest::AttestError;
use cipherloom_threshold::ThresholdError;

/// Errors of this crate. None of them carries a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CeremonyError {
    /// A document or message is not in its form.
    #[error("the {what} is malformed: {reason}")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// What is proposed is not what the chain says.
    #[error("the proposal does not agree with the chain: {0}")]
    NotRegistered(String),
    /// A signature is not that of whom it should be.
    #[error("the {what} is not signed by {expected}")]
    Signature {
        /// What is signed.
        what: &'static str,
        /// Who should have signed it.
        expected: Address,
    },
    /// Something contradicts what was agreed on before.
    #[error("refused: {0}")]
    Refused(&'static str),
    /// A member of the committee is missing, or is there twice.
    #[error("{what} of {signer} is missing or there twice")]
    Missing {
        /// What should be there once.
        what: &'static str,
        /// Whose.
        signer: Address,
    },
    /// A member's entropy is not the one it committed to.
    #[error("the entropy of {0} is not what it committed to")]
    Commitment(Address),
    /// A sender said two different things where all must hear the same. Both are signed.
    #[error("{sender} said two different things in its message {number}: {first} and {second}")]
    Equivocation {
        /// Who.
        sender: Address,
        /// In which of its messages.
        number: u32,
        /// The digest of what was heard first.
        first: B256,
        /// The digest of what was heard then.
        second: B256,
    },
    /// There is no ceremony in progress, or another one.
    #[error("no such ceremony is in progress here; begin anew")]
    NoSession,
    /// The step does not belong to this point of the ceremony.
    #[error("out of order: {0}")]
    OutOfOrder(&'static str),
    /// A share or proposal is of an epoch that is over.
    #[error("epoch {found} is over: {newest} is known here or on the chain")]
    OldEpoch {
        /// The epoch that was offered.
        found: B256,
        /// The epoch that counts.
        newest: B256,
    },
    /// Nothing is held for this key.
    #[error("no share of key {0} is held here")]
    NoShare(B256),
    /// The evidence of a participant is not believed.
    #[error("the evidence of {who} is not believed: {source}")]
    Evidence {
        /// Whose.
        who: Address,
        /// Why.
        source: AttestError,
    },
    /// Attestation or sealing failed.
    #[error(transparent)]
    Attest(#[from] AttestError),
    /// The threshold part refused.
    #[error(transparent)]
    Threshold(#[from] ThresholdError),
    /// A sealed letter cannot be opened: it is for somebody else, or was changed.
    #[error("a letter from {0} cannot be opened")]
    Letter(Address),
    /// A file cannot be read or written.
    #[error("{what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The pieces of a recovery key do not fit together.
    #[error("the recovery key cannot be put together: {0}")]
    Pieces(String),
    /// The source of randomness failed.
    #[error("no randomness: {0}")]
    Randomness(String),
    /// Signing failed, which no valid key shows.
    #[error("signing failed")]
    Signing,
    /// Keys could not be generated.
    #[error("the keys could not be generated: {0}")]
    Keys(String),
    /// A participant could not be reached or refused.
    #[error("{who}: {reason}")]
    Link {
        /// Whom, in words.
        who: String,
        /// Why.
        reason: String,
    },
}

impl CeremonyError {
    pub(crate) fn malformed(what: &'static str, reason: impl ToString) -> Self {
        Self::Malformed {
            what,
            reason: reason.to_string(),
        }
    }

    /// Says whether the caller sent something wrong, rather than this side being unable to go on.
    #[must_use]
    pub const fn is_callers_fault(&self) -> bool {
        !matches!(
            self,
            Self::File { .. } | Self::Randomness(_) | Self::Signing | Self::Attest(_) | Self::Keys(_) | Self::Link { .. }
        )
    }
}
