//! Noise-squashed lists of ciphertexts, which committees decrypt: large, slow to make, and a function of the ciphertext alone.
//!
//! A list belongs to the stored ciphertext that it was made of. It is stored only while exactly that ciphertext is, and when a block is withdrawn, its
//! lists go with its ciphertexts: what another branch computes for the same handle has other bytes. A block that comes back brings its ciphertexts, not its
//! lists; they are made again if somebody asks.
//!
//! The attestation of the coprocessor that made a list is stored beside it, so that whoever reads it can see that nobody else wrote it.

use cipherloom_primitives::{B256, Handle};

use crate::{StoreError, StoreFuture, object_digest};

/// How many bytes an attestation has: an ECDSA signature.
pub const ATTESTATION_BYTES: usize = 65;

/// A noise-squashed list of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SquashedList {
    /// What it is the value of.
    pub handle: Handle,
    /// The key set it was made under.
    pub key_set_id: B256,
    /// The Keccak hash of the raw form of the ciphertext that it was made of.
    pub raw_digest: B256,
    /// Names the keys of noise squashing that it was made with: a key set may get others.
    pub squashing_keys: B256,
    /// The Keccak hash of `bytes`.
    pub digest: B256,
    /// The list.
    pub bytes: Vec<u8>,
    /// The signature of the coprocessor that made it, over handle, key set and digest.
    pub attestation: [u8; ATTESTATION_BYTES],
}

impl SquashedList {
    /// Fails unless the bytes have the digest.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if object_digest(&self.bytes) == self.digest {
            Ok(())
        } else {
            Err(StoreError::corrupt(
                "squashed list",
                format!("its bytes do not have the digest {:x}", self.digest),
            ))
        }
    }
}

/// Reads an attestation from a column.
pub(crate) fn attestation(bytes: &[u8]) -> Result<[u8; ATTESTATION_BYTES], StoreError> {
    bytes
        .try_into()
        .map_err(|error| StoreError::corrupt("attestation of a squashed list", error))
}

/// The lists that a coprocessor made.
///
/// Every method fails with [`StoreError::Database`] if the database does.
pub trait Squashed: Send + Sync + 'static {
    /// Returns the list of a handle, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] or those of the object store if the bytes are damaged or gone; [`Squashed::add_squashed`] puts it right.
    fn squashed(&self, handle: Handle) -> StoreFuture<'_, Option<SquashedList>>;

    /// Stores a list, in place of one that is there, and says whether it did: not if the ciphertext that it was made of is not stored any more.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the bytes do not have the digest, [`StoreError::OutOfRange`] for a time that a database integer cannot hold.
    fn add_squashed<'a>(&'a self, list: &'a SquashedList, now_ms: u64) -> StoreFuture<'a, bool>;

    /// Lists values that anybody may have decrypted since one of the newest `blocks` blocks of a chain, and that have a ciphertext and no list: in the
    /// order in which they were made public, at most `limit`.
    fn public_without_list(&self, chain_id: u64, blocks: u64, limit: u32) -> StoreFuture<'_, Vec<Handle>>;

    /// Forgets lists that were stored before a time, the oldest first and at most this many, and says how many it were. They can be made again.
    fn forget_squashed(&self, chain_id: u64, before_ms: u64, limit: u32) -> StoreFuture<'_, u64>;
}
