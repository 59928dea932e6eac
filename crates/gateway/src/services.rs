//! What the gateway needs from the rest of the system.
//!
//! The process that starts a gateway implements these for its coprocessor and KMS. Futures may take as long as the work takes, for
//! example until a ciphertext is computed: the gateway bounds them by its deadline and drops them at shutdown.

use std::{sync::Arc, time::Duration};

use alloy_primitives::{Address, Bytes};
use cipherloom_primitives::{
    Handle,
    decryption::{PublicDecryptionAnswer, PublicDecryptionRequest, RequestError, UserDecryptionRequest, UserDecryptionShare},
};
use cipherloom_store::GatewayJobs;
use futures_util::future::BoxFuture;

pub use crate::error::Label;

/// Everything a gateway serves.
#[derive(Clone)]
pub struct Services {
    /// The public key and the CRS.
    pub keys: Arc<dyn KeyMaterial>,
    /// The coprocessor's side.
    pub inputs: Arc<dyn InputAdmission>,
    /// The KMS's side.
    pub decryption: Arc<dyn Decryption>,
    /// How far computations are, for clients that wait; they are told nothing about it without.
    pub progress: Option<Arc<dyn ComputationProgress>>,
    /// Where jobs are kept; in memory without it, where a restart loses them.
    pub jobs: Option<Arc<dyn GatewayJobs>>,
}

/// A file of key material: its id stands for exactly these bytes, forever.
#[derive(Clone, Debug)]
pub struct KeyFile {
    /// At most 128 characters, of letters, digits, `-`, `_` and `.`.
    pub id: String,
    /// The bytes that clients deserialize.
    pub bytes: Arc<[u8]>,
}

/// The key material that clients encrypt with.
pub trait KeyMaterial: Send + Sync {
    /// Returns the current public key.
    fn public_key(&self) -> KeyFile;
    /// Returns the current CRS (common reference string) for lists of up to 2048 bits.
    fn crs(&self) -> KeyFile;
}

/// A request to verify an encrypted input and sign its handles.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AdmissionRequest {
    /// The contract that will consume the input.
    pub contract: Address,
    /// The account that will send it.
    pub user: Address,
    /// The id of the host chain; the gateway has compared it with its own.
    pub chain_id: u64,
    /// The list of ciphertexts with its proof: not empty, at most [`cipherloom_primitives::input::MAX_INPUT_LIST_BYTES`].
    pub list: Bytes,
    /// What the coprocessor signs over in addition: at most [`cipherloom_primitives::decryption::MAX_EXTRA_DATA_BYTES`].
    pub extra_data: Bytes,
}

/// A coprocessor's word on an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The proof holds: these are its handles.
    Admitted(AdmittedInput),
    /// The proof does not hold. Clients learn only that; the reason is logged.
    Rejected {
        /// Why, for operators.
        reason: String,
    },
}

/// The handles of an input, signed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AdmittedInput {
    /// In the order of the list.
    pub handles: Vec<Handle>,
    /// One 65-byte signature per coprocessor.
    pub signatures: Vec<Bytes>,
    /// The extra data that was signed over.
    pub extra_data: Bytes,
}

/// Verifies encrypted inputs.
pub trait InputAdmission: Send + Sync {
    /// Verifies the proof of an input and signs its handles.
    fn admit(&self, request: AdmissionRequest) -> BoxFuture<'static, Result<Admission, ServiceError>>;
}

/// Decrypts what the chain allows.
pub trait Decryption: Send + Sync {
    /// Decrypts values that were made public.
    fn public_decrypt(&self, request: PublicDecryptionRequest) -> BoxFuture<'static, Result<PublicDecryptionAnswer, ServiceError>>;
    /// Encrypts values to a user's key; one share per KMS node.
    fn user_decrypt(&self, request: UserDecryptionRequest) -> BoxFuture<'static, Result<Vec<UserDecryptionShare>, ServiceError>>;
}

/// How far the computation of some handles is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How many of the handles are not computed.
    pub pending_handles: u64,
    /// How many transactions the coprocessor has recorded and not computed, whoever sent them. None if that is not known.
    pub pending_computations: Option<u64>,
}

/// Knows how far computations are.
pub trait ComputationProgress: Send + Sync {
    /// Says how far the computation of handles is, or nothing if that cannot be said. It is asked at most about once a second for each job
    /// that somebody polls, and given a moment; an answer that comes later is not used.
    fn progress(&self, handles: Arc<[Handle]>) -> BoxFuture<'static, Option<Progress>>;
}

/// A field of a request and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FieldIssue {
    /// The path of the field, like `handleContractPairs[1].handle`.
    pub field: String,
    /// What is wrong, as a sentence for the author of the request.
    pub issue: String,
}

impl FieldIssue {
    /// Names a field and its problem.
    #[must_use]
    pub fn new(field: impl Into<String>, issue: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            issue: issue.into(),
        }
    }
}

/// Why a request was not answered, in the words that clients understand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{label}: {message}")]
pub struct ServiceError {
    /// The kind of error, which programs read.
    pub label: Label,
    /// What happened and what to do, which people read; no secrets.
    pub message: String,
    /// The fields at fault; clients see them only with the labels for which [`Label::has_details`] holds.
    pub details: Vec<FieldIssue>,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

impl ServiceError {
    /// Builds an error without details.
    #[must_use]
    pub fn new(label: Label, message: impl Into<String>) -> Self {
        Self {
            label,
            message: message.into(),
            details: Vec::new(),
            retry_after: None,
        }
    }

    /// Builds an error about the content of fields.
    #[must_use]
    pub fn invalid(details: Vec<FieldIssue>) -> Self {
        let fields = details
            .iter()
            .map(|issue| format!("{} {}", issue.field, issue.issue))
            .collect::<Vec<_>>();
        Self {
            details,
            ..Self::new(Label::ValidationFailed, format!("invalid request: {}", fields.join("; ")))
        }
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(self, delay: Duration) -> Self {
        Self {
            retry_after: Some(delay),
            ..self
        }
    }
}

impl From<RequestError> for ServiceError {
    fn from(error: RequestError) -> Self {
        let message = error.to_string();
        Self {
            details: vec![FieldIssue::new(error.field(), message.clone())],
            ..Self::new(Label::ValidationFailed, message)
        }
    }
}
