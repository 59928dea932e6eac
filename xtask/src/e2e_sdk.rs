//! Carries an encrypted transfer through a running `cipherloom dev` with the published SDKs, unmodified and configured only.
//!
//! The stack runs as a process of its own, on real TFHE with fresh keys, free ports and a temporary directory. Each SDK runs in a Node.js process of
//! its own: it encrypts and proves with its own WebAssembly, and opens the KMS's answers with it. The scripts are in `e2e/sdk`; what they
//! import is pinned in `e2e/sdk/package-lock.json`.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde_json::Value;

use crate::{
    command::{build_executable, program, root, run as execute},
    contracts::install_packages,
};

/// The oldest release of Node.js that the SDKs declare to run on.
const OLDEST_NODE: u32 = 22;

/// What is run against the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sdk {
    /// ethers 6 and viem, against the development chain.
    Libraries,
    /// @zama-fhe/relayer-sdk 0.4.3 with the gateway's routes of version 2.
    RelayerV2,
    /// @zama-fhe/relayer-sdk 0.4.3 with the gateway's routes of version 1.
    RelayerV1,
    /// @fhevm/sdk 1.0.0-alpha.5.
    Fhevm,
    /// @zama-fhe/sdk 3.0.1. Only where it is asked for: it gives up when a proof takes more than 30 seconds, which a busy machine may need.
    Zama,
}

impl Sdk {
    /// Those that pass on a machine of any speed.
    const ALL: [Self; 4] = [Self::Libraries, Self::RelayerV2, Self::RelayerV1, Self::Fhevm];

    /// The script, and what it is told besides the stack.
    const fn script(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Libraries => ("libraries.mjs", &[]),
            Self::RelayerV2 => ("relayer-sdk.mjs", &["2"]),
            Self::RelayerV1 => ("relayer-sdk.mjs", &["1"]),
            Self::Fhevm => ("fhevm-sdk.mjs", &[]),
            Self::Zama => ("zama-sdk.mjs", &[]),
        }
    }
}

/// Runs one SDK, or [`Sdk::ALL`], against a stack that is started for it.
///
/// # Errors
/// If npm is missing, the packages cannot be installed, the stack does not build or start, or an SDK does not get what it should.
pub(crate) fn run(sdk: Option<Sdk>, binary: Option<PathBuf>) -> Result<()> {
    let folder = root().join("e2e/sdk");
    install_packages(&folder)?;
    let node = node(&folder)?;
    let binary = binary.map_or_else(build, Ok)?;
    let directory = tempfile::tempdir().context("cannot make a temporary folder")?;
    println!("starting {} with fresh keys", binary.display());
    let stack = RunningStack::start(&binary, directory.path())?;
    let chosen = sdk.as_ref().map_or(Sdk::ALL.as_slice(), std::slice::from_ref);
    for sdk in chosen {
        let (script, more) = sdk.script();
        let mut command = program(&node, &[]);
        command.arg(folder.join(script)).arg(&stack.summary).args(more);
        execute(command).with_context(|| format!("{sdk:?} does not work with this stack"))?;
    }
    stack.stop()
}

/// Returns a Node.js that is new enough: the one on the path, or the one among the packages.
///
/// # Errors
/// If there is none.
pub(crate) fn node(folder: &Path) -> Result<PathBuf> {
    let bundled = ["x64", "arm64"].map(|machine| folder.join(format!("node_modules/node-linux-{machine}/bin/node")));
    for candidate in std::iter::once(PathBuf::from("node")).chain(bundled) {
        let version = Command::new(&candidate).arg("--version").output();
        if version.is_ok_and(|output| major(&String::from_utf8_lossy(&output.stdout)).is_some_and(|major| major >= OLDEST_NODE)) {
            return Ok(candidate);
        }
    }
    bail!("the SDKs need Node.js {OLDEST_NODE} or later; there is none on the path, nor a packaged one for this machine")
}

fn major(version: &str) -> Option<u32> {
    version.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

/// Builds the binary and returns where it is.
///
/// # Errors
/// If it does not build.
pub(crate) fn build() -> Result<PathBuf> {
    build_executable(&["--package", "cipherloom"], "cipherloom")
}

/// A `cipherloom dev` of its own; killed if it is dropped before it was stopped.
pub(crate) struct RunningStack {
    process: Child,
    /// A file with what the stack has printed at its start.
    summary: PathBuf,
}

impl RunningStack {
    /// Starts a stack on real TFHE with fresh keys in this directory, and waits until it runs.
    ///
    /// # Errors
    /// If it does not start.
    pub(crate) fn start(binary: &Path, directory: &Path) -> Result<Self> {
        let data = directory.join("data");
        let mut process = Command::new(binary)
            .args(["dev", "--json", "--rpc-port", "0", "--gateway-port", "0", "--data-dir"])
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let output = process.stdout.take().context("the stack has no output")?;
        let stack = Self {
            process,
            summary: directory.join("dev.json"),
        };
        let mut line = String::new();
        BufReader::new(output)
            .read_line(&mut line)
            .context("cannot read what the stack prints")?;
        let summary: Value = serde_json::from_str(&line).context("the stack ended before it ran; its errors are above")?;
        ensure!(
            summary.get("backend").is_some_and(|backend| backend == "cpu"),
            "the stack does not compute on real ciphertexts: {summary}"
        );
        std::fs::write(&stack.summary, line)?;
        Ok(stack)
    }

    /// Returns the file with what the stack has printed at its start.
    pub(crate) fn summary(&self) -> &Path {
        &self.summary
    }

    /// Asks the stack to stop as Ctrl-C does, and fails if it does not stop well.
    ///
    /// # Errors
    /// If it does not.
    pub(crate) fn stop(mut self) -> Result<()> {
        let asked = Command::new("kill").args(["-INT", &self.process.id().to_string()]).status()?;
        ensure!(asked.success(), "the stack has ended before it was asked to");
        let status = self.process.wait()?;
        ensure!(status.success(), "the stack did not stop well: {status}");
        Ok(())
    }
}

impl Drop for RunningStack {
    fn drop(&mut self) {
        // After `stop` both fail, and then there is nothing left to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_says_its_release() {
        assert_eq!(major("v22.23.3\n"), Some(22));
        assert_eq!(major("not found"), None);
    }
}
