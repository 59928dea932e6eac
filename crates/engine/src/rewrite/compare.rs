//! Rules of comparisons: all become one of two forms, which pairs of them and subtractions share.

use cipherloom_primitives::{FheType, Operand, Operation, TypedOperation, U256};

use super::{
    Rule, first_two,
    rewriter::{Rewriter, Right},
};
use crate::graph::NodeId;

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "one-comparison",
        doc: "lt, le and gt become ge, its complement, or both with exchanged operands; ne becomes the complement of eq. \
              Comparisons of one pair are then one, and ge(x, y) comes with x - y",
        apply: one_comparison,
    },
    Rule {
        name: "known-comparison",
        doc: "ge(x, 0), ge(x, x) and eq(x, x) are true; eq of an ebool and a public bit is the ebool or its complement",
        apply: known_comparison,
    },
];

fn one_comparison(rewriter: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
    use Operation as Op;
    let TypedOperation::Binary { operation: kind, ty, rhs } = operation else {
        return None;
    };
    let ty = *ty;
    let not = |rewriter: &mut Rewriter, node| rewriter.complement(FheType::Bool, node);
    match (kind, rhs, inputs) {
        (Op::Ne, Operand::Encrypted, [left, right]) => {
            let equal = rewriter.binary(Op::Eq, ty, *left, Right::Node(*right));
            Some(not(rewriter, equal))
        }
        (Op::Ne, Operand::Scalar(value), [left]) => {
            let equal = rewriter.binary(Op::Eq, ty, *left, Right::Scalar(*value));
            Some(not(rewriter, equal))
        }
        (Op::Le, Operand::Encrypted, [left, right]) => Some(rewriter.binary(Op::Ge, ty, *right, Right::Node(*left))),
        (Op::Lt, Operand::Encrypted, [left, right]) => {
            let ordered = rewriter.binary(Op::Ge, ty, *left, Right::Node(*right));
            Some(not(rewriter, ordered))
        }
        (Op::Gt, Operand::Encrypted, [left, right]) => {
            let ordered = rewriter.binary(Op::Ge, ty, *right, Right::Node(*left));
            Some(not(rewriter, ordered))
        }
        (Op::Lt, Operand::Scalar(value), [left]) => {
            let ordered = rewriter.binary(Op::Ge, ty, *left, Right::Scalar(*value));
            Some(not(rewriter, ordered))
        }
        (Op::Gt | Op::Le, Operand::Scalar(value), [left]) => {
            let above = match value.checked_add(U256::ONE).filter(|next| *next <= ty.max_value()) {
                Some(next) => rewriter.binary(Op::Ge, ty, *left, Right::Scalar(next)),
                None => rewriter.public(FheType::Bool, U256::ZERO),
            };
            Some(if *kind == Op::Gt { above } else { not(rewriter, above) })
        }
        _ => None,
    }
}

fn known_comparison(rewriter: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
    use Operation as Op;
    let TypedOperation::Binary { operation: kind, ty, rhs } = operation else {
        return None;
    };
    match (kind, rhs) {
        (Op::Ge | Op::Eq, Operand::Encrypted) => {
            let (left, right) = first_two(inputs)?;
            (left == right).then(|| rewriter.public(FheType::Bool, U256::ONE))
        }
        (Op::Ge, Operand::Scalar(value)) if value.is_zero() => Some(rewriter.public(FheType::Bool, U256::ONE)),
        (Op::Eq, Operand::Scalar(value)) if *ty == FheType::Bool => {
            let bit = *inputs.first()?;
            Some(if value.is_zero() { rewriter.complement(*ty, bit) } else { bit })
        }
        _ => None,
    }
}
