//! The command line of `cipherloom bench`.

use std::{path::PathBuf, str::FromStr};

use cipherloom_engine::Policy;
use cipherloom_fhe::ParameterSet;
use cipherloom_primitives::FheType;
use clap::{Args, Subcommand, ValueEnum};

use super::{coprocessor::CoprocessorBenchOptions, workload::Workload};

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Transactions through the engine alone: compiled and evaluated from ciphertexts in memory to ciphertexts in memory.
    Engine(WorkloadOptions),
    /// Transactions through the whole worker: recorded in a store, leased, loaded, evaluated, published.
    #[command(long_about = WORKER_HELP)]
    Worker(WorkerOptions),
    /// Blocks of transactions through the executor: one gRPC request with all ciphertexts, one answer with all results.
    Executor(ExecutorOptions),
    /// The coprocessor backend as a whole: accepting computations, waking up, computing a backlog, with servers and workers as processes of their own.
    #[command(long_about = COPROCESSOR_HELP)]
    Coprocessor(Box<CoprocessorBenchOptions>),
    /// Single operations: bootstraps and CPU time of each, next to tfhe-rs.
    Op(OpOptions),
    /// Encrypted inputs: proving, verifying, expanding, for several lengths of list.
    Input(InputOptions),
    /// Decryption: reading a stored ciphertext and decrypting it, for every type; and how long a client of a whole stack waits, and for what.
    #[command(long_about = DECRYPT_HELP)]
    Decrypt(DecryptOptions),
    /// A whole stack under load: many decryptions at once and polls at a fixed rate. Fails if one is lost.
    Gateway(super::gateway::GatewayOptions),
    /// Public decryptions by a committee whose nodes are processes of their own, of a value that is squashed already.
    #[command(long_about = COMMITTEE_HELP)]
    Committee(super::committee::CommitteeOptions),
    /// A node of `committee`; started by it.
    #[command(hide = true)]
    CommitteeNode(super::committee::CommitteeNodeOptions),
    /// Gas of transactions of confidential contracts, next to the same on the published host contracts.
    #[command(long_about = super::gas::HELP)]
    Gas(super::gas::GasOptions),
}

const WORKER_HELP: &str = "\
Transactions through the whole worker: recorded in a store, leased, loaded, evaluated, published.

The store is a SQLite file in a temporary directory. Balances and amounts are real encryptions and lie in the store in their stored form before the clock starts; \
everything after that counts: recording, leasing, reading, compiling, evaluating, hashing and publishing. tfhe-rs is given the same ciphertexts in memory and computes \
the same operations one after the other, in the same run, before and after ours. Every result of both is decrypted and compared.";

const COPROCESSOR_HELP: &str = "\
The coprocessor backend as a whole: accepting computations, waking up, computing a backlog, with servers and workers as processes of their own.

Servers and workers are this binary, started on a private SQLite file or on --database-url, and stopped at the end. They are asked over gRPC as a node asks them, \
for transactions of mixed shapes. Everything that comes out is decrypted and compared, except for --server without --keys, where it is only counted. \
The rates of ingestion, latency and throughput are on plaintext (INSECURE keys of our own), so that they show what everything but encryption costs.

Without options this takes about two minutes on two cores, most of them for real ciphertexts; --measure leaves parts out.";

const DECRYPT_HELP: &str = "\
Decryption: reading a stored ciphertext and decrypting it, for every type; and how long a client of a whole stack waits, and for what.

The first part is CPU time of single steps. For the second part the stack of `cipherloom dev` is started in this process with its data in a temporary directory, \
and computed values are asked for over HTTP, one request at a time: public ones and a user's, on the synchronous routes and as jobs. What a client waits is shown \
next to where the KMS spends it, and to the bare decryption of the same ciphertexts.";

const COMMITTEE_HELP: &str = "\
Public decryptions by a committee whose nodes are processes of their own, of a value that is squashed already.

Nodes run the code of `cipherloom kms node` and are asked by that of `cipherloom gateway` over attested connections (attestation is simulated). Chain and coprocessor \
are left out: they answer at once. Shown is what a node spends on a value of 64 bits, in CPU time and in bytes, what of that is threshold decryption, what one would \
spend who has the whole key, and how long an answer takes end to end, with all nodes on this machine.

The key set gets keys for noise squashing if it has none, which takes minutes once.";

/// Options that all benchmarks share.
#[derive(Clone, Debug, Args)]
pub(crate) struct CommonOptions {
    /// Which parameters to compute under. `toy` is INSECURE: it has the counts of `production`, and times that mean nothing.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) parameters: Parameters,

    /// The key set's directory; generated there if there is none [default: the user's data directory, as `demo` and `dev` use].
    #[arg(long, value_name = "DIR", env = "CIPHERLOOM_BENCH_KEYS")]
    pub(crate) keys: Option<PathBuf>,

    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub(crate) json: bool,

    /// How many threads compute, ours as well as tfhe-rs's [default: one per processor].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

/// The option of benchmarks that have something to compare with.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct BaselineOption {
    /// What to compare with, measured in the same run.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) baseline: Baseline,
}

/// Options of everything that runs workloads.
#[derive(Clone, Debug, Args)]
pub(crate) struct WorkloadOptions {
    /// What is computed.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) workload: Workload,

    /// How many transactions a round has [default: by workload, 6 to 48].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) count: Option<u16>,

    /// How many rounds are measured; the baseline runs before and after each.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) rounds: u16,

    /// Measure further rounds until this much time has passed.
    #[arg(long, value_name = "S")]
    pub(crate) seconds: Option<u64>,

    /// How the engine orders bootstraps: BATCHED, LOOP, FINE_GRAIN, MAX_PARALLELISM or MAX_LOCALITY.
    #[arg(long, value_name = "POLICY", default_value = "BATCHED", value_parser = Policy::from_str)]
    pub(crate) schedule: Policy,

    /// How many transactions tfhe-rs computes before and after each round [default: one per thread, at least 2].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) baseline_count: Option<u16>,

    #[command(flatten)]
    pub(crate) compared: BaselineOption,

    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

/// Options of `worker`.
#[derive(Clone, Debug, Args)]
pub(crate) struct WorkerOptions {
    /// How many transactions are under way at the same time [default: 8 per processor, at least 16].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) workers: Option<u16>,

    /// Where amounts, bids and votes come from.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) amounts: Amounts,

    #[command(flatten)]
    pub(crate) workload: WorkloadOptions,
}

/// Where amounts, bids and votes come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Amounts {
    /// They are in the store, as balances are: what tfhe-rs is given, too.
    #[default]
    Stored,
    /// Every transaction brings one along in a proven input list, which was admitted before, and which the worker expands: 32 bootstraps more for 64 bits.
    Fresh,
}

impl Amounts {
    /// Returns the name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Fresh => "fresh",
        }
    }
}

/// Options of `executor`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExecutorOptions {
    /// The form of the ciphertexts that the request brings along; the answer's are packed in any case.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) form: Form,

    #[command(flatten)]
    pub(crate) workload: WorkloadOptions,
}

/// A form of ciphertexts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// Some kilobytes; reading one takes a bootstrap per block. What the executor answers with, and so what nodes keep.
    #[default]
    Packed,
    /// Half a megabyte for 64 bits, ready to be computed with.
    Raw,
}

impl Form {
    /// Returns the name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Packed => "packed",
            Self::Raw => "raw",
        }
    }
}

/// Options of `op`.
#[derive(Clone, Debug, Args)]
pub(crate) struct OpOptions {
    /// Solidity names of the types to measure.
    #[arg(long, value_name = "TYPES", value_delimiter = ',', default_value = "euint8,euint64", value_parser = type_of)]
    pub(crate) types: Vec<FheType>,

    /// Names of the operations to measure, as the first column has them [default: all but those that take minutes].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) operations: Vec<String>,

    /// How many copies of an operation our engine computes at a time [default: as many as fill its batches, at most 32].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) copies: Option<u16>,

    #[command(flatten)]
    pub(crate) compared: BaselineOption,

    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

/// Options of `input`.
#[derive(Clone, Debug, Args)]
pub(crate) struct InputOptions {
    /// How many values the lists have; `euint64`, of which a list holds 32.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 8, 32], value_parser = clap::value_parser!(u8).range(1..=32))]
    pub(crate) sizes: Vec<u8>,

    /// How often each step is repeated; the fastest counts.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) rounds: u16,

    #[command(flatten)]
    pub(crate) compared: BaselineOption,

    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

/// Options of `decrypt`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DecryptOptions {
    /// How often each value is decrypted.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) rounds: u16,

    /// Measure only this part.
    #[arg(long, value_enum, value_name = "PART")]
    pub(crate) part: Option<DecryptPart>,

    /// How many values the stack computes; each is asked for once in each series.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(super::answers::FEWEST_HANDLES..=1000))]
    pub(crate) handles: u16,

    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

/// A part of `decrypt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DecryptPart {
    /// Writing, reading and decrypting stored forms.
    Forms,
    /// Answers of a whole stack.
    Answers,
}

/// Which parameters to compute under.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Parameters {
    /// 128 bits of security.
    #[default]
    Production,
    /// INSECURE: real TFHE code on tiny parameters. Counts are right, times are not.
    #[cfg(feature = "insecure-development")]
    Toy,
}

impl Parameters {
    /// Returns the set.
    pub(crate) const fn set(self) -> ParameterSet {
        match self {
            Self::Production => ParameterSet::Production,
            #[cfg(feature = "insecure-development")]
            Self::Toy => ParameterSet::InsecureToy,
        }
    }
}

/// What to compare with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Baseline {
    /// tfhe-rs called directly, operation by operation.
    #[default]
    TfheRs,
    /// Nothing.
    None,
}

fn type_of(name: &str) -> Result<FheType, String> {
    FheType::from_solidity_name(name).ok_or_else(|| {
        let names: Vec<&str> = FheType::ALL.iter().map(|ty| ty.solidity_name()).collect();
        format!("there is no type {name}; the types are {}", names.join(", "))
    })
}
