//! Command lines with config files.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use clap::Command;

use crate::{
    config_file::{ConfigFile, Schema},
    report::Unwell,
};

/// Reads the config file, if one is named.
///
/// # Errors
/// As [`ConfigFile::read`].
pub fn read(config: Option<&Path>, schema: &Schema) -> Result<Option<ConfigFile>> {
    config.map(|path| ConfigFile::read(path, schema)).transpose()
}

/// Ends the process with a usage error, as clap does when it parses by itself.
pub fn finish<T>(parsed: Result<T, clap::Error>, mut command: Command) -> T {
    parsed.unwrap_or_else(|error| error.format(&mut command).exit())
}

/// Says why a command failed, and turns its result into the process's.
pub fn exit_code(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(unwell) = error.downcast_ref::<Unwell>() {
                return ExitCode::from(unwell.exit_code);
            }
            // The whole chain of causes in one line each: what was attempted, then why it failed.
            eprintln!("error: {error}");
            error.chain().skip(1).for_each(|cause| eprintln!("  because: {cause}"));
            ExitCode::FAILURE
        }
    }
}
