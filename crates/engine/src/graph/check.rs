//! Whether an operation satisfies the operation table.
//!
//! Operations from chain events were checked when they were decoded. They are checked again because a graph can also be
//! built from stored or received data, and the kernels rely on it.

use cipherloom_primitives::{FheType, Operand, Operation, TypedOperation, operation::CAST_TARGETS, operation::Shape};

use crate::error::NodeError;

/// Checks an operation against the table, the types of its operands and the type of its result.
pub(super) fn check(operation: &TypedOperation, operands: &[FheType], result: FheType) -> Result<(), NodeError> {
    let kind = operation.operation();
    let invalid = |reason| Err(NodeError::InvalidOperation { operation: kind, reason });
    let supported = |ty: FheType| kind.spec().types.contains(ty);
    match operation {
        TypedOperation::Binary { ty, rhs, .. } => {
            if !matches!(kind.spec().shape, Shape::Binary(_)) {
                return invalid("does not take two operands");
            }
            if !supported(*ty) {
                return invalid("does not exist for this type");
            }
            if matches!(rhs, Operand::Scalar(value) if *value > ty.max_value()) {
                return invalid("has a scalar beyond its type");
            }
            if matches!(kind, Operation::Div | Operation::Rem) {
                match rhs {
                    Operand::Encrypted => return invalid("takes a scalar divisor"),
                    Operand::Scalar(value) if value.is_zero() => return Err(NodeError::DivisionByZero(kind)),
                    Operand::Scalar(_) => {}
                }
            }
        }
        TypedOperation::Neg { ty }
        | TypedOperation::Not { ty }
        | TypedOperation::IfThenElse { ty }
        | TypedOperation::Sum { ty, .. }
        | TypedOperation::IsIn { ty, .. } => {
            if !supported(*ty) {
                return invalid("does not exist for this type");
            }
        }
        TypedOperation::Cast { from, to } => {
            if !supported(*from) || !CAST_TARGETS.contains(*to) || from == to {
                return invalid("does not convert between these types");
            }
        }
        TypedOperation::TrivialEncrypt { value, ty } => {
            if *value > ty.max_value() {
                return invalid("has a value beyond its type");
            }
        }
        TypedOperation::Rand { ty, random_bits, .. } => {
            if !supported(*ty) || *random_bits > ty.bits() {
                return invalid("does not exist for this type and number of bits");
            }
        }
        TypedOperation::MulDiv { ty, factor, divisor } => {
            if !supported(*ty) {
                return invalid("does not exist for this type");
            }
            if divisor.is_zero() {
                return Err(NodeError::DivisionByZero(kind));
            }
            if *divisor > ty.max_value() || matches!(factor, Operand::Scalar(value) if *value > ty.max_value()) {
                return invalid("has a scalar beyond its type");
            }
        }
    }
    let expected = operation.input_types();
    if expected.len() != operands.len() {
        return invalid("has the wrong number of operands");
    }
    if let Some((expected, found)) = expected.iter().zip(operands).find(|(expected, found)| expected != found) {
        return Err(NodeError::OperandType {
            operation: kind,
            expected: *expected,
            found: *found,
        });
    }
    if operation.result_type() != result {
        return invalid("does not have a result of the type its handle says");
    }
    Ok(())
}
