//! Choice by an encrypted condition.

use cipherloom_primitives::{FheType, U256};
use tfhe::integer::{BooleanBlock, RadixCiphertext, ServerKey, prelude::ServerKeyDefaultCMux};

use super::trivial::{boolean, known_boolean, to_tfhe};
use crate::stored::block_count;

/// Chooses between integers, each given with its plaintext if that is public.
///
/// Bootstraps per block: three with secret arms, one if one arm is public (zero being the usual case), a quarter if both are.
pub(super) fn integers(
    key: &ServerKey,
    ty: FheType,
    (condition, known): (&BooleanBlock, Option<bool>),
    (if_true, if_true_known): (&RadixCiphertext, Option<U256>),
    (if_false, if_false_known): (&RadixCiphertext, Option<U256>),
) -> RadixCiphertext {
    match (known, if_true_known, if_false_known) {
        (Some(true), ..) => if_true.clone(),
        (Some(false), ..) => if_false.clone(),
        (None, Some(if_true), Some(if_false)) => {
            key.scalar_if_then_else_parallelized(condition, to_tfhe(if_true), to_tfhe(if_false), block_count(ty))
        }
        (None, None, Some(if_false)) => key.if_then_else_parallelized(condition, if_true, to_tfhe(if_false)),
        (None, Some(if_true), None) => key.if_then_else_parallelized(condition, to_tfhe(if_true), if_false),
        (None, None, None) => key.if_then_else_parallelized(condition, if_true, if_false),
    }
}

/// Chooses between bits, each arm given with its plaintext if that is public.
///
/// Three bootstraps with secret arms, at most one otherwise.
pub(super) fn booleans(
    key: &ServerKey,
    condition: &BooleanBlock,
    (if_true, if_true_known): (&BooleanBlock, Option<bool>),
    (if_false, if_false_known): (&BooleanBlock, Option<bool>),
) -> BooleanBlock {
    let not = |block| key.boolean_bitnot(block);
    match (known_boolean(condition), if_true_known, if_false_known) {
        (Some(true), ..) => if_true.clone(),
        (Some(false), ..) => if_false.clone(),
        (None, Some(true), Some(false)) => condition.clone(),
        (None, Some(false), Some(true)) => not(condition),
        (None, Some(both), Some(_)) => boolean(key, both),
        (None, Some(true), None) => key.boolean_bitor(condition, if_false),
        (None, Some(false), None) => key.boolean_bitand(&not(condition), if_false),
        (None, None, Some(true)) => key.boolean_bitor(&not(condition), if_true),
        (None, None, Some(false)) => key.boolean_bitand(condition, if_true),
        (None, None, None) => key.if_then_else_parallelized(condition, if_true, if_false),
    }
}
