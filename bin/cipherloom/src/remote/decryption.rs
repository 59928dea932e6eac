//! The gateway's services over parts in other processes, one coprocessor per chain and one KMS for all.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use cipherloom_chain::{AclEvidence, Finality, HostChain};
use cipherloom_gateway::{
    Label, ServiceError,
    services::{Admission, AdmissionRequest, Decryption, InputAdmission},
};
use cipherloom_primitives::{
    AclQuestion, Address, Handle,
    decryption::{PublicDecryptionAnswer, PublicDecryptionRequest, UserDecryptionRequest, UserDecryptionShare},
};
use cipherloom_service::coprocessor::RemoteCoprocessor;
use futures_util::future::BoxFuture;

use super::{
    awaited::Awaited,
    coprocessor::{self},
};
use crate::wiring::{Kms, WAIT, retry_while_computing};

/// The gateway's admission of inputs.
pub(crate) struct RemoteInputs {
    /// Each chain's coprocessor, and the access-control contract that proofs must be bound to.
    pub(crate) chains: HashMap<u64, (Arc<RemoteCoprocessor>, Address)>,
}

impl InputAdmission for RemoteInputs {
    fn admit(&self, request: AdmissionRequest) -> BoxFuture<'static, Result<Admission, ServiceError>> {
        let chain = self.chains.get(&request.chain_id).cloned();
        Box::pin(async move {
            let (coprocessor, acl) = chain.ok_or_else(|| no_chain(request.chain_id))?;
            coprocessor::admit(&coprocessor, &request, acl).await
        })
    }
}

/// The gateway's decryption: a KMS, asked again once a coprocessor has the ciphertexts.
pub(crate) struct RemoteDecryption {
    /// The KMS.
    pub(crate) kms: Arc<dyn Kms>,
    /// What is waited for on each chain.
    pub(crate) awaited: HashMap<u64, Arc<Awaited>>,
    /// What proves rights on each chain, if the KMS is to get proofs.
    pub(crate) provers: Option<HashMap<u64, Prover>>,
}

/// A chain whose node proves what is in its storage.
#[derive(Clone)]
pub(crate) struct Prover {
    /// The chain.
    pub(crate) host: HostChain,
    /// At which block.
    pub(crate) finality: Finality,
}

impl Prover {
    /// Gathers storage proofs. A KMS that needs them says so if there are none, so that failing here is no failure yet.
    async fn gather(prover: Option<&Self>, questions: &BTreeSet<AclQuestion>) -> Bytes {
        let Some(Self { host, finality }) = prover else {
            return Bytes::new();
        };
        match AclEvidence::gather_at(host, *finality, questions).await {
            Ok(evidence) => evidence.encode().into(),
            Err(error) => {
                tracing::warn!(%error, "storage proofs cannot be had; the request goes without");
                Bytes::new()
            }
        }
    }
}

impl RemoteDecryption {
    /// Returns what waits for handles, all of one chain, and what proves rights there.
    fn waiting(&self, handles: &[Handle]) -> Result<(Arc<Awaited>, Option<Prover>), ServiceError> {
        let chain = handles.first().map(Handle::chain_id).unwrap_or_default();
        let awaited = self.awaited.get(&chain).map(Arc::clone).ok_or_else(|| no_chain(chain))?;
        Ok((awaited, self.provers.as_ref().and_then(|provers| provers.get(&chain).cloned())))
    }
}

impl Decryption for RemoteDecryption {
    fn public_decrypt(&self, request: PublicDecryptionRequest) -> BoxFuture<'static, Result<PublicDecryptionAnswer, ServiceError>> {
        let (kms, waiting) = (Arc::clone(&self.kms), self.waiting(&request.handles));
        Box::pin(async move {
            let (awaited, prover) = waiting?;
            let questions = request.acl_questions();
            let ask = || async {
                kms.public_decrypt(&request, Prover::gather(prover.as_ref(), &questions).await)
                    .await
            };
            retry_while_computing(ask, || awaited.all(&request.handles, WAIT)).await
        })
    }

    fn user_decrypt(&self, request: UserDecryptionRequest) -> BoxFuture<'static, Result<Vec<UserDecryptionShare>, ServiceError>> {
        let handles = request.handles();
        let (kms, waiting) = (Arc::clone(&self.kms), self.waiting(&handles));
        Box::pin(async move {
            let (awaited, prover) = waiting?;
            let questions = request.acl_questions();
            let ask = || async { kms.user_decrypt(&request, Prover::gather(prover.as_ref(), &questions).await).await };
            retry_while_computing(ask, || awaited.all(&handles, WAIT)).await
        })
    }
}

/// The gateway refuses other chains before it asks.
fn no_chain(chain: u64) -> ServiceError {
    ServiceError::new(Label::RequestError, format!("chain {chain} is not served here"))
}
