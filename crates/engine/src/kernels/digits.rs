//! Public numbers as signed digits, so that few and small multiples of blocks are added up.

use cipherloom_primitives::U256;

use crate::program::Form;

/// What a digit costs where it multiplies a block, by its absolute value: the room it takes in a column.
const COSTS: [usize; 3] = [0, 3, 6];

/// Writes a number in base 4 with digits from −2 to 2, least significant first, so that they cost least. There are at most `count` digits; the number is
/// that modulo 4^`count`.
pub(super) fn signed(value: U256, count: usize) -> Vec<i16> {
    // The least cost of all digits from one on, without and with a carry into it; filled from the top, where carries are dropped.
    let mut costs = vec![[0; 2]; count + 1];
    for index in (0..count).rev() {
        let cost = [false, true].map(|carry| {
            let choices = choices(value, index, carry);
            choices.into_iter().flatten().map(|choice| cost(choice, &costs, index)).min()
        });
        if let Some(slot) = costs.get_mut(index) {
            *slot = cost.map(|cost| cost.unwrap_or_default());
        }
    }
    let mut carry = false;
    let mut digits = Vec::with_capacity(count);
    for index in 0..count {
        let choices = choices(value, index, carry);
        if let Some((digit, next)) = choices.into_iter().flatten().min_by_key(|choice| cost(*choice, &costs, index)) {
            digits.push(digit);
            carry = next;
        }
    }
    while digits.last() == Some(&0) {
        digits.pop();
    }
    digits
}

/// Returns what [`signed`] costs.
pub(super) fn weight(digits: &[i16]) -> usize {
    digits.iter().map(|digit| digit_cost(*digit)).sum()
}

/// The digits that can stand for one of base 4 and a carry, each with the carry to the next.
fn choices(value: U256, index: usize, carry: bool) -> [Option<(i16, bool)>; 2] {
    match digit(value, index) + u8::from(carry) {
        0 => [Some((0, false)), None],
        1 => [Some((1, false)), None],
        2 => [Some((2, false)), Some((-2, true))],
        3 => [Some((-1, true)), None],
        _ => [Some((0, true)), None],
    }
}

fn cost((digit, carry): (i16, bool), costs: &[[usize; 2]], index: usize) -> usize {
    let rest = costs.get(index + 1).map_or(0, |costs| if carry { costs[1] } else { costs[0] });
    digit_cost(digit) + rest
}

fn digit_cost(digit: i16) -> usize {
    COSTS.get(usize::from(digit.unsigned_abs())).copied().unwrap_or(usize::MAX)
}

/// The number that all-public blocks stand for.
pub(crate) fn public_number(blocks: &[Form]) -> Option<U256> {
    let digits = blocks.iter().map(Form::public).collect::<Option<Vec<_>>>()?;
    Some(
        digits
            .iter()
            .rev()
            .fold(U256::ZERO, |value, digit| (value << 2) | U256::from(*digit)),
    )
}

/// The two bits of a number at a block's place.
pub(crate) fn digit(value: U256, index: usize) -> u8 {
    if index >= 128 { 0 } else { (value >> (2 * index)).byte(0) & 3 }
}

/// Returns how many digits of base 4 a number has.
pub(super) fn count(value: U256) -> usize {
    value.bit_len().div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(digits: &[i16]) -> i64 {
        digits.iter().rev().fold(0, |value, digit| value * 4 + i64::from(*digit))
    }

    #[test]
    fn signed_digits_stand_for_the_number() {
        for number in 0..5000_u32 {
            let digits = signed(U256::from(number), 10);
            assert_eq!(value(&digits), i64::from(number), "{digits:?}");
            // Without room for a carry they do so modulo the width.
            let digits = signed(U256::from(number), 3);
            assert_eq!(value(&digits).rem_euclid(64), i64::from(number % 64), "{digits:?}");
        }
    }

    #[test]
    fn signed_digits_are_cheaper_than_plain_ones() {
        let digits = signed(U256::from(0b11_11_11_10), 8);
        assert_eq!(digits, [-2, 0, 0, 0, 1]);
        assert_eq!(weight(&digits), 9);
    }
}
