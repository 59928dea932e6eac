//! `cipherloom kms recovery-key` and `cipherloom kms recover`: custodians, and machines that take the place of lost ones.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use cipherloom_ceremony::{Backup, MAX_BACKUP_BYTES, Piece, RecoveryCard, RecoveryKey, SealedPiece, Store};
use cipherloom_kms::{Clock as _, SystemClock};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    attested::{ChainOptions, ProofOptions, verifier_of},
    read_file, write_file, write_secret_file,
};

/// The longest of the small documents, in bytes.
const MAX_DOCUMENT_BYTES: usize = 256 << 10;

pub(super) const KEY_HELP: &str = "\
Make a recovery key: a document for the configuration of nodes, and secret pieces for custodians.

Run it on a machine without network, give each piece to one custodian, and wipe the machine. Nobody has the key itself: it is put together only inside the trust domain of a machine that is being recovered.

  cipherloom kms recovery-key --needed 3 --pieces 5 --output recovery

recovery-key.json goes into the configuration of nodes (`--recovery-key`), which their measurement covers. The pieces are secret: any 3 of these 5 custodians together can restore the nodes whose backups they get.";

pub(super) const HELP: &str = "\
Restore a node that was lost with its machine, from its backup and enough pieces of its recovery key.

  1. On the new machine, in its trust domain: `recover begin` reads the backup and makes a card, with evidence of what runs there.
  2. Each custodian, at home: `recover piece` verifies the evidence by the policy and seals their piece to the card. What comes out is useless to anybody else.
  3. On the new machine: `recover finish` opens the backup and seals identity and share to the new hardware. Then start the node.

Backups of an epoch that the chain has left behind are refused. The lost machine must not come back: two machines with one identity look like one that lies.";

/// Options of `kms recovery-key`.
#[derive(Debug, Args)]
pub(crate) struct KeyOptions {
    /// How many pieces are needed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    needed: u8,

    /// How many pieces there are
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pieces: u8,

    /// Where the files go: recovery-key.json and piece-N.json; it must not have such files yet
    #[arg(long, value_name = "DIR")]
    output: PathBuf,

    /// Print one JSON object at the end, instead of sentences
    #[arg(long)]
    json: bool,
}

/// The steps of a recovery.
#[derive(Debug, Subcommand)]
pub(crate) enum RecoverCommand {
    /// On the new machine: make the card that custodians seal their pieces to.
    Begin(Box<BeginOptions>),
    /// At a custodian's: verify the card, and seal a piece to it.
    Piece(PieceOptions),
    /// On the new machine: open the backup with the sealed pieces, and keep what was in it.
    Finish(Box<FinishOptions>),
}

/// Options of `kms recover begin`.
#[derive(Debug, Args)]
pub(crate) struct BeginOptions {
    /// The party's directory on the new machine; the node that will use it must not run yet
    #[arg(long, value_name = "DIR")]
    party_dir: PathBuf,

    /// The backup of the node that was lost
    #[arg(long, value_name = "FILE")]
    backup: PathBuf,

    /// Where the card goes
    #[arg(long, value_name = "FILE")]
    card: PathBuf,

    #[command(flatten)]
    chain: ChainOptions,

    #[command(flatten)]
    proof: ProofOptions,
}

/// Options of `kms recover piece`.
#[derive(Debug, Args)]
pub(crate) struct PieceOptions {
    /// The card of the machine that is to be recovered
    #[arg(long, value_name = "FILE")]
    card: PathBuf,

    /// The custodian's secret piece
    #[arg(long, value_name = "FILE")]
    piece: PathBuf,

    /// Where the sealed piece goes
    #[arg(long, value_name = "FILE")]
    output: PathBuf,

    /// The policy that says which software on which hardware is believed
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// The manufacturer's statements about platforms, *.json in a directory
    #[arg(long, value_name = "DIR")]
    collateral: Option<PathBuf>,

    /// INSECURE: believe a card that proves nothing; only on chains for development, and in builds for it
    #[arg(long)]
    insecure_simulated_attestation: bool,
}

/// Options of `kms recover finish`.
#[derive(Debug, Args)]
pub(crate) struct FinishOptions {
    /// The party's directory on the new machine; the node that will use it must not run yet
    #[arg(long, value_name = "DIR")]
    party_dir: PathBuf,

    /// The backup of the node that was lost
    #[arg(long, value_name = "FILE")]
    backup: PathBuf,

    /// A sealed piece. Given for each
    #[arg(long = "piece", value_name = "FILE", required = true)]
    pieces: Vec<PathBuf>,

    #[command(flatten)]
    chain: ChainOptions,

    #[command(flatten)]
    proof: ProofOptions,

    /// Print one JSON object at the end, instead of sentences
    #[arg(long)]
    json: bool,
}

/// Makes a recovery key.
///
/// # Errors
/// If the numbers make no sense, or files cannot be written.
pub(super) fn make_key(options: &KeyOptions) -> Result<()> {
    let (key, pieces) = RecoveryKey::generate(options.needed, options.pieces)?;
    let document = options.output.join("recovery-key.json");
    write_file(&document, &key.to_json()?)?;
    let mut files = Vec::new();
    for piece in &pieces {
        let file = options.output.join(format!("piece-{}.json", piece.number()));
        write_secret_file(&file, &piece.to_json()?)?;
        files.push(file);
    }
    if options.json {
        println!(
            "{}",
            json!({ "publicKey": key.public_key, "document": document, "needed": key.needed, "pieces": files })
        );
        return Ok(());
    }
    println!(
        "recovery key {}: {} of {} pieces are needed",
        key.public_key,
        key.needed,
        files.len()
    );
    println!(
        "{} is public: name it in the configuration of nodes with --recovery-key",
        document.display()
    );
    println!("the piece-N.json beside it are secret: one for each custodian, and no copies here");
    Ok(())
}

/// Runs a step of a recovery.
///
/// # Errors
/// If something is refused: see `cipherloom_ceremony`.
pub(super) async fn run(command: RecoverCommand) -> Result<()> {
    match command {
        RecoverCommand::Begin(options) => Box::pin(begin(&options)).await,
        RecoverCommand::Piece(options) => piece(&options),
        RecoverCommand::Finish(options) => Box::pin(finish(&options)).await,
    }
}

async fn begin(options: &BeginOptions) -> Result<()> {
    let backup = Backup::from_json(&read_file(&options.backup, MAX_BACKUP_BYTES)?)?;
    let floor = options.chain.committee().await?.epoch_id;
    let attestation = options.proof.attestation_of_node()?;
    let mut store = Store::open(&options.party_dir, &*attestation.attestor).await?;
    let card = store.begin_recovery(&backup, floor, &*attestation.attestor).await?;
    write_file(&options.card, &card.to_json()?)?;
    println!(
        "{} is the card of the machine that takes the place of node {}; {} of {} custodians seal their pieces to it: cipherloom kms recover piece --card … --piece …",
        options.card.display(),
        backup.signer,
        backup.recovery_key.needed,
        backup.recovery_key.pieces.len()
    );
    Ok(())
}

fn piece(options: &PieceOptions) -> Result<()> {
    let card = RecoveryCard::from_json(&read_file(&options.card, MAX_DOCUMENT_BYTES)?)?;
    let secret = zeroize::Zeroizing::new(read_file(&options.piece, MAX_DOCUMENT_BYTES)?);
    let piece = Piece::from_json(&secret)?;
    let verifier = verifier_of(
        options.policy.as_deref(),
        options.collateral.as_deref(),
        options.insecure_simulated_attestation,
    )?;
    let sealed = piece
        .seal_to(&card, &verifier, SystemClock.now_seconds())
        .context("the piece stays here")?;
    write_file(&options.output, &sealed.to_json()?)?;
    println!(
        "piece {} is sealed to the machine that takes the place of node {}: {}",
        piece.number(),
        card.signer,
        options.output.display()
    );
    Ok(())
}

async fn finish(options: &FinishOptions) -> Result<()> {
    let backup = Backup::from_json(&read_file(&options.backup, MAX_BACKUP_BYTES)?)?;
    let pieces = options
        .pieces
        .iter()
        .map(|file| Ok(SealedPiece::from_json(&read_file(file, MAX_DOCUMENT_BYTES)?)?))
        .collect::<Result<Vec<_>>>()?;
    let floor = options.chain.committee().await?.epoch_id;
    let attestation = options.proof.attestation_of_node()?;
    let mut store = Store::open(&options.party_dir, &*attestation.attestor).await?;
    store.finish_recovery(&backup, floor, &pieces)?;
    if options.json {
        println!(
            "{}",
            json!({ "signer": backup.signer, "keySetId": backup.record.core.key_id, "epoch": backup.record.core.seats.epoch })
        );
        return Ok(());
    }
    println!(
        "{} holds identity and share of node {}; start the node with it",
        options.party_dir.display(),
        backup.signer
    );
    Ok(())
}
