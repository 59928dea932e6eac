//! `cipherloom bench`: what computations take on this machine, each next to what it is compared with, measured in the same run.
//!
//! Times are CPU time of the process, so that a busy machine distorts them little, and ratios distort less still. Everything that is computed is also
//! decrypted and compared. `docs/benchmark.md` says how to read the numbers. `bench gas` counts gas and no time; `docs/gas.md` has the result.

mod answers;
mod clock;
mod committee;
mod coprocessor;
mod decrypt;
mod decryptable;
mod direct;
mod engine;
mod executor;
mod gas;
mod gateway;
mod ground;
mod input;
mod latency;
mod measurement;
mod op;
mod options;
mod rate;
mod report;
mod scenario;
mod worker;
mod workload;

use anyhow::Result;

pub(crate) use self::options::BenchCommand;

/// Runs one of the benchmarks.
///
/// # Errors
/// If anything fails, or a result is wrong.
pub(crate) fn run(command: &BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Engine(options) => engine::run(options),
        BenchCommand::Worker(options) => worker::run(options),
        BenchCommand::Executor(options) => executor::run(options),
        BenchCommand::Coprocessor(options) => coprocessor::run(options),
        BenchCommand::Op(options) => op::run(options),
        BenchCommand::Input(options) => input::run(options),
        BenchCommand::Decrypt(options) => decrypt::run(options),
        BenchCommand::Gateway(options) => gateway::run(options),
        BenchCommand::Committee(options) => committee::run(options),
        BenchCommand::CommitteeNode(options) => committee::run_node(options),
        BenchCommand::Gas(options) => gas::run(options),
    }
}
