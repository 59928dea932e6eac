//! How each operation is done in bootstraps.
//!
//! Kernels take and give blocks of two bits, least significant first, each from 0 to 3 (`ebool`: one block, 0 or 1) and with the noise
//! of at most two bootstraps. With two bits of carry above, a block has room for 0 to 15. Where a sum stays within 0 to 7, one
//! bootstrap gives two functions of it, such as message and carry.

mod arithmetic;
mod bits;
mod columns;
mod comparison;
mod digits;
mod division;
mod lookahead;
mod multiplication;
mod selection;
mod shifts;
mod sums;

pub(crate) use arithmetic::{add, negate, subtract};
pub(crate) use bits::{bitwise, not, rotate_left, shift_left, shift_right};
pub(crate) use comparison::{equal, greater_or_equal, greater_or_equal_public, is_in};
pub(crate) use digits::{digit, public_number};
pub(crate) use division::{divide, multiply_divide, remainder};
pub(crate) use multiplication::mul;
pub(crate) use selection::{min_max, select};
pub(crate) use shifts::shift;
pub(crate) use sums::sum;

use crate::program::Form;

/// The blocks of a number.
pub(crate) type Blocks = Vec<Form>;

/// The next blocks of two operands of one length.
fn pairs<'a>(left: &'a [Form], right: &'a [Form]) -> impl Iterator<Item = (&'a Form, &'a Form)> {
    debug_assert_eq!(left.len(), right.len(), "operands of one type have the same number of blocks");
    left.iter().zip(right)
}
