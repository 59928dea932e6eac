//! Committees: how many parties there are, how many of them may be corrupt, and what their shares belong to.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::{error::ThresholdError, ring::Element};

/// The most parties of a committee: the exceptional set has this many points besides zero.
pub const MAX_PARTIES: u8 = 15;
/// Statistical security: every mask is the sum of two uniforms that are 2^40 times as wide as the noise they hide.
pub const STATISTICAL_BITS: u32 = 40;
/// The noise of a squashed ciphertext is below two to this power. Taken from the public protocol's parameters; see the crate's assumptions.
pub const NOISE_BITS: u32 = 70;
/// The plaintext lies in the bits from this one up: Delta = 2^123.
pub const DELTA_BITS: u32 = 123;

/// The number of parties and the number of them that may be corrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommitteeSize {
    parties: u8,
    threshold: u8,
}

/// A party of a committee, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartyId(u8);

/// A set of parties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartySet(u16);

/// What identifies a party outside of the committee, 32 bytes that never change: the digest of its signing key.
pub type PartyIdentity = [u8; 32];

/// The parties of a committee, in the order of their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committee {
    size: CommitteeSize,
    members: Vec<PartyIdentity>,
}

/// The number of a shared key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyId(pub [u8; 32]);

/// The number of a committee configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContextId(pub [u8; 32]);

/// The number of a share generation, big-endian. Later epochs have higher numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpochId(pub [u8; 32]);

/// Everything that shares are bound to: shares of different scopes never mix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The key that is shared.
    pub key: KeyId,
    /// The configuration the committee belongs to.
    pub context: ContextId,
    /// The generation of the shares.
    pub epoch: EpochId,
    /// Who holds them.
    pub committee: Committee,
}

impl CommitteeSize {
    /// Makes a size and asserts that it works: `3 * threshold < parties`, so that `threshold` wrong shares can be corrected; at most
    /// [`MAX_PARTIES`] parties; and masks that leave room for the plaintext.
    ///
    /// # Errors
    /// [`ThresholdError::CommitteeSize`] says which rule is broken.
    pub fn new(parties: u8, threshold: u8) -> Result<Self, ThresholdError> {
        let refuse = |reason| {
            Err(ThresholdError::CommitteeSize {
                parties,
                threshold,
                reason,
            })
        };
        if parties > MAX_PARTIES {
            return refuse("there are at most 15 parties");
        }
        if threshold == 0 {
            return refuse("with threshold 0 every party has the whole key");
        }
        if u32::from(threshold) * 3 >= u32::from(parties) {
            return refuse("wrong shares can be corrected only below a third");
        }
        if !masks_leave_room(binomial(parties, threshold), STATISTICAL_BITS) {
            return refuse("the masks would not leave room for the plaintext");
        }
        Ok(Self { parties, threshold })
    }

    /// Returns how many parties there are.
    #[must_use]
    pub const fn parties(self) -> u8 {
        self.parties
    }

    /// Returns how many parties may be corrupt.
    #[must_use]
    pub const fn threshold(self) -> u8 {
        self.threshold
    }

    /// Returns how many shares must agree so that a majority of the honest ones is among them, whoever is corrupt: `2 * threshold + 1`.
    #[must_use]
    pub const fn quorum(self) -> u8 {
        2 * self.threshold + 1
    }

    /// Returns the parties in order.
    pub fn ids(self) -> impl Iterator<Item = PartyId> {
        (1..=self.parties).map(PartyId)
    }

    /// Returns all parties as a set.
    #[must_use]
    pub fn everyone(self) -> PartySet {
        self.ids().collect()
    }

    /// Makes the number of a party.
    ///
    /// # Errors
    /// [`ThresholdError::NoSuchParty`] unless it is from 1 to [`Self::parties`].
    pub fn party(self, number: u32) -> Result<PartyId, ThresholdError> {
        match u8::try_from(number) {
            Ok(small) if (1..=self.parties).contains(&small) => Ok(PartyId(small)),
            _ => Err(ThresholdError::NoSuchParty {
                party: number,
                parties: self.parties,
            }),
        }
    }

    /// Returns every set of `parties - threshold` parties, in a fixed order. Each has a secret of its own to make masks from: whichever
    /// `threshold` parties are corrupt, one of these sets has none of them.
    #[must_use]
    pub fn mask_sets(self) -> Vec<PartySet> {
        let members = u32::from(self.parties - self.threshold);
        let sets = 0..1u32 << self.parties;
        sets.filter(|bits| bits.count_ones() == members)
            .filter_map(|bits| u16::try_from(bits).ok().map(PartySet))
            .collect()
    }

    /// Returns the widest that masks and noise of an honest ciphertext get together.
    #[must_use]
    pub fn noise_bound(self) -> u128 {
        let masks = u128::from(binomial(self.parties, self.threshold)) << (NOISE_BITS + STATISTICAL_BITS + 1);
        masks + (1 << NOISE_BITS)
    }
}

impl fmt::Display for CommitteeSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of which {} may be corrupt", self.parties, self.threshold)
    }
}

/// The correctness budget: the sum of all masks, two uniforms per set, stays below half of Delta.
const fn masks_leave_room(sets: u32, statistical_bits: u32) -> bool {
    (sets as u128) << (statistical_bits + NOISE_BITS + 1) < 1 << (DELTA_BITS - 1)
}

/// How many sets of `k` there are among `n`, both at most [`MAX_PARTIES`].
fn binomial(n: u8, k: u8) -> u32 {
    (0..u32::from(k)).fold(1, |product, i| product * (u32::from(n) - i) / (i + 1))
}

impl PartyId {
    /// Returns the number, counted from 1.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Returns the point of the ring at which the party's shares lie.
    #[must_use]
    pub const fn point(self) -> Element {
        Element::exceptional(self.0)
    }
}

impl fmt::Display for PartyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PartySet {
    /// The empty set.
    pub const EMPTY: Self = Self(0);

    /// Returns the set as bits: party `i` is bit `i - 1`.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Makes the set with these bits.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits & ((1 << MAX_PARTIES) - 1))
    }

    /// Says whether a party is in it.
    #[must_use]
    pub const fn contains(self, party: PartyId) -> bool {
        self.0 & (1 << (party.0 - 1)) != 0
    }

    /// Adds a party.
    pub const fn insert(&mut self, party: PartyId) {
        self.0 |= 1 << (party.0 - 1);
    }

    /// Returns how many parties are in it.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Says whether nobody is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the parties in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the parties in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the parties that are in this set and not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns the parties in order.
    pub fn iter(self) -> impl Iterator<Item = PartyId> {
        (1..=MAX_PARTIES).map(PartyId).filter(move |party| self.contains(*party))
    }
}

impl FromIterator<PartyId> for PartySet {
    fn from_iter<I: IntoIterator<Item = PartyId>>(parties: I) -> Self {
        let mut set = Self::EMPTY;
        parties.into_iter().for_each(|party| set.insert(party));
        set
    }
}

impl fmt::Display for PartySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nobody");
        }
        for (index, party) in self.iter().enumerate() {
            write!(f, "{}{party}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl Committee {
    /// Makes a committee of these members.
    ///
    /// # Errors
    /// [`ThresholdError::CommitteeSize`] if the size is impossible or a member is named twice.
    pub fn new(threshold: u8, members: Vec<PartyIdentity>) -> Result<Self, ThresholdError> {
        let parties = u8::try_from(members.len()).unwrap_or(u8::MAX);
        let size = CommitteeSize::new(parties, threshold)?;
        let mut sorted = members.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() != members.len() {
            return Err(ThresholdError::CommitteeSize {
                parties,
                threshold,
                reason: "a member is named twice",
            });
        }
        Ok(Self { size, members })
    }

    /// Returns the size.
    #[must_use]
    pub const fn size(&self) -> CommitteeSize {
        self.size
    }

    /// Returns the identities, party 1 first.
    #[must_use]
    pub fn members(&self) -> &[PartyIdentity] {
        &self.members
    }

    /// Finds the number of a member.
    #[must_use]
    pub fn find(&self, identity: &PartyIdentity) -> Option<PartyId> {
        self.size
            .ids()
            .zip(&self.members)
            .find(|(_, member)| *member == identity)
            .map(|(id, _)| id)
    }

    /// Returns the digest over size, threshold, and members with their numbers.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = Sha256::new()
            .chain_update(b"cipherloom/threshold/committee/1")
            .chain_update([self.size.parties, self.size.threshold]);
        self.members.iter().for_each(|member| hasher.update(member));
        hasher.finalize().into()
    }
}

impl Scope {
    /// Returns the digest over key, context, epoch and committee. Masks, shares and messages are bound to it.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::new()
            .chain_update(b"cipherloom/threshold/scope/1")
            .chain_update(self.key.0)
            .chain_update(self.context.0)
            .chain_update(self.epoch.0)
            .chain_update(self.committee.digest())
            .finalize()
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_committee_below_a_third_is_allowed_and_no_other() {
        for parties in 0..=20u8 {
            for threshold in 0..=8u8 {
                let allowed = parties <= 15 && threshold >= 1 && 3 * threshold < parties;
                assert_eq!(CommitteeSize::new(parties, threshold).is_ok(), allowed, "{parties}, {threshold}");
            }
        }
    }

    #[test]
    fn the_correctness_budget_ends_below_2048_sets() {
        assert!(masks_leave_room(2047, STATISTICAL_BITS));
        assert!(!masks_leave_room(2048, STATISTICAL_BITS));
        assert!(!masks_leave_room(2047, STATISTICAL_BITS + 1));
        assert_eq!(
            [binomial(4, 1), binomial(7, 2), binomial(13, 4), binomial(15, 4), binomial(16, 5)],
            [4, 21, 715, 1365, 4368]
        );
        assert!(!masks_leave_room(binomial(16, 5), STATISTICAL_BITS));
        assert!(CommitteeSize::new(15, 4).unwrap().noise_bound() < 1 << (DELTA_BITS - 1));
    }

    #[test]
    fn whoever_is_corrupt_one_set_has_none_of_them() {
        let size = CommitteeSize::new(7, 2).unwrap();
        let sets = size.mask_sets();
        assert_eq!(sets.len(), 21);
        for a in size.ids() {
            for b in size.ids().filter(|b| *b != a) {
                let clean = sets.iter().filter(|set| !set.contains(a) && !set.contains(b)).count();
                assert_eq!(clean, 1);
            }
        }
        assert!(sets.iter().all(|set| set.len() == 5));
    }

    #[test]
    fn sets_print_their_members() {
        assert_eq!(PartySet::EMPTY.to_string(), "nobody");
        assert_eq!(PartySet::from_bits(0b10_0101).to_string(), "1, 3, 6");
    }

    #[test]
    fn the_scope_digest_depends_on_every_part() {
        let committee = |first| Committee::new(1, vec![[first; 32], [2; 32], [3; 32], [4; 32]]).unwrap();
        let scope = Scope {
            key: KeyId([1; 32]),
            context: ContextId([2; 32]),
            epoch: EpochId([3; 32]),
            committee: committee(1),
        };
        let others = [
            Scope {
                key: KeyId([9; 32]),
                ..scope.clone()
            },
            Scope {
                context: ContextId([9; 32]),
                ..scope.clone()
            },
            Scope {
                epoch: EpochId([9; 32]),
                ..scope.clone()
            },
            Scope {
                committee: committee(9),
                ..scope.clone()
            },
        ];
        assert!(others.iter().all(|other| other.digest() != scope.digest()));
        assert!(Committee::new(1, vec![[1; 32]; 4]).is_err());
        assert_eq!(scope.committee.find(&[3; 32]).map(PartyId::number), Some(3));
    }
}
