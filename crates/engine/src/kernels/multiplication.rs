//! Multiplication: products of digits, added up in columns.

use cipherloom_primitives::U256;

use super::{Blocks, columns::Columns, digits};
use crate::{
    builder::{Builder, cheapest},
    program::Form,
};

/// Multiplies modulo four to the number of `columns`, at least as many as either factor has blocks.
pub(crate) fn mul(builder: &mut Builder, left: &[Form], right: &[Form], columns: usize) -> Blocks {
    let (secret, public) = if digits::public_number(left).is_some() {
        (right, left)
    } else {
        (left, right)
    };
    let Some(factor) = digits::public_number(public) else {
        return mul_secret(builder, left, right, columns);
    };
    cheapest(builder, &[secret], |builder, operands, choice| {
        let [secret] = operands else { return None };
        (choice < 2).then(|| mul_public(builder, secret, factor, columns, choice == 1))
    })
}

/// Multiplies two secret numbers.
///
/// With digits from 0 to 3, the product of two is at most 9, and a column's lookup takes one of them beside two blocks. With digits from −1 to 2 it
/// is from −2 to 4, that is 7 values, and a lookup takes two of them beside a block: that saves a quarter of all bootstraps of larger numbers, and
/// costs one per block for writing both factors so.
fn mul_secret(builder: &mut Builder, left: &[Form], right: &[Form], columns: usize) -> Blocks {
    cheapest(builder, &[left, right], |builder, operands, choice| {
        let [left, right] = operands else { return None };
        match choice {
            0 => Some(mul_plain(builder, left, right, columns)),
            1 => Some(mul_signed(builder, left, right, columns)),
            _ => None,
        }
    })
}

fn mul_plain(builder: &mut Builder, left: &[Form], right: &[Form], columns: usize) -> Blocks {
    let (left, right) = (clean(builder, left), clean(builder, right));
    let is_square = left == right;
    let mut sums = Columns::new(columns);
    for index in 0..columns {
        for (place, (low, high)) in column_pairs(&left, &right, index, is_square).enumerate() {
            // The first product of a column is taken apart at once, the last column has no carries.
            if place == 0 || index + 1 == columns {
                for (column, part) in [(index, 0), (index + 1, 2)] {
                    let part = product(builder, low, high, |low, high| (low * high) >> part & 3);
                    sums.add(builder, column, 1, &part);
                }
            } else {
                let product = product(builder, low, high, |low, high| low * high);
                sums.add(builder, index, 1, &product);
            }
        }
    }
    sums.total(builder)
}

fn mul_signed(builder: &mut Builder, left: &[Form], right: &[Form], columns: usize) -> Blocks {
    let is_square = left == right;
    let (left, right) = (signed_digits(builder, left, columns), signed_digits(builder, right, columns));
    let mut sums = Columns::new(columns);
    for index in 0..columns {
        for (low, high) in column_pairs(&left, &right, index, is_square) {
            // Digits are stored with 1 added, the product with 2.
            let product = product(builder, low, high, |low, high| (low * high + 3).saturating_sub(low + high));
            sums.add(builder, index, 1, &product);
            sums.add_public(index, -2);
        }
    }
    sums.total(builder)
}

/// The pairs of digits whose product counts in a column. In a square they are in such an order that equal products are the same lookup.
fn column_pairs<'a>(left: &'a [Form], right: &'a [Form], index: usize, is_square: bool) -> impl Iterator<Item = (&'a Form, &'a Form)> {
    (0..=index).filter_map(move |low| {
        let high = index - low;
        let (low, high) = if is_square { (low.min(high), low.max(high)) } else { (low, high) };
        Some((left.get(low)?, right.get(high)?))
    })
}

/// Looks up a function of two blocks.
fn product(builder: &mut Builder, left: &Form, right: &Form, function: impl Fn(u8, u8) -> u8) -> Form {
    match (left.public(), right.public()) {
        (_, Some(right)) => builder.lookup(left, |left| function(left, right)),
        (Some(left), None) => builder.lookup(right, |right| function(left, right)),
        (None, None) => {
            let pair = builder.combine(&[(4, left), (1, right)], 0);
            builder.lookup(&pair, |pair| function(pair >> 2, pair & 3))
        }
    }
}

fn clean(builder: &mut Builder, blocks: &[Form]) -> Blocks {
    blocks.iter().map(|block| builder.clean(block)).collect()
}

/// Writes a number with digits from −1 to 2, to which 1 is added, modulo four to `count`.
fn signed_digits(builder: &mut Builder, blocks: &[Form], count: usize) -> Blocks {
    let mut carry = Form::known(0);
    let zero = Form::known(0);
    let mut digits = Blocks::new();
    for index in 0..count.min(blocks.len() + 1) {
        let block = blocks.get(index).unwrap_or(&zero);
        let sum = builder.combine(&[(1, block), (1, &carry)], 0);
        // 3 is −1 and a carry, 4 is 0 and a carry.
        digits.push(builder.lookup(&sum, |sum| if sum >= 3 { sum - 3 } else { sum + 1 }));
        carry = builder.lookup(&sum, |sum| u8::from(sum >= 3));
    }
    digits
}

/// Multiplies by a public number: its digits are −2 to 2, and multiples of clean blocks cost nothing. Twice a block takes as much room as two; with
/// `split`, both its blocks are looked up instead, once for all columns.
fn mul_public(builder: &mut Builder, blocks: &[Form], factor: U256, columns: usize, split: bool) -> Blocks {
    let blocks = clean(builder, blocks);
    let mut sums = Columns::new(columns);
    add_multiple(builder, &mut sums, &blocks, &digits::signed(factor, columns), split);
    sums.total(builder)
}

/// Adds the product of a number and public digits.
fn add_multiple(builder: &mut Builder, sums: &mut Columns, blocks: &[Form], factor: &[i16], split: bool) {
    for (low, block) in blocks.iter().enumerate() {
        for (high, digit) in factor.iter().enumerate() {
            let index = low + high;
            if split && digit.abs() == 2 {
                let (lower, upper) = (
                    builder.lookup(block, |block| (2 * block) & 3),
                    builder.lookup(block, |block| block >> 1),
                );
                sums.add(builder, index, digit.signum(), &lower);
                sums.add(builder, index + 1, digit.signum(), &upper);
            } else {
                sums.add(builder, index, *digit, block);
            }
        }
    }
}
