//! What the gateway of the 0.6 generation needs, from the coprocessor and the KMS of that generation.

use std::{sync::Arc, time::Duration};

use alloy::primitives::{B256, hex, keccak256};
use cipherloom_fhe::KeySet;
use cipherloom_gateway::{
    Label, ServiceError,
    legacy::{LegacyAdmission, LegacyInput, LegacyInputs, LegacyReencryption, ReencryptionResponse, SignedInput},
    services::{KeyFile, KeyMaterial},
};
use cipherloom_kms::{KmsError, LegacyError, LegacyKms, legacy::AdmittedList};
use cipherloom_primitives::{Bytes, generation_0_6::ReencryptionRequest};
use futures_util::future::BoxFuture;
use tonic::{Code, Status};

use super::coprocessor::CoprocessorClient;

/// The pause before the KMS is asked again for a value that is being computed.
const PAUSE: Duration = Duration::from_millis(300);

/// A key set's public part, under ids of that generation: 40 hexadecimal digits.
pub(super) struct LegacyKeys {
    keys: Arc<KeySet>,
    public_key_id: String,
    crs_id: String,
}

impl LegacyKeys {
    pub(super) fn new(keys: Arc<KeySet>) -> Self {
        let id = |part: &str| {
            let digest = keccak256([keys.manifest().id.as_bytes(), part.as_bytes()].concat());
            hex::encode(digest.first_chunk::<20>().unwrap_or(&[0; 20]))
        };
        Self {
            public_key_id: id("public key"),
            crs_id: id("crs"),
            keys,
        }
    }
}

impl KeyMaterial for LegacyKeys {
    fn public_key(&self) -> KeyFile {
        KeyFile {
            id: self.public_key_id.clone(),
            bytes: self.keys.public_key(),
        }
    }

    fn crs(&self) -> KeyFile {
        KeyFile {
            id: self.crs_id.clone(),
            bytes: self.keys.crs(),
        }
    }
}

/// KMS and coprocessor.
pub(super) struct LegacyParts {
    pub(super) kms: Arc<LegacyKms>,
    pub(super) coprocessor: CoprocessorClient,
}

impl LegacyInputs for LegacyParts {
    fn verify(&self, input: LegacyInput) -> BoxFuture<'static, Result<LegacyAdmission, ServiceError>> {
        let (kms, coprocessor) = (Arc::clone(&self.kms), self.coprocessor.clone());
        Box::pin(async move {
            let LegacyInput { contract, user, list } = input;
            let answer = match coprocessor.upload(list.clone().into(), contract, user).await {
                Ok(answer) => answer,
                Err(status) if status.code() == Code::InvalidArgument => {
                    return Ok(LegacyAdmission::Rejected {
                        reason: status.message().to_owned(),
                    });
                }
                Err(status) => return Err(coprocessor_error(&status)),
            };
            let handles = answer.input_handles.iter().map(|handle| B256::try_from(handle.handle.as_ref()));
            let handles = handles.collect::<Result<Vec<_>, _>>().map_err(|_| {
                tracing::error!("the coprocessor named a value by something that is no handle");
                ServiceError::new(Label::InternalServerError, "the coprocessor could not admit the input")
            })?;
            let coprocessor_signature = Bytes::from(answer.eip712_signature);
            let admitted = AdmittedList {
                list,
                contract,
                user,
                handles: handles.clone(),
                signature: coprocessor_signature.clone(),
            };
            let signature = kms.vouch(admitted).await.map_err(|error| kms_error(&error))?;
            Ok(LegacyAdmission::Admitted(SignedInput {
                handles,
                kms_signatures: vec![Bytes::copy_from_slice(&signature)],
                coprocessor_signature,
            }))
        })
    }
}

impl LegacyReencryption for LegacyParts {
    fn reencrypt(&self, request: ReencryptionRequest) -> BoxFuture<'static, Result<Vec<ReencryptionResponse>, ServiceError>> {
        let kms = Arc::clone(&self.kms);
        Box::pin(async move {
            // The gateway's deadline bounds the wait, and whoever may not have the value is refused before there is anything to wait for.
            let answer = loop {
                match kms.reencrypt(request.clone()).await {
                    Err(KmsError::Legacy(LegacyError::NotReady(_))) => tokio::time::sleep(PAUSE).await,
                    other => break other,
                }
            };
            let answer = answer.map_err(|error| kms_error(&error))?;
            Ok(vec![ReencryptionResponse {
                payload: answer.payload.into(),
                signature: Bytes::copy_from_slice(&answer.signature),
                ciphertext_digest: answer.ciphertext_digest,
            }])
        })
    }
}

fn kms_error(error: &KmsError) -> ServiceError {
    let label = Label::ALL
        .into_iter()
        .find(|label| label.as_str() == error.label())
        .unwrap_or(Label::InternalServerError);
    if label == Label::InternalServerError {
        tracing::error!(%error, "the KMS of the 0.6 generation failed");
    }
    ServiceError::new(label, error.to_string())
}

fn coprocessor_error(status: &Status) -> ServiceError {
    match status.code() {
        Code::ResourceExhausted | Code::Aborted | Code::Unavailable => {
            ServiceError::new(Label::ProtocolOverload, status.message()).retry_after(Duration::from_secs(1))
        }
        code => {
            tracing::error!(?code, message = status.message(), "the coprocessor of the 0.6 generation failed");
            ServiceError::new(Label::InternalServerError, "the coprocessor could not admit the input")
        }
    }
}
