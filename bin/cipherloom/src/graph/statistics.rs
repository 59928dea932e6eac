//! `cipherloom graph statistics`: what each rewriting rule saves on the transactions of real contracts.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use cipherloom_engine::{Engine, explain::Report};
use serde_json::{Value, json};

use super::{
    json::{load, reference},
    options::StatisticsOptions,
    recording::Recording,
};
use crate::{
    dapp_transactions::{self, DappTransaction, ExampleCode},
    symbolic_chain::SymbolicChain,
};

/// A transaction as users of a contract send it.
struct Sample {
    /// Which contract.
    contract: &'static str,
    /// What the transaction does.
    transaction: &'static str,
    /// What it asks for.
    recording: Recording,
}

/// Sends the transactions and prints what the rules make of them.
///
/// # Errors
/// If an artifact cannot be read, or a contract refuses a transaction.
pub(super) fn run(options: &StatisticsOptions) -> Result<()> {
    let chain = SymbolicChain::start()?;
    let mut transactions = dapp_transactions::examples(&chain, &ExampleCode::built_in()?)?;
    if let Some(folder) = &options.erc7984 {
        transactions.extend(dapp_transactions::erc7984(&chain, folder)?);
    }
    let samples = samples(&transactions, &chain)?;
    if let Some(folder) = &options.save {
        save(&samples, folder)?;
    }
    let reports = samples
        .iter()
        .map(|sample| Ok((sample, Report::new(&sample.recording.graph()?, &Engine::default()))))
        .collect::<Result<Vec<_>>>()?;
    if options.json {
        println!("{}", to_json(&reports));
    } else {
        print!("{}", tables(&reports));
    }
    Ok(())
}

/// Takes those transactions that ask for something to be computed.
fn samples(transactions: &[DappTransaction], chain: &SymbolicChain) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for transaction in transactions {
        let recording = Recording::from_logs(transaction.receipt.logs(), chain.addresses())?;
        if !recording.computations.is_empty() {
            samples.push(Sample {
                contract: transaction.contract,
                transaction: transaction.name,
                recording,
            });
        }
    }
    Ok(samples)
}

/// Writes each transaction into a file that is called after it.
fn save(samples: &[Sample], folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for sample in samples {
        let name = format!("{}-{}", sample.contract, sample.transaction).to_lowercase();
        let words: Vec<&str> = name
            .split(|character: char| !character.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .collect();
        sample.recording.write(&folder.join(words.join("-") + ".json"))?;
    }
    Ok(())
}

/// Writes two tables, in Markdown: the transactions, and the rules.
fn tables(reports: &[(&Sample, Report)]) -> String {
    let mut text = String::from(
        "| contract | transaction | operations | tfhe-rs | each alone | without rules | all rules | each rule saves |\n|---|---|--:|--:|--:|--:|--:|---|\n",
    );
    for (sample, report) in reports {
        let saved: Vec<String> = report
            .rules
            .iter()
            .filter(|effect| effect.bootstraps_saved != 0)
            .map(|effect| format!("{} {}", effect.rule, effect.bootstraps_saved))
            .collect();
        text += &format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} |\n",
            sample.contract,
            sample.transaction,
            report.needed.operation_count(),
            report.tfhe_rs(),
            report.alone_load().bootstraps,
            report.plain_load().bootstraps,
            report.load().bootstraps,
            if saved.is_empty() { "–".to_owned() } else { saved.join(", ") }
        );
    }
    text += "\n| rule | transactions | times | bootstraps saved |\n|---|--:|--:|--:|\n";
    for (rule, total) in totals(reports) {
        text += &format!(
            "| {rule} | {} | {} | {} |\n",
            total.transactions, total.times, total.bootstraps_saved
        );
    }
    text
}

/// What a rule did in all transactions together.
#[derive(Default)]
struct Total {
    transactions: usize,
    times: usize,
    bootstraps_saved: i64,
}

fn totals(reports: &[(&Sample, Report)]) -> BTreeMap<&'static str, Total> {
    let mut totals: BTreeMap<&'static str, Total> = BTreeMap::new();
    for effect in reports.iter().flat_map(|(_, report)| &report.rules) {
        let total = totals.entry(effect.rule).or_default();
        total.transactions += 1;
        total.times += effect.times;
        total.bootstraps_saved += effect.bootstraps_saved;
    }
    totals
}

fn to_json(reports: &[(&Sample, Report)]) -> Value {
    let transactions: Vec<Value> = reports
        .iter()
        .map(|(sample, report)| {
            let rules: Vec<Value> = report
                .rules
                .iter()
                .map(|effect| json!({ "rule": effect.rule, "times": effect.times, "bootstrapsSaved": effect.bootstraps_saved }))
                .collect();
            json!({
                "contract": sample.contract,
                "transaction": sample.transaction,
                "operations": report.needed.operation_count(),
                "tfheRs": reference(report.tfhe_rs()),
                "eachOperationAlone": load(report.alone_load()),
                "withoutRules": load(report.plain_load()),
                "allRules": load(report.load()),
                "rules": rules,
            })
        })
        .collect();
    let rules: Vec<Value> = totals(reports)
        .into_iter()
        .map(|(rule, total)| {
            json!({ "rule": rule, "transactions": total.transactions, "times": total.times, "bootstrapsSaved": total.bootstraps_saved })
        })
        .collect();
    json!({ "transactions": transactions, "rules": rules })
}
