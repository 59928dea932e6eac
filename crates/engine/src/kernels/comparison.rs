//! Comparisons.

use super::{arithmetic::not_less, pairs};
use crate::{builder::Builder, lower::Profile, program::Form};

/// How many fresh blocks can be added up before a lookup.
const MAX_TERMS: usize = 5;

/// Says whether `left ≥ right`: the carry of the subtraction, with which it shares its bootstraps.
pub(crate) fn greater_or_equal(builder: &mut Builder, left: &[Form], right: &[Form]) -> Form {
    not_less(builder, left, right)
}

/// Says whether a number is at least a public one. Two blocks side by side are one lookup, whose result says less, equal or
/// greater; three such results and a carry are another.
pub(crate) fn greater_or_equal_public(builder: &mut Builder, left: &[Form], right: &[u8]) -> Form {
    // Where the public number has only zeros at its upper end, it is enough to know whether there is anything else.
    let upper = right.len() - right.iter().rev().take_while(|block| **block == 0).count();
    let upper = upper.next_multiple_of(2).min(right.len());
    let (low, high) = left.split_at(upper);
    let mut low_blocks: Vec<(&[Form], &[u8])> = low.chunks(2).zip(right.chunks(2)).collect();
    // Of the lowest two blocks nothing but the carry counts.
    let lowest: Vec<(&[Form], &[u8])> = low_blocks.drain(..low_blocks.len().min(1)).collect();
    let mut carry = Form::known(1);
    for (left, right) in lowest {
        let (pair, value) = side_by_side(builder, left, right);
        carry = builder.lookup(&pair, |pair| u8::from(pair >= value));
    }
    for group in low_blocks.chunks(3) {
        let mut terms = vec![carry];
        for (position, (left, right)) in group.iter().enumerate() {
            terms.push(order(builder, left, right, 1 << position));
        }
        let sum = builder.combine(&terms.iter().map(|term| (1, term)).collect::<Vec<_>>(), 0);
        let threshold = 1u8 << group.len();
        carry = builder.lookup(&sum, |sum| u8::from(sum >= threshold));
    }
    if high.is_empty() {
        return carry;
    }
    let mut flags: Vec<Form> = high.chunks(MAX_TERMS).map(|blocks| any(builder, blocks)).collect();
    flags.push(carry);
    any(builder, &flags)
}

/// Compares up to two blocks with public ones: 0 for less, `weight` for equal, `2 · weight` for greater.
fn order(builder: &mut Builder, left: &[Form], right: &[u8], weight: u8) -> Form {
    let (pair, value) = side_by_side(builder, left, right);
    builder.lookup(&pair, |pair| weight * (u8::from(pair >= value) + u8::from(pair > value)))
}

/// One or two blocks and public ones, each as one number.
fn side_by_side(builder: &mut Builder, left: &[Form], right: &[u8]) -> (Form, u8) {
    let terms: Vec<(i16, &Form)> = left.iter().zip([1, 4]).map(|(block, factor)| (factor, block)).collect();
    let value: u8 = right.iter().zip([1, 4]).map(|(block, factor)| block * factor).sum();
    (builder.combine(&terms, 0), value)
}

/// Says whether any block is not zero.
fn any(builder: &mut Builder, blocks: &[Form]) -> Form {
    let mut blocks: std::collections::VecDeque<Form> = blocks.iter().filter(|block| block.public() != Some(0)).cloned().collect();
    if blocks.iter().any(|block| block.public().is_some()) {
        return Form::known(1);
    }
    if let (Some(block), 1) = (blocks.front(), blocks.len()) {
        return builder.lookup(block, |value| u8::from(value > 0));
    }
    // Sums of blocks of up to 3 or of flags: five of them stay within 15 and within the noise bound.
    while blocks.len() > 1 {
        let group: Vec<Form> = blocks.drain(..blocks.len().min(MAX_TERMS)).collect();
        let sum = builder.combine(&group.iter().map(|block| (1, block)).collect::<Vec<_>>(), 0);
        let flag = builder.lookup(&sum, |value| u8::from(value > 0));
        blocks.push_back(flag);
    }
    blocks.pop_front().unwrap_or_else(|| Form::known(0))
}

/// Says whether two numbers are equal.
///
/// Each lookup takes the difference of two blocks, from 0 to 6 with 3 for none, and on top of it 7 if blocks before it differed: one
/// bootstrap per block. To be quicker, each block's difference is looked up alone. Where one number is public, two blocks are one lookup, and blocks compared with 0 or 3 need none of their own.
pub(crate) fn equal(builder: &mut Builder, left: &[Form], right: &[Form]) -> Form {
    let secret = |form: &Form| form.public().is_none();
    let both_secret: Vec<_> = pairs(left, right)
        .filter(|(left, right)| secret(left) && secret(right) && left != right)
        .collect();
    let one_public: Vec<_> = pairs(left, right)
        .filter_map(|(left, right)| match (left.public(), right.public()) {
            (Some(value), _) => Some((right, value)),
            (None, Some(value)) => Some((left, value)),
            (None, None) => None,
        })
        .collect();
    let mut differs = Form::known(0);
    let mut flags = differences_from_public(builder, &one_public);
    for (position, (left, right)) in both_secret.iter().enumerate() {
        let largest = i16::from(builder.max(right));
        let none = u8::try_from(largest).unwrap_or_default();
        if builder.profile() == Profile::Latency {
            let input = builder.combine(&[(1, left), (-1, right)], largest);
            flags.push(builder.lookup(&input, |input| u8::from(input != none)));
            continue;
        }
        let input = builder.combine(&[(1, left), (-1, right), (1, &differs)], largest);
        let is_last = position + 1 == both_secret.len();
        let mark = if is_last { 1 } else { 7 };
        differs = builder.lookup(&input, |input| if input == none { 0 } else { mark });
    }
    flags.push(differs);
    let differs = any(builder, &flags);
    Form::sum(&[(-1, &differs)], 1)
}

/// Gives blocks of which one is not zero if the numbers differ.
fn differences_from_public(builder: &mut Builder, blocks: &[(&Form, u8)]) -> Vec<Form> {
    let mut flags = Vec::new();
    let mut to_look_up = Vec::new();
    for (block, value) in blocks {
        match (block.public(), *value) {
            (Some(other), value) => flags.push(Form::known(u8::from(other != value))),
            (None, 0) => flags.push((*block).clone()),
            (None, value) if value == builder.max(block) => flags.push(Form::sum(&[(-1, block)], value.into())),
            (None, value) => to_look_up.push((*block, value)),
        }
    }
    // A block left over from the pairs of lookups can have one of the others beside it.
    for pair in to_look_up.chunks(2) {
        let terms: Vec<(i16, &Form)> = pair.iter().zip([1, 4]).map(|((block, _), factor)| (factor, *block)).collect();
        let value: u8 = pair.iter().zip([1, 4]).map(|((_, value), factor)| value * factor).sum();
        let input = builder.combine(&terms, 0);
        flags.push(builder.lookup(&input, |input| u8::from(input != value)));
    }
    flags
}

/// Says whether a number is in a list.
pub(crate) fn is_in(builder: &mut Builder, value: &[Form], list: &[Vec<Form>]) -> Form {
    let flags: Vec<Form> = list.iter().map(|element| equal(builder, value, element)).collect();
    any(builder, &flags)
}
