//! Which values of a word are wrong.
//!
//! Codes over this ring cannot be decoded with linear algebra alone, since an error may be a zero divisor, such as 2^127, that no equation can be divided by.
//! But the largest power of two that divides all *syndromes* is the largest that divides all errors: divided by it and reduced modulo 2, the syndromes are
//! those of the lowest plane of bits in which any value is wrong, and the errors in that plane are those of a word of a Reed-Solomon code over the field of sixteen elements, decoded by
//! the Berlekamp-Massey algorithm. The positions it locates are left out and the rest is looked at again, until what is left lies on one polynomial. Each round finds
//! at least one position, so there are at most as many rounds as wrong values, and not one per bit.
//!
//! Nothing here is secret-independent in time: words are either public, or opened by the one who reads them.

use zeroize::Zeroizing;

use crate::{
    committee::{CommitteeSize, PartyId, PartySet},
    error::ThresholdError,
    interpolation::Code,
    ring::Element,
};

/// Values at zero of many words, and who sent wrong values for any of them.
pub(crate) struct Opened {
    pub(crate) values: Zeroizing<Vec<Element>>,
    pub(crate) wrong: PartySet,
}

/// Opens many words at a time: `vectors` has one vector per party, all of the same length, and position `k` of all of them is word `k`.
///
/// At least [`CommitteeSize::quorum`] parties, and all but [`CommitteeSize::threshold`] of those that are there, must agree on every word. With at most
/// `threshold` corrupt parties that many agreeing ones include `threshold + 1` honest ones, who determine the polynomial.
pub(crate) fn open(size: CommitteeSize, vectors: &[(PartyId, &[Element])]) -> Result<Opened, ThresholdError> {
    let threshold = usize::from(size.threshold());
    let present: PartySet = vectors.iter().map(|(party, _)| *party).collect();
    let needed = usize::from(size.quorum()).max(present.len().saturating_sub(threshold));
    if present.len() < needed {
        return Err(ThresholdError::NotEnoughShares {
            present: present.len(),
            needed,
        });
    }
    let too_many = ThresholdError::TooManyWrongShares {
        present: present.len(),
        threshold,
    };
    let length = vectors.first().map_or(0, |(_, vector)| vector.len());
    let mut wrong = PartySet::EMPTY;
    let mut code = Code::new(present, threshold);
    let mut values = Zeroizing::new(Vec::with_capacity(length));
    let mut word = Zeroizing::new(Vec::with_capacity(present.len()));
    for position in 0..length {
        loop {
            word.clear();
            let good = code.parties().iter().filter_map(|party| {
                let (_, vector) = vectors.iter().find(|(other, _)| other == party)?;
                vector.get(position).copied()
            });
            word.extend(good);
            if word.len() != code.parties().len() {
                return Err(too_many);
            }
            if code.contains(&word) {
                values.push(code.at_zero(&word));
                break;
            }
            let located = locate(code.parties(), &code.syndromes(&word)).ok_or_else(|| too_many.clone())?;
            wrong = wrong.union(located);
            let rest = present.without(wrong);
            if rest.len() < needed {
                return Err(too_many);
            }
            code = Code::new(rest, threshold);
        }
    }
    Ok(Opened { values, wrong })
}

/// Finds all wrong positions of a word of which only the syndromes over `parties` are known, or `None` if there are more than can be located.
pub(crate) fn locate_all(parties: PartySet, syndromes: &[Element]) -> Option<PartySet> {
    let mut rest: Vec<PartyId> = parties.iter().collect();
    let mut syndromes = syndromes.to_vec();
    let mut wrong = PartySet::EMPTY;
    while syndromes.iter().any(|syndrome| *syndrome != Element::ZERO) {
        for party in locate(&rest, &syndromes)?.iter() {
            // The syndromes of the word without this position: its factor becomes zero, the others those of the shorter code.
            let next = syndromes.iter().skip(1).zip(&syndromes);
            syndromes = next.map(|(next, this)| *next - party.point() * *this).collect();
            rest.retain(|other| *other != party);
            wrong.insert(party);
        }
    }
    Some(wrong)
}

/// Finds positions that are wrong in the lowest plane of bits in which any is: at least one, or `None` if there are more than can be located.
fn locate(parties: &[PartyId], syndromes: &[Element]) -> Option<PartySet> {
    let plane = syndromes
        .iter()
        .map(|syndrome| syndrome.valuation())
        .min()
        .filter(|plane| *plane < 128)?;
    let residues: Vec<u8> = syndromes.iter().map(|syndrome| syndrome.shift_right(plane).residue()).collect();
    let locator = shortest_recurrence(&residues);
    let errors = locator.len() - 1;
    if errors == 0 || 2 * errors > syndromes.len() {
        return None;
    }
    // The locator is the product of (1 - x * point) over the wrong points: it vanishes at their inverses.
    let is_root = |party: &&PartyId| {
        let inverse = field::inverse(party.point().residue());
        locator
            .iter()
            .rev()
            .fold(0, |value, coefficient| field::multiply(value, inverse) ^ coefficient)
            == 0
    };
    let located: PartySet = parties.iter().filter(is_root).copied().collect();
    (located.len() == errors).then_some(located)
}

/// The Berlekamp-Massey algorithm: the shortest linear recurrence that a sequence over the field of sixteen follows, as the coefficients of its locator
/// polynomial, lowest first, of which the first is 1. As many as the recurrence is long, plus one; the last ones may be 0.
fn shortest_recurrence(sequence: &[u8]) -> Vec<u8> {
    let mut current = vec![1u8];
    let mut previous = vec![1u8];
    let (mut length, mut gap, mut last_discrepancy) = (0usize, 1usize, 1u8);
    for n in 0..sequence.len() {
        let history = sequence.iter().take(n + 1).rev();
        let discrepancy = current.iter().zip(history).fold(0, |sum, (c, s)| sum ^ field::multiply(*c, *s));
        if discrepancy == 0 {
            gap += 1;
            continue;
        }
        let factor = field::multiply(discrepancy, field::inverse(last_discrepancy));
        let before = current.clone();
        current.resize(current.len().max(previous.len() + gap), 0);
        for (c, p) in current.iter_mut().skip(gap).zip(&previous) {
            *c ^= field::multiply(factor, *p);
        }
        if 2 * length <= n {
            length = n + 1 - length;
            previous = before;
            last_discrepancy = discrepancy;
            gap = 1;
        } else {
            gap += 1;
        }
    }
    current.resize(length + 1, 0);
    current
}

/// The field of sixteen elements, modulo x^4 + x + 1.
mod field {
    /// Multiplies.
    pub(super) const fn multiply(a: u8, b: u8) -> u8 {
        let mut product = 0;
        let mut shifted = a;
        let mut bit = 0;
        while bit < 4 {
            if b >> bit & 1 == 1 {
                product ^= shifted;
            }
            shifted <<= 1;
            if shifted & 0x10 != 0 {
                shifted ^= 0x13;
            }
            bit += 1;
        }
        product
    }

    /// Inverts; zero stays zero.
    pub(super) const fn inverse(a: u8) -> u8 {
        let square = multiply(a, a);
        let fourth = multiply(square, square);
        multiply(multiply(multiply(fourth, fourth), fourth), square)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::interpolation::evaluate;

    #[test]
    fn the_field_is_the_ring_modulo_two() {
        for a in 0..16 {
            for b in 0..16 {
                let product = Element::exceptional(a) * Element::exceptional(b);
                assert_eq!(field::multiply(a, b), product.residue());
            }
            assert_eq!(field::multiply(a, field::inverse(a)), u8::from(a != 0));
        }
    }

    fn sizes() -> impl Strategy<Value = CommitteeSize> {
        let all: Vec<CommitteeSize> = (4..=15)
            .flat_map(|parties| (1..=4).filter_map(move |threshold| CommitteeSize::new(parties, threshold).ok()))
            .collect();
        prop::sample::select(all)
    }

    proptest! {
        /// Errors of any size at any places, each with a power of two of its own that divides it.
        #[test]
        fn up_to_threshold_errors_are_located(
            size in sizes(),
            secret: [u128; 4],
            slopes: [[u128; 4]; 4],
            order in Just((0..15usize).collect::<Vec<_>>()).prop_shuffle(),
            errors in prop::collection::vec((0..128u32, any::<[u128; 4]>()), 0..=4),
            missing in 0..=4usize,
        ) {
            let threshold = usize::from(size.threshold());
            let coefficients: Vec<Element> = std::iter::once(secret).chain(slopes.into_iter().take(threshold)).map(Element::new).collect();
            let order: Vec<usize> = order.into_iter().filter(|index| *index < usize::from(size.parties())).collect();
            let missing = missing.min(threshold);
            let errors: Vec<_> = errors.into_iter().take(threshold - missing).collect();

            let mut shares: Vec<(PartyId, Vec<Element>)> = size.ids().map(|id| (id, vec![evaluate(&coefficients, id); 2])).collect();
            let mut expected = PartySet::EMPTY;
            for (index, (power, error)) in order.iter().zip(&errors) {
                let error = Element::new(*error).scale(1 << power);
                shares[*index].1[1] += error;
                if error != Element::ZERO {
                    expected.insert(shares[*index].0);
                }
            }
            let left_out: Vec<usize> = order.iter().rev().take(missing).copied().collect();
            let vectors: Vec<(PartyId, &[Element])> = shares
                .iter()
                .enumerate()
                .filter(|(index, _)| !left_out.contains(index))
                .map(|(_, (id, values))| (*id, values.as_slice()))
                .collect();
            let opened = open(size, &vectors).unwrap();
            let present: PartySet = vectors.iter().map(|(party, _)| *party).collect();
            let code = Code::new(present, threshold);
            let word: Vec<Element> = vectors.iter().map(|(_, values)| values[1]).collect();
            prop_assert_eq!(locate_all(present, &code.syndromes(&word)), Some(expected));
            prop_assert!(opened.values.iter().all(|value| *value == Element::new(secret)));
            prop_assert_eq!(opened.wrong, expected);
        }
    }
}
