//! What a chain keeps: decided blocks, certificates and states, in memory and in its data directory.

use alloy::primitives::Bytes;
use cipherloom_primitives::quorum::CommitCertificate;

use super::{NativeChain, Restored, blocking, lock};
use crate::error::Result;
use crate::native::codec::encode_header;
use crate::native::store::states::States;
use crate::native::store::{DecidedBlock, Found};

impl NativeChain {
    /// Returns a decided block for a peer; `None` for one that is not there yet, and for block 0.
    ///
    /// # Errors
    ///
    /// [`NodeError::Io`], [`NodeError::ShutDown`], [`NodeError::JournalCorrupt`] or [`NodeError::IndexDamaged`].
    ///
    /// [`NodeError::Io`]: crate::NodeError::Io
    /// [`NodeError::ShutDown`]: crate::NodeError::ShutDown
    /// [`NodeError::JournalCorrupt`]: crate::NodeError::JournalCorrupt
    /// [`NodeError::IndexDamaged`]: crate::NodeError::IndexDamaged
    pub async fn decided(&self, height: u64) -> Result<Option<DecidedBlock>> {
        let this = self.clone();
        blocking(move || {
            let found = this.store().find(height)?;
            match found {
                Found::Here(decided) => Ok(decided),
                Found::There(archive) => archive.decided(height),
            }
        })
        .await
    }

    /// Returns the certificate of a block; `None` for one that is not there yet, and for block 0.
    ///
    /// # Errors
    ///
    /// For blocks that have left memory: [`NodeError::Io`], [`NodeError::ShutDown`] or [`NodeError::IndexDamaged`].
    ///
    /// [`NodeError::Io`]: crate::NodeError::Io
    /// [`NodeError::ShutDown`]: crate::NodeError::ShutDown
    /// [`NodeError::IndexDamaged`]: crate::NodeError::IndexDamaged
    pub fn certificate(&self, height: u64) -> Result<Option<CommitCertificate>> {
        Ok(self.certified_header(height)?.map(|(_, certificate)| certificate))
    }

    /// Tells how the chain came back from its data directory.
    #[must_use]
    pub fn restored(&self) -> Restored {
        *lock(&self.inner.restored)
    }

    /// The last block whose state is in the data directory: a start executes the blocks after it.
    #[must_use]
    pub fn last_state_kept(&self) -> Option<u64> {
        lock(&self.inner.states).as_deref().and_then(States::last_kept)
    }

    /// Waits until no state is being written.
    pub fn wait_for_state(&self) {
        let states = lock(&self.inner.states).clone();
        if let Some(states) = states {
            states.wait();
        }
    }

    /// Writes the state and gives up the data directory, for all clones: reading from memory goes on, nothing is added any more. It blocks for as long as
    /// that takes.
    pub fn close(&self) {
        let _turn = self.turn();
        let states = lock(&self.inner.states).take();
        if let (Some(states), Ok(core)) = (states, self.core()) {
            let (number, hash, state) = (core.head().header.number, core.head().hash, core.head_state().clone());
            drop(core);
            states.finish(number, hash, &state);
        }
        self.store().close();
    }

    /// The RLP of a header and its certificate, as light clients get them.
    pub(in crate::native) fn certified_header(&self, height: u64) -> Result<Option<(Bytes, CommitCertificate)>> {
        let certificate = lock(&self.inner.certificates).get(&height).cloned();
        if let Some(certificate) = certificate {
            let core = self.core()?;
            if let Some(block) = core.block(height) {
                return Ok(Some((encode_header(&block.header), certificate)));
            }
        }
        let older = self.core()?.older().filter(|older| height < older.end());
        let archive = older.and_then(|_| self.store().archive());
        archive.map_or(Ok(None), |archive| archive.certified(height))
    }
}
