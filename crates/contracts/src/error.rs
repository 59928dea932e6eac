//! Why a log or a call of a host contract could not be read.

use alloy_primitives::Address;
use cipherloom_primitives::{HandleError, OperationError, UnknownFheType};

/// A log of a host contract is not what its contract emits.
///
/// The contracts check everything that is checked here, so an error means that the addresses are those of other
/// contracts, that the contracts are of an unknown version, or that the chain's node returned wrong data. Reading the
/// same log again gives the same error.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The log has another number of topics than its event.
    #[error("event {event} of {emitter} has {found} topics instead of {expected}")]
    TopicCount {
        /// The event.
        event: &'static str,
        /// The contract.
        emitter: Address,
        /// How many topics the event has.
        expected: usize,
        /// How many topics the log has.
        found: usize,
    },
    /// A topic that should be an address is not one.
    #[error("topic {index} of event {event} is not an address")]
    TopicNotAddress {
        /// The event.
        event: &'static str,
        /// The position of the topic.
        index: usize,
    },
    /// The data are not the ABI encoding of the event's parameters.
    #[error("data of event {event}: {source}")]
    Data {
        /// The event.
        event: &'static str,
        /// What is wrong with them.
        source: alloy_sol_types::Error,
    },
    /// A handle in the event is malformed.
    #[error("event {event}: {source}")]
    Handle {
        /// The event.
        event: &'static str,
        /// What is wrong with it.
        source: HandleError,
    },
    /// A type number in the event is unknown.
    #[error("event {event}: {source}")]
    Type {
        /// The event.
        event: &'static str,
        /// The number.
        source: UnknownFheType,
    },
    /// The operation does not satisfy the operation table.
    #[error("event {event}: {source}")]
    Operation {
        /// The event.
        event: &'static str,
        /// The rule it breaks.
        source: OperationError,
    },
    /// An input was admitted under another handle or type than its own.
    #[error("event VerifyInput admits an input under another handle or type than its own")]
    InputMismatch,
    /// A call asked for a random value without the event that tells the seed.
    #[error("a call of {function} emitted no event with its seed")]
    NoSeed {
        /// The function.
        function: &'static str,
    },
}
