//! The command line of `cipherloom bench coprocessor`.

use std::path::PathBuf;

use alloy::primitives::Address;
use clap::{Args, ValueEnum, value_parser};

/// Options of `coprocessor`.
#[derive(Clone, Args)]
pub(crate) struct CoprocessorBenchOptions {
    /// What to measure [default: everything that can be].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    measure: Vec<Measure>,

    /// Measure on this PostgreSQL database instead of a SQLite file. Tenants are added to it, and removed with all they have at the end.
    #[arg(long, value_name = "URL", env = "CIPHERLOOM_BENCH_DATABASE_URL", hide_env_values = true)]
    pub(super) database_url: Option<String>,

    /// Ask this server, such as http://127.0.0.1:50051, instead of processes of our own. What is measured stays in the tenant's data.
    #[arg(long, value_name = "URL", conflicts_with = "database_url", requires_all = ["api_key_file", "chain_id", "acl_contract_address"])]
    pub(super) server: Option<String>,

    /// A file with the API key of a tenant of that server.
    #[arg(long, value_name = "FILE", requires = "server")]
    pub(super) api_key_file: Option<PathBuf>,

    /// The chain of that tenant.
    #[arg(long, value_name = "ID", requires = "server")]
    pub(super) chain_id: Option<u64>,

    /// The access-control contract of that chain.
    #[arg(long, value_name = "ADDRESS", requires = "server")]
    pub(super) acl_contract_address: Option<Address>,

    /// The key set's directory: for results on real ciphertexts, and for those of `--server`, where without it results are counted and not
    /// checked [default: as `demo` and `dev` use; generated there if there is none].
    #[arg(long, value_name = "DIR", env = "CIPHERLOOM_BENCH_KEYS")]
    pub(super) keys: Option<PathBuf>,

    /// INSECURE: use this key set on tiny parameters for what is measured on real ciphertexts. For tests of this command.
    #[cfg(feature = "insecure-development")]
    #[arg(long)]
    pub(super) insecure_toy: bool,

    /// Up to how many computations the tables grow for the second rate of ingestion; the first is at 10,000.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = value_parser!(u32).range(20_000..=100_000_000))]
    pub(super) rows: u32,

    /// Over how many computations each rate of ingestion is measured.
    #[arg(long, value_name = "N", default_value_t = 40_000, value_parser = value_parser!(u32).range(1..=10_000_000))]
    pub(super) window: u32,

    /// About how many computations go into a request.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = value_parser!(u32).range(10..=4_000))]
    pub(super) batch: u32,

    /// How many requests are under way at a time.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = value_parser!(u16).range(1..=64))]
    pub(super) concurrency: u16,

    /// How many transactions the backlog for throughput has.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = value_parser!(u32).range(1..=10_000_000))]
    pub(super) transactions: u32,

    /// How many worker processes share the backlog; one if the database is embedded.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = value_parser!(u16).range(1..=64))]
    pub(super) workers: u16,

    /// How often an idle worker is woken up.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = value_parser!(u32).range(2..=100_000))]
    pub(super) wakeups: u32,

    /// How many token transfers a worker computes on real ciphertexts.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = value_parser!(u16).range(1..=10_000))]
    pub(super) transfers: u16,

    /// Where the traffic begins: the same seed asks for the same.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,

    /// Print one JSON object instead of lines.
    #[arg(long)]
    pub(super) json: bool,
}

impl std::fmt::Debug for CoprocessorBenchOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL holds a password.
        f.debug_struct("CoprocessorBenchOptions").finish_non_exhaustive()
    }
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measure {
    /// How many computations per second are accepted, at two sizes of the tables.
    Ingestion,
    /// From a request to the begin of its computation by an idle worker.
    Latency,
    /// Transactions per second from a backlog, on plaintext.
    Throughput,
    /// Where the CPU time of a saturated worker goes, on real ciphertexts.
    Fhe,
}

impl Measure {
    /// Returns the name on the command line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ingestion => "ingestion",
            Self::Latency => "latency",
            Self::Throughput => "throughput",
            Self::Fhe => "fhe",
        }
    }
}

impl CoprocessorBenchOptions {
    /// Returns what is to be measured: what was asked for, or everything that can be where the processes are.
    pub(super) fn measures(&self) -> Vec<Measure> {
        match (&self.measure, &self.server) {
            (asked, _) if !asked.is_empty() => asked.clone(),
            (_, Some(_)) => vec![Measure::Ingestion, Measure::Throughput],
            _ => vec![Measure::Ingestion, Measure::Latency, Measure::Throughput, Measure::Fhe],
        }
    }
}
