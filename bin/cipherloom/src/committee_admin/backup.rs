//! `cipherloom kms backup`: what operators keep for the case that machines are lost.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use cipherloom_ceremony::NodeLink as _;
use cipherloom_primitives::B256;
use clap::Args;
use serde_json::json;

use super::{attested::NodeOptions, write_file};

pub(super) const HELP: &str = "\
Have nodes seal their identity and share to their recovery key, and keep the result.

A node seals only to the recovery key that its own, measured configuration names (`cipherloom kms node --recovery-key FILE`); this command cannot choose another. The files are of use to nobody but enough custodians of that key together, and \
only for as long as the chain is in the epoch of the share: back up again after each rotation.

Nodes that are lost one at a time need no backup: `cipherloom kms replace-party` gives their places to others, and makes the lost shares worthless, which restoring them does not.";

/// Options of `kms backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupOptions {
    #[command(flatten)]
    nodes: NodeOptions,

    /// The key, if nodes hold shares of several [default: all]
    #[arg(long, value_name = "ID")]
    key_id: Option<B256>,

    /// Where the backups go: backup-SIGNER-EPOCH.json in this directory
    #[arg(long, value_name = "DIR")]
    output: PathBuf,

    /// Print one JSON object at the end, instead of sentences
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// If a node refuses, or holds nothing.
pub(super) async fn run(options: &BackupOptions) -> Result<()> {
    let connected = options.nodes.connect(None).await?;
    if let Some((address, reason)) = connected.missing.first() {
        anyhow::bail!("{address}: {reason}");
    }
    let mut keys: Vec<B256> = connected.records.iter().map(|record| record.core.key_id).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.retain(|key| options.key_id.is_none_or(|wanted| *key == wanted));
    anyhow::ensure!(!keys.is_empty(), "no node holds a share of this key");
    let mut written = Vec::new();
    for node in &connected.nodes {
        for key in &keys {
            let backup = node
                .backup(*key)
                .await
                .with_context(|| format!("the backup of {}", node.signer()))?;
            backup.check(connected.committee.epoch_id)?;
            let name = format!("backup-{}-{}.json", node.signer(), backup.record.core.seats.epoch);
            let file = options.output.join(name);
            write_file(&file, &backup.to_json()?)?;
            written.push((node.signer(), file, backup.recovery_key.needed, backup.recovery_key.pieces.len()));
        }
    }
    if options.json {
        let backups: Vec<_> = written
            .iter()
            .map(|(signer, file, needed, pieces)| json!({ "signer": signer, "file": file, "neededPieces": needed, "pieces": pieces }))
            .collect();
        println!("{}", json!({ "backups": backups }));
        return Ok(());
    }
    for (signer, file, needed, pieces) in written {
        println!("node {signer}: {} ({needed} of {pieces} custodians can restore it)", file.display());
    }
    Ok(())
}
