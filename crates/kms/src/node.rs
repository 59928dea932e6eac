//! A KMS node: requests in, signed answers out.

use std::{future::ready, sync::Arc, time::Instant};

use cipherloom_chain::AclEvidence;
use cipherloom_fhe::Decrypt;
use cipherloom_primitives::{
    Address, B256, Handle, U256,
    decryption::{PublicDecryptionAnswer, PublicDecryptionRequest, UserDecryptionRequest, UserDecryptionShare, abi_words},
    eip712::SigningDomains,
};
use cipherloom_signcryption::{AnswerContext, Randomness, seal, sign_digest};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;

use crate::{
    admission::Admission,
    audit::{AuditEntry, AuditLog},
    checks::check_context,
    error::KmsError,
    ports::{CiphertextSource, Clock, HostChainView, PinnedView, Provenance, SourceError},
    provenance,
    signing_key::NodeKey,
    timings::{Step, Timings},
};

/// How many ciphertexts are fetched at once for one request.
pub(crate) const CONCURRENT_FETCHES: usize = 8;

/// How much a node does at once.
#[derive(Clone, Copy, Debug)]
pub struct KmsLimits {
    /// Requests being answered; more are refused with [`KmsError::Overloaded`].
    pub requests: usize,
    /// Requests being decrypted, each on a blocking thread; others wait for their turn.
    pub decryptions: usize,
}

impl Default for KmsLimits {
    fn default() -> Self {
        Self {
            requests: 256,
            decryptions: 2,
        }
    }
}

/// What a node is made of.
pub struct KmsParts {
    /// The secret key's side of the key set.
    pub decrypt: Arc<dyn Decrypt>,
    /// The id of the key set; ciphertexts under others are refused.
    pub key_set_id: B256,
    /// What answers are signed with.
    pub signing_key: NodeKey,
    /// Where signatures are valid.
    pub domains: SigningDomains,
    /// The host chain.
    pub chain: Arc<dyn HostChainView>,
    /// Where ciphertexts come from, of a chain that has none in its state; otherwise [`crate::NoCiphertexts`].
    pub ciphertexts: Arc<dyn CiphertextSource>,
    /// Where decryptions are recorded.
    pub audit: AuditLog,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How much the node does at once.
    pub limits: KmsLimits,
}

/// A centralised KMS node; see the crate's documentation for what it checks and in which order.
pub struct KmsNode {
    shared: Arc<KmsParts>,
    admission: Admission,
    decryptions: Arc<Semaphore>,
    timings: Arc<Timings>,
}

impl KmsNode {
    /// Builds a node. Nothing is read yet.
    #[must_use]
    pub fn new(parts: KmsParts) -> Self {
        let decryptions = Arc::new(Semaphore::new(parts.limits.decryptions.max(1)));
        let (chain, clock) = (Arc::clone(&parts.chain), Arc::clone(&parts.clock));
        let admission = Admission::new(parts.domains, chain, clock, parts.signing_key.address(), parts.limits.requests);
        Self {
            shared: Arc::new(parts),
            admission,
            decryptions,
            timings: Arc::default(),
        }
    }

    /// Returns the address that answers recover to; it must be registered on chain.
    #[must_use]
    pub fn address(&self) -> Address {
        self.shared.signing_key.address()
    }

    /// Returns the audit log, for its head.
    #[must_use]
    pub fn audit(&self) -> &AuditLog {
        &self.shared.audit
    }

    /// Returns where the time of decryptions goes.
    #[must_use]
    pub fn timings(&self) -> &Timings {
        &self.timings
    }

    /// Checks that this node is in the current KMS context, so that a wrong set-up is seen at the start.
    ///
    /// # Errors
    /// [`KmsError::NotRegistered`] if it is not, [`KmsError::Chain`] if the chain cannot be read.
    pub async fn check_registration(&self) -> Result<(), KmsError> {
        let chain = self.admission.pin(self.shared.clock.now_seconds(), None).await?;
        check_context(&*chain, &[], self.address()).await
    }

    /// Decrypts handles that were made public and signs the result for contracts to check.
    ///
    /// Dropping the future abandons the request; a decryption that has begun still ends and is recorded.
    ///
    /// # Errors
    /// [`KmsError`]; its methods say what to tell the requester.
    pub async fn public_decrypt(&self, request: PublicDecryptionRequest) -> Result<PublicDecryptionAnswer, KmsError> {
        self.public_decrypt_with(request, None).await
    }

    /// As [`Self::public_decrypt`], with evidence that came with the request: it can spare this node's endpoints work, and is not believed.
    ///
    /// # Errors
    /// As [`Self::public_decrypt`].
    pub async fn public_decrypt_with(
        &self,
        request: PublicDecryptionRequest,
        evidence: Option<AclEvidence>,
    ) -> Result<PublicDecryptionAnswer, KmsError> {
        let _turn = self.admission.enter()?;
        let start = Instant::now();
        let admitted = self.admission.public(&request, evidence, |_| Box::pin(ready(Ok(())))).await?;
        let start = self.timings.lap(Step::Checks, start);
        let ciphertexts = self.ciphertexts(&request.handles, &*admitted.chain, &admitted.provenance).await?;
        self.timings.lap(Step::Ciphertexts, start);

        let entry = admitted.entry;
        self.decrypt(ciphertexts, entry, move |shared, values| {
            let values: Vec<U256> = values.into_iter().map(|(_, value)| value).collect();
            let result = abi_words(&values);
            let digest = shared
                .domains
                .public_decryption_digest(&request.handles, &result, &request.extra_data);
            let signature = sign_digest(shared.signing_key.signing_key(), digest).map_err(KmsError::Sealing)?;
            Ok(PublicDecryptionAnswer {
                decrypted_result: result.into(),
                signatures: vec![signature.to_vec().into()],
                extra_data: request.extra_data,
            })
        })
        .await
    }

    /// Decrypts handles to the key of a user, or of a delegate, who proves by a signature that they want it.
    ///
    /// # Errors
    /// [`KmsError`]; its methods say what to tell the requester.
    pub async fn user_decrypt(&self, request: UserDecryptionRequest) -> Result<UserDecryptionShare, KmsError> {
        self.user_decrypt_with(request, None).await
    }

    /// As [`Self::user_decrypt`], with evidence that came with the request: it can spare this node's endpoints work, and is not believed.
    ///
    /// # Errors
    /// As [`Self::user_decrypt`].
    pub async fn user_decrypt_with(
        &self,
        request: UserDecryptionRequest,
        evidence: Option<AclEvidence>,
    ) -> Result<UserDecryptionShare, KmsError> {
        let _turn = self.admission.enter()?;
        let start = Instant::now();
        let (admitted, public_key) = self.admission.user(&request, evidence, |_| Box::pin(ready(Ok(())))).await?;
        let start = self.timings.lap(Step::Checks, start);
        let handles = &admitted.entry.handles;
        let ciphertexts = self.ciphertexts(handles, &*admitted.chain, &admitted.provenance).await?;
        self.timings.lap(Step::Ciphertexts, start);

        let entry = admitted.entry;
        self.decrypt(ciphertexts, entry, move |shared, values| {
            let context = AnswerContext {
                domains: &shared.domains,
                public_key: &public_key,
                user: request.user,
                extra_data: &request.extra_data,
            };
            seal(&context, &values, shared.signing_key.signing_key(), Randomness::generate).map_err(KmsError::Sealing)
        })
        .await
    }

    /// Fetches the ciphertexts and checks where they come from.
    async fn ciphertexts(
        &self,
        handles: &[Handle],
        chain: &dyn PinnedView,
        provenance: &Provenance,
    ) -> Result<Vec<(Handle, Vec<u8>)>, KmsError> {
        stream::iter(handles.iter().copied())
            .map(|handle| async move { Ok((handle, self.ciphertext(handle, chain, provenance).await?)) })
            .buffered(CONCURRENT_FETCHES)
            .try_collect()
            .await
    }

    async fn ciphertext(&self, handle: Handle, chain: &dyn PinnedView, provenance: &Provenance) -> Result<Vec<u8>, KmsError> {
        let shared = &self.shared;
        match provenance {
            Provenance::Attestations(coprocessors) => {
                let fetched = shared.ciphertexts.ciphertext(handle).await;
                let ciphertext = fetched.map_err(|source| unavailable(handle, source))?;
                provenance::check(&(&ciphertext).into(), handle, shared.key_set_id, coprocessors).inspect_err(|error| {
                    tracing::error!(%handle, %error, "refused a ciphertext; the coprocessor's storage may have been tampered with");
                })?;
                Ok(ciphertext.bytes)
            }
            Provenance::ChainState { key_set_id } => {
                provenance::check_stored(*key_set_id, handle, shared.key_set_id)?;
                let stored = chain.stored_ciphertext(handle).await;
                stored.map_err(|source| unavailable(handle, source))
            }
        }
    }

    /// Decrypts on a blocking thread, records the decryption, then lets `answer` make the answer.
    async fn decrypt<T: Send + 'static>(
        &self,
        ciphertexts: Vec<(Handle, Vec<u8>)>,
        entry: AuditEntry,
        answer: impl FnOnce(&KmsParts, Vec<(Handle, U256)>) -> Result<T, KmsError> + Send + 'static,
    ) -> Result<T, KmsError> {
        let start = Instant::now();
        let turn = Arc::clone(&self.decryptions).acquire_owned().await.map_err(|_| KmsError::Task)?;
        let (shared, timings) = (Arc::clone(&self.shared), Arc::clone(&self.timings));
        let (kind, requester, count) = (entry.kind, entry.requester, entry.handles.len());
        let work = move || {
            // Held by the work itself: it goes on when the request is abandoned.
            let _turn = turn;
            let start = timings.lap(Step::Turn, start);
            let values = ciphertexts
                .iter()
                .map(|(handle, bytes)| {
                    let handle = *handle;
                    let value = shared
                        .decrypt
                        .decrypt(handle.fhe_type(), bytes)
                        .map_err(|source| KmsError::Decryption { handle, source })?;
                    Ok((handle, value))
                })
                .collect::<Result<_, KmsError>>()?;
            // On disk before anything leaves: an answer without a record must not exist.
            let start = timings.lap(Step::Decryption, start);
            shared.audit.append(entry)?;
            let start = timings.lap(Step::Audit, start);
            let answer = answer(&shared, values)?;
            timings.lap(Step::Answer, start);
            timings.count();
            Ok::<_, KmsError>(answer)
        };
        let answer = tokio::task::spawn_blocking(work).await.map_err(|_| KmsError::Task)??;
        tracing::info!(?kind, ?requester, handles = count, "decrypted");
        Ok(answer)
    }
}

/// Says why there is no ciphertext.
pub(crate) fn unavailable(handle: Handle, source: SourceError) -> KmsError {
    match source {
        // Unknown to the source, but the chain allows it: the source lags behind the chain.
        SourceError::NotReady | SourceError::Unknown => KmsError::NotReady(handle),
        source => KmsError::Ciphertext { handle, source },
    }
}
