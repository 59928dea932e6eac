//! `cipherloom computations list`.

use std::str::FromStr;

use alloy::primitives::B256;
use anyhow::{Result, ensure};
use cipherloom_store::{TransactionFilter, TransactionKey, TransactionPosition, TransactionState, TransactionSummary};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{CommonOptions, HashOrHandle, Seen, describe, tenants, watch};

/// How many transactions are read at a time while those without a lease are passed over.
const PAGE: u32 = 1000;

/// Options of `computations list`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ListOptions {
    #[command(flatten)]
    common: CommonOptions,

    /// Only those in this state.
    #[arg(long, value_enum)]
    state: Option<StateOption>,

    /// Only those that publish this handle, or the one that a node gave this name.
    #[arg(long, value_name = "HANDLE")]
    handle: Option<HashOrHandle>,

    /// Only the one with this hash.
    #[arg(long, value_name = "HASH", conflicts_with_all = ["handle", "state", "before"])]
    transaction: Option<B256>,

    /// The most to list, of each tenant.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,

    /// The next page: only those before this position, the last one of the page before.
    #[arg(long, value_name = "BLOCK/INDEX")]
    before: Option<Position>,

    /// Count what there is to do every so many seconds until Ctrl-C, instead of a list [default: 2].
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u32).range(1..=3600),
        conflicts_with_all = ["handle", "state", "before", "transaction"]
    )]
    watch: Option<u32>,
}

/// Where a transaction stands, as the list can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StateOption {
    /// Not finished: waiting, ready or being computed.
    Pending,
    /// Being computed by a worker.
    Leased,
    /// Computed.
    Done,
    /// Failed for good.
    Poisoned,
}

/// A place in a tenant's blocks, written `BLOCK/INDEX`.
#[derive(Clone, Copy, Debug)]
struct Position(TransactionPosition);

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(block, index)| {
            Some(TransactionPosition {
                block_number: block.parse().ok()?,
                index: index.parse().ok()?,
            })
        });
        parsed
            .map(Self)
            .ok_or_else(|| "a position is a block's number and an index in it, such as 1200/3".to_owned())
    }
}

/// Lists, or watches.
///
/// # Errors
/// If the database fails or has no such tenant.
pub(super) async fn run(options: &ListOptions) -> Result<()> {
    let seen = tenants(&options.common).await?;
    if let Some(seconds) = options.watch {
        return watch::run(&seen, seconds, options.common.json).await;
    }
    ensure!(
        options.before.is_none() || seen.len() == 1,
        "positions are a tenant's own; say which with --tenant"
    );
    let now_ms = describe::now_ms();
    let mut list: Vec<Value> = Vec::new();
    let mut counted = Vec::new();
    for one in &seen {
        let found = select(one, options, now_ms).await?;
        if options.common.json {
            list.extend(found.iter().map(|summary| describe::summary(&one.tenant, summary, now_ms)));
        } else {
            print(one, &found, now_ms, options.limit);
        }
        counted.push(json!({ "tenant": one.tenant.name, "listed": found.len() }));
    }
    if options.common.json {
        println!("{}", json!({ "transactions": list, "tenants": counted }));
    }
    Ok(())
}

/// Reads what the options ask for of one tenant.
async fn select(seen: &Seen, options: &ListOptions, now_ms: u64) -> Result<Vec<TransactionSummary>> {
    if let Some(hash) = options.transaction {
        let found = seen.inspection.transaction(&TransactionKey::Hash(hash)).await?;
        return Ok(found.map(|detail| detail.summary).into_iter().collect());
    }
    let handle = match &options.handle {
        None => None,
        Some(name) => match name.handle(seen).await? {
            Some(handle) => Some(handle),
            // A name that the tenant does not know.
            None => return Ok(Vec::new()),
        },
    };
    let leased = options.state == Some(StateOption::Leased);
    let mut filter = TransactionFilter {
        state: options.state.map(|state| match state {
            StateOption::Pending | StateOption::Leased => TransactionState::Pending,
            StateOption::Done => TransactionState::Done,
            StateOption::Poisoned => TransactionState::Poisoned,
        }),
        handle,
        before: options.before.map(|Position(position)| position),
        limit: if leased { PAGE } else { options.limit },
    };
    if !leased {
        return Ok(seen.inspection.list_transactions(&filter).await?);
    }
    // A lease is not a state of its own in the database, so the pending ones are read until enough have one.
    let limit = usize::try_from(options.limit)?;
    let mut found = Vec::new();
    loop {
        let page = seen.inspection.list_transactions(&filter).await?;
        filter.before = page.last().map(|last| last.position);
        let full = page.len() >= usize::try_from(PAGE)?;
        found.extend(page.into_iter().filter(|summary| describe::state(summary, now_ms) == "leased"));
        if !full || found.len() >= limit {
            found.truncate(limit);
            return Ok(found);
        }
    }
}

fn print(seen: &Seen, found: &[TransactionSummary], now_ms: u64, limit: u32) {
    println!("tenant {}", seen.tenant.name);
    if found.is_empty() {
        println!("  no such transactions");
        return;
    }
    println!(
        "  {:>12}  {:<66}  {:<8}  {:>7}  {:>8}",
        "block/index", "transaction", "state", "outputs", "age"
    );
    for summary in found {
        let position = format!("{}/{}", summary.position.block_number, summary.position.index);
        println!(
            "  {position:>12}  {:<66}  {:<8}  {:>7}  {:>8}",
            summary.hash.to_string(),
            describe::state(summary, now_ms),
            summary.outputs,
            describe::age(summary, now_ms)
        );
        if let Some(failure) = &summary.failure {
            println!("  {:>12}  because {failure}", "");
        }
        if let Some(lease) = &summary.lease {
            println!("  {:>12}  leased by {}", "", describe::lease(lease, now_ms));
        }
    }
    if let Some(last) = found.last().filter(|_| u32::try_from(found.len()) == Ok(limit)) {
        println!(
            "  older ones: --tenant {} --before {}/{}",
            seen.tenant.name, last.position.block_number, last.position.index
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_printed() {
        let Position(position) = "1200/3".parse().unwrap();
        assert_eq!((position.block_number, position.index), (1200, 3));
        for wrong in ["", "1200", "1200/", "/3", "a/b", "-1/3"] {
            assert!(wrong.parse::<Position>().is_err(), "{wrong}");
        }
    }
}
