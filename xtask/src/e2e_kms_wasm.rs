//! Opens a committed user decryption answer with the unmodified WebAssembly client that published SDKs bundle.
//!
//! The answer is the known-answer vector of the `signcryption` crate, which that crate's tests produce byte for byte; so what passes here is what
//! KMS nodes send. Needs Node.js and npm; the packages are installed from the lock file into a directory of their own below `target`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

const SOURCES: [&str; 3] = ["package.json", "package-lock.json", "check.mjs"];

/// Installs the client and runs the check.
///
/// # Errors
/// If Node.js is missing, the installation fails or the client does not read the answer as it should.
pub fn run() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the repository")?;
    let work = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from).join("e2e/wasm-user-decryption");
    std::fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
    for file in SOURCES {
        let source = root.join("e2e/wasm-user-decryption").join(file);
        std::fs::copy(&source, work.join(file)).with_context(|| format!("copy {}", source.display()))?;
    }
    execute(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&work))?;
    let vector = root.join("crates/signcryption/tests/vectors/centralised.json");
    execute(Command::new("node").arg("check.mjs").arg(vector).current_dir(&work))
}

fn execute(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("start {}", command.get_program().display()))?;
    ensure!(status.success(), "{} ended with {status}", command.get_program().display());
    Ok(())
}
