//! `cipherloom computations list --watch`: one line of counts per tenant and look.

use std::{io::IsTerminal, time::Duration};

use anyhow::Result;
use cipherloom_store::Backlog;
use serde_json::json;

use super::{Seen, describe};
use crate::dev::shutdown_signal;

/// Prints counts until Ctrl-C. On a terminal they stay in their place; elsewhere each look is lines of its own.
///
/// # Errors
/// If the database fails.
pub(super) async fn run(seen: &[Seen], seconds: u32, as_json: bool) -> Result<()> {
    let mut timer = tokio::time::interval(Duration::from_secs(seconds.into()));
    let in_place = !as_json && std::io::stdout().is_terminal();
    let mut shutdown = std::pin::pin!(shutdown_signal());
    let mut printed = 0;
    loop {
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            _ = timer.tick() => {}
        }
        let now_ms = describe::now_ms();
        let mut lines = Vec::with_capacity(seen.len() + 1);
        if in_place || (!as_json && printed == 0) {
            lines.push(format!(
                "{:<24}  {:>9}  {:>9}  {:>9}  {:>9}  {:>10}",
                "tenant", "pending", "runnable", "leased", "poisoned", "oldest"
            ));
        }
        for one in seen {
            let backlog = one.inspection.backlog(now_ms).await?;
            lines.push(line(&one.tenant.name, &backlog, as_json, now_ms));
        }
        if in_place && printed > 0 {
            // Back to the first line of the last look.
            print!("\x1b[{printed}A");
        }
        for line in &lines {
            println!("{}{line}", if in_place { "\x1b[2K" } else { "" });
        }
        printed = lines.len();
    }
}

fn line(tenant: &str, backlog: &Backlog, as_json: bool, now_ms: u64) -> String {
    if as_json {
        return counts(tenant, backlog, now_ms).to_string();
    }
    format!(
        "{tenant:<24}  {:>9}  {:>9}  {:>9}  {:>9}  {:>10}",
        backlog.pending,
        backlog.runnable,
        backlog.leased,
        backlog.poisoned,
        backlog.oldest_pending_age_ms.map_or_else(|| "-".to_owned(), describe::span)
    )
}

/// Describes what there is to do.
fn counts(tenant: &str, backlog: &Backlog, now_ms: u64) -> serde_json::Value {
    json!({
        "tenant": tenant,
        "nowMs": now_ms,
        "pending": backlog.pending,
        "runnable": backlog.runnable,
        "leased": backlog.leased,
        "poisoned": backlog.poisoned,
        "oldestPendingAgeMs": backlog.oldest_pending_age_ms,
        "oldestPendingBlocks": backlog.oldest_pending_blocks,
    })
}
