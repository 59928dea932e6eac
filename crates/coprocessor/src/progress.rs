//! What a coprocessor tells about its work as it goes.

use std::time::Duration;

use cipherloom_primitives::{B256, FheType, Operation};

/// How long a transaction spent in each stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// From its recording to its lease, if the store knows when that was. Waiting for other transactions is part of it.
    pub queued: Option<Duration>,
    /// Reading what it needs from the store.
    pub load: Duration,
    /// Compiling its computations to bootstraps.
    pub compile: Duration,
    /// Making ciphertexts of what was read: unpacking, expanding inputs, re-randomising.
    pub take_in: Duration,
    /// Its bootstraps, from handing it to the engine to the results.
    pub evaluate: Duration,
    /// Writing its results as bytes.
    pub serialise: Duration,
    /// Publishing them in the store.
    pub publish: Duration,
}

/// Something that was begun or finished.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Progress {
    /// The evaluation of a transaction begins.
    Started {
        /// The hash of the transaction.
        transaction: B256,
        /// The operations that its outputs need and the types they work on, in the order of their events.
        operations: Vec<(Operation, FheType)>,
        /// How many bootstraps the engine makes of them.
        bootstraps: usize,
    },
    /// A transaction is being evaluated; about once a second.
    Evaluating {
        /// The hash of the transaction.
        transaction: B256,
        /// How many bootstraps and operations without kernel are done.
        done: usize,
        /// How many there are.
        of: usize,
    },
    /// A transaction is finished; its outputs are published.
    Transaction {
        /// The hash of the transaction.
        transaction: B256,
        /// How many ciphertexts it published.
        outputs: usize,
        /// How many outputs can never be computed.
        failures: usize,
        /// How many bootstraps were done for it, apart from reading inputs and writing results.
        bootstraps: u64,
        /// From lease to publication, in seconds.
        seconds: f64,
        /// What the time was spent on.
        times: StageTimes,
    },
    /// An input list was admitted for the first time.
    Input {
        /// How many values it has.
        values: usize,
        /// How long checking the proof took, in seconds.
        seconds: f64,
    },
}
