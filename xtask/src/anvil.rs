//! anvil from npm: the chain that is not ours, which tests attach to.
//!
//! The package is pinned in `e2e/anvil/package-lock.json`; what is run is the program in it, without Node.js. Tests find it by an environment
//! variable, which whoever has another anvil can set instead.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use cipherloom_private_anvil::PROGRAM;

use crate::{command::root, contracts::install_packages};

/// The packages of this workspace whose tests need anvil.
const USERS: [&str; 5] = ["chain", "cipherloom", "coprocessor", "node", "private-anvil"];

/// Says whether tests of these packages need anvil; none given means all.
pub(crate) fn is_needed(packages: &[String]) -> bool {
    packages.is_empty() || packages.iter().any(|package| USERS.contains(&package.as_str()))
}

/// Returns anvil's program: the one that the environment names, or the one from npm, installed if it is not there.
///
/// # Errors
/// If npm is missing or cannot install it, or there is none for this machine.
pub(crate) fn binary() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(PROGRAM) {
        let named = PathBuf::from(named);
        ensure!(named.is_file(), "{PROGRAM} names {}, which is no file", named.display());
        return Ok(named);
    }
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "anvil's package is pinned for Linux on x86-64 only; install anvil and name its program in {PROGRAM}"
    );
    let folder = root().join("e2e/anvil");
    let program = folder.join("node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil");
    if !program.is_file() {
        println!(
            "installing anvil, as pinned in e2e/anvil/package-lock.json, with npm into {} (once)",
            folder.display()
        );
    }
    install_packages(&folder)
        .with_context(|| format!("tests against a chain that is not ours need anvil: install npm, or name an anvil in {PROGRAM}"))?;
    ensure!(program.is_file(), "npm has installed no {}", program.display());
    Ok(program)
}

/// Tells a command where anvil is.
///
/// # Errors
/// As [`binary`].
pub(crate) fn provide(command: &mut Command) -> Result<()> {
    command.env(PROGRAM, binary()?);
    Ok(())
}

/// Installs anvil and prints where it is.
///
/// # Errors
/// As [`binary`].
pub(crate) fn run() -> Result<()> {
    println!("{}", binary()?.display());
    Ok(())
}
