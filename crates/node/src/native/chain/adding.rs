//! Adding decided blocks: first to the disk, then to what everybody sees.

use std::sync::{Arc, MutexGuard};

use alloy::primitives::B256;
use cipherloom_primitives::quorum::CommitCertificate;

use super::{NativeChain, blocking, lock};
use crate::error::{NodeError, Result};
use crate::native::candidates::Candidate;
use crate::native::store::DecidedBlock;

impl NativeChain {
    /// Adds a block that [`Self::propose`] or [`Self::validate`] came to. It is on the disk when this returns. To commit the same block again changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`NodeError::UnknownCandidate`], [`NodeError::BlockRefused`] if the certificate is not one for this block, [`NodeError::Io`],
    /// [`NodeError::ShutDown`] or [`NodeError::Internal`].
    pub async fn commit(&self, hash: B256, certificate: CommitCertificate) -> Result<()> {
        let this = self.clone();
        blocking(move || {
            let turn = this.turn();
            if this.core()?.block_number(&hash).is_some() {
                return Ok(());
            }
            let candidate = this.candidates().get(&hash).ok_or(NodeError::UnknownCandidate(hash))?;
            this.check_certificate(candidate.block.header.number, hash, &certificate)?;
            this.add(&candidate, certificate, &turn)
        })
        .await
    }

    /// Adds a decided block from a peer, with the ciphertexts of its sidecar: nothing is computed, the signed state root proves them.
    ///
    /// # Errors
    ///
    /// [`NodeError::BlockRefused`] if block, certificate and sidecar do not belong together or the block does not follow on the head,
    /// [`NodeError::Io`], [`NodeError::ShutDown`] or [`NodeError::Internal`].
    pub async fn apply(&self, decided: DecidedBlock) -> Result<()> {
        let this = self.clone();
        blocking(move || {
            let turn = this.turn();
            if this.core()?.block_number(&decided.certificate.block_hash).is_some() {
                return Ok(());
            }
            let candidate = this.reconstruct(&decided)?;
            this.add(&candidate, decided.certificate, &turn)
        })
        .await
    }

    /// Writes a block and makes it the head. The caller has its turn.
    fn add(&self, candidate: &Candidate, certificate: CommitCertificate, _turn: &MutexGuard<'_, ()>) -> Result<()> {
        self.check_next(candidate.block.header.number)?;
        self.store().append(DecidedBlock {
            block: candidate.bytes.clone(),
            certificate: certificate.clone(),
            sidecar: candidate.sidecar.clone(),
        })?;
        self.adopt(candidate, certificate)
    }

    fn adopt(&self, candidate: &Candidate, certificate: CommitCertificate) -> Result<()> {
        let number = candidate.block.header.number;
        // Whoever sees the new head must find these.
        self.sets().note(number.saturating_add(1), candidate.next.clone());
        lock(&self.inner.certificates).push(certificate);
        self.change(|core| {
            core.adopt(Arc::clone(&candidate.block), candidate.state.clone());
            Ok(())
        })?;
        self.candidates().clear();
        Ok(())
    }

    /// Executes a block of the data directory.
    pub(super) fn replay(&self, decided: &DecidedBlock) -> Result<()> {
        let number = self.head()?.number.saturating_add(1);
        let candidate = self.reconstruct(decided).map_err(|error| match error {
            NodeError::BlockRefused(reason) => NodeError::ReplayRefused { number, reason },
            other => other,
        })?;
        self.adopt(&candidate, decided.certificate.clone())
    }
}
