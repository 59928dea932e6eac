//! Randomness that a seed repeats. Not for secrets.

use alloy_primitives::U256;
use cipherloom_primitives::FheType;

/// A generator of numbers that look random and follow from its seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// Starts a sequence.
    #[must_use]
    pub const fn from_seed(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Returns the next number.
    pub const fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below a limit; 0 if the limit is 0. Slightly uneven, which no test here minds.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        usize::try_from(self.number() % limit.max(1)).unwrap_or(0)
    }

    /// Picks an element; nothing if there is none.
    pub fn pick<'a, T>(&mut self, among: &'a [T]) -> Option<&'a T> {
        among.get(self.below(among.len()))
    }

    /// Returns bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.number().to_be_bytes())
            .flatten()
            .take(length)
            .collect()
    }

    /// Returns a plaintext of a type. A quarter are near the ends of the range, where carries and comparisons go wrong.
    pub fn plaintext(&mut self, ty: FheType) -> U256 {
        let near = U256::from(self.below(3));
        match self.below(8) {
            0 => ty.truncate(near),
            1 => ty.max_value() - ty.truncate(near),
            _ => ty.truncate(U256::from_be_slice(&self.bytes(32))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_sequence_and_others_have_their_own() {
        let sequence = |seed| {
            let mut random = Random::from_seed(seed);
            [random.number(), random.number(), random.number()]
        };
        assert_eq!(sequence(7), sequence(7));
        assert_ne!(sequence(7), sequence(8));
    }

    #[test]
    fn plaintexts_fit_their_type() {
        let mut random = Random::from_seed(1);
        for ty in FheType::ALL {
            assert!((0..200).all(|_| random.plaintext(ty) <= ty.max_value()), "{ty}");
        }
    }
}
