//! The command line: what can be asked for, with help that teaches.

use std::path::PathBuf;

use cipherloom_engine::{Policy, Profile};
use cipherloom_fhe::{BackendKind, ParameterSet};
use cipherloom_service::log::LogOptions;
use cipherloom_threshold::CommitteeSize;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// An FHE coprocessor for EVM chains: contracts compute on encrypted values, real TFHE runs off chain.
///
/// Try `cipherloom demo` first: it runs the whole stack in one process and carries an encrypted token transfer through it.
/// Then `cipherloom dev` gives you the same stack to build on.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) log: LogOptions,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Carry an encrypted token transfer through the whole stack, and check every value.
    #[command(long_about = DEMO_HELP)]
    Demo(DemoOptions),
    /// Run the whole stack until Ctrl-C: chain, coprocessor, KMS and gateway.
    #[command(long_about = DEV_HELP)]
    Dev(DevOptions),
    /// Print the configuration of a client SDK for a running stack, ready to be pasted.
    #[command(long_about = crate::sdk_config::HELP)]
    SdkConfig(crate::sdk_config::SdkConfigOptions),
    /// Serve native mode's executor: nodes send the encrypted operations of a block, and get the ciphertexts.
    #[command(long_about = crate::executor::HELP)]
    Executor(crate::executor::ExecutorOptions),
    /// Serve the chains of a deployment: a gRPC API for their nodes, workers that compute, and metrics.
    #[command(long_about = crate::coprocessor::HELP)]
    Coprocessor(Box<crate::coprocessor::CoprocessorOptions>),
    /// Serve the HTTP interface that client SDKs talk to, for the chains of a deployment.
    #[command(long_about = crate::gateway::HELP)]
    Gateway(Box<crate::gateway::GatewayOptions>),
    /// Run the key-management system as processes of its own, and check it from outside.
    #[command(subcommand)]
    Kms(crate::kms_command::KmsCommand),
    /// Found a native chain, whose validators compute on ciphertexts inside the block, and run its nodes.
    #[command(subcommand, long_about = crate::node_command::HELP)]
    Node(crate::node_command::NodeCommand),
    /// Precompute, deploy, verify, upgrade and administer the host contracts of a chain.
    #[command(subcommand, visible_alias = "contract", long_about = crate::contracts::HELP)]
    Contracts(crate::contracts::ContractsCommand),
    /// Generate, inspect, verify and copy key sets, and make signing keys.
    #[command(subcommand)]
    Keys(crate::keys::KeysCommand),
    /// Fetch ciphertexts by their handle, check who vouches for them, and publish them.
    #[command(subcommand, visible_alias = "ciphertexts", long_about = crate::ciphertext::HELP)]
    Ciphertext(crate::ciphertext::CiphertextCommand),
    /// Bring the schema of a shared database up to date, or look at it.
    #[command(subcommand)]
    Db(crate::db::DbCommand),
    /// Add, list and change tenants: whom a deployment works for, and under which keys.
    #[command(subcommand, visible_alias = "tenants")]
    Tenant(crate::tenant::TenantCommand),
    /// See which decryptions contracts asked for, what became of them, and try again what failed.
    #[command(subcommand, visible_alias = "callback", long_about = crate::callbacks::HELP)]
    Callbacks(crate::callbacks::CallbacksCommand),
    /// See what is to be computed, what became of it, and try again what failed.
    #[command(subcommand)]
    Computations(crate::computations::ComputationsCommand),
    /// Check a deployment of the coprocessor and say what to do about each finding.
    #[command(long_about = crate::doctor::HELP)]
    Doctor(crate::doctor::DoctorOptions),
    /// See what a transaction asks to compute, and what the engine makes of it.
    #[command(subcommand)]
    Graph(crate::graph::GraphCommand),
    /// Measure what computations take on this machine, each next to tfhe-rs in the same run.
    #[command(subcommand, long_about = BENCH_HELP)]
    Bench(crate::bench::BenchCommand),
    /// Print the table of encrypted operations: types, scalar rules, costs.
    Operations(OperationsOptions),
    /// Print a completion script for a shell, for example `cipherloom completions bash`.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
        /// For which of the two binaries.
        #[arg(long, value_enum, default_value_t)]
        binary: Binary,
    },
    /// Write manual pages, one per command, into a directory.
    Man {
        /// The directory; it is created if it is missing.
        directory: PathBuf,
    },
}

/// The binaries there are.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Binary {
    /// This one, with a command for everything.
    #[default]
    Cipherloom,
    /// `cipherloom coprocessor` under the name and with the options of the 0.6 generation.
    Coprocessor,
}

const DEMO_HELP: &str = "\
Carry an encrypted token transfer through the whole stack, and check every value.

Starts chain, coprocessor, KMS and gateway in this process on free ports, deploys the host contracts and a confidential token, mints, encrypts a transfer \
amount with a zero-knowledge proof, transfers, lets the receiver decrypt her balance, makes the total supply public and verifies it on chain. \
Exits 0 only if every value is right.

The first run generates keys, which takes some ten seconds to a minute; they are kept in the data directory, and later runs start in seconds.

With --native the chain has validators that compute inside the block, and there is no coprocessor.

With --rpc the chain is one that is there already, such as anvil or Hardhat's node. What its contracts know of the stack is kept in the data directory, for the next run.";

const BENCH_HELP: &str = "\
Measure what computations take on this machine, each next to tfhe-rs in the same run.

Each benchmark runs without options in about a minute on two cores. Times are CPU time of this process, which a busy machine distorts less than time on the wall, \
and ratios are of measurements made in turn. Everything that is computed is decrypted and compared; a wrong result is an error.

The first run generates keys, unless `demo` or `dev` did. docs/benchmark.md says how to read the numbers.";

const DEV_HELP: &str = "\
Run the whole stack until Ctrl-C: chain, coprocessor, KMS and gateway.

The chain has id 31337 and the host contracts stand at the addresses that the published Solidity libraries know for it, so that dApps work unchanged. \
Everything is kept in the data directory: stop it, or kill it, and the next start carries on where it was.

With --native the chain is one of validators that compute inside the block, with id 31338 and the contracts at the same addresses; there is no coprocessor.

With --rpc the stack attaches to a chain that is there already, and deploys the host contracts if they are missing: on chains 31337 and 12345 with a deployer that \
everybody knows, elsewhere with --deployer-key-file; or it uses the deployment that --deployment names. docs/attach.md tells more.

This is for development. The KMS holds the whole secret key in this process and the chain's accounts are publicly known.";

/// Options that `demo` and `dev` share.
#[derive(Clone, Debug, Args)]
pub(crate) struct StackOptions {
    /// Where keys, chain and ciphertexts are kept [default: the user's data directory, such as ~/.local/share/cipherloom].
    #[arg(long, value_name = "DIR", env = "CIPHERLOOM_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// INSECURE: compute on plaintext instead of ciphertexts. Same results in milliseconds, nothing is hidden.
    #[arg(long)]
    pub(crate) insecure_clear: bool,

    /// INSECURE: real TFHE on parameters that anyone breaks, in a fraction of the time, for tests.
    #[cfg(feature = "insecure-development")]
    #[arg(long, conflicts_with = "insecure_clear")]
    pub(crate) insecure_toy: bool,

    /// What computes on ciphertexts: cpu, or gpu in builds with the feature of that name. Each has keys and ciphertexts of its own.
    /// EXPERIMENTAL: gpu was compiled and never run on a GPU.
    #[arg(long, value_name = "BACKEND", default_value = "cpu", value_parser = parse_backend, conflicts_with = "insecure_clear")]
    pub(crate) backend: BackendKind,

    /// Decrypt by a committee: this many KMS nodes, each with a share of the secret key and a server of its own in this process, of which a third less
    /// one may lie or be silent [4 without a number; up to 15]. The first start adds to the key set what that takes, half a minute.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "4", value_parser = parse_nodes, conflicts_with = "insecure_clear")]
    pub(crate) kms_nodes: Option<u8>,

    #[command(flatten)]
    pub(crate) native: crate::native::NativeOptions,

    #[command(flatten)]
    pub(crate) chain: crate::stack::network::ChainOptions,

    #[command(flatten)]
    pub(crate) store: crate::database::StoreOptions,

    /// How many transactions are under way at the same time; their bootstraps share batches [default: 8 per processor, at least 16].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) workers: Option<u16>,

    #[command(flatten)]
    pub(crate) engine: EngineOptions,
}

impl StackOptions {
    /// Returns the parameters of the key set that a stack with these options uses.
    pub(crate) const fn parameters(&self) -> ParameterSet {
        #[cfg(feature = "insecure-development")]
        if self.insecure_toy {
            return ParameterSet::InsecureToy;
        }
        match (self.insecure_clear, self.backend) {
            (true, _) | (_, BackendKind::Clear) => ParameterSet::InsecureClear,
            (_, BackendKind::Gpu) => ParameterSet::ProductionGpu,
            (_, BackendKind::Cpu) => ParameterSet::Production,
        }
    }

    /// Names what a data directory keeps apart: backends, and parameters for tests.
    pub(crate) const fn family(&self) -> &'static str {
        #[cfg(feature = "insecure-development")]
        if self.insecure_toy {
            return "insecure-toy";
        }
        self.backend_name()
    }

    /// Names the backend: clear, cpu or gpu.
    pub(crate) const fn backend_name(&self) -> &'static str {
        match self.parameters().backend() {
            BackendKind::Clear => "clear",
            BackendKind::Cpu => "cpu",
            BackendKind::Gpu => "gpu",
        }
    }
}

/// Reads the number of nodes of a committee.
fn parse_nodes(text: &str) -> Result<u8, String> {
    let nodes: u8 = text.parse().map_err(|_| "write a number of nodes, such as 4 or 7".to_owned())?;
    // SDKs derive the one number from the other.
    let threshold = nodes.saturating_sub(1) / 3;
    match CommitteeSize::new(nodes, threshold) {
        Ok(_) => Ok(nodes),
        Err(_) => Err("a committee has 4 to 15 nodes".to_owned()),
    }
}

fn parse_backend(name: &str) -> Result<BackendKind, String> {
    match name {
        "cpu" => Ok(BackendKind::Cpu),
        "gpu" if cfg!(feature = "gpu") => Ok(BackendKind::Gpu),
        "gpu" => Err("this build computes on CPUs alone; `cargo build --release --features gpu` makes one for NVIDIA GPUs".to_owned()),
        "clear" => Err("plaintext is chosen with --insecure-clear".to_owned()),
        _ => Err("backends are cpu and gpu".to_owned()),
    }
}

/// Options of everything that evaluates with the engine.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct EngineOptions {
    /// In which order bootstraps are done: BATCHED, LOOP, FINE_GRAIN, MAX_PARALLELISM or MAX_LOCALITY. Results are the same bytes.
    #[arg(
        long,
        value_name = "POLICY",
        env = "FHEVM_DF_SCHEDULE",
        default_value_t,
        value_parser = str::parse::<Policy>
    )]
    pub(crate) schedule: Policy,
}

/// Options of `demo`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DemoOptions {
    #[command(flatten)]
    pub(crate) stack: StackOptions,

    /// Print one JSON object at the end instead of the story.
    #[arg(long)]
    pub(crate) json: bool,

    /// Use this compiled token (a JSON artifact with `abi` and `bytecode`) instead of the built-in one.
    /// One whose constructor takes a `CoprocessorConfig` is told where the host contracts are.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_artifact: Option<PathBuf>,

    /// Let this account pay on a chain that is attached to: a file with its private key, 64 hexadecimal digits. It is Alice's; given twice, the
    /// second is Bob's [default: the accounts of the public mnemonic that anvil and Hardhat fund].
    #[arg(long, value_name = "FILE", requires = "rpc")]
    pub(crate) account_key_file: Vec<PathBuf>,
}

/// Options of `dev`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DevOptions {
    #[command(flatten)]
    pub(crate) stack: StackOptions,

    /// Port of the chain's JSON-RPC, HTTP and WebSocket; 0 picks a free one.
    #[arg(long, value_name = "PORT", default_value_t = 8545, conflicts_with = "rpc")]
    pub(crate) rpc_port: u16,

    /// Port of the gateway; 0 picks a free one.
    #[arg(long, value_name = "PORT", default_value_t = 8546)]
    pub(crate) gateway_port: u16,

    #[command(flatten)]
    pub(crate) legacy: crate::legacy::LegacyOptions,

    /// Print one JSON object with URLs, addresses and accounts once everything runs, instead of the summary.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `operations`.
#[derive(Debug, Args)]
pub(crate) struct OperationsOptions {
    /// Print the table as JSON.
    #[arg(long)]
    pub(crate) json: bool,

    /// Print what operations take instead: bootstraps and depth by width, ours next to tfhe-rs's.
    #[arg(long)]
    pub(crate) bootstraps: bool,

    /// For which profile of the engine bootstraps are counted.
    #[arg(long, value_enum, default_value_t, requires = "bootstraps")]
    pub(crate) profile: ProfileOption,
}

/// What the engine's kernels save.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum ProfileOption {
    /// Bootstraps.
    #[default]
    Throughput,
    /// Depth.
    Latency,
}

impl From<ProfileOption> for Profile {
    fn from(option: ProfileOption) -> Self {
        match option {
            ProfileOption::Throughput => Self::Throughput,
            ProfileOption::Latency => Self::Latency,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn no_command_needs_an_option() {
        for command in ["demo", "dev", "operations"] {
            Arguments::try_parse_from(["cipherloom", command]).unwrap();
        }
    }

    #[test]
    fn each_backend_has_parameters_of_its_own() {
        let options = |arguments: &[&str]| -> Result<StackOptions, clap::Error> {
            let arguments = ["cipherloom", "dev"].iter().chain(arguments);
            match Arguments::try_parse_from(arguments)?.command {
                Command::Dev(options) => Ok(options.stack),
                other => unreachable!("dev was parsed as {other:?}"),
            }
        };
        let error = |arguments: &[&str]| options(arguments).map(|_| ()).unwrap_err().to_string();
        assert_eq!(options(&[]).unwrap().parameters(), ParameterSet::Production);
        assert_eq!(options(&["--insecure-clear"]).unwrap().backend_name(), "clear");
        if cfg!(feature = "gpu") {
            assert_eq!(options(&["--backend", "gpu"]).unwrap().parameters(), ParameterSet::ProductionGpu);
        } else {
            assert!(error(&["--backend", "gpu"]).contains("--features gpu"));
        }
        assert!(error(&["--backend", "tpu"]).contains("backends are cpu and gpu"));
        assert!(error(&["--backend", "cpu", "--insecure-clear"]).contains("cannot be used with"));
    }

    #[test]
    fn a_committee_has_four_nodes_unless_another_number_is_given() {
        let nodes = |arguments: &[&str]| -> Result<Option<u8>, String> {
            let arguments = ["cipherloom", "demo"].iter().chain(arguments);
            match Arguments::try_parse_from(arguments).map_err(|error| error.to_string())?.command {
                Command::Demo(options) => Ok(options.stack.kms_nodes),
                other => unreachable!("demo was parsed as {other:?}"),
            }
        };
        assert_eq!(nodes(&[]), Ok(None));
        assert_eq!(nodes(&["--kms-nodes"]), Ok(Some(4)));
        assert_eq!(nodes(&["--kms-nodes", "--json"]), Ok(Some(4)));
        assert_eq!(nodes(&["--kms-nodes", "7"]), Ok(Some(7)));
        for wrong in ["0", "1", "3", "16", "300", "many"] {
            assert!(nodes(&["--kms-nodes", wrong]).is_err(), "{wrong}");
        }
        assert!(nodes(&["--kms-nodes", "3"]).unwrap_err().contains("4 to 15"));
        assert!(
            nodes(&["--kms-nodes", "--insecure-clear"])
                .unwrap_err()
                .contains("cannot be used with")
        );
    }

    #[test]
    fn an_impossible_number_of_workers_is_refused() {
        assert!(Arguments::try_parse_from(["cipherloom", "dev", "--workers", "0"]).is_err());
    }

    #[test]
    fn an_unknown_schedule_is_refused_with_the_names_there_are() {
        for policy in Policy::ALL {
            Arguments::try_parse_from(["cipherloom", "dev", "--schedule", policy.name()]).unwrap();
        }
        let error = Arguments::try_parse_from(["cipherloom", "dev", "--schedule", "FASTEST"])
            .unwrap_err()
            .to_string();
        assert!(Policy::ALL.iter().all(|policy| error.contains(policy.name())), "{error}");
    }
}
