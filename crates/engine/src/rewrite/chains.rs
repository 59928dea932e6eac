//! Rules of operations that follow each other with scalars, and of arithmetic that undoes itself.

use cipherloom_primitives::{Operand, Operation, TypedOperation, U256};

use super::{
    Rule,
    algebra::with_scalar,
    first_two,
    rewriter::{Rewriter, Right},
};
use crate::graph::NodeId;

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "scalar-chain",
        doc: "two operations of one kind with scalars are one: +, -, *, div, min, max, and, or, xor, shifts and rotations; so are + and -; \
              rem by a number and by a divisor of it is rem by the divisor",
        apply: scalar_chain,
    },
    Rule {
        name: "negated-operand",
        doc: "x + neg y is x - y, x - neg y is x + y, neg (x - y) is y - x",
        apply: negated_operand,
    },
    Rule {
        name: "remainder",
        doc: "x - (x / d) * d is x rem d, and with shifts instead of / and * it is a mask",
        apply: remainder,
    },
    Rule {
        name: "minimum-and-maximum",
        doc: "min(x, y) + max(x, y) is x + y; min(x, max(x, y)) and max(x, min(x, y)) are x",
        apply: minimum_and_maximum,
    },
    Rule {
        name: "fraction",
        doc: "x * f / d loses common factors of f and d; without a divisor it is a product, without a factor a quotient",
        apply: fraction,
    },
];

fn scalar_chain(rewriter: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
    use Operation as Op;
    let (kind, ty, value, left) = with_scalar(operation, inputs)?;
    let (inner, of_inner) = rewriter.made_by(left)?;
    let (inner_kind, inner_type, inner_value, source) = with_scalar(inner, of_inner)?;
    if inner_type != ty || !rewriter.is_used_once(left) {
        return None;
    }
    let width = U256::from(ty.bits());
    let both = |kind, value| Some(Chained::Operation(kind, ty.truncate(value)));
    let chained = match (inner_kind, kind) {
        (Op::Add, Op::Add) | (Op::Sub, Op::Sub) => both(kind, value.wrapping_add(inner_value)),
        (Op::Add, Op::Sub) => both(Op::Add, inner_value.wrapping_sub(value)),
        (Op::Sub, Op::Add) => both(Op::Add, value.wrapping_sub(inner_value)),
        (Op::Mul, Op::Mul) => both(Op::Mul, value.wrapping_mul(inner_value)),
        (Op::Div, Op::Div) => match value.checked_mul(inner_value).filter(|divisor| *divisor <= ty.max_value()) {
            Some(divisor) => both(Op::Div, divisor),
            None => Some(Chained::Zero),
        },
        (Op::Rem, Op::Rem) if (inner_value % value).is_zero() => both(Op::Rem, value),
        (Op::Min, Op::Min) => both(kind, value.min(inner_value)),
        (Op::Max, Op::Max) => both(kind, value.max(inner_value)),
        (Op::BitAnd, Op::BitAnd) => both(kind, value & inner_value),
        (Op::BitOr, Op::BitOr) => both(kind, value | inner_value),
        (Op::BitXor, Op::BitXor) => both(kind, value ^ inner_value),
        (Op::Shl, Op::Shl) | (Op::Shr, Op::Shr) => match value % width + inner_value % width {
            bits if bits >= width => Some(Chained::Zero),
            bits => both(kind, bits),
        },
        (Op::Rotl, Op::Rotl) | (Op::Rotr, Op::Rotr) => both(kind, (value % width + inner_value % width) % width),
        _ => None,
    };
    Some(match chained? {
        Chained::Zero => rewriter.public(ty, U256::ZERO),
        Chained::Operation(kind, value) => rewriter.binary(kind, ty, source, Right::Scalar(value)),
    })
}

enum Chained {
    Zero,
    Operation(Operation, U256),
}

fn negated_operand(rewriter: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
    let negated = |rewriter: &Rewriter, id| match rewriter.made_by(id) {
        Some((TypedOperation::Neg { .. }, [value])) => Some(*value),
        _ => None,
    };
    match (operation, inputs) {
        (TypedOperation::Neg { ty }, [value]) => {
            let (left, right) = encrypted_pair(rewriter, *value, Operation::Sub).filter(|_| rewriter.is_used_once(*value))?;
            Some(rewriter.binary(Operation::Sub, *ty, right, Right::Node(left)))
        }
        (
            TypedOperation::Binary {
                operation: kind @ (Operation::Add | Operation::Sub),
                ty,
                rhs: Operand::Encrypted,
            },
            [left, right],
        ) => {
            if let Some(value) = negated(rewriter, *right) {
                let opposite = if *kind == Operation::Add { Operation::Sub } else { Operation::Add };
                return Some(rewriter.binary(opposite, *ty, *left, Right::Node(value)));
            }
            let value = negated(rewriter, *left).filter(|_| *kind == Operation::Add)?;
            Some(rewriter.binary(Operation::Sub, *ty, *right, Right::Node(value)))
        }
        _ => None,
    }
}

/// The operands of an operation of this kind on two encrypted values.
fn encrypted_pair(rewriter: &Rewriter, id: NodeId, wanted: Operation) -> Option<(NodeId, NodeId)> {
    match rewriter.made_by(id)? {
        (
            TypedOperation::Binary {
                operation,
                rhs: Operand::Encrypted,
                ..
            },
            inputs,
        ) if *operation == wanted => first_two(inputs),
        _ => None,
    }
}

fn remainder(rewriter: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
    use Operation as Op;
    let TypedOperation::Binary {
        operation: Op::Sub,
        ty,
        rhs: Operand::Encrypted,
    } = operation
    else {
        return None;
    };
    let (value, multiple) = first_two(inputs)?;
    let step = |id| {
        let (inner, of_inner) = rewriter.made_by(id)?;
        with_scalar(inner, of_inner)
    };
    let (outer, _, factor, quotient) = step(multiple)?;
    let (inner, _, divisor, source) = step(quotient)?;
    if source != value || factor != divisor {
        return None;
    }
    match (inner, outer) {
        (Op::Div, Op::Mul) => Some(rewriter.binary(Op::Rem, *ty, value, Right::Scalar(divisor))),
        (Op::Shr, Op::Shl) => {
            let bits = usize::try_from(divisor % U256::from(ty.bits())).ok()?;
            let mask = (U256::ONE << bits) - U256::ONE;
            Some(rewriter.binary(Op::BitAnd, *ty, value, Right::Scalar(mask)))
        }
        _ => None,
    }
}

fn minimum_and_maximum(rewriter: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
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
    match kind {
        Op::Add => {
            let pair = |first, second| {
                let (x, y) = encrypted_pair(rewriter, first, Op::Min)?;
                let other = encrypted_pair(rewriter, second, Op::Max)?;
                (other == (x, y) || other == (y, x)).then_some((x, y))
            };
            let (x, y) = pair(left, right).or_else(|| pair(right, left))?;
            Some(rewriter.binary(Op::Add, *ty, x, Right::Node(y)))
        }
        Op::Min | Op::Max => {
            let other = if *kind == Op::Min { Op::Max } else { Op::Min };
            let absorbs = |value, pair| encrypted_pair(rewriter, pair, other).is_some_and(|(x, y)| x == value || y == value);
            match (absorbs(left, right), absorbs(right, left)) {
                (true, _) => Some(left),
                (_, true) => Some(right),
                _ => None,
            }
        }
        _ => None,
    }
}

fn fraction(rewriter: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
    let (
        TypedOperation::MulDiv {
            ty,
            factor: Operand::Scalar(factor),
            divisor,
        },
        [value],
    ) = (operation, inputs)
    else {
        return None;
    };
    let (ty, value) = (*ty, *value);
    if factor.is_zero() {
        return Some(rewriter.public(ty, U256::ZERO));
    }
    let common = common_divisor(*factor, *divisor);
    let (factor, reduced) = (*factor / common, *divisor / common);
    if reduced == U256::ONE {
        return Some(rewriter.binary(Operation::Mul, ty, value, Right::Scalar(factor)));
    }
    if factor == U256::ONE {
        return Some(rewriter.binary(Operation::Div, ty, value, Right::Scalar(reduced)));
    }
    (common > U256::ONE).then(|| {
        let operation = TypedOperation::MulDiv {
            ty,
            factor: Operand::Scalar(factor),
            divisor: reduced,
        };
        rewriter.operation(operation, vec![value])
    })
}

fn common_divisor(left: U256, right: U256) -> U256 {
    let (mut left, mut right) = (left, right);
    while !right.is_zero() {
        (left, right) = (right, left % right);
    }
    left
}
