//! What can go wrong with keys, inputs and ciphertexts.

use std::path::PathBuf;

use cipherloom_primitives::{FheType, Operation, U256};

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FheError {
    /// An operation that the operation table does not allow.
    #[error("{operation}: {reason}")]
    InvalidOperation {
        /// The operation.
        operation: Operation,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// The inputs of an operation are not of the types it takes.
    #[error("{operation} takes inputs of types {expected:?}, got {found:?}")]
    InputTypes {
        /// The operation.
        operation: Operation,
        /// What the operation table says.
        expected: Vec<FheType>,
        /// What was given.
        found: Vec<FheType>,
    },
    /// A text is no key set id.
    #[error("a key set id is 64 hexadecimal digits")]
    KeySetId,
    /// A ciphertext of one backend was given to another.
    #[error("the ciphertext belongs to another backend")]
    ForeignCiphertext,
    /// An input list cannot be read.
    #[error("malformed input list: {0}")]
    MalformedInput(String),
    /// The proof of an input list does not hold for this contract, user and chain.
    #[error("the zero-knowledge proof of the input list is not valid for this contract, user and chain")]
    InvalidProof,
    /// A stored ciphertext cannot be read.
    #[error("malformed {ty} ciphertext: {reason}")]
    MalformedCiphertext {
        /// The type it should have.
        ty: FheType,
        /// What is wrong with it.
        reason: String,
    },
    /// Too many values for one input list.
    #[error("{count} values with {bits} bits do not fit one input list (at most 255 values and 2048 bits)")]
    TooManyInputs {
        /// How many values there are.
        count: usize,
        /// Their bits together, `ebool` counting 2.
        bits: u32,
    },
    /// A plaintext does not fit the type it should be encrypted as.
    #[error("{value} does not fit {ty}")]
    ValueOutOfRange {
        /// The plaintext.
        value: U256,
        /// The type.
        ty: FheType,
    },
    /// A linear combination of blocks can leave the values a block has room for.
    #[error("a combination of blocks takes values from {min} to {max}, but a block holds 0 to 15")]
    BlockRange {
        /// The smallest value it can take.
        min: i64,
        /// The largest value it can take.
        max: i64,
    },
    /// A linear combination of blocks is too noisy to be looked up.
    #[error("a combination of blocks has noise level {level}, above the parameters' limit of 5")]
    BlockNoise {
        /// Its noise level.
        level: u64,
    },
    /// A lookup table that cannot be evaluated by one bootstrap.
    #[error("the lookup table {0}")]
    LookupTable(&'static str),
    /// A block can be larger than the largest input of the table it should be looked up in.
    #[error("a block of values up to {degree} cannot be looked up in a table for inputs up to {max_input}")]
    LookupInput {
        /// The block's largest value.
        degree: u8,
        /// The table's largest input.
        max_input: u8,
    },
    /// Blocks that do not make a ciphertext of this type.
    #[error("the blocks make no {ty} ciphertext: {reason}")]
    UncleanBlocks {
        /// The type they should have.
        ty: FheType,
        /// What is wrong with them.
        reason: &'static str,
    },
    /// A key set is made for the GPU backend, which cannot run here.
    #[error("the key set is made for the GPU backend, and {0}")]
    Gpu(&'static str),
    /// A key file is missing or unreadable.
    #[error("key file {path}: {source}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Key material is not what its manifest says, or does not match the parameters.
    #[error("key material {what}: {reason}")]
    KeyMaterial {
        /// Which part.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl FheError {
    /// Says that an input list is shorter than its user thinks.
    pub(crate) fn no_input_at(position: u8, count: usize) -> Self {
        Self::MalformedInput(format!("there is no value {position} in a list of {count}"))
    }

    /// Says what is wrong with a part of a key set.
    pub(crate) fn key(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::KeyMaterial {
            what: what.into(),
            reason: reason.to_string(),
        }
    }
}
