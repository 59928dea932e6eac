//! Checks that stand before every evaluation, the same for all backends.

use cipherloom_primitives::{
    FheType, Operand, Operation, TypedOperation,
    operation::{CAST_TARGETS, Shape},
};

use crate::{ciphertext::Ciphertext, error::FheError};

/// Refuses an operation that the operation table does not allow, and inputs that are not of its types.
///
/// Operations that [`TypedOperation::check`] returned always pass the first half. It is repeated because an operation can also have been
/// read from storage, and because tfhe answers some of these cases with a panic.
///
/// # Errors
/// [`FheError::InvalidOperation`] or [`FheError::InputTypes`].
pub(crate) fn check(operation: &TypedOperation, inputs: &[&Ciphertext]) -> Result<(), FheError> {
    well_formed(operation).map_err(|reason| FheError::InvalidOperation {
        operation: operation.operation(),
        reason,
    })?;
    let expected = operation.input_types();
    if inputs.iter().map(|input| input.ty).eq(expected.iter().copied()) {
        Ok(())
    } else {
        let found = inputs.iter().map(|input| input.ty).collect();
        Err(FheError::InputTypes {
            operation: operation.operation(),
            expected,
            found,
        })
    }
}

/// Says which rule of the table the operation breaks.
fn well_formed(typed: &TypedOperation) -> Result<(), &'static str> {
    let operation = typed.operation();
    let spec = operation.spec();
    let supported = |ty: FheType| {
        if spec.types.contains(ty) {
            Ok(())
        } else {
            Err("the operation does not support this type")
        }
    };
    let fits = |value, ty: FheType| {
        if value <= ty.max_value() {
            Ok(())
        } else {
            Err("a scalar does not fit the type")
        }
    };
    match typed {
        TypedOperation::Binary { operation, ty, rhs } => {
            if !matches!(spec.shape, Shape::Binary(_)) {
                return Err("this is not an operation with two operands");
            }
            supported(*ty)?;
            match (operation, rhs) {
                (Operation::Div | Operation::Rem, Operand::Encrypted) => Err("the divisor must be a scalar"),
                (Operation::Div | Operation::Rem, Operand::Scalar(divisor)) if divisor.is_zero() => Err("the divisor is zero"),
                (_, Operand::Scalar(value)) => fits(*value, *ty),
                (_, Operand::Encrypted) => Ok(()),
            }
        }
        TypedOperation::Neg { ty } | TypedOperation::Not { ty } | TypedOperation::IfThenElse { ty } => supported(*ty),
        TypedOperation::Cast { from, to } => {
            supported(*from)?;
            if CAST_TARGETS.contains(*to) && from != to {
                Ok(())
            } else {
                Err("casts go to integers of another width")
            }
        }
        TypedOperation::TrivialEncrypt { value, ty } => supported(*ty).and_then(|()| fits(*value, *ty)),
        TypedOperation::Rand { ty, random_bits, .. } => {
            supported(*ty)?;
            if *random_bits <= ty.bits() {
                Ok(())
            } else {
                Err("there are more random bits than the type has")
            }
        }
        TypedOperation::Sum { ty, count } | TypedOperation::IsIn { ty, count } => {
            supported(*ty)?;
            let limit = spec.list_limit(*ty).unwrap_or_default();
            if usize::from(*count) <= limit {
                Ok(())
            } else {
                Err("the list is too long")
            }
        }
        TypedOperation::MulDiv { ty, factor, divisor } => {
            supported(*ty)?;
            if divisor.is_zero() {
                return Err("the divisor is zero");
            }
            fits(*divisor, *ty)?;
            match factor {
                Operand::Scalar(value) => fits(*value, *ty),
                Operand::Encrypted => Ok(()),
            }
        }
    }
}
