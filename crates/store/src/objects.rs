//! Ciphertext bytes outside of the database, by digest.
//!
//! [`CiphertextObjects`] is the seam: a place that keeps bytes under the Keccak hash they have. Whoever reads checks the hash, so the
//! place needs no trust, and anyone may mirror it. [`CiphertextDirectory`] is a directory, on a network file system if several machines
//! share a database, that any web server can publish as it is. [`CloudObjects`] is a bucket: S3 and what speaks its protocol, Google Cloud
//! Storage, Azure Blob Storage. [`ObjectsUrl`] names any of them. Objects have the same names everywhere: `ab/ab12…` for the digest `ab12…`.
//!
//! Bytes are put there before the database refers to them. A crash between the two leaves an object that nothing refers to, which does
//! no harm. No database connection is held meanwhile.
//!
//! A [`PublicPlace`] also keeps documents by name; it is what a mirror of ciphertexts is made of. [`WebMirror`] reads one over HTTP.
//!
//! **Failures** of a place are [`StoreError::Object`] and always worth another try: a full disk, a network that is gone, credentials that
//! have ended are put right by people, and what was to be kept waits until then.

mod cloud;
mod directory;
mod transport;
mod url;
mod web;

use cipherloom_primitives::B256;
use futures_util::{StreamExt, TryStreamExt, stream};
use sha3::{Digest, Keccak256};

use crate::{StoreError, StoreFuture, StoredCiphertext};

pub use cloud::{CloudObjects, ObjectLimits};
pub use directory::CiphertextDirectory;
pub use url::ObjectsUrl;
pub use web::WebMirror;

/// The most bytes of an object that is read; a raw ciphertext of 256 bits has about two million.
pub const MAX_OBJECT_BYTES: usize = 64 << 20;

/// The most bytes of a document that is read.
pub const MAX_DOCUMENT_BYTES: usize = 1 << 20;

/// How many objects of one call are on their way at a time.
const CONCURRENT_PUTS: usize = 8;

/// A place for the bytes of ciphertexts.
///
/// Every method fails with [`StoreError::Object`] if the place does.
pub trait CiphertextObjects: Send + Sync + 'static {
    /// Keeps bytes under their Keccak hash, durably. Repeating it changes nothing.
    fn put<'a>(&'a self, digest: B256, bytes: &'a [u8]) -> StoreFuture<'a, ()>;

    /// Returns the bytes, unchecked.
    fn read(&self, digest: B256) -> StoreFuture<'_, Option<Vec<u8>>>;

    /// Removes bytes that nothing refers to, unless they were put again just now.
    fn remove(&self, digest: B256) -> StoreFuture<'_, ()>;
}

/// A place that keeps documents by name beside the bytes of ciphertexts.
///
/// Names are relative, with `/` between their parts. Every method fails with [`StoreError::Object`] if the place does.
pub trait PublicPlace: CiphertextObjects {
    /// Keeps a document under a name, in place of one that is there. Nobody ever sees a part of it.
    fn put_document<'a>(&'a self, name: &'a str, bytes: &'a [u8]) -> StoreFuture<'a, ()>;

    /// Returns a document of at most [`MAX_DOCUMENT_BYTES`], unchecked.
    fn document<'a>(&'a self, name: &'a str) -> StoreFuture<'a, Option<Vec<u8>>>;
}

/// Returns the name of the object with a digest.
#[must_use]
pub fn object_name(digest: B256) -> String {
    let digits = format!("{digest:x}");
    format!("{}/{digits}", digits.get(..2).unwrap_or_default())
}

/// Returns the Keccak hash of bytes, under which they are kept.
#[must_use]
pub fn object_digest(bytes: &[u8]) -> B256 {
    B256::from_slice(&Keccak256::digest(bytes))
}

/// Fails unless bytes have this Keccak hash.
pub(crate) fn check(digest: B256, bytes: &[u8]) -> Result<(), StoreError> {
    if object_digest(bytes) == digest {
        Ok(())
    } else {
        Err(StoreError::DamagedObject {
            digest,
            size_bytes: bytes.len(),
        })
    }
}

/// Reads the bytes with a digest, and makes sure of it.
///
/// # Errors
/// [`StoreError::MissingObject`], [`StoreError::DamagedObject`], [`StoreError::Object`].
pub async fn read_checked(objects: &dyn CiphertextObjects, digest: B256) -> Result<Vec<u8>, StoreError> {
    let bytes = objects.read(digest).await?.ok_or(StoreError::MissingObject { digest })?;
    check(digest, &bytes)?;
    Ok(bytes)
}

/// Puts the bytes of ciphertexts, some at a time. If one fails, others may have been put, which does no harm.
pub(crate) async fn put_all(objects: &dyn CiphertextObjects, ciphertexts: &[StoredCiphertext]) -> Result<(), StoreError> {
    for ciphertext in ciphertexts {
        if object_digest(&ciphertext.bytes) != ciphertext.digest {
            let reason = format!("its bytes do not have the digest {:x}", ciphertext.digest);
            return Err(StoreError::corrupt("ciphertext to store", reason));
        }
    }
    let puts: Vec<StoreFuture<'_, ()>> = ciphertexts
        .iter()
        .map(|ciphertext| objects.put(ciphertext.digest, &ciphertext.bytes))
        .collect();
    stream::iter(puts).buffer_unordered(CONCURRENT_PUTS).try_collect().await
}

/// Builds the error of a place.
fn failed(action: &'static str, object: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Object {
        action,
        object: object.into(),
        source: source.into(),
    }
}
