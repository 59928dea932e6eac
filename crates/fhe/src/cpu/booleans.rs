//! Operations on two encrypted bits.

use cipherloom_primitives::Operation;
use tfhe::integer::{BooleanBlock, ServerKey};

use super::trivial;

/// Both operands are secret: one bootstrap.
pub(super) fn encrypted(key: &ServerKey, operation: Operation, left: &BooleanBlock, right: &BooleanBlock) -> BooleanBlock {
    match operation {
        Operation::BitAnd => key.boolean_bitand(left, right),
        Operation::BitOr => key.boolean_bitor(left, right),
        Operation::BitXor | Operation::Ne => key.boolean_bitxor(left, right),
        Operation::Eq => key.boolean_bitnot(&key.boolean_bitxor(left, right)),
        other => unreachable!("the operation table does not allow {other} on ebool"),
    }
}

/// One operand is public: the result is the other operand, its complement, or public too. No bootstrap.
pub(super) fn scalar(key: &ServerKey, operation: Operation, left: &BooleanBlock, right: bool) -> BooleanBlock {
    match (operation, right) {
        (Operation::BitAnd, true) | (Operation::BitOr | Operation::BitXor | Operation::Ne, false) | (Operation::Eq, true) => left.clone(),
        (Operation::BitXor | Operation::Ne, true) | (Operation::Eq, false) => key.boolean_bitnot(left),
        (Operation::BitAnd, false) => trivial::boolean(key, false),
        (Operation::BitOr, true) => trivial::boolean(key, true),
        (other, _) => unreachable!("the operation table does not allow {other} on ebool"),
    }
}
