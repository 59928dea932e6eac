//! How the parts find each other in one process: each part's traits, implemented by another part.
//!
//! The parts themselves never name each other; what they say is translated here, and nothing is decided.

use std::{sync::Arc, time::Duration};

use cipherloom_coprocessor::{Coprocessor, CoprocessorError, Fault, HandleStatus};
use cipherloom_fhe::KeySet;
use cipherloom_gateway::{
    Label, ServiceError,
    services::{Admission, AdmissionRequest, AdmittedInput, Decryption, FieldIssue, InputAdmission, KeyFile, KeyMaterial},
};
use cipherloom_kms::{CiphertextSource, KmsError, KmsNode, SignedCiphertext, SourceError};
use cipherloom_primitives::{
    Address, Bytes, Handle,
    decryption::{PublicDecryptionAnswer, PublicDecryptionRequest, UserDecryptionRequest, UserDecryptionShare},
    input::InputMetadata,
};
use futures_util::future::BoxFuture;

/// How long one look at a ciphertext under computation lasts before the next; the gateway's deadline bounds them all.
pub(crate) const WAIT: Duration = Duration::from_secs(30);

/// The pause before the KMS is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// The gateway's key material: a key set.
pub(crate) struct ServedKeys(pub(crate) Arc<KeySet>);

impl KeyMaterial for ServedKeys {
    fn public_key(&self) -> KeyFile {
        KeyFile {
            id: format!("{}-public-key", self.0.manifest().id),
            bytes: self.0.public_key(),
        }
    }

    fn crs(&self) -> KeyFile {
        KeyFile {
            id: format!("{}-crs-2048", self.0.manifest().id),
            bytes: self.0.crs(),
        }
    }
}

/// The gateway's admission of inputs: a coprocessor.
pub(crate) struct ServedInputs {
    /// The coprocessor.
    pub(crate) coprocessor: Coprocessor,
    /// The access-control contract that proofs must be bound to.
    pub(crate) acl: Address,
}

impl InputAdmission for ServedInputs {
    fn admit(&self, request: AdmissionRequest) -> BoxFuture<'static, Result<Admission, ServiceError>> {
        let coprocessor = self.coprocessor.clone();
        let metadata = InputMetadata {
            contract: request.contract,
            user: request.user,
            acl: self.acl,
            chain_id: request.chain_id,
        };
        Box::pin(async move {
            match coprocessor
                .admit_input(metadata, request.list.to_vec(), request.extra_data.to_vec())
                .await
            {
                Ok(admitted) => Ok(Admission::Admitted(AdmittedInput {
                    handles: admitted.handles,
                    signatures: admitted
                        .signatures
                        .iter()
                        .map(|signature| Bytes::copy_from_slice(&signature.as_bytes()))
                        .collect(),
                    extra_data: admitted.extra_data.into(),
                })),
                Err(error @ (CoprocessorError::InputRefused(_) | CoprocessorError::EmptyInput)) => {
                    Ok(Admission::Rejected { reason: error.to_string() })
                }
                Err(error) => Err(admission_error(&error)),
            }
        })
    }
}

fn admission_error(error: &CoprocessorError) -> ServiceError {
    match (error, error.fault()) {
        (CoprocessorError::Busy, _) => ServiceError::new(Label::ProtocolOverload, error.to_string()).retry_after(Duration::from_secs(1)),
        (CoprocessorError::WrongChain { .. }, _) => ServiceError::invalid(vec![FieldIssue::new("contractChainId", error.to_string())]),
        (_, Fault::Request) => ServiceError::invalid(vec![FieldIssue::new("ciphertextWithInputVerification", error.to_string())]),
        (_, Fault::Coprocessor) => {
            tracing::error!(%error, "an input could not be admitted");
            ServiceError::new(Label::InternalServerError, "the coprocessor could not admit the input")
        }
    }
}

/// The KMS as a gateway asks it: one node that has the whole key, or a committee.
pub(crate) trait Kms: Send + Sync {
    /// Has values decrypted that were made public, with storage proofs or none.
    fn public_decrypt<'a>(
        &'a self,
        request: &'a PublicDecryptionRequest,
        proofs: bytes::Bytes,
    ) -> BoxFuture<'a, Result<PublicDecryptionAnswer, ServiceError>>;

    /// Has values decrypted to a user's key, with storage proofs or none: one answer per node.
    fn user_decrypt<'a>(
        &'a self,
        request: &'a UserDecryptionRequest,
        proofs: bytes::Bytes,
    ) -> BoxFuture<'a, Result<Vec<UserDecryptionShare>, ServiceError>>;
}

/// A node in this process reads the chain by calls, and needs no proofs.
impl Kms for KmsNode {
    fn public_decrypt<'a>(
        &'a self,
        request: &'a PublicDecryptionRequest,
        _: bytes::Bytes,
    ) -> BoxFuture<'a, Result<PublicDecryptionAnswer, ServiceError>> {
        Box::pin(async move {
            let answer = Self::public_decrypt(self, request.clone()).await;
            answer.map_err(|error| decryption_error(&error))
        })
    }

    fn user_decrypt<'a>(
        &'a self,
        request: &'a UserDecryptionRequest,
        _: bytes::Bytes,
    ) -> BoxFuture<'a, Result<Vec<UserDecryptionShare>, ServiceError>> {
        Box::pin(async move {
            let share = Self::user_decrypt(self, request.clone()).await;
            Ok(vec![share.map_err(|error| decryption_error(&error))?])
        })
    }
}

/// The gateway's decryption: a KMS, asked once the coprocessor has the ciphertexts.
pub(crate) struct ServedDecryption {
    /// The KMS.
    pub(crate) kms: Arc<dyn Kms>,
    /// Where ciphertexts come from.
    pub(crate) coprocessor: Coprocessor,
}

impl Decryption for ServedDecryption {
    fn public_decrypt(&self, request: PublicDecryptionRequest) -> BoxFuture<'static, Result<PublicDecryptionAnswer, ServiceError>> {
        let (kms, coprocessor) = (Arc::clone(&self.kms), self.coprocessor.clone());
        Box::pin(async move {
            let ask = || kms.public_decrypt(&request, bytes::Bytes::new());
            retry_while_computing(ask, || wait_for_all(&coprocessor, &request.handles)).await
        })
    }

    fn user_decrypt(&self, request: UserDecryptionRequest) -> BoxFuture<'static, Result<Vec<UserDecryptionShare>, ServiceError>> {
        let (kms, coprocessor) = (Arc::clone(&self.kms), self.coprocessor.clone());
        Box::pin(async move {
            let handles = request.handles();
            let ask = || kms.user_decrypt(&request, bytes::Bytes::new());
            retry_while_computing(ask, || wait_for_all(&coprocessor, &handles)).await
        })
    }
}

/// Asks the KMS, and again whenever it says that a ciphertext is not there yet, after waiting for the ciphertexts.
///
/// The KMS is asked first: it reads the access list on the chain, so a forbidden request is refused at once instead of waiting for a ciphertext.
pub(crate) async fn retry_while_computing<T, Asked, Waited>(
    mut ask: impl FnMut() -> Asked,
    mut wait: impl FnMut() -> Waited,
) -> Result<T, ServiceError>
where
    Asked: Future<Output = Result<T, ServiceError>>,
    Waited: Future<Output = Result<(), ServiceError>>,
{
    loop {
        match ask().await {
            Err(error) if error.label == Label::NotReadyForDecryption => {
                wait().await?;
                // Where the two disagree about readiness, as around a restart, this keeps the loop from spinning.
                tokio::time::sleep(PAUSE).await;
            }
            other => return other,
        }
    }
}

async fn wait_for_all(coprocessor: &Coprocessor, handles: &[Handle]) -> Result<(), ServiceError> {
    for handle in handles {
        match coprocessor.wait_for(*handle, WAIT).await {
            Ok(HandleStatus::Failed(reason)) => {
                return Err(ServiceError::new(
                    Label::RequestError,
                    format!("handle {handle} cannot be computed: {reason}"),
                ));
            }
            Ok(_) => {}
            Err(error) => return Err(admission_error(&error)),
        }
    }
    Ok(())
}

fn decryption_error(error: &KmsError) -> ServiceError {
    let label = Label::ALL
        .into_iter()
        .find(|label| label.as_str() == error.label())
        .unwrap_or(Label::InternalServerError);
    let reported = match error.field() {
        Some(field) => ServiceError::invalid(vec![FieldIssue::new(field, error.to_string())]),
        None => ServiceError::new(label, error.to_string()),
    };
    if label == Label::InternalServerError {
        tracing::error!(%error, "a decryption failed");
    }
    reported
}

/// The KMS's source of ciphertexts: a coprocessor. It is not trusted; the KMS checks the attestations it brings.
pub(crate) struct CoprocessorCiphertexts(pub(crate) Coprocessor);

impl CiphertextSource for CoprocessorCiphertexts {
    fn ciphertext(&self, handle: Handle) -> BoxFuture<'_, Result<SignedCiphertext, SourceError>> {
        Box::pin(async move {
            let signed = self.0.signed_ciphertext(handle).await.map_err(|error| match error {
                CoprocessorError::NotComputed(_) => SourceError::NotReady,
                CoprocessorError::UnknownHandle(_) => SourceError::Unknown,
                CoprocessorError::Failed { reason, .. } => SourceError::Failed(reason),
                other => SourceError::Unavailable(other.to_string()),
            })?;
            Ok(SignedCiphertext {
                handle: signed.handle,
                key_set_id: signed.key_set_id,
                bytes: signed.bytes,
                attestations: vec![Bytes::copy_from_slice(&signed.signature.as_bytes())],
            })
        })
    }
}
