//! The gateway's services over parts in other processes: one KMS for all, and for each chain its coprocessor, or the nodes of a native chain.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
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
    native::NativeInputs,
};
use crate::wiring::{Kms, WAIT, retry_while_computing};

/// How long the next block of a native chain is waited for.
const NEXT_BLOCK: Duration = Duration::from_secs(1);

/// The gateway's admission of inputs.
pub(crate) struct RemoteInputs {
    /// Who looks at inputs of each chain.
    pub(crate) chains: HashMap<u64, Admitting>,
}

/// Who looks at inputs of a chain.
#[derive(Clone)]
pub(crate) enum Admitting {
    /// A coprocessor, which signs. Proofs must be bound to this access-control contract.
    Coprocessor(Arc<RemoteCoprocessor>, Address),
    /// A native chain: nobody signs, and its validators check the list once a transaction brings it.
    Native(Arc<NativeInputs>),
}

impl InputAdmission for RemoteInputs {
    fn admit(&self, request: AdmissionRequest) -> BoxFuture<'static, Result<Admission, ServiceError>> {
        let chain = self.chains.get(&request.chain_id).cloned();
        Box::pin(async move {
            match chain.ok_or_else(|| no_chain(request.chain_id))? {
                Admitting::Coprocessor(coprocessor, acl) => coprocessor::admit(&coprocessor, &request, acl).await,
                Admitting::Native(inputs) => Box::pin(inputs.admit(&request)).await,
            }
        })
    }
}

/// The gateway's decryption: a KMS, asked again once a coprocessor has the ciphertexts.
pub(crate) struct RemoteDecryption {
    /// The KMS.
    pub(crate) kms: Arc<dyn Kms>,
    /// How values are waited for on each chain.
    pub(crate) awaited: HashMap<u64, Computing>,
    /// What proves rights on each chain, if the KMS is to get proofs.
    pub(crate) provers: Option<HashMap<u64, Prover>>,
}

/// How values of a chain are waited for.
#[derive(Clone)]
pub(crate) enum Computing {
    /// A coprocessor computes them after the block.
    Coprocessor(Arc<Awaited>),
    /// They are in the state as soon as the block is.
    InBlocks,
}

impl Computing {
    /// Waits until all handles are computed, for a while.
    async fn all(&self, handles: &[Handle]) -> Result<(), ServiceError> {
        match self {
            Self::Coprocessor(awaited) => awaited.all(handles, WAIT).await,
            // The KMS has seen an older block than the client: the next one will do.
            Self::InBlocks => {
                tokio::time::sleep(NEXT_BLOCK).await;
                Ok(())
            }
        }
    }
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
    fn waiting(&self, handles: &[Handle]) -> Result<(Computing, Option<Prover>), ServiceError> {
        let chain = handles.first().map(Handle::chain_id).unwrap_or_default();
        let awaited = self.awaited.get(&chain).cloned().ok_or_else(|| no_chain(chain))?;
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
            retry_while_computing(ask, || awaited.all(&request.handles)).await
        })
    }

    fn user_decrypt(&self, request: UserDecryptionRequest) -> BoxFuture<'static, Result<Vec<UserDecryptionShare>, ServiceError>> {
        let handles = request.handles();
        let (kms, waiting) = (Arc::clone(&self.kms), self.waiting(&handles));
        Box::pin(async move {
            let (awaited, prover) = waiting?;
            let questions = request.acl_questions();
            let ask = || async { kms.user_decrypt(&request, Prover::gather(prover.as_ref(), &questions).await).await };
            retry_while_computing(ask, || awaited.all(&handles)).await
        })
    }
}

/// The gateway refuses other chains before it asks.
fn no_chain(chain: u64) -> ServiceError {
    ServiceError::new(Label::RequestError, format!("chain {chain} is not served here"))
}
