//! Sums of many numbers.

use super::{Blocks, add, columns::Columns};
use crate::{builder::Builder, program::Form};

/// Up to this many numbers, adding one after the other needs no more bootstraps.
const CHAIN: usize = 4;

/// Adds numbers of one width, modulo two to the width.
pub(crate) fn sum(builder: &mut Builder, numbers: &[Blocks], width: usize) -> Blocks {
    match numbers {
        [] => vec![Form::known(0); width],
        [first, rest @ ..] if numbers.len() <= CHAIN => rest.iter().fold(first.clone(), |total, number| add(builder, &total, number)),
        _ => {
            let mut columns = Columns::new(width);
            for number in numbers {
                for (index, block) in number.iter().enumerate() {
                    columns.add(builder, index, 1, block);
                }
            }
            columns.total(builder)
        }
    }
}
