//! Random values that nobody knows: a pseudo-random function of a public seed, under a secret key, evaluated under encryption.

use cipherloom_primitives::{FheType, U256};
use tfhe::integer::{BooleanBlock, IntegerRadixCiphertext, RadixCiphertext, ServerKey, oprf::OprfServerKey};

use super::trivial::{boolean, radix};
use crate::{ciphertext::Value, stored::block_count};

/// Makes the value of this seed with this many random low bits; the others are zero. The same seed gives the same ciphertext.
pub(super) fn value(key: &ServerKey, oprf: &OprfServerKey, ty: FheType, seed: &[u8; 16], random_bits: u32) -> Value {
    match ty {
        FheType::Bool => Value::Bool(bit(key, oprf, seed, random_bits)),
        _ if random_bits == 0 => Value::Radix(radix(key, ty, U256::ZERO)),
        _ => Value::Radix(bits(oprf, key, seed, random_bits, block_count(ty))),
    }
}

fn bit(key: &ServerKey, oprf: &OprfServerKey, seed: &[u8; 16], random_bits: u32) -> BooleanBlock {
    if random_bits == 0 {
        return boolean(key, false);
    }
    let mut blocks = bits(oprf, key, seed, 1, 1).into_blocks();
    BooleanBlock::new_unchecked(blocks.swap_remove(0))
}

fn bits(oprf: &OprfServerKey, key: &ServerKey, seed: &[u8; 16], random_bits: u32, blocks: usize) -> RadixCiphertext {
    oprf.par_generate_oblivious_pseudo_random_unsigned_integer_bounded(seed.as_slice(), u64::from(random_bits), blocks as u64, key)
}
