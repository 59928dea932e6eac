//! What the engine's rewriting rules save on the transactions of real contracts, the published ERC-7984 token among them.
//!
//! `cargo xtask rule-statistics` compiles the token from npm with our Solidity library and has `cipherloom graph statistics` run it
//! next to the examples.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::{
    command::{cargo, program},
    erc7984::{self, Library},
};

/// Prints the statistics.
///
/// # Errors
/// If npm is missing, a package cannot be installed, the token does not compile, or the statistics fail.
pub(crate) fn run(json: bool, binary: Option<PathBuf>) -> Result<()> {
    let artifacts = tempfile::tempdir().context("cannot make a temporary folder")?;
    erc7984::compile(artifacts.path(), Library::Ours)?;
    let folder = artifacts.path().to_str().context("the temporary folder's path is not UTF-8")?;
    let mut arguments = vec!["graph", "statistics", "--erc7984", folder];
    if json {
        arguments.push("--json");
    }
    let mut command = match binary {
        Some(binary) => program(binary, &arguments),
        None => cargo(
            &[
                &["run", "--release", "--locked", "--quiet", "--package", "cipherloom", "--"],
                arguments.as_slice(),
            ]
            .concat(),
        ),
    };
    // What it prints is the result: nothing else goes to standard output.
    let status = command.status().context("cannot start cipherloom")?;
    ensure!(status.success(), "`cipherloom graph statistics` failed: {status}");
    Ok(())
}
