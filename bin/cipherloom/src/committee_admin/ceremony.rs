//! `cipherloom kms ceremony`: makes a key in this process, deals it, and forgets it.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use cipherloom_ceremony::{CeremonyError, DealingParts, Outcome, Proposal, deal};
use cipherloom_fhe::{KeySet, ParameterSet};
use cipherloom_kms::{Clock as _, SystemClock};
use clap::Args;
use serde_json::json;

use super::{attested::NodeOptions, steps::Steps, write_file};
use crate::{dealt_keys, progress::KeyGenerationBar};

/// The file with the record, in the directory of the key set.
pub(super) const RECORD_FILE: &str = "committee-record.json";

pub(super) const HELP: &str = "\
Make a key, and deal shares of it to the committee that the chain has registered.

Before: nodes run (`cipherloom kms node --party-dir DIR …`) and have printed the addresses that they sign with; these are registered on the chain as the signers of a KMS context, in the order of \
their numbers, with the number of nodes that may be corrupt.

What happens: this command proves what it runs, and believes nodes that prove what they run. Every node commits to randomness before any reveals its own. The key is made in the memory of this process \
(minutes, a progress bar shows it), shared, and sealed to each node. Nodes check this command's evidence over all that they are to sign, and their shares; they decrypt known values together; and only when all have signed \
the same record do they use their shares. Then nothing secret is left here: the directory gets only public files, and the record with all signatures.

  cipherloom kms ceremony --node 10.0.0.6:50061 --node 10.0.0.7:50061 --node 10.0.0.8:50061 --node 10.0.0.9:50061 \\
      --policy policy.json --collateral collateral --rpc-url https://rpc.example --deployment deployment-1.json --output keys

Afterwards coprocessors get the directory (`cipherloom tenant set-keys`), and anybody checks with `cipherloom kms verify` that nodes, keys and chain belong together. If something fails, nodes wipe what they have: \
run the command again.

THE DEALER KNOWS THE KEY for a minute: run it in a trust domain whose software the nodes' policy lists, and nowhere else. docs/ceremony.md has the whole protocol.";

/// Options of `kms ceremony`.
#[derive(Debug, Args)]
pub(crate) struct CeremonyOptions {
    #[command(flatten)]
    nodes: NodeOptions,

    /// Where the public files go: what coprocessors need, and the record. It must not exist yet, or be empty
    #[arg(long, value_name = "DIR", required_unless_present = "existing_keys")]
    output: Option<PathBuf>,

    /// Deal the secrets of a key set that is there, made with `cipherloom keys generate --noise-squashing`. Its secrets were on a disk: whoever kept a copy can decrypt everything, whatever the committee does
    #[arg(long, value_name = "DIR", conflicts_with_all = ["output", "insecure_keys"])]
    existing_keys: Option<PathBuf>,

    /// INSECURE: make a key that hides nothing, for tests; takes seconds
    #[arg(long)]
    insecure_keys: bool,

    /// Print one JSON object at the end, instead of sentences
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// If a node refuses or is missing, or keys cannot be made. Nothing has changed then.
pub(super) async fn run(options: &CeremonyOptions) -> Result<()> {
    let connected = options.nodes.connect(None).await?;
    connected.check_complete()?;
    let (directory, parameters) = options.place()?;
    let seats = connected.seats(connected.committee.epoch_id)?;
    let proposal = Proposal::deal(connected.committee.chain_id, parameters.name(), seats)?;
    let steps = Steps::new();
    let links = connected.links();
    let parts = DealingParts {
        attestor: &*connected.attestation.attestor,
        verifier: &connected.attestation.verifier,
        now: SystemClock.now_seconds(),
    };
    let generate = |_seed| async {
        steps.pause();
        let (directory, existing) = (directory.clone(), options.existing_keys.is_some());
        let work = move || match existing {
            true => {
                let keys = KeySet::open(&directory).with_context(|| format!("cannot use the keys in {}", directory.display()))?;
                dealt_keys::generated(&keys, &keys.squashing_secrets()?)
            }
            false => {
                let (keys, secrets) = KeySet::generate_for_committee(&directory, parameters, &KeyGenerationBar::new())?;
                dealt_keys::generated(&keys, &secrets)
            }
        };
        let made = tokio::task::spawn_blocking(work).await;
        made.map_err(|_| CeremonyError::Keys("key generation was interrupted".into()))?
            .map_err(|error| CeremonyError::Keys(format!("{error:#}")))
    };
    let outcome = Box::pin(deal(proposal, &links, parts, generate, |step| steps.show(step))).await?;
    drop(steps);
    let file = directory.join(RECORD_FILE);
    write_file(&file, &outcome.record.to_json()?)?;
    print(options, &outcome, &directory, parameters)
}

impl CeremonyOptions {
    /// Finds where the key set is or will be, and its parameters.
    fn place(&self) -> Result<(PathBuf, ParameterSet)> {
        if let Some(directory) = &self.existing_keys {
            let keys = KeySet::open(directory).with_context(|| format!("cannot use the keys in {}", directory.display()))?;
            ensure!(
                keys.has_noise_squashing(),
                "the key set in {} cannot squash noise, which threshold decryption needs; `cipherloom keys add-noise-squashing` adds it",
                directory.display()
            );
            return Ok((directory.clone(), keys.parameters()));
        }
        let directory = self.output.clone().context("say where the public files go with --output")?;
        Ok((directory, self.parameters()?))
    }

    #[cfg(feature = "insecure-development")]
    #[expect(clippy::unnecessary_wraps, reason = "builds for production refuse")]
    const fn parameters(&self) -> Result<ParameterSet> {
        Ok(match self.insecure_keys {
            true => ParameterSet::InsecureToy,
            false => ParameterSet::Production,
        })
    }

    #[cfg(not(feature = "insecure-development"))]
    fn parameters(&self) -> Result<ParameterSet> {
        ensure!(!self.insecure_keys, "this build has no insecure keys: it is for production");
        Ok(ParameterSet::Production)
    }
}

fn print(options: &CeremonyOptions, outcome: &Outcome, directory: &std::path::Path, parameters: ParameterSet) -> Result<()> {
    let core = &outcome.record.core;
    let waiting: Vec<String> = outcome
        .not_activated
        .iter()
        .map(|(signer, error)| format!("{signer}: {error}"))
        .collect();
    if options.json {
        let description = json!({
            "keySetId": core.key_id,
            "directory": directory,
            "record": directory.join(RECORD_FILE),
            "recordDigest": outcome.record.digest()?,
            "context": core.seats.context,
            "epoch": core.seats.epoch,
            "threshold": core.seats.threshold,
            "members": core.seats.members,
            "parameters": parameters.name(),
            "notActivated": waiting,
        });
        println!("{description}");
        return Ok(());
    }
    println!(
        "key set {} is shared among {} nodes, {} of which may be corrupt",
        core.key_id,
        core.seats.members.len(),
        core.seats.threshold
    );
    println!(
        "{} holds what coprocessors and clients need, and {RECORD_FILE} with all signatures; nothing in it is secret",
        directory.display()
    );
    super::resharing::print_waiting(&waiting, &directory.join(RECORD_FILE));
    if options.existing_keys.is_some() {
        println!(
            "remove secret_key.bin and squashing_secret.bin from {} and from every backup of it: they still decrypt everything",
            directory.display()
        );
    }
    if !parameters.is_secure() {
        println!("INSECURE: {parameters} hides nothing");
    }
    println!("next: cipherloom tenant set-keys, then cipherloom kms verify");
    Ok(())
}
