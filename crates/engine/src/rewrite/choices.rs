//! Rules of choices by an encrypted condition.

use cipherloom_primitives::{FheType, Operand, Operation, TypedOperation, U256};

use super::{
    Rule,
    rewriter::{Rewriter, Right},
};
use crate::graph::NodeId;

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "known-choice",
        doc: "select by a public condition or between equal values is one of them; select(c, true, false) is c",
        apply: known_choice,
    },
    Rule {
        name: "choice-by-complement",
        doc: "select(not c, x, y) is select(c, y, x)",
        apply: choice_by_complement,
    },
    Rule {
        name: "choice-in-choice",
        doc: "select(c, select(c, x, y), z) is select(c, x, z), and so for the other side",
        apply: choice_in_choice,
    },
    Rule {
        name: "choice-of-extreme",
        doc: "select(x >= y, x, y) is max(x, y), select(x >= y, y, x) is min(x, y), where the comparison is used for nothing else",
        apply: choice_of_extreme,
    },
    Rule {
        name: "choice-of-change",
        doc: "select(c, x + y, x) is x + select(c, y, 0), select(c, x + y, x + z) is x + select(c, y, z), and so for - and on the other \
              side, where the sums are used for nothing else: the result needs no cleaning",
        apply: choice_of_change,
    },
];

fn known_choice(rewriter: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
    let (TypedOperation::IfThenElse { ty }, [condition, if_true, if_false]) = (operation, inputs) else {
        return None;
    };
    if if_true == if_false {
        return Some(*if_true);
    }
    match rewriter.constant(*condition) {
        Some(value) if value.is_zero() => return Some(*if_false),
        Some(_) => return Some(*if_true),
        None => {}
    }
    match (ty, rewriter.constant(*if_true)?, rewriter.constant(*if_false)?) {
        (_, x, y) if x == y => Some(*if_true),
        (FheType::Bool, x, _) if x.is_zero() => Some(rewriter.complement(*ty, *condition)),
        (FheType::Bool, ..) => Some(*condition),
        _ => None,
    }
}

fn choice_by_complement(rewriter: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
    let (TypedOperation::IfThenElse { .. }, [condition, if_true, if_false]) = (operation, inputs) else {
        return None;
    };
    let (TypedOperation::Not { .. }, [inner]) = rewriter.made_by(*condition)? else {
        return None;
    };
    let inner = *inner;
    Some(rewriter.operation(operation.clone(), vec![inner, *if_false, *if_true]))
}

fn choice_in_choice(rewriter: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
    let (TypedOperation::IfThenElse { .. }, [condition, if_true, if_false]) = (operation, inputs) else {
        return None;
    };
    let inner = |id| match rewriter.made_by(id)? {
        (TypedOperation::IfThenElse { .. }, [inner, x, y]) if inner == condition => Some((*x, *y)),
        _ => None,
    };
    let (x, y) = (
        inner(*if_true).map_or(*if_true, |(x, _)| x),
        inner(*if_false).map_or(*if_false, |(_, y)| y),
    );
    ((x, y) != (*if_true, *if_false)).then(|| rewriter.operation(operation.clone(), vec![*condition, x, y]))
}

fn choice_of_extreme(rewriter: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
    let (TypedOperation::IfThenElse { ty }, [condition, if_true, if_false]) = (operation, inputs) else {
        return None;
    };
    if !rewriter.is_used_once(*condition) {
        return None;
    }
    let (
        TypedOperation::Binary {
            operation: Operation::Ge,
            ty: compared,
            rhs,
        },
        of_comparison,
    ) = rewriter.made_by(*condition)?
    else {
        return None;
    };
    if compared != ty {
        return None;
    }
    // A public number is the same whichever node holds it.
    let is = |id: NodeId, right: &Right| match right {
        Right::Node(other) => id == *other,
        Right::Scalar(value) => rewriter.constant(id) == Some(*value),
    };
    let (left, right) = match (rhs, of_comparison) {
        (Operand::Encrypted, [left, right]) => (*left, Right::Node(*right)),
        (Operand::Scalar(value), [left]) => (*left, Right::Scalar(*value)),
        _ => return None,
    };
    let kind = if *if_true == left && is(*if_false, &right) {
        Operation::Max
    } else if *if_false == left && is(*if_true, &right) {
        Operation::Min
    } else {
        return None;
    };
    Some(rewriter.binary(kind, *ty, left, right))
}

/// A value as another one plus or minus something.
struct Change {
    kind: Operation,
    base: NodeId,
    by: Result<NodeId, U256>,
}

/// The ways in which a sum or difference, used for nothing else, changes one of its operands.
fn changes(rewriter: &Rewriter, id: NodeId) -> Vec<Change> {
    let Some((TypedOperation::Binary { operation: kind, rhs, .. }, inputs)) = rewriter.made_by(id).filter(|_| rewriter.is_used_once(id))
    else {
        return Vec::new();
    };
    let kind = *kind;
    let change = |base, by| Change { kind, base, by };
    match (kind, rhs, inputs) {
        (Operation::Add, Operand::Encrypted, [left, right]) => vec![change(*left, Ok(*right)), change(*right, Ok(*left))],
        (Operation::Sub, Operand::Encrypted, [left, right]) => vec![change(*left, Ok(*right))],
        (Operation::Add | Operation::Sub, Operand::Scalar(value), [left]) => vec![change(*left, Err(*value))],
        _ => Vec::new(),
    }
}

fn choice_of_change(rewriter: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
    let (TypedOperation::IfThenElse { ty }, [condition, if_true, if_false]) = (operation, inputs) else {
        return None;
    };
    let (of_true, of_false) = (changes(rewriter, *if_true), changes(rewriter, *if_false));
    let zero = Err(U256::ZERO);
    let one_sided = |changes: &[Change], other: NodeId| {
        let change = changes.iter().find(|change| change.base == other)?;
        Some((change.kind, change.base, change.by))
    };
    let (kind, base, x, y) = if let Some((kind, base, by)) = one_sided(&of_true, *if_false) {
        (kind, base, by, zero)
    } else if let Some((kind, base, by)) = one_sided(&of_false, *if_true) {
        (kind, base, zero, by)
    } else {
        let pairs = of_true.iter().flat_map(|x| of_false.iter().map(move |y| (x, y)));
        let (x, y) = pairs.into_iter().find(|(x, y)| (x.kind, x.base) == (y.kind, y.base))?;
        (x.kind, x.base, x.by, y.by)
    };
    let mut node = |change: Result<NodeId, U256>| change.unwrap_or_else(|value| rewriter.public(*ty, value));
    let (x, y) = (node(x), node(y));
    let change = rewriter.operation(operation.clone(), vec![*condition, x, y]);
    Some(rewriter.binary(kind, *ty, base, Right::Node(change)))
}
