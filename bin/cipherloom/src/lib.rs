//! The command lines of Cipherloom: `cipherloom`, one binary for every role, and `coprocessor`, one of them under the name that the 0.6
//! generation's scripts call.
//!
//! This file reads the command line and hands over; each command is a module of its own. Both binaries are this library and a line each, so
//! that everything is compiled once.
#![expect(clippy::print_stdout, reason = "a command-line tool prints its results")]

mod bench;
mod callbacks;
mod ciphertext;
mod cli;
mod committee;
mod committee_admin;
mod committee_audit;
mod computations;
#[cfg(test)]
mod config_files;
mod contracts;
mod coprocessor;
mod dapp_transactions;
mod data_dir;
mod database;
mod db;
mod dealt_keys;
mod demo;
#[cfg(test)]
mod deployed;
mod dev;
mod doctor;
mod executor;
mod gateway;
mod graph;
mod keys;
mod kms_command;
mod legacy;
mod line;
mod narrator;
mod native;
mod node_command;
mod operations;
mod progress;
mod remote;
mod sdk_config;
mod shell;
mod squashed;
mod stack;
mod symbolic_chain;
mod tenant;
mod token;
mod wiring;

use std::{ffi::OsString, process::ExitCode};

use cipherloom_kms_node as kms;
use cipherloom_service::line::exit_code;

use crate::{
    cli::{Arguments, Command},
    kms_command::KmsCommand,
};

/// Runs the binary `cipherloom`: reads the command line and does what it says.
#[must_use]
pub fn cipherloom() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    exit_code(line::cipherloom(&line).and_then(run))
}

/// Runs the binary `coprocessor`: `cipherloom coprocessor` with the options of the 0.6 generation at the top.
#[must_use]
pub fn coprocessor() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    exit_code(coprocessor::line::coprocessor(&line).and_then(|arguments| {
        let telemetry = coprocessor::start_logging(&arguments.options, arguments.log)?;
        let result = coprocessor::run(&arguments.options);
        telemetry.finish();
        result
    }))
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { log, command } = arguments;
    let telemetry = match &command {
        Command::Coprocessor(options) => coprocessor::start_logging(options, log)?,
        Command::Gateway(options) => gateway::start_logging(options, log)?,
        Command::Kms(KmsCommand::Process(command)) => kms::start_logging(command, log)?,
        Command::Node(command) => cipherloom_validator::start_logging(command, log)?,
        _ => log.start(None)?,
    };
    let result = run_command(command);
    telemetry.finish();
    result
}

fn run_command(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Demo(options) => in_runtime(demo::run(options)),
        Command::Dev(options) => in_runtime(dev::run(options)),
        Command::SdkConfig(options) => in_runtime(async move { sdk_config::run(&options).await }),
        Command::Executor(options) => executor::run(&options),
        Command::Coprocessor(options) => coprocessor::run(&options),
        Command::Gateway(options) => gateway::run(&options),
        Command::Kms(KmsCommand::Process(command)) => kms::run(&command),
        Command::Kms(KmsCommand::Admin(command)) => in_runtime(committee_admin::run(command)),
        Command::Kms(KmsCommand::Audit(command)) => in_runtime(async move { committee_audit::run(&command).await }),
        Command::Node(command) => cipherloom_validator::run(&command),
        Command::Keys(command) => keys::run(command),
        Command::Ciphertext(command) => in_runtime(ciphertext::run(command)),
        Command::Db(command) => in_runtime(db::run(command)),
        Command::Tenant(command) => in_runtime(tenant::run(command)),
        Command::Contracts(command) => in_runtime(contracts::run(command)),
        Command::Callbacks(command) => in_runtime(callbacks::run(command)),
        Command::Computations(command) => in_runtime(computations::run(command)),
        Command::Doctor(options) => in_runtime(doctor::run(&options)),
        Command::Graph(command) => in_runtime(graph::run(command)),
        Command::Bench(command) => bench::run(&command),
        Command::Operations(options) => operations::run(&options),
        Command::Completions { shell, binary } => shell::completions(shell, binary),
        Command::Man { directory } => shell::manual(&directory),
    }
}

/// Runs an async command to its end. Encrypted computation has threads of its own, so that a few are enough here.
fn in_runtime(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()?
        .block_on(command)
}
