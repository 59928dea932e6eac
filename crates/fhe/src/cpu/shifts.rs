//! Shifts and rotations, whose amount counts modulo the width.

use cipherloom_primitives::{FheType, Operation, U256};
use tfhe::{
    integer::{IntegerCiphertext, RadixCiphertext, ServerKey},
    shortint,
};

/// The bits of a block.
const BLOCK_BITS: u32 = 2;

/// Shifts or rotates by a public amount.
pub(super) fn scalar(key: &ServerKey, operation: Operation, ty: FheType, value: &RadixCiphertext, amount: U256) -> RadixCiphertext {
    let amount: u64 = (amount % U256::from(ty.bits())).to();
    match operation {
        Operation::Shl => key.scalar_left_shift_parallelized(value, amount),
        Operation::Shr => key.scalar_right_shift_parallelized(value, amount),
        Operation::Rotl => key.scalar_rotate_left_parallelized(value, amount),
        Operation::Rotr => key.scalar_rotate_right_parallelized(value, amount),
        other => unreachable!("{other} is no shift"),
    }
}

/// Shifts or rotates by an encrypted amount.
pub(super) fn encrypted(
    key: &ServerKey,
    operation: Operation,
    ty: FheType,
    value: &RadixCiphertext,
    amount: &RadixCiphertext,
) -> RadixCiphertext {
    match operation {
        // tfhe shifts by the whole amount, to zero from the width on, so the amount must be reduced first.
        Operation::Shl => key.left_shift_parallelized(value, &reduced(key, ty, amount)),
        Operation::Shr => key.right_shift_parallelized(value, &reduced(key, ty, amount)),
        // Its rotations read only the bits below a width that is a power of two, as all widths are here.
        Operation::Rotl => key.rotate_left_parallelized(value, amount),
        Operation::Rotr => key.rotate_right_parallelized(value, amount),
        other => unreachable!("{other} is no shift"),
    }
}

/// Keeps the bits of the amount below the width, a power of two: whole blocks for free, half a block by one bootstrap.
fn reduced(key: &ServerKey, ty: FheType, amount: &RadixCiphertext) -> RadixCiphertext {
    let bits = ty.bits().ilog2();
    let mut blocks: Vec<_> = amount.blocks().iter().take(bits.div_ceil(BLOCK_BITS) as usize).cloned().collect();
    if let Some(top) = blocks.last_mut().filter(|_| !bits.is_multiple_of(BLOCK_BITS)) {
        let key: &shortint::ServerKey = key.as_ref();
        let lowest_bit = key.generate_lookup_table(|value| value & 1);
        *top = key.apply_lookup_table(top, &lowest_bit);
    }
    RadixCiphertext::from(blocks)
}
