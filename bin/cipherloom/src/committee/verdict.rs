//! What a client is told when too few nodes answered: who failed and why, under the label that enough nodes agree on.

use std::{collections::BTreeMap, time::Duration};

use cipherloom_gateway::{Label, ServiceError};

use super::client::NodeError;

/// The most characters of a node's own words that are handed on. A node may be corrupt, and what it says goes to clients and logs.
const MAX_REASON_CHARACTERS: usize = 240;

/// What was asked of the nodes, and what would have been enough.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    /// How many of them would have been enough.
    pub(super) answers: usize,
    /// How many there are.
    pub(super) nodes: usize,
    /// How many may be corrupt.
    pub(super) corrupt: usize,
    /// What the answers are, in the plural.
    pub(super) what: &'static str,
}

/// Says why a request was not answered.
///
/// A reason counts if more nodes give it than can be corrupt, so that one of them is honest: then the request is to blame, or something that all
/// nodes have in common. Otherwise nodes are to blame, and the same request may succeed when they are back.
pub(super) fn verdict(need: Need, answered: usize, failures: &BTreeMap<u32, NodeError>) -> ServiceError {
    let mut by_label: BTreeMap<&'static str, Vec<&ServiceError>> = BTreeMap::new();
    for failure in failures.values() {
        if let NodeError::Refused(error) = failure {
            by_label.entry(error.label.as_str()).or_default().push(error);
        }
    }
    let agreed = by_label
        .into_values()
        .filter(|errors| errors.len() > need.corrupt)
        .max_by_key(Vec::len);
    let told = tell(need, answered, failures);
    match agreed.as_deref() {
        // All refuse for one reason: the client learns it as if there were one node.
        Some(errors @ [first, ..]) => {
            let common = most_common(errors).unwrap_or(first);
            let unanimous = errors.len() == need.nodes;
            ServiceError {
                message: if unanimous { shortened(&common.message) } else { told },
                retry_after: errors.iter().filter_map(|error| error.retry_after).max().map(bounded),
                ..(*common).clone()
            }
        }
        _ => ServiceError::new(Label::GatewayNotReachable, told),
    }
}

/// Returns the error that most of them are, and of several the first.
fn most_common<'a>(errors: &[&'a ServiceError]) -> Option<&'a ServiceError> {
    let count = |error: &ServiceError| errors.iter().filter(|other| ***other == *error).count();
    errors.iter().rev().max_by_key(|error| count(error)).copied()
}

/// A node's wish, within what clients should have to wait.
fn bounded(delay: Duration) -> Duration {
    delay.min(Duration::from_secs(60))
}

fn tell(need: Need, answered: usize, failures: &BTreeMap<u32, NodeError>) -> String {
    let Need { answers, nodes, what, .. } = need;
    let each: Vec<String> = failures
        .iter()
        .map(|(party, failure)| match failure {
            NodeError::Refused(error) => format!("node {party} refuses: {} ({})", shortened(&error.message), error.label),
            other => format!("node {party} {}", shortened(&other.to_string())),
        })
        .collect();
    format!(
        "{answers} of {nodes} KMS nodes have to give {what}, and {answered} did: {}",
        each.join("; ")
    )
}

/// Cuts a text that a node chose, and leaves out what terminals and logs would act on.
fn shortened(text: &str) -> String {
    let printable = |character: char| if character.is_control() { ' ' } else { character };
    let mut characters = text.chars().map(printable);
    let short: String = characters.by_ref().take(MAX_REASON_CHARACTERS).collect();
    if characters.next().is_some() { short + "…" } else { short }
}

#[cfg(test)]
mod tests {
    use cipherloom_gateway::FieldIssue;

    use super::*;

    const NEED: Need = Need {
        answers: 3,
        nodes: 4,
        corrupt: 1,
        what: "shares",
    };

    fn refused(label: Label, message: &str) -> NodeError {
        NodeError::Refused(ServiceError::new(label, message))
    }

    fn of(failures: impl IntoIterator<Item = (u32, NodeError)>) -> ServiceError {
        let failures: BTreeMap<_, _> = failures.into_iter().collect();
        verdict(NEED, NEED.nodes - failures.len(), &failures)
    }

    #[test]
    fn what_all_say_is_said_as_one_would() {
        let error = of((1..=4).map(|party| (party, refused(Label::NotAllowedOnHostAcl, "not allowed"))));
        assert_eq!((error.label, error.message.as_str()), (Label::NotAllowedOnHostAcl, "not allowed"));
    }

    #[test]
    fn one_corrupt_node_cannot_choose_the_reason() {
        let error = of([
            (1, refused(Label::NotAllowedOnHostAcl, "a lie")),
            (3, NodeError::Unreachable("connection refused".into())),
        ]);
        assert_eq!(error.label, Label::GatewayNotReachable);
        assert_eq!(
            error.message,
            "3 of 4 KMS nodes have to give shares, and 2 did: node 1 refuses: a lie (not_allowed_on_host_acl); node 3 does not answer: connection \
             refused"
        );
        let error = of([
            (1, refused(Label::ValidationFailed, "a lie")),
            (2, refused(Label::NotReadyForDecryption, "not yet")),
            (4, refused(Label::NotReadyForDecryption, "not yet")),
        ]);
        assert_eq!(error.label, Label::NotReadyForDecryption);
        assert!(error.message.contains("node 1 refuses: a lie"), "{}", error.message);
    }

    #[test]
    fn fields_are_those_that_most_name() {
        let wrong = |field: &str| NodeError::Refused(ServiceError::invalid(vec![FieldIssue::new(field, "is wrong")]));
        let error = of([
            (1, wrong("lie")),
            (2, wrong("signature")),
            (3, wrong("signature")),
            (4, wrong("signature")),
        ]);
        assert_eq!(error.label, Label::ValidationFailed);
        assert_eq!(error.details, [FieldIssue::new("signature", "is wrong")]);
    }

    #[test]
    fn what_nodes_say_is_cut_and_cannot_steer_a_terminal() {
        let long = format!("\u{1b}[31m{}", "x".repeat(10_000));
        let failure = NodeError::Refused(ServiceError::new(Label::RequestError, long).retry_after(Duration::from_secs(1_000_000)));
        let error = of((1..=4).map(|party| (party, failure.clone())));
        assert!(error.message.chars().count() <= MAX_REASON_CHARACTERS + 1);
        assert!(!error.message.contains('\u{1b}'));
        assert_eq!(error.retry_after, Some(Duration::from_secs(60)));
    }
}
