//! Addition, subtraction and what they are made of: a ripple of carries, one bootstrap per block.

use super::{Blocks, pairs};
use crate::{builder::Builder, program::Form};

/// Adds modulo two to the width. `left + right + carry` is at most 7, so that message and carry come out of one bootstrap.
pub(crate) fn add(builder: &mut Builder, left: &[Form], right: &[Form]) -> Blocks {
    let mut carry = Form::known(0);
    let mut blocks = Blocks::with_capacity(left.len());
    for (left, right) in pairs(left, right) {
        let sum = builder.combine(&[(1, left), (1, right), (1, &carry)], 0);
        blocks.push(builder.lookup(&sum, |value| value & 3));
        carry = builder.lookup(&sum, |value| value >> 2);
    }
    blocks
}

/// Subtracts modulo two to the width, and says whether there was nothing to borrow, that is `left ≥ right`.
///
/// `a − b` is `a + (3 − b) + 1` block by block, and the complement is free.
pub(crate) fn subtract(builder: &mut Builder, left: &[Form], right: &[Form]) -> (Blocks, Form) {
    let mut carry = Form::known(1);
    let mut blocks = Blocks::with_capacity(left.len());
    for (left, right) in pairs(left, right) {
        let sum = builder.combine(&[(1, left), (-1, right), (1, &carry)], 3);
        blocks.push(builder.lookup(&sum, |value| value & 3));
        carry = builder.lookup(&sum, |value| value >> 2);
    }
    (blocks, carry)
}

/// Negates modulo two to the width.
pub(crate) fn negate(builder: &mut Builder, blocks: &[Form]) -> Blocks {
    let zero = vec![Form::known(0); blocks.len()];
    subtract(builder, &zero, blocks).0
}
