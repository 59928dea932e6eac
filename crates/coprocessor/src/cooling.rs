//! Cooling: values that no transaction can read in raw form any more are packed, and their raw bytes let go.
//!
//! Steps are small and idempotent: a value is listed, read, packed, and replaced in one write. Killed in between, nothing has happened; done by
//! two processes at once, it is done once. Whether a value has been cooled makes no difference to any result, because what a computation
//! reads follows from the chain ([`HotWindow`](cipherloom_primitives::HotWindow)), and the store lists nothing that is still read raw.

use cipherloom_primitives::{CiphertextForm, Handle};
use cipherloom_store::CoolingRequest;
use tokio_util::sync::CancellationToken;

use crate::{Coprocessor, CoprocessorError};

/// How many values are listed at a time.
const BATCH: u32 = 32;

impl Coprocessor {
    /// Cools values until told to stop, and looks for new ones now and then.
    pub(crate) async fn cool(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let cooled = tokio::select! {
                () = stop.cancelled() => return,
                cooled = self.cool_once() => cooled,
            };
            match cooled {
                Ok(cooled) if cooled == BATCH as usize => continue,
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
        let config = self.config();
        let request = CoolingRequest {
            chain_id: self.chain_id(),
            window: config.hot_window,
            margin_blocks: config.reorganisation_margin_blocks,
            limit: BATCH,
        };
        let handles = self.store().ciphertexts_to_cool(&request).await?;
        for handle in &handles {
            self.cool_one(*handle).await?;
        }
        if !handles.is_empty() {
            tracing::debug!(values = handles.len(), "packed old ciphertexts");
        }
        Ok(handles.len())
    }

    async fn cool_one(&self, handle: Handle) -> Result<(), CoprocessorError> {
        let Some(stored) = self.store().ciphertext(handle).await? else {
            return Ok(());
        };
        // Another process may have been faster, and its key set is another one's to pack with.
        if stored.form == CiphertextForm::Packed || stored.key_set_id != self.key_set_id() {
            return Ok(());
        }
        let ciphertexts = self.ciphertexts();
        let packed = self
            .compute(move || ciphertexts.packed(stored))
            .await
            .map_err(|_| CoprocessorError::ThreadLost)?
            .map_err(|source| CoprocessorError::Ciphertext { handle, source })?;
        self.store().cool_ciphertext(&packed).await?;
        Ok(())
    }
}
