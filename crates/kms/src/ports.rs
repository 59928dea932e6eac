//! What a KMS node needs from outside: the chain, the ciphertexts, the time.

use cipherloom_primitives::{Address, B256, Bytes, Handle};
use futures_util::future::BoxFuture;

/// The host chain, as far as a KMS node reads it.
///
/// Every answer must come from the chain itself, through an endpoint the operator of the node trusts; a wrong answer here decrypts
/// what nobody allowed.
pub trait HostChainView: Send + Sync {
    /// Asks the access-control contract whether a handle was made public (`isAllowedForDecryption`).
    fn is_allowed_for_decryption(&self, handle: Handle) -> BoxFuture<'_, Result<bool, ChainViewError>>;

    /// Asks the access-control contract whether an account may use a handle permanently (`persistAllowed`).
    fn persist_allowed(&self, handle: Handle, account: Address) -> BoxFuture<'_, Result<bool, ChainViewError>>;

    /// Asks the access-control contract whether the delegator lets the delegate read a handle through a contract
    /// (`isHandleDelegatedForUserDecryption`, which includes that delegator and contract may use the handle).
    fn is_handle_delegated_for_user_decryption(
        &self,
        delegator: Address,
        delegate: Address,
        contract: Address,
        handle: Handle,
    ) -> BoxFuture<'_, Result<bool, ChainViewError>>;

    /// Returns the time, in seconds since 1970, before which an account has declared its permits invalid; 0 if never.
    fn decryption_signatures_invalidated_before(&self, account: Address) -> BoxFuture<'_, Result<u64, ChainViewError>>;

    /// Returns who may attest ciphertexts.
    fn coprocessors(&self) -> BoxFuture<'_, Result<CoprocessorSet, ChainViewError>>;

    /// Returns the current KMS context.
    fn kms_context(&self) -> BoxFuture<'_, Result<KmsContext, ChainViewError>>;
}

/// The registered coprocessors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoprocessorSet {
    /// Their signers' addresses.
    pub signers: Vec<Address>,
    /// How many of them must agree.
    pub threshold: usize,
}

/// The registered KMS nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsContext {
    /// The id of the context.
    pub id: B256,
    /// The id of its current epoch.
    pub epoch: B256,
    /// The nodes' signers.
    pub signers: Vec<Address>,
}

/// The chain could not be read; says nothing about what is on it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host chain cannot be read: {0}")]
pub struct ChainViewError(pub String);

/// Where ciphertexts come from. It is not trusted: what it returns is checked against the coprocessors' attestations.
pub trait CiphertextSource: Send + Sync {
    /// Returns the ciphertext behind a handle, without waiting for it to be computed.
    fn ciphertext(&self, handle: Handle) -> BoxFuture<'_, Result<SignedCiphertext, SourceError>>;
}

/// A ciphertext with the word of coprocessors that it is the one behind a handle.
#[derive(Clone, Debug)]
pub struct SignedCiphertext {
    /// The handle.
    pub handle: Handle,
    /// The key set it is encrypted under.
    pub key_set_id: B256,
    /// The ciphertext in its stored form.
    pub bytes: Vec<u8>,
    /// 65-byte signatures over [`cipherloom_primitives::eip712::ciphertext_attestation_digest`], one per coprocessor.
    pub attestations: Vec<Bytes>,
}

/// Why a source has no ciphertext.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// It is known and will be computed.
    #[error("not computed yet")]
    NotReady,
    /// Nothing is known about the handle: perhaps its block was not read yet.
    #[error("unknown handle")]
    Unknown,
    /// Its computation failed for good.
    #[error("its computation failed: {0}")]
    Failed(String),
    /// The source could not answer.
    #[error("the source of ciphertexts does not answer: {0}")]
    Unavailable(String),
}

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Returns the seconds since 1970.
    fn now_seconds(&self) -> u64;
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_seconds(&self) -> u64 {
        // A clock before 1970 reads as 0, at which no permit is valid yet.
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_secs())
    }
}
