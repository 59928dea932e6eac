//! Rules of conversions, sums and lists.

use cipherloom_primitives::{FheType, Operand, Operation, TypedOperation, U256};

use super::{
    Rule, first_two,
    rewriter::{Rewriter, Right},
};
use crate::graph::NodeId;

/// The most operands an addition chain is gathered to.
const MAX_SUM: usize = 100;

pub(super) const RULES: &[Rule] = &[
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
    Rule {
        name: "several-equalities",
        doc: "eq(x, y) | eq(x, z) is isIn(x, [y, z]), and so for lists, where these are used for nothing else",
        apply: several_equalities,
    },
];

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

fn several_equalities(rewriter: &mut Rewriter, operation: &TypedOperation, inputs: &[NodeId]) -> Option<NodeId> {
    let TypedOperation::Binary {
        operation: Operation::BitOr,
        ty: FheType::Bool,
        rhs: Operand::Encrypted,
    } = operation
    else {
        return None;
    };
    let (left, right) = first_two(inputs)?;
    let (ty, of_left) = memberships(rewriter, left)?;
    let (same, of_right) = memberships(rewriter, right)?;
    if same != ty || !Operation::IsIn.spec().types.contains(ty) {
        return None;
    }
    let pairs = of_left.iter().flat_map(|x| of_right.iter().map(move |y| (x, y)));
    let (first, second) = pairs.into_iter().find(|(x, y)| x.value == y.value)?;
    let count = u8::try_from(first.list.len() + second.list.len())
        .ok()
        .filter(|count| usize::from(*count) <= MAX_SUM)?;
    let value = first.value;
    let list: Vec<Result<NodeId, U256>> = first.list.iter().chain(&second.list).copied().collect();
    let nodes = list
        .into_iter()
        .map(|element| element.unwrap_or_else(|element| rewriter.public(ty, element)));
    let inputs = std::iter::once(value).chain(nodes).collect();
    Some(rewriter.operation(TypedOperation::IsIn { ty, count }, inputs))
}

/// A value that is compared with those of a list.
struct Membership {
    value: NodeId,
    list: Vec<Result<NodeId, U256>>,
}

/// The ways to see a flag, used for nothing else, as membership in a list, and the type of what is compared.
fn memberships(rewriter: &Rewriter, id: NodeId) -> Option<(FheType, Vec<Membership>)> {
    let (operation, inputs) = rewriter.made_by(id).filter(|_| rewriter.is_used_once(id))?;
    match (operation, inputs) {
        (
            TypedOperation::Binary {
                operation: Operation::Eq,
                ty,
                rhs,
            },
            [left, rest @ ..],
        ) => {
            let membership = |value, element| Membership {
                value,
                list: vec![element],
            };
            let ways = match (rhs, rest) {
                (Operand::Scalar(value), []) => vec![membership(*left, Err(*value))],
                (Operand::Encrypted, [right]) => vec![membership(*left, Ok(*right)), membership(*right, Ok(*left))],
                _ => return None,
            };
            Some((*ty, ways))
        }
        (TypedOperation::IsIn { ty, .. }, [value, list @ ..]) => {
            let list = list.iter().copied().map(Ok).collect();
            Some((*ty, vec![Membership { value: *value, list }]))
        }
        _ => None,
    }
}
