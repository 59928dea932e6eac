//! Resharing: the same secrets under new shares, of the same parties or of others. So a party can be replaced, a committee can grow or shrink, and what was
//! stolen of old shares becomes useless.
//!
//! # Roles
//!
//! The **old committee** `(n, t)` has shares of an epoch; its members run an [`OldMember`]. The **new committee** `(n', t')` gets shares of a later epoch; its members run a [`NewMember`]. A
//! party that is in both runs both. All agree on a [`Plan`] beforehand.
//!
//! # Messages and flow
//!
//! | round | who → whom | message | channel |
//! |:-:|---|---|---|
//! | 0 | new → new | keys of the sets whose lowest-numbered member the sender is | private |
//! | | new → all new | digests of the set keys it got: members of a set must have the same | broadcast |
//! | 1 | new `j` → old `i` | `j`'s share of `r_i`, random numbers that come out of the set keys, as many as the secrets have bits | private |
//! | 2 | old `i` → all new | `s_i - r_i`: its own shares of the secrets, masked | broadcast |
//! | | new → all new | digests of what it got from each old party; only what `n' - t'` got alike counts | broadcast |
//! | 3 | new → all new | its shares of check values | broadcast |
//! | 4 | new → all new | digest of all it saw, digest of its new share, partial decryption of known values under the new shares | broadcast |
//!
//! From round 2 on the new parties have shares of every old party's share `s_i`: the public number plus their shares of `r_i`. Those are of degree `t'` by construction, whatever old parties do. In round 3 they
//! open random combinations of the checks of the old code: 40 of each, with coefficients that are derived from everything said before. They are zero for what honest parties sent; otherwise they are
//! *syndromes* that say which old parties were wrong. The shares of the rest are interpolated: the new share of the secret is a linear function of shares of old shares.
//! In round 4 the new committee decrypts known values, and whoever agrees with it has finished.
//!
//! # What is guaranteed
//!
//! Up to `t` old parties may be wrong or missing, and up to `t'` new ones may send wrong things in rounds 1, 3 and 4, or nothing. In round 0 a new party that deviates makes the resharing fail, and is among the
//! suspects the error names: a new epoch begins with a complete committee, so it is exchanged and the resharing begun anew. A failed resharing leaves the old shares as they are.
//!
//! Old shares and new ones lie on independent polynomials: `t` of the old and `t'` of the new together say nothing. **More than `t` old shares still open the secret**; so honest members erase theirs
//! ([`KeyShare`](crate::KeyShare) wipes itself when dropped; files are the caller's) as soon as the new committee has finished, and refuse earlier epochs from then on.
//!
//! # Restart
//!
//! A party that was interrupted does not resume; the resharing is begun anew, with new set keys. Only the finished share is ever stored.
//!
//! # Assumptions, and our own derivation
//!
//! Channels are authenticated; private ones are encrypted. *Broadcast*: all honest receivers get the same. If they do not, they notice in round 4 and nobody finishes.
//! Nobody but the authors has reviewed the following arguments. *Secrecy:* an old party's number is masked by `r_i`, which `t'` new parties cannot tell from random. The opened checks are combinations of
//! sharings that are linearly independent of the outcome's, even where corrupt old parties' are known: otherwise `t` old shares would determine the secret. *Soundness:* a wrong number of an old party passes one check
//! with probability 1/16, all 40 with 2^-160, and the coefficients cannot be chosen but by trying.

mod combine;
mod message;
mod new;
mod old;

use sha2::{Digest, Sha256};

pub use self::{
    message::{MAX_MESSAGE_BYTES, Message, Outgoing, Recipient, Sender},
    new::{NewMember, Reshared},
    old::OldMember,
};
use crate::{
    ciphertext::SquashedCiphertext,
    committee::{PartyId, Scope},
    error::ThresholdError,
    prss::expansion_tag,
    share::KeyDimensions,
};

/// A value whose ciphertext and plaintext everybody knows, to be decrypted as a test of new shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownValue {
    /// The ciphertext, under the key that is reshared.
    pub ciphertext: SquashedCiphertext,
    /// The value, little-endian.
    pub little_endian: [u8; 32],
}

/// What everybody agrees on before a resharing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    from: Scope,
    to: Scope,
    dimensions: KeyDimensions,
    known: Vec<KnownValue>,
}

impl Plan {
    /// Makes a plan to replace the shares of one scope by those of another.
    ///
    /// # Errors
    /// [`ThresholdError::OtherScope`] if the keys differ, [`ThresholdError::EpochNotLater`] unless the new epoch is later, [`ThresholdError::Resharing`] if
    /// there is no known value or too many of them, [`ThresholdError::SecretKey`] if the dimensions are out of bounds.
    pub fn new(from: Scope, to: Scope, dimensions: KeyDimensions, known: Vec<KnownValue>) -> Result<Self, ThresholdError> {
        if from.key != to.key {
            return Err(ThresholdError::OtherScope("key"));
        }
        if to.epoch <= from.epoch {
            return Err(ThresholdError::EpochNotLater);
        }
        if known.is_empty() || known.len() > MAX_KNOWN_VALUES {
            return Err(ThresholdError::Resharing {
                reason: "a plan has one to eight known values",
                suspects: crate::PartySet::EMPTY,
            });
        }
        Ok(Self {
            from,
            to,
            dimensions: dimensions.check()?,
            known,
        })
    }

    /// Returns what is replaced.
    #[must_use]
    pub const fn from(&self) -> &Scope {
        &self.from
    }

    /// Returns what it is replaced by.
    #[must_use]
    pub const fn to(&self) -> &Scope {
        &self.to
    }

    /// Returns the digest over both scopes, the dimensions and the known values. Every message carries it.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = Sha256::new()
            .chain_update(b"cipherloom/threshold/resharing/1")
            .chain_update(self.from.digest())
            .chain_update(self.to.digest());
        for number in [self.dimensions.squashed, self.dimensions.compressed, self.known.len()] {
            hasher.update((number as u64).to_le_bytes());
        }
        for known in &self.known {
            hasher.update(known.ciphertext.digest());
            hasher.update(known.little_endian);
        }
        hasher.finalize().into()
    }

    /// The tag of the random numbers that mask an old party's share.
    fn mask_tag(&self, old: PartyId) -> [u8; 32] {
        expansion_tag(&self.to, b"resharing", &[&self.digest(), &[old.number()]])
    }
}

/// The most known values of a plan.
const MAX_KNOWN_VALUES: usize = 8;
