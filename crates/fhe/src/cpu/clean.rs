//! Bringing results to the state that every input is in: no carries, nominal noise.

use rayon::prelude::*;
use tfhe::{
    integer::{BooleanBlock, IntegerCiphertext, RadixCiphertext, ServerKey},
    shortint::{self, Ciphertext, parameters::NoiseLevel},
};

/// Cleans an integer. Costs nothing for nearly every operation, whose result is clean already; shifts by some encrypted amounts
/// leave noise.
pub(super) fn radix(key: &ServerKey, mut radix: RadixCiphertext) -> RadixCiphertext {
    if !radix.block_carries_are_empty() {
        key.full_propagate_parallelized(&mut radix);
    }
    let blocks: &shortint::ServerKey = key.as_ref();
    radix
        .blocks_mut()
        .par_iter_mut()
        .filter(|block| is_noisy(block))
        .for_each(|block| blocks.message_extract_assign(block));
    radix
}

/// Cleans an encrypted bit.
pub(super) fn boolean(key: &ServerKey, boolean: BooleanBlock) -> BooleanBlock {
    let block: &Ciphertext = boolean.as_ref();
    if !is_noisy(block) && block.degree.get() <= 1 {
        return boolean;
    }
    let blocks: &shortint::ServerKey = key.as_ref();
    let lowest_bit = blocks.generate_lookup_table(|value| value & 1);
    BooleanBlock::new_unchecked(blocks.apply_lookup_table(block, &lowest_bit))
}

fn is_noisy(block: &Ciphertext) -> bool {
    block.noise_level() > NoiseLevel::NOMINAL
}
