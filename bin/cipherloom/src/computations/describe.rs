//! What transactions look like, for people and for programs.

use cipherloom_primitives::{Computation, Handle, Operand, TypedOperation};
use cipherloom_store::{LeaseSummary, OutputSummary, Tenant, TransactionState, TransactionSummary, WaitSummary};
use serde_json::{Value, json};

/// The time now, in milliseconds since the Unix epoch.
pub(super) fn now_ms() -> u64 {
    cipherloom_coprocessor::system_clock()()
}

/// Names where a transaction stands, a live lease included.
pub(super) fn state(summary: &TransactionSummary, now_ms: u64) -> &'static str {
    match (summary.state, &summary.lease) {
        (TransactionState::Pending, Some(lease)) if lease.expires_at_ms > now_ms => "leased",
        (TransactionState::Pending, _) if summary.waits => "waiting",
        (state, _) => state.name(),
    }
}

/// Writes a span of time as people say it.
pub(super) fn span(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds} ms"),
        1..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// How long ago a transaction was recorded.
pub(super) fn age(summary: &TransactionSummary, now_ms: u64) -> String {
    span(now_ms.saturating_sub(summary.recorded_at_s.saturating_mul(1000)))
}

/// Writes a lease and how long it still lasts.
pub(super) fn lease(lease: &LeaseSummary, now_ms: u64) -> String {
    match lease.expires_at_ms.checked_sub(now_ms) {
        Some(left) if left > 0 => format!("{}, for {} more unless renewed", lease.owner, span(left)),
        _ => format!(
            "{}, expired {} ago: any worker takes it over",
            lease.owner,
            span(now_ms.saturating_sub(lease.expires_at_ms))
        ),
    }
}

/// Describes a transaction of a list.
pub(super) fn summary(tenant: &Tenant, summary: &TransactionSummary, now_ms: u64) -> Value {
    json!({
        "tenant": tenant.name,
        "hash": summary.hash,
        "number": summary.number.to_string(),
        "block": summary.position.block_number,
        "index": summary.position.index,
        "recordedAt": summary.recorded_at_s,
        "state": state(summary, now_ms),
        "outputs": summary.outputs,
        "attempts": summary.attempts,
        "failure": summary.failure,
        "lease": summary.lease.as_ref().map(|lease| json!({ "owner": lease.owner, "expiresAtMs": lease.expires_at_ms })),
    })
}

/// Describes an output.
pub(super) fn output(output: &OutputSummary) -> Value {
    json!({
        "handle": output.handle.to_string(),
        "type": output.handle.fhe_type().to_string(),
        "stored": output.stored,
        "failure": output.failure,
    })
}

/// Describes what is waited for.
pub(super) fn wait(wait: &WaitSummary) -> Value {
    json!({ "handle": wait.handle.to_string(), "transaction": wait.transaction })
}

/// Writes a computation: the operation on its operands, and the result.
pub(super) fn computation(computation: &Computation) -> String {
    let mut operands: Vec<String> = computation.inputs.iter().map(Handle::to_string).collect();
    match &computation.operation {
        TypedOperation::Binary {
            rhs: Operand::Scalar(value),
            ..
        }
        | TypedOperation::TrivialEncrypt { value, .. } => operands.push(value.to_string()),
        TypedOperation::MulDiv { factor, divisor, .. } => {
            if let Operand::Scalar(value) = factor {
                operands.push(value.to_string());
            }
            operands.push(format!("/ {divisor}"));
        }
        TypedOperation::Rand { random_bits, .. } => operands.push(format!("{random_bits} bits")),
        _ => {}
    }
    format!(
        "{} = {}({}) as {}",
        computation.result,
        computation.operation.operation(),
        operands.join(", "),
        computation.operation.result_type()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_in_the_unit_people_use() {
        for (milliseconds, text) in [
            (5, "5 ms"),
            (1500, "1 s"),
            (119_000, "119 s"),
            (120_000, "2 min"),
            (7_200_000, "2 h"),
            (259_200_000, "3 days"),
        ] {
            assert_eq!(span(milliseconds), text);
        }
    }

    #[test]
    fn a_lease_says_whether_it_still_holds() {
        let summary = LeaseSummary {
            owner: "worker-1".to_owned(),
            expires_at_ms: 10_000,
        };
        assert!(lease(&summary, 5_000).contains("5 s more"));
        assert!(lease(&summary, 10_000).contains("expired 0 ms ago"));
        assert!(lease(&summary, 70_000).contains("any worker takes it over"));
    }
}
