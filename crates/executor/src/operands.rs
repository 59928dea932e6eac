//! From a computation on the wire to a checked operation.
//!
//! Operands stand in the order of [`Given`]. Scalars have any length up to 256 bytes.

use cipherloom_primitives::{Computation, Given, Handle, HandleError, Operation, OperationError, TypedOperation};
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
    let (typed, inputs) = TypedOperation::check_given(operation, &given, Some(result.fhe_type()))?;
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
        Some(Input::Scalar(bytes)) => Ok(Given::scalar(bytes)),
        None => Err(ComputeError::BadInputs("an operand is neither a handle nor a scalar".to_owned())),
    }
}
