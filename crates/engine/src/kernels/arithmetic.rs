//! Addition, subtraction and what they are made of: a ripple of carries, one bootstrap per block.

use super::{Blocks, lookahead, pairs};
use crate::{builder::Builder, lower::Profile, program::Form};

/// Up to this many blocks a ripple is as quick as anything else.
const SHORT: usize = 4;

/// Adds modulo two to the width. `left + right + carry` is at most 7, so that message and carry come out of one bootstrap.
pub(crate) fn add(builder: &mut Builder, left: &[Form], right: &[Form]) -> Blocks {
    if looks_ahead(builder, left) {
        let sums: Blocks = pairs(left, right)
            .map(|(left, right)| builder.combine(&[(1, left), (1, right)], 0))
            .collect();
        return lookahead::add(builder, &sums, Form::known(0)).0;
    }
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
    if looks_ahead(builder, left) {
        let differences = differences(builder, left, right);
        return lookahead::add(builder, &differences, Form::known(1));
    }
    let mut carry = Form::known(1);
    let mut blocks = Blocks::with_capacity(left.len());
    for (left, right) in pairs(left, right) {
        let sum = builder.combine(&[(1, left), (-1, right), (1, &carry)], 3);
        blocks.push(builder.lookup(&sum, |value| value & 3));
        carry = builder.lookup(&sum, |value| value >> 2);
    }
    (blocks, carry)
}

/// Says whether `left ≥ right`, without the difference if that is quicker.
pub(super) fn not_less(builder: &mut Builder, left: &[Form], right: &[Form]) -> Form {
    if looks_ahead(builder, left) {
        let differences = differences(builder, left, right);
        return lookahead::carry_out(builder, &differences, &Form::known(1));
    }
    subtract(builder, left, right).1
}

/// Says whether carries are worth more bootstraps than a ripple takes.
fn looks_ahead(builder: &Builder, blocks: &[Form]) -> bool {
    builder.profile() == Profile::Latency && blocks.len() > SHORT
}

/// The differences of blocks, with 3 added.
fn differences(builder: &mut Builder, left: &[Form], right: &[Form]) -> Blocks {
    pairs(left, right)
        .map(|(left, right)| builder.combine(&[(1, left), (-1, right)], 3))
        .collect()
}

/// Negates modulo two to the width.
pub(crate) fn negate(builder: &mut Builder, blocks: &[Form]) -> Blocks {
    let zero = vec![Form::known(0); blocks.len()];
    subtract(builder, &zero, blocks).0
}
