//! What a coprocessor tells about its work as it goes.

use cipherloom_primitives::{B256, FheType, Operation};

/// Something that was finished.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Progress {
    /// One computation of a transaction.
    Computation(ComputationFinished),
    /// A transaction; its outputs are published.
    Transaction {
        /// The hash of the transaction.
        transaction: B256,
        /// How many ciphertexts it published.
        outputs: usize,
        /// How many outputs can never be computed.
        failures: usize,
        /// From lease to publication, in seconds.
        seconds: f64,
    },
    /// An input list was admitted for the first time.
    Input {
        /// How many values it has.
        values: usize,
        /// How long checking the proof took, in seconds.
        seconds: f64,
    },
}

/// A computation that was evaluated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ComputationFinished {
    /// The hash of the transaction that asked for it.
    pub transaction: B256,
    /// The operation.
    pub operation: Operation,
    /// The type of the result.
    pub ty: FheType,
    /// How long it took, in seconds.
    pub seconds: f64,
}
