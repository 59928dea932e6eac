//! Cooling: values that no transaction can read in raw form any more are packed, and their raw bytes let go.
//!
//! Steps are small and idempotent: a value is listed, read, packed, and replaced in one write. Killed in between, nothing has happened; done by
//! two processes at once, it is done once. Whether a value has been cooled makes no difference to any result, because what a computation
//! reads follows from the chain ([`HotWindow`](cipherloom_primitives::HotWindow)), and the store lists nothing that is still read raw.

use cipherloom_primitives::{CiphertextForm, Handle};
use tokio_util::sync::CancellationToken;

use crate::{Coprocessor, CoprocessorError, config::COOLING_BATCH};

impl Coprocessor {
    /// Cools values until told to stop, and looks for new ones now and then.
    pub(crate) async fn cool(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.cool_some(&stop).await {
                Ok(cooled) if cooled == COOLING_BATCH as usize => continue,
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "packing old ciphertexts failed, trying again"),
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(self.config().cooling_interval) => {}
            }
        }
    }

    /// Packs some of the values that no transaction can read in raw form any more, and says how many there were.
    ///
    /// # Errors
    /// [`CoprocessorError::Store`], and [`CoprocessorError::Ciphertext`] if stored bytes are damaged.
    pub async fn cool_once(&self) -> Result<usize, CoprocessorError> {
        self.cool_some(&CancellationToken::new()).await
    }

    async fn cool_some(&self, stop: &CancellationToken) -> Result<usize, CoprocessorError> {
        let handles = self.store().ciphertexts_to_cool(&self.config().cooling_request()).await?;
        self.cool_all(&handles, stop).await?;
        Ok(handles.len())
    }

    /// Packs values that were listed, one after the other until told to stop.
    pub(crate) async fn cool_all(&self, handles: &[Handle], stop: &CancellationToken) -> Result<(), CoprocessorError> {
        // Processes on one store list the same values. Each begins elsewhere, so that they meet late.
        let begin = self
            .config()
            .owner
            .bytes()
            .fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        let (last, first) = handles.split_at(begin.checked_rem(handles.len()).unwrap_or_default());
        for handle in first.iter().chain(last) {
            if stop.is_cancelled() {
                return Ok(());
            }
            self.cool_one(*handle).await?;
        }
        if !handles.is_empty() {
            tracing::debug!(values = handles.len(), "packed old ciphertexts");
        }
        Ok(())
    }

    async fn cool_one(&self, handle: Handle) -> Result<(), CoprocessorError> {
        let Some(stored) = self.store().ciphertext(handle).await? else {
            return Ok(());
        };
        // Another process may have been faster, and its key set is another one's to pack with.
        if stored.form == CiphertextForm::Packed || stored.key_set_id != self.key_set_id() {
            return Ok(());
        }
        let packed = match self.prepared().of(&stored) {
            Some(packed) => packed,
            None => self.packed(stored).await?,
        };
        self.store().cool_ciphertext(&packed).await?;
        self.config().metrics.work().packed(1);
        Ok(())
    }
}
