//! Failures of calls, in the words of the gateway.

use std::time::Duration;

use cipherloom_gateway::{FieldIssue, Label, ServiceError};
use cipherloom_rpc::failure::Failure;
use cipherloom_service::endpoints::{is_unanswered, with_causes};
use tonic::{Code, Status};

/// Says what the status of a call to a part means for a client of the gateway.
pub(crate) fn service_error(part: &'static str, status: &Status) -> ServiceError {
    let Some(failure) = Failure::of(status) else {
        return unexplained(part, status);
    };
    let Some(label) = Label::ALL.into_iter().find(|label| label.as_str() == failure.label) else {
        tracing::error!(
            part,
            label = failure.label,
            message = failure.message,
            "a failure of an unknown kind"
        );
        return ServiceError::new(Label::InternalServerError, failure.message);
    };
    let details = failure
        .issues
        .into_iter()
        .map(|issue| FieldIssue::new(issue.field, issue.issue))
        .collect();
    let error = ServiceError {
        details,
        ..ServiceError::new(label, failure.message)
    };
    if label == Label::InternalServerError {
        tracing::error!(part, %error, "a call failed");
    }
    match failure.retry_after_ms {
        0 => error,
        delay => error.retry_after(Duration::from_millis(delay)),
    }
}

/// Nobody who should answer made this status.
fn unexplained(part: &'static str, status: &Status) -> ServiceError {
    if is_unanswered(status) {
        tracing::warn!(part, reason = %with_causes(status), "no endpoint answers");
        return ServiceError::new(Label::GatewayNotReachable, format!("the {part} does not answer; try again"));
    }
    tracing::error!(part, code = ?status.code(), message = status.message(), "a call failed");
    match status.code() {
        Code::ResourceExhausted => ServiceError::new(Label::ProtocolOverload, format!("the {part} has too much to do; try again")),
        _ => ServiceError::new(
            Label::InternalServerError,
            format!("the {part} refuses the gateway; its operators find the reason in the log"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_keeps_its_name_its_fields_and_its_delay() {
        for label in Label::ALL {
            let status = Failure::new(label.as_str(), "what happened")
                .with_issue("extraData", "is too long")
                .retry_after(Duration::from_secs(2))
                .into_status(Code::Internal);
            let error = service_error("KMS", &status);
            assert_eq!((error.label, error.message.as_str()), (label, "what happened"));
            assert_eq!(error.details, [FieldIssue::new("extraData", "is too long")]);
            assert_eq!(error.retry_after, Some(Duration::from_secs(2)));
        }
    }

    #[test]
    fn a_call_that_nobody_answered_says_that_the_part_cannot_be_reached() {
        let error = service_error("KMS", &Status::unavailable("connection refused"));
        assert_eq!(error.label, Label::GatewayNotReachable);
        let error = service_error("KMS", &Status::unauthenticated("wrong key"));
        assert_eq!(error.label, Label::InternalServerError);
        assert!(!error.message.contains("wrong key"));
        let unknown = Failure::new("of_tomorrow", "new").into_status(Code::Internal);
        assert_eq!(service_error("KMS", &unknown).label, Label::InternalServerError);
    }
}
