//! Operations whose operands were checked against the table: what the coprocessor records and evaluates.

use alloy_primitives::U256;
use serde::{Deserialize, Serialize};

use crate::{
    fhe_type::{FheType, UnknownFheType},
    handle::Handle,
    operation::{CAST_TARGETS, Operation, ScalarRule, Shape},
};

/// The second operand of an operation that takes a ciphertext or a public value there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Operand {
    /// A ciphertext; it stands among the inputs.
    Encrypted,
    /// A public value, already reduced to the width of the type.
    Scalar(U256),
}

/// An operation with everything but its ciphertexts, its types and scalars checked.
///
/// Encrypted operands are given separately, in the order of the fields' descriptions. A value of this type built by
/// [`TypedOperation::check`] always satisfies the operation table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TypedOperation {
    /// One of the 20 operations with two operands. Inputs: left, then right unless it is a scalar.
    Binary {
        /// Which one: [`Operation::Add`] to [`Operation::Max`].
        operation: Operation,
        /// The type of both operands.
        ty: FheType,
        /// The right operand.
        rhs: Operand,
    },
    /// [`Operation::Neg`]. One input.
    Neg {
        /// The type.
        ty: FheType,
    },
    /// [`Operation::Not`]. One input.
    Not {
        /// The type.
        ty: FheType,
    },
    /// [`Operation::Cast`]. One input.
    Cast {
        /// The type of the input.
        from: FheType,
        /// The type of the result.
        to: FheType,
    },
    /// [`Operation::TrivialEncrypt`]. No inputs.
    TrivialEncrypt {
        /// The value, already reduced to the width of the type.
        value: U256,
        /// The type of the result.
        ty: FheType,
    },
    /// [`Operation::IfThenElse`]. Inputs: the `ebool` condition, the value if true, the value if false.
    IfThenElse {
        /// The type of the two values.
        ty: FheType,
    },
    /// [`Operation::Rand`] and [`Operation::RandBounded`]. No inputs.
    Rand {
        /// The type of the result.
        ty: FheType,
        /// The seed the executor contract derived.
        seed: [u8; 16],
        /// How many random low bits the result has; the others are zero. At most the width.
        random_bits: u32,
    },
    /// [`Operation::Sum`]. Inputs: the values; an empty list gives zero.
    Sum {
        /// The type of the values.
        ty: FheType,
        /// How many values there are.
        count: u8,
    },
    /// [`Operation::IsIn`]. Inputs: the value, then the list.
    IsIn {
        /// The type of the value and the list.
        ty: FheType,
        /// The length of the list; an empty list gives false.
        count: u8,
    },
    /// [`Operation::MulDiv`]. Inputs: the first factor, then the second unless it is a scalar.
    MulDiv {
        /// The type of factors, divisor and result.
        ty: FheType,
        /// The second factor.
        factor: Operand,
        /// The divisor, not zero, already reduced to the width of the type.
        divisor: U256,
    },
}

/// An operation as it is read from an event or a request, before it is checked.
#[derive(Clone, Debug)]
pub enum RawOperands<'a> {
    /// For [`Shape::Binary`]: both operands and the scalar byte.
    Binary {
        /// The left operand.
        lhs: Handle,
        /// The right operand: a handle or a big-endian number.
        rhs: U256,
        /// 0 if the right operand is a handle, 1 if it is a number.
        scalar_byte: u8,
    },
    /// For [`Shape::Unary`].
    Unary(Handle),
    /// For [`Shape::Cast`].
    Cast(Handle, FheType),
    /// For [`Shape::Trivial`].
    Trivial(U256, FheType),
    /// For [`Shape::Select`]: condition, value if true, value if false.
    Select(Handle, Handle, Handle),
    /// For [`Shape::Random`]: seed, type and, for the bounded form, the upper bound.
    Random([u8; 16], FheType, Option<U256>),
    /// For [`Shape::List`]: the values and the type.
    List(&'a [Handle], FheType),
    /// For [`Shape::Membership`].
    Membership(Handle, &'a [Handle]),
    /// For [`Shape::MulDiv`]: the factors, the divisor and the scalar byte (1 encrypted, 3 scalar second factor).
    MulDiv {
        /// The first factor.
        lhs: Handle,
        /// The second factor: a handle or a big-endian number.
        rhs: U256,
        /// The divisor.
        divisor: U256,
        /// 1 if the second factor is a handle, 3 if it is a number.
        scalar_byte: u8,
    },
}

/// An operation on chain: what to compute, on which ciphertexts, and the handle of the result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Computation {
    /// The checked operation.
    pub operation: TypedOperation,
    /// The encrypted operands, in the order [`TypedOperation`] gives.
    pub inputs: Vec<Handle>,
    /// The handle the executor contract gave the result.
    pub result: Handle,
}

/// Why an operation does not satisfy the operation table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError {
    /// The operation does not exist for this type.
    #[error("{operation} does not support {ty}")]
    UnsupportedType {
        /// The operation.
        operation: Operation,
        /// The type.
        ty: FheType,
    },
    /// Two operands have different types.
    #[error("{operation} needs operands of one type, got {left} and {right}")]
    IncompatibleTypes {
        /// The operation.
        operation: Operation,
        /// The type of the first.
        left: FheType,
        /// The type of the second.
        right: FheType,
    },
    /// The right operand must be a scalar.
    #[error("{0} needs a scalar right operand")]
    NotScalar(Operation),
    /// The scalar byte is not one the operation knows.
    #[error("{operation}: scalar byte {scalar_byte:#04x} is not valid")]
    InvalidScalarByte {
        /// The operation.
        operation: Operation,
        /// The byte.
        scalar_byte: u8,
    },
    /// A divisor is zero in the width of the type.
    #[error("{0}: division by zero")]
    DivisionByZero(Operation),
    /// A random upper bound is not a power of two.
    #[error("random upper bound {0} is not a power of two")]
    NotPowerOfTwo(U256),
    /// A random upper bound does not fit the type.
    #[error("random upper bound {bound} is above the range of {ty}")]
    UpperBoundAboveRange {
        /// The bound.
        bound: U256,
        /// The type.
        ty: FheType,
    },
    /// A cast to the type the value already has, or to one that casts cannot produce.
    #[error("cannot cast {from} to {to}")]
    InvalidCast {
        /// The source type.
        from: FheType,
        /// The target type.
        to: FheType,
    },
    /// A list is longer than the operation allows.
    #[error("{operation}: list of {size} exceeds the limit of {limit} for {ty}")]
    ListTooLong {
        /// The operation.
        operation: Operation,
        /// The type.
        ty: FheType,
        /// The length found.
        size: usize,
        /// The longest allowed.
        limit: usize,
    },
    /// A right operand that should be a handle is not one.
    #[error("right operand: {0}")]
    Handle(#[from] crate::handle::HandleError),
    /// An operand that should be the number of a type is none.
    #[error("{0} is not the number of a type")]
    NotAType(U256),
    /// An operand that is the number of a type names none this software has.
    #[error(transparent)]
    UnknownType(#[from] UnknownFheType),
    /// The type of the result follows from nothing: a list is empty.
    #[error("{0} of an empty list needs a result of known type")]
    UntypedResult(Operation),
    /// The operands do not have the shape the operation takes.
    #[error("{0} does not take operands of this shape")]
    WrongShape(Operation),
    /// The result handle's type is not the one the operation produces.
    #[error("{operation} produces {expected}, but the result handle says {found}")]
    ResultTypeMismatch {
        /// The operation.
        operation: Operation,
        /// The type that the table gives.
        expected: FheType,
        /// The type in the handle.
        found: FheType,
    },
}

impl TypedOperation {
    /// Checks operands against the operation table and returns the typed operation with its encrypted inputs.
    ///
    /// # Errors
    /// [`OperationError`] names the rule that the operands break.
    pub fn check(operation: Operation, operands: &RawOperands<'_>) -> Result<(Self, Vec<Handle>), OperationError> {
        let spec = operation.spec();
        let supported = |ty: FheType| {
            if spec.types.contains(ty) {
                Ok(ty)
            } else {
                Err(OperationError::UnsupportedType { operation, ty })
            }
        };
        let same = |left: FheType, right: FheType| {
            if left == right {
                Ok(())
            } else {
                Err(OperationError::IncompatibleTypes { operation, left, right })
            }
        };
        match (spec.shape, operands) {
            (Shape::Binary(rule), RawOperands::Binary { lhs, rhs, scalar_byte }) => {
                let ty = supported(lhs.fhe_type())?;
                match (rule, scalar_byte) {
                    (ScalarRule::Either, 0) => {
                        let right = Handle::try_from(alloy_primitives::B256::from(*rhs))?;
                        same(ty, right.fhe_type())?;
                        Ok((
                            Self::Binary {
                                operation,
                                ty,
                                rhs: Operand::Encrypted,
                            },
                            vec![*lhs, right],
                        ))
                    }
                    (ScalarRule::NonZeroScalarOnly, 0) => Err(OperationError::NotScalar(operation)),
                    (rule, 1) => {
                        let value = ty.truncate(*rhs);
                        if rule == ScalarRule::NonZeroScalarOnly && value.is_zero() {
                            return Err(OperationError::DivisionByZero(operation));
                        }
                        Ok((
                            Self::Binary {
                                operation,
                                ty,
                                rhs: Operand::Scalar(value),
                            },
                            vec![*lhs],
                        ))
                    }
                    (_, byte) => Err(OperationError::InvalidScalarByte {
                        operation,
                        scalar_byte: *byte,
                    }),
                }
            }
            (Shape::Unary, RawOperands::Unary(operand)) => {
                let ty = supported(operand.fhe_type())?;
                let typed = if operation == Operation::Neg {
                    Self::Neg { ty }
                } else {
                    Self::Not { ty }
                };
                Ok((typed, vec![*operand]))
            }
            (Shape::Cast, RawOperands::Cast(operand, to)) => {
                let from = supported(operand.fhe_type())?;
                if from == *to || !CAST_TARGETS.contains(*to) {
                    return Err(OperationError::InvalidCast { from, to: *to });
                }
                Ok((Self::Cast { from, to: *to }, vec![*operand]))
            }
            (Shape::Trivial, RawOperands::Trivial(value, ty)) => {
                let ty = supported(*ty)?;
                Ok((
                    Self::TrivialEncrypt {
                        value: ty.truncate(*value),
                        ty,
                    },
                    Vec::new(),
                ))
            }
            (Shape::Select, RawOperands::Select(condition, if_true, if_false)) => {
                if condition.fhe_type() != FheType::Bool {
                    return Err(OperationError::UnsupportedType {
                        operation,
                        ty: condition.fhe_type(),
                    });
                }
                let ty = supported(if_true.fhe_type())?;
                same(ty, if_false.fhe_type())?;
                Ok((Self::IfThenElse { ty }, vec![*condition, *if_true, *if_false]))
            }
            (Shape::Random { bounded }, RawOperands::Random(seed, ty, bound)) if bounded == bound.is_some() => {
                let ty = supported(*ty)?;
                let random_bits = bound.as_ref().map_or(Ok(ty.bits()), |bound| random_bits(bound, ty))?;
                Ok((
                    Self::Rand {
                        ty,
                        seed: *seed,
                        random_bits,
                    },
                    Vec::new(),
                ))
            }
            (Shape::List, RawOperands::List(values, ty)) => {
                let ty = supported(*ty)?;
                let count = checked_count(operation, ty, values.len())?;
                values.iter().try_for_each(|value| same(ty, value.fhe_type()))?;
                Ok((Self::Sum { ty, count }, values.to_vec()))
            }
            (Shape::Membership, RawOperands::Membership(value, list)) => {
                let ty = supported(value.fhe_type())?;
                let count = checked_count(operation, ty, list.len())?;
                list.iter().try_for_each(|member| same(ty, member.fhe_type()))?;
                Ok((
                    Self::IsIn { ty, count },
                    std::iter::once(*value).chain(list.iter().copied()).collect(),
                ))
            }
            (
                Shape::MulDiv,
                RawOperands::MulDiv {
                    lhs,
                    rhs,
                    divisor,
                    scalar_byte,
                },
            ) => {
                let ty = supported(lhs.fhe_type())?;
                let divisor = ty.truncate(*divisor);
                if divisor.is_zero() {
                    return Err(OperationError::DivisionByZero(operation));
                }
                match scalar_byte {
                    1 => {
                        let right = Handle::try_from(alloy_primitives::B256::from(*rhs))?;
                        same(ty, right.fhe_type())?;
                        Ok((
                            Self::MulDiv {
                                ty,
                                factor: Operand::Encrypted,
                                divisor,
                            },
                            vec![*lhs, right],
                        ))
                    }
                    3 => Ok((
                        Self::MulDiv {
                            ty,
                            factor: Operand::Scalar(ty.truncate(*rhs)),
                            divisor,
                        },
                        vec![*lhs],
                    )),
                    byte => Err(OperationError::InvalidScalarByte {
                        operation,
                        scalar_byte: *byte,
                    }),
                }
            }
            _ => Err(OperationError::WrongShape(operation)),
        }
    }

    /// Returns the operation's line in the table.
    #[must_use]
    pub fn operation(&self) -> Operation {
        match self {
            Self::Binary { operation, .. } => *operation,
            Self::Neg { .. } => Operation::Neg,
            Self::Not { .. } => Operation::Not,
            Self::Cast { .. } => Operation::Cast,
            Self::TrivialEncrypt { .. } => Operation::TrivialEncrypt,
            Self::IfThenElse { .. } => Operation::IfThenElse,
            Self::Rand { ty, random_bits, .. } if *random_bits == ty.bits() => Operation::Rand,
            Self::Rand { .. } => Operation::RandBounded,
            Self::Sum { .. } => Operation::Sum,
            Self::IsIn { .. } => Operation::IsIn,
            Self::MulDiv { .. } => Operation::MulDiv,
        }
    }

    /// Returns the type of the result.
    #[must_use]
    pub fn result_type(&self) -> FheType {
        match self {
            Self::Binary { operation, ty, .. } => match operation.spec().result {
                crate::operation::ResultRule::Bool => FheType::Bool,
                _ => *ty,
            },
            Self::Neg { ty }
            | Self::Not { ty }
            | Self::TrivialEncrypt { ty, .. }
            | Self::IfThenElse { ty }
            | Self::Rand { ty, .. }
            | Self::Sum { ty, .. }
            | Self::MulDiv { ty, .. } => *ty,
            Self::Cast { to, .. } => *to,
            Self::IsIn { .. } => FheType::Bool,
        }
    }

    /// Returns the type that the operation works on: that of its operands, of those that it chooses between, or of what it makes.
    #[must_use]
    pub fn worked_type(&self) -> FheType {
        self.input_types().last().copied().unwrap_or_else(|| self.result_type())
    }

    /// Lists the types the encrypted inputs must have, in order.
    #[must_use]
    pub fn input_types(&self) -> Vec<FheType> {
        match self {
            Self::Binary { ty, rhs, .. } | Self::MulDiv { ty, factor: rhs, .. } => match rhs {
                Operand::Encrypted => vec![*ty, *ty],
                Operand::Scalar(_) => vec![*ty],
            },
            Self::Neg { ty } | Self::Not { ty } => vec![*ty],
            Self::Cast { from, .. } => vec![*from],
            Self::TrivialEncrypt { .. } | Self::Rand { .. } => Vec::new(),
            Self::IfThenElse { ty } => vec![FheType::Bool, *ty, *ty],
            Self::Sum { ty, count } => vec![*ty; usize::from(*count)],
            Self::IsIn { ty, count } => vec![*ty; usize::from(*count) + 1],
        }
    }
}

impl Computation {
    /// Checks operands and result handle against the operation table.
    ///
    /// # Errors
    /// [`OperationError`] names the rule that is broken.
    pub fn check(operation: Operation, operands: &RawOperands<'_>, result: Handle) -> Result<Self, OperationError> {
        let (typed, inputs) = TypedOperation::check(operation, operands)?;
        let expected = typed.result_type();
        if result.fhe_type() != expected {
            return Err(OperationError::ResultTypeMismatch {
                operation,
                expected,
                found: result.fhe_type(),
            });
        }
        Ok(Self {
            operation: typed,
            inputs,
            result,
        })
    }
}

/// Returns how many random bits an upper bound leaves; the bound is a power of two and excluded from the range.
fn random_bits(bound: &U256, ty: FheType) -> Result<u32, OperationError> {
    if !bound.is_power_of_two() {
        return Err(OperationError::NotPowerOfTwo(*bound));
    }
    let bits = u32::try_from(bound.trailing_zeros()).expect("a 256-bit number has at most 256 trailing zeros");
    if bits > ty.bits() {
        return Err(OperationError::UpperBoundAboveRange { bound: *bound, ty });
    }
    Ok(bits)
}

fn checked_count(operation: Operation, ty: FheType, size: usize) -> Result<u8, OperationError> {
    let limit = operation.spec().list_limit(ty).unwrap_or_default();
    match u8::try_from(size) {
        Ok(count) if size <= limit => Ok(count),
        _ => Err(OperationError::ListTooLong {
            operation,
            ty,
            size,
            limit,
        }),
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;

    fn handle(ty: FheType) -> Handle {
        Handle::computed(B256::repeat_byte(ty.id()), 31337, ty)
    }

    fn as_number(handle: Handle) -> U256 {
        handle.as_b256().into()
    }

    #[test]
    fn every_binary_operation_accepts_exactly_its_types() {
        for spec in crate::operation::TABLE.iter().filter(|spec| matches!(spec.shape, Shape::Binary(_))) {
            for ty in FheType::ALL {
                let scalar = RawOperands::Binary {
                    lhs: handle(ty),
                    rhs: U256::ONE,
                    scalar_byte: 1,
                };
                let checked = TypedOperation::check(spec.operation, &scalar);
                assert_eq!(checked.is_ok(), spec.types.contains(ty), "{} on {ty}", spec.function);
                if let Ok((typed, inputs)) = checked {
                    assert_eq!(typed.operation(), spec.operation);
                    assert_eq!(inputs, [handle(ty)]);
                    assert_eq!(typed.input_types(), [ty]);
                }
            }
        }
    }

    #[test]
    fn operands_of_two_types_are_refused() {
        let mixed = RawOperands::Binary {
            lhs: handle(FheType::Uint8),
            rhs: as_number(handle(FheType::Uint16)),
            scalar_byte: 0,
        };
        assert_eq!(
            TypedOperation::check(Operation::Add, &mixed),
            Err(OperationError::IncompatibleTypes {
                operation: Operation::Add,
                left: FheType::Uint8,
                right: FheType::Uint16
            })
        );
    }

    #[test]
    fn division_takes_a_scalar_that_is_not_zero_in_its_width() {
        let lhs = handle(FheType::Uint8);
        let encrypted = RawOperands::Binary {
            lhs,
            rhs: as_number(lhs),
            scalar_byte: 0,
        };
        assert_eq!(
            TypedOperation::check(Operation::Div, &encrypted),
            Err(OperationError::NotScalar(Operation::Div))
        );
        let zero_in_8_bits = RawOperands::Binary {
            lhs,
            rhs: U256::from(0x100),
            scalar_byte: 1,
        };
        assert_eq!(
            TypedOperation::check(Operation::Rem, &zero_in_8_bits),
            Err(OperationError::DivisionByZero(Operation::Rem))
        );
    }

    #[test]
    fn scalars_are_reduced_to_the_width() {
        let operands = RawOperands::Binary {
            lhs: handle(FheType::Uint8),
            rhs: U256::from(0x1ff),
            scalar_byte: 1,
        };
        let (typed, _) = TypedOperation::check(Operation::Add, &operands).unwrap();
        assert!(matches!(typed, TypedOperation::Binary { rhs: Operand::Scalar(value), .. } if value == U256::from(0xff)));
    }

    #[test]
    fn random_bounds_are_powers_of_two_within_the_type() {
        let bounded = |bound: u64| {
            TypedOperation::check(
                Operation::RandBounded,
                &RawOperands::Random([0; 16], FheType::Uint8, Some(U256::from(bound))),
            )
        };
        assert!(matches!(bounded(16), Ok((TypedOperation::Rand { random_bits: 4, .. }, _))));
        assert!(matches!(bounded(256), Ok((TypedOperation::Rand { random_bits: 8, .. }, _))));
        assert_eq!(bounded(3), Err(OperationError::NotPowerOfTwo(U256::from(3))));
        assert!(matches!(bounded(512), Err(OperationError::UpperBoundAboveRange { .. })));
        assert_eq!(bounded(0), Err(OperationError::NotPowerOfTwo(U256::ZERO)));
    }

    #[test]
    fn casts_go_to_integers_of_another_width_only() {
        let cast = |from, to| TypedOperation::check(Operation::Cast, &RawOperands::Cast(handle(from), to));
        assert!(cast(FheType::Bool, FheType::Uint8).is_ok());
        assert!(cast(FheType::Uint256, FheType::Uint8).is_ok());
        assert!(matches!(
            cast(FheType::Uint8, FheType::Uint8),
            Err(OperationError::InvalidCast { .. })
        ));
        assert!(matches!(
            cast(FheType::Uint8, FheType::Bool),
            Err(OperationError::InvalidCast { .. })
        ));
        assert!(matches!(
            cast(FheType::Uint8, FheType::Address),
            Err(OperationError::InvalidCast { .. })
        ));
        assert!(matches!(
            cast(FheType::Address, FheType::Uint8),
            Err(OperationError::UnsupportedType { .. })
        ));
    }

    #[test]
    fn lists_have_limits() {
        let values = vec![handle(FheType::Uint64); 61];
        assert!(TypedOperation::check(Operation::Sum, &RawOperands::List(&values[..60], FheType::Uint64)).is_ok());
        assert!(matches!(
            TypedOperation::check(Operation::Sum, &RawOperands::List(&values, FheType::Uint64)),
            Err(OperationError::ListTooLong { size: 61, limit: 60, .. })
        ));
        assert!(TypedOperation::check(Operation::Sum, &RawOperands::List(&[], FheType::Uint64)).is_ok());
    }

    #[test]
    fn a_result_handle_of_the_wrong_type_is_refused() {
        let operands = RawOperands::Unary(handle(FheType::Uint8));
        assert!(matches!(
            Computation::check(Operation::Neg, &operands, handle(FheType::Uint16)),
            Err(OperationError::ResultTypeMismatch { .. })
        ));
    }

    #[test]
    fn muldiv_knows_its_two_scalar_bytes() {
        let lhs = handle(FheType::Uint64);
        let check = |rhs, scalar_byte| {
            TypedOperation::check(
                Operation::MulDiv,
                &RawOperands::MulDiv {
                    lhs,
                    rhs,
                    divisor: U256::from(7),
                    scalar_byte,
                },
            )
        };
        assert_eq!(check(as_number(lhs), 1).unwrap().1.len(), 2);
        assert_eq!(check(U256::from(5), 3).unwrap().1.len(), 1);
        assert!(matches!(check(U256::from(5), 0), Err(OperationError::InvalidScalarByte { .. })));
    }
}
