//! The command line of `coprocessor`, with the config file it names.

use std::ffi::OsString;

use anyhow::Result;
use cipherloom_service::{
    config_file::Schema,
    line::{self, finish},
    log::LogOptions,
    settings::Settings,
};
use clap::{CommandFactory, FromArgMatches, Parser};

use super::options::CoprocessorOptions;

/// Serves the chains of a deployment; `cipherloom coprocessor` under the name and with the options of the 0.6 generation.
#[derive(Debug, Parser)]
#[command(name = "coprocessor", version, max_term_width = 110, long_about = super::HELP)]
pub(crate) struct CoprocessorArguments {
    #[command(flatten)]
    pub(crate) options: Box<CoprocessorOptions>,

    #[command(flatten, next_help_heading = "Options of ours")]
    pub(crate) log: LogOptions,
}

/// Describes the options and the file of `cipherloom coprocessor`.
pub(crate) fn schema() -> Schema {
    Schema::flat(CoprocessorArguments::command())
}

/// Reads the command line of the binary `coprocessor`. Usage errors, `--help` and `--version` end the process.
///
/// # Errors
/// If the config file cannot be used.
pub(crate) fn coprocessor(line: &[OsString]) -> Result<CoprocessorArguments> {
    let root = CoprocessorArguments::command;
    let mut arguments = finish(CoprocessorArguments::from_arg_matches(&root().get_matches_from(line)), root());
    let file = line::read(arguments.options.config.as_deref(), &schema())?;
    let command = file.clone().unwrap_or_default().apply(root(), &[]);
    let matches = command.get_matches_from(line);
    arguments = finish(CoprocessorArguments::from_arg_matches(&matches), root());
    arguments.options.settings = Settings::new(&root(), &matches, file.as_ref());
    Ok(arguments)
}
