//! `cipherloom kms reshare`, `replace-party`, `rotate` and `activate`: new shares of a key that stays the same.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use cipherloom_ceremony::{MAX_RECORD_BYTES, NodeLink as _, Outcome, Proposal, Record, carry_resharing};
use cipherloom_primitives::{Address, B256, U256};
use clap::Args;
use serde_json::json;

use super::{
    attested::{Connected, NodeOptions},
    read_file,
    steps::Steps,
    write_file,
};

pub(super) const RESHARE_HELP: &str = "\
Give the shares to the committee that the chain has registered since: a larger, a smaller, or another one.

Before: the new committee is registered on the chain as a new KMS context, the former one is not destroyed, and nodes of both run: all of the new, and at least 2t + 1 of the old, t of which may be corrupt. Name all of them with --node. \
What was encrypted stays readable; the key, its public files and what users hold stay as they are.

What happens: nodes show cards with evidence; old ones publish their shares masked with randomness of the new ones; wrong ones are found and left out; the new committee decrypts known values and signs a record. Only a \
record that all new nodes signed puts new shares into use, and has old ones erased. This command carries sealed letters and learns nothing.

  cipherloom kms reshare --node 10.0.0.6:50061 … --policy policy.json --collateral collateral \\
      --rpc-url https://rpc.example --deployment deployment-1.json --output records

If it fails, the old shares stay in use; run it again.";

pub(super) const REPLACE_HELP: &str = "\
Give the shares of nodes that are gone to those that the chain has registered in their places.

Before: a new KMS context is registered on the chain with as many signers as the former one, and others in the places of those that are gone; the new nodes run. Up to as many nodes as may be corrupt can be replaced at a time, and \
those that are gone need not answer. Their shares are worth nothing afterwards, even if somebody finds them.

This is `reshare` that also checks that nobody else changes. It needs no backup.";

pub(super) const ROTATE_HELP: &str = "\
Give the same committee new shares, so that whatever was stolen of the old ones is worth nothing.

The new shares are of the next epoch. Afterwards begin it on the chain (ProtocolConfig.defineNewKmsEpoch), and destroy the former one once no answers of it are under way (destroyKmsEpoch): from then on nodes refuse old \
shares, also those that somebody puts back from a copy of the disk.

Do it from time to time: an attacker has to take more nodes than may be corrupt between two rotations. The key and everything that was encrypted stay as they are.";

/// Options of `kms reshare`, `kms replace-party` and `kms rotate`.
#[derive(Debug, Args)]
pub(crate) struct ResharingOptions {
    #[command(flatten)]
    nodes: NodeOptions,

    /// The key, if nodes hold shares of several
    #[arg(long, value_name = "ID")]
    key_id: Option<B256>,

    /// The record of the shares that are to be replaced, to find nodes that are only in their committee [default: the newest that other nodes hold]
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,

    /// Where the new record goes: record-EPOCH.json in this directory
    #[arg(long, value_name = "DIR")]
    output: PathBuf,

    /// Print one JSON object at the end, instead of sentences
    #[arg(long)]
    json: bool,
}

/// Options of `kms activate`.
#[derive(Debug, Args)]
pub(crate) struct ActivateOptions {
    #[command(flatten)]
    nodes: NodeOptions,

    /// The record that is to be followed
    #[arg(long, value_name = "FILE")]
    record: PathBuf,

    /// The record of the shares that it replaces, to find nodes that are only in their committee [default: the newest that other nodes hold]
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,

    /// Print one JSON object at the end, instead of sentences
    #[arg(long)]
    json: bool,
}

/// What a resharing is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Another committee.
    Reshare,
    /// Others in the places of some.
    Replace,
    /// The same committee.
    Rotate,
}

/// Runs a resharing.
///
/// # Errors
/// If the committees are not those of the purpose, or the resharing fails. The old shares stay in use then.
pub(super) async fn run(options: &ResharingOptions, purpose: Purpose) -> Result<()> {
    let named = options.previous.as_ref().map(|file| read_record(file)).transpose()?;
    let connected = options.nodes.connect(named).await?;
    connected.check_complete()?;
    let previous = newest(&connected, options.key_id)?;
    purpose.check(&previous, &connected)?;
    let epoch = next_epoch(previous.core.seats.epoch, connected.committee.epoch_id)?;
    let proposal = Proposal::reshare(previous.clone(), connected.seats(epoch)?)?;
    let steps = Steps::new();
    let links = connected.links();
    let outcome = Box::pin(carry_resharing(proposal, &links, |step| steps.show(step))).await?;
    drop(steps);
    let file = options
        .output
        .join(format!("record-{}.json", number(outcome.record.core.seats.epoch)));
    write_file(&file, &outcome.record.to_json()?)?;
    print(options.json, &outcome, &file, connected.committee.epoch_id)
}

/// Delivers a record again.
///
/// # Errors
/// If the record does not hold, or no node can be asked.
pub(super) async fn activate(options: &ActivateOptions) -> Result<()> {
    let record = read_record(&options.record)?;
    let previous = options.previous.as_ref().map(|file| read_record(file)).transpose()?;
    let connected = options.nodes.connect(previous).await?;
    for (address, reason) in &connected.missing {
        eprintln!("{address} does not answer: {reason}");
    }
    let outcome = cipherloom_ceremony::activate(record, &connected.links()).await?;
    print(options.json, &outcome, &options.record, connected.committee.epoch_id)?;
    ensure!(
        outcome.not_activated.is_empty() && connected.missing.is_empty(),
        "not all nodes follow the record"
    );
    Ok(())
}

fn read_record(file: &Path) -> Result<Record> {
    Record::from_json(&read_file(file, MAX_RECORD_BYTES)?).with_context(|| format!("cannot use {}", file.display()))
}

/// Finds the record of the shares that count: the one of the latest epoch.
fn newest(connected: &Connected, key_id: Option<B256>) -> Result<Record> {
    let mut records: Vec<&Record> = connected
        .records
        .iter()
        .filter(|record| key_id.is_none_or(|key| record.core.key_id == key))
        .collect();
    records.sort_by_key(|record| record.core.seats.epoch);
    let newest = *records.last().context(match key_id {
        Some(_) => "no node holds a share of this key",
        None => "no node holds a share; `cipherloom kms ceremony` deals them",
    })?;
    ensure!(
        records.iter().all(|record| record.core.key_id == newest.core.key_id),
        "nodes hold shares of several keys: say which with --key-id"
    );
    newest.check().context("the record that nodes hold does not hold")?;
    Ok(newest.clone())
}

impl Purpose {
    fn check(self, previous: &Record, connected: &Connected) -> Result<()> {
        let (old, new) = (&previous.core.seats, &connected.committee);
        let kept = old.members.iter().zip(&new.signers).filter(|(old, new)| old == new).count();
        let is_same = old.members == new.signers && old.context == new.context_id;
        match self {
            Self::Rotate => ensure!(
                is_same,
                "the chain has registered another committee than the one that holds the shares: that is `cipherloom kms reshare`"
            ),
            Self::Replace => {
                ensure!(
                    old.members.len() == new.signers.len() && usize::from(old.threshold) == usize::try_from(new.mpc_threshold)?,
                    "the registered committee has another size or threshold: that is `cipherloom kms reshare`"
                );
                ensure!(
                    kept < old.members.len(),
                    "the chain has registered nobody else: register a context with the new signers first"
                );
                ensure!(
                    kept + usize::from(old.threshold) >= old.members.len(),
                    "{} nodes are to be replaced, and {} may be at a time",
                    old.members.len() - kept,
                    old.threshold
                );
            }
            Self::Reshare => {}
        }
        let answering = connected.nodes.iter().filter(|node| old.members.contains(&node.signer())).count();
        let needed = 2 * usize::from(old.threshold) + 1;
        if answering < needed {
            bail!(
                "{answering} nodes of the old committee answer, and {needed} are needed: name their addresses with --node, too, and their record with --previous if no node of the new committee holds it"
            );
        }
        Ok(())
    }
}

/// The next epoch after the one of the shares, or the one that the chain is in already.
fn next_epoch(held: B256, on_chain: B256) -> Result<B256> {
    if on_chain > held {
        return Ok(on_chain);
    }
    let next = U256::from_be_bytes(held.0)
        .checked_add(U256::from(1))
        .context("there is no later epoch")?;
    Ok(B256::from(next))
}

/// The counting part of an epoch's id.
fn number(epoch: B256) -> U256 {
    U256::from_be_bytes(epoch.0) & (U256::MAX >> 8)
}

/// Says which nodes have not followed a record yet, and what to do.
pub(super) fn print_waiting(waiting: &[String], record: &Path) {
    for node in waiting {
        println!("not told yet: {node}");
    }
    if !waiting.is_empty() {
        println!(
            "deliver the record again: cipherloom kms activate --record {} --node …",
            record.display()
        );
    }
}

fn print(json: bool, outcome: &Outcome, file: &Path, epoch_on_chain: B256) -> Result<()> {
    let core = &outcome.record.core;
    let waiting: Vec<String> = outcome
        .not_activated
        .iter()
        .map(|(signer, error): &(Address, _)| format!("{signer}: {error}"))
        .collect();
    if json {
        let description = json!({
            "keySetId": core.key_id,
            "record": file,
            "recordDigest": outcome.record.digest()?,
            "context": core.seats.context,
            "epoch": core.seats.epoch,
            "threshold": core.seats.threshold,
            "members": core.seats.members,
            "notActivated": waiting,
        });
        println!("{description}");
        return Ok(());
    }
    println!(
        "epoch {} of key set {}: {} nodes hold shares, {} of which may be corrupt",
        number(core.seats.epoch),
        core.key_id,
        core.seats.members.len(),
        core.seats.threshold
    );
    println!("{} holds the record with all signatures; publish it", file.display());
    print_waiting(&waiting, file);
    if core.seats.epoch > epoch_on_chain {
        println!("next: begin the epoch on the chain (ProtocolConfig.defineNewKmsEpoch), then destroy the former one");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(counter: u8) -> B256 {
        let mut id = B256::with_last_byte(counter);
        id.0[0] = 8;
        id
    }

    #[test]
    fn epochs_follow_the_shares_or_the_chain() {
        assert_eq!(next_epoch(epoch(1), epoch(1)).unwrap(), epoch(2));
        assert_eq!(next_epoch(epoch(3), epoch(1)).unwrap(), epoch(4));
        assert_eq!(next_epoch(epoch(1), epoch(5)).unwrap(), epoch(5));
        assert!(next_epoch(B256::repeat_byte(0xff), epoch(1)).is_err());
        assert_eq!(number(epoch(7)), U256::from(7));
    }
}
