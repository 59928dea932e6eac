//! Why an answer cannot be sealed or is not accepted.

use cipherloom_primitives::{Address, Handle};

/// Errors of this crate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SigncryptionError {
    /// A user's public key has the wrong length.
    #[error("the public key has {0} bytes; a serialized ML-KEM-512 key has 869")]
    PublicKeyLength(usize),
    /// A user's public key is no ML-KEM-512 encapsulation key.
    #[error("the public key is not a valid ML-KEM-512 encapsulation key")]
    PublicKey,
    /// A user's public key of the 0.6 generation is none.
    #[error("the public key is not a serialized X25519 key, which has 40 bytes and is no point of low order")]
    BoxKey,
    /// Encrypting failed; it does not for answers of this length.
    #[error("encrypting failed")]
    Encryption,
    /// The operating system gave no randomness.
    #[error("no randomness: {0}")]
    Randomness(String),
    /// More values than one request can ask for.
    #[error("an answer carries at most {max} values, got {found}")]
    TooManyValues {
        /// The limit.
        max: usize,
        /// What was asked for.
        found: usize,
    },
    /// A value does not fit the type of its handle.
    #[error("the value of {0} does not fit its type")]
    ValueOutOfRange(Handle),
    /// Signing failed; it does not for a valid key.
    #[error("signing failed")]
    Signing,
    /// The payload cannot be read.
    #[error("malformed answer: {0}")]
    Malformed(&'static str),
    /// The answer is for an extra data that was not asked for.
    #[error("the answer's extra data is not the request's")]
    ExtraData,
    /// The answer's outer signature is not by the expected node.
    #[error("the answer is not signed by KMS node {expected}")]
    WrongSigner {
        /// Who should have signed.
        expected: Address,
    },
    /// The answer is of another party, committee or form than the registered node's.
    #[error("the answer is not that of party {expected}: its {what} differs")]
    WrongParty {
        /// Which party the node is.
        expected: u32,
        /// What differs.
        what: &'static str,
    },
    /// The answer was made for another key, user or list of handles.
    #[error("the answer belongs to another request")]
    WrongRequest,
    /// A value cannot be decrypted with this key, or was changed on its way.
    #[error("the value of {0} does not decrypt with this key")]
    Undecryptable(Handle),
    /// A value decrypts but is not signed by the node for this user, key and request.
    #[error("the value of {handle} fails its inner check: {what}")]
    InnerCheck {
        /// Whose value it is.
        handle: Handle,
        /// Which check failed.
        what: &'static str,
    },
}
