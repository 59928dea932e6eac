//! The command line of `cipherloom`, with the config files that some commands name.

use std::{ffi::OsString, path::Path};

use anyhow::{Result, bail};
use cipherloom_kms_node as kms;
use cipherloom_service::{
    config_file::Schema,
    line::{finish, read},
    settings::Settings,
};
use clap::{ArgMatches, CommandFactory, FromArgMatches};

use crate::{
    cli::{self, Arguments},
    coprocessor, gateway,
    kms_command::KmsCommand,
    node_command::NodeCommand,
};

/// Reads the command line of the binary `cipherloom`. Usage errors, `--help` and `--version` end the process.
///
/// # Errors
/// If the config file of a command cannot be used.
pub(crate) fn cipherloom(line: &[OsString]) -> Result<Arguments> {
    let root = Arguments::command;
    let arguments = finish(Arguments::from_arg_matches(&root().get_matches_from(line)), root());
    let (path, config, schema): (&[&str], _, _) = match &arguments.command {
        cli::Command::Coprocessor(options) => (&["coprocessor"], &options.config, coprocessor::line::schema()),
        // It looks at what these options would use.
        cli::Command::Doctor(options) => (&["doctor"], &options.coprocessor.config, coprocessor::line::schema()),
        cli::Command::Gateway(options) => (&["gateway"], &options.config, gateway::schema()),
        cli::Command::Kms(KmsCommand::Process(kms::KmsCommand::Node(options))) => (&["kms", "node"], &options.config, kms::schema()),
        // A node's directory has a config file, too.
        cli::Command::Node(NodeCommand::Run(options)) => {
            let config = options.config_file();
            return with_file(line, &["node", "run"], config.as_deref(), &cipherloom_validator::run_schema());
        }
        _ => return Ok(arguments),
    };
    with_file(line, path, config.as_deref(), &schema)
}

/// Reads the command line again, now with what the config file has as defaults.
fn with_file(line: &[OsString], path: &[&str], config: Option<&Path>, schema: &Schema) -> Result<Arguments> {
    let root = Arguments::command;
    let file = read(config, schema)?;
    let matches = file.clone().unwrap_or_default().apply(root(), path).get_matches_from(line);
    let mut arguments = finish(Arguments::from_arg_matches(&matches), root());
    let Some(matches) = inner(&matches, path) else {
        return Ok(arguments);
    };
    let settings = || Settings::new(&schema.command, matches, file.as_ref());
    match &mut arguments.command {
        cli::Command::Coprocessor(options) => options.settings = settings(),
        cli::Command::Node(NodeCommand::Run(options)) => options.settings = settings(),
        cli::Command::Gateway(options) => {
            options.settings = settings();
            options.take_tables(file.as_ref())?;
        }
        cli::Command::Kms(KmsCommand::Process(kms::KmsCommand::Node(options))) => {
            options.settings = settings();
            options.take_tables(file.as_ref())?;
        }
        _ => {}
    }
    Ok(arguments)
}

/// Reads the options of a gateway with this config file.
///
/// # Errors
/// If the file cannot be used.
pub(crate) fn gateway_of_file(path: &Path) -> Result<Box<gateway::GatewayOptions>> {
    match of_file(&["gateway"], path)? {
        cli::Command::Gateway(options) => Ok(options),
        _ => bail!("the command line of a gateway was read as another one"),
    }
}

/// Reads the options of a KMS node with this config file.
///
/// # Errors
/// If the file cannot be used.
pub(crate) fn kms_node_of_file(path: &Path) -> Result<Box<kms::NodeOptions>> {
    match of_file(&["kms", "node"], path)? {
        cli::Command::Kms(KmsCommand::Process(kms::KmsCommand::Node(options))) => Ok(options),
        _ => bail!("the command line of a KMS node was read as another one"),
    }
}

fn of_file(command: &[&str], path: &Path) -> Result<cli::Command> {
    let mut line: Vec<OsString> = vec!["cipherloom".into()];
    line.extend(command.iter().map(OsString::from));
    line.extend(["--config".into(), path.into()]);
    Ok(cipherloom(&line)?.command)
}

/// Finds what a subcommand was given.
fn inner<'matches>(matches: &'matches ArgMatches, path: &[&str]) -> Option<&'matches ArgMatches> {
    path.iter().try_fold(matches, |matches, name| matches.subcommand_matches(name))
}
