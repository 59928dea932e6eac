//! `cipherloom node status`: how a running node is, asked over its JSON-RPC.

use std::time::Duration;

use alloy::providers::{Provider, RootProvider};
use anyhow::{Context, Result};
use cipherloom_service::report::Unwell;
use clap::{Args, value_parser};
use serde_json::Value;

/// What `node status --help` begins with.
pub(crate) const HELP: &str = "\
Say how a node is: its head, its peers, who validates, and whether it is behind.

  cipherloom node status --rpc-url http://127.0.0.1:8545

Exits 0 if the node is where its peers are, and 1 if it is behind, alone, or its newest block is old.";

/// How long the node may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Options of `node status`.
#[derive(Clone, Debug, Args)]
pub struct StatusOptions {
    /// The node's JSON-RPC
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8545")]
    rpc_url: String,

    /// How old the newest block may be. Idle chains have one at least every minute
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = value_parser!(u32).range(1..))]
    maximum_block_age_seconds: u32,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// How a node is.
struct Standing {
    number: u64,
    hash: String,
    /// Age of the newest block in seconds; nothing for the genesis block, which waits for validators.
    age: Option<u64>,
    peers: u64,
    /// How many blocks the node is behind the best of its peers.
    behind: u64,
    details: Value,
}

/// Asks and prints.
///
/// # Errors
/// If the node does not answer; or, as an exit code of 1, if it is not well.
pub(crate) async fn run(options: &StatusOptions) -> Result<()> {
    let url = options.rpc_url.parse().with_context(|| format!("{} is no URL", options.rpc_url))?;
    let provider: RootProvider = RootProvider::new_http(url);
    let asked = tokio::time::timeout(PATIENCE, Box::pin(ask(&provider)));
    let standing = asked.await.context("the node does not answer")?.context("cannot ask the node")?;
    let troubles = standing.troubles(options.maximum_block_age_seconds.into());
    if options.json {
        let mut page = standing.details.clone();
        if let Some(fields) = page.as_object_mut() {
            fields.insert("troubles".to_owned(), serde_json::json!(troubles));
        }
        println!("{page}");
    } else {
        print!("{}", standing.describe(&troubles));
    }
    match troubles.is_empty() {
        true => Ok(()),
        false => Err(Unwell { exit_code: 1 }.into()),
    }
}

async fn ask(provider: &RootProvider) -> Result<Standing> {
    let details: Value = provider.raw_request("cipherloom_nodeStatus".into(), ()).await?;
    let block: Value = provider.raw_request("eth_getBlockByNumber".into(), ("latest", false)).await?;
    let number = quantity(block.get("number")).context("the newest block has no number")?;
    let timestamp = quantity(block.get("timestamp")).context("the newest block has no time")?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let field = |name: &str| quantity(details.get(name)).unwrap_or_default();
    Ok(Standing {
        number,
        hash: block.get("hash").and_then(Value::as_str).unwrap_or_default().to_owned(),
        age: (number > 0).then(|| now.saturating_sub(timestamp)),
        peers: field("peers"),
        behind: field("highestKnown").saturating_sub(number),
        details,
    })
}

/// Reads a number as JSON-RPC has it, or as JSON has it.
fn quantity(value: Option<&Value>) -> Option<u64> {
    let value = value?;
    let digits = value.as_str().and_then(|text| text.strip_prefix("0x"));
    digits.map_or_else(|| value.as_u64(), |digits| u64::from_str_radix(digits, 16).ok())
}

impl Standing {
    fn troubles(&self, maximum_age: u64) -> Vec<String> {
        let mut troubles = Vec::new();
        if self.behind > 1 {
            troubles.push(format!("{} blocks behind its peers", self.behind));
        }
        if self.peers == 0 {
            troubles.push("no peer is connected".to_owned());
        }
        if let Some(age) = self.age.filter(|age| *age > maximum_age) {
            troubles.push(format!("the newest block is {age} s old"));
        }
        troubles
    }

    fn describe(&self, troubles: &[String]) -> String {
        let age = self.age.map_or_else(String::new, |age| format!(", {age} s ago"));
        let mut page = format!("block {}{age}, hash {}\n{} peers\n", self.number, self.hash, self.peers);
        for (name, value) in self.details.as_object().into_iter().flatten() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            // What a node says is not for the terminal to obey.
            page += &format!("  {name:<24} {}\n", text.replace(char::is_control, ""));
        }
        match troubles {
            [] => page += "well\n",
            _ => troubles.iter().for_each(|trouble| page += &format!("NOT WELL: {trouble}\n")),
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_read_as_either_kind_of_json_has_them() {
        assert_eq!(quantity(Some(&json!("0x1f"))), Some(31));
        assert_eq!(quantity(Some(&json!(31))), Some(31));
        assert_eq!(quantity(Some(&json!("31"))), None);
        assert_eq!(quantity(None), None);
    }

    #[test]
    fn a_node_that_is_behind_alone_or_stuck_is_not_well() {
        let standing = |age, peers, behind| Standing {
            number: 7,
            hash: "0x…".to_owned(),
            age,
            peers,
            behind,
            details: json!({ "validator": true, "note": "\u{1b}[31m" }),
        };
        assert!(standing(Some(3), 1, 1).troubles(120).is_empty());
        assert!(standing(None, 1, 0).troubles(120).is_empty());
        for (standing, why) in [
            (standing(Some(121), 1, 0), "old"),
            (standing(Some(3), 0, 0), "no peer"),
            (standing(Some(3), 1, 2), "2 blocks behind"),
        ] {
            let troubles = standing.troubles(120);
            assert!(troubles.len() == 1 && troubles[0].contains(why), "{troubles:?}");
            assert!(standing.describe(&troubles).contains("NOT WELL"));
            assert!(!standing.describe(&troubles).contains('\u{1b}'));
        }
    }
}
