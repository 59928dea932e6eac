//! From a computation on the wire to a checked operation.
//!
//! Operands are those of the executor contract of the 0.6 generation. Scalars are big-endian, of any length up to 256 bytes, and reduced
//! to the width of the type. Later operations follow the same pattern: a sum takes handles, a membership test the value and
//! the list, a product with divisor the two factors and a scalar.

use cipherloom_primitives::{
    Computation, FheType, Handle, HandleError, Operation, OperationError, RawOperands, TypedOperation, U256, operation::Shape,
};
use cipherloom_rpc::fhevm::{
    common::FheOperation,
    executor::{SyncComputation, SyncInput, sync_input::Input},
};

use crate::error::ComputeError;

/// The longest scalar, that of the widest type of the generation.
const MAX_SCALAR_BYTES: usize = 256;

/// What a computation asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Requested {
    /// An operation.
    Operation(Computation),
    /// The ciphertext of a handle under another one.
    Copy {
        /// The handle.
        of: Handle,
        /// The other one.
        result: Handle,
    },
}

impl Requested {
    /// Returns the handle of the result.
    pub(crate) const fn result(&self) -> Handle {
        match self {
            Self::Operation(computation) => computation.result,
            Self::Copy { result, .. } => *result,
        }
    }

    /// Lists the encrypted operands.
    pub(crate) fn operands(&self) -> &[Handle] {
        match self {
            Self::Operation(computation) => &computation.inputs,
            Self::Copy { of, .. } => std::slice::from_ref(of),
        }
    }
}

/// An operand.
#[derive(Clone, Copy, Debug)]
enum Given {
    Handle(Handle),
    Scalar(U256),
}

/// Reads the handle of a computation's result.
pub(crate) fn result_handle(computation: &SyncComputation) -> Result<Handle, ComputeError> {
    let bytes = computation
        .result_handles
        .first()
        .ok_or_else(|| ComputeError::BadResultHandles("the result has no handle".to_owned()))?;
    handle(bytes).map_err(|error| match error {
        HandleError::UnknownType { .. } => ComputeError::UnsupportedOperation(error.to_string()),
        _ => ComputeError::BadResultHandles(error.to_string()),
    })
}

/// Reads a computation and checks it against the operation table.
pub(crate) fn requested(computation: &SyncComputation) -> Result<Requested, ComputeError> {
    let number = computation.operation;
    let operation = FheOperation::try_from(number).map_err(|_| ComputeError::InvalidOperation(number))?;
    let result = result_handle(computation)?;
    let given = computation.inputs.iter().map(operand).collect::<Result<Vec<_>, _>>()?;
    if operation == FheOperation::FheGetCiphertext {
        return copy(&given, result);
    }
    let operation = u8::try_from(number).ok().and_then(|id| Operation::try_from(id).ok());
    let operation = operation.ok_or(ComputeError::InvalidOperation(number))?;
    let (typed, inputs) = checked(operation, &given, result.fhe_type())?;
    if typed.result_type() != result.fhe_type() {
        return Err(ComputeError::from(OperationError::ResultTypeMismatch {
            operation,
            expected: typed.result_type(),
            found: result.fhe_type(),
        }));
    }
    Ok(Requested::Operation(Computation {
        operation: typed,
        inputs,
        result,
    }))
}

fn copy(given: &[Given], result: Handle) -> Result<Requested, ComputeError> {
    match given {
        [Given::Handle(of)] if of.fhe_type() == result.fhe_type() => Ok(Requested::Copy { of: *of, result }),
        [Given::Handle(of)] => Err(ComputeError::BadResultHandles(format!(
            "the ciphertext is a {}, but the result handle says {}",
            of.fhe_type(),
            result.fhe_type()
        ))),
        _ => Err(ComputeError::BadInputs("FHE_GET_CIPHERTEXT takes one handle".to_owned())),
    }
}

/// Arranges operands as the operation table has them, and checks them.
fn checked(operation: Operation, given: &[Given], result: FheType) -> Result<(TypedOperation, Vec<Handle>), ComputeError> {
    let wrong = || ComputeError::BadInputs(OperationError::WrongShape(operation).to_string());
    let handles = |given: &[Given]| {
        let handle = |given: &Given| match given {
            Given::Handle(handle) => Some(*handle),
            Given::Scalar(_) => None,
        };
        given.iter().map(handle).collect::<Option<Vec<_>>>().ok_or_else(wrong)
    };
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
            (operation, RawOperands::Trivial(trivial(*value, ty), ty))
        }
        (Shape::Select, [Given::Handle(condition), Given::Handle(if_true), Given::Handle(if_false)]) => {
            (operation, RawOperands::Select(*condition, *if_true, *if_false))
        }
        (Shape::Random { bounded: false }, [Given::Scalar(seed), Given::Scalar(ty)]) => {
            (operation, RawOperands::Random(low_16(*seed), fhe_type(*ty)?, None))
        }
        (Shape::Random { bounded: true }, [Given::Scalar(seed), Given::Scalar(bound), Given::Scalar(ty)]) => {
            let ty = fhe_type(*ty)?;
            // A power of two beyond the type's range bounds nothing.
            if bound.is_power_of_two() && *bound > ty.max_value() && operation.spec().types.contains(ty) {
                (Operation::Rand, RawOperands::Random(low_16(*seed), ty, None))
            } else {
                (operation, RawOperands::Random(low_16(*seed), ty, Some(*bound)))
            }
        }
        (Shape::List, values) => {
            list = handles(values)?;
            (operation, RawOperands::List(&list, result))
        }
        (Shape::Membership, [Given::Handle(value), members @ ..]) => {
            list = handles(members)?;
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
        _ => return Err(wrong()),
    };
    Ok(TypedOperation::check(operation, &raw)?)
}

/// Writes a second operand and its scalar byte as the executor contract takes them.
fn second(given: Given, if_handle: u8, if_scalar: u8) -> (U256, u8) {
    match given {
        Given::Handle(handle) => (U256::from_be_bytes(handle.as_b256().0), if_handle),
        Given::Scalar(value) => (value, if_scalar),
    }
}

/// In the generation an `ebool` is true if the last byte is not zero, where truncation would look at the last bit alone.
fn trivial(value: U256, ty: FheType) -> U256 {
    match ty {
        FheType::Bool => U256::from(u8::from(value.byte(0) > 0)),
        _ => value,
    }
}

fn fhe_type(number: U256) -> Result<FheType, ComputeError> {
    let id = u8::try_from(number).map_err(|_| ComputeError::BadInputs(format!("{number} is not a type")))?;
    FheType::try_from(id).map_err(|error| ComputeError::UnsupportedOperation(error.to_string()))
}

/// The chain hands over a word; the executor contract uses its last 16 bytes.
fn low_16(seed: U256) -> [u8; 16] {
    let mut low = [0; 16];
    low.copy_from_slice(seed.to_be_bytes::<32>().split_at(16).1);
    low
}

/// Reads 32 bytes as a handle.
pub(crate) fn handle(bytes: &[u8]) -> Result<Handle, HandleError> {
    Handle::try_from(bytes)
}

fn operand(input: &SyncInput) -> Result<Given, ComputeError> {
    match &input.input {
        Some(Input::Handle(bytes)) => match handle(bytes) {
            Ok(handle) => Ok(Given::Handle(handle)),
            Err(error @ HandleError::UnknownType { .. }) => Err(ComputeError::UnsupportedOperation(error.to_string())),
            Err(error) => Err(ComputeError::BadInputs(error.to_string())),
        },
        Some(Input::Scalar(bytes)) if bytes.is_empty() => Err(ComputeError::BadInputs("a scalar is empty".to_owned())),
        Some(Input::Scalar(bytes)) if bytes.len() > MAX_SCALAR_BYTES => Err(ComputeError::BadInputs(format!(
            "a scalar has {} bytes; at most {MAX_SCALAR_BYTES} are accepted",
            bytes.len()
        ))),
        Some(Input::Scalar(bytes)) => {
            let low = bytes.get(bytes.len().saturating_sub(32)..).unwrap_or_default();
            Ok(Given::Scalar(U256::from_be_slice(low)))
        }
        None => Err(ComputeError::BadInputs("an operand is neither a handle nor a scalar".to_owned())),
    }
}
