//! `cipherloom bench gas`: what transactions of confidential contracts cost on chain, next to the same on the published host contracts.
//!
//! Both run in the embedded node, each on a fresh chain, with the same accounts, keys, inputs and clock. Nothing is encrypted, because
//! no ciphertext reaches a chain. The numbers depend on the bytecode alone, so that they are the same on every machine.

mod published_host;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::{
    dapp_transactions::{self, DappTransaction, ExampleCode},
    symbolic_chain::SymbolicChain,
};

/// What `cipherloom bench gas --help` says.
pub(super) const HELP: &str = "\
The gas of transactions of confidential contracts: the examples and, with --published, OpenZeppelin's ERC7984 token.

Without options, the examples run on our host contracts. `cargo xtask gas` compiles everything else that --published needs: the same contracts with the published \
Solidity library, and the published host contracts from npm as they are. Then each transaction is measured three times: our library on our host contracts, the published \
library on ours, and the published library on the published ones. All run in the embedded node.";

/// Options of the measurement.
#[derive(Clone, Debug, Args)]
pub(crate) struct GasOptions {
    /// The folder that `cargo xtask gas` fills: `host` with the published host contracts, `ours` and `published` with the contracts that use
    /// either library.
    #[arg(long, value_name = "DIR")]
    pub(crate) published: Option<PathBuf>,

    /// Print one JSON object instead of a table in Markdown.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which library and which host contracts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Setting {
    /// Ours, both.
    Ours,
    /// The published library on our host contracts.
    PublishedLibrary,
    /// The published library on the published host contracts.
    Published,
}

/// The gas of one transaction in each setting.
struct Row {
    contract: &'static str,
    transaction: &'static str,
    gas: BTreeMap<Setting, u64>,
}

/// Measures and prints.
///
/// # Errors
/// If an artifact cannot be read, or a contract refuses a transaction.
pub(super) fn run(options: &GasOptions) -> Result<()> {
    let settings: &[Setting] = if options.published.is_some() {
        &[Setting::Ours, Setting::PublishedLibrary, Setting::Published]
    } else {
        &[Setting::Ours]
    };
    let mut rows: Vec<Row> = Vec::new();
    for setting in settings {
        let transactions = measure(*setting, options.published.as_deref())?;
        if rows.is_empty() {
            rows.extend(transactions.iter().map(|transaction| Row {
                contract: transaction.contract,
                transaction: transaction.name,
                gas: BTreeMap::new(),
            }));
        }
        ensure!(
            rows.len() == transactions.len(),
            "the transactions differ between the settings; this is a bug"
        );
        for (row, transaction) in rows.iter_mut().zip(&transactions) {
            row.gas.insert(*setting, transaction.receipt.gas_used);
        }
    }
    if options.json {
        println!("{}", to_json(&rows));
    } else {
        print!("{}", table(&rows, settings)?);
    }
    Ok(())
}

/// Runs all transactions in one setting, on a chain of its own.
fn measure(setting: Setting, folder: Option<&Path>) -> Result<Vec<DappTransaction>> {
    let Some(folder) = folder else {
        return dapp_transactions::examples(&SymbolicChain::start()?, &ExampleCode::built_in()?);
    };
    let (chain, contracts) = match setting {
        Setting::Ours => (SymbolicChain::start()?, folder.join("ours")),
        Setting::PublishedLibrary => (SymbolicChain::start()?, folder.join("published")),
        Setting::Published => {
            let chain = SymbolicChain::bare()?;
            published_host::deploy(&chain, &folder.join("host")).context("cannot deploy the published host contracts")?;
            (chain, folder.join("published"))
        }
    };
    let examples = match setting {
        Setting::Ours => ExampleCode::built_in()?,
        Setting::PublishedLibrary | Setting::Published => ExampleCode::in_folder(&contracts)?,
    };
    let mut transactions = dapp_transactions::examples(&chain, &examples)?;
    transactions.extend(dapp_transactions::erc7984(&chain, &contracts.join("erc7984"))?);
    Ok(transactions)
}

/// Writes the table, in Markdown.
fn table(rows: &[Row], settings: &[Setting]) -> Result<String> {
    let gas = |row: &Row, setting| row.gas.get(&setting).copied().context("a transaction was not measured");
    let mut text = if settings.len() == 1 {
        "| contract | transaction | gas |\n|---|---|--:|\n".to_owned()
    } else {
        "| contract | transaction | ours | published library, our host contracts | published library and host contracts | host contracts: ours ÷ published | both: ours ÷ published |\n\
         |---|---|--:|--:|--:|--:|--:|\n"
            .to_owned()
    };
    for row in rows {
        text += &format!("| {} | {} |", row.contract, row.transaction);
        for setting in settings {
            text += &format!(" {} |", grouped(gas(row, *setting)?));
        }
        if settings.len() > 1 {
            let published = gas(row, Setting::Published)?;
            let host = ratio(gas(row, Setting::PublishedLibrary)?, published);
            let both = ratio(gas(row, Setting::Ours)?, published);
            text += &format!(" {host} | {both} |");
        }
        text += "\n";
    }
    Ok(text)
}

/// Writes a ratio with two decimals, rounded. In integers, so that it is the same everywhere.
fn ratio(part: u64, whole: u64) -> String {
    let hundredths = (200 * part + whole) / (2 * whole.max(1));
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// Writes a number with gaps between groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

fn to_json(rows: &[Row]) -> Value {
    let transactions: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "contract": row.contract,
                "transaction": row.transaction,
                "ours": row.gas.get(&Setting::Ours),
                "publishedLibrary": row.gas.get(&Setting::PublishedLibrary),
                "published": row.gas.get(&Setting::Published),
            })
        })
        .collect();
    json!({ "bench": "gas", "transactions": transactions })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_and_grouped() {
        assert_eq!(ratio(1, 3), "0.33");
        assert_eq!(ratio(2, 3), "0.67");
        assert_eq!(ratio(3, 2), "1.50");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1 234 567");
    }

    #[test]
    fn a_transfer_costs_the_same_each_time_and_less_than_a_first_one() {
        let gas = |name| {
            let transactions = measure(Setting::Ours, None).unwrap();
            let found = transactions
                .iter()
                .find(|transaction| (transaction.contract, transaction.name) == ("token", name));
            found.unwrap().receipt.gas_used
        };
        assert_eq!(gas("transfer"), gas("transfer"));
        assert!(gas("transfer") < gas("transfer to a new account"));
    }
}
