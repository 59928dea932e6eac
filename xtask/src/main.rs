//! `cargo xtask`: every command of the project, in Rust. CI calls only these, so what passes here passes there.
#![expect(clippy::print_stdout, reason = "a command-line tool prints its results")]

mod anvil;
mod bars;
mod browser;
mod command;
mod contracts;
mod dev_stack;
mod e2e_chain;
mod e2e_coprocessor;
mod e2e_examples;
mod e2e_kms;
mod e2e_kms_wasm;
mod e2e_legacy;
mod e2e_native;
mod e2e_node_clients;
mod e2e_processes;
mod e2e_sdk;
mod e2e_web;
mod erc7984;
mod gas;
mod gates;
mod generate;
mod library_compat;
mod library_probe;
mod postgres;
mod published_library;
mod rule_statistics;
mod sdk_report;
mod tidy;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The commands of the project. Start with `cargo xtask test`.
#[derive(Parser)]
#[command(name = "cargo xtask", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every test: unit, integration and documentation tests, the demo included. Installs what is missing: PostgreSQL, if this is Debian
    /// and root; anvil and the Solidity compiler, with npm, into the repository.
    Test {
        /// Only the tests of these packages (given without `cipherloom-`).
        #[arg(short, long)]
        package: Vec<String>,
    },
    /// Check formatting, lints, documentation, layers, generated files and licences.
    Check,
    /// Check what compilers do not: crate layers, house rules, paths in documents.
    Tidy,
    /// Check the licences and sources of all dependencies (installs cargo-deny if it is missing).
    Licences,
    /// Regenerate everything that comes from the operation table.
    Gen {
        /// Fail if a committed file differs instead of writing it.
        #[arg(long)]
        check: bool,
    },
    /// Compile the Solidity sources with the pinned compiler from npm and write the artifacts.
    Contracts {
        /// Fail if a committed artifact differs instead of writing it.
        #[arg(long)]
        check: bool,
    },
    /// Install anvil, a development chain that tests attach to, with npm into the repository, and print where it is.
    Anvil,
    /// Check that the Solidity library has everything that the published one from npm has.
    LibraryCompat,
    /// Compile contracts that call every function of the Solidity library, with ours and with the published one.
    LibraryProbe {
        /// The folder to write the artifacts into.
        #[arg(long)]
        out: PathBuf,
    },
    /// Compile the examples with the published Solidity library from npm, changing their imports and nothing else.
    ExamplesNpm {
        /// The folder to write the artifacts into, in a folder of the example's name.
        #[arg(long)]
        out: PathBuf,
        /// The release of the published library.
        #[arg(long, value_enum, default_value_t)]
        release: published_library::Release,
    },
    /// Compile OpenZeppelin's confidential contracts from npm, unmodified.
    Erc7984 {
        /// The folder to write the artifacts into.
        #[arg(long)]
        out: PathBuf,
        /// The Solidity library that they get.
        #[arg(long, value_enum)]
        library: erc7984::Library,
    },
    /// Measure what confidential transactions cost on chain, on our host contracts and on the published ones from npm, and write the table into
    /// docs/gas.md.
    Gas {
        /// Fail if the committed table differs instead of writing it.
        #[arg(long)]
        check: bool,
        /// This binary instead of a newly built one.
        #[arg(long)]
        binary: Option<PathBuf>,
    },
    /// Print what each rewriting rule saves on the transactions of real contracts: the examples and the published ERC-7984 token.
    RuleStatistics {
        /// Print one JSON object instead of tables.
        #[arg(long)]
        json: bool,
        /// This binary instead of a newly built one.
        #[arg(long)]
        binary: Option<PathBuf>,
    },
    /// Run what is built here as a whole: published clients from npm, unmodified, against it, or the coprocessor backend at full scale.
    #[command(subcommand)]
    E2e(EndToEnd),
    /// Everything the merge gate runs: check, then test.
    Ci,
}

#[derive(Subcommand)]
enum EndToEnd {
    /// Run everything about chains at full scale: a stack on anvil, reorganisations, published clients of our own chain, dApps, and the contracts
    /// themselves; print a table of the bars.
    Chain {
        /// Leave out what runs on real TFHE and what takes long, to try it out.
        #[arg(long)]
        reduced: bool,
        /// This binary instead of a newly built one. Tests are built in any case.
        #[arg(long)]
        binary: Option<PathBuf>,
    },
    /// Run the coprocessor backend at full scale: crash tests on a private PostgreSQL, then the load test tool; print a table of the bars. Takes
    /// about half an hour on two cores.
    Coprocessor {
        /// Do a few minutes' worth, to try it out.
        #[arg(long)]
        reduced: bool,
        /// Measure this binary instead of a newly built one. Tests are built in any case.
        #[arg(long)]
        binary: Option<PathBuf>,
    },
    /// Run the example dApps and OpenZeppelin's confidential contracts on `cipherloom dev`, compiled with our Solidity library and with the published
    /// one, and check docs/gas.md.
    Examples {
        /// Leave out what runs on real TFHE.
        #[arg(long)]
        reduced: bool,
        /// This binary instead of a newly built one. Tests are built in any case.
        #[arg(long)]
        binary: Option<PathBuf>,
    },
    /// Run coprocessor, KMS and gateway as processes of their own on an anvil, and kill them while requests run.
    Processes {
        /// Compute on plaintext, which takes a minute.
        #[arg(long)]
        reduced: bool,
    },
    /// Run committees of KMS nodes at full scale: four processes on production parameters of which one is killed, stopped or lying, the published SDK with four
    /// signers on chain, recorded attestations, and the benchmark of threshold decryption; print a table of the bars. Takes about half an hour on two cores.
    Kms {
        /// Do a few minutes' worth on toy parameters, to try it out.
        #[arg(long)]
        reduced: bool,
        /// Measure this binary instead of a newly built one. Tests are built in any case.
        #[arg(long)]
        binary: Option<PathBuf>,
    },
    /// Open a user decryption answer with the WebAssembly client that SDKs bundle.
    KmsWasm,
    /// Carry a token of the 0.6 generation through `cipherloom dev --legacy-0.6`, on real TFHE, with the published fhevmjs and contracts.
    Legacy {
        /// This binary instead of a newly built one.
        #[arg(long)]
        binary: Option<PathBuf>,
    },
    /// Run a native chain at full scale: four validators and a full node as processes with one killed, parted and with an executor that goes away, nodes of
    /// which one lies, and the demo on production parameters; print a table of the bars. Takes about a quarter of an hour on two cores.
    Native {
        /// Run the demo on toy parameters, to try it out.
        #[arg(long)]
        reduced: bool,
        /// Run the demo with this binary instead of a newly built one. Tests are built in any case.
        #[arg(long)]
        binary: Option<PathBuf>,
    },
    /// Run ethers, viem, Foundry and Hardhat against the embedded node.
    NodeClients {
        /// Only this one [default: all].
        #[arg(value_enum)]
        client: Option<e2e_node_clients::Client>,
        /// Leave Hardhat out, whose packages are large.
        #[arg(long, conflicts_with = "client")]
        reduced: bool,
    },
    /// Carry encrypted values through `cipherloom dev`, on real TFHE, with the published SDKs, in Node.js and in a headless browser: encryption, use
    /// in transactions, decryption for everybody, for users and for delegates, and every refusal. Prints tables of what was done, how long each step
    /// took and how refusals look. Installs what is missing: npm's packages and, where there is apt-get and this is root, Chromium.
    Sdk {
        /// Only these parts [default: all].
        #[arg(value_enum)]
        parts: Vec<e2e_sdk::Part>,
        /// Print one JSON object instead of tables.
        #[arg(long)]
        json: bool,
        /// This binary instead of a newly built one.
        #[arg(long)]
        binary: Option<PathBuf>,
    },
    /// Use the example web page in a headless browser, on real TFHE, with threads and without. Installs what is missing: npm's packages and, where
    /// there is apt-get and this is root, Chromium.
    Web {
        /// This binary instead of a newly built one.
        #[arg(long)]
        binary: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Test { package } => gates::test(&package),
        Command::Check => gates::check(),
        Command::Tidy => tidy::run(),
        Command::Licences => gates::licences(),
        Command::Gen { check } => generate::run(check),
        Command::Contracts { check } => contracts::run(check),
        Command::Anvil => anvil::run(),
        Command::LibraryCompat => library_compat::run(),
        Command::LibraryProbe { out } => library_probe::run(&out),
        Command::ExamplesNpm { out, release } => published_library::run(&out, release),
        Command::Erc7984 { out, library } => erc7984::compile(&out, library),
        Command::Gas { check, binary } => gas::run(check, binary),
        Command::RuleStatistics { json, binary } => rule_statistics::run(json, binary),
        Command::E2e(EndToEnd::Chain { reduced, binary }) => e2e_chain::run(bars::Scale::reduced(reduced), binary),
        Command::E2e(EndToEnd::Coprocessor { reduced, binary }) => e2e_coprocessor::run(bars::Scale::reduced(reduced), binary),
        Command::E2e(EndToEnd::Examples { reduced, binary }) => e2e_examples::run(reduced, binary),
        Command::E2e(EndToEnd::Kms { reduced, binary }) => e2e_kms::run(bars::Scale::reduced(reduced), binary),
        Command::E2e(EndToEnd::KmsWasm) => e2e_kms_wasm::run(),
        Command::E2e(EndToEnd::Legacy { binary }) => e2e_legacy::run(binary),
        Command::E2e(EndToEnd::Native { reduced, binary }) => e2e_native::run(bars::Scale::reduced(reduced), binary),
        Command::E2e(EndToEnd::NodeClients { client, reduced }) => {
            client.map_or_else(|| e2e_node_clients::node_clients(reduced), e2e_node_clients::run)
        }
        Command::E2e(EndToEnd::Processes { reduced }) => e2e_processes::run(bars::Scale::reduced(reduced)),
        Command::E2e(EndToEnd::Sdk { parts, json, binary }) => e2e_sdk::run(&parts, json, binary),
        Command::E2e(EndToEnd::Web { binary }) => e2e_web::run(binary),
        Command::Ci => gates::check().and_then(|()| gates::test(&[])),
    }
}
