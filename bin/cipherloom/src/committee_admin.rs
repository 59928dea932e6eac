//! `cipherloom kms ceremony` and what else operators do with the shares of a committee: pass them on, back them up, restore them.
//!
//! # Roles
//! The command is the driver of a ceremony, in the role of a dealer; nodes believe it by its evidence, and agree to nothing but what their chain has registered. So it runs in a trust domain, and chains for
//! development do with simulated evidence. In `ceremony` it makes the key and knows it for a minute; in all others it carries sealed letters and learns nothing.
//!
//! # Restart
//! What was interrupted is begun anew. A record that is complete is written to a file before it is delivered, so that `kms activate` can deliver it to nodes that were not told.

mod attested;
mod backup;
mod ceremony;
mod recovery;
mod resharing;
mod steps;

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use clap::Subcommand;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Make a key, and deal shares of it to the committee that the chain has registered.
    #[command(long_about = ceremony::HELP)]
    Ceremony(Box<ceremony::CeremonyOptions>),
    /// Give the shares to the committee that the chain has registered since: a larger, a smaller, or another one.
    #[command(long_about = resharing::RESHARE_HELP)]
    Reshare(Box<resharing::ResharingOptions>),
    /// Give the shares of nodes that are gone to those that the chain has registered in their places.
    #[command(long_about = resharing::REPLACE_HELP)]
    ReplaceParty(Box<resharing::ResharingOptions>),
    /// Give the same committee new shares, so that whatever was stolen of the old ones is worth nothing.
    #[command(long_about = resharing::ROTATE_HELP)]
    Rotate(Box<resharing::ResharingOptions>),
    /// Deliver a complete record to nodes that were not told of it, so that they use their new shares.
    Activate(Box<resharing::ActivateOptions>),
    /// Make a recovery key: a document for the configuration of nodes, and secret pieces for custodians.
    #[command(long_about = recovery::KEY_HELP)]
    RecoveryKey(recovery::KeyOptions),
    /// Have nodes seal their identity and share to their recovery key, and keep the result.
    #[command(long_about = backup::HELP)]
    Backup(Box<backup::BackupOptions>),
    /// Restore a node that was lost with its machine, from its backup and enough pieces of its recovery key.
    #[command(subcommand, long_about = recovery::HELP)]
    Recover(recovery::RecoverCommand),
}

/// Runs one of the commands.
///
/// # Errors
/// If the ceremony fails, or what options name cannot be used.
pub(crate) async fn run(command: AdminCommand) -> Result<()> {
    match command {
        AdminCommand::Ceremony(options) => Box::pin(ceremony::run(&options)).await,
        AdminCommand::Reshare(options) => Box::pin(resharing::run(&options, resharing::Purpose::Reshare)).await,
        AdminCommand::ReplaceParty(options) => Box::pin(resharing::run(&options, resharing::Purpose::Replace)).await,
        AdminCommand::Rotate(options) => Box::pin(resharing::run(&options, resharing::Purpose::Rotate)).await,
        AdminCommand::Activate(options) => Box::pin(resharing::activate(&options)).await,
        AdminCommand::RecoveryKey(options) => recovery::make_key(&options),
        AdminCommand::Backup(options) => Box::pin(backup::run(&options)).await,
        AdminCommand::Recover(command) => Box::pin(recovery::run(command)).await,
    }
}

/// Reads a file of limited length.
fn read_file(path: &Path, max: usize) -> Result<Vec<u8>> {
    let cannot_read = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(cannot_read)?;
    file.take(max as u64 + 1).read_to_end(&mut bytes).with_context(cannot_read)?;
    ensure!(bytes.len() <= max, "{} has more than {max} bytes", path.display());
    Ok(bytes)
}

/// Writes a new file that everybody may read.
fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let cannot_write = || format!("cannot write {}", path.display());
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).with_context(cannot_write)?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .with_context(cannot_write)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).with_context(cannot_write)
}

/// Writes a new file that only its owner may read.
fn write_secret_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let cannot_write = || format!("cannot write {}", path.display());
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(path).with_context(cannot_write)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).with_context(cannot_write)
}
