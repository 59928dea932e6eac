//! Rules of choices, conversions, sums and lists.

use cipherloom_primitives::{FheType, Operand, Operation, TypedOperation, U256};

use super::{
    Rule,
    rewriter::{Rewriter, Right},
};
use crate::graph::NodeId;

/// The most operands an addition chain is gathered to.
const MAX_SUM: usize = 100;

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
        name: "choice-of-change",
        doc: "select(c, x + y, x) is x + select(c, y, 0), and so for -, where x + y is used for nothing else: the result needs no cleaning",
        apply: choice_of_change,
    },
    Rule {
        name: "cast-chain",
        doc: "a cast of an extension is one cast, or none",
        apply: cast_chain,
    },
    Rule {
        name: "addition-chain",
        doc: "additions whose results are used for nothing else become one sum",
        apply: addition_chain,
    },
    Rule {
        name: "short-list",
        doc: "a sum of none, one or two is 0, itself or an addition; public values in it are added up; isIn of one is eq, \
              of a list with the value itself true, and equal elements count once",
        apply: short_list,
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

fn choice_of_change(rewriter: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
    let (TypedOperation::IfThenElse { ty }, [condition, if_true, if_false]) = (operation, inputs) else {
        return None;
    };
    if !rewriter.is_used_once(*if_true) {
        return None;
    }
    let (TypedOperation::Binary { operation: kind, rhs, .. }, of_change) = rewriter.made_by(*if_true)? else {
        return None;
    };
    let kind = *kind;
    let base = *if_false;
    let change = match (kind, rhs, of_change) {
        (Operation::Add | Operation::Sub, Operand::Encrypted, [left, right]) if *left == base => Ok(*right),
        (Operation::Add, Operand::Encrypted, [left, right]) if *right == base => Ok(*left),
        (Operation::Add | Operation::Sub, Operand::Scalar(value), [left]) if *left == base => Err(*value),
        _ => return None,
    };
    let change = change.unwrap_or_else(|value| rewriter.public(*ty, value));
    let zero = rewriter.public(*ty, U256::ZERO);
    let change = rewriter.operation(operation.clone(), vec![*condition, change, zero]);
    Some(rewriter.binary(kind, *ty, base, Right::Node(change)))
}

fn cast_chain(rewriter: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
    let (TypedOperation::Cast { to, .. }, [value]) = (operation, inputs) else {
        return None;
    };
    let (TypedOperation::Cast { from, to: between }, [source]) = rewriter.made_by(*value)? else {
        return None;
    };
    let (from, between, source) = (*from, *between, *source);
    // What the first cast cuts off, the second would cut off as well, or there is nothing.
    if between.bits() < from.bits().min(to.bits()) {
        return None;
    }
    if from == *to {
        return Some(source);
    }
    Some(rewriter.operation(TypedOperation::Cast { from, to: *to }, vec![source]))
}

fn addition_chain(rewriter: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
    let ty = match operation {
        TypedOperation::Binary {
            operation: Operation::Add,
            ty,
            rhs: Operand::Encrypted,
        }
        | TypedOperation::Sum { ty, .. } => *ty,
        _ => return None,
    };
    let mut gathered = Vec::new();
    for input in inputs {
        let absorbed = rewriter
            .made_by(*input)
            .filter(|(inner, _)| is_sum(inner) && rewriter.is_used_once(*input));
        match absorbed {
            Some((_, of_inner)) => gathered.extend(of_inner.iter().copied()),
            None => gathered.push(*input),
        }
    }
    let count = u8::try_from(gathered.len()).ok().filter(|count| usize::from(*count) <= MAX_SUM)?;
    (gathered.len() > inputs.len()).then(|| rewriter.operation(TypedOperation::Sum { ty, count }, gathered))
}

fn is_sum(operation: &TypedOperation) -> bool {
    matches!(
        operation,
        TypedOperation::Sum { .. }
            | TypedOperation::Binary {
                operation: Operation::Add,
                rhs: Operand::Encrypted,
                ..
            }
    )
}

fn short_list(rewriter: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
    match (operation, inputs) {
        (TypedOperation::Sum { ty, .. }, []) => Some(rewriter.public(*ty, U256::ZERO)),
        (TypedOperation::Sum { .. }, [only]) => Some(*only),
        (TypedOperation::Sum { ty, .. }, [left, right]) => Some(rewriter.binary(Operation::Add, *ty, *left, Right::Node(*right))),
        (TypedOperation::Sum { ty, .. }, _) => {
            let (public, secret): (Vec<NodeId>, Vec<NodeId>) = inputs.iter().partition(|input| rewriter.constant(**input).is_some());
            if public.is_empty() {
                return None;
            }
            let values = public.iter().filter_map(|input| rewriter.constant(*input));
            let total = values.fold(U256::ZERO, |total, value| ty.truncate(total.wrapping_add(value)));
            let count = u8::try_from(secret.len()).ok()?;
            let sum = rewriter.operation(TypedOperation::Sum { ty: *ty, count }, secret);
            Some(rewriter.binary(Operation::Add, *ty, sum, Right::Scalar(total)))
        }
        (TypedOperation::IsIn { .. }, [_]) => Some(rewriter.public(FheType::Bool, U256::ZERO)),
        (TypedOperation::IsIn { .. }, [value, list @ ..]) if list.contains(value) => Some(rewriter.public(FheType::Bool, U256::ONE)),
        (TypedOperation::IsIn { ty, .. }, [value, element]) => Some(rewriter.binary(Operation::Eq, *ty, *value, Right::Node(*element))),
        (TypedOperation::IsIn { ty, .. }, [value, list @ ..]) => {
            let mut distinct: Vec<NodeId> = Vec::with_capacity(list.len());
            for element in list {
                if !distinct.contains(element) {
                    distinct.push(*element);
                }
            }
            if distinct.len() == list.len() {
                return None;
            }
            let count = u8::try_from(distinct.len()).ok()?;
            let inputs = std::iter::once(*value).chain(distinct).collect();
            Some(rewriter.operation(TypedOperation::IsIn { ty: *ty, count }, inputs))
        }
        _ => None,
    }
}
