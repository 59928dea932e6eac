//! Shamir sharing: a secret is the value at zero of a random polynomial of degree `t`; a share is its value at a party's point.
//!
//! `t` shares together are uniformly random whatever the secret is, because interpolation through zero and `t` points of the exceptional set is always possible: for
//! every secret exactly one polynomial fits.

use rand_core::TryCryptoRng;
use zeroize::Zeroizing;

use crate::{
    committee::{CommitteeSize, PartyId},
    error::ThresholdError,
    interpolation::evaluate,
    ring::{ELEMENT_BYTES, Element},
};

/// One party's shares of a vector, before they are part of a key share.
pub(crate) type SharedVector = Zeroizing<Vec<Element>>;

/// Shares a list of bits: one vector of shares per party.
pub(crate) fn share_bits<R: TryCryptoRng + ?Sized>(
    size: CommitteeSize,
    bits: &[u128],
    rng: &mut R,
) -> Result<Vec<(PartyId, SharedVector)>, ThresholdError> {
    let mut shares: Vec<(PartyId, SharedVector)> = size
        .ids()
        .map(|party| (party, Zeroizing::new(Vec::with_capacity(bits.len()))))
        .collect();
    let degree = usize::from(size.threshold());
    let mut randomness = Zeroizing::new(vec![0u8; degree * ELEMENT_BYTES]);
    let mut polynomial = Zeroizing::new(vec![Element::ZERO; degree + 1]);
    // Whether a number is a bit is found out without a branch per number.
    if bits.iter().fold(0, |or, bit| or | bit) >> 1 != 0 {
        return Err(ThresholdError::SecretKey("it has numbers that are not bits"));
    }
    for bit in bits {
        fill(rng, &mut randomness)?;
        let random = randomness.as_chunks::<ELEMENT_BYTES>().0.iter().map(Element::from_bytes);
        let coefficients = std::iter::once(Element::from_integer(*bit)).chain(random);
        polynomial
            .iter_mut()
            .zip(coefficients)
            .for_each(|(place, coefficient)| *place = coefficient);
        for (party, vector) in &mut shares {
            vector.push(evaluate(&polynomial, *party));
        }
    }
    Ok(shares)
}

/// Fills bytes with randomness.
pub(crate) fn fill<R: TryCryptoRng + ?Sized>(rng: &mut R, bytes: &mut [u8]) -> Result<(), ThresholdError> {
    rng.try_fill_bytes(bytes)
        .map_err(|error| ThresholdError::Randomness(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpolation::Code;

    /// A counter is randomness enough to look at the shape of shares.
    struct Counter(u64);

    impl rand_core::TryRng for Counter {
        type Error = std::convert::Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            let [a, b, c, d, ..] = self.try_next_u64()?.to_le_bytes();
            Ok(u32::from_le_bytes([a, b, c, d]))
        }

        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            Ok(self.0)
        }

        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
            for chunk in bytes.chunks_mut(8) {
                let word = self.try_next_u64()?.to_le_bytes();
                chunk.iter_mut().zip(word).for_each(|(byte, random)| *byte = random);
            }
            Ok(())
        }
    }

    impl TryCryptoRng for Counter {}

    #[test]
    fn shares_lie_on_polynomials_of_the_threshold_degree() {
        for (parties, threshold) in [(4, 1), (7, 2), (13, 4)] {
            let size = CommitteeSize::new(parties, threshold).unwrap();
            let bits = [0, 1, 1, 0, 1];
            let shares = share_bits(size, &bits, &mut Counter(1)).unwrap();
            let code = Code::new(size.everyone(), threshold.into());
            let lower = Code::new(size.everyone(), usize::from(threshold) - 1);
            for (position, bit) in bits.into_iter().enumerate() {
                let word: Vec<Element> = shares.iter().map(|(_, vector)| vector[position]).collect();
                assert!(code.contains(&word) && !lower.contains(&word));
                assert!(code.at_zero(&word) == Element::from_integer(bit));
            }
        }
    }

    /// Whatever `t` parties hold, there is a polynomial for either bit through their points: so their shares cannot tell which it is.
    #[test]
    fn as_many_shares_as_the_threshold_fit_both_bits() {
        for (parties, threshold) in [(4u8, 1u8), (7, 2), (13, 4)] {
            let size = CommitteeSize::new(parties, threshold).unwrap();
            let shares = share_bits(size, &[1], &mut Counter(7)).unwrap();
            let corrupt: crate::PartySet = size.ids().take(threshold.into()).collect();
            // Adding the multiple of the polynomial that is one at zero and vanishes at the corrupt parties makes the other bit of it.
            let other: Vec<Element> = shares
                .iter()
                .map(|(party, vector)| vector[0] - crate::interpolation::set_weight(corrupt, *party))
                .collect();
            let code = Code::new(size.everyone(), threshold.into());
            assert!(code.contains(&other) && code.at_zero(&other) == Element::ZERO);
            for ((party, vector), other) in shares.iter().zip(&other) {
                assert_eq!(vector[0] == *other, corrupt.contains(*party));
            }
        }
    }
}
