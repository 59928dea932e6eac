//! Sums of many numbers: columns of blocks are thinned out without carrying, then one ripple carries.

use super::{Blocks, add};
use crate::{builder::Builder, program::Form};

/// Up to this many numbers, adding one after the other needs no more bootstraps.
const CHAIN: usize = 4;

/// The largest sum of which one bootstrap gives message and carry.
const ONE_BOOTSTRAP: u8 = 7;

/// The largest sum a block can hold.
const TWO_BOOTSTRAPS: u8 = 15;

/// How many fresh blocks can be added up before a lookup.
const MAX_TERMS: usize = 5;

/// Adds numbers of one width, modulo two to the width.
pub(crate) fn sum(builder: &mut Builder, numbers: &[Blocks], width: usize) -> Blocks {
    match numbers {
        [] => vec![Form::known(0); width],
        [first, rest @ ..] if numbers.len() <= CHAIN => rest.iter().fold(first.clone(), |total, number| add(builder, &total, number)),
        _ => {
            let column = |index: usize| numbers.iter().filter_map(|number| number.get(index).cloned()).collect();
            add_columns(builder, (0..width).map(column).collect())
        }
    }
}

/// Adds up columns of blocks, of which column *i* counts 4^*i*. What is carried beyond the last is dropped.
pub(crate) fn add_columns(builder: &mut Builder, mut columns: Vec<Blocks>) -> Blocks {
    let mut blocks = Blocks::with_capacity(columns.len());
    for index in 0..columns.len() {
        let mut column = columns.get_mut(index).map(std::mem::take).unwrap_or_default();
        let mut carries = Blocks::new();
        let block = loop {
            // The largest first: small ones, such as carries, then fill up what room is left.
            column.sort_by_key(|block| std::cmp::Reverse(builder.max(block)));
            let total: u32 = column.iter().map(|block| u32::from(builder.max(block))).sum();
            let enough = total <= ONE_BOOTSTRAP.into() && column.len() <= MAX_TERMS;
            let limit = if enough { ONE_BOOTSTRAP } else { TWO_BOOTSTRAPS };
            let group = take_group(builder, &mut column, limit);
            let sum = builder.combine(&group.iter().map(|block| (1, block)).collect::<Vec<_>>(), 0);
            let message = builder.lookup(&sum, |value| value & 3);
            let carry = builder.lookup(&sum, |value| value >> 2);
            if carry.public() != Some(0) {
                carries.push(carry);
            }
            if column.is_empty() {
                break message;
            }
            column.push(message);
        };
        blocks.push(block);
        if let Some(next) = columns.get_mut(index + 1) {
            next.extend(carries);
        }
    }
    blocks
}

/// Takes blocks out of a column whose sum is at most the limit.
fn take_group(builder: &Builder, column: &mut Blocks, limit: u8) -> Blocks {
    let mut group = Blocks::new();
    let mut total = 0;
    let mut left = Blocks::new();
    for block in std::mem::take(column) {
        let max = builder.max(&block);
        if group.len() < MAX_TERMS && total + max <= limit {
            total += max;
            group.push(block);
        } else {
            left.push(block);
        }
    }
    *column = left;
    group
}
