//! The packed form: all secret blocks of a value in one compressed GLWE ciphertext, public blocks as their digits.
//!
//! One byte per block comes first, least significant block first: the digit of a public block, 255 for a secret one. If there are secret
//! blocks, the coefficients of the GLWE ciphertext follow: all of its masks, then of its body one coefficient per secret block. Each is
//! reduced to the parameters' number of bits (12 in production) and written with its lowest bit first into consecutive bits, lowest bit of a byte
//! first; bits left over in the last byte are 0. A clear value is as many big-endian bytes as its type needs.

use cipherloom_primitives::{CiphertextForm, FheType};

use super::{CLEAR, CPU, StoredFormat, block_count, body_of, clear_value, expect_length, header, largest_digit, malformed};
use crate::{
    ciphertext::{Ciphertext, Value},
    error::FheError,
    keys::ClearKey,
};

/// Stands for a secret block among the digits of public ones.
const SECRET: u8 = 255;

/// The compressed GLWE ciphertexts of a parameter set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PackedShape {
    /// How many polynomials the mask has.
    pub(crate) glwe_dimension: usize,
    /// How many coefficients a polynomial has; at least as many as a value has blocks.
    pub(crate) polynomial_size: usize,
    /// How many bits of a coefficient are kept.
    pub(crate) coefficient_bits: usize,
}

/// A block of a packed value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PackedBlock {
    /// Its digit, which everybody may know.
    Public(u8),
    /// The next coefficient of the body.
    Secret,
}

/// A packed value, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PackedValue {
    pub(crate) blocks: Vec<PackedBlock>,
    /// The reduced coefficients, masks first; none if all blocks are public.
    pub(crate) coefficients: Vec<u64>,
}

impl PackedShape {
    /// Returns how many coefficients are stored for this many secret blocks.
    pub(crate) const fn coefficient_count(&self, secret_blocks: usize) -> usize {
        if secret_blocks == 0 {
            0
        } else {
            self.glwe_dimension * self.polynomial_size + secret_blocks
        }
    }

    const fn coefficients_bytes(&self, secret_blocks: usize) -> usize {
        (self.coefficient_count(secret_blocks) * self.coefficient_bits).div_ceil(8)
    }
}

impl StoredFormat {
    /// Writes a packed value, whose blocks are as many as its type has.
    pub(crate) fn write_packed(&self, ty: FheType, value: &PackedValue) -> Vec<u8> {
        let mut bytes = header(CPU, ty, CiphertextForm::Packed, &self.key_set);
        bytes.extend(value.blocks.iter().map(|block| match block {
            PackedBlock::Public(digit) => *digit,
            PackedBlock::Secret => SECRET,
        }));
        write_bits(&value.coefficients, self.packed.coefficient_bits, &mut bytes);
        bytes
    }

    /// Reads a packed value of this type.
    pub(crate) fn read_packed(&self, ty: FheType, bytes: &[u8]) -> Result<PackedValue, FheError> {
        let body = body_of(CPU, ty, CiphertextForm::Packed, &self.key_set, bytes)?;
        let (blocks, coefficients) = body
            .split_at_checked(block_count(ty))
            .ok_or_else(|| malformed(ty, "is shorter than its blocks"))?;
        let blocks = blocks
            .iter()
            .map(|block| match *block {
                SECRET => Ok(PackedBlock::Secret),
                digit if digit <= largest_digit(ty) => Ok(PackedBlock::Public(digit)),
                other => Err(malformed(ty, format!("has a public block of value {other}"))),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let secret = blocks.iter().filter(|block| **block == PackedBlock::Secret).count();
        expect_length(ty, coefficients, self.packed.coefficients_bytes(secret))?;
        let count = self.packed.coefficient_count(secret);
        let coefficients = read_bits(coefficients, self.packed.coefficient_bits, count)
            .ok_or_else(|| malformed(ty, "has bits after its last coefficient"))?;
        Ok(PackedValue { blocks, coefficients })
    }
}

/// Writes numbers of this many bits one after the other, and fills the last byte with zeros.
fn write_bits(numbers: &[u64], bits: usize, bytes: &mut Vec<u8>) {
    bytes.reserve_exact((numbers.len() * bits).div_ceil(8));
    let (mut pending, mut count) = (0u128, 0);
    for number in numbers {
        pending |= u128::from(*number) << count;
        count += bits;
        while count >= 8 {
            let [lowest, ..] = pending.to_le_bytes();
            bytes.push(lowest);
            pending >>= 8;
            count -= 8;
        }
    }
    if count > 0 {
        let [lowest, ..] = pending.to_le_bytes();
        bytes.push(lowest);
    }
}

/// Reads what [`write_bits`] wrote; `None` if anything but zeros is left over.
fn read_bits(bytes: &[u8], bits: usize, numbers: usize) -> Option<Vec<u64>> {
    let mask = (1u128 << bits) - 1;
    let mut bytes = bytes.iter();
    let (mut pending, mut count) = (0u128, 0);
    let mut read = Vec::with_capacity(numbers);
    for _ in 0..numbers {
        while count < bits {
            pending |= u128::from(*bytes.next()?) << count;
            count += 8;
        }
        read.push(u64::try_from(pending & mask).ok()?);
        pending >>= bits;
        count -= bits;
    }
    (pending == 0 && bytes.next().is_none()).then_some(read)
}

/// Writes a ciphertext of the clear backend in packed form.
pub(crate) fn clear_pack(key: &ClearKey, ciphertext: &Ciphertext) -> Result<Vec<u8>, FheError> {
    let Value::Clear(value) = &ciphertext.value else {
        return Err(FheError::ForeignCiphertext);
    };
    let mut bytes = header(CLEAR, ciphertext.ty, CiphertextForm::Packed, &key.key_set());
    let value: [u8; 32] = value.to_be_bytes();
    bytes.extend_from_slice(value.split_at(value.len() - value_bytes(ciphertext.ty)).1);
    Ok(bytes)
}

/// Reads a ciphertext of the clear backend in packed form.
pub(crate) fn clear_unpack(key: &ClearKey, ty: FheType, bytes: &[u8]) -> Result<Ciphertext, FheError> {
    let body = body_of(CLEAR, ty, CiphertextForm::Packed, &key.key_set(), bytes)?;
    clear_value(ty, body, value_bytes(ty))
}

fn value_bytes(ty: FheType) -> usize {
    ty.bits().div_ceil(8) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_width_come_back() {
        for bits in [1, 7, 8, 9, 12, 13, 33, 63] {
            let numbers: Vec<u64> = (0..50).map(|index| (index * 0x9e37_79b9_7f4a_7c15u64) >> (64 - bits)).collect();
            let mut bytes = Vec::new();
            write_bits(&numbers, bits, &mut bytes);
            assert_eq!(bytes.len(), (50 * bits).div_ceil(8));
            assert_eq!(read_bits(&bytes, bits, 50), Some(numbers), "{bits} bits");
        }
    }

    #[test]
    fn the_order_of_bits_is_the_one_documented() {
        let mut bytes = Vec::new();
        write_bits(&[0xabc, 0x123], 12, &mut bytes);
        assert_eq!(bytes, [0xbc, 0x3a, 0x12]);
    }

    #[test]
    fn bits_after_the_last_number_are_refused() {
        assert_eq!(read_bits(&[0xff, 0x0f], 12, 1), Some(vec![0xfff]));
        assert_eq!(read_bits(&[0xff, 0x1f], 12, 1), None);
        assert_eq!(read_bits(&[0xff, 0x0f, 0], 12, 1), None);
        assert_eq!(read_bits(&[0xff], 12, 1), None);
    }
}
