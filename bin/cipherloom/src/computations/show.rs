//! `cipherloom computations show`: everything about one transaction.

use anyhow::Result;
use cipherloom_store::TransactionDetail;
use clap::Args;
use serde_json::{Value, json};

use super::{CommonOptions, HashOrHandle, Seen, describe, tenants, waits};

/// Options of `computations show`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ShowOptions {
    /// The transaction's hash, a handle that it publishes, or the name that a node gave it.
    #[arg(value_name = "HASH|HANDLE")]
    what: HashOrHandle,

    #[command(flatten)]
    common: CommonOptions,

    /// How far the tree of what waits for what is followed.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u8).range(0..=64))]
    depth: u8,
}

/// Prints the transaction.
///
/// # Errors
/// If no tenant has it, or the database fails.
pub(super) async fn run(options: &ShowOptions) -> Result<()> {
    let seen = tenants(&options.common).await?;
    let (one, _, detail) = options.what.find(&seen).await?;
    let now_ms = describe::now_ms();
    let tree = waits::follow(one.inspection.as_ref(), &detail, options.depth).await?;
    if options.common.json {
        println!("{}", serde_json::to_string_pretty(&to_json(one, &detail, &tree, now_ms)?)?);
    } else {
        print(one, &detail, &tree, now_ms);
    }
    Ok(())
}

fn to_json(seen: &Seen, detail: &TransactionDetail, tree: &waits::Tree, now_ms: u64) -> Result<Value> {
    let mut description = describe::summary(&seen.tenant, &detail.summary, now_ms);
    if let Some(fields) = description.as_object_mut() {
        fields.insert("computations".to_owned(), serde_json::to_value(&detail.computations)?);
        fields.insert("outputs".to_owned(), detail.outputs.iter().map(describe::output).collect());
        fields.insert("waitsFor".to_owned(), detail.waits_for.iter().map(describe::wait).collect());
        fields.insert("tree".to_owned(), json!(tree.to_json(now_ms)));
    }
    Ok(description)
}

fn print(seen: &Seen, detail: &TransactionDetail, tree: &waits::Tree, now_ms: u64) {
    let summary = &detail.summary;
    println!("transaction  {}", summary.hash);
    println!("tenant       {}, chain {}", seen.tenant.name, seen.tenant.chain_id);
    println!(
        "recorded     in block {} at position {}, {} ago",
        summary.position.block_number,
        summary.position.index,
        describe::age(summary, now_ms)
    );
    println!("state        {}", describe::state(summary, now_ms));
    println!("attempts     {}", summary.attempts);
    if let Some(lease) = &summary.lease {
        println!("leased by    {}", describe::lease(lease, now_ms));
    }
    println!("\ncomputations, in order:");
    for computation in &detail.computations {
        println!("  {}", describe::computation(computation));
    }
    println!("\noutputs:");
    for output in &detail.outputs {
        let state = match (&output.failure, output.stored) {
            (Some(failure), _) => format!("failed because {failure}"),
            (None, true) => "stored".to_owned(),
            (None, false) => "not there yet".to_owned(),
        };
        println!("  {}  {:<8}  {state}", output.handle, output.handle.fhe_type().to_string());
    }
    if !detail.waits_for.is_empty() {
        println!("\nwaits for:");
        tree.lines(now_ms).iter().for_each(|line| println!("  {line}"));
    }
    if detail.outputs.iter().any(|output| output.failure.is_some()) {
        println!("\nonce the reason is gone: cipherloom computations retry {}", summary.hash);
    }
}
