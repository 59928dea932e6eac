//! What of a tenant's ciphertexts was published to a mirror.

use cipherloom_primitives::{B256, Handle};

use crate::StoreFuture;

/// Which packed ciphertexts were published, and who publishes now.
///
/// Every method fails with [`crate::StoreError::Database`] if the database does.
pub trait Publications: Send + Sync + 'static {
    /// Lists ciphertexts that are stored in packed form and not marked as published, by handle.
    fn ciphertexts_to_publish<'a>(&'a self, request: &'a PublicationRequest) -> StoreFuture<'a, Vec<Handle>>;

    /// Marks ciphertexts as published. One that has other bytes by now, or is gone, is left as it is.
    fn mark_published<'a>(&'a self, published: &'a [PublishedCiphertext]) -> StoreFuture<'a, ()>;

    /// Forgets that a chain's ciphertexts were published, so that they will be again: under another key, or to another mirror. Returns how
    /// many were.
    fn publish_again(&self, chain_id: u64) -> StoreFuture<'_, u64>;

    /// Claims publishing for one process until a time, or renews its claim, and says whether it has it. Nothing goes wrong if two processes
    /// publish the same; the claim spares them the work. A store of one process grants every claim.
    fn claim_publishing<'a>(&'a self, chain_id: u64, owner: &'a str, now_ms: u64, until_ms: u64) -> StoreFuture<'a, bool>;
}

/// Which ciphertexts to list for publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicationRequest {
    /// The chain.
    pub chain_id: u64,
    /// The handle after which to begin.
    pub after: Option<Handle>,
    /// The most handles to return.
    pub limit: u32,
}

impl PublicationRequest {
    /// The bytes that handles are compared with: those after them are listed. Before all of them is the empty string.
    pub(crate) fn after_bytes(&self) -> &[u8] {
        self.after.as_ref().map_or(&[], |handle| handle.as_slice())
    }
}

/// A ciphertext that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedCiphertext {
    /// What it is the value of.
    pub handle: Handle,
    /// The Keccak hash of the bytes that were published.
    pub digest: B256,
}
