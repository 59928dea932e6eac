//! A `cipherloom dev` of its own, for what is run against it.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// A running stack; killed if it is dropped before it was stopped.
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
        Self::start_with(binary, directory, &[])
    }

    /// As [`Self::start`], with more options for `cipherloom dev`.
    ///
    /// # Errors
    /// If it does not start.
    pub(crate) fn start_with(binary: &Path, directory: &Path, options: &[&str]) -> Result<Self> {
        let data = directory.join("data");
        let mut process = Command::new(binary)
            .args(["dev", "--json", "--rpc-port", "0", "--gateway-port", "0", "--data-dir"])
            .arg(&data)
            .args(options)
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
