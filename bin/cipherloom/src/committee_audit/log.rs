//! `cipherloom kms audit`: verifies an audit log, and tells who had what decrypted.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
};

use anyhow::{Context, Result, ensure};
use cipherloom_kms::audit::{self, AuditError, AuditHead};
use cipherloom_kms_node::public::documents::{AuditHeads, SignedAuditHead};
use cipherloom_primitives::{Address, Handle};
use cipherloom_service::report::{Level, Report, Unwell};
use clap::Args;
use serde_json::json;

use super::{
    nodes::Node,
    summary::{Selection, Summary},
    time,
    web::{self, Web},
};

/// What `--help` begins with.
pub(super) const HELP: &str = "\
Verify an audit log of a KMS node, and tell who had what decrypted.

A log is a chain: each line has the hash of the line before. Changing, removing or inserting a line breaks it; only cutting off its end does not, which is seen by \
comparing the log with a head that the node signed: the one that it shows now (--node), or one that somebody has kept (--head). Whoever keeps heads, as \
`cipherloom kms audit --node URL --save-head FILE` or `curl URL/audit/head` write them, can show later that a node has changed its log.

  cipherloom kms audit /var/lib/cipherloom/party/audit/31337.jsonl --node http://10.0.0.1:50062
  cipherloom kms audit https://operator.example/audit/1.jsonl --head kept-in-june.json --requester 0x… --json

Plaintexts are not in it. It exits with 0 if the log is whole, 1 if nothing says where it should end, and 2 if it was changed or cut.";

/// The longest log that is fetched from a URL, in bytes.
const MAX_FETCHED_BYTES: u64 = 16 << 30;

/// The longest file with a head.
const MAX_HEAD_BYTES: u64 = 64 << 10;

/// Options of `kms audit`.
#[derive(Clone, Debug, Args)]
pub(crate) struct AuditOptions {
    /// The log: a file, or a URL where its operator publishes it. Without one, the signed head of --node is shown and nothing more.
    #[arg(value_name = "FILE|URL", required_unless_present = "node")]
    log: Option<String>,

    /// The public port of the node whose log it is.
    #[arg(long, value_name = "URL", value_parser = web::base)]
    node: Option<String>,

    /// A head that the node signed earlier. May be given several times.
    #[arg(long, value_name = "FILE")]
    head: Vec<PathBuf>,

    /// Whose head must be signed by this address, too; with it a head of another node is an error.
    #[arg(long, value_name = "ADDRESS")]
    signer: Option<Address>,

    /// The chain whose log it is, where the node has several.
    #[arg(long, value_name = "ID")]
    chain_id: Option<u64>,

    /// Write the head that the node shows now into a file, to be kept.
    #[arg(long, value_name = "FILE", requires = "node")]
    save_head: Option<PathBuf>,

    /// Count only what this account had decrypted.
    #[arg(long, value_name = "ADDRESS")]
    requester: Option<Address>,

    /// Count only decryptions of this handle.
    #[arg(long, value_name = "HANDLE")]
    handle: Option<Handle>,

    /// Count only from this time on, in seconds since 1970.
    #[arg(long, value_name = "SECONDS")]
    since: Option<u64>,

    /// Count only before this time, in seconds since 1970.
    #[arg(long, value_name = "SECONDS")]
    until: Option<u64>,

    /// How many requesters, handles and days are shown.
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,

    /// The PEM file of whoever issued the servers' certificates, for https URLs.
    #[arg(long, value_name = "FILE")]
    node_ca: Option<PathBuf>,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const LOG: &str = "log";
const HEAD: &str = "head";

/// A head that the log is compared with.
struct Kept {
    from: String,
    head: SignedAuditHead,
    /// What the log had at this many records.
    found: Option<AuditHead>,
}

/// Verifies and prints.
///
/// # Errors
/// [`Unwell`] if something is not as it should be, and whatever keeps it from being read.
pub(super) async fn run(options: &AuditOptions) -> Result<()> {
    let web = Web::new(options.node_ca.as_deref())?;
    let mut report = Report::default();
    let mut kept = heads(options, &web, &mut report).await?;
    let selection = Selection {
        requester: options.requester,
        handle: options.handle,
        since: options.since,
        until: options.until,
    };
    let (summary, end) = match &options.log {
        None => (None, None),
        Some(log) => {
            let reader = open(log, &web).await?;
            // Reading blocks; on a thread of its own the runtime goes on fetching.
            let (summary, result, filled) = tokio::task::spawn_blocking(move || {
                let mut summary = Summary::new(selection);
                let result = audit::inspect(reader, |entry, head| {
                    summary.add(entry);
                    let reached = kept.iter_mut().filter(|kept| kept.head.records == head.records);
                    reached.for_each(|kept| kept.found = Some(head));
                });
                (summary, result, kept)
            })
            .await?;
            kept = filled;
            let end = judge(log, result, &kept, &mut report);
            (Some(summary), end)
        }
    };
    let worst = report.worst();
    if options.json {
        let heads: Vec<_> = kept.iter().map(|kept| json!({ "from": kept.from, "head": kept.head })).collect();
        let document = json!({
            "level": worst,
            "records": end.map(|end| end.records),
            "hash": end.map(|end| end.hash),
            "heads": heads,
            "summary": summary.as_ref().map(|summary| summary.json(options.top)),
            "findings": report.failures().into_iter().chain(report.warnings()).collect::<Vec<_>>(),
        });
        println!("{document:#}");
    } else {
        if let Some(summary) = &summary {
            summary.lines(options.top).iter().for_each(|line| println!("{line}"));
        }
        report.print(false)?;
    }
    match worst {
        Level::Ok => Ok(()),
        Level::Warn => Err(Unwell { exit_code: 1 }.into()),
        Level::Fail => Err(Unwell { exit_code: 2 }.into()),
    }
}

/// Gathers the heads that the log is compared with.
async fn heads(options: &AuditOptions, web: &Web, report: &mut Report) -> Result<Vec<Kept>> {
    let mut kept = Vec::new();
    for path in &options.head {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut text = Vec::new();
        file.take(MAX_HEAD_BYTES).read_to_end(&mut text)?;
        // As the node answers, or one of them alone.
        let heads = serde_json::from_slice::<AuditHeads>(&text)
            .map(|heads| heads.heads)
            .or_else(|_| serde_json::from_slice(&text).map(|head: SignedAuditHead| vec![head]))
            .with_context(|| format!("{} is no head as nodes sign them", path.display()))?;
        for head in heads {
            ensure!(
                head.is_signed(),
                "{}: the head of chain {} is not signed by {}",
                path.display(),
                head.chain_id,
                head.signer
            );
            kept.push(Kept {
                from: path.display().to_string(),
                head,
                found: None,
            });
        }
    }
    if let Some(url) = &options.node {
        let heads = Node::new(web, url).audit_heads().await?.document;
        if let Some(path) = &options.save_head {
            std::fs::write(path, serde_json::to_vec_pretty(&heads)?).with_context(|| format!("cannot write {}", path.display()))?;
        }
        kept.extend(heads.heads.into_iter().map(|head| Kept {
            from: url.clone(),
            head,
            found: None,
        }));
    }
    kept.retain(|kept| options.chain_id.is_none_or(|id| kept.head.chain_id == id));
    let mut chains: Vec<u64> = kept.iter().map(|kept| kept.head.chain_id).collect();
    chains.sort_unstable();
    chains.dedup();
    ensure!(
        chains.len() <= 1 || options.log.is_none(),
        "the heads are of logs of several chains, {chains:?}: say which with --chain-id"
    );
    for kept in &kept {
        let SignedAuditHead {
            chain_id,
            records,
            hash,
            time,
            signer,
            ..
        } = &kept.head;
        if options.signer.is_some_and(|expected| expected != *signer) {
            report.fail(
                HEAD,
                format!("{}: it is signed by {signer}", kept.from),
                "take a head of the node whose log it is",
            );
        }
        report.ok(
            HEAD,
            format!(
                "{}: {signer} signed at {}: chain {chain_id}, {records} records, {hash}",
                kept.from,
                time::date_time(*time)
            ),
        );
    }
    Ok(kept)
}

async fn open(log: &str, web: &Web) -> Result<Box<dyn BufRead + Send>> {
    if log.starts_with("http://") || log.starts_with("https://") {
        return Ok(Box::new(BufReader::new(web.read(log, MAX_FETCHED_BYTES).await?)));
    }
    let file = File::open(log).with_context(|| format!("cannot read {log}"))?;
    Ok(Box::new(BufReader::new(file)))
}

/// Says whether the log is whole.
fn judge(log: &str, result: Result<AuditHead, AuditError>, kept: &[Kept], report: &mut Report) -> Option<AuditHead> {
    let end = match result {
        Ok(end) => {
            report.ok(
                LOG,
                format!(
                    "{log}: {} records, each follows the one before; the last is {}",
                    end.records, end.hash
                ),
            );
            end
        }
        Err(error) => {
            report.fail(
                LOG,
                format!("{log}: {error}"),
                "this log was changed or damaged: compare it with a copy, and ask its operator. What is counted comes before the break",
            );
            return None;
        }
    };
    for Kept { from, head, found } in kept {
        if head.records > end.records {
            report.fail(
                HEAD,
                format!(
                    "{from}: there were {} records, and the log has {}: its end is missing",
                    head.records, end.records
                ),
                "get the whole log; if its operator has none, decryptions are being hidden",
            );
        } else if head.records > 0 && *found != Some(head.head()) {
            report.fail(
                HEAD,
                format!("{from}: record {} is another one: the log was written anew", head.records),
                "ask the operator; the signed head proves that there was another log",
            );
        } else {
            report.ok(
                HEAD,
                format!(
                    "{from}: the log has what was signed, and {} records more",
                    end.records - head.records
                ),
            );
        }
    }
    if kept.is_empty() {
        report.warn(
            HEAD,
            "nothing says where the log should end, so that cutting off its end would not be seen",
            "name the node with --node, or a head that was kept with --head",
        );
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use alloy::{primitives::B256, signers::local::PrivateKeySigner};

    use super::*;

    fn kept(records: u64, hash: u8, found: Option<u8>) -> Kept {
        let key = PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).unwrap();
        let head = |hash| AuditHead {
            records,
            hash: B256::repeat_byte(hash),
        };
        Kept {
            from: "a head".into(),
            head: SignedAuditHead::sign(1, head(hash), 5, &key).unwrap(),
            found: found.map(head),
        }
    }

    fn judged(result: Result<AuditHead, AuditError>, kept: &[Kept]) -> (Level, String) {
        let mut report = Report::default();
        judge("log", result, kept, &mut report);
        (report.worst(), [report.failures(), report.warnings()].concat().join("\n"))
    }

    #[test]
    fn a_log_is_whole_only_with_what_was_signed() {
        let end = || {
            Ok(AuditHead {
                records: 3,
                hash: B256::repeat_byte(3),
            })
        };
        assert_eq!(
            judged(end(), &[kept(3, 3, Some(3)), kept(2, 2, Some(2)), kept(0, 0, None)]).0,
            Level::Ok
        );
        let cases = [
            (end(), vec![kept(4, 4, None)], Level::Fail, "its end is missing"),
            (end(), vec![kept(2, 9, Some(2))], Level::Fail, "written anew"),
            (end(), vec![kept(3, 3, Some(3)), kept(1, 9, Some(1))], Level::Fail, "written anew"),
            (end(), vec![], Level::Warn, "nothing says where the log should end"),
            (Err(AuditError::Poisoned), vec![kept(3, 3, None)], Level::Fail, "changed or damaged"),
        ];
        for (result, kept, level, words) in cases {
            let (worst, text) = judged(result, &kept);
            assert!(worst == level && text.contains(words), "{words}: {worst:?} {text}");
        }
    }
}
