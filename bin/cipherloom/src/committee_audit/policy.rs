//! `cipherloom kms policy`: what evidence is believed, written down, looked at and kept up to date.

mod application;
mod collateral;
mod draft;
mod weaknesses;

use std::{
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use cipherloom_attest::{MAX_POLICY_BYTES, Policy};
use cipherloom_service::report::{Report, Unwell};
use clap::{Args, Subcommand};
use serde_json::json;

use super::web;

/// What to do with a policy.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Draft a policy from what nodes measure now, to be compared with the measurements of a build before it is used.
    #[command(long_about = draft::HELP)]
    Make(MakeOptions),
    /// Say what a policy accepts, and what is weak about it.
    #[command(long_about = CHECK_HELP)]
    Check(FileOptions),
    /// Print the digest that nodes and manifests name a policy by.
    Digest(FileOptions),
    /// Write the application that dstack measures, and print the digest that a policy lists for it.
    #[command(long_about = application::HELP)]
    Application(ApplicationOptions),
    /// Fetch the manufacturer's statements that verification needs, or newer ones.
    #[command(long_about = collateral::HELP)]
    Collateral(CollateralOptions),
}

const CHECK_HELP: &str = "\
Say what a policy accepts, and what is weak about it.

It exits with 0 if nothing is weak, 1 if something is, and 2 if the policy cannot be used or accepts nothing.";

/// A policy's file.
#[derive(Clone, Debug, Args)]
pub(crate) struct FileOptions {
    /// The policy, JSON.
    #[arg(value_name = "FILE")]
    policy: PathBuf,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Options of `policy make`.
#[derive(Clone, Debug, Args)]
pub(crate) struct MakeOptions {
    /// The public ports of nodes that run the release. Those of different sizes of machines and of different operators go into one image.
    #[arg(long = "node", required = true, value_name = "URL", value_parser = web::base)]
    nodes: Vec<String>,

    /// The release's name, for people.
    #[arg(long, value_name = "NAME")]
    name: String,

    /// A directory with the manufacturer's statements, as `policy collateral` fetches them.
    #[arg(long, value_name = "DIR")]
    collateral: Option<PathBuf>,

    /// Where the policy goes [default: standard output].
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// INSECURE: draft a policy that accepts simulated evidence, if that is what the nodes have.
    #[arg(long)]
    allow_simulated: bool,

    /// The PEM file of whoever issued the nodes' certificates, for https URLs.
    #[arg(long, value_name = "FILE")]
    node_ca: Option<PathBuf>,
}

/// Options of `policy application`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ApplicationOptions {
    /// The composition of containers, YAML.
    #[arg(long, value_name = "FILE")]
    compose: PathBuf,

    /// Everything else about the application, JSON: the name, who gives it keys, which environment variables may be set.
    #[arg(long, value_name = "FILE")]
    settings: PathBuf,

    /// Where the application goes, for dstack.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// Options of `policy collateral`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CollateralOptions {
    /// The public ports of nodes whose platforms the statements are about.
    #[arg(long = "node", value_name = "URL", value_parser = web::base)]
    nodes: Vec<String>,

    /// A file with a quote, in its bytes or in hexadecimal, instead of a node.
    #[arg(long, value_name = "FILE", required_unless_present = "nodes")]
    quote: Vec<PathBuf>,

    /// The directory that gets a file for each family of platforms. Files of older statements are replaced.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,

    /// Who is asked: Intel, or a cache of its service (PCCS).
    #[arg(long, value_name = "URL", default_value = cipherloom_attest::pcs::INTEL_SERVICE, value_parser = web::base)]
    service: String,

    /// The PEM file of whoever issued the servers' certificates, for https URLs.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// Runs a command.
///
/// # Errors
/// [`Unwell`] if a policy is not as it should be, and whatever keeps it from being read or made.
pub(super) async fn run(command: &PolicyCommand) -> Result<()> {
    match command {
        PolicyCommand::Make(options) => draft::run(options).await,
        PolicyCommand::Check(options) => check(options),
        PolicyCommand::Digest(options) => digest(options),
        PolicyCommand::Application(options) => application::run(options),
        PolicyCommand::Collateral(options) => collateral::run(options).await,
    }
}

/// Reads a policy from a file.
///
/// # Errors
/// If it cannot be read or applied.
pub(super) fn read(path: &Path) -> Result<Policy> {
    let bytes = read_limited(path, MAX_POLICY_BYTES)?;
    Policy::from_json(&bytes).with_context(|| path.display().to_string())
}

/// Reads a file, and one byte more than the limit of one that is longer, which its parser refuses.
fn read_limited(path: &Path, limit: usize) -> Result<Vec<u8>> {
    let unreadable = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(unreadable)?;
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes).with_context(unreadable)?;
    Ok(bytes)
}

/// Tells what a policy accepts, and what is weak about it.
///
/// # Errors
/// If its digest cannot be computed, which no policy that was read shows.
pub(super) fn tell(policy: &Policy, report: &mut Report) -> Result<()> {
    report.ok("policy", format!("digest {}", policy.digest()?));
    for image in &policy.images {
        report.ok(
            "policy",
            format!(
                "accepts {:?}: {} sizes of machines, {} compositions, {} applications, {} providers of keys",
                image.name,
                image.rtmr0.len(),
                image.compose_hashes.len(),
                image.app_ids.len(),
                image.key_providers.len()
            ),
        );
    }
    weaknesses::tell(policy, report);
    Ok(())
}

fn check(options: &FileOptions) -> Result<()> {
    let mut report = Report::default();
    tell(&read(&options.policy)?, &mut report)?;
    match report.print(options.json)? {
        0 => Ok(()),
        exit_code => Err(Unwell { exit_code }.into()),
    }
}

fn digest(options: &FileOptions) -> Result<()> {
    let digest = read(&options.policy)?.digest()?;
    if options.json {
        println!("{}", json!({ "policy": options.policy, "digest": digest }));
    } else {
        println!("{digest}");
    }
    Ok(())
}

/// Writes a file that is complete as soon as it has its name.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory).with_context(failed)?;
    file.write_all(bytes).with_context(failed)?;
    file.as_file().sync_all().with_context(failed)?;
    file.persist(path).with_context(failed)?;
    Ok(())
}
