//! Bitwise operations, and shifts and rotations by public amounts.

use super::{Blocks, pairs};
use crate::{
    builder::{Builder, largest},
    program::Form,
};
use cipherloom_primitives::{FheType, Operation};

/// And, or, exclusive or. Two blocks side by side are one lookup; two encrypted bits are looked up by their sum, which
/// leaves room for all three functions in one bootstrap.
pub(crate) fn bitwise(builder: &mut Builder, operation: Operation, ty: FheType, left: &[Form], right: &[Form]) -> Blocks {
    let function = |left: u8, right: u8| match operation {
        Operation::BitAnd => left & right,
        Operation::BitOr => left | right,
        _ => left ^ right,
    };
    let block = |(left, right): (&Form, &Form)| match (left.public(), right.public()) {
        (_, Some(right)) => builder.lookup(left, |left| function(left, right)),
        (Some(left), None) => builder.lookup(right, |right| function(left, right)),
        (None, None) if ty == FheType::Bool => {
            let sum = builder.combine(&[(1, left), (1, right)], 0);
            builder.lookup(&sum, |sum| function(u8::from(sum > 0), u8::from(sum > 1)))
        }
        (None, None) => {
            let pair = builder.combine(&[(4, left), (1, right)], 0);
            builder.lookup(&pair, |pair| function(pair >> 2, pair & 3))
        }
    };
    pairs(left, right).map(block).collect()
}

/// Complement. Costs nothing.
pub(crate) fn not(ty: FheType, blocks: &[Form]) -> Blocks {
    let complement = |block| Form::sum(&[(-1, block)], largest(ty).into());
    blocks.iter().map(complement).collect()
}

/// Shifts left by fewer bits than the width.
pub(crate) fn shift_left(builder: &mut Builder, blocks: &[Form], bits: usize) -> Blocks {
    let from_below = |index: usize, distance: usize| index.checked_sub(distance).and_then(|index| blocks.get(index));
    shifted(builder, blocks.len(), bits, from_below)
}

/// Rotates left by fewer bits than the width.
pub(crate) fn rotate_left(builder: &mut Builder, blocks: &[Form], bits: usize) -> Blocks {
    let count = blocks.len();
    let around = |index: usize, distance: usize| blocks.get((index + count - distance % count) % count);
    shifted(builder, count, bits, around)
}

/// Shifts right by fewer bits than the width.
pub(crate) fn shift_right(builder: &mut Builder, blocks: &[Form], bits: usize) -> Blocks {
    // A shift right by 2k − 1 bits is one by 2k bits right, then one to the left.
    let up = bits % 2;
    let distance = bits.div_ceil(2);
    let from_above = |index: usize, below: usize| (index + distance).checked_sub(below).and_then(|index| blocks.get(index));
    shifted(builder, blocks.len(), up, from_above)
}

/// Moves blocks, and shifts by one more bit for an odd number of bits: then each block takes a bit of its lower neighbour.
fn shifted<'a>(builder: &mut Builder, count: usize, bits: usize, source: impl Fn(usize, usize) -> Option<&'a Form>) -> Blocks {
    let zero = Form::known(0);
    let block = |index: usize| {
        let block = source(index, bits / 2).unwrap_or(&zero);
        if bits.is_multiple_of(2) {
            return block.clone();
        }
        let below = source(index, bits / 2 + 1).unwrap_or(&zero);
        if below.public().is_some() || block.public().is_some() {
            // One lookup of the secret one, or none.
            let (high, low) = (block.public(), below.public());
            let function = |high: u8, low: u8| ((high << 1) & 3) | (low >> 1);
            return match (high, low) {
                (_, Some(low)) => builder.lookup(block, |high| function(high, low)),
                (Some(high), None) => builder.lookup(below, |low| function(high, low)),
                (None, None) => unreachable!("one of the two is public"),
            };
        }
        let pair = builder.combine(&[(4, block), (1, below)], 0);
        builder.lookup(&pair, |pair| ((pair >> 2 << 1) & 3) | ((pair & 3) >> 1))
    };
    (0..count).map(block).collect()
}
