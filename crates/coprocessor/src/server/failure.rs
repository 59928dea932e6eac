//! Why a part's call failed: a label of the gateway's interface, and what to tell whom.

use std::time::Duration;

use cipherloom_rpc::failure::Failure;
use tonic::{Code, Status};

use super::error::RequestError;
use crate::{CoprocessorError, Fault};

/// What a caller is told to wait when there is no room.
const BUSY: Duration = Duration::from_secs(1);

/// A failure with its status code.
#[derive(Debug)]
pub(super) struct PartFailure {
    code: Code,
    failure: Failure,
}

impl PartFailure {
    /// A message is not of the form that the interface describes.
    pub(super) fn malformed(what: &str) -> Self {
        Self::new(Code::InvalidArgument, "request_error", what)
    }

    /// A field that a client of the gateway has sent is wrong.
    pub(super) fn invalid(field: &str, issue: &str) -> Self {
        let failure = Failure::new("validation_failed", issue).with_issue(field, issue);
        Self {
            code: Code::InvalidArgument,
            failure,
        }
    }

    /// The deployment has to be set up otherwise.
    pub(super) fn misconfigured(what: &str) -> Self {
        Self::new(Code::FailedPrecondition, "internal_server_error", what)
    }

    /// What the answer depends on does not answer now.
    pub(super) fn unavailable(what: &str) -> Self {
        Self::new(Code::Unavailable, "gateway_not_reachable", what)
    }

    pub(super) const fn code(&self) -> Code {
        self.code
    }

    fn new(code: Code, label: &str, message: &str) -> Self {
        Self {
            code,
            failure: Failure::new(label, message),
        }
    }
}

impl std::fmt::Display for PartFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.failure.label, self.failure.message)
    }
}

impl From<RequestError> for PartFailure {
    fn from(error: RequestError) -> Self {
        let label = match error.code() {
            Code::ResourceExhausted => "protocol_overload",
            Code::Unavailable | Code::Aborted => "gateway_not_reachable",
            Code::InvalidArgument | Code::NotFound => "request_error",
            _ => match &error {
                // An operator gives the tenant keys, and then it goes on.
                RequestError::NoKeys | RequestError::KeysRefused => "gateway_not_reachable",
                _ => "internal_server_error",
            },
        };
        let mut of_caller = Self::new(error.code(), label, &error.to_string());
        if label == "protocol_overload" {
            of_caller.failure = of_caller.failure.retry_after(BUSY);
        }
        of_caller
    }
}

impl From<CoprocessorError> for PartFailure {
    fn from(error: CoprocessorError) -> Self {
        match (&error, error.fault()) {
            (CoprocessorError::WrongChain { .. }, _) => Self::invalid("contractChainId", &error.to_string()),
            (CoprocessorError::WrongAcl { .. }, _) => Self::misconfigured(&error.to_string()),
            (_, Fault::Request) => Self::invalid("ciphertextWithInputVerification", &error.to_string()),
            (_, Fault::Coprocessor) => RequestError::from(error).into(),
        }
    }
}

impl From<PartFailure> for Status {
    fn from(PartFailure { code, failure }: PartFailure) -> Self {
        failure.into_status(code)
    }
}
