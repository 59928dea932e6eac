//! `cipherloom kms status`, `verify`, `audit` and `policy`: what anybody can find out about a committee from outside.
//!
//! # Roles
//! The *auditor* runs these commands on a machine of their own and trusts that, the policy they brought, Intel's root and, about the chain, the endpoints
//! they named. The *nodes*, the *gateway* and the networks between are not trusted: what they say is taken for true only where signatures,
//! evidence or the chain say so. Nothing here needs a secret, and nothing is changed.
//!
//! # Exit codes
//! 0: everything was looked at and is as it should be. 1: nothing is wrong, and something was not looked at or is weak. 2: something is wrong, or could not
//! be found out.

mod ids;
mod log;
mod nodes;
mod policy;
mod status;
mod summary;
mod time;
mod verify;
mod web;

use anyhow::Result;
use cipherloom_service::report::Unwell;
use clap::Subcommand;

/// What to find out.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Show what nodes say about themselves.
    #[command(long_about = status::HELP)]
    Status(status::StatusOptions),
    /// Check that nodes, their hardware, the signers on chain and the keys of a gateway belong together. Anybody can.
    #[command(long_about = verify::HELP)]
    Verify(Box<verify::VerifyOptions>),
    /// Verify an audit log, and tell who had what decrypted.
    #[command(long_about = log::HELP)]
    Audit(log::AuditOptions),
    /// Draft, check and name policies about hardware, and fetch what verification needs.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
}

/// Runs a command. Whatever goes wrong ends with exit code 2, so that nobody takes it for a warning.
///
/// # Errors
/// [`Unwell`] with the exit code.
pub(crate) async fn run(command: &AuditCommand) -> Result<()> {
    let result = match command {
        AuditCommand::Status(options) => status::run(options).await,
        AuditCommand::Verify(options) => Box::pin(verify::run(options)).await,
        AuditCommand::Audit(options) => log::run(options).await,
        AuditCommand::Policy(command) => policy::run(command).await,
    };
    result.map_err(|error| {
        if error.is::<Unwell>() {
            return error;
        }
        eprintln!("error: {error}");
        error.chain().skip(1).for_each(|cause| eprintln!("  because: {cause}"));
        Unwell { exit_code: 2 }.into()
    })
}
