//! Why a threshold operation is refused.

use crate::committee::{PartyId, PartySet};

/// Errors of this crate. None of them carries a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ThresholdError {
    /// No committee can have this size and threshold.
    #[error("a committee of {parties} parties cannot have threshold {threshold}: {reason}")]
    CommitteeSize {
        /// How many parties were asked for.
        parties: u8,
        /// How many corrupt parties it should bear.
        threshold: u8,
        /// Which rule is broken.
        reason: &'static str,
    },
    /// A number that names no party of the committee.
    #[error("there is no party {party} in a committee of {parties}")]
    NoSuchParty {
        /// The number.
        party: u32,
        /// How many parties there are; they count from 1.
        parties: u8,
    },
    /// A value of this many bits does not exist.
    #[error("a value has 1 to 256 bits, not {0}")]
    ValueBits(u16),
    /// A ciphertext does not have the shape it must have.
    #[error("malformed ciphertext: {0}")]
    Ciphertext(&'static str),
    /// Bytes that are not an encoding of what they should be.
    #[error("malformed {what}: {reason}")]
    Malformed {
        /// What should have been encoded.
        what: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A secret key to be shared is not a list of bits of the right length.
    #[error("this is no secret key that can be shared: {0}")]
    SecretKey(&'static str),
    /// The source of randomness failed.
    #[error("no randomness: {0}")]
    Randomness(String),
    /// Something belongs to another key, context, epoch, committee or party.
    #[error("this belongs to another {0}")]
    OtherScope(&'static str),
    /// An epoch must be later than the one it replaces.
    #[error("the epoch is not later than the one that is held")]
    EpochNotLater,
    /// A share or key is not the one the manifest commits to.
    #[error("{0} is not what the manifest says")]
    Commitment(&'static str),
    /// The same party answered twice.
    #[error("party {0} is there twice")]
    DuplicateParty(PartyId),
    /// Too few shares to be sure of the result, whichever of them are wrong. More answers can help.
    #[error("{present} usable shares, of which {needed} must agree")]
    NotEnoughShares {
        /// How many parties sent a share of the right form.
        present: usize,
        /// How many shares must agree.
        needed: usize,
    },
    /// Shares contradict each other in more places than can be corrected. More answers can help only if parties are missing.
    #[error("more wrong shares than can be corrected among {present} (at most {threshold} parties may be wrong)")]
    TooManyWrongShares {
        /// How many parties sent a share of the right form.
        present: usize,
        /// How many parties may be wrong.
        threshold: usize,
    },
    /// The shares agree, but on something no honest encryption decrypts to: noise beyond its bound, a padding bit that is set, or a value
    /// outside its type. The ciphertext is damaged or forged, or too many parties lie together.
    #[error("the shares of value {value} agree on something that is no plaintext: {reason}")]
    NotAPlaintext {
        /// Which value, counted from 0.
        value: usize,
        /// What was found.
        reason: &'static str,
    },
    /// A resharing cannot go on.
    #[error("resharing failed: {reason}; suspected: {suspects}")]
    Resharing {
        /// What happened.
        reason: &'static str,
        /// Parties that deviated or are missing, as far as this party can tell.
        suspects: PartySet,
    },
    /// A message that does not belong to this stage of a resharing, or not to this receiver.
    #[error("unexpected message: {0}")]
    UnexpectedMessage(&'static str),
}

impl ThresholdError {
    /// Says whether the same request can succeed once more parties answer.
    #[must_use]
    pub const fn more_answers_can_help(&self) -> bool {
        matches!(self, Self::NotEnoughShares { .. } | Self::TooManyWrongShares { .. })
    }
}
