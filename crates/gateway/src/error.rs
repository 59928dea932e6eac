//! Errors: the labels of the public protocol, their HTTP statuses, and the one shape in which all of them are answered.
//!
//! SDKs treat a label they do not know, or a status they do not expect, as a broken gateway, so both sets are closed.
//! Source: public protocol, section 4.2.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use uuid::Uuid;

use crate::services::{FieldIssue, ServiceError};

/// What kind of error an answer is: exactly the labels that SDKs accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Label {
    /// The body is not a JSON object.
    MalformedJson,
    /// The request is wrong in a way no field explains.
    RequestError,
    /// A ciphertext is not available yet.
    NotReadyForDecryption,
    /// The access-control contract does not allow it.
    NotAllowedOnHostAcl,
    /// Required fields are missing.
    MissingFields,
    /// Fields have wrong contents.
    ValidationFailed,
    /// The client has no valid API key, or its key is not for this.
    Unauthorized,
    /// There is no such job, file or route.
    NotFound,
    /// This client sends too many requests.
    RateLimited,
    /// All clients together send too many requests.
    ProtocolOverload,
    /// A defect on the server's side.
    InternalServerError,
    /// The protocol was paused by its operators.
    ProtocolPaused,
    /// The client's account cannot pay.
    InsufficientBalance,
    /// The client has not approved the payment.
    InsufficientAllowance,
    /// A part behind the gateway does not answer.
    GatewayNotReachable,
    /// A ciphertext did not become available in time.
    ReadinessCheckTimedOut,
    /// No answer came in time.
    ResponseTimedOut,
}

impl Label {
    /// All labels.
    pub const ALL: [Self; 17] = [
        Self::MalformedJson,
        Self::RequestError,
        Self::NotReadyForDecryption,
        Self::NotAllowedOnHostAcl,
        Self::MissingFields,
        Self::ValidationFailed,
        Self::Unauthorized,
        Self::NotFound,
        Self::RateLimited,
        Self::ProtocolOverload,
        Self::InternalServerError,
        Self::ProtocolPaused,
        Self::InsufficientBalance,
        Self::InsufficientAllowance,
        Self::GatewayNotReachable,
        Self::ReadinessCheckTimedOut,
        Self::ResponseTimedOut,
    ];

    /// Returns the label as clients read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MalformedJson => "malformed_json",
            Self::RequestError => "request_error",
            Self::NotReadyForDecryption => "not_ready_for_decryption",
            Self::NotAllowedOnHostAcl => "not_allowed_on_host_acl",
            Self::MissingFields => "missing_fields",
            Self::ValidationFailed => "validation_failed",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::RateLimited => "rate_limited",
            Self::ProtocolOverload => "protocol_overload",
            Self::InternalServerError => "internal_server_error",
            Self::ProtocolPaused => "protocol_paused",
            Self::InsufficientBalance => "insufficient_balance",
            Self::InsufficientAllowance => "insufficient_allowance",
            Self::GatewayNotReachable => "gateway_not_reachable",
            Self::ReadinessCheckTimedOut => "readiness_check_timed_out",
            Self::ResponseTimedOut => "response_timed_out",
        }
    }

    /// Returns the HTTP status that goes with the label.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::MalformedJson
            | Self::RequestError
            | Self::NotReadyForDecryption
            | Self::NotAllowedOnHostAcl
            | Self::MissingFields
            | Self::ValidationFailed => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::RateLimited | Self::ProtocolOverload => StatusCode::TOO_MANY_REQUESTS,
            Self::InternalServerError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::ProtocolPaused
            | Self::InsufficientBalance
            | Self::InsufficientAllowance
            | Self::GatewayNotReachable
            | Self::ReadinessCheckTimedOut
            | Self::ResponseTimedOut => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns whether answers with this label list the fields at fault: SDKs demand them for these and for no others.
    #[must_use]
    pub const fn has_details(self) -> bool {
        matches!(self, Self::MissingFields | Self::ValidationFailed)
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a gateway could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another address or port 0")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The public URL is not usable as a prefix.
    #[error("the public URL {0:?} is not an http or https URL without query and fragment")]
    PublicUrl(String),
    /// A key file cannot be served.
    #[error("the id {0:?} of a key file is not 1 to 128 letters, digits, '-', '_' or '.'")]
    KeyId(String),
    /// The configured clients cannot be told apart.
    #[error("clients: {0}")]
    Clients(String),
    /// The certificate or its key cannot be used.
    #[error("{path}: {reason}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The database of jobs failed at the start.
    #[error("the database of jobs: {0}")]
    Jobs(#[from] cipherloom_store::StoreError),
}

/// An error answer to one request.
#[derive(Debug)]
pub(crate) struct Refusal {
    request_id: Uuid,
    error: ServiceError,
    /// The status, where it is not the label's own.
    status: Option<StatusCode>,
}

impl Refusal {
    /// Answers a request with an error.
    pub(crate) fn new(request_id: Uuid, error: ServiceError) -> Self {
        Self {
            request_id,
            error,
            status: None,
        }
    }

    /// Answers the poll for a job that failed.
    ///
    /// SDKs do not expect 429 there, so overload behind the gateway reads as a part that cannot be reached.
    pub(crate) fn of_job(request_id: Uuid, error: ServiceError) -> Self {
        let label = match error.label {
            Label::RateLimited | Label::ProtocolOverload => Label::GatewayNotReachable,
            label => label,
        };
        Self::new(request_id, ServiceError { label, ..error })
    }

    /// Answers with a status that SDKs never provoke, like 405.
    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Self {
            status: Some(status),
            ..self
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let ServiceError {
            label,
            message,
            details,
            retry_after,
        } = self.error;
        let error = if label.has_details() {
            let details = if details.is_empty() {
                vec![FieldIssue::new("request", message.as_str())]
            } else {
                details
            };
            json!({ "label": label.as_str(), "message": message, "details": details })
        } else {
            json!({ "label": label.as_str(), "message": message })
        };
        let body = json!({ "status": "failed", "requestId": self.request_id, "error": error });
        let mut response = (self.status.unwrap_or(label.status()), Json(body)).into_response();
        // A client that is told to come back needs to know when.
        let retry_after = retry_after.or_else(|| (label.status() == StatusCode::TOO_MANY_REQUESTS).then_some(Duration::from_secs(1)));
        if let Some(delay) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, retry_after_header(delay));
        }
        response
    }
}

/// Writes a delay as whole seconds, at least one: SDKs parse integers and wait a second anyway.
pub(crate) fn retry_after_header(delay: Duration) -> HeaderValue {
    let seconds = delay.as_secs().saturating_add(u64::from(delay.subsec_nanos() > 0));
    HeaderValue::from(seconds.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_statuses_are_those_sdks_accept() {
        let accepted = [
            (
                400,
                "malformed_json request_error not_ready_for_decryption not_allowed_on_host_acl missing_fields validation_failed",
            ),
            (401, "unauthorized"),
            (404, "not_found"),
            (429, "rate_limited protocol_overload"),
            (500, "internal_server_error"),
            (
                503,
                "protocol_paused insufficient_balance insufficient_allowance gateway_not_reachable readiness_check_timed_out \
                 response_timed_out",
            ),
        ];
        let accepted = accepted
            .iter()
            .flat_map(|(status, labels)| labels.split_whitespace().map(|label| (*status, label)));
        let ours = Label::ALL
            .iter()
            .map(|label| (label.status().as_u16(), label.as_str()))
            .collect::<Vec<_>>();
        assert_eq!(ours, accepted.collect::<Vec<_>>());
    }

    #[test]
    fn polls_never_get_429() {
        for label in Label::ALL {
            let response = Refusal::of_job(Uuid::nil(), ServiceError::new(label, "")).into_response();
            assert_ne!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        }
    }

    #[test]
    fn retry_delays_are_whole_seconds_and_at_least_one() {
        assert_eq!(retry_after_header(Duration::ZERO), "1");
        assert_eq!(retry_after_header(Duration::from_millis(1001)), "2");
    }
}
