//! Why a value has no result, and why a whole transaction is refused.

use std::sync::Arc;

use cipherloom_fhe::FheError;
use cipherloom_primitives::{FheType, Handle, Operation};

/// Why one value of a transaction cannot be computed. It fails alone, with everything that depends on it; the rest is computed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// An operand is neither computed by the transaction nor given from outside.
    #[error("operand {0} is not known")]
    UnknownOperand(Handle),
    /// An operand is the result of a later computation, or of this one: there is no order to compute them in.
    #[error("operand {0} is used before it is computed")]
    UsedBeforeComputed(Handle),
    /// An output that no computation produces.
    #[error("no computation produces {0}")]
    NotComputed(Handle),
    /// The operation does not satisfy the operation table.
    #[error("{operation}: {reason}")]
    InvalidOperation {
        /// The operation.
        operation: Operation,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// An operand has not the type the operation takes there.
    #[error("{operation} takes a {expected}, got a {found}")]
    OperandType {
        /// The operation.
        operation: Operation,
        /// What the operation takes.
        expected: FheType,
        /// What it was given.
        found: FheType,
    },
    /// A division by a scalar that is zero in the width of its type.
    #[error("{0}: division by zero")]
    DivisionByZero(Operation),
    /// No ciphertext was given for a value from outside.
    #[error("no ciphertext was given for {0}")]
    MissingInput(Handle),
    /// The ciphertext given for a value from outside has another type.
    #[error("{handle} should be a {expected}, its ciphertext is a {found}")]
    InputType {
        /// The value.
        handle: Handle,
        /// Its type.
        expected: FheType,
        /// The ciphertext's type.
        found: FheType,
    },
    /// The backend refused to compute it.
    #[error(transparent)]
    Backend(Arc<FheError>),
}

/// Why a transaction is refused or fails as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// More computations than one transaction can have.
    #[error("{count} computations; a transaction has at most {limit}")]
    TooManyComputations {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A scheduling policy that does not exist.
    #[error("unknown scheduling policy {0:?}; the policies are BATCHED, LOOP, FINE_GRAIN, MAX_PARALLELISM and MAX_LOCALITY")]
    UnknownPolicy(String),
    /// The backend has no machinery of blocks.
    #[error("this FHE backend does not compute on blocks")]
    NoBlocks,
    /// The operating system did not start a thread.
    #[error("starting the engine's threads: {0}")]
    Threads(String),
    /// The computation panicked, which is a fault in this software.
    #[error("the evaluation panicked: {0}")]
    Panicked(String),
    /// The pool was stopped before the end.
    #[error("the engine was stopped before the evaluation was finished")]
    Stopped,
}

impl From<FheError> for NodeError {
    fn from(error: FheError) -> Self {
        Self::Backend(Arc::new(error))
    }
}
