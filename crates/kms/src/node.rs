//! A KMS node: requests in, signed answers out.

use std::{sync::Arc, time::Instant};

use cipherloom_chain::AclEvidence;
use cipherloom_fhe::Decrypt;
use cipherloom_primitives::{
    Address, B256, Handle, U256,
    decryption::{PublicDecryptionAnswer, PublicDecryptionRequest, UserDecryptionRequest, UserDecryptionShare, abi_words},
    eip712::SigningDomains,
};
use cipherloom_signcryption::{AnswerContext, Randomness, UserPublicKey, seal, sign_digest};
use futures_util::{StreamExt, TryStreamExt, future::try_join3, stream};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    audit::{AuditEntry, AuditLog, DecryptionKind},
    checks::{check_context, check_permit_signature, check_public, check_readable, request_digest},
    error::KmsError,
    ports::{CiphertextSource, Clock, CoprocessorSet, HostChainView, PinnedView, SignedCiphertext, SourceError},
    provenance,
    signing_key::NodeKey,
    timings::{Step, Timings},
};

/// How many ciphertexts are fetched at once for one request.
const CONCURRENT_FETCHES: usize = 8;

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
    /// Where ciphertexts come from.
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
    requests: Semaphore,
    decryptions: Arc<Semaphore>,
    timings: Arc<Timings>,
}

impl KmsNode {
    /// Builds a node. Nothing is read yet.
    #[must_use]
    pub fn new(parts: KmsParts) -> Self {
        let requests = Semaphore::new(parts.limits.requests.max(1));
        let decryptions = Arc::new(Semaphore::new(parts.limits.decryptions.max(1)));
        Self {
            shared: Arc::new(parts),
            requests,
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
        let chain = self.pin(self.shared.clock.now_seconds(), None).await?;
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
        let _turn = self.admit()?;
        let start = Instant::now();
        let shared = &self.shared;
        request.validate(shared.domains.host_chain_id)?;
        let now = shared.clock.now_seconds();
        let chain = self.pin(now, evidence).await?;
        let questions = request.acl_questions();
        let ((), facts, coprocessors) = try_join3(
            check_context(&*chain, &request.extra_data, self.address()),
            async { Ok(chain.acl(&questions).await?) },
            async { Ok(chain.coprocessors().await?) },
        )
        .await?;
        check_public(&request, &facts)?;
        let start = self.timings.lap(Step::Checks, start);
        let ciphertexts = self.ciphertexts(&request.handles, &coprocessors).await?;
        self.timings.lap(Step::Ciphertexts, start);

        let entry = AuditEntry {
            time: now,
            kind: DecryptionKind::Public,
            requester: None,
            owners: Vec::new(),
            handles: request.handles.clone(),
            request: request_digest(&request)?,
        };
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
        let _turn = self.admit()?;
        let start = Instant::now();
        let shared = &self.shared;
        let now = shared.clock.now_seconds();
        request.validate(shared.domains.host_chain_id, now)?;
        let public_key = UserPublicKey::from_blob(&request.public_key).map_err(KmsError::PublicKey)?;
        let chain = self.pin(now, evidence).await?;
        check_permit_signature(&*chain, &request, &shared.domains).await?;
        let questions = request.acl_questions();
        let ((), facts, coprocessors) = try_join3(
            check_context(&*chain, &request.extra_data, self.address()),
            async { Ok(chain.acl(&questions).await?) },
            async { Ok(chain.coprocessors().await?) },
        )
        .await?;
        // Where the block is old, a delegation may have ended since; where the chain's clock is ahead, it has ended there.
        check_readable(&request, &facts, now.max(chain.block().timestamp))?;
        let handles = request.handles();
        let start = self.timings.lap(Step::Checks, start);
        let ciphertexts = self.ciphertexts(&handles, &coprocessors).await?;
        self.timings.lap(Step::Ciphertexts, start);

        let mut owners: Vec<Address> = request.values.iter().map(|value| value.owner).collect();
        owners.retain(|owner| *owner != request.user);
        owners.sort_unstable();
        owners.dedup();
        let entry = AuditEntry {
            time: now,
            kind: if owners.is_empty() {
                DecryptionKind::User
            } else {
                DecryptionKind::Delegated
            },
            requester: Some(request.user),
            owners,
            handles,
            request: request_digest(&request)?,
        };
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

    fn admit(&self) -> Result<SemaphorePermit<'_>, KmsError> {
        self.requests.try_acquire().map_err(|_| KmsError::Overloaded)
    }

    async fn pin(&self, now: u64, evidence: Option<AclEvidence>) -> Result<Box<dyn PinnedView>, KmsError> {
        Ok(self.shared.chain.pin(now, evidence).await?)
    }

    /// Fetches the ciphertexts and checks where they come from.
    async fn ciphertexts(&self, handles: &[Handle], coprocessors: &CoprocessorSet) -> Result<Vec<SignedCiphertext>, KmsError> {
        let shared = &self.shared;
        stream::iter(handles.iter().copied())
            .map(|handle| async move {
                let ciphertext = shared.ciphertexts.ciphertext(handle).await.map_err(|source| match source {
                    // Unknown to the source, but the chain allows it: the source lags behind the chain.
                    SourceError::NotReady | SourceError::Unknown => KmsError::NotReady(handle),
                    source => KmsError::Ciphertext { handle, source },
                })?;
                provenance::check(&ciphertext, handle, shared.key_set_id, coprocessors).inspect_err(|error| {
                    tracing::error!(%handle, %error, "refused a ciphertext; the coprocessor's storage may have been tampered with");
                })?;
                Ok(ciphertext)
            })
            .buffered(CONCURRENT_FETCHES)
            .try_collect()
            .await
    }

    /// Decrypts on a blocking thread, records the decryption, then lets `answer` make the answer.
    async fn decrypt<T: Send + 'static>(
        &self,
        ciphertexts: Vec<SignedCiphertext>,
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
                .map(|ciphertext| {
                    let handle = ciphertext.handle;
                    let value = shared
                        .decrypt
                        .decrypt(handle.fhe_type(), &ciphertext.bytes)
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
