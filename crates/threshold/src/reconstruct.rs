//! Reconstruction: from the parties' shares to values, whoever of them is wrong or missing.
//!
//! **Roles.** Anybody who has the shares: each node for public decryptions, the user for theirs. **Flow.** Shares of all values of a request are taken together. If all lie on
//! polynomials of degree `t`, that is the answer; otherwise wrong ones are [located](crate::correction) and left out, in all values. **What is guaranteed:** with at most `t`
//! corrupt parties the values are right, and those who sent something wrong are named. More wrong shares than `t` give an error, unless they are made to agree with each other and with
//! honest ones: no code can tell that from an honest majority, and parties that are more than `t` have the key anyway. What is opened must then still be a plausible plaintext.
//!
//! Of `n` parties `2t + 1` must agree, so `t` may be missing or wrong, in any mixture. **Restart:** nothing is remembered.

use zeroize::Zeroizing;

use crate::{
    ciphertext::{DecryptionTag, ValueShape},
    committee::{CommitteeSize, PartyId, PartySet},
    correction,
    error::ThresholdError,
    partial::{PartialDecryption, share_from_bytes},
    plaintext::Plaintext,
    ring::Element,
};

/// The most values reconstructed at a time: a full request of booleans.
pub const MAX_VALUES: usize = 1024;

/// What one party contributed to a request, value by value. One that is malformed still counts: as wrong.
pub struct Contribution {
    party: PartyId,
    /// All elements of all values, or nothing if they are not what was asked for.
    elements: Option<Zeroizing<Vec<Element>>>,
}

/// The values of a request.
pub struct Reconstruction {
    /// The values, in the order of the request.
    pub values: Vec<Plaintext>,
    /// Who sent shares that are wrong.
    pub wrong: PartySet,
    /// Who sent none.
    pub missing: PartySet,
}

/// What is expected of a value's shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The tag of scope and ciphertext.
    pub tag: DecryptionTag,
    /// How wide the value is.
    pub shape: ValueShape,
}

impl Contribution {
    /// Takes the partial decryptions one party sent for a request. Whether it was that party is for the caller to know.
    #[must_use]
    pub fn of_partials(party: PartyId, expected: &[Expected], partials: &[PartialDecryption]) -> Self {
        let fits = |(expected, partial): (&Expected, &PartialDecryption)| {
            partial.party() == party && partial.tag() == expected.tag && partial.elements().len() == expected.shape.element_count()
        };
        let usable = expected.len() == partials.len() && expected.iter().zip(partials).all(fits);
        let elements = || partials.iter().flat_map(|partial| partial.elements()).copied();
        Self {
            party,
            elements: usable.then(|| Zeroizing::new(elements().collect())),
        }
    }

    /// Takes the shares out of one party's answer to a user, in the encoding of [`PartialDecryption::share_bytes`].
    #[must_use]
    pub fn of_shares<'a>(party: PartyId, shapes: &[ValueShape], shares: impl ExactSizeIterator<Item = &'a [u8]>) -> Self {
        let count = shapes.iter().map(|shape| shape.element_count()).sum();
        let mut elements = Zeroizing::new(Vec::with_capacity(count));
        let mut usable = shapes.len() == shares.len();
        for (shape, share) in shapes.iter().zip(shares) {
            match share_from_bytes(*shape, share) {
                Ok(share) => elements.extend_from_slice(&share),
                Err(_) => usable = false,
            }
        }
        Self {
            party,
            elements: usable.then_some(elements),
        }
    }

    /// Says that a party answered, but with something that cannot be used at all.
    #[must_use]
    pub const fn unusable(party: PartyId) -> Self {
        Self { party, elements: None }
    }

    /// Returns whose it is.
    #[must_use]
    pub const fn party(&self) -> PartyId {
        self.party
    }
}

/// Reconstructs the values of a request.
///
/// # Errors
/// [`ThresholdError::NotEnoughShares`] and [`ThresholdError::TooManyWrongShares`] if the contributions do not determine the values,
/// [`ThresholdError::NotAPlaintext`] if they agree on something that is none, [`ThresholdError::DuplicateParty`] if one is there twice,
/// [`ThresholdError::Malformed`] if there are more than [`MAX_VALUES`] values.
pub fn reconstruct(size: CommitteeSize, shapes: &[ValueShape], contributions: &[Contribution]) -> Result<Reconstruction, ThresholdError> {
    if shapes.len() > MAX_VALUES {
        return Err(ThresholdError::Malformed {
            what: "request",
            reason: "it has too many values",
        });
    }
    let length: usize = shapes.iter().map(|shape| shape.element_count()).sum();
    let mut answered = PartySet::EMPTY;
    let mut vectors = Vec::with_capacity(contributions.len());
    for contribution in contributions {
        let party = size.party(contribution.party.number().into())?;
        if answered.contains(party) {
            return Err(ThresholdError::DuplicateParty(party));
        }
        answered.insert(party);
        if let Some(elements) = contribution.elements.as_ref().filter(|elements| elements.len() == length) {
            vectors.push((party, elements.as_slice()));
        }
    }
    let opened = correction::open(size, &vectors)?;
    let usable = vectors.iter().map(|(party, _)| *party).collect();
    let mut packed = opened.values.as_slice();
    let values = shapes
        .iter()
        .enumerate()
        .map(|(value, shape)| {
            let (phases, rest) = packed.split_at_checked(shape.element_count()).unwrap_or((packed, &[]));
            packed = rest;
            Plaintext::decode(size, *shape, phases).map_err(|reason| ThresholdError::NotAPlaintext { value, reason })
        })
        .collect::<Result<_, _>>()?;
    Ok(Reconstruction {
        values,
        wrong: opened.wrong.union(answered.without(usable)),
        missing: size.everyone().without(answered),
    })
}
