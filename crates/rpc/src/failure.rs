//! Failures that keep their label on the way from part to part.
//!
//! A gRPC status has a code and a text, which is less than clients of the gateway are told. The rest travels in the status's details, as a
//! [`Failure`]. A status without one was not made by who should have answered: the call was lost on its way.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tonic::{Code, Status};

pub use crate::cipherloom::failure::v1::{Failure, FieldIssue};

/// The most bytes of a text in a failure. Details travel in a header, which has room for a few kilobytes.
const MAX_TEXT_BYTES: usize = 1000;

/// The most fields that a failure names.
const MAX_ISSUES: usize = 4;

/// The most bytes of details that are read.
const MAX_DETAILS_BYTES: usize = 64 << 10;

impl Failure {
    /// Describes a failure of a kind; texts that are too long for a header are cut.
    #[must_use]
    pub fn new(label: &str, message: &str) -> Self {
        Self {
            label: label.to_owned(),
            message: cut(message),
            issues: Vec::new(),
            retry_after_ms: 0,
        }
    }

    /// Names a field that is wrong. Those beyond the fourth are left out.
    #[must_use]
    pub fn with_issue(mut self, field: &str, issue: &str) -> Self {
        if self.issues.len() < MAX_ISSUES {
            self.issues.push(FieldIssue {
                field: cut(field),
                issue: cut(issue),
            });
        }
        self
    }

    /// Says when the same call may succeed.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Makes the status of a failed call.
    #[must_use]
    pub fn into_status(self, code: Code) -> Status {
        let details = Bytes::from(self.encode_to_vec());
        Status::with_details(code, self.message, details)
    }

    /// Reads the failure of a call, if who should have answered did.
    #[must_use]
    pub fn of(status: &Status) -> Option<Self> {
        let details = status.details();
        if details.is_empty() || details.len() > MAX_DETAILS_BYTES {
            return None;
        }
        Self::decode(details).ok().filter(|failure| !failure.label.is_empty())
    }
}

/// Cuts a text between characters.
fn cut(text: &str) -> String {
    match text
        .char_indices()
        .map(|(start, _)| start)
        .take_while(|start| *start <= MAX_TEXT_BYTES)
        .last()
    {
        Some(end) if text.len() > MAX_TEXT_BYTES => format!("{}…", text.get(..end).unwrap_or_default()),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_failure_survives_being_a_status() {
        let failure = Failure::new("validation_failed", "the chain is another one")
            .with_issue("contractChainId", "names chain 5")
            .retry_after(Duration::from_millis(1500));
        let status = failure.clone().into_status(Code::InvalidArgument);
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, "the chain is another one")
        );
        assert_eq!(Failure::of(&status), Some(failure));
    }

    #[test]
    fn a_status_of_somebody_else_has_no_failure() {
        assert_eq!(Failure::of(&Status::unavailable("connection refused")), None);
        let noise = Status::with_details(Code::Internal, "noise", Bytes::from_static(&[0xff; 20]));
        assert_eq!(Failure::of(&noise), None);
    }

    proptest! {
        #[test]
        fn a_failure_fits_a_header(text in "\\PC{0,3000}", issues in 0usize..50) {
            let failure = (0..issues).fold(Failure::new("validation_failed", &text), |failure, _| failure.with_issue(&text, &text));
            prop_assert!(failure.encode_to_vec().len() < 12_000);
        }
    }
}
