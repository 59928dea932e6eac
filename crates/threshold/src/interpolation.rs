//! Polynomials of a bounded degree, known at the points of some parties: their value at zero, and whether all points lie on one.

use zeroize::Zeroizing;

use crate::{
    committee::{PartyId, PartySet},
    ring::Element,
};

/// The words that polynomials of degree at most `degree` take at the points of some parties: a generalised Reed-Solomon code.
pub(crate) struct Code {
    parties: Vec<PartyId>,
    /// What the values at the first `degree + 1` points are weighted with to give the value at zero.
    at_zero: Vec<Element>,
    /// The rows of a parity check: the weighted sum of a word with each of them is zero if and only if it is of the code.
    checks: Vec<Vec<Element>>,
}

impl Code {
    /// Makes the code of polynomials of degree at most `degree` over a set of parties.
    pub(crate) fn new(parties: PartySet, degree: usize) -> Self {
        let parties: Vec<PartyId> = parties.iter().collect();
        let first: Vec<PartyId> = parties.iter().take(degree + 1).copied().collect();
        let rows = parties.len().saturating_sub(degree + 1);
        let multipliers: Vec<Element> = parties.iter().map(|party| dual_multiplier(&parties, *party)).collect();
        let mut row = multipliers;
        let mut checks = Vec::with_capacity(rows);
        for _ in 0..rows {
            let next = row.iter().zip(&parties).map(|(weight, party)| *weight * party.point()).collect();
            checks.push(std::mem::replace(&mut row, next));
        }
        Self {
            at_zero: first.iter().map(|party| weight_at_zero(&first, *party)).collect(),
            parties,
            checks,
        }
    }

    /// Returns the parties in the order of a word.
    pub(crate) fn parties(&self) -> &[PartyId] {
        &self.parties
    }

    /// Returns the rows of the parity check.
    pub(crate) fn checks(&self) -> &[Vec<Element>] {
        &self.checks
    }

    /// Returns what the values at the first points are weighted with to give the value at zero.
    pub(crate) fn weights_at_zero(&self) -> &[Element] {
        &self.at_zero
    }

    /// Returns what the word's distance from the code shows up as; all zero for words of the code.
    pub(crate) fn syndromes(&self, word: &[Element]) -> Vec<Element> {
        self.checks.iter().map(|row| dot(row, word)).collect()
    }

    /// Says whether all values lie on one polynomial.
    pub(crate) fn contains(&self, word: &[Element]) -> bool {
        self.checks.iter().all(|row| dot(row, word) == Element::ZERO)
    }

    /// Returns the value at zero of the polynomial through the first points; meaningful for words of the code.
    pub(crate) fn at_zero(&self, word: &[Element]) -> Element {
        dot(&self.at_zero, word)
    }
}

/// Returns what to weight the value of `party` with, among those of `parties`, to get the value at zero.
fn weight_at_zero(parties: &[PartyId], party: PartyId) -> Element {
    let others = parties.iter().filter(|other| **other != party);
    others.fold(Element::ONE, |product, other| {
        product * other.point() * unit_inverse(other.point() - party.point())
    })
}

fn dual_multiplier(parties: &[PartyId], party: PartyId) -> Element {
    let others = parties.iter().filter(|other| **other != party);
    others.fold(Element::ONE, |product, other| product * unit_inverse(party.point() - other.point()))
}

/// The polynomial that is 1 at zero and 0 at all parties outside of `set`, at the point of `party`. Its degree is how many are outside.
pub(crate) fn set_weight(outside: PartySet, party: PartyId) -> Element {
    outside.iter().fold(Element::ONE, |product, other| {
        product * (other.point() - party.point()) * unit_inverse(other.point())
    })
}

/// Evaluates a polynomial, lowest coefficient first, at the point of a party.
pub(crate) fn evaluate(coefficients: &[Element], party: PartyId) -> Element {
    let point = party.point();
    coefficients
        .iter()
        .rev()
        .fold(Element::ZERO, |value, coefficient| value * point + *coefficient)
}

/// Returns the weighted sum of vectors of the same length.
pub(crate) fn combine(weights: &[Element], vectors: &[&[Element]], length: usize) -> Zeroizing<Vec<Element>> {
    let mut sums = Zeroizing::new(vec![Element::ZERO; length]);
    for (weight, vector) in weights.iter().zip(vectors) {
        for (sum, value) in sums.iter_mut().zip(*vector) {
            *sum += *weight * *value;
        }
    }
    sums
}

fn dot(weights: &[Element], values: &[Element]) -> Element {
    weights.iter().zip(values).map(|(weight, value)| *weight * *value).sum()
}

fn unit_inverse(difference: Element) -> Element {
    difference
        .inverse()
        .expect("different points of the exceptional set differ by a unit")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::committee::CommitteeSize;

    fn word(parties: &[PartyId], coefficients: &[Element]) -> Vec<Element> {
        parties.iter().map(|party| evaluate(coefficients, *party)).collect()
    }

    #[test]
    fn words_of_the_code_pass_and_give_the_value_at_zero() {
        let size = CommitteeSize::new(13, 4).unwrap();
        let coefficients: Vec<Element> = (1..=5u128).map(|i| Element::new([i, i << 100, u128::MAX - i, i * i])).collect();
        for present in [
            size.everyone(),
            PartySet::from_bits(0b1_0101_1110_1110),
            PartySet::from_bits(0b1_1111),
        ] {
            let code = Code::new(present, 4);
            let word = word(code.parties(), &coefficients);
            assert!(code.contains(&word));
            assert!(code.at_zero(&word) == coefficients[0]);
            assert_eq!(code.checks().len(), present.len() - 5);
        }
    }

    #[test]
    fn a_degree_too_high_and_a_single_change_are_noticed() {
        let size = CommitteeSize::new(7, 2).unwrap();
        let code = Code::new(size.everyone(), 2);
        let honest = word(code.parties(), &[Element::ONE; 3]);
        assert!(!code.contains(&word(code.parties(), &[Element::ONE; 4])));
        for position in 0..7 {
            for bit in [0, 64, 127] {
                let mut changed = honest.clone();
                changed[position] += Element::from_integer(1 << bit);
                assert!(!code.contains(&changed));
            }
        }
    }

    #[test]
    fn set_polynomials_are_one_at_zero_and_vanish_outside() {
        let size = CommitteeSize::new(7, 2).unwrap();
        for set in size.mask_sets() {
            let outside = size.everyone().without(set);
            let values: Vec<Element> = size.ids().map(|party| set_weight(outside, party)).collect();
            let code = Code::new(size.everyone(), 2);
            assert!(code.contains(&values) && code.at_zero(&values) == Element::ONE);
            assert!(
                size.ids()
                    .zip(&values)
                    .all(|(party, value)| set.contains(party) != (*value == Element::ZERO))
            );
        }
    }
}
