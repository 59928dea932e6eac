//! What can go wrong for a client.

use std::{path::PathBuf, time::Duration};

use cipherloom_chain::{ChainError, Fault};
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

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The call or the configuration is wrong: nothing helps but changing it.
    Usage,
    /// The gateway or the chain's node cannot be reached or does not answer in time.
    Network,
    /// The gateway has too much to do, or a value is not computed yet.
    Busy,
    /// The gateway, a coprocessor or the KMS has understood the request and refuses it.
    Refused,
    /// An answer is not what an honest and working gateway sends. No part of it was used.
    Untrustworthy,
    /// Something on this machine failed: the wallet, the file system, the source of randomness.
    Local,
}

/// A connection that could not be made, or that broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TransportFailure(pub(crate) String);

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The gateway's URL cannot be used.
    #[error("{0:?} is not the HTTP URL of a gateway")]
    Url(String),
    /// Something in the configuration cannot be used.
    #[error("{what}: {reason}")]
    Configuration {
        /// Which part of it.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
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
        source: TransportFailure,
    },
    /// There is no such route: an old gateway, or a URL that is not a gateway's.
    #[error("{what}: HTTP status {status}: there is no such route; is this the URL of a gateway, without a version?")]
    MissingRoute {
        /// What was asked.
        what: &'static str,
        /// The HTTP status: 404, 405 or 501.
        status: u16,
    },
    /// Something in front of the gateway answered that it cannot be had now.
    #[error("{what}: HTTP status {status} from something that is not a gateway")]
    Unavailable {
        /// What was asked.
        what: &'static str,
        /// The HTTP status: 408, 425, 429, 502, 503 or 504.
        status: u16,
        /// When to try again, as it said.
        retry_after: Option<Duration>,
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
        /// When to try again, as it said.
        retry_after: Option<Duration>,
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
    #[error("{what}: no answer within {} s", .limit.as_secs_f64())]
    Timeout {
        /// What was asked.
        what: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// The gateway serves a public key that hides nothing.
    #[error("the gateway serves a public key of parameter set {0}, which hides nothing; accepting it must be chosen explicitly")]
    InsecureKey(&'static str),
    /// The gateway serves another public key than the pinned one.
    #[error("the gateway serves the public key {found:?}, not {expected:?}")]
    OtherKey {
        /// The pinned id.
        expected: String,
        /// The id that the gateway gave.
        found: String,
    },
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
    /// So many KMS nodes cannot share a key: there is one, or a committee of 4 to 15.
    #[error("the deployment has {0} KMS nodes; there must be one, or a committee of 4 to 15")]
    Committee(usize),
    /// The answers of a committee of KMS nodes do not determine the values: too many are missing or wrong.
    #[error("{what}: too few KMS nodes agree: {reason}")]
    Shares {
        /// What was asked.
        what: &'static str,
        /// How many answers there are, and what is wrong with those that were left out.
        reason: String,
    },
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
    /// A kept permit cannot be read.
    #[error("the kept permit cannot be read: {0}")]
    KeptPermit(String),
    /// A file could not be read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// A blocking function was called on a thread that runs asynchronous tasks, which it would stop.
    #[error("blocking functions cannot be called inside of an asynchronous task; use the asynchronous client there")]
    InsideRuntime,
    /// The threads that a blocking client needs could not be started.
    #[error("starting the threads of a blocking client: {0}")]
    Runtime(std::io::Error),
    /// A task ended without a result.
    #[error("an internal task ended without a result")]
    Task,
}

/// Labels of errors that may pass.
const PASSING: [&str; 6] = [
    "not_ready_for_decryption",
    "rate_limited",
    "protocol_overload",
    "gateway_not_reachable",
    "readiness_check_timed_out",
    "response_timed_out",
];

impl ClientError {
    /// Says what a caller can do about the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Chain(error) => match error.fault() {
                Fault::Node => ErrorKind::Network,
                _ if error.is_retryable() => ErrorKind::Busy,
                _ => ErrorKind::Usage,
            },
            Self::Transport { .. } | Self::Timeout { .. } => ErrorKind::Network,
            Self::Unavailable { .. } => ErrorKind::Busy,
            Self::Server { label, .. } if PASSING.contains(&label.as_str()) => ErrorKind::Busy,
            Self::Server { .. } | Self::InputRejected => ErrorKind::Refused,
            Self::TooLarge { .. }
            | Self::Malformed { .. }
            | Self::InsecureKey(_)
            | Self::OtherKey { .. }
            | Self::Verification { .. }
            | Self::Shares { .. } => ErrorKind::Untrustworthy,
            Self::Fhe(FheError::KeyMaterial { .. }) => ErrorKind::Untrustworthy,
            Self::Signcryption(SigncryptionError::Randomness(_)) => ErrorKind::Local,
            Self::Signcryption(_) => ErrorKind::Untrustworthy,
            Self::Signing(_) | Self::File { .. } | Self::Runtime(_) | Self::Task => ErrorKind::Local,
            Self::Url(_)
            | Self::MissingRoute { .. }
            | Self::Configuration { .. }
            | Self::Deployment { .. }
            | Self::Committee(_)
            | Self::Request(_)
            | Self::Fhe(_)
            | Self::KeptPermit(_)
            | Self::InsideRuntime => ErrorKind::Usage,
        }
    }

    /// Says whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind(), ErrorKind::Network | ErrorKind::Busy)
    }

    /// Returns the label the server gave, if it answered with an error.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        match self {
            Self::Server { label, .. } => Some(label),
            _ => None,
        }
    }

    /// Returns how long the server wants to be left alone, if it said so.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Server { retry_after, .. } | Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
