//! Reading a mirror, believing nothing.

use std::sync::Arc;

use cipherloom_primitives::{Address, Handle};
use cipherloom_store::{PublicPlace, StoreError};

use super::{CiphertextRecord, MirrorError, MirrorManifest, manifest};

/// A mirror to read.
#[derive(Clone)]
pub struct Mirror {
    place: Arc<dyn PublicPlace>,
}

/// A ciphertext of a mirror with a record that verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirroredCiphertext {
    /// Who vouches for it, and for what.
    pub record: CiphertextRecord,
    /// The ciphertext.
    pub bytes: Vec<u8>,
}

impl Mirror {
    /// Reads a mirror in a place.
    #[must_use]
    pub fn new(place: Arc<dyn PublicPlace>) -> Self {
        Self { place }
    }

    /// Returns what the mirror says it has; an empty manifest if it has none.
    ///
    /// # Errors
    /// [`MirrorError::Place`], [`MirrorError::Malformed`], [`MirrorError::Layout`].
    pub async fn manifest(&self) -> Result<MirrorManifest, MirrorError> {
        manifest::read(self.place.as_ref()).await
    }

    /// Returns the record of a handle by the first of these signers that has one. Its signature has been checked.
    ///
    /// # Errors
    /// [`MirrorError::NotPublished`], and the others that say what is wrong with a record. A signer's record that does not verify is an error
    /// even if another signer has one that does: somebody changed it.
    pub async fn record(&self, handle: Handle, signers: &[Address]) -> Result<CiphertextRecord, MirrorError> {
        for signer in signers {
            let name = CiphertextRecord::document_name(handle, *signer);
            let Some(document) = self.place.document(&name).await? else {
                continue;
            };
            let record = CiphertextRecord::parse(&document)?;
            if record.handle != handle {
                return Err(MirrorError::OtherHandle {
                    asked: handle,
                    found: record.handle,
                });
            }
            record.check_signature(&[*signer])?;
            return Ok(record);
        }
        Err(MirrorError::NotPublished(handle))
    }

    /// Fetches the ciphertext of a handle that one of these signers vouches for. Record, signature and bytes have been checked.
    ///
    /// # Errors
    /// As [`Self::record`], and [`MirrorError::OtherBytes`] or [`MirrorError::Place`] if the bytes are not there as vouched for.
    pub async fn fetch(&self, handle: Handle, signers: &[Address]) -> Result<MirroredCiphertext, MirrorError> {
        let record = self.record(handle, signers).await?;
        // Found by the signed digest: where the record says they are is for people.
        let digest = record.digest;
        let bytes = self.place.read(digest).await?.ok_or(StoreError::MissingObject { digest })?;
        record.check_bytes(&bytes)?;
        Ok(MirroredCiphertext { record, bytes })
    }
}
