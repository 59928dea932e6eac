//! The table of bootstraps in `docs/engine.md`: what `cipherloom operations --bootstraps` prints.
//!
//! The counts come from the engine, which this program is not built with; so it runs the binary.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::command::{cargo, root};

const NAME: &str = "docs/engine.md";
const BEGIN: &str = "<!-- What `cipherloom operations --bootstraps` prints, by `cargo xtask gen`. -->\n";
const END: &str = "<!-- End of what is printed. -->\n";

/// Gives the document with the table as it is now.
///
/// # Errors
/// If the binary cannot be built or run, or the document does not say where the table is.
pub(super) fn output() -> Result<(&'static str, String)> {
    let document = fs::read_to_string(root().join(NAME)).with_context(|| format!("reading {NAME}"))?;
    let (before, rest) = document
        .split_once(BEGIN)
        .with_context(|| format!("{NAME} does not say where the table begins"))?;
    let (_, after) = rest
        .split_once(END)
        .with_context(|| format!("{NAME} does not say where the table ends"))?;
    Ok((NAME, format!("{before}{BEGIN}{}{END}{after}", printed()?)))
}

fn printed() -> Result<String> {
    let mut command = cargo(&["run", "--quiet", "--release", "--locked", "--package", "cipherloom", "--"]);
    let output = command
        .args(["operations", "--bootstraps"])
        .output()
        .context("running `cipherloom operations --bootstraps`")?;
    ensure!(
        output.status.success(),
        "`cipherloom operations --bootstraps` failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).context("what `cipherloom operations --bootstraps` prints is no text")
}
