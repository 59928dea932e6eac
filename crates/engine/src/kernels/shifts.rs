//! Shifts and rotations by encrypted amounts: one stage per bit of the amount, each of which moves everything or nothing.
//!
//! A stage takes one bootstrap per block. A block beside the stage's bit is at most 7, so that one bootstrap gives both what stays and what moves;
//! a result is the sum of what stays and what arrives, of which one is 0. Bits come out of the amount's blocks already times four, so
//! that they add no more noise than a block.

use cipherloom_primitives::{FheType, Operation};

use super::Blocks;
use crate::{
    builder::{Builder, largest},
    program::Form,
};

/// Shifts or rotates by an amount modulo the width, a power of two.
pub(crate) fn shift(builder: &mut Builder, operation: Operation, ty: FheType, blocks: &[Form], amount: &[Form]) -> Blocks {
    let mut stages: Vec<(Form, usize)> = (0..ty.bits().ilog2() as usize)
        .map(|bit| (control(builder, amount, bit), 1_usize << bit))
        .collect();
    let is_rotation = matches!(operation, Operation::Rotl | Operation::Rotr);
    let direction = Direction {
        up: matches!(operation, Operation::Shl | Operation::Rotl),
        around: is_rotation,
    };
    let mut blocks = blocks.to_vec();
    if is_rotation {
        // Rotating by half the width exchanges the halves, for half the price where blocks are clean. So it comes first.
        if let Some((control, _)) = stages.pop().filter(|(control, _)| control.public() != Some(0)) {
            blocks = exchange_halves(builder, &blocks, &control);
        }
    }
    // Of a shift the longest comes last: half of its blocks receive nothing and are clean.
    for (control, bits) in stages.into_iter().filter(|(control, _)| control.public() != Some(0)) {
        blocks = stage(builder, &blocks, &control, bits, direction);
    }
    blocks
}

#[derive(Clone, Copy)]
struct Direction {
    /// Towards the most significant block.
    up: bool,
    /// What leaves at one end comes back at the other.
    around: bool,
}

/// Returns four times a bit of the amount.
fn control(builder: &mut Builder, amount: &[Form], bit: usize) -> Form {
    let zero = Form::known(0);
    let block = amount.get(bit / 2).unwrap_or(&zero);
    builder.lookup(block, |block| ((block >> (bit % 2)) & 1) * 4)
}

/// Moves blocks by this many bits, one or an even number, if the control is 4.
fn stage(builder: &mut Builder, blocks: &[Form], control: &Form, bits: usize, direction: Direction) -> Blocks {
    // What moves by one bit stays in part, and only a bit of it goes to the next block.
    let stays = |block: u8| match (bits, direction.up) {
        (1, true) => (block << 1) & 3,
        (1, false) => block >> 1,
        _ => 0,
    };
    let leaves = |block: u8| match (bits, direction.up) {
        (1, true) => block >> 1,
        (1, false) => (block & 1) << 1,
        _ => block,
    };
    let inputs: Vec<Form> = blocks.iter().map(|block| builder.combine(&[(1, block), (1, control)], 0)).collect();
    let distance = bits.div_ceil(2);
    let count = blocks.len();
    let source = |index: usize| {
        let below = if direction.up { count - distance } else { distance };
        let index = index + below;
        let wraps = if direction.up { index < count } else { index >= count };
        (direction.around || !wraps).then_some(index % count)
    };
    let result = |(index, own): (usize, &Form)| {
        let rest = builder.lookup(own, |value| if value >= 4 { stays(value - 4) } else { value });
        let Some(other) = source(index).and_then(|index| inputs.get(index)) else {
            return rest;
        };
        let arrived = builder.lookup(other, |value| if value >= 4 { leaves(value - 4) } else { 0 });
        let sum = Form::sum(&[(1, &rest), (1, &arrived)], 0);
        builder.bounded(&sum, largest(FheType::Uint8))
    };
    inputs.iter().enumerate().map(result).collect()
}

/// Exchanges the lower and the upper half if the control is 4. One bootstrap per pair of blocks says by how much both change.
fn exchange_halves(builder: &mut Builder, blocks: &[Form], control: &Form) -> Blocks {
    let (low, high) = blocks.split_at(blocks.len() / 2);
    let mut lower = Blocks::new();
    let mut upper = Blocks::new();
    for (x, y) in low.iter().zip(high) {
        // Clean blocks, and eight times the bit: 0 to 6, or 8 to 14.
        let (x, y) = (builder.clean(x), builder.clean(y));
        let input = builder.combine(&[(1, &x), (-1, &y), (2, control)], 3);
        let change = builder.lookup(&input, |input| if input >= 8 { 14 - input } else { 3 });
        let sum = Form::sum(&[(1, &x), (1, &change)], -3);
        lower.push(builder.bounded(&sum, 3));
        let sum = Form::sum(&[(1, &y), (-1, &change)], 3);
        upper.push(builder.bounded(&sum, 3));
    }
    lower.append(&mut upper);
    lower
}
