//! Rules of arithmetic and logic.

use cipherloom_fhe::clear;
use cipherloom_primitives::{Operand, Operation, TypedOperation, U256};

use super::{
    Rule, first_two,
    rewriter::{Rewriter, Right},
};
use crate::graph::NodeId;

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "fold-public",
        doc: "an operation on public values is a public value",
        apply: fold_public,
    },
    Rule {
        name: "scalar-operand",
        doc: "a public right operand becomes a scalar; a public left one too where the operands can be exchanged",
        apply: scalar_operand,
    },
    Rule {
        name: "neutral-element",
        doc: "x + 0, x - 0, x | 0, x ^ 0, x & max, x * 1, x / 1, shifts by 0, min(x, max), max(x, 0) are x",
        apply: neutral_element,
    },
    Rule {
        name: "absorbing-element",
        doc: "x & 0, x * 0, min(x, 0), x rem 1 are 0; x | max, max(x, max) are max; x ^ max is not x",
        apply: absorbing_element,
    },
    Rule {
        name: "same-operands",
        doc: "x - x and x ^ x are 0; x & x, x | x, min(x, x), max(x, x) are x",
        apply: same_operands,
    },
    Rule {
        name: "double-negation",
        doc: "not not x and neg neg x are x",
        apply: double_negation,
    },
    Rule {
        name: "power-of-two",
        doc: "multiplication, division and remainder by a power of two are shifts and a mask",
        apply: power_of_two,
    },
];

fn fold_public(rewriter: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
    if matches!(operation, TypedOperation::TrivialEncrypt { .. } | TypedOperation::Rand { .. }) {
        return None;
    }
    let values = inputs
        .iter()
        .map(|input| rewriter.constant(*input))
        .collect::<Option<Vec<U256>>>()?;
    Some(rewriter.public(operation.result_type(), clear::evaluate(operation, &values)))
}

fn scalar_operand(rewriter: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
    let (left, right) = first_two(inputs)?;
    let (value, other, from_right) = match (rewriter.constant(left), rewriter.constant(right)) {
        (_, Some(value)) => (value, left, true),
        (Some(value), None) => (value, right, false),
        (None, None) => return None,
    };
    match operation {
        TypedOperation::Binary { operation, ty, .. } => {
            let exchanged = match operation {
                Operation::Ge => Some(Operation::Le),
                Operation::Gt => Some(Operation::Lt),
                Operation::Le => Some(Operation::Ge),
                Operation::Lt => Some(Operation::Gt),
                kind if super::rewriter::is_commutative(&TypedOperation::Binary {
                    operation: *kind,
                    ty: *ty,
                    rhs: Operand::Encrypted,
                }) =>
                {
                    Some(*kind)
                }
                _ => None,
            };
            let kind = if from_right { Some(*operation) } else { exchanged };
            Some(rewriter.binary(kind?, *ty, other, Right::Scalar(value)))
        }
        TypedOperation::MulDiv { ty, divisor, .. } => {
            let operation = TypedOperation::MulDiv {
                ty: *ty,
                factor: Operand::Scalar(value),
                divisor: *divisor,
            };
            Some(rewriter.operation(operation, vec![other]))
        }
        _ => None,
    }
}

/// An operation with a scalar, its type's largest value, the scalar and the other operand.
pub(super) fn with_scalar(
    operation: &TypedOperation,
    inputs: &[NodeId],
) -> Option<(Operation, cipherloom_primitives::FheType, U256, NodeId)> {
    match (operation, inputs) {
        (
            TypedOperation::Binary {
                operation,
                ty,
                rhs: Operand::Scalar(value),
            },
            [left],
        ) => Some((*operation, *ty, *value, *left)),
        _ => None,
    }
}

fn neutral_element(_: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
    use Operation as Op;
    let (kind, ty, value, left) = with_scalar(operation, inputs)?;
    let neutral = match kind {
        Op::Add | Op::Sub | Op::BitOr | Op::BitXor | Op::Max => value.is_zero(),
        Op::BitAnd | Op::Min => value == ty.max_value(),
        Op::Mul | Op::Div => value == U256::ONE,
        Op::Shl | Op::Shr | Op::Rotl | Op::Rotr => (value % U256::from(ty.bits())).is_zero(),
        _ => false,
    };
    neutral.then_some(left)
}

fn absorbing_element(rewriter: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
    use Operation as Op;
    let (kind, ty, value, left) = with_scalar(operation, inputs)?;
    let largest = ty.max_value();
    match kind {
        Op::BitAnd | Op::Mul | Op::Min if value.is_zero() => Some(rewriter.public(ty, U256::ZERO)),
        Op::Rem if value == U256::ONE => Some(rewriter.public(ty, U256::ZERO)),
        Op::BitOr | Op::Max if value == largest => Some(rewriter.public(ty, largest)),
        Op::BitXor if value == largest => Some(rewriter.complement(ty, left)),
        _ => None,
    }
}

fn same_operands(rewriter: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
    use Operation as Op;
    let (left, right) = first_two(inputs).filter(|(left, right)| left == right)?;
    let TypedOperation::Binary { operation, ty, .. } = operation else {
        return None;
    };
    match operation {
        Op::Sub | Op::BitXor => Some(rewriter.public(*ty, U256::ZERO)),
        Op::BitAnd | Op::BitOr | Op::Min | Op::Max => Some(right),
        Op::Add => Some(rewriter.binary(Op::Shl, *ty, left, Right::Scalar(U256::ONE))),
        _ => None,
    }
}

fn double_negation(rewriter: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
    let (inner, of_inner) = rewriter.made_by(*inputs.first()?)?;
    match (operation, inner) {
        (TypedOperation::Not { .. }, TypedOperation::Not { .. }) | (TypedOperation::Neg { .. }, TypedOperation::Neg { .. }) => {
            of_inner.first().copied()
        }
        _ => None,
    }
}

fn power_of_two(rewriter: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
    let (kind, ty, value, left) = with_scalar(operation, inputs)?;
    if !value.is_power_of_two() || value == U256::ONE {
        return None;
    }
    let bits = U256::from(value.trailing_zeros());
    match kind {
        Operation::Mul => Some(rewriter.binary(Operation::Shl, ty, left, Right::Scalar(bits))),
        Operation::Div => Some(rewriter.binary(Operation::Shr, ty, left, Right::Scalar(bits))),
        Operation::Rem => Some(rewriter.binary(Operation::BitAnd, ty, left, Right::Scalar(value - U256::ONE))),
        _ => None,
    }
}
