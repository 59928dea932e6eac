//! `cipherloom kms verify`: whether nodes, hardware, chain and keys belong together.
//!
//! Every statement is followed to somebody who cannot be the nodes' operator: evidence to the manufacturer's root, measurements to the auditor's policy,
//! signers and thresholds to the chain, shares and keys to the record that all members signed.

mod chain;
mod committee;
mod keys;
mod node;
mod record;

use std::{path::PathBuf, sync::Arc};

use anyhow::Result;
use cipherloom_attest::{CollateralStore, Verifier};
use cipherloom_service::report::{Report, Unwell};
use clap::Args;
use futures_util::future::join_all;

use super::{nodes::Node, policy, time, web, web::Web};

/// What `--help` begins with.
pub(super) const HELP: &str = "\
Check that nodes, their hardware, the signers on chain and the keys of a gateway belong together. Anybody can.

  cipherloom kms verify http://10.0.0.1:50062 http://10.0.0.2:50062 http://10.0.0.3:50062 http://10.0.0.4:50062 \\
      --policy policy.json --collateral collateral --rpc-url https://rpc.example --deployment deployment-1.json \\
      --gateway https://gateway.example

What is checked:
  policy     that it can be applied, and what is weak about it
  chain      who the current KMS context's signers are, its epoch and its thresholds, by each endpoint of --rpc-url, which must agree
  nodes      each node is challenged with a fresh nonce: its evidence under the manufacturer's root, its platform, its measurements against the policy; that its signing key \
is in there and registered on chain under its number; that it serves the chain's epoch
  committee  that every registered signer was looked at, and that the thresholds leave corrupt nodes powerless
  ceremony   that all nodes have the same record, with the signatures of all members, shares that fit, and evidence of dealer and members at the time
  keys       that the public key and reference string that the gateway hands out are those of the record

What is not, since nothing from outside can: that the software whose measurements the policy lists is good (build it and compare), that hardware keeps its promises, and that \
nobody has got t+1 shares in another way.

Evidence that is simulated, and key sets that hide nothing, are wrong unless --allow-insecure is given, and are told in any case.

It exits with 0 if everything was checked and is right, 1 if something was not checked or is weak, and 2 if something is wrong.";

/// Options of `kms verify`.
#[derive(Clone, Debug, Args)]
pub(crate) struct VerifyOptions {
    /// The public ports of the nodes.
    #[arg(required = true, value_name = "URL", value_parser = web::base)]
    nodes: Vec<String>,

    /// What you accept: measurements and states of platforms, JSON. Do not take it from those who run the nodes without looking at it.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,

    /// A directory with the manufacturer's statements, as `cipherloom kms policy collateral` fetches them.
    #[arg(long, value_name = "DIR")]
    collateral: Option<PathBuf>,

    /// A node of the host chain. Given several times: they must agree.
    #[arg(long, required = true, value_name = "URL")]
    rpc_url: Vec<String>,

    /// The file about the deployment of the host contracts [default: the known plan of chain 31337 or 12345].
    #[arg(long, value_name = "FILE")]
    deployment: Option<PathBuf>,

    /// The chain is a native one: the genesis.json that it began with, instead of a deployment.
    #[arg(long, value_name = "FILE", conflicts_with = "deployment")]
    native_genesis: Option<PathBuf>,

    /// The gateway whose keys clients use.
    #[arg(long, value_name = "URL", value_parser = web::base)]
    gateway: Option<String>,

    /// Records of earlier ceremonies, back to the one that made the key; needed after a resharing. May be given several times.
    #[arg(long, value_name = "FILE")]
    earlier_record: Vec<PathBuf>,

    /// INSECURE: for development, let simulated evidence and key sets that hide nothing pass. They are told nevertheless.
    #[arg(long)]
    allow_insecure: bool,

    /// The PEM file of whoever issued the certificates of nodes and gateway, for https URLs.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Checks everything and prints what was found.
///
/// # Errors
/// [`Unwell`] if something is not as it should be, and whatever keeps the check from beginning.
pub(super) async fn run(options: &VerifyOptions) -> Result<()> {
    let mut report = Report::default();
    let web = Web::new(options.ca.as_deref())?;
    let policy = policy::read(&options.policy)?;
    policy::tell(&policy, &mut report)?;
    let collateral = match &options.collateral {
        Some(directory) => CollateralStore::read_directory(directory)?,
        None => CollateralStore::default(),
    };
    let verifier = Verifier::new(policy, Arc::new(collateral))?;
    let committee = chain::committee(options, &mut report).await?;
    let setting = node::Setting {
        verifier: &verifier,
        committee: &committee,
        now: time::now(),
        allow_insecure: options.allow_insecure,
    };
    let checks = options.nodes.iter().map(|url| node::check(Node::new(&web, url), &setting));
    let mut checked = Vec::new();
    for node in join_all(checks).await {
        report.append(node.report);
        checked.push(node.found);
    }
    committee::judge(&committee, &checked, &mut report);
    let record = record::check(&checked, &setting, &options.earlier_record, &mut report);
    keys::check(&web, options.gateway.as_deref(), record.as_ref(), &mut report).await;
    match report.print(options.json)? {
        0 => Ok(()),
        exit_code => Err(Unwell { exit_code }.into()),
    }
}
