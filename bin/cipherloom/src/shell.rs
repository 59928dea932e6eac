//! Completion scripts and manual pages of both binaries, made from the command lines' own descriptions.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use clap::CommandFactory;

use crate::{
    cli::{Arguments, Binary},
    coprocessor::line::CoprocessorArguments,
};

/// Prints the completion script of a binary for a shell.
pub(crate) fn completions(shell: clap_complete::Shell, binary: Binary) -> Result<()> {
    let (mut command, name) = match binary {
        Binary::Cipherloom => (Arguments::command(), "cipherloom"),
        Binary::Coprocessor => (CoprocessorArguments::command(), "coprocessor"),
    };
    clap_complete::generate(shell, &mut command, name, &mut std::io::stdout());
    Ok(())
}

/// Writes `cipherloom.1`, `cipherloom-demo.1` and so on, and `coprocessor.1`.
pub(crate) fn manual(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    for command in [Arguments::command(), CoprocessorArguments::command()] {
        clap_mangen::generate_to(command, directory).with_context(|| format!("cannot write manual pages into {}", directory.display()))?;
    }
    println!(
        "manual pages written to {}; read one with `man -l {}/cipherloom.1`",
        directory.display(),
        directory.display()
    );
    Ok(())
}
