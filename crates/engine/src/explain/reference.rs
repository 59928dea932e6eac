//! What tfhe-rs takes for the same operations, one after the other: what an explanation compares with.
//!
//! The figures are those of [`counts`]: tfhe-rs's cheapest function for each operation, with scalars where operands are public.

use cipherloom_primitives::{FheType, Operand, Operation, TypedOperation, U256};

use crate::counts;

/// tfhe-rs's bootstraps for several operations. Where some were not counted, it is written as a lower bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reference {
    /// The bootstraps of all operations that were counted.
    pub bootstraps: usize,
    /// How many operations were not counted, so that there are more bootstraps than that.
    pub uncounted: usize,
}

impl FromIterator<Option<usize>> for Reference {
    fn from_iter<T: IntoIterator<Item = Option<usize>>>(counts: T) -> Self {
        counts.into_iter().fold(Self::default(), |total, count| match count {
            Some(count) => Self {
                bootstraps: total.bootstraps + count,
                ..total
            },
            None => Self {
                uncounted: total.uncounted + 1,
                ..total
            },
        })
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.uncounted > 0 {
            f.write_str("≥ ")?;
        }
        write!(f, "{}", self.bootstraps)
    }
}

/// Returns tfhe-rs's bootstraps for one operation on operands of which these are public, if they were counted.
pub(super) fn bootstraps(operation: &TypedOperation, public: &[Option<U256>]) -> Option<usize> {
    if public.iter().all(Option::is_some) && !matches!(operation, TypedOperation::Rand { .. }) {
        return Some(0);
    }
    let (name, ty) = match operation {
        TypedOperation::TrivialEncrypt { .. } | TypedOperation::Not { .. } | TypedOperation::Cast { .. } => return Some(0),
        TypedOperation::Neg { ty } => ("add a constant, neg", *ty),
        TypedOperation::IfThenElse { ty } => return choice(*ty, public),
        TypedOperation::Binary { operation, ty, rhs } => {
            let scalar = match rhs {
                Operand::Scalar(value) => Some(*value),
                Operand::Encrypted => public.iter().flatten().next().copied(),
            };
            if *ty == FheType::Bool {
                return on_bits(*operation, scalar.is_some());
            }
            (binary(*operation, scalar)?, *ty)
        }
        TypedOperation::Sum { ty, count: 4 } => ("sum of 4", *ty),
        TypedOperation::Sum { ty, count: 16 } => ("sum of 16", *ty),
        TypedOperation::IsIn { ty, count: 8 } => ("isIn of 8", *ty),
        TypedOperation::MulDiv { .. } | TypedOperation::Sum { .. } | TypedOperation::IsIn { .. } | TypedOperation::Rand { .. } => {
            return None;
        }
    };
    counts::of_tfhe_rs(name, ty).and_then(|count| usize::try_from(count).ok())
}

/// Three bootstraps per block between secret values, one if one of them is public.
fn choice(ty: FheType, public: &[Option<U256>]) -> Option<usize> {
    let blocks = usize::try_from(ty.bits().div_ceil(2)).ok()?;
    match public {
        [None, None, None] => Some(3 * blocks),
        [None, Some(_), None] | [None, None, Some(_)] if ty != FheType::Bool => Some(blocks),
        _ => None,
    }
}

/// One bootstrap combines two bits.
const fn on_bits(operation: Operation, is_public: bool) -> Option<usize> {
    match (operation, is_public) {
        (Operation::BitAnd | Operation::BitOr | Operation::BitXor, false) => Some(1),
        _ => None,
    }
}

fn binary(operation: Operation, scalar: Option<U256>) -> Option<&'static str> {
    use Operation as Op;
    let is = |number: u64| scalar == Some(U256::from(number));
    match (operation, scalar.is_some()) {
        (Op::Add | Op::Sub, false) => Some("add, sub"),
        (Op::Add, true) => Some("add a constant, neg"),
        (Op::Ge | Op::Lt | Op::Le | Op::Gt, false) => Some("ge, lt, le, gt"),
        (Op::Ge | Op::Lt | Op::Le | Op::Gt, true) => Some("ge a constant"),
        (Op::Eq | Op::Ne, false) => Some("eq, ne"),
        (Op::Eq | Op::Ne, true) => Some("eq a constant"),
        (Op::Min | Op::Max, false) => Some("min, max"),
        (Op::BitAnd | Op::BitOr | Op::BitXor, false) => Some("and, or, xor"),
        (Op::Shl | Op::Shr, false) => Some("shl, shr"),
        (Op::Shl | Op::Shr, true) if is(3) => Some("shl, shr by 3"),
        (Op::Rotl | Op::Rotr, false) => Some("rotl, rotr"),
        (Op::Mul, false) => Some("mul"),
        (Op::Mul, true) if is(10) => Some("mul by 10"),
        (Op::Div, true) if is(10) => Some("div by 10"),
        (Op::Div, true) if is(10_000) => Some("div by 10,000"),
        (Op::Rem, true) if is(10_000) => Some("rem by 10,000"),
        _ => None,
    }
}
