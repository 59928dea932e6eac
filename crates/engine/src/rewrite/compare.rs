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
    Rule {
        name: "comparisons-of-pair",
        doc: "and, or and exclusive or of comparisons of one pair are a comparison: x >= y & y >= x is x = y; of x with two public numbers, \
              one of them decides",
        apply: comparisons_of_pair,
    },
    Rule {
        name: "complements",
        doc: "not x & not y is not (x | y), not x | not y is not (x & y), not x ^ y is not (x ^ y)",
        apply: complements,
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

/// What a flag says about a pair of values, the one with the smaller number first: a set of the relations it is true for.
struct Relation {
    pair: (NodeId, NodeId),
    ty: FheType,
    when: u8,
}

const LESS: u8 = 1;
const EQUAL: u8 = 2;
const GREATER: u8 = 4;
const ANY: u8 = LESS | EQUAL | GREATER;
const DIFFERENT: u8 = LESS | GREATER;
const NOT_LESS: u8 = EQUAL | GREATER;

fn relation(rewriter: &Rewriter, id: NodeId) -> Option<Relation> {
    let (id, complemented) = match rewriter.made_by(id)? {
        (TypedOperation::Not { ty: FheType::Bool }, [inner]) => (*inner, true),
        _ => (id, false),
    };
    let (
        TypedOperation::Binary {
            operation,
            ty,
            rhs: Operand::Encrypted,
        },
        [left, right],
    ) = rewriter.made_by(id)?
    else {
        return None;
    };
    let when = match (operation, left < right) {
        _ if left == right => return None,
        (Operation::Ge, true) => GREATER | EQUAL,
        (Operation::Ge, false) => LESS | EQUAL,
        (Operation::Eq, _) => EQUAL,
        _ => return None,
    };
    Some(Relation {
        pair: (*left.min(right), *left.max(right)),
        ty: *ty,
        when: if complemented { ANY ^ when } else { when },
    })
}

fn comparisons_of_pair(rewriter: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
    use Operation as Op;
    let TypedOperation::Binary {
        operation: kind @ (Op::BitAnd | Op::BitOr | Op::BitXor),
        ty: FheType::Bool,
        rhs: Operand::Encrypted,
    } = operation
    else {
        return None;
    };
    let (left, right) = first_two(inputs)?;
    if let Some((source, ty, thresholds)) = thresholds(rewriter, left, right) {
        let value = match kind {
            Op::BitAnd => thresholds.0.max(thresholds.1),
            Op::BitOr => thresholds.0.min(thresholds.1),
            _ => return None,
        };
        return Some(rewriter.binary(Op::Ge, ty, source, Right::Scalar(value)));
    }
    let (first, second) = (relation(rewriter, left)?, relation(rewriter, right)?);
    if (first.pair, first.ty) != (second.pair, second.ty) {
        return None;
    }
    let when = match kind {
        Op::BitAnd => first.when & second.when,
        Op::BitOr => first.when | second.when,
        _ => first.when ^ second.when,
    };
    let (ty, (x, y)) = (first.ty, first.pair);
    // Every set of relations is a comparison or the complement of one.
    let (kind, x, y) = match when {
        0 => return Some(rewriter.public(FheType::Bool, U256::ZERO)),
        ANY => return Some(rewriter.public(FheType::Bool, U256::ONE)),
        EQUAL | DIFFERENT => (Op::Eq, x, y),
        LESS | NOT_LESS => (Op::Ge, x, y),
        _ => (Op::Ge, y, x),
    };
    let comparison = rewriter.binary(kind, ty, x, Right::Node(y));
    let is_complement = when & EQUAL == 0;
    Some(if is_complement {
        rewriter.complement(FheType::Bool, comparison)
    } else {
        comparison
    })
}

/// Two comparisons of one value with public numbers.
fn thresholds(rewriter: &Rewriter, left: NodeId, right: NodeId) -> Option<(NodeId, FheType, (U256, U256))> {
    let threshold = |id| match rewriter.made_by(id)? {
        (
            TypedOperation::Binary {
                operation: Operation::Ge,
                ty,
                rhs: Operand::Scalar(value),
            },
            [source],
        ) => Some((*source, *ty, *value)),
        _ => None,
    };
    let (source, ty, first) = threshold(left)?;
    let (same, _, second) = threshold(right)?;
    (source == same).then_some((source, ty, (first, second)))
}

fn complements(rewriter: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
    use Operation as Op;
    let TypedOperation::Binary {
        operation: kind,
        ty,
        rhs: Operand::Encrypted,
    } = operation
    else {
        return None;
    };
    let (left, right) = first_two(inputs)?;
    let inner = |id| match rewriter.made_by(id) {
        Some((TypedOperation::Not { .. }, [value])) => Some(*value),
        _ => None,
    };
    let (kind, left, right) = match (kind, inner(left), inner(right)) {
        (Op::BitAnd, Some(left), Some(right)) => (Op::BitOr, left, right),
        (Op::BitOr, Some(left), Some(right)) => (Op::BitAnd, left, right),
        (Op::BitXor, Some(left), _) => (Op::BitXor, left, right),
        (Op::BitXor, None, Some(right)) => (Op::BitXor, left, right),
        _ => return None,
    };
    let inner = rewriter.binary(kind, *ty, left, Right::Node(right));
    Some(rewriter.complement(*ty, inner))
}
