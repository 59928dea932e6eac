//! What requested decryptions look like, for people and for programs.

use cipherloom_chain::fees::{ether, gwei};
use cipherloom_store::{CallbackAttempt, CallbackRecord, CallbackSite};
use serde_json::{Value, json};

/// The time now, in milliseconds since the Unix epoch.
pub(super) fn now_ms() -> u64 {
    cipherloom_coprocessor::system_clock()()
}

/// Describes a site for programs.
pub(super) fn site_json(site: &CallbackSite, now_ms: u64) -> Value {
    json!({
        "name": site.name,
        "served": site.claimed_until_ms > now_ms,
        "servedBy": site.owner,
        "readTo": site.cursor.map(|cursor| cursor.block),
        "relayer": site.report.as_ref().map(|(report, _)| report.account.to_checksum(None)),
        "balanceWei": site.report.as_ref().map(|(report, _)| report.balance.to_string()),
        "condition": site.report.as_ref().map(|(report, _)| report.condition.clone()),
        "reportedAtMs": site.report.as_ref().map(|(_, at)| *at),
    })
}

/// Describes a site in a line.
pub(super) fn site_line(site: &CallbackSite, now_ms: u64) -> String {
    let mut line = format!("site {}", site.name);
    match &site.report {
        Some((report, _)) => {
            let balance = ether(report.balance.saturating_to());
            line += &format!(": relayer {}, {balance} ether, {}", report.account, report.condition);
        }
        None => line += ": nothing reported yet",
    }
    if let Some(cursor) = site.cursor {
        line += &format!(", read to block {}", cursor.block);
    }
    if site.claimed_until_ms <= now_ms {
        line += "; NOT SERVED now";
    }
    line
}

/// Describes a request for programs.
pub(super) fn record_json(site: &str, record: &CallbackRecord) -> Value {
    let request = &record.request;
    json!({
        "site": site,
        "id": request.id,
        "state": record.state.name(),
        "reason": record.reason,
        "tries": record.tries,
        "caller": request.caller.to_checksum(None),
        "selector": format!("0x{}", hex::encode(request.selector)),
        "handles": request.handles,
        "wei": request.wei.to_string(),
        "maxTimestamp": request.max_timestamp,
        "passesSignatures": request.passes_signatures,
        "block": request.block,
        "requestedBy": request.transaction,
        "deliveredBy": record.delivered_by,
        "nextTryMs": record.next_try_ms,
        "seenAtMs": record.seen_at_ms,
        "endedAtMs": record.ended_at_ms,
    })
}

/// Describes a transaction for programs.
pub(super) fn attempt_json(attempt: &CallbackAttempt) -> Value {
    json!({
        "account": attempt.account.to_checksum(None),
        "nonce": attempt.nonce,
        "hash": attempt.hash,
        "maxFeePerGas": attempt.max_fee,
        "tipPerGas": attempt.tip,
        "signedAtMs": attempt.created_at_ms,
        "outcome": attempt.outcome,
    })
}

/// Describes a request in a line.
pub(super) fn record_line(record: &CallbackRecord) -> String {
    let request = &record.request;
    let mut line = format!(
        "  {:>8}  {:<9}  {}  {:>2} handles  block {}",
        request.id,
        record.state.name(),
        request.caller,
        request.handles.len(),
        request.block
    );
    if let Some(reason) = &record.reason {
        line += &format!("  {reason}");
    }
    line
}

/// Describes a transaction in a line.
pub(super) fn attempt_line(attempt: &CallbackAttempt) -> String {
    format!(
        "    {}  nonce {} of {}, at most {} gwei: {}",
        attempt.hash,
        attempt.nonce,
        attempt.account,
        gwei(u128::from(attempt.max_fee)),
        attempt.outcome.as_deref().unwrap_or("not settled")
    )
}
