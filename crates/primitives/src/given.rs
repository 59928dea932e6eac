//! Operands as the 0.6 generation's services take them: one after the other, each a handle or a number.
//!
//! | operation | operands |
//! |---|---|
//! | two operands | handle, then handle or number |
//! | negation, complement | handle |
//! | cast | handle, number of the type |
//! | trivial encryption | number, number of the type |
//! | choice | condition, value if true, value if false: handles |
//! | random | seed of which the last 16 bytes count, number of the type |
//! | random, bounded | seed, bound, number of the type |
//! | sum | handles |
//! | membership | value, then the list: handles |
//! | product with divisor | handle, then handle or number, divisor |
//!
//! The last three are later than that generation and follow its pattern. [`TypedOperation::check`] remains the only place that knows what
//! is allowed.

use alloy_primitives::{B256, U256};

use crate::{
    computation::{OperationError, RawOperands, TypedOperation},
    fhe_type::FheType,
    handle::Handle,
    operation::{Operation, Shape},
};

/// An operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// A ciphertext.
    Handle(Handle),
    /// A public number.
    Scalar(U256),
}

impl Given {
    /// Reads a big-endian number of any length; what is above 256 bits does not count, and no bytes are zero.
    #[must_use]
    pub fn scalar(bytes: &[u8]) -> Self {
        Self::Scalar(big_endian(bytes))
    }
}

/// Reads a big-endian number of any length; what is above 256 bits does not count, and no bytes are zero.
#[must_use]
pub fn big_endian(bytes: &[u8]) -> U256 {
    let low = bytes.get(bytes.len().saturating_sub(B256::len_bytes())..).unwrap_or_default();
    U256::from_be_slice(low)
}

impl TypedOperation {
    /// Arranges operands as the operation table has them, and checks them. `result` is the type of the result where it is known from elsewhere;
    /// only a sum looks at it, and has the type of its first operand otherwise.
    ///
    /// Two kindnesses of the 0.6 generation are kept: a bound above the range of a type bounds nothing, and a public `ebool` is true if its last
    /// byte is not zero, where truncation would look at the last bit alone.
    ///
    /// # Errors
    /// [`OperationError`] names the rule that the operands break.
    pub fn check_given(operation: Operation, given: &[Given], result: Option<FheType>) -> Result<(Self, Vec<Handle>), OperationError> {
        let list;
        let (operation, raw) = match (operation.spec().shape, given) {
            (Shape::Binary(_), [Given::Handle(lhs), rhs]) => {
                let (rhs, scalar_byte) = second(*rhs, 0, 1);
                let lhs = *lhs;
                (operation, RawOperands::Binary { lhs, rhs, scalar_byte })
            }
            (Shape::Unary, [Given::Handle(operand)]) => (operation, RawOperands::Unary(*operand)),
            (Shape::Cast, [Given::Handle(operand), Given::Scalar(to)]) => (operation, RawOperands::Cast(*operand, fhe_type(*to)?)),
            (Shape::Trivial, [Given::Scalar(value), Given::Scalar(ty)]) => {
                let ty = fhe_type(*ty)?;
                (operation, RawOperands::Trivial(public_value(*value, ty), ty))
            }
            (Shape::Select, [Given::Handle(condition), Given::Handle(if_true), Given::Handle(if_false)]) => {
                (operation, RawOperands::Select(*condition, *if_true, *if_false))
            }
            (Shape::Random { bounded: false }, [Given::Scalar(seed), Given::Scalar(ty)]) => {
                (operation, RawOperands::Random(low_16(*seed), fhe_type(*ty)?, None))
            }
            (Shape::Random { bounded: true }, [Given::Scalar(seed), Given::Scalar(bound), Given::Scalar(ty)]) => {
                let ty = fhe_type(*ty)?;
                if bound.is_power_of_two() && *bound > ty.max_value() && operation.spec().types.contains(ty) {
                    (Operation::Rand, RawOperands::Random(low_16(*seed), ty, None))
                } else {
                    (operation, RawOperands::Random(low_16(*seed), ty, Some(*bound)))
                }
            }
            (Shape::List, values) => {
                list = handles(operation, values)?;
                let ty = result.or_else(|| list.first().map(Handle::fhe_type));
                (
                    operation,
                    RawOperands::List(&list, ty.ok_or(OperationError::UntypedResult(operation))?),
                )
            }
            (Shape::Membership, [Given::Handle(value), members @ ..]) => {
                list = handles(operation, members)?;
                (operation, RawOperands::Membership(*value, &list))
            }
            (Shape::MulDiv, [Given::Handle(lhs), rhs, Given::Scalar(divisor)]) => {
                let (rhs, scalar_byte) = second(*rhs, 1, 3);
                let (lhs, divisor) = (*lhs, *divisor);
                (
                    operation,
                    RawOperands::MulDiv {
                        lhs,
                        rhs,
                        divisor,
                        scalar_byte,
                    },
                )
            }
            _ => return Err(OperationError::WrongShape(operation)),
        };
        Self::check(operation, &raw)
    }
}

fn handles(operation: Operation, given: &[Given]) -> Result<Vec<Handle>, OperationError> {
    let handle = |given: &Given| match given {
        Given::Handle(handle) => Some(*handle),
        Given::Scalar(_) => None,
    };
    let handles = given.iter().map(handle).collect::<Option<Vec<_>>>();
    handles.ok_or(OperationError::WrongShape(operation))
}

/// Writes a second operand and its scalar byte as the executor contract takes them.
fn second(given: Given, if_handle: u8, if_scalar: u8) -> (U256, u8) {
    match given {
        Given::Handle(handle) => (U256::from_be_bytes(handle.as_b256().0), if_handle),
        Given::Scalar(value) => (value, if_scalar),
    }
}

/// Reads the value of a trivial encryption.
#[must_use]
pub fn public_value(value: U256, ty: FheType) -> U256 {
    match ty {
        FheType::Bool => U256::from(u8::from(value.byte(0) > 0)),
        _ => value,
    }
}

fn fhe_type(number: U256) -> Result<FheType, OperationError> {
    let id = u8::try_from(number).map_err(|_| OperationError::NotAType(number))?;
    Ok(FheType::try_from(id)?)
}

/// The chain hands over a word; the executor contract uses its last 16 bytes.
fn low_16(seed: U256) -> [u8; 16] {
    let mut low = [0; 16];
    low.copy_from_slice(seed.to_be_bytes::<32>().split_at(16).1);
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(ty: FheType) -> Given {
        Given::Handle(Handle::computed(B256::repeat_byte(ty.id()), 1, ty))
    }

    fn number(value: u64) -> Given {
        Given::Scalar(U256::from(value))
    }

    fn check(operation: Operation, given: &[Given]) -> Result<TypedOperation, OperationError> {
        TypedOperation::check_given(operation, given, None).map(|(typed, _)| typed)
    }

    #[test]
    fn scalars_have_any_length() {
        assert_eq!(big_endian(&[]), U256::ZERO);
        assert_eq!(big_endian(&[1, 2]), U256::from(0x102));
        assert_eq!(big_endian(&[[0xff; 40].as_slice(), &[0; 31], &[7]].concat()), U256::from(7));
    }

    #[test]
    fn a_public_bool_is_true_if_its_last_byte_is_not_zero() {
        let ty = number(u64::from(FheType::Bool.id()));
        for (value, expected) in [(0, 0), (1, 1), (2, 1), (0x100, 0)] {
            let typed = check(Operation::TrivialEncrypt, &[number(value), ty]).unwrap();
            let value = U256::from(expected);
            assert_eq!(typed, TypedOperation::TrivialEncrypt { value, ty: FheType::Bool });
        }
    }

    #[test]
    fn bounds_above_the_range_bound_nothing() {
        let ty = number(u64::from(FheType::Uint8.id()));
        let bits = |bound| match check(Operation::RandBounded, &[number(1), number(bound), ty]) {
            Ok(TypedOperation::Rand { random_bits, .. }) => Some(random_bits),
            _ => None,
        };
        assert_eq!([bits(16), bits(256), bits(512), bits(3)], [Some(4), Some(8), Some(8), None]);
    }

    #[test]
    fn types_are_numbers_of_types() {
        let cast = |to| check(Operation::Cast, &[handle(FheType::Uint8), number(to)]);
        assert!(cast(3).is_ok());
        assert_eq!(cast(1), Err(OperationError::UnknownType(crate::UnknownFheType(1))));
        assert_eq!(cast(256), Err(OperationError::NotAType(U256::from(256))));
    }

    #[test]
    fn a_sum_has_the_type_of_its_operands() {
        let of = |given: &[Given]| check(Operation::Sum, given);
        let eight = handle(FheType::Uint8);
        assert!(matches!(
            of(&[eight, eight]),
            Ok(TypedOperation::Sum {
                ty: FheType::Uint8,
                count: 2
            })
        ));
        assert_eq!(of(&[]), Err(OperationError::UntypedResult(Operation::Sum)));
        assert!(TypedOperation::check_given(Operation::Sum, &[], Some(FheType::Uint8)).is_ok());
    }

    #[test]
    fn operands_of_another_shape_are_refused() {
        let eight = handle(FheType::Uint8);
        for (operation, given) in [
            (Operation::Add, vec![eight]),
            (Operation::Add, vec![number(1), eight]),
            (Operation::Neg, vec![number(1)]),
            (Operation::Rand, vec![number(1)]),
            (Operation::TrivialEncrypt, vec![eight, number(2)]),
            (Operation::Sum, vec![eight, number(2)]),
            (Operation::VerifyInput, vec![eight]),
        ] {
            assert_eq!(check(operation, &given), Err(OperationError::WrongShape(operation)));
        }
    }
}
