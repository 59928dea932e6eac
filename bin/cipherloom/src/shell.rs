//! Completion scripts and manual pages, made from the command line's own description.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use clap::CommandFactory;

use crate::cli::Arguments;

/// Prints the completion script for a shell.
pub(crate) fn completions(shell: clap_complete::Shell) -> Result<()> {
    clap_complete::generate(shell, &mut Arguments::command(), "cipherloom", &mut std::io::stdout());
    Ok(())
}

/// Writes `cipherloom.1`, `cipherloom-demo.1` and so on.
pub(crate) fn manual(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    clap_mangen::generate_to(Arguments::command(), directory)
        .with_context(|| format!("cannot write manual pages into {}", directory.display()))?;
    println!(
        "manual pages written to {}; read one with `man -l {}/cipherloom.1`",
        directory.display(),
        directory.display()
    );
    Ok(())
}
