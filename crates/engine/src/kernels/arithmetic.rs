//! Addition, subtraction and what they are made of: a ripple of carries, one bootstrap per block.

use super::{Blocks, pairs, sums};
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

/// Multiplies modulo two to the width: products of blocks, each in two parts, added up by columns.
///
/// With a public factor, all multiples of one block come out of one bootstrap.
pub(crate) fn mul(builder: &mut Builder, left: &[Form], right: &[Form]) -> Blocks {
    let width = left.len();
    let mut columns = vec![Blocks::new(); width];
    for (low, left) in left.iter().enumerate() {
        for (high, right) in right.iter().enumerate().take(width - low) {
            let pair = match (left.public(), right.public()) {
                (_, Some(factor)) => Product::by(builder, left, factor),
                (Some(factor), None) => Product::by(builder, right, factor),
                (None, None) => Product::of(builder, left, right),
            };
            let column = low + high;
            for (column, part) in [(column, pair.low), (column + 1, pair.high)] {
                if let Some(column) = columns.get_mut(column) {
                    column.push(part);
                }
            }
        }
    }
    sums::add_columns(builder, columns)
}

/// The product of two blocks, at most 9.
struct Product {
    low: Form,
    high: Form,
}

impl Product {
    fn by(builder: &mut Builder, block: &Form, factor: u8) -> Self {
        Self {
            low: builder.lookup(block, |value| (value * factor) & 3),
            high: builder.lookup(block, |value| (value * factor) >> 2),
        }
    }

    fn of(builder: &mut Builder, left: &Form, right: &Form) -> Self {
        let pair = builder.combine(&[(4, left), (1, right)], 0);
        Self {
            low: builder.lookup(&pair, |pair| ((pair >> 2) * (pair & 3)) & 3),
            high: builder.lookup(&pair, |pair| ((pair >> 2) * (pair & 3)) >> 2),
        }
    }
}
