//! What every decryption has to pass before anything is decrypted, whoever holds the key: one node, or each party of a committee for itself.
//!
//! **Flow.** Limits and shape; a block is chosen, at which everything else is read; the permit's signature; on chain the KMS context, the rights, and by what ciphertexts are known. What passed is
//! [`Admitted`], with the line for the audit log. Ciphertexts are looked at afterwards (`provenance`).

use std::{collections::BTreeSet, sync::Arc};

use cipherloom_chain::AclEvidence;
use cipherloom_primitives::{
    AclFacts, AclQuestion, Address,
    decryption::{PublicDecryptionRequest, UserDecryptionRequest},
    eip712::SigningDomains,
};
use cipherloom_signcryption::UserPublicKey;
use futures_util::future::{BoxFuture, try_join4};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    audit::{AuditEntry, DecryptionKind},
    checks::{check_context, check_permit_signature, check_public, check_readable, request_digest},
    error::KmsError,
    ports::{Clock, HostChainView, PinnedView, Provenance},
};

/// What requests are judged by.
pub(crate) struct Admission {
    pub(crate) domains: SigningDomains,
    pub(crate) chain: Arc<dyn HostChainView>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Who answers.
    pub(crate) node: Address,
    requests: Arc<Semaphore>,
}

/// A request that may be answered.
pub(crate) struct Admitted<T> {
    /// The chain at the block at which the request was judged.
    pub(crate) chain: Box<dyn PinnedView>,
    /// By what ciphertexts are known.
    pub(crate) provenance: Provenance,
    /// What is recorded before an answer leaves.
    pub(crate) entry: AuditEntry,
    /// What else was read at the same block.
    pub(crate) also: T,
}

impl Admission {
    pub(crate) fn new(
        domains: SigningDomains,
        chain: Arc<dyn HostChainView>,
        clock: Arc<dyn Clock>,
        node: Address,
        requests: usize,
    ) -> Self {
        Self {
            domains,
            chain,
            clock,
            node,
            requests: Arc::new(Semaphore::new(requests.max(1))),
        }
    }

    /// Takes one of the places for requests, or refuses.
    pub(crate) fn enter(&self) -> Result<OwnedSemaphorePermit, KmsError> {
        Arc::clone(&self.requests).try_acquire_owned().map_err(|_| KmsError::Overloaded)
    }

    /// Chooses the block at which one request is judged.
    pub(crate) async fn pin(&self, now: u64, evidence: Option<AclEvidence>) -> Result<Box<dyn PinnedView>, KmsError> {
        Ok(self.chain.pin(now, evidence).await?)
    }

    /// Judges a request for values that were made public. `also` reads more at the same block.
    pub(crate) async fn public<T: Send>(
        &self,
        request: &PublicDecryptionRequest,
        evidence: Option<AclEvidence>,
        also: impl for<'a> FnOnce(&'a dyn PinnedView) -> BoxFuture<'a, Result<T, KmsError>> + Send,
    ) -> Result<Admitted<T>, KmsError> {
        request.validate(self.domains.host_chain_id)?;
        let now = self.clock.now_seconds();
        let chain = self.pin(now, evidence).await?;
        let questions = request.acl_questions();
        let (facts, provenance, also) = self.read(&*chain, &request.extra_data, &questions, also(&*chain)).await?;
        check_public(request, &facts)?;
        let entry = AuditEntry {
            time: now,
            kind: DecryptionKind::Public,
            requester: None,
            owners: Vec::new(),
            handles: request.handles.clone(),
            request: request_digest(request)?,
            share: None,
        };
        Ok(Admitted {
            chain,
            provenance,
            entry,
            also,
        })
    }

    /// Judges a request for values of a user, and reads the key they are encrypted to. `also` reads more at the same block.
    pub(crate) async fn user<T: Send>(
        &self,
        request: &UserDecryptionRequest,
        evidence: Option<AclEvidence>,
        also: impl for<'a> FnOnce(&'a dyn PinnedView) -> BoxFuture<'a, Result<T, KmsError>> + Send,
    ) -> Result<(Admitted<T>, UserPublicKey), KmsError> {
        let now = self.clock.now_seconds();
        request.validate(self.domains.host_chain_id, now)?;
        let public_key = UserPublicKey::from_blob(&request.public_key).map_err(KmsError::PublicKey)?;
        let chain = self.pin(now, evidence).await?;
        check_permit_signature(&*chain, request, &self.domains).await?;
        let questions = request.acl_questions();
        let (facts, provenance, also) = self.read(&*chain, &request.extra_data, &questions, also(&*chain)).await?;
        // Where the block is old, a delegation may have ended since; where the chain's clock is ahead, it has ended there.
        check_readable(request, &facts, now.max(chain.block().timestamp))?;
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
            handles: request.handles(),
            request: request_digest(request)?,
            share: None,
        };
        let admitted = Admitted {
            chain,
            provenance,
            entry,
            also,
        };
        Ok((admitted, public_key))
    }

    async fn read<T>(
        &self,
        chain: &dyn PinnedView,
        extra_data: &[u8],
        questions: &BTreeSet<AclQuestion>,
        also: BoxFuture<'_, Result<T, KmsError>>,
    ) -> Result<(AclFacts, Provenance, T), KmsError> {
        let ((), facts, provenance, also) = try_join4(
            check_context(chain, extra_data, self.node),
            async { Ok(chain.acl(questions).await?) },
            async { Ok(chain.provenance().await?) },
            also,
        )
        .await?;
        Ok((facts, provenance, also))
    }
}
