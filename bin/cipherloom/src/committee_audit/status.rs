//! `cipherloom kms status`: what nodes say about themselves.

use std::path::PathBuf;

use anyhow::Result;
use cipherloom_kms_node::public::documents::{NodeState, NodeStatus};
use cipherloom_service::report::Unwell;
use clap::Args;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    ids::{counted, short, table},
    nodes::Node,
    time,
    web::{self, Web},
};

/// What `--help` begins with.
pub(super) const HELP: &str = "\
Show what KMS nodes say about themselves.

  cipherloom kms status http://10.0.0.1:50062 http://10.0.0.2:50062

Answers are signed by the nodes, and nothing more is checked here: what a node says is true is what `cipherloom kms verify` finds out.

It exits with 0 if all nodes serve, 1 if one does not, or is for development only, or they disagree, and 2 if one does not answer.";

/// Options of `kms status`.
#[derive(Clone, Debug, Args)]
pub(crate) struct StatusOptions {
    /// The public ports of nodes.
    #[arg(required = true, value_name = "URL", value_parser = web::base)]
    nodes: Vec<String>,

    /// The PEM file of whoever issued the nodes' certificates, for https URLs.
    #[arg(long, value_name = "FILE")]
    node_ca: Option<PathBuf>,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What one node answered.
struct Row {
    url: String,
    status: Result<NodeStatus>,
    records: Option<u64>,
}

/// Asks all nodes and prints what they say.
///
/// # Errors
/// [`Unwell`] if something is not as it should be.
pub(super) async fn run(options: &StatusOptions) -> Result<()> {
    let web = Web::new(options.node_ca.as_deref())?;
    let rows = join_all(options.nodes.iter().map(|url| ask(Node::new(&web, url)))).await;
    let problems = problems(&rows);
    if options.json {
        let nodes: Vec<Value> = rows.iter().map(Row::json).collect();
        println!("{:#}", json!({ "nodes": nodes, "problems": problems }));
    } else {
        let header = [
            "node", "party", "signer", "state", "context", "epoch", "key set", "evidence", "version", "records", "up",
        ];
        let lines = std::iter::once(header.map(str::to_owned).to_vec()).chain(rows.iter().map(Row::cells));
        table(&lines.collect::<Vec<_>>()).iter().for_each(|line| println!("{line}"));
        problems.iter().for_each(|problem| println!("! {problem}"));
    }
    let exit_code = match (rows.iter().all(|row| row.status.is_ok()), problems.is_empty()) {
        (true, true) => return Ok(()),
        (true, false) => 1,
        (false, _) => 2,
    };
    Err(Unwell { exit_code }.into())
}

async fn ask(node: Node) -> Row {
    let status = node.status().await.map(|signed| signed.document);
    let chain_id = status.as_ref().ok().map(|status| status.chain_id);
    let heads = if status.is_ok() { node.audit_heads().await.ok() } else { None };
    let records = heads.and_then(|heads| {
        let of_chain = heads.document.heads.iter().filter(|head| Some(head.chain_id) == chain_id);
        of_chain.map(|head| head.records).next()
    });
    Row {
        url: node.url().to_owned(),
        status,
        records,
    }
}

/// What is not as it should be, in words.
fn problems(rows: &[Row]) -> Vec<String> {
    let mut problems = Vec::new();
    for row in rows {
        match &row.status {
            Err(error) => problems.push(printable(&format!("{error:#}"))),
            Ok(status) => {
                let because = status
                    .detail
                    .as_ref()
                    .map_or_else(String::new, |detail| format!(": {}", printable(detail)));
                if status.state != NodeState::Serving {
                    problems.push(format!("{} is not serving: {}{because}", row.url, status.state.as_str()));
                }
                if status.is_insecure() {
                    problems.push(format!(
                        "{} is for development only: it has simulated hardware or a key set that hides nothing",
                        row.url
                    ));
                }
            }
        }
    }
    let told: Vec<&NodeStatus> = rows.iter().filter_map(|row| row.status.as_ref().ok()).collect();
    let differ = |what: &str, shown: Vec<String>| {
        let all_same = shown.windows(2).all(|pair| matches!(pair, [one, other] if one == other));
        (!all_same).then(|| format!("the nodes disagree about {what}: {}", shown.join(", ")))
    };
    problems.extend(differ("the chain", told.iter().map(|status| status.chain_id.to_string()).collect()));
    problems.extend(differ("the context", told.iter().map(|status| counted(status.context)).collect()));
    problems.extend(differ("the epoch", told.iter().map(|status| counted(status.epoch)).collect()));
    problems.extend(differ(
        "key set and manifest of their shares",
        told.iter()
            .map(|status| {
                status
                    .share
                    .as_ref()
                    .map_or_else(|| "none".into(), |share| format!("{} {}", share.key_set_id, share.manifest))
            })
            .collect(),
    ));
    let mut signers: Vec<_> = told.iter().map(|status| status.signer).collect();
    signers.sort_unstable();
    signers.dedup();
    if signers.len() < told.len() {
        problems.push("two of the URLs lead to the same node".to_owned());
    }
    problems
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let Ok(status) = &self.status else {
            return vec![self.url.clone(), "-".into(), "-".into(), "no answer".into()];
        };
        vec![
            self.url.clone(),
            format!("{} of {}", status.party, status.parties),
            status.signer.to_checksum(None),
            status.state.as_str().to_owned(),
            counted(status.context),
            counted(status.epoch),
            status.share.as_ref().map_or_else(|| "none".into(), |share| short(share.key_set_id)),
            status.attestation.as_str().to_owned(),
            printable(&status.version),
            self.records.map_or_else(|| "-".into(), |records| records.to_string()),
            format!("{} min", status.time.saturating_sub(status.started) / 60),
        ]
    }

    fn json(&self) -> Value {
        match &self.status {
            Ok(status) => json!({ "url": self.url, "status": status, "auditRecords": self.records, "clockSkewSeconds": skew(status.time) }),
            Err(error) => json!({ "url": self.url, "error": format!("{error:#}") }),
        }
    }
}

/// How far a node's clock is from ours; positive if ahead.
fn skew(theirs: u64) -> i128 {
    i128::from(theirs) - i128::from(time::now())
}

/// Words of a server without characters that a terminal would obey.
fn printable(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use cipherloom_attest::TeeKind;
    use cipherloom_kms_node::public::documents::{Form, ShareStatus};
    use cipherloom_primitives::{Address, B256};

    use super::*;

    fn status(signer: u8) -> NodeStatus {
        NodeStatus {
            version: "1".into(),
            form: Form::Threshold,
            state: NodeState::Serving,
            detail: None,
            time: 100,
            started: 10,
            chain_id: 1,
            signer: Address::repeat_byte(signer),
            party: signer.into(),
            parties: 4,
            threshold: 1,
            context: B256::ZERO,
            epoch: B256::ZERO,
            share: Some(ShareStatus {
                key_set_id: B256::ZERO,
                context: B256::ZERO,
                epoch: B256::ZERO,
                manifest: B256::ZERO,
            }),
            attestation: TeeKind::DstackTdx,
            policy: B256::ZERO,
            insecure_parameters: false,
        }
    }

    fn row(status: Result<NodeStatus>) -> Row {
        Row {
            url: "http://n".into(),
            status,
            records: Some(3),
        }
    }

    fn found(statuses: Vec<Result<NodeStatus>>) -> Vec<String> {
        problems(&statuses.into_iter().map(row).collect::<Vec<_>>())
    }

    #[test]
    fn nodes_that_serve_the_same_have_no_problems() {
        assert!(found(vec![Ok(status(1)), Ok(status(2))]).is_empty());
        assert_eq!(row(Ok(status(1))).cells().len(), 11);
    }

    #[test]
    fn each_deviation_is_told() {
        let cases = [
            (
                NodeStatus {
                    state: NodeState::AwaitingCeremony,
                    ..status(2)
                },
                "awaiting ceremony",
            ),
            (
                NodeStatus {
                    insecure_parameters: true,
                    ..status(2)
                },
                "development only",
            ),
            (
                NodeStatus {
                    attestation: TeeKind::InsecureSimulated,
                    ..status(2)
                },
                "development only",
            ),
            (NodeStatus { chain_id: 2, ..status(2) }, "about the chain"),
            (
                NodeStatus {
                    context: B256::repeat_byte(1),
                    ..status(2)
                },
                "about the context",
            ),
            (
                NodeStatus {
                    epoch: B256::repeat_byte(1),
                    ..status(2)
                },
                "about the epoch",
            ),
            (NodeStatus { share: None, ..status(2) }, "about key set and manifest"),
            (status(1), "same node"),
        ];
        for (other, expected) in cases {
            let problems = found(vec![Ok(status(1)), Ok(other)]);
            assert!(
                matches!(problems.as_slice(), [one] if one.contains(expected)),
                "{expected}: {problems:?}"
            );
        }
        let silent = found(vec![Ok(status(1)), Err(anyhow::anyhow!("cannot be reached"))]);
        assert_eq!(silent, ["cannot be reached"]);
    }

    #[test]
    fn a_server_cannot_write_to_the_terminal() {
        assert_eq!(printable("1.0\u{1b}[2J\nx"), "1.0[2Jx");
    }
}
