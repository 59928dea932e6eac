//! What every operation must give, computed without the code under test: by Rust's own integers up to 128 bits, bit by bit above.

use cipherloom_primitives::{FheType, Operand, Operation, TypedOperation, U256};

/// Returns the plaintext result, or `None` for random values, which have none.
pub(crate) fn expected(operation: &TypedOperation, inputs: &[U256]) -> Option<U256> {
    let right = |rhs: &Operand| match rhs {
        Operand::Encrypted => inputs[1],
        Operand::Scalar(value) => *value,
    };
    Some(match operation {
        TypedOperation::Binary { operation, ty, rhs } => match ty {
            FheType::Bool => boolean(*operation, !inputs[0].is_zero(), !right(rhs).is_zero()),
            FheType::Uint8 => narrow::u8::binary(*operation, inputs[0], right(rhs)),
            FheType::Uint16 => narrow::u16::binary(*operation, inputs[0], right(rhs)),
            FheType::Uint32 => narrow::u32::binary(*operation, inputs[0], right(rhs)),
            FheType::Uint64 => narrow::u64::binary(*operation, inputs[0], right(rhs)),
            FheType::Uint128 => narrow::u128::binary(*operation, inputs[0], right(rhs)),
            FheType::Address | FheType::Uint256 => wide::binary(*operation, *ty, inputs[0], right(rhs)),
        },
        TypedOperation::Neg { ty } => match ty {
            FheType::Uint8 => narrow::u8::neg(inputs[0]),
            FheType::Uint16 => narrow::u16::neg(inputs[0]),
            FheType::Uint32 => narrow::u32::neg(inputs[0]),
            FheType::Uint64 => narrow::u64::neg(inputs[0]),
            FheType::Uint128 => narrow::u128::neg(inputs[0]),
            FheType::Uint256 => wide::neg(*ty, inputs[0]),
            FheType::Bool | FheType::Address => panic!("no neg on {ty}"),
        },
        TypedOperation::Not { ty } => wide::not(*ty, inputs[0]),
        TypedOperation::Cast { to, .. } => wide::resized(*to, inputs[0]),
        TypedOperation::TrivialEncrypt { value, .. } => *value,
        TypedOperation::IfThenElse { .. } => {
            if inputs[0] == U256::ONE {
                inputs[1]
            } else {
                inputs[2]
            }
        }
        TypedOperation::Rand { .. } => return None,
        TypedOperation::Sum { ty, .. } => match ty {
            FheType::Uint8 => narrow::u8::sum(inputs),
            FheType::Uint16 => narrow::u16::sum(inputs),
            FheType::Uint32 => narrow::u32::sum(inputs),
            FheType::Uint64 => narrow::u64::sum(inputs),
            FheType::Uint128 => narrow::u128::sum(inputs),
            FheType::Bool | FheType::Address | FheType::Uint256 => panic!("no sum on {ty}"),
        },
        TypedOperation::IsIn { .. } => flag(inputs[1..].contains(&inputs[0])),
        TypedOperation::MulDiv { ty, factor, divisor } => {
            let product = inputs[0].to::<u128>() * right(factor).to::<u128>();
            let quotient = product / divisor.to::<u128>();
            match ty {
                FheType::Uint8 => U256::from(quotient as u8),
                FheType::Uint16 => U256::from(quotient as u16),
                FheType::Uint32 => U256::from(quotient as u32),
                FheType::Uint64 => U256::from(quotient as u64),
                other => panic!("no mulDiv on {other}"),
            }
        }
    })
}

fn flag(condition: bool) -> U256 {
    if condition { U256::ONE } else { U256::ZERO }
}

fn boolean(operation: Operation, left: bool, right: bool) -> U256 {
    flag(match operation {
        Operation::BitAnd => left && right,
        Operation::BitOr => left || right,
        Operation::BitXor | Operation::Ne => left != right,
        Operation::Eq => left == right,
        other => panic!("no {other} on ebool"),
    })
}

/// Rust's integers.
mod narrow {
    macro_rules! width {
        ($integer:ident) => {
            pub(super) mod $integer {
                use cipherloom_primitives::{Operation as Op, U256};

                pub(crate) fn binary(operation: Op, left: U256, right: U256) -> U256 {
                    let (left, right): ($integer, $integer) = (left.to(), right.to());
                    let amount = (right % <$integer>::BITS as $integer) as u32;
                    let flag = super::super::flag;
                    match operation {
                        Op::Add => U256::from(left.wrapping_add(right)),
                        Op::Sub => U256::from(left.wrapping_sub(right)),
                        Op::Mul => U256::from(left.wrapping_mul(right)),
                        Op::Div => U256::from(left / right),
                        Op::Rem => U256::from(left % right),
                        Op::BitAnd => U256::from(left & right),
                        Op::BitOr => U256::from(left | right),
                        Op::BitXor => U256::from(left ^ right),
                        Op::Shl => U256::from(left << amount),
                        Op::Shr => U256::from(left >> amount),
                        Op::Rotl => U256::from(left.rotate_left(amount)),
                        Op::Rotr => U256::from(left.rotate_right(amount)),
                        Op::Eq => flag(left == right),
                        Op::Ne => flag(left != right),
                        Op::Ge => flag(left >= right),
                        Op::Gt => flag(left > right),
                        Op::Le => flag(left <= right),
                        Op::Lt => flag(left < right),
                        Op::Min => U256::from(left.min(right)),
                        Op::Max => U256::from(left.max(right)),
                        other => panic!("add {other} to the tests"),
                    }
                }

                pub(crate) fn neg(value: U256) -> U256 {
                    U256::from(value.to::<$integer>().wrapping_neg())
                }

                pub(crate) fn sum(values: &[U256]) -> U256 {
                    U256::from(values.iter().fold(0, |sum: $integer, value| sum.wrapping_add(value.to())))
                }
            }
        };
    }
    width!(u8);
    width!(u16);
    width!(u32);
    width!(u64);
    width!(u128);
}

/// Numbers of any width as bits, the lowest first.
mod wide {
    use cipherloom_primitives::{FheType, Operation, U256};

    fn bits(ty: FheType, value: U256) -> Vec<bool> {
        let bytes = value.to_le_bytes::<32>();
        (0..ty.bits() as usize).map(|bit| bytes[bit / 8] >> (bit % 8) & 1 == 1).collect()
    }

    fn number(bits: &[bool]) -> U256 {
        let mut bytes = [0u8; 32];
        for (bit, set) in bits.iter().enumerate() {
            bytes[bit / 8] |= u8::from(*set) << (bit % 8);
        }
        U256::from_le_bytes(bytes)
    }

    pub(super) fn binary(operation: Operation, ty: FheType, left: U256, right: U256) -> U256 {
        let width = ty.bits() as usize;
        // The widths with shifts are powers of two: the amount is in the low bits.
        let amount = bits(ty, right)
            .iter()
            .take(8)
            .rev()
            .fold(0, |amount, bit| amount * 2 + usize::from(*bit))
            % width;
        let (left, right) = (bits(ty, left), bits(ty, right));
        let each = |combine: fn(bool, bool) -> bool| {
            number(
                &left
                    .iter()
                    .zip(&right)
                    .map(|(left, right)| combine(*left, *right))
                    .collect::<Vec<_>>(),
            )
        };
        let from = |source: &dyn Fn(usize) -> Option<usize>| {
            number(
                &(0..width)
                    .map(|bit| source(bit).is_some_and(|bit| left.get(bit).is_some_and(|set| *set)))
                    .collect::<Vec<_>>(),
            )
        };
        match operation {
            Operation::BitAnd => each(|left, right| left && right),
            Operation::BitOr => each(|left, right| left || right),
            Operation::BitXor => each(|left, right| left != right),
            Operation::Shl => from(&|bit| bit.checked_sub(amount)),
            Operation::Shr => from(&|bit| Some(bit + amount)),
            Operation::Rotl => from(&|bit| Some((bit + width - amount) % width)),
            Operation::Rotr => from(&|bit| Some((bit + amount) % width)),
            Operation::Eq => super::flag(left == right),
            Operation::Ne => super::flag(left != right),
            other => panic!("add {other} on {ty} to the tests"),
        }
    }

    pub(super) fn not(ty: FheType, value: U256) -> U256 {
        number(&bits(ty, value).iter().map(|bit| !bit).collect::<Vec<_>>())
    }

    /// Up to and with the lowest one, bits stay; above it they flip.
    pub(super) fn neg(ty: FheType, value: U256) -> U256 {
        let mut seen = false;
        let flipped = |bit: &bool| {
            let result = *bit != seen;
            seen |= *bit;
            result
        };
        number(&bits(ty, value).iter().map(flipped).collect::<Vec<_>>())
    }

    pub(super) fn resized(ty: FheType, value: U256) -> U256 {
        number(&bits(ty, value))
    }
}
