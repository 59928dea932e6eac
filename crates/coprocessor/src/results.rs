//! What became of a handle.

use std::time::Duration;

use alloy::signers::{Signature, SignerSync};
use cipherloom_primitives::{B256, CiphertextForm, Handle, eip712::ciphertext_attestation_digest};
use cipherloom_store::{HandleState, InputKey, StoredCiphertext};

use crate::{Coprocessor, CoprocessorError};

/// What is known about the ciphertext of a handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandleStatus {
    /// No followed transaction published it and it is no admitted input. The chain may be ahead of us.
    Unknown,
    /// A recorded transaction will publish it.
    Pending,
    /// It can be had with [`Coprocessor::signed_ciphertext`].
    Computed,
    /// It can never be computed, for this reason.
    Failed(String),
}

/// A ciphertext and this coprocessor's word for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCiphertext {
    /// What it is the value of.
    pub handle: Handle,
    /// The form of `bytes`: packed. Everybody can compare it with what other coprocessors vouch for, at any time.
    pub form: CiphertextForm,
    /// The ciphertext.
    pub bytes: Vec<u8>,
    /// The Keccak hash of `bytes`.
    pub digest: B256,
    /// The key set it is encrypted under.
    pub key_set_id: B256,
    /// The signature over [`ciphertext_attestation_digest`].
    pub signature: Signature,
}

impl Coprocessor {
    /// Says what became of a handle.
    ///
    /// # Errors
    /// [`CoprocessorError::Store`].
    pub async fn handle_status(&self, handle: Handle) -> Result<HandleStatus, CoprocessorError> {
        if handle.chain_id() != self.chain_id() {
            return Ok(HandleStatus::Unknown);
        }
        Ok(match self.store().handle_state(handle).await? {
            HandleState::Unknown => HandleStatus::Unknown,
            HandleState::Pending => HandleStatus::Pending,
            // An admitted input is computed by expanding its list, which always succeeds.
            HandleState::Stored | HandleState::Admitted => HandleStatus::Computed,
            HandleState::Failed(reason) => HandleStatus::Failed(reason),
        })
    }

    /// Waits until a handle is computed or failed, at most this long, and says what became of it. An unknown handle is
    /// waited for too, since its block may not be followed yet.
    ///
    /// # Errors
    /// [`CoprocessorError::Store`].
    pub async fn wait_for(&self, handle: Handle, at_most: Duration) -> Result<HandleStatus, CoprocessorError> {
        let deadline = tokio::time::Instant::now() + at_most;
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            let status = self.handle_status(handle).await?;
            if matches!(status, HandleStatus::Computed | HandleStatus::Failed(_)) {
                return Ok(status);
            }
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return Ok(status),
                _ = changes.changed() => {}
                // For what other processes on the same store publish.
                () = tokio::time::sleep(self.config().idle_poll) => {}
            }
        }
    }

    /// Returns the ciphertext of a handle in packed form, signed. A value that is stored raw is packed for it, which takes as long as a few
    /// bootstraps.
    ///
    /// Whether anyone may see it is not asked here: ciphertexts are no secret, and who may decrypt is checked by the KMS.
    ///
    /// # Errors
    /// [`CoprocessorError::UnknownHandle`], [`CoprocessorError::NotComputed`] or [`CoprocessorError::Failed`] if there is
    /// none; [`CoprocessorError::WrongChain`] for a handle of another chain.
    pub async fn signed_ciphertext(&self, handle: Handle) -> Result<SignedCiphertext, CoprocessorError> {
        if handle.chain_id() != self.chain_id() {
            return Err(CoprocessorError::WrongChain {
                expected: self.chain_id(),
                found: handle.chain_id(),
            });
        }
        let stored = self.packed_stored(handle).await?;
        let attested = ciphertext_attestation_digest(handle, stored.key_set_id, stored.digest);
        let signature = self.signer().sign_hash_sync(&attested)?;
        Ok(SignedCiphertext {
            handle,
            form: stored.form,
            bytes: stored.bytes,
            digest: stored.digest,
            key_set_id: stored.key_set_id,
            signature,
        })
    }

    /// Returns the packed form of what the store has: as it was prepared, or as it is made of the bytes now.
    async fn packed_stored(&self, handle: Handle) -> Result<StoredCiphertext, CoprocessorError> {
        let heads = self.store().ciphertext_heads(&[handle]).await?;
        let head = heads.into_iter().next().flatten();
        if let Some(packed) = head.as_ref().and_then(|head| self.prepared().get(head)) {
            return Ok(packed);
        }
        let Some(stored) = self.store().ciphertext(handle).await? else {
            return self.expand_stored(handle).await;
        };
        let bytes = stored.digest;
        let packed = self.packed(stored).await?;
        // Between the two questions the bytes may have become others.
        if let Some(head) = head.filter(|head| head.digest == bytes) {
            self.prepared().put(&head, &packed);
        }
        Ok(packed)
    }

    /// Expands an admitted input that was not stored yet, and stores it.
    pub(crate) async fn expand_stored(&self, handle: Handle) -> Result<StoredCiphertext, CoprocessorError> {
        let Some(list) = self.store().admitted_input(InputKey::Handle(handle)).await? else {
            return Err(match self.store().handle_state(handle).await? {
                HandleState::Failed(reason) => CoprocessorError::Failed { handle, reason },
                HandleState::Unknown => CoprocessorError::UnknownHandle(handle),
                _ => CoprocessorError::NotComputed(handle),
            });
        };
        let ciphertexts = self.ciphertexts();
        let expanded = self.compute(move || ciphertexts.packed_input(handle, &list));
        let stored = expanded.await.map_err(|_| CoprocessorError::ThreadLost)??;
        self.store().add_ciphertexts(std::slice::from_ref(&stored)).await?;
        Ok(stored)
    }

    /// Brings a stored ciphertext to packed form.
    pub(crate) async fn packed(&self, stored: StoredCiphertext) -> Result<StoredCiphertext, CoprocessorError> {
        let handle = stored.handle;
        // What another key set's backend made is handed out as it is; the KMS refuses it by its key set.
        if stored.form == CiphertextForm::Packed || stored.key_set_id != self.key_set_id() {
            return Ok(stored);
        }
        let ciphertexts = self.ciphertexts();
        self.compute(move || ciphertexts.packed(stored))
            .await
            .map_err(|_| CoprocessorError::ThreadLost)?
            .map_err(|source| CoprocessorError::Ciphertext { handle, source })
    }
}
