//! Division by public numbers: first the remainder, then a division without one.
//!
//! Powers of four in the divisor only move blocks. What is left of it, *d*, is odd or twice an odd number.
//!
//! 1. **Remainder.** Each block of *x* counts some power of four, of which only the remainder modulo *d* matters. These multiples of blocks, added up in
//!    columns, are a much smaller number with the same remainder; and so on until a few comparisons with multiples of *d* are enough.
//! 2. **Quotient.** What is left of *x* without the remainder is a multiple of *d*, and such a number is divided from the least significant digit: the lowest digit of
//!    *q·d* is that of *q*, up to its sign, if that of *d* is 1 or −1. Then *q*'s digit times *d* is subtracted from higher columns. With signed
//!    digits all these multiples cost nothing. If *d* is even, twice the number divided by half of *d* is four times the quotient.
//!
//! Quotient and remainder of one pair share all of the first step.

use cipherloom_primitives::U256;

use super::{Blocks, bits::shift_right, columns::Columns, comparison::greater_or_equal_public, digits, multiplication::mul};
use crate::{builder::Builder, program::Form};

/// The largest number that one lookup takes.
const ONE_LOOKUP: U256 = U256::from_limbs([15, 0, 0, 0]);

/// Divides by a public number, not zero, and gives so many blocks of the quotient.
pub(crate) fn divide(builder: &mut Builder, blocks: &[Form], divisor: U256, count: usize) -> Blocks {
    if divisor.is_power_of_two() {
        let mut quotient = shift_right(builder, blocks, divisor.trailing_zeros());
        quotient.resize(count, Form::known(0));
        return quotient;
    }
    let (_, number, divisor) = without_fours(builder, blocks, divisor);
    let most = largest_value(builder, &number);
    let length = digits::count(most / divisor).min(count);
    let mut quotient = match reduce(builder, &number, divisor) {
        _ if length == 0 => Blocks::new(),
        // Nothing was added up: how often the divisor was subtracted is the quotient.
        Reduced { is_number: true, rest } => rest.times(builder, divisor, length),
        Reduced { rest, .. } => divide_exactly(builder, &number, &rest, divisor, length),
    };
    quotient.resize(count, Form::known(0));
    quotient
}

/// Multiplies two numbers in full, divides by a public number, not zero, and gives as many blocks of the quotient as the first factor has.
pub(crate) fn multiply_divide(builder: &mut Builder, left: &[Form], right: &[Form], divisor: U256) -> Blocks {
    let product = mul(builder, left, right, left.len() + right.len());
    divide(builder, &product, divisor, left.len())
}

/// Gives the remainder of a division by a public number, not zero, in as many blocks as the number has.
pub(crate) fn remainder(builder: &mut Builder, blocks: &[Form], divisor: U256) -> Blocks {
    let (mut low, number, odd) = without_fours(builder, blocks, divisor);
    let mut remainder = reduce(builder, &number, odd).rest.remainder(builder, odd);
    low.append(&mut remainder);
    low.resize(blocks.len(), Form::known(0));
    low
}

/// Separates the blocks below the divisor's powers of four. All are cleaned, because they are used several times.
fn without_fours(builder: &mut Builder, blocks: &[Form], divisor: U256) -> (Blocks, Blocks, U256) {
    let fours = divisor.trailing_zeros() / 2;
    let mut low: Blocks = blocks.iter().map(|block| builder.clean(block)).collect();
    let high = low.split_off(fours.min(low.len()));
    (low, high, divisor >> (2 * fours))
}

/// A number with the same remainder as another.
struct Reduced {
    rest: Rest,
    /// Whether it is that other number itself.
    is_number: bool,
}

/// How often a divisor is subtracted from what has its remainder, at most. Each time takes a comparison.
const MAX_TIMES: u8 = 3;

enum Rest {
    /// A number of at most 15, in one combination.
    Small(Form),
    /// A number, and how often the divisor has to be subtracted from it.
    Number { blocks: Blocks, times: Form },
}

/// Makes a number small without changing its remainder.
fn reduce(builder: &mut Builder, number: &[Form], divisor: U256) -> Reduced {
    let mut blocks = number.to_vec();
    let mut most = largest_value(builder, &blocks);
    let mut is_number = true;
    loop {
        if let Some(small) = small_form(builder, &blocks).filter(|_| most <= ONE_LOOKUP) {
            let rest = Rest::Small(small);
            return Reduced { rest, is_number };
        }
        if most / divisor <= U256::from(MAX_TIMES) {
            break;
        }
        let (columns, next) = Some(fold(builder, &blocks, divisor))
            .filter(|(_, next)| *next < most)
            .unwrap_or_else(|| fold_highest(builder, &blocks, most, divisor));
        assert!(next < most, "every step makes the number smaller");
        is_number = false;
        if let Some(small) = columns.small_total(builder) {
            let rest = Rest::Small(small);
            return Reduced { rest, is_number };
        }
        (blocks, most) = (columns.total(builder), next);
    }
    let mut times = Form::known(0);
    let mut multiple = divisor;
    while multiple <= most {
        let digits: Vec<u8> = (0..blocks.len()).map(|index| digits::digit(multiple, index)).collect();
        let is_more = greater_or_equal_public(builder, &blocks, &digits);
        times = builder.combine(&[(1, &times), (1, &is_more)], 0);
        multiple += divisor;
    }
    let times = builder.clean(&times);
    let rest = Rest::Number { blocks, times };
    Reduced { rest, is_number }
}

/// Adds up the remainders of what each block counts. Gives also the largest value that the sum can have.
fn fold(builder: &Builder, blocks: &[Form], divisor: U256) -> (Columns, U256) {
    let mut power = U256::ONE;
    let mut multiples = Vec::with_capacity(blocks.len());
    let (mut most, mut least) = (U256::ZERO, U256::ZERO);
    for block in blocks {
        let max = U256::from(builder.max(block));
        let other = divisor - power;
        // A remainder, or what it lacks to the divisor, which is subtracted.
        let length = digits::count(divisor) + 1;
        let (positive, negative) = (digits::signed(power, length), digits::signed(other, length));
        let is_small = power < divisor && multiples.len() < digits::count(divisor) - 1;
        if is_small || digits::weight(&positive) <= digits::weight(&negative) {
            most += max * power;
            multiples.push((1, positive));
        } else {
            least += max * other;
            multiples.push((-1, negative));
        }
        power = power * U256::from(4) % divisor;
    }
    let offset = least.div_ceil(divisor) * divisor;
    let most = most + offset;
    let mut columns = Columns::new(digits::count(most));
    for (block, (sign, multiple)) in blocks.iter().zip(&multiples) {
        for (index, digit) in multiple.iter().enumerate() {
            columns.add(builder, index, sign * digit, block);
        }
    }
    for index in 0..digits::count(offset) {
        columns.add_public(index, digits::digit(offset, index).into());
    }
    (columns, most)
}

/// Replaces the highest block of a number up to `most` by the remainder of what it stands for. This makes any number smaller that has more
/// blocks than the divisor.
fn fold_highest(builder: &mut Builder, blocks: &[Form], most: U256, divisor: U256) -> (Columns, U256) {
    let length = digits::count(most).saturating_sub(1).min(blocks.len());
    let (low, highest) = blocks.split_at(length);
    let power = U256::ONE << (2 * length);
    let residue = |value: u8| U256::from(value) * power % divisor;
    let with_highest = |value: u8| {
        let rest = most.checked_sub(U256::from(value) * power)?;
        Some(rest.min(power - U256::ONE) + residue(value))
    };
    let most = (0..=3).filter_map(with_highest).max().unwrap_or_default();
    let mut columns = Columns::new(digits::count(most));
    for (index, block) in low.iter().enumerate() {
        columns.add(builder, index, 1, block);
    }
    for index in 0..digits::count(divisor) {
        for block in highest.iter().take(1) {
            let part = builder.lookup(block, |value| digits::digit(residue(value), index));
            columns.add(builder, index, 1, &part);
        }
    }
    (columns, most)
}

impl Rest {
    /// Gives the remainder's blocks.
    fn remainder(&self, builder: &mut Builder, divisor: U256) -> Blocks {
        match self {
            Self::Small(small) => {
                let divisor = u8::try_from(divisor).unwrap_or(u8::MAX);
                let digit = |part: u32| builder.lookup(small, |value| (value % divisor) >> (2 * part) & 3);
                [0, 1].map(digit).to_vec()
            }
            Self::Number { .. } => {
                let mut columns = Columns::new(digits::count(divisor));
                self.add_to(builder, &mut columns, divisor, 1);
                columns.total(builder)
            }
        }
    }

    /// Adds a multiple of the remainder to columns.
    fn add_to(&self, builder: &mut Builder, columns: &mut Columns, divisor: U256, factor: i16) {
        match self {
            Self::Small(_) => {
                for (index, block) in self.remainder(builder, divisor).iter().enumerate() {
                    columns.add(builder, index, factor, block);
                }
            }
            Self::Number { blocks, times } => {
                for (index, block) in blocks.iter().enumerate() {
                    columns.add(builder, index, factor, block);
                }
                let multiple = divisor * U256::from(factor.unsigned_abs());
                for (index, digit) in digits::signed(multiple, digits::count(multiple) + 1).into_iter().enumerate() {
                    columns.add(builder, index, -digit * factor.signum(), times);
                }
            }
        }
    }

    /// Gives the quotient of the reduced number itself.
    fn times(&self, builder: &mut Builder, divisor: U256, length: usize) -> Blocks {
        let digit = |index: usize| match self {
            Self::Small(small) => {
                let divisor = u8::try_from(divisor).unwrap_or(u8::MAX);
                builder.lookup(small, |value| (value / divisor) >> (2 * index) & 3)
            }
            Self::Number { times, .. } => builder.lookup(times, |times| times >> (2 * index) & 3),
        };
        (0..length).map(digit).collect()
    }
}

/// Divides a number without its remainder by the divisor.
fn divide_exactly(builder: &mut Builder, number: &[Form], rest: &Rest, divisor: U256, length: usize) -> Blocks {
    let is_even = divisor.trailing_zeros() > 0;
    // Twice the number over half the divisor is four times the quotient: one more digit, the lowest, which is zero.
    let factor = if is_even { 2 } else { 1 };
    let odd = divisor >> usize::from(is_even);
    let length = length + usize::from(is_even);
    let multiples = digits::signed(odd, digits::count(odd) + 1);
    let lowest = multiples.first().copied().unwrap_or(1);
    let mut columns = Columns::new(length);
    for (index, block) in number.iter().enumerate() {
        columns.add(builder, index, factor, block);
    }
    rest.add_to(builder, &mut columns, divisor, -factor);
    let mut quotient = Blocks::with_capacity(length);
    for index in 0..length {
        let sum = columns.settle(builder, index);
        let digit = match (is_even && index == 0, lowest) {
            (true, _) => Form::known(0),
            (false, 1) => builder.lookup(&sum, |sum| sum & 3),
            (false, _) => builder.lookup(&sum, |sum| 3 & 4_u8.wrapping_sub(sum)),
        };
        // What is carried is (sum − digit · lowest) / 4.
        columns.carry(builder, index, &sum, |sum| if lowest == 1 { sum >> 2 } else { (sum + 3) >> 2 });
        for (place, multiple) in multiples.iter().enumerate().skip(1) {
            columns.add(builder, index + place, -multiple, &digit);
        }
        quotient.push(digit);
    }
    if is_even {
        quotient.remove(0);
    }
    quotient
}

/// Returns the largest value that these blocks can have.
fn largest_value(builder: &Builder, blocks: &[Form]) -> U256 {
    blocks
        .iter()
        .rev()
        .fold(U256::ZERO, |value, block| (value << 2) + U256::from(builder.max(block)))
}

/// The number of one or two blocks in one combination.
fn small_form(builder: &Builder, blocks: &[Form]) -> Option<Form> {
    let mut columns = Columns::new(blocks.len());
    for (index, block) in blocks.iter().enumerate() {
        columns.add(builder, index, 1, block);
    }
    columns.small_total(builder)
}
