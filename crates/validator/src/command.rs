//! The commands of `cipherloom node`.

use std::ffi::OsString;

use anyhow::Result;
use cipherloom_service::{
    config_file::{ConfigFile, Schema},
    log::LogOptions,
    report::{Report, Unwell},
    runtime,
    settings::Settings,
};
use cipherloom_telemetry::{Service, Telemetry};
use clap::{ArgMatches, Command, CommandFactory, Parser, Subcommand};

use crate::{
    genesis_command::{self, GenesisOptions},
    init::{self, InitOptions},
    look,
    options::RunOptions,
    process,
    status::{self, StatusOptions},
};

const RUN_HELP: &str = "\
Run a node: a validator if its key is in the chain's set of validators, else a full node.

A validator executes blocks, computes their ciphertexts, and votes for a block only if it gets the same bytes itself. It computes in this process \
(--embedded-executor) or asks executors (--executor-url); its own ones, because what they answer is what it votes for. A full node takes the ciphertexts of decided \
blocks from its peers, checks them against what the validators signed, and serves JSON-RPC to gateways, the KMS and dApps.

  cipherloom node init /var/lib/cipherloom/node --genesis genesis.json
  cipherloom node run --dir /var/lib/cipherloom/node --embedded-executor --peer 0x…@validator-1.example:30333

Every option can stand in a file instead, under its name: see --config and deploy/validator.toml. SIGTERM and Ctrl-C end it gracefully. docs/validator.md tells how \
chains are set up and kept running.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Make the genesis file of a new chain, and directories for its first nodes.
    #[command(long_about = genesis_command::HELP)]
    Genesis(Box<GenesisOptions>),
    /// Make the directory of a node: a key, a config file, and the genesis file if the chain has begun.
    #[command(long_about = init::HELP)]
    Init(InitOptions),
    /// Run a node: a validator if its key is in the chain's set of validators, else a full node.
    #[command(long_about = RUN_HELP)]
    Run(Box<RunOptions>),
    /// Say how a running node is.
    #[command(long_about = status::HELP)]
    Status(StatusOptions),
}

/// The options of `node run` as a command of their own, which describes the config file.
#[derive(Parser)]
#[command(name = "run", max_term_width = 110, long_about = RUN_HELP)]
struct RunArguments {
    #[command(flatten)]
    options: Box<RunOptions>,
    #[command(flatten)]
    log: LogOptions,
}

/// Describes the config file of a node.
#[must_use]
pub fn run_schema() -> Schema {
    Schema::flat(run_command())
}

/// Describes the options of `node run`.
#[must_use]
pub fn run_command() -> Command {
    RunArguments::command()
}

impl RunOptions {
    /// Reads options from a command line without the command's name, with the config file that it or the node's directory names.
    ///
    /// # Errors
    /// If the line or the file cannot be used.
    pub fn of_line(line: &[&str]) -> Result<Self> {
        let line: Vec<OsString> = std::iter::once("run").chain(line.iter().copied()).map(OsString::from).collect();
        let read = |command: Command| -> Result<(ArgMatches, RunArguments)> {
            let matches = command.try_get_matches_from(&line)?;
            let arguments = <RunArguments as clap::FromArgMatches>::from_arg_matches(&matches)?;
            Ok((matches, arguments))
        };
        let schema = run_schema();
        let (_, first) = read(run_command())?;
        let file = first
            .options
            .config_file()
            .map(|path| ConfigFile::read(&path, &schema))
            .transpose()?;
        let (matches, mut arguments) = read(file.clone().unwrap_or_default().apply(run_command(), &[]))?;
        arguments.options.settings = Settings::new(&schema.command, &matches, file.as_ref());
        Ok(*arguments.options)
    }
}

/// Starts to log, and to send traces if the environment says where to.
///
/// # Errors
/// As [`LogOptions::start`].
pub fn start_logging(command: &NodeCommand, log: LogOptions) -> Result<Telemetry> {
    match command {
        NodeCommand::Run(options) => log.of_service().start(Some(Service {
            name: &options.service_name,
            version: env!("CARGO_PKG_VERSION"),
        })),
        _ => log.start(None),
    }
}

/// Does what the command says.
///
/// # Errors
/// If the options do not go together, or what they name cannot be used.
pub fn run(command: &NodeCommand) -> Result<()> {
    match command {
        NodeCommand::Genesis(options) => genesis_command::run(options),
        NodeCommand::Init(options) => init::run(options),
        NodeCommand::Status(options) => runtime::run(1, status::run(options)),
        NodeCommand::Run(options) if options.process.print_config => {
            print!("{}", options.settings.to_toml());
            Ok(())
        }
        NodeCommand::Run(options) => {
            options.check_together()?;
            runtime::run(options.process.tokio_threads, async {
                match options.process.check {
                    true => examine(options).await,
                    false => Box::pin(process::run(options)).await,
                }
            })
        }
    }
}

/// Looks at everything that the node needs, and prints what was found.
async fn examine(options: &RunOptions) -> Result<()> {
    let mut report = Report::default();
    report.append(Box::pin(look::look(options, &mut look::Read::default())).await.0.report);
    match report.print(options.process.json)? {
        0 => Ok(()),
        exit_code => Err(Unwell { exit_code }.into()),
    }
}
