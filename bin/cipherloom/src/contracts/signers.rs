//! `cipherloom contracts signers`: whose signatures the contracts accept, and how many they ask for.

use alloy::primitives::Address;
use anyhow::{Context, Result, bail, ensure};
use cipherloom_chain::{
    Call, SignerSetOnChain,
    administration::{set_coprocessors, set_kms},
    manifest::{Kms, Signers},
    survey::StateSurvey,
};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::{
    deploy,
    options::{Deployed, DeployedOptions},
    ownership::state,
    status,
    transaction::{How, Transaction},
};

/// What to do with signers.
#[derive(Debug, Subcommand)]
pub(crate) enum SignersCommand {
    /// List coprocessors and KMS nodes with their thresholds.
    List {
        #[command(flatten)]
        deployed: DeployedOptions,
    },
    /// Accept signatures of more coprocessors or KMS nodes. Adding KMS nodes begins a context; answers of former contexts stay valid.
    Add(ChangeOptions),
    /// Accept no more signatures of these coprocessors or KMS nodes. Former KMS contexts keep their nodes until they are destroyed.
    Remove(ChangeOptions),
    /// Change how many must sign.
    Threshold(ThresholdOptions),
}

/// Whose signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Coprocessors sign handles of inputs.
    Coprocessor,
    /// KMS nodes sign decryptions.
    Kms,
}

/// A change of a set.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChangeOptions {
    /// Whose signatures.
    #[arg(value_enum)]
    role: Role,

    /// The signing addresses.
    #[arg(required = true, value_name = "ADDRESS")]
    addresses: Vec<Address>,

    #[command(flatten)]
    change: Change,
}

/// A change of thresholds.
#[derive(Clone, Debug, Args)]
pub(crate) struct ThresholdOptions {
    /// Whose signatures.
    #[arg(value_enum)]
    role: Role,

    #[command(flatten)]
    change: Change,
}

/// How a change is made.
#[derive(Clone, Debug, Args)]
pub(crate) struct Change {
    /// How many must sign: inputs for coprocessors, public decryptions for the KMS [default: as before, as long as that many are left].
    #[arg(long, value_name = "N")]
    threshold: Option<u64>,

    /// How many KMS nodes must answer a user's request [default: as before].
    #[arg(long, value_name = "N")]
    user_decryption_threshold: Option<u64>,

    /// How many KMS nodes may be dishonest without harm [default: as before].
    #[arg(long, value_name = "N")]
    mpc_threshold: Option<u64>,

    #[command(flatten)]
    how: How,
}

/// Runs a command.
///
/// # Errors
/// If the chain does not answer, the change is impossible, or the owner's transaction fails.
pub(crate) async fn run(command: &SignersCommand) -> Result<()> {
    match command {
        SignersCommand::List { deployed } => list(deployed).await,
        SignersCommand::Add(options) => {
            let apply = |signers: &mut Vec<Address>| add(signers, &options.addresses);
            Box::pin(change(options.role, &options.change, apply)).await
        }
        SignersCommand::Remove(options) => {
            let apply = |signers: &mut Vec<Address>| remove(signers, &options.addresses);
            Box::pin(change(options.role, &options.change, apply)).await
        }
        SignersCommand::Threshold(options) => {
            let Change {
                threshold,
                user_decryption_threshold,
                mpc_threshold,
                ..
            } = &options.change;
            ensure!(
                threshold.or(*user_decryption_threshold).or(*mpc_threshold).is_some(),
                "no threshold is given: --threshold, --user-decryption-threshold or --mpc-threshold"
            );
            Box::pin(change(options.role, &options.change, |_| Ok(()))).await
        }
    }
}

async fn list(options: &DeployedOptions) -> Result<()> {
    let deployed = options.find().await?;
    let state = state(&deployed).await?;
    if options.json {
        let summary = json!({
            "chainId": deployed.chain_id,
            "coprocessors": status::signers_json(&state.coprocessors),
            "kms": status::signers_json(&state.kms),
            "userDecryptionThreshold": state.user_decryption_threshold.to_string(),
            "mpcThreshold": state.mpc_threshold.to_string(),
            "kmsContextId": format!("{:#x}", state.context_id),
        });
        println!("{summary}");
        return Ok(());
    }
    println!("coprocessors  {}", status::signers(&state.coprocessors));
    println!("KMS           {}", status::signers(&state.kms));
    println!(
        "              user decryption {}, dishonest at most {}, context {:#x}",
        state.user_decryption_threshold, state.mpc_threshold, state.context_id
    );
    Ok(())
}

fn add(signers: &mut Vec<Address>, new: &[Address]) -> Result<()> {
    for signer in new {
        ensure!(!signers.contains(signer), "{signer} signs already");
        signers.push(*signer);
    }
    Ok(())
}

fn remove(signers: &mut Vec<Address>, gone: &[Address]) -> Result<()> {
    for signer in gone {
        let Some(position) = signers.iter().position(|known| known == signer) else {
            bail!("{signer} is none of the signers; `cipherloom contracts signers list` shows them");
        };
        signers.remove(position);
    }
    Ok(())
}

/// The set that is to be, in the form of the file about the deployment.
enum Planned {
    Coprocessors(Signers),
    Kms(Kms),
}

impl Planned {
    fn call(&self, deployed: &Deployed) -> Call {
        let addresses = deployed.chain.addresses();
        match self {
            Self::Coprocessors(set) => set_coprocessors(addresses, &set.signers, set.threshold),
            Self::Kms(kms) => set_kms(addresses, kms),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Coprocessors(set) => format!("{} of {} coprocessors must sign", set.threshold, set.signers.len()),
            Self::Kms(kms) => format!(
                "{} of {} KMS nodes must sign a public decryption, {} must answer a user",
                kms.public_decryption_threshold,
                kms.signers.len(),
                kms.user_decryption_threshold
            ),
        }
    }
}

async fn change(role: Role, options: &Change, apply: impl Fn(&mut Vec<Address>) -> Result<()>) -> Result<()> {
    let mut deployed = options.how.deployed.find().await?;
    let state = state(&deployed).await?;
    let planned = plan(role, options, &state, apply)?;
    let outcome = planned.describe();
    let transaction = Transaction {
        call: planned.call(&deployed),
        account: state.owner,
        role: "the owner of the contracts",
        outcome: &outcome,
    };
    let Some(included) = Box::pin(transaction.carry_out(&deployed, &options.how)).await? else {
        return Ok(());
    };
    if let Some(record) = &mut deployed.record {
        match planned {
            Planned::Coprocessors(set) => record.coprocessors = set,
            Planned::Kms(kms) => record.kms = kms,
        }
        deployed.save()?;
    }
    transaction.report(&included, options.how.deployed.json);
    Ok(())
}

/// Makes the new set of the one that is there.
fn plan(role: Role, options: &Change, state: &StateSurvey, apply: impl Fn(&mut Vec<Address>) -> Result<()>) -> Result<Planned> {
    let current = match role {
        Role::Coprocessor => &state.coprocessors,
        Role::Kms => &state.kms,
    };
    let mut signers = current.signers.clone();
    apply(&mut signers)?;
    let threshold = options.threshold.unwrap_or_else(|| number(current));
    let name = match role {
        Role::Coprocessor => "coprocessor",
        Role::Kms => "KMS node",
    };
    let impossible = || {
        format!(
            "{} {name}s would be left, {threshold} of whom would have to sign; --threshold changes that",
            signers.len()
        )
    };
    deploy::plan::check(name, "the command line", &signers, threshold).with_context(impossible)?;
    if role == Role::Coprocessor {
        ensure!(
            options.user_decryption_threshold.or(options.mpc_threshold).is_none(),
            "coprocessors have one threshold; --user-decryption-threshold and --mpc-threshold are the KMS's"
        );
        return Ok(Planned::Coprocessors(Signers { signers, threshold }));
    }
    let user = options
        .user_decryption_threshold
        .unwrap_or_else(|| state.user_decryption_threshold.saturating_to());
    let mpc = options.mpc_threshold.unwrap_or_else(|| state.mpc_threshold.saturating_to());
    let count = signers.len() as u64;
    ensure!(
        (1..=count).contains(&user),
        "{user} of {count} KMS nodes would have to answer users; --user-decryption-threshold changes that"
    );
    ensure!(
        mpc < count,
        "{mpc} of {count} KMS nodes could be dishonest; --mpc-threshold changes that"
    );
    Ok(Planned::Kms(Kms {
        signers,
        public_decryption_threshold: threshold,
        user_decryption_threshold: user,
        mpc_threshold: mpc,
    }))
}

fn number(set: &SignerSetOnChain) -> u64 {
    set.threshold.saturating_to()
}
