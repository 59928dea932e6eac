//! `cipherloom callbacks`: what contracts asked to have decrypted, what became of it, and trying again what failed.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use cipherloom_store::{CallbackFilter, CallbackSite, CallbackState, Callbacks, Database};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::describe::{attempt_json, attempt_line, now_ms, record_json, record_line, site_json, site_line};
use crate::database::{self, DatabaseOptions};

/// What to do with requested decryptions.
#[derive(Debug, Subcommand)]
pub(crate) enum CallbacksCommand {
    /// List requests, newest first, and how the relayers are.
    List(ListOptions),
    /// Show a request: who asked, for what, why it failed, and the transactions that were to deliver it.
    Show(ShowOptions),
    /// Have failed requests tried again. What the chain says was delivered is not delivered again.
    Retry(RetryOptions),
}

/// What the group of commands is for.
pub(crate) const HELP: &str = "\
See which decryptions contracts asked for, what became of them, and try again what failed.

A request is pending until a transaction that delivers it is written down, sent until the chain says in a final block that it was delivered, and then fulfilled; it has failed if it may \
not or cannot be decrypted, the call reverts or costs too much, and expired if its time was over. The chain is the judge: whoever delivers, it counts once. docs/callbacks.md says more.";

/// Options of all of them.
#[derive(Clone, Debug, Args)]
pub(crate) struct CommonOptions {
    #[command(flatten)]
    database: DatabaseOptions,

    /// Only this site's: a chain by the name that its gateways use; needed where there are several and one is meant.
    #[arg(long, value_name = "NAME")]
    site: Option<String>,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Options of `callbacks list`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ListOptions {
    #[command(flatten)]
    common: CommonOptions,

    /// Only requests in this state: pending, sent, fulfilled, failed or expired.
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<CallbackState>,

    /// Only requests with lower numbers, for the next page.
    #[arg(long, value_name = "ID")]
    before: Option<u64>,

    /// At most so many of each site.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

/// Options of `callbacks show`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ShowOptions {
    /// The request's number in the gateway contract.
    #[arg(value_name = "ID")]
    id: u64,

    #[command(flatten)]
    common: CommonOptions,
}

/// Options of `callbacks retry`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RetryOptions {
    /// The request's number in the gateway contract.
    #[arg(value_name = "ID", required_unless_present = "all_failed", conflicts_with = "all_failed")]
    id: Option<u64>,

    #[command(flatten)]
    common: CommonOptions,

    /// All that have failed and were not delivered.
    #[arg(long)]
    all_failed: bool,
}

/// Runs one of the commands.
///
/// # Errors
/// If the database cannot be used, or has not what was asked for.
pub(crate) async fn run(command: CallbacksCommand) -> Result<()> {
    match command {
        CallbacksCommand::List(options) => list(&options).await,
        CallbacksCommand::Show(options) => show(&options).await,
        CallbacksCommand::Retry(options) => retry(&options).await,
    }
}

fn state(name: &str) -> Result<CallbackState, String> {
    CallbackState::of_name(name).ok_or_else(|| format!("states are {}", CallbackState::ALL.map(CallbackState::name).join(", ")))
}

/// A site and what is recorded of it.
type Seen = (CallbackSite, Arc<dyn Callbacks>);

/// Opens the sites that the options choose: one, or all.
async fn sites(options: &CommonOptions) -> Result<Vec<Seen>> {
    let database: Arc<dyn Database> = database::shared(&options.database).await?;
    let all = database.callback_sites().await?;
    ensure!(!all.is_empty(), "no process has served callbacks with this database yet");
    let names: Vec<String> = all.iter().map(|site| site.name.clone()).collect();
    let chosen = all
        .into_iter()
        .filter(|site| options.site.as_ref().is_none_or(|name| *name == site.name));
    let chosen: Vec<Seen> = chosen.map(|site| (site.clone(), database.callbacks(&site.name))).collect();
    if chosen.is_empty() {
        bail!(
            "there is no site {:?}; there are {}",
            options.site.as_deref().unwrap_or_default(),
            names.join(", ")
        );
    }
    Ok(chosen)
}

/// Opens the one site that the options mean.
async fn site(options: &CommonOptions) -> Result<Seen> {
    let mut sites = sites(options).await?;
    let names: Vec<String> = sites.iter().map(|(site, _)| site.name.clone()).collect();
    match (sites.pop(), sites.is_empty()) {
        (Some(site), true) => Ok(site),
        _ => bail!("numbers of requests are a site's own; say which with --site: {}", names.join(", ")),
    }
}

async fn list(options: &ListOptions) -> Result<()> {
    let now_ms = now_ms();
    let (mut requests, mut described): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    for (site, callbacks) in sites(&options.common).await? {
        let filter = CallbackFilter {
            state: options.state,
            before: options.before,
            limit: options.limit,
        };
        let found = callbacks.list(filter).await?;
        let totals = callbacks.totals().await?;
        if options.common.json {
            requests.extend(found.iter().map(|record| record_json(&site.name, record)));
            let totals = totals.iter().map(|(state, count)| (state.name(), json!(count))).collect();
            described.push(with(site_json(&site, now_ms), "requests", totals));
            continue;
        }
        println!("{}", site_line(&site, now_ms));
        let counted: Vec<String> = totals.iter().map(|(state, count)| format!("{count} {}", state.name())).collect();
        println!("  {}", counted.join(", "));
        found.iter().for_each(|record| println!("{}", record_line(record)));
    }
    if options.common.json {
        println!("{}", json!({ "requests": requests, "sites": described }));
    }
    Ok(())
}

/// Adds a field to a JSON object.
fn with(mut object: Value, name: &str, value: Value) -> Value {
    if let Value::Object(fields) = &mut object {
        fields.insert(name.to_owned(), value);
    }
    object
}

async fn show(options: &ShowOptions) -> Result<()> {
    let (site, callbacks) = site(&options.common).await?;
    let Some((record, attempts)) = callbacks.find(options.id).await? else {
        bail!("site {} has no request {}", site.name, options.id);
    };
    if options.common.json {
        let attempts = attempts.iter().map(attempt_json).collect();
        println!("{}", with(record_json(&site.name, &record), "transactions", attempts));
        return Ok(());
    }
    let request = &record.request;
    println!("{}", record_line(&record).trim_start());
    println!("  asked by transaction {}", request.transaction);
    println!(
        "  calls 0x{} with {} wei, until {} by the chain's clock",
        hex::encode(request.selector),
        request.wei,
        request.max_timestamp
    );
    if request.passes_signatures {
        println!("  the contract checks the signatures itself");
    }
    request.handles.iter().for_each(|handle| println!("  handle {handle}"));
    if let Some(delivered_by) = record.delivered_by {
        println!("  delivered by transaction {delivered_by}");
    }
    println!("  {} transactions signed for it", attempts.len());
    attempts.iter().for_each(|attempt| println!("{}", attempt_line(attempt)));
    Ok(())
}

async fn retry(options: &RetryOptions) -> Result<()> {
    let (site, callbacks) = site(&options.common).await?;
    let count = callbacks.retry(options.id).await?;
    if let (Some(id), 0) = (options.id, count) {
        match callbacks.find(id).await? {
            None => bail!("site {} has no request {id}", site.name),
            Some((record, _)) if record.delivered_by.is_some() => {
                bail!(
                    "request {id} was delivered, and the contract delivers once: {}",
                    record.reason.unwrap_or_default()
                )
            }
            Some((record, _)) => bail!("request {id} has not failed: it is {}", record.state.name()),
        }
    }
    if options.common.json {
        println!("{}", json!({ "site": site.name, "retried": count }));
    } else {
        println!("site {}: {count} requests are pending again", site.name);
    }
    Ok(())
}
