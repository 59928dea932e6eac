//! What a KMS node needs from outside: the chain, the ciphertexts, the time.

use std::{collections::BTreeSet, sync::Arc};

use cipherloom_chain::{AclEvidence, ContextOnChain};
use cipherloom_primitives::{AclFacts, AclQuestion, Address, B256, Bytes, Handle};
use futures_util::future::BoxFuture;

/// The host chain, as far as a KMS node reads it.
pub trait HostChainView: Send + Sync {
    /// Chooses the block at which everything about one request is read: all its rights must have held at the same time.
    ///
    /// Evidence that came with the request may be used, and need not be believed.
    fn pin(&self, now_seconds: u64, evidence: Option<AclEvidence>) -> BoxFuture<'_, Result<Box<dyn PinnedView>, ChainViewError>>;
}

/// The host chain at one block.
///
/// Every answer must come from the chain itself, through nodes that the operator trusts together; a wrong answer here decrypts what nobody allowed.
pub trait PinnedView: Send + Sync {
    /// Returns which block it is.
    fn block(&self) -> PinnedBlock;

    /// Asks the access-control contract.
    fn acl<'a>(&'a self, questions: &'a BTreeSet<AclQuestion>) -> BoxFuture<'a, Result<AclFacts, ChainViewError>>;

    /// Returns by what a ciphertext is known to be the one behind its handle.
    fn provenance(&self) -> BoxFuture<'_, Result<Provenance, ChainViewError>>;

    /// Returns the ciphertext that the chain itself has stored for a handle, and that is proven to be there at this block. Asked only where
    /// [`Self::provenance`] is [`Provenance::ChainState`].
    fn stored_ciphertext(&self, handle: Handle) -> BoxFuture<'_, Result<Vec<u8>, SourceError>> {
        let reason = format!("the chain of {handle} keeps no ciphertexts in its state");
        Box::pin(std::future::ready(Err(SourceError::Failed(reason))))
    }

    /// Returns the nodes of the KMS context that extra data name.
    fn kms_context<'a>(&'a self, extra_data: &'a [u8]) -> BoxFuture<'a, Result<ContextOnChain, ChainViewError>>;

    /// Asks an account that is a contract whether it recognises a signature (ERC-1271).
    fn is_valid_signature<'a>(
        &'a self,
        account: Address,
        digest: B256,
        signature: &'a Bytes,
    ) -> BoxFuture<'a, Result<bool, ChainViewError>>;
}

/// The block at which a request is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinnedBlock {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Its time, in seconds since 1970.
    pub timestamp: u64,
}

/// By what a ciphertext is known to be the one behind its handle.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Provenance {
    /// Enough of these coprocessors signed that it is. It comes from a [`CiphertextSource`].
    Attestations(CoprocessorSet),
    /// The validators of a native chain computed it and have it in the state that they signed. It comes from [`PinnedView::stored_ciphertext`].
    ChainState {
        /// The one key set of the chain.
        key_set_id: B256,
    },
}

/// The registered coprocessors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoprocessorSet {
    /// Their signers' addresses.
    pub signers: Vec<Address>,
    /// How many of them must agree.
    pub threshold: usize,
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

/// The source for a native chain, whose ciphertexts are in its state: it has none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCiphertexts;

impl CiphertextSource for NoCiphertexts {
    fn ciphertext(&self, _: Handle) -> BoxFuture<'_, Result<SignedCiphertext, SourceError>> {
        let reason = "no coprocessor works for this chain".to_owned();
        Box::pin(std::future::ready(Err(SourceError::Failed(reason))))
    }
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

/// Where the nodes of a committee get noise-squashed ciphertexts. It is not trusted: what it returns is checked against the coprocessors' attestations.
pub trait SquashedSource: Send + Sync {
    /// Returns the squashed list of one handle. It may wait for it to be computed and squashed, for a time that the source limits; all nodes that ask for
    /// a handle share one computation.
    fn squashed(&self, handle: Handle) -> BoxFuture<'_, Result<SignedSquashed, SourceError>>;
}

/// A noise-squashed ciphertext with the word of coprocessors that it is the one behind a handle.
#[derive(Clone, Debug)]
pub struct SignedSquashed {
    /// The handle.
    pub handle: Handle,
    /// The key set it is under.
    pub key_set_id: B256,
    /// The packed list of this one value (`NoiseSquasher::squash_list` of it alone), some 98 KB. A pure function of key set and stored ciphertext, so that all coprocessors sign the same bytes.
    pub bytes: Vec<u8>,
    /// 65-byte signatures over [`cipherloom_primitives::eip712::squashed_ciphertext_attestation_digest`], one per coprocessor.
    pub attestations: Vec<Bytes>,
}

/// Where the nodes of a committee get the squashed lists of a chain.
#[derive(Clone)]
pub enum SquashedLists {
    /// Coprocessors make them, and attest that they are the ones behind their handles.
    Attested(Arc<dyn SquashedSource>),
    /// This node makes them itself, of ciphertexts that are proven to stand in the state of a native chain.
    MadeHere(Arc<dyn SquashStored>),
}

/// Squashes the noise of ciphertexts that are proven to be the ones behind their handles. What it returns is believed: it is part of this node.
pub trait SquashStored: Send + Sync {
    /// Returns the packed list of one value (`NoiseSquasher::squash_list` of it alone). Takes seconds; it may wait for a while and then say that the list is not ready yet, and goes on meanwhile.
    fn squash(&self, stored: StoredCiphertext) -> BoxFuture<'_, Result<Arc<Vec<u8>>, SquashError>>;
}

/// A ciphertext of a native chain, proven to be the one behind its handle, that somebody may have decrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCiphertext {
    /// The handle.
    pub handle: Handle,
    /// The key set of its chain.
    pub key_set_id: B256,
    /// The packed form, as it stands in the state.
    pub bytes: Vec<u8>,
    /// Who asks for it, so that nobody keeps all others waiting; nothing for values that were made public.
    pub requester: Option<Address>,
}

/// Why a ciphertext is not squashed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SquashError {
    /// It is being squashed.
    #[error("it is being squashed")]
    NotReady,
    /// As many values wait as may, for this requester or in all.
    #[error("as many values wait to be squashed as may")]
    Busy,
    /// The keys cannot be used. An operator has to look at it.
    #[error("the keys of noise squashing cannot be used: {0}")]
    Keys(String),
    /// This value cannot be squashed.
    #[error("it cannot be squashed: {0}")]
    Failed(String),
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
