//! Noise-squashed ciphertexts for the nodes of a committee in the same process as their coprocessor.

use std::time::Duration;

use cipherloom_coprocessor::{Coprocessor, CoprocessorError};
use cipherloom_kms::{SignedSquashed, SourceError, SquashedSource};
use cipherloom_primitives::{Bytes, Handle};
use futures_util::future::BoxFuture;

/// How long a value is waited for. What takes longer is asked for again, and goes on meanwhile.
const WAIT: Duration = Duration::from_secs(30);

/// A coprocessor's squashed ciphertexts.
pub(crate) struct LocalSquashed(pub(crate) Coprocessor);

impl SquashedSource for LocalSquashed {
    fn squashed(&self, handle: Handle) -> BoxFuture<'_, Result<SignedSquashed, SourceError>> {
        Box::pin(async move {
            let signed = self.0.signed_squashed(handle, WAIT).await.map_err(|error| match error {
                CoprocessorError::UnknownHandle(_) | CoprocessorError::WrongChain { .. } => SourceError::Unknown,
                CoprocessorError::NotComputed(_) => SourceError::NotReady,
                CoprocessorError::Failed { reason, .. } => SourceError::Failed(reason),
                other => SourceError::Unavailable(other.to_string()),
            })?;
            Ok(SignedSquashed {
                handle: signed.handle,
                key_set_id: signed.key_set_id,
                bytes: signed.bytes,
                attestations: vec![Bytes::copy_from_slice(&signed.signature.as_bytes())],
            })
        })
    }
}
