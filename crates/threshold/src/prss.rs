//! Pseudo-random secret sharing: shares of common random numbers without any message.
//!
//! **Roles.** Every set of `n - t` parties has a key of 32 bytes that its members know and nobody else. Whichever `t` parties are corrupt, one set has
//! none of them: its numbers are unknown to the adversary. A party holds the keys of the sets it is in: 3 for (4, 1), 15 for (7, 2), 495 for (13, 4).
//!
//! **Flow.** For a tag, each set key expands to the set's own numbers `r_A`. The shared number is the sum of all of them. Its share at the point of party
//! `i` is the sum over the sets of `i` of `f_A(i) * r_A`, where `f_A` is the polynomial of degree `t` that is 1 at zero and 0 at parties outside of `A`: so nobody needs
//! the numbers of sets it is not in.
//!
//! **Expansion.** `SHAKE256(domain || key || tag)` gives an AES-256 key, whose counter stream gives the numbers. Every tag has a key of its own, so streams never overlap.
//! What is drawn is *masks*, for decryption: sums of two uniforms in [-2^110, 2^110), one mask per LWE ciphertext; or *elements*, uniform in the ring, for
//! resharing. The domains differ.
//!
//! **Restart.** Nothing is remembered: the same keys and tag give the same numbers, always.

use aes::cipher::{KeyIvInit, StreamCipher};
use sha2::{Digest, Sha256};
use shake::{ExtendableOutput, Shake256, Update, XofReader};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    committee::{CommitteeSize, NOISE_BITS, PartyId, PartySet, STATISTICAL_BITS, Scope},
    interpolation::set_weight,
    ring::{DEGREE, ELEMENT_BYTES, Element},
};

/// The length of a set's key.
pub(crate) const SET_KEY_BYTES: usize = 32;
/// How many bytes of the stream one mask takes: two uniforms of 128 bits, of which 111 are used.
const MASK_BYTES: usize = 32;
/// A uniform number of a mask is at least minus two to this power and below two to this power.
const UNIFORM_BITS: u32 = NOISE_BITS + STATISTICAL_BITS;

type Stream = ctr::Ctr128LE<aes::Aes256>;

/// What the stream of a key is used for.
#[derive(Clone, Copy)]
enum Purpose {
    Masks,
    Elements,
}

impl Purpose {
    const fn domain(self) -> &'static [u8] {
        match self {
            Self::Masks => b"cipherloom/threshold/prss/masks/1",
            Self::Elements => b"cipherloom/threshold/prss/elements/1",
        }
    }
}

/// The key of one set of parties, wiped when dropped.
pub(crate) struct SetKey(Zeroizing<[u8; SET_KEY_BYTES]>);

impl SetKey {
    pub(crate) const fn new(bytes: Zeroizing<[u8; SET_KEY_BYTES]>) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; SET_KEY_BYTES] {
        &self.0
    }

    /// Makes another copy for another holder.
    pub(crate) fn copy(&self) -> Self {
        Self(Zeroizing::new(*self.0))
    }

    /// Returns what the members of a set compare to see that they have the same key. It tells nothing about a key of 256 random bits.
    pub(crate) fn digest(&self, scope_digest: &[u8; 32], set: PartySet) -> [u8; 32] {
        let hasher = Sha256::new()
            .chain_update(b"cipherloom/threshold/set-key/1")
            .chain_update(scope_digest)
            .chain_update(set.bits().to_le_bytes());
        hasher.chain_update(self.0.as_slice()).finalize().into()
    }

    fn stream(&self, purpose: Purpose, tag: &[u8; 32]) -> Stream {
        let mut hasher = Shake256::default();
        hasher.update(purpose.domain());
        hasher.update(self.0.as_slice());
        hasher.update(tag);
        let mut key = Zeroizing::new([0u8; 32]);
        hasher.finalize_xof().read(key.as_mut_slice());
        Stream::new((&*key).into(), &[0; 16].into())
    }
}

/// The keys of all sets that one party is in.
pub(crate) struct SetKeys {
    keys: Vec<(PartySet, SetKey)>,
    /// The value of each set's polynomial at the party's point.
    weights: Vec<Element>,
}

impl SetKeys {
    /// Makes the keys of a party from one key for each of [`sets_of`], in that order.
    pub(crate) fn new(size: CommitteeSize, party: PartyId, keys: Vec<SetKey>) -> Self {
        let keys: Vec<(PartySet, SetKey)> = sets_of(size, party).into_iter().zip(keys).collect();
        let weights = keys
            .iter()
            .map(|(set, _)| set_weight(size.everyone().without(*set), party))
            .collect();
        Self { keys, weights }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PartySet, &SetKey)> {
        self.keys.iter().map(|(set, key)| (*set, key))
    }

    /// Adds this party's shares of the masks for that many LWE ciphertexts, packed as partial decryptions are.
    pub(crate) fn add_masks(&self, tag: &[u8; 32], lwe_count: usize, packed: &mut [Element]) {
        let mut bytes = Zeroizing::new(vec![0u8; lwe_count * MASK_BYTES]);
        for ((_, key), weight) in self.keys.iter().zip(&self.weights) {
            bytes.fill(0);
            key.stream(Purpose::Masks, tag).apply_keystream(&mut bytes);
            for (element, masks) in packed.iter_mut().zip(bytes.chunks(MASK_BYTES * DEGREE)) {
                let mut group = [0u128; DEGREE];
                for (mask, bytes) in group.iter_mut().zip(masks.as_chunks::<MASK_BYTES>().0) {
                    *mask = sum_of_uniforms(bytes);
                }
                *element += *weight * Element::new(group);
                group.zeroize();
            }
        }
    }

    /// Returns this party's shares of that many uniform elements.
    pub(crate) fn elements(&self, tag: &[u8; 32], count: usize) -> Zeroizing<Vec<Element>> {
        let mut shares = Zeroizing::new(vec![Element::ZERO; count]);
        let mut bytes = Zeroizing::new(vec![0u8; 64 * ELEMENT_BYTES]);
        for ((_, key), weight) in self.keys.iter().zip(&self.weights) {
            let mut stream = key.stream(Purpose::Elements, tag);
            for some in shares.chunks_mut(64) {
                bytes.fill(0);
                stream.apply_keystream(&mut bytes);
                for (share, number) in some.iter_mut().zip(bytes.as_chunks::<ELEMENT_BYTES>().0) {
                    *share += *weight * Element::from_bytes(number);
                }
            }
        }
        shares
    }
}

/// Returns the sets a party is in, in the order in which its keys are kept.
pub(crate) fn sets_of(size: CommitteeSize, party: PartyId) -> Vec<PartySet> {
    size.mask_sets().into_iter().filter(|set| set.contains(party)).collect()
}

/// The sum of two uniforms in [-2^110, 2^110), as a number modulo 2^128.
fn sum_of_uniforms(bytes: &[u8; MASK_BYTES]) -> u128 {
    let (numbers, _) = bytes.as_chunks::<16>();
    numbers.iter().fold(0u128, |sum, number| {
        let uniform = u128::from_le_bytes(*number) & ((2 << UNIFORM_BITS) - 1);
        sum.wrapping_add(uniform).wrapping_sub(1 << UNIFORM_BITS)
    })
}

/// Returns a digest of a scope and of what is expanded in it, to be the tag of a stream.
pub(crate) fn expansion_tag(scope: &Scope, purpose: &[u8], details: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new()
        .chain_update(b"cipherloom/threshold/tag/1")
        .chain_update(scope.digest());
    for part in std::iter::once(&purpose).chain(details) {
        sha2::Digest::update(&mut hasher, (part.len() as u64).to_le_bytes());
        sha2::Digest::update(&mut hasher, part);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpolation::Code;

    fn key(seed: u16) -> SetKey {
        let mut bytes = [7; 32];
        bytes[..2].copy_from_slice(&seed.to_le_bytes());
        SetKey::new(Zeroizing::new(bytes))
    }

    fn all(size: CommitteeSize) -> Vec<SetKeys> {
        let keys_of = |party| sets_of(size, party).into_iter().map(|set| key(set.bits())).collect();
        size.ids().map(|party| SetKeys::new(size, party, keys_of(party))).collect()
    }

    fn signed_bits(number: u128) -> u32 {
        128 - number.cast_signed().unsigned_abs().leading_zeros()
    }

    #[test]
    fn masks_lie_on_a_polynomial_and_are_as_wide_as_they_should_be() {
        for (parties, threshold) in [(4, 1), (7, 2), (13, 4)] {
            let size = CommitteeSize::new(parties, threshold).unwrap();
            let shares: Vec<Vec<Element>> = all(size)
                .iter()
                .map(|keys| {
                    let mut packed = vec![Element::ZERO; 3];
                    keys.add_masks(&[1; 32], 10, &mut packed);
                    packed
                })
                .collect();
            let code = Code::new(size.everyone(), usize::from(threshold));
            for group in 0..3 {
                let word: Vec<Element> = shares.iter().map(|share| share[group]).collect();
                assert!(code.contains(&word));
                for (index, mask) in code.at_zero(&word).coefficients().into_iter().enumerate() {
                    if 4 * group + index < 10 {
                        assert!((105..122).contains(&signed_bits(mask)), "{}", signed_bits(mask));
                    } else {
                        assert_eq!(mask, 0, "no mask beyond the last ciphertext");
                    }
                }
            }
        }
    }

    #[test]
    fn masks_depend_on_every_set_key_and_on_the_tag_alone() {
        let size = CommitteeSize::new(4, 1).unwrap();
        let parties = all(size);
        let masks = |tag| {
            let mut packed = vec![Element::ZERO; 2];
            parties[0].add_masks(tag, 8, &mut packed);
            packed
        };
        assert!(masks(&[1; 32]) == masks(&[1; 32]));
        assert!(masks(&[1; 32]).iter().zip(masks(&[2; 32])).all(|(a, b)| *a != b));
        // The first ones of a longer list are the same: the tag binds the length, by binding the ciphertext.
        let mut longer = vec![Element::ZERO; 3];
        parties[0].add_masks(&[1; 32], 12, &mut longer);
        assert!(longer[..2] == masks(&[1; 32]));
    }

    /// Mean, variance and extremes of what one set contributes, over 40,000 draws with a fixed key.
    #[test]
    fn the_sum_of_two_uniforms_has_their_distribution() {
        const DRAWS: usize = 40_000;
        let mut bytes = vec![0u8; DRAWS * MASK_BYTES];
        key(1).stream(Purpose::Masks, &[9; 32]).apply_keystream(&mut bytes);
        let width = 2f64.powi(110);
        #[expect(clippy::cast_precision_loss, reason = "statistics")]
        let draws: Vec<f64> = bytes
            .as_chunks::<MASK_BYTES>()
            .0
            .iter()
            .map(|bytes| sum_of_uniforms(bytes).cast_signed() as f64 / width)
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "statistics")]
        let count = DRAWS as f64;
        let mean = draws.iter().sum::<f64>() / count;
        let variance = draws.iter().map(|draw| draw * draw).sum::<f64>() / count;
        // Standard errors: 0.0041 of the mean, 0.0039 of the variance, whose value is 2/3.
        assert!(mean.abs() < 0.02, "{mean}");
        assert!((variance - 2.0 / 3.0).abs() < 0.02, "{variance}");
        assert!(draws.iter().all(|draw| (-2.0..2.0).contains(draw)));
        // Triangular: a quarter of the mass is beyond one half of the way on each side's inner half, one eighth beyond +1 …
        let beyond = |limit: f64| draws.iter().filter(|draw| **draw > limit).map(|_| 1.0 / count).sum::<f64>();
        assert!((beyond(1.0) - 0.125).abs() < 0.01, "{}", beyond(1.0));
        assert!((beyond(0.0) - 0.5).abs() < 0.015, "{}", beyond(0.0));
    }

    #[test]
    fn uniform_elements_lie_on_a_polynomial_and_use_all_bits() {
        let size = CommitteeSize::new(7, 2).unwrap();
        let shares: Vec<_> = all(size).iter().map(|keys| keys.elements(&[3; 32], 200)).collect();
        let code = Code::new(size.everyone(), 2);
        let (mut ones, mut zeros) = ([0u128; 4], [0u128; 4]);
        for position in 0..200 {
            let word: Vec<Element> = shares.iter().map(|share| share[position]).collect();
            assert!(code.contains(&word));
            for (index, coefficient) in code.at_zero(&word).coefficients().into_iter().enumerate() {
                ones[index] |= coefficient;
                zeros[index] |= !coefficient;
            }
        }
        assert_eq!((ones, zeros), ([u128::MAX; 4], [u128::MAX; 4]));
    }

    #[test]
    fn tags_depend_on_where_fields_end() {
        let scope = crate::dealing::tests::scope(1);
        assert_ne!(
            expansion_tag(&scope, b"p", &[b"ab", b"c"]),
            expansion_tag(&scope, b"p", &[b"a", b"bc"])
        );
    }
}
