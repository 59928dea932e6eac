//! From phases to values.
//!
//! The phase of an LWE ciphertext is its plaintext, a number of four bits, times Delta = 2^123, plus noise, modulo 2^128. The highest bit is the padding bit and always zero. The noise is that of
//! the ciphertext, below 2^70, and the masks: their sum has a bound that depends on the committee, far enough below Delta / 2 that a phase made up of random bits is refused with high probability.

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{
    ciphertext::{BITS_PER_LWE, ValueShape},
    committee::{CommitteeSize, DELTA_BITS},
    ring::Element,
};

/// A decrypted value, little-endian. Wiped when dropped; neither printable nor copyable, since it may be for one user only.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Plaintext {
    little_endian: [u8; 32],
}

impl Plaintext {
    /// Returns the value, little-endian.
    #[must_use]
    pub const fn little_endian(&self) -> &[u8; 32] {
        &self.little_endian
    }

    /// Returns the value, big-endian, as contracts read it.
    #[must_use]
    pub fn big_endian(&self) -> [u8; 32] {
        let mut bytes = self.little_endian;
        bytes.reverse();
        bytes
    }

    /// Decodes packed phases, or says why they are no plaintext.
    pub(crate) fn decode(size: CommitteeSize, shape: ValueShape, packed: &[Element]) -> Result<Self, &'static str> {
        let bound = size.noise_bound();
        let mut value = Self { little_endian: [0; 32] };
        let mut phases = packed.iter().flat_map(|element| element.coefficients());
        let mut bits_left = shape.bits();
        for index in 0..shape.lwe_count() {
            let phase = phases.next().ok_or("there are too few phases")?;
            let digit = digit(phase, bound)?;
            if bits_left < BITS_PER_LWE && digit >> bits_left != 0 {
                return Err("the value is outside of its type");
            }
            bits_left = bits_left.saturating_sub(BITS_PER_LWE);
            if let Some(byte) = value.little_endian.get_mut(index / 2) {
                *byte |= digit << (4 * (index % 2));
            }
        }
        if phases.any(|phase| phase != 0) {
            return Err("there is something after the last phase");
        }
        Ok(value)
    }
}

/// Rounds a phase to its four bits.
fn digit(phase: u128, bound: u128) -> Result<u8, &'static str> {
    let rounded = phase.wrapping_add(1 << (DELTA_BITS - 1)) >> DELTA_BITS;
    let noise = phase.wrapping_sub(rounded << DELTA_BITS).cast_signed();
    if noise.unsigned_abs() > bound {
        return Err("the noise is beyond its bound");
    }
    match u8::try_from(rounded) {
        Ok(digit) if digit < 16 => Ok(digit),
        _ => Err("the padding bit is set"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: u128 = 1 << 120;

    #[test]
    fn phases_round_to_the_nearest_digit() {
        for digit_value in 0..16u8 {
            let clean = u128::from(digit_value) << DELTA_BITS;
            for noise in [0, 1, 1 << 119, BOUND] {
                assert_eq!(digit(clean.wrapping_add(noise), BOUND), Ok(digit_value));
                assert_eq!(digit(clean.wrapping_sub(noise), BOUND), Ok(digit_value));
            }
        }
    }

    #[test]
    fn noise_beyond_its_bound_and_a_padding_bit_are_refused() {
        assert_eq!(digit((5 << DELTA_BITS) + BOUND + 1, BOUND), Err("the noise is beyond its bound"));
        assert_eq!(digit((5 << DELTA_BITS) - BOUND - 1, BOUND), Err("the noise is beyond its bound"));
        assert_eq!(digit(16 << DELTA_BITS, BOUND), Err("the padding bit is set"));
        assert_eq!(digit(31 << DELTA_BITS, BOUND), Err("the padding bit is set"));
    }

    #[test]
    fn a_value_outside_of_its_type_is_refused() {
        let size = CommitteeSize::new(4, 1).unwrap();
        let decode = |bits, digit: u128, rest| {
            let packed = [Element::new([digit << DELTA_BITS, rest, 0, 0])];
            Plaintext::decode(size, ValueShape::new(bits).unwrap(), &packed).map(|plain| plain.little_endian()[0])
        };
        assert_eq!(decode(1, 1, 0), Ok(1));
        assert_eq!(decode(1, 2, 0), Err("the value is outside of its type"));
        assert_eq!(decode(4, 15, 0), Ok(15));
        assert_eq!(decode(4, 15, 1), Err("there is something after the last phase"));
        assert_eq!(decode(6, 15, 3 << DELTA_BITS), Ok(0x3f));
        assert_eq!(decode(6, 15, 4 << DELTA_BITS), Err("the value is outside of its type"));
    }
}
