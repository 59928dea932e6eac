//! Operations on integers: two secret operands, or one secret and one public.

use cipherloom_primitives::{FheType, Operation, U256};
use tfhe::integer::{IntegerCiphertext, RadixCiphertext, ServerKey};

use super::{
    shifts,
    trivial::{radix, to_tfhe},
};
use crate::{ciphertext::Value, stored::block_count};

/// Both operands are secret.
pub(super) fn encrypted(key: &ServerKey, operation: Operation, ty: FheType, left: &RadixCiphertext, right: &RadixCiphertext) -> Value {
    match operation {
        Operation::Add => Value::Radix(key.add_parallelized(left, right)),
        Operation::Sub => Value::Radix(key.sub_parallelized(left, right)),
        Operation::Mul => Value::Radix(key.mul_parallelized(left, right)),
        Operation::BitAnd => Value::Radix(key.bitand_parallelized(left, right)),
        Operation::BitOr => Value::Radix(key.bitor_parallelized(left, right)),
        Operation::BitXor => Value::Radix(key.bitxor_parallelized(left, right)),
        Operation::Shl | Operation::Shr | Operation::Rotl | Operation::Rotr => {
            Value::Radix(shifts::encrypted(key, operation, ty, left, right))
        }
        Operation::Eq => Value::Bool(key.eq_parallelized(left, right)),
        Operation::Ne => Value::Bool(key.ne_parallelized(left, right)),
        Operation::Ge => Value::Bool(key.ge_parallelized(left, right)),
        Operation::Gt => Value::Bool(key.gt_parallelized(left, right)),
        Operation::Le => Value::Bool(key.le_parallelized(left, right)),
        Operation::Lt => Value::Bool(key.lt_parallelized(left, right)),
        Operation::Min => Value::Radix(key.min_parallelized(left, right)),
        Operation::Max => Value::Radix(key.max_parallelized(left, right)),
        other => unreachable!("the operation table does not allow {other} on two secret integers"),
    }
}

/// The right operand is public and below 2^bits of the type.
pub(super) fn scalar(key: &ServerKey, operation: Operation, ty: FheType, left: &RadixCiphertext, right: U256) -> Value {
    let scalar = to_tfhe(right);
    match operation {
        Operation::Add => Value::Radix(key.scalar_add_parallelized(left, scalar)),
        // Two's complement: the same as adding the negated scalar.
        Operation::Sub => Value::Radix(key.scalar_add_parallelized(left, to_tfhe(ty.truncate(right.wrapping_neg())))),
        Operation::Mul => Value::Radix(key.scalar_mul_parallelized(left, scalar)),
        Operation::Div => Value::Radix(key.scalar_div_parallelized(left, scalar)),
        Operation::Rem => Value::Radix(key.scalar_rem_parallelized(left, scalar)),
        Operation::BitAnd => Value::Radix(key.scalar_bitand_parallelized(left, scalar)),
        Operation::BitOr => Value::Radix(key.scalar_bitor_parallelized(left, scalar)),
        Operation::BitXor => Value::Radix(key.scalar_bitxor_parallelized(left, scalar)),
        Operation::Shl | Operation::Shr | Operation::Rotl | Operation::Rotr => {
            Value::Radix(shifts::scalar(key, operation, ty, left, right))
        }
        Operation::Eq => Value::Bool(key.scalar_eq_parallelized(left, scalar)),
        Operation::Ne => Value::Bool(key.scalar_ne_parallelized(left, scalar)),
        Operation::Ge => Value::Bool(key.scalar_ge_parallelized(left, scalar)),
        Operation::Gt => Value::Bool(key.scalar_gt_parallelized(left, scalar)),
        Operation::Le => Value::Bool(key.scalar_le_parallelized(left, scalar)),
        Operation::Lt => Value::Bool(key.scalar_lt_parallelized(left, scalar)),
        Operation::Min => Value::Radix(key.scalar_min_parallelized(left, scalar)),
        Operation::Max => Value::Radix(key.scalar_max_parallelized(left, scalar)),
        other => unreachable!("the operation table does not allow {other} on two integers"),
    }
}

/// The left operand is a ciphertext of a public value: its mirror image with a scalar, where there is one.
pub(super) fn scalar_left(key: &ServerKey, operation: Operation, ty: FheType, left: U256, right: &RadixCiphertext) -> Value {
    let mirrored = match operation {
        Operation::Ge => Operation::Le,
        Operation::Gt => Operation::Lt,
        Operation::Le => Operation::Ge,
        Operation::Lt => Operation::Gt,
        Operation::Sub | Operation::Shl | Operation::Shr | Operation::Rotl | Operation::Rotr => {
            return encrypted(key, operation, ty, &radix(key, ty, left), right);
        }
        symmetric => symmetric,
    };
    scalar(key, mirrored, ty, right, left)
}

/// Converts between widths: zero blocks are added or high blocks dropped. No bootstrap.
pub(super) fn resize(key: &ServerKey, value: &RadixCiphertext, from: FheType, to: FheType) -> RadixCiphertext {
    match block_count(to).checked_sub(block_count(from)) {
        Some(more) => key.extend_radix_with_trivial_zero_blocks_msb(value, more),
        None => key.trim_radix_blocks_msb(value, block_count(from) - block_count(to)),
    }
}

/// Multiplies two secret integers in full, divides by a public one and truncates.
pub(super) fn mul_div(key: &ServerKey, left: &RadixCiphertext, right: &RadixCiphertext, divisor: U256) -> RadixCiphertext {
    divided(key, &key.mul_parallelized(&doubled(key, left), &doubled(key, right)), divisor)
}

/// The same with a public second factor.
pub(super) fn mul_div_scalar(key: &ServerKey, left: &RadixCiphertext, right: U256, divisor: U256) -> RadixCiphertext {
    divided(key, &key.scalar_mul_parallelized(&doubled(key, left), to_tfhe(right)), divisor)
}

fn doubled(key: &ServerKey, value: &RadixCiphertext) -> RadixCiphertext {
    key.extend_radix_with_trivial_zero_blocks_msb(value, block_count_of(value))
}

fn divided(key: &ServerKey, product: &RadixCiphertext, divisor: U256) -> RadixCiphertext {
    let quotient = key.scalar_div_parallelized(product, to_tfhe(divisor));
    key.trim_radix_blocks_msb(&quotient, block_count_of(product) / 2)
}

/// Returns how many blocks an integer has.
pub(super) fn block_count_of(value: &RadixCiphertext) -> usize {
    value.blocks().len()
}
