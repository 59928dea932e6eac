//! What each operation costs in HCU (homomorphic complexity units), the unit of the on-chain limits.
//!
//! The numbers are the published ones of the public protocol (section 1.8); dApps size their transactions by them, so they
//! are facts here and not a model of this implementation's speed.

use crate::{computation::Operand, computation::TypedOperation, fhe_type::FheType, operation::Operation};

/// Costs per type in HCU, in the order of [`FheType::ALL`]: ebool, 8, 16, 32, 64, 128, 160, 256 bits. Zero where the type is not supported.
pub type CostPerType = [u64; 8];

/// The costs of a list operation for one type, by the length of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CostByLength {
    /// The type.
    pub ty: FheType,
    /// Pairs of an inclusive upper bound of the length and the cost in HCU, ascending.
    pub steps: &'static [(u8, u64)],
}

const fn thousands(costs: CostPerType) -> CostPerType {
    let [a, b, c, d, e, f, g, h] = costs;
    [a * 1000, b * 1000, c * 1000, d * 1000, e * 1000, f * 1000, g * 1000, h * 1000]
}

/// Costs of the operations with two operands: operation, with a scalar right operand, with an encrypted one.
pub const BINARY: [(Operation, CostPerType, CostPerType); 20] = [
    (
        Operation::Add,
        thousands([0, 84, 93, 95, 133, 172, 0, 0]),
        thousands([0, 88, 93, 125, 162, 259, 0, 0]),
    ),
    (
        Operation::Sub,
        thousands([0, 84, 93, 95, 133, 172, 0, 0]),
        thousands([0, 91, 93, 125, 162, 260, 0, 0]),
    ),
    (
        Operation::Mul,
        thousands([0, 122, 193, 265, 365, 696, 0, 0]),
        thousands([0, 150, 222, 328, 596, 1686, 0, 0]),
    ),
    (Operation::Div, thousands([0, 210, 302, 438, 715, 1225, 0, 0]), [0; 8]),
    (Operation::Rem, thousands([0, 440, 580, 792, 1153, 1943, 0, 0]), [0; 8]),
    (
        Operation::BitAnd,
        thousands([22, 31, 31, 32, 34, 37, 0, 38]),
        thousands([25, 31, 31, 32, 34, 37, 0, 38]),
    ),
    (
        Operation::BitOr,
        thousands([22, 30, 30, 32, 34, 37, 0, 38]),
        thousands([24, 30, 31, 32, 34, 37, 0, 38]),
    ),
    (
        Operation::BitXor,
        thousands([22, 31, 31, 32, 34, 37, 0, 39]),
        thousands([22, 31, 31, 32, 34, 37, 0, 39]),
    ),
    (
        Operation::Shl,
        thousands([0, 32, 32, 32, 34, 37, 0, 39]),
        thousands([0, 92, 125, 162, 208, 272, 0, 378]),
    ),
    (
        Operation::Shr,
        thousands([0, 32, 32, 32, 34, 37, 0, 38]),
        thousands([0, 91, 123, 163, 209, 272, 0, 369]),
    ),
    (
        Operation::Rotl,
        thousands([0, 31, 31, 32, 34, 37, 0, 38]),
        thousands([0, 91, 125, 163, 209, 278, 0, 378]),
    ),
    (
        Operation::Rotr,
        thousands([0, 31, 31, 32, 34, 37, 0, 40]),
        thousands([0, 93, 125, 160, 209, 283, 0, 375]),
    ),
    (
        Operation::Eq,
        thousands([25, 55, 55, 82, 83, 117, 117, 118]),
        thousands([26, 55, 83, 86, 120, 122, 137, 152]),
    ),
    (
        Operation::Ne,
        thousands([23, 55, 55, 83, 84, 117, 117, 117]),
        thousands([23, 55, 83, 85, 118, 122, 136, 150]),
    ),
    (
        Operation::Ge,
        thousands([0, 52, 55, 84, 116, 149, 0, 0]),
        thousands([0, 63, 84, 118, 152, 210, 0, 0]),
    ),
    (
        Operation::Gt,
        thousands([0, 52, 55, 84, 117, 150, 0, 0]),
        thousands([0, 59, 84, 118, 152, 218, 0, 0]),
    ),
    (
        Operation::Le,
        thousands([0, 58, 58, 84, 119, 150, 0, 0]),
        thousands([0, 58, 83, 117, 149, 218, 0, 0]),
    ),
    (
        Operation::Lt,
        thousands([0, 52, 58, 83, 118, 149, 0, 0]),
        thousands([0, 59, 84, 117, 146, 215, 0, 0]),
    ),
    (
        Operation::Min,
        thousands([0, 84, 88, 117, 150, 186, 0, 0]),
        thousands([0, 119, 146, 182, 219, 289, 0, 0]),
    ),
    (
        Operation::Max,
        thousands([0, 89, 89, 117, 149, 180, 0, 0]),
        thousands([0, 121, 145, 180, 218, 290, 0, 0]),
    ),
];

/// Costs of the operations with one cost per type: negation, complement, cast (by the source type), trivial encryption, choice, random and
/// bounded random.
pub const SIMPLE: [(Operation, CostPerType); 7] = [
    (Operation::Neg, thousands([0, 79, 93, 95, 131, 168, 0, 269])),
    (Operation::Not, [2, 9, 16, 32, 63, 130, 0, 130]),
    (Operation::Cast, [32, 32, 32, 32, 32, 32, 0, 32]),
    (Operation::TrivialEncrypt, [32; 8]),
    (Operation::IfThenElse, thousands([55, 55, 55, 55, 55, 57, 83, 108])),
    (Operation::Rand, thousands([19, 23, 23, 24, 24, 25, 0, 30])),
    (Operation::RandBounded, thousands([0, 23, 23, 24, 24, 25, 0, 30])),
];

/// Costs of the multiplication with division, with a scalar and with an encrypted second factor.
pub const MUL_DIV: (CostPerType, CostPerType) = (
    thousands([0, 495, 703, 1080, 1921, 0, 0, 0]),
    thousands([0, 524, 766, 1311, 2911, 0, 0, 0]),
);

const MORE: u8 = u8::MAX;

/// Costs of the sum of a list.
pub const SUM: [CostByLength; 5] = [
    CostByLength {
        ty: FheType::Uint8,
        steps: &[(10, 90_900), (30, 127_000), (60, 148_000), (MORE, 159_000)],
    },
    CostByLength {
        ty: FheType::Uint16,
        steps: &[(10, 95_000), (30, 136_000), (60, 162_000), (MORE, 184_000)],
    },
    CostByLength {
        ty: FheType::Uint32,
        steps: &[(10, 116_000), (30, 164_000), (60, 205_000), (MORE, 281_000)],
    },
    CostByLength {
        ty: FheType::Uint64,
        steps: &[(10, 139_000), (30, 216_000), (MORE, 306_000)],
    },
    CostByLength {
        ty: FheType::Uint128,
        steps: &[(10, 219_000), (30, 355_000), (MORE, 552_000)],
    },
];

/// Costs of the membership test.
pub const IS_IN: [CostByLength; 7] = [
    CostByLength {
        ty: FheType::Uint8,
        steps: &[(10, 71_300), (30, 148_000), (60, 247_000), (MORE, 374_000)],
    },
    CostByLength {
        ty: FheType::Uint16,
        steps: &[(10, 103_000), (30, 218_000), (60, 378_000), (MORE, 605_000)],
    },
    CostByLength {
        ty: FheType::Uint32,
        steps: &[(10, 137_000), (30, 300_000), (60, 531_000), (MORE, 827_000)],
    },
    CostByLength {
        ty: FheType::Uint64,
        steps: &[(10, 218_000), (30, 492_000), (MORE, 879_000)],
    },
    CostByLength {
        ty: FheType::Uint128,
        steps: &[(10, 256_000), (30, 535_000), (MORE, 921_000)],
    },
    CostByLength {
        ty: FheType::Address,
        steps: &[(10, 286_000), (30, 584_000), (MORE, 885_000)],
    },
    CostByLength {
        ty: FheType::Uint256,
        steps: &[(10, 321_000), (30, 586_000), (MORE, 943_000)],
    },
];

/// Returns what an operation costs, in HCU.
#[must_use]
pub fn cost_hcu(typed: &TypedOperation) -> u64 {
    match typed {
        TypedOperation::Binary { operation, ty, rhs } => BINARY
            .iter()
            .find(|(candidate, ..)| candidate == operation)
            .map_or(0, |(_, scalar, encrypted)| {
                for_type(if matches!(rhs, Operand::Scalar(_)) { scalar } else { encrypted }, *ty)
            }),
        TypedOperation::MulDiv { ty, factor, .. } => for_type(
            if matches!(factor, Operand::Scalar(_)) {
                &MUL_DIV.0
            } else {
                &MUL_DIV.1
            },
            *ty,
        ),
        TypedOperation::Sum { ty, count } => for_length(&SUM, *ty, *count),
        TypedOperation::IsIn { ty, count } => for_length(&IS_IN, *ty, *count),
        TypedOperation::Cast { from, .. } => simple(Operation::Cast, *from),
        other => simple(other.operation(), other.result_type()),
    }
}

fn simple(operation: Operation, ty: FheType) -> u64 {
    SIMPLE
        .iter()
        .find(|(candidate, _)| *candidate == operation)
        .map_or(0, |(_, costs)| for_type(costs, ty))
}

fn for_type(costs: &CostPerType, ty: FheType) -> u64 {
    FheType::ALL
        .iter()
        .zip(costs)
        .find(|(candidate, _)| **candidate == ty)
        .map_or(0, |(_, cost)| *cost)
}

fn for_length(table: &[CostByLength], ty: FheType, count: u8) -> u64 {
    table
        .iter()
        .find(|line| line.ty == ty)
        .and_then(|line| line.steps.iter().find(|(bound, _)| count <= *bound))
        .map_or(0, |(_, cost)| *cost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::{Shape, TABLE};

    #[test]
    fn exactly_the_supported_types_have_a_cost() {
        for spec in TABLE.iter().filter(|spec| spec.operation != Operation::VerifyInput) {
            for ty in FheType::ALL {
                let costs = match spec.shape {
                    Shape::Binary(_) => {
                        let (_, scalar, encrypted) = BINARY.iter().find(|(op, ..)| *op == spec.operation).unwrap();
                        let both = !matches!(spec.shape, Shape::Binary(crate::operation::ScalarRule::NonZeroScalarOnly));
                        assert_eq!(
                            both && spec.types.contains(ty),
                            for_type(encrypted, ty) > 0,
                            "{} {ty}",
                            spec.function
                        );
                        for_type(scalar, ty)
                    }
                    Shape::MulDiv => for_type(&MUL_DIV.0, ty).min(for_type(&MUL_DIV.1, ty)),
                    Shape::List => for_length(&SUM, ty, 1),
                    Shape::Membership => for_length(&IS_IN, ty, 1),
                    _ => simple(spec.operation, ty),
                };
                assert_eq!(spec.types.contains(ty), costs > 0, "{} {ty}", spec.function);
            }
        }
    }

    #[test]
    fn published_examples_are_met() {
        let add = |rhs| TypedOperation::Binary {
            operation: Operation::Add,
            ty: FheType::Uint64,
            rhs,
        };
        assert_eq!(cost_hcu(&add(Operand::Encrypted)), 162_000);
        assert_eq!(cost_hcu(&add(Operand::Scalar(crate::U256::ONE))), 133_000);
        assert_eq!(cost_hcu(&TypedOperation::Not { ty: FheType::Bool }), 2);
        assert_eq!(
            cost_hcu(&TypedOperation::Sum {
                ty: FheType::Uint8,
                count: 10
            }),
            90_900
        );
        assert_eq!(
            cost_hcu(&TypedOperation::Sum {
                ty: FheType::Uint64,
                count: 60
            }),
            306_000
        );
        assert_eq!(
            cost_hcu(&TypedOperation::IsIn {
                ty: FheType::Uint256,
                count: 31
            }),
            943_000
        );
    }
}
