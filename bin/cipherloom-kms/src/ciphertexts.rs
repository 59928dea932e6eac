//! Ciphertexts for a KMS node, from a coprocessor in another process. It is not trusted: the node checks the attestations it brings.

use std::sync::Arc;

use cipherloom_kms::{CiphertextSource, SignedCiphertext, SourceError};
use cipherloom_primitives::{B256, Bytes, Handle};
use cipherloom_rpc::cipherloom::coprocessor::v1::HandleProgress;
use cipherloom_service::{
    coprocessor::{Fetched, RemoteCoprocessor},
    endpoints::with_causes,
};
use futures_util::future::BoxFuture;
use tonic::Status;

/// A coprocessor's ciphertexts.
pub(crate) struct RemoteCiphertexts(pub(crate) Arc<RemoteCoprocessor>);

impl CiphertextSource for RemoteCiphertexts {
    fn ciphertext(&self, handle: Handle) -> BoxFuture<'_, Result<SignedCiphertext, SourceError>> {
        Box::pin(async move {
            let Vouched {
                handle,
                key_set_id,
                bytes,
                attestations,
            } = vouched(self.0.signed_ciphertext(handle).await)?;
            Ok(SignedCiphertext {
                handle,
                key_set_id,
                bytes,
                attestations,
            })
        })
    }
}

/// Bytes that coprocessors vouch for, in whatever form they are.
pub(crate) struct Vouched {
    pub(crate) handle: Handle,
    pub(crate) key_set_id: B256,
    pub(crate) bytes: Vec<u8>,
    pub(crate) attestations: Vec<Bytes>,
}

/// Takes the bytes out of a coprocessor's answer, or says in a KMS's words why there are none.
///
/// # Errors
/// [`SourceError`] for everything that is not the bytes.
pub(crate) fn vouched(answer: Result<Fetched, Status>) -> Result<Vouched, SourceError> {
    match answer {
        Ok(Fetched::Signed {
            handle,
            key_set_id,
            bytes,
            attestations,
        }) => Ok(Vouched {
            handle,
            key_set_id,
            bytes,
            attestations: attestations.into_iter().map(Into::into).collect(),
        }),
        Ok(Fetched::Missing(state)) => Err(match state.progress() {
            HandleProgress::Unknown => SourceError::Unknown,
            HandleProgress::Failed => SourceError::Failed(state.reason),
            HandleProgress::Pending | HandleProgress::Computed => SourceError::NotReady,
        }),
        Err(status) => Err(SourceError::Unavailable(with_causes(&status))),
    }
}
