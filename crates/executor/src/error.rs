//! Why a value has no result, and why an executor does not start.

use std::{net::SocketAddr, sync::Arc};

use cipherloom_engine::EngineError;
use cipherloom_primitives::{Handle, OperationError};
use cipherloom_rpc::fhevm::executor::SyncComputeError;

/// Why one result of a request cannot be computed. [`Self::code`] gives the protocol's number for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ComputeError {
    /// A list of inputs cannot be read, or its proof does not hold.
    #[error("input list {list}: {reason}")]
    BadInputList {
        /// Its number in the request, from 0.
        list: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A ciphertext cannot be read, or is not what its handle says.
    #[error("ciphertext {position}: {reason}")]
    BadInputCiphertext {
        /// Its number in the request, from 0.
        position: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no operation of this number.
    #[error("there is no operation number {0}")]
    InvalidOperation(i32),
    /// The operation does not exist for these types or operands.
    #[error("{0}")]
    UnsupportedOperation(String),
    /// The operands are too few, too many, malformed, or of the wrong kind or type.
    #[error("{0}")]
    BadInputs(String),
    /// The ciphertext of an unknown handle was asked for.
    #[error("{0} is neither given nor computed by this request")]
    UnknownHandle(Handle),
    /// An operand is neither given nor computed.
    #[error("operand {0} is neither given nor computed by this request")]
    MissingProducer(Handle),
    /// A divisor is zero, or the backend refused.
    #[error("{0}")]
    ComputationFailed(String),
    /// A result has no usable handle, or one that another computation has too.
    #[error("{0}")]
    BadResultHandles(String),
    /// A result is needed to compute itself.
    #[error("the computations need each other's results in a circle")]
    UnsatisfiedDependence,
    /// An operand cannot be computed.
    #[error("operand {operand}: {cause}")]
    Operand {
        /// The operand.
        operand: Handle,
        /// Why it cannot be computed.
        cause: Arc<ComputeError>,
    },
}

impl ComputeError {
    /// Returns the protocol's number of the error.
    #[must_use]
    pub fn code(&self) -> SyncComputeError {
        match self {
            Self::BadInputList { .. } => SyncComputeError::BadInputList,
            Self::BadInputCiphertext { .. } => SyncComputeError::BadInputCiphertext,
            Self::InvalidOperation(_) => SyncComputeError::InvalidOperation,
            Self::UnsupportedOperation(_) => SyncComputeError::UnsupportedOperation,
            Self::BadInputs(_) => SyncComputeError::BadInputs,
            Self::UnknownHandle(_) => SyncComputeError::UnknownHandle,
            Self::MissingProducer(_) | Self::ComputationFailed(_) => SyncComputeError::ComputationFailed,
            Self::BadResultHandles(_) => SyncComputeError::BadResultHandles,
            Self::UnsatisfiedDependence => SyncComputeError::UnsatisfiedDependence,
            Self::Operand { cause, .. } => cause.code(),
        }
    }

    /// Says whether the fault is here and not in an operand.
    #[must_use]
    pub const fn is_cause(&self) -> bool {
        !matches!(self, Self::Operand { .. })
    }

    /// Names the operand through which this error is another value's too. Long chains are not told link by link.
    pub(crate) fn through(&self, operand: Handle) -> Self {
        let cause = match self {
            Self::Operand { cause, .. } => Arc::clone(cause),
            cause => Arc::new(cause.clone()),
        };
        Self::Operand { operand, cause }
    }
}

impl From<OperationError> for ComputeError {
    fn from(error: OperationError) -> Self {
        let reason = error.to_string();
        match error {
            OperationError::UnsupportedType { .. }
            | OperationError::UnknownType(_)
            | OperationError::NotScalar(_)
            | OperationError::InvalidCast { .. } => Self::UnsupportedOperation(reason),
            OperationError::DivisionByZero(_) => Self::ComputationFailed(reason),
            OperationError::ResultTypeMismatch { .. } => Self::BadResultHandles(reason),
            _ => Self::BadInputs(reason),
        }
    }
}

/// Why an executor does not start or fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecutorError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The engine does not start.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The descriptions for reflection cannot be read.
    #[error("server reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The server stopped by itself.
    #[error("the server stopped: {0}")]
    Server(#[from] tonic::transport::Error),
}
