//! Adding decided blocks: first to the disk, then to what everybody sees.

use std::sync::{Arc, MutexGuard};

use alloy::primitives::B256;
use cipherloom_primitives::quorum::{CommitCertificate, ValidatorSet};

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
            if this.has_block(&hash)? {
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
            if this.has_block(&decided.certificate.block_hash)? {
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
        let decided = DecidedBlock {
            block: candidate.bytes.clone(),
            certificate: certificate.clone(),
            sidecar: candidate.sidecar.clone(),
        };
        let changed = self.changed_set(candidate);
        self.store().append(decided, &candidate.block, changed.as_ref())?;
        self.adopt(candidate, certificate)
    }

    /// Who signs the next block, if that changes with this one.
    pub(super) fn changed_set(&self, candidate: &Candidate) -> Option<ValidatorSet> {
        let next = candidate.block.header.number.saturating_add(1);
        (self.sets().at(next) != Some(&candidate.next)).then(|| candidate.next.clone())
    }

    pub(super) fn adopt(&self, candidate: &Candidate, certificate: CommitCertificate) -> Result<()> {
        let number = candidate.block.header.number;
        // Whoever sees the new head must find these.
        self.sets().note(number.saturating_add(1), candidate.next.clone());
        lock(&self.inner.certificates).insert(number, certificate);
        let oldest = self.change(|core| {
            core.adopt(Arc::clone(&candidate.block), candidate.state.clone());
            Ok(core.older().map(|older| older.end()))
        })?;
        self.candidates().clear();
        if let Some(oldest) = oldest {
            let mut certificates = lock(&self.inner.certificates);
            while certificates.first_key_value().is_some_and(|(number, _)| *number < oldest) {
                certificates.pop_first();
            }
        }
        if let Some(states) = &*lock(&self.inner.states) {
            states.note(number, candidate.block.hash, &candidate.state);
        }
        Ok(())
    }
}
