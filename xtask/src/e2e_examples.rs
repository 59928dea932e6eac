//! The example dApps and the published confidential contracts, end to end.
//!
//! Each runs on `cipherloom dev` as a process of its own, compiled with our Solidity library and with the published one, by changing nothing but
//! imports, and on anvil. Values are encrypted, proved, computed and decrypted through the gateway with the Rust client. Most runs are on the clear backend; without
//! `reduced`, the token of either published release also goes through the demo on real TFHE.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{
    anvil,
    command::{cargo, program, run as execute},
    contracts, e2e_sdk, gas,
    published_library::{self, Release},
};

/// The modules of the end-to-end tests that are about dApps.
const TESTS: [&str; 6] = ["auction::", "ballot::", "elsewhere::", "erc7984::", "raffle::", "token::"];

/// Builds the binary unless there is one, and runs [`examples`].
///
/// # Errors
/// If the binary does not build, and those of [`examples`].
pub(crate) fn run(reduced: bool, binary: Option<PathBuf>) -> Result<()> {
    let binary = binary.map_or_else(e2e_sdk::build, Ok)?;
    examples(reduced, &binary)
}

/// Runs the dApps, and compares what transactions cost on chain with what is written down.
///
/// # Errors
/// If npm is missing, a package cannot be installed, or a dApp does not do what it should.
pub(crate) fn examples(reduced: bool, binary: &Path) -> Result<()> {
    contracts::run(true)?;
    let mut tests = cargo(&["test", "--release", "--locked", "--package", "cipherloom", "--test", "whole", "--"]);
    tests.args(TESTS);
    anvil::provide(&mut tests)?;
    execute(tests)?;
    gas::run(true, Some(binary.to_path_buf()))?;
    if reduced {
        return Ok(());
    }
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    for release in [Release::V0_11, Release::V0_13] {
        let artifacts = folder.path().join(format!("{release:?}"));
        published_library::run(&artifacts, release)?;
        let mut demo = program(binary, &["demo", "--data-dir"]);
        demo.arg(folder.path().join("data"))
            .arg("--token-artifact")
            .arg(artifacts.join("confidential-token/ConfidentialToken.json"));
        execute(demo).with_context(|| format!("the token with the published library {release:?} fails on real TFHE"))?;
    }
    Ok(())
}
