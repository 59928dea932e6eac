//! Choice by an encrypted condition.

use super::{Blocks, pairs};
use crate::{
    builder::{Builder, largest},
    program::Form,
};
use cipherloom_primitives::FheType;

/// Chooses `if_true` where the condition is 1, else `if_false`.
///
/// Two secret blocks take one bootstrap: `2 · (x − y + 3) + c` is at most 13 and says by how much the result differs from `y`. The result
/// has the noise of two bootstraps, which most kernels take; where it has to be clean, that is a second bootstrap. With a public
/// block on either side the choice is one lookup and clean, and between two public values, many blocks share one.
pub(crate) fn select(builder: &mut Builder, ty: FheType, condition: &Form, if_true: &[Form], if_false: &[Form]) -> Blocks {
    let block = |(x, y): (&Form, &Form)| match (x.public(), y.public()) {
        _ if condition.public() == Some(1) || x == y => x.clone(),
        _ if condition.public() == Some(0) => y.clone(),
        (Some(x), Some(y)) => builder.lookup(condition, |condition| if condition == 1 { x } else { y }),
        (None, Some(y)) => {
            let pair = builder.combine(&[(4, condition), (1, x)], 0);
            builder.lookup(&pair, |pair| if pair >= 4 { pair & 3 } else { y })
        }
        (Some(x), None) => {
            let pair = builder.combine(&[(4, condition), (1, y)], 0);
            builder.lookup(&pair, |pair| if pair >= 4 { x } else { pair })
        }
        // In either order the difference is the same lookup, so that a choice and its opposite share everything.
        (None, None) if x <= y => {
            let (_, y, change) = difference(builder, ty, condition, x, y);
            let chosen = Form::sum(&[(1, &y), (-1, &change)], largest(ty).into());
            builder.bounded(&chosen, largest(ty))
        }
        (None, None) => {
            let (y, _, change) = difference(builder, ty, condition, y, x);
            let chosen = Form::sum(&[(1, &y), (1, &change)], -i16::from(largest(ty)));
            builder.bounded(&chosen, largest(ty))
        }
    };
    pairs(if_true, if_false).map(block).collect()
}

/// Gives the smaller and the larger of two numbers, of which `ordered` says whether `left ≥ right`. One bootstrap per block gives both.
pub(crate) fn min_max(builder: &mut Builder, ty: FheType, ordered: &Form, left: &[Form], right: &[Form]) -> (Blocks, Blocks) {
    let larger = select(builder, ty, ordered, left, right);
    let smaller = select(builder, ty, ordered, right, left);
    (smaller, larger)
}

/// Returns `x`, `y`, clean enough, and `offset − (x − y)` if the condition holds, else `offset`; the offset is the largest value of a block.
fn difference(builder: &mut Builder, ty: FheType, condition: &Form, x: &Form, y: &Form) -> (Form, Form, Form) {
    let offset = largest(ty);
    // The lookup's noise is twice that of both blocks and that of the condition: it takes clean ones.
    let (x, y) = (builder.clean(x), builder.clean(y));
    let input = builder.combine(&[(2, &x), (-2, &y), (1, condition)], i16::from(2 * offset));
    let change = builder.lookup(&input, |input| {
        let (shifted, condition) = (input >> 1, input & 1);
        if condition == 1 { 2 * offset - shifted } else { offset }
    });
    (x, y, change)
}
