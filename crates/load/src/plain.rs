//! What operations mean on plaintext, worked out on its own.
//!
//! Deliberately apart from the reference in the crate that computes: bits and numbers here are handled in another way, so that one mistake is not
//! made twice.

use alloy_primitives::U256;
use bytes::Bytes;
use cipherloom_primitives::FheType;
use cipherloom_rpc::fhevm::common::FheOperation;

/// What is known about a plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// It is this.
    Exactly(U256),
    /// It is at most this: a random value, or something computed of one.
    AtMost(U256),
}

impl Plain {
    /// Says whether a plaintext may be this one.
    #[must_use]
    pub fn allows(&self, found: U256) -> bool {
        match self {
            Self::Exactly(value) => *value == found,
            Self::AtMost(limit) => found <= *limit,
        }
    }
}

impl std::fmt::Display for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exactly(value) => write!(f, "{value}"),
            Self::AtMost(limit) => write!(f, "at most {limit}"),
        }
    }
}

/// A value that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The name by which it goes over the wire.
    pub name: Bytes,
    /// Its type.
    pub ty: FheType,
    /// What it must decrypt to.
    pub plain: Plain,
}

/// The second operand of a computation with two.
#[derive(Clone, Copy, Debug)]
pub enum Second<'a> {
    /// An encrypted value.
    Encrypted(&'a Value),
    /// A public number.
    Scalar(U256),
}

/// Returns the type of the result of an operation on two operands of a type.
#[must_use]
pub const fn binary_type(operation: FheOperation, ty: FheType) -> FheType {
    use FheOperation as Op;
    match operation {
        Op::FheEq | Op::FheNe | Op::FheGe | Op::FheGt | Op::FheLe | Op::FheLt => FheType::Bool,
        _ => ty,
    }
}

/// Returns the result of an operation on two operands of a type; nothing is known of it if the operation is none of these, and little if an
/// operand is random.
#[must_use]
pub fn binary(operation: FheOperation, ty: FheType, left: &Value, right: Second<'_>) -> Plain {
    use FheOperation as Op;
    let anything = Plain::AtMost(binary_type(operation, ty).max_value());
    let same = matches!(right, Second::Encrypted(value) if value.name == left.name);
    if same && operation == Op::FheBitXor {
        return Plain::Exactly(U256::ZERO);
    }
    let right = match right {
        Second::Scalar(number) => number,
        Second::Encrypted(value) => match value.plain {
            Plain::Exactly(number) => number,
            Plain::AtMost(_) => return anything,
        },
    };
    let Plain::Exactly(left) = left.plain else {
        return anything;
    };
    let modulus_is_256_bits = ty.bits() == 256;
    let reduce = |number: U256| {
        if modulus_is_256_bits {
            number
        } else {
            number % (U256::ONE << usize::try_from(ty.bits()).unwrap_or(255))
        }
    };
    let digit = |holds: bool| Plain::Exactly(if holds { U256::ONE } else { U256::ZERO });
    let number = match operation {
        Op::FheAdd => reduce(left.wrapping_add(right)),
        // The complement of two, so that nothing is below zero.
        Op::FheSub => reduce(left.wrapping_add(reduce((!right).wrapping_add(U256::ONE)))),
        Op::FheMul => reduce(left.wrapping_mul(right)),
        Op::FheDiv => left.checked_div(right).unwrap_or_default(),
        Op::FheRem => left.checked_rem(right).unwrap_or_default(),
        Op::FheMin => std::cmp::min(left, right),
        Op::FheMax => std::cmp::max(left, right),
        Op::FheBitAnd => bitwise(ty, left, right, |a, b| a && b),
        Op::FheBitOr => bitwise(ty, left, right, |a, b| a || b),
        Op::FheBitXor => bitwise(ty, left, right, |a, b| a != b),
        Op::FheShl | Op::FheShr | Op::FheRotl | Op::FheRotr => moved(operation, ty, left, right),
        Op::FheEq => return digit(left == right),
        Op::FheNe => return digit(left != right),
        Op::FheGe => return digit(left >= right),
        Op::FheGt => return digit(left > right),
        Op::FheLe => return digit(left <= right),
        Op::FheLt => return digit(left < right),
        _ => return anything,
    };
    Plain::Exactly(number)
}

/// Returns the complement, or the negative, of a value.
#[must_use]
pub fn unary(operation: FheOperation, value: &Value) -> Plain {
    match (operation, value.plain) {
        // What is left up to all ones.
        (FheOperation::FheNot, Plain::Exactly(number)) => Plain::Exactly(value.ty.max_value() - number),
        (FheOperation::FheNeg, Plain::Exactly(number)) if number.is_zero() => Plain::Exactly(number),
        (FheOperation::FheNeg, Plain::Exactly(number)) => Plain::Exactly(value.ty.max_value() - number + U256::ONE),
        _ => Plain::AtMost(value.ty.max_value()),
    }
}

/// Returns a value in another width.
#[must_use]
pub fn cast(value: &Value, to: FheType) -> Plain {
    match value.plain {
        Plain::Exactly(number) => Plain::Exactly(bitwise(to, number, number, |a, _| a)),
        Plain::AtMost(limit) => Plain::AtMost(limit.min(to.max_value())),
    }
}

/// Returns what a condition chooses.
#[must_use]
pub fn select(condition: &Value, yes: &Value, no: &Value) -> Plain {
    match condition.plain {
        Plain::Exactly(number) if number.is_zero() => no.plain,
        Plain::Exactly(_) => yes.plain,
        Plain::AtMost(_) => Plain::AtMost(yes.ty.max_value()),
    }
}

/// Combines numbers bit by bit.
fn bitwise(ty: FheType, left: U256, right: U256, combine: impl Fn(bool, bool) -> bool) -> U256 {
    bits(ty, |index| combine(left.bit(index), right.bit(index)))
}

/// Shifts or rotates bit by bit; the amount counts modulo the width.
fn moved(operation: FheOperation, ty: FheType, left: U256, right: U256) -> U256 {
    let width = usize::try_from(ty.bits()).unwrap_or(256);
    let amount = usize::try_from(right % U256::from(width)).unwrap_or(0);
    bits(ty, |index| match operation {
        FheOperation::FheShl => index >= amount && left.bit(index - amount),
        FheOperation::FheShr => index + amount < width && left.bit(index + amount),
        FheOperation::FheRotl => left.bit((index + width - amount) % width),
        _ => left.bit((index + amount) % width),
    })
}

/// Puts a number of a type together from its bits.
fn bits(ty: FheType, bit: impl Fn(usize) -> bool) -> U256 {
    let mut number = U256::ZERO;
    for index in 0..usize::try_from(ty.bits()).unwrap_or(256) {
        number.set_bit(index, bit(index));
    }
    number
}

#[cfg(test)]
mod tests {
    use cipherloom_fhe::clear;
    use cipherloom_primitives::{Operand, Operation, TypedOperation, operation::ScalarRule, operation::Shape};

    use super::*;
    use crate::Random;

    fn value(ty: FheType, number: U256) -> Value {
        Value {
            name: Bytes::from(number.to_be_bytes::<32>().to_vec()),
            ty,
            plain: Plain::Exactly(number),
        }
    }

    #[test]
    fn both_ways_to_work_it_out_agree() {
        let mut random = Random::from_seed(11);
        let mut checked = 0;
        for operation in Operation::all() {
            let spec = operation.spec();
            let Ok(wire) = FheOperation::try_from(i32::from(operation.id())) else {
                continue;
            };
            for ty in spec.types.iter() {
                for _ in 0..20 {
                    let (left, mut right) = (random.plaintext(ty), random.plaintext(ty));
                    let (typed, ours) = match spec.shape {
                        Shape::Binary(rule) => {
                            let mut rhs = Operand::Encrypted;
                            if rule == ScalarRule::NonZeroScalarOnly {
                                right = right.max(U256::ONE);
                                rhs = Operand::Scalar(right);
                            }
                            let typed = TypedOperation::Binary { operation, ty, rhs };
                            (typed, binary(wire, ty, &value(ty, left), Second::Scalar(right)))
                        }
                        Shape::Unary if operation == Operation::Neg => (TypedOperation::Neg { ty }, unary(wire, &value(ty, left))),
                        Shape::Unary => (TypedOperation::Not { ty }, unary(wire, &value(ty, left))),
                        _ => continue,
                    };
                    assert_eq!(
                        ours,
                        Plain::Exactly(clear::evaluate(&typed, &[left, right])),
                        "{operation} {ty} {left} {right}"
                    );
                    checked += 1;
                }
            }
        }
        assert!(checked > 2000, "{checked}");
    }

    #[test]
    fn what_random_values_allow_is_known_where_it_is() {
        let random = Value {
            name: Bytes::from_static(b"random"),
            ty: FheType::Uint8,
            plain: Plain::AtMost(U256::from(255)),
        };
        let zero = binary(FheOperation::FheBitXor, FheType::Uint8, &random, Second::Encrypted(&random));
        assert_eq!(zero, Plain::Exactly(U256::ZERO));
        let compared = binary(FheOperation::FheLt, FheType::Uint8, &random, Second::Scalar(U256::from(3)));
        assert!(compared.allows(U256::ONE) && !compared.allows(U256::from(2)));
        assert_eq!(
            cast(&value(FheType::Uint16, U256::from(0x1234)), FheType::Uint8),
            Plain::Exactly(U256::from(0x34))
        );
    }
}
