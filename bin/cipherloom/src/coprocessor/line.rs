//! The command line of `coprocessor`, with the config file it names.

use std::ffi::OsString;

use anyhow::Result;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches, Parser};

use super::{config_file::ConfigFile, options::CoprocessorOptions, settings::Settings};
use crate::cli::{self, Arguments, LogOptions};

/// Serves the chains of a deployment; `cipherloom coprocessor` under the name and with the options of the 0.6 generation.
#[derive(Debug, Parser)]
#[command(name = "coprocessor", version, max_term_width = 110, long_about = super::HELP)]
pub(crate) struct CoprocessorArguments {
    #[command(flatten)]
    pub(crate) options: Box<CoprocessorOptions>,

    #[command(flatten, next_help_heading = "Options of ours")]
    pub(crate) log: LogOptions,
}

/// Reads the command line of the binary `coprocessor`. Usage errors, `--help` and `--version` end the process.
///
/// # Errors
/// If the config file cannot be used.
pub(crate) fn coprocessor(line: &[OsString]) -> Result<CoprocessorArguments> {
    let root = CoprocessorArguments::command;
    let mut arguments = finish(CoprocessorArguments::from_arg_matches(&root().get_matches_from(line)), root());
    let file = read(&arguments.options)?;
    let command = file.clone().unwrap_or_default().apply(root(), None);
    let matches = command.get_matches_from(line);
    arguments = finish(CoprocessorArguments::from_arg_matches(&matches), root());
    arguments.options.settings = settings(&matches, file.as_ref());
    Ok(arguments)
}

/// Reads the command line of the binary `cipherloom`. Usage errors, `--help` and `--version` end the process.
///
/// # Errors
/// If the config file of `cipherloom coprocessor` cannot be used.
pub(crate) fn cipherloom(line: &[OsString]) -> Result<Arguments> {
    let root = Arguments::command;
    let mut arguments = finish(Arguments::from_arg_matches(&root().get_matches_from(line)), root());
    let (name, options) = match &arguments.command {
        cli::Command::Coprocessor(options) => ("coprocessor", options),
        // It looks at what these options would use.
        cli::Command::Doctor(options) => ("doctor", &options.coprocessor),
        _ => return Ok(arguments),
    };
    let file = read(options)?;
    let command = file.clone().unwrap_or_default().apply(root(), Some(name));
    let matches = command.get_matches_from(line);
    arguments = finish(Arguments::from_arg_matches(&matches), root());
    if let (cli::Command::Coprocessor(options), Some(("coprocessor", matches))) = (&mut arguments.command, matches.subcommand()) {
        options.settings = settings(matches, file.as_ref());
    }
    Ok(arguments)
}

fn read(options: &CoprocessorOptions) -> Result<Option<ConfigFile>> {
    options
        .config
        .as_deref()
        .map(|path| ConfigFile::read(path, &CoprocessorArguments::command()))
        .transpose()
}

fn settings(matches: &ArgMatches, file: Option<&ConfigFile>) -> Settings {
    Settings::new(&CoprocessorArguments::command(), matches, file)
}

/// Ends the process with a usage error, as clap does when it parses by itself.
fn finish<T>(parsed: Result<T, clap::Error>, mut command: Command) -> T {
    parsed.unwrap_or_else(|error| error.format(&mut command).exit())
}
