//! `cipherloom computations retry`.

use anyhow::{Result, bail, ensure};
use cipherloom_store::{RetryRequest, TransactionState};
use clap::Args;
use serde_json::json;

use super::{CommonOptions, HashOrHandle, Seen, describe, tenants};

/// Options of `computations retry`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RetryOptions {
    /// The transaction's hash, a handle that it publishes, or the name that a node gave it.
    #[arg(
        value_name = "HASH|HANDLE",
        required_unless_present = "all_poisoned",
        conflicts_with = "all_poisoned"
    )]
    what: Option<HashOrHandle>,

    #[command(flatten)]
    common: CommonOptions,

    /// Try all failed transactions of the tenant again.
    #[arg(long, requires = "confirm")]
    all_poisoned: bool,

    /// How many failed transactions you expect the tenant to have; another number changes nothing.
    #[arg(long, value_name = "N")]
    confirm: Option<u64>,
}

/// Makes failed transactions pending again, and says how many there were.
///
/// # Errors
/// If there is none, there are not as many as expected, or the database fails.
pub(super) async fn run(options: &RetryOptions) -> Result<()> {
    let seen = tenants(&options.common).await?;
    let (one, count) = match &options.what {
        Some(what) => retry_one(&seen, what).await?,
        None => retry_all(&seen, options.confirm).await?,
    };
    if options.common.json {
        println!("{}", json!({ "tenant": one.tenant.name, "retried": count }));
    } else {
        println!("tenant {}: {count} transactions are pending again", one.tenant.name);
    }
    Ok(())
}

async fn retry_one<'a>(seen: &'a [Seen], what: &HashOrHandle) -> Result<(&'a Seen, u64)> {
    let (one, key, detail) = what.find(seen).await?;
    let state = detail.summary.state;
    ensure!(
        state == TransactionState::Poisoned,
        "transaction {} has not failed: it is {}",
        detail.summary.hash,
        describe::state(&detail.summary, describe::now_ms())
    );
    let count = one.inspection.retry(&RetryRequest::One(key)).await?;
    Ok((one, count))
}

async fn retry_all(seen: &[Seen], expected: Option<u64>) -> Result<(&Seen, u64)> {
    let [one] = seen else {
        bail!("the database has {} tenants; say whose with --tenant", seen.len());
    };
    let poisoned = one.inspection.backlog(describe::now_ms()).await?.poisoned;
    ensure!(poisoned > 0, "tenant {} has no failed transactions", one.tenant.name);
    ensure!(
        expected == Some(poisoned),
        "tenant {} has {poisoned} failed transactions; nothing was changed. If that is what you mean, run this again with --confirm {poisoned}",
        one.tenant.name
    );
    let count = one.inspection.retry(&RetryRequest::All).await?;
    Ok((one, count))
}
