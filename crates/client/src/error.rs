//! What can go wrong for a client.

use std::time::Duration;

use cipherloom_chain::ChainError;
use cipherloom_fhe::FheError;
use cipherloom_primitives::{decryption::RequestError, eip712::SigningDomains};
use cipherloom_signcryption::SigncryptionError;
use serde::Deserialize;

/// A field of a request and what the server found wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct FieldIssue {
    /// The path of the field.
    pub field: String,
    /// What is wrong.
    pub issue: String,
}

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The gateway's URL cannot be used.
    #[error("{0:?} is not the HTTP URL of a gateway")]
    Url(String),
    /// The chain could not be read.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The contracts on chain are not those of the configuration.
    #[error("the contracts sign for {found:?}, the configuration says {expected:?}")]
    Deployment {
        /// The configured domains.
        expected: Box<SigningDomains>,
        /// What the contracts say.
        found: Box<SigningDomains>,
    },
    /// The gateway cannot be reached, or the connection broke.
    #[error("{what}: the gateway cannot be reached: {source}")]
    Transport {
        /// What was asked.
        what: &'static str,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// The gateway refused the request.
    #[error("{what}: the gateway answered {label} (HTTP {status}): {message}")]
    Server {
        /// What was asked.
        what: &'static str,
        /// The HTTP status.
        status: u16,
        /// The protocol's label, which programs read.
        label: String,
        /// What people read.
        message: String,
        /// The fields at fault.
        details: Vec<FieldIssue>,
    },
    /// An answer is larger than accepted.
    #[error("{what}: the answer is longer than {limit} bytes")]
    TooLarge {
        /// What was asked.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// An answer is not of the protocol's form.
    #[error("{what}: the gateway's answer cannot be read: {reason}")]
    Malformed {
        /// What was asked.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The operation did not end in time.
    #[error("{what}: no answer within {} s", .limit.as_secs())]
    Timeout {
        /// What was asked.
        what: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// The gateway serves a public key that hides nothing.
    #[error("the gateway serves a public key of parameter set {0}, which hides nothing; accepting it must be chosen explicitly")]
    InsecureKey(&'static str),
    /// The coprocessors found that the proof does not belong to contract, user and chain.
    #[error("the coprocessors rejected the proof of the input")]
    InputRejected,
    /// The answer is not what registered coprocessors or KMS nodes signed: the gateway is broken or malicious.
    #[error("{what}: the answer is not trustworthy: {reason}")]
    Verification {
        /// What was asked.
        what: &'static str,
        /// Which check failed.
        reason: String,
    },
    /// The deployment has several KMS nodes; this client opens answers of one.
    #[error("the deployment has {0} KMS nodes; user decryption here needs exactly one")]
    ThresholdKms(usize),
    /// The request is outside the protocol's limits.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The input cannot be encrypted, or the public key cannot be used.
    #[error(transparent)]
    Fhe(#[from] FheError),
    /// A key pair could not be made, or an answer does not open.
    #[error("user decryption: {0}")]
    Signcryption(#[from] SigncryptionError),
    /// The wallet did not sign.
    #[error("signing the permit: {0}")]
    Signing(#[from] alloy::signers::Error),
    /// A task ended without a result.
    #[error("an internal task ended without a result")]
    Task,
}

impl ClientError {
    /// Says whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Chain(error) => error.is_retryable(),
            Self::Transport { source, .. } => !source.is_builder(),
            Self::Timeout { .. } => true,
            Self::Server { label, .. } => matches!(
                label.as_str(),
                "not_ready_for_decryption"
                    | "rate_limited"
                    | "protocol_overload"
                    | "gateway_not_reachable"
                    | "readiness_check_timed_out"
                    | "response_timed_out"
            ),
            _ => false,
        }
    }

    /// Returns the label the server gave, if it answered with an error.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        match self {
            Self::Server { label, .. } => Some(label),
            _ => None,
        }
    }
}
