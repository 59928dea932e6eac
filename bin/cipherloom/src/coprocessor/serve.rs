//! Running what the options ask for, until a signal ends it.

use alloy::signers::local::PrivateKeySigner;
use anyhow::{Context, Result};
use cipherloom_service::{
    key_file::{self, KeyFile},
    runtime,
    signals::Signals,
};
use zeroize::Zeroizing;

use super::{options::CoprocessorOptions, process::Process, setup};
use crate::database::random;

/// The exit code of a process that a second signal ended.
const INTERRUPTED: i32 = 130;

/// Runs the process until it is told to stop.
///
/// # Errors
/// If something that the options name cannot be used, or an address is taken.
pub(super) fn run(options: &CoprocessorOptions, url: &str) -> Result<()> {
    runtime::run(options.tokio_threads, serve(options, url))
}

async fn serve(options: &CoprocessorOptions, url: &str) -> Result<()> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    // Files first: a process that cannot sign need not touch a database.
    let signer = match options.run_server {
        true => key_file::read(&options.coprocessor_private_key, KeyFile::COPROCESSOR)?,
        false => unused_signer()?,
    };
    let tls = setup::tls(options)?;
    let database = setup::open_database(options, url).await?;
    let process = Box::pin(Process::start(options, database, signer, tls)).await?;
    process.announce(options);
    signals.next().await;
    tracing::info!(
        drain_seconds = options.drain_seconds,
        "told to stop; a second signal ends the process at once"
    );
    tokio::select! {
        ended = process.shutdown() => ended,
        () = signals.next() => {
            tracing::warn!("told to stop at once; leases end by themselves, and what was under way is computed again");
            std::process::exit(INTERRUPTED);
        }
    }
}

/// Makes a key for a process that signs nothing.
fn unused_signer() -> Result<PrivateKeySigner> {
    let bytes = Zeroizing::new(random::<32>()?);
    PrivateKeySigner::from_slice(bytes.as_slice()).context("the system's randomness made no key")
}
