//! The arithmetic of a new member: checks over the old committee's shares, and the new share.

use aes::cipher::{KeyIvInit, StreamCipher};
use zeroize::Zeroizing;

use crate::{
    committee::{CommitteeSize, PartyId, PartySet},
    correction,
    error::ThresholdError,
    interpolation::{Code, combine},
    ring::{ELEMENT_BYTES, Element},
};

/// How many random combinations of every check are opened. Each misses a wrong share with probability 1/16.
pub(super) const CHECKS: usize = 40;

/// One new party's shares of the shares of every old party that counts.
pub(super) struct SharesOfShares {
    vectors: Vec<(PartyId, Zeroizing<Vec<Element>>)>,
}

impl SharesOfShares {
    /// Adds what an old party published to this party's share of its mask.
    pub(super) fn new(parts: impl Iterator<Item = (PartyId, Vec<Element>, Zeroizing<Vec<Element>>)>) -> Self {
        let vectors = parts.map(|(old, masked, mut share)| {
            share.iter_mut().zip(masked).for_each(|(share, masked)| *share += masked);
            (old, share)
        });
        Self {
            vectors: vectors.collect(),
        }
    }

    fn parties(&self) -> PartySet {
        self.vectors.iter().map(|(old, _)| *old).collect()
    }

    /// Returns this party's shares of [`CHECKS`] combinations of every check of the old code.
    pub(super) fn checks(&self, old: CommitteeSize, challenge: &[u8; 32]) -> Vec<Element> {
        let code = Code::new(self.parties(), old.threshold().into());
        let length = self.vectors.first().map_or(0, |(_, vector)| vector.len());
        let mut coefficients = Coefficients::new(challenge);
        let mut checks = Vec::with_capacity(CHECKS * code.checks().len());
        for _ in 0..CHECKS {
            let coefficients = coefficients.next(length);
            let combination = |vector: &[Element]| vector.iter().zip(&coefficients).map(|(share, factor)| *share * *factor).sum();
            let combined: Zeroizing<Vec<Element>> = Zeroizing::new(self.vectors.iter().map(|(_, vector)| combination(vector)).collect());
            checks.extend(code.syndromes(&combined));
        }
        checks
    }

    /// Returns how many elements [`Self::checks`] has.
    pub(super) fn check_count(&self, old: CommitteeSize) -> usize {
        CHECKS * self.vectors.len().saturating_sub(usize::from(old.threshold()) + 1)
    }

    /// Says which old parties were wrong, from the opened checks.
    pub(super) fn wrong(&self, old: CommitteeSize, opened: &[Element]) -> Result<PartySet, ThresholdError> {
        let parties = self.parties();
        let too_many = ThresholdError::TooManyWrongShares {
            present: parties.len(),
            threshold: old.threshold().into(),
        };
        let per_combination = opened.len() / CHECKS;
        let mut wrong = PartySet::EMPTY;
        for syndromes in opened.chunks(per_combination.max(1)) {
            wrong = wrong.union(correction::locate_all(parties, syndromes).ok_or_else(|| too_many.clone())?);
        }
        let needed = usize::from(old.quorum()).max(parties.len().saturating_sub(old.threshold().into()));
        if parties.len() - wrong.len() < needed {
            return Err(too_many);
        }
        Ok(wrong)
    }

    /// Interpolates the new share from those of old parties that were right.
    pub(super) fn new_share(&self, old: CommitteeSize, wrong: PartySet) -> Zeroizing<Vec<Element>> {
        let code = Code::new(self.parties().without(wrong), old.threshold().into());
        let right: Vec<&[Element]> = code
            .parties()
            .iter()
            .filter_map(|party| self.vectors.iter().find(|(old, _)| old == party))
            .map(|(_, vector)| vector.as_slice())
            .collect();
        let length = right.first().map_or(0, |vector| vector.len());
        combine(code.weights_at_zero(), &right, length)
    }
}

/// Public random coefficients.
struct Coefficients(ctr::Ctr128LE<aes::Aes256>);

impl Coefficients {
    fn new(challenge: &[u8; 32]) -> Self {
        Self(ctr::Ctr128LE::new(challenge.into(), &[0; 16].into()))
    }

    fn next(&mut self, count: usize) -> Vec<Element> {
        let mut bytes = vec![0; count * ELEMENT_BYTES];
        self.0.apply_keystream(&mut bytes);
        bytes.as_chunks::<ELEMENT_BYTES>().0.iter().map(Element::from_bytes).collect()
    }
}
