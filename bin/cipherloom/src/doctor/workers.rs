//! Whether work is done: who computes, what waits, what failed.

use cipherloom_coprocessor::system_clock;
use cipherloom_service::report::Report;
use cipherloom_store::{Backlog, Database, TransactionFilter, TransactionState};

use super::{Roles, tenants::Found};

const AREA: &str = "workers";

/// Work that is ready and not done after this time has nobody who does it.
const STUCK_MS: u64 = 5 * 60 * 1000;

/// How often a transaction may be begun before something is wrong with it.
const MANY_ATTEMPTS: u32 = 3;

/// How many pending transactions are looked at one by one.
const SAMPLE: u32 = 200;

/// Looks at the work of every tenant that is served.
pub(super) async fn check(database: &dyn Database, found: &[Found], roles: Roles, report: &mut Report) {
    let now_ms = system_clock()();
    let mut leased = 0;
    let mut waiting = false;
    for found in found.iter().filter(|found| !found.tenant.disabled) {
        let inspection = database.inspection(&found.tenant);
        match inspection.backlog(now_ms).await {
            Ok(backlog) => {
                leased += backlog.leased;
                waiting |= backlog.runnable > 0;
                check_backlog(&found.tenant.name, &backlog, report);
            }
            Err(error) => {
                report.fail(
                    AREA,
                    format!("tenant {}: work cannot be counted: {error}", found.tenant.name),
                    "look at the database's log",
                );
                continue;
            }
        }
        let filter = TransactionFilter {
            state: Some(TransactionState::Pending),
            limit: SAMPLE,
            ..TransactionFilter::default()
        };
        let Ok(pending) = inspection.list_transactions(&filter).await else {
            continue;
        };
        for summary in pending.iter().filter(|summary| summary.attempts >= MANY_ATTEMPTS) {
            report.warn(
                AREA,
                format!(
                    "tenant {}: transaction {} was begun {} times and never finished: workers die of it, or lose their leases",
                    found.tenant.name, summary.hash, summary.attempts
                ),
                format!(
                    "look at the workers' logs; `cipherloom computations show {}` shows what it asks for",
                    summary.hash
                ),
            );
        }
        let expired = pending
            .iter()
            .filter_map(|summary| summary.lease.as_ref())
            .find(|lease| now_ms.saturating_sub(lease.expires_at_ms) > STUCK_MS);
        if let Some(lease) = expired {
            report.warn(
                AREA,
                format!(
                    "tenant {}: a lease of worker {} ended long ago and nobody took the work over",
                    found.tenant.name, lease.owner
                ),
                "start a worker: cipherloom coprocessor --run-bg-worker",
            );
        }
    }
    match (leased, waiting, roles.worker) {
        (0, true, _) => report.warn(
            AREA,
            "there is work, and at this moment no worker holds any of it",
            "start a worker, `cipherloom coprocessor --run-bg-worker`, or look at its log; run this again to see whether it was chance",
        ),
        (0, false, _) => report.ok(AREA, "there is no work to do"),
        (count, ..) => report.ok(AREA, format!("workers hold {count} transactions")),
    }
}

fn check_backlog(tenant: &str, backlog: &Backlog, report: &mut Report) {
    if backlog.poisoned > 0 {
        report.warn(
            AREA,
            format!("tenant {tenant}: {} transactions failed for good", backlog.poisoned),
            format!("cipherloom computations list --tenant {tenant} --state poisoned says why; computations retry tries them again"),
        );
    }
    let age = backlog.oldest_pending_age_ms.unwrap_or_default();
    if backlog.pending == 0 {
        report.ok(AREA, format!("tenant {tenant}: nothing is pending"));
    } else if age > STUCK_MS && backlog.leased == 0 {
        report.fail(
            AREA,
            format!(
                "tenant {tenant}: {} transactions are pending, the oldest for {} minutes, and nobody computes them",
                backlog.pending,
                age / 60_000
            ),
            "start workers: cipherloom coprocessor --run-bg-worker",
        );
    } else if age > STUCK_MS {
        report.warn(
            AREA,
            format!(
                "tenant {tenant}: {} transactions are pending, the oldest for {} minutes",
                backlog.pending,
                age / 60_000
            ),
            "add workers; `cipherloom computations list --watch` shows whether the number falls",
        );
    } else {
        report.ok(
            AREA,
            format!(
                "tenant {tenant}: {} transactions are pending, {} are being computed",
                backlog.pending, backlog.leased
            ),
        );
    }
}
