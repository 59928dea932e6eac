//! `cipherloom contracts`: the host contracts of a chain, from their addresses before anything is sent to their last upgrade.
//!
//! What is sent and read is in `cipherloom_chain`; here are the options, the questions and the reports.

mod addresses;
mod cost;
mod deploy;
mod environment;
mod explorer;
mod keys;
mod options;
mod ownership;
mod reports;
mod signers;
mod simulation;
mod sources;
mod status;
mod transaction;
mod upgrade;
mod verify;

use anyhow::Result;
use clap::Subcommand;

pub(crate) const HELP: &str = "\
Precompute, deploy, verify, upgrade and administer the host contracts of a chain.

The addresses of a deployment follow from the account that deploys, so they are known before anything is sent. `deploy` goes on where an earlier run was stopped, \
and writes deployment-<chain id>.json, which every other command and every stack that is attached to the chain reads. `--dry-run` tells what a command would send \
and what it would cost, and sends nothing.

docs/contracts.md is the operator's guide.";

/// What to do with host contracts.
#[derive(Debug, Subcommand)]
pub(crate) enum ContractsCommand {
    /// Print where the contracts of a deployer are or will be. Nothing is sent, and no chain is asked.
    #[command(long_about = addresses::HELP)]
    Addresses(addresses::AddressesOptions),
    /// Deploy the host contracts, or go on with a deployment that was stopped.
    #[command(long_about = deploy::HELP)]
    Deploy(Box<deploy::DeployOptions>),
    /// Compare what is on chain with this build, and have a block explorer verify the sources.
    #[command(long_about = verify::HELP)]
    Verify(Box<verify::VerifyOptions>),
    /// Give contracts another implementation, and keep what they have stored.
    #[command(long_about = upgrade::HELP)]
    Upgrade(Box<upgrade::UpgradeOptions>),
    /// Show versions, owner, signers and limits of a deployment.
    Status(status::StatusOptions),
    /// List or change whose signatures the contracts accept.
    #[command(subcommand)]
    Signers(Box<signers::SignersCommand>),
    /// Offer the ownership of the contracts to another account, or accept it.
    #[command(subcommand)]
    Owner(Box<ownership::OwnerCommand>),
    /// Write the compiler's standard JSON input of a contract, for explorers that want it by hand.
    StandardJson(sources::StandardJsonOptions),
}

/// Runs a command.
///
/// # Errors
/// Says what could not be done and why.
pub(crate) async fn run(command: ContractsCommand) -> Result<()> {
    match command {
        ContractsCommand::Addresses(options) => addresses::run(&options),
        ContractsCommand::Deploy(options) => Box::pin(deploy::run(&options)).await,
        ContractsCommand::Verify(options) => Box::pin(verify::run(&options)).await,
        ContractsCommand::Upgrade(options) => Box::pin(upgrade::run(&options)).await,
        ContractsCommand::Status(options) => Box::pin(status::run(&options)).await,
        ContractsCommand::Signers(command) => Box::pin(signers::run(&command)).await,
        ContractsCommand::Owner(command) => Box::pin(ownership::run(&command)).await,
        ContractsCommand::StandardJson(options) => sources::run(&options),
    }
}
