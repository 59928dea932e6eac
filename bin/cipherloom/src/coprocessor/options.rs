//! What `cipherloom coprocessor` can be told. Names and defaults of the first group are those of the 0.6 generation and never change.

use std::{net::SocketAddr, path::PathBuf};

use cipherloom_service::{database_url::DatabaseUrl, settings::Settings};
use clap::{Args, value_parser};

use crate::cli::EngineOptions;

/// What the help begins with.
pub(crate) const HELP: &str = "\
Serve the chains of a deployment: a gRPC API for their nodes, workers that compute, and metrics.

One process does what its flags say, and any number of processes share a PostgreSQL database: API servers (--run-server) behind one address, workers \
(--run-bg-worker) on machines with many processors, followers (--run-follower) of chains whose nodes do not call the API, or all in one. Tenants, which are chains with their contracts and keys, are in the database; \
`cipherloom tenant` manages them and `cipherloom doctor` checks a deployment.

  cipherloom tenant add shop --chain-id 12345 --acl-contract-address 0x… --verifying-contract-address 0x… --keys DIR
  cipherloom keys signing-key coprocessor.key
  coprocessor --run-server --run-bg-worker

Every option can stand in a file instead, under its name: see --config. The command line comes before the environment, the environment before the file.

SIGTERM and Ctrl-C end it gracefully: health turns to NOT_SERVING, and requests and computations under way get --drain-seconds to finish. A second \
signal ends it at once; nothing that was accepted is lost either way.";

/// What an option that has a number of threads takes.
fn threads() -> clap::builder::RangedI64ValueParser<u16> {
    value_parser!(u16).range(1..=1024)
}

/// Options of `coprocessor`.
#[derive(Clone, Args)]
pub(crate) struct CoprocessorOptions {
    /// Run the API server
    #[arg(long)]
    pub(crate) run_server: bool,

    /// Run the background worker
    #[arg(long)]
    pub(crate) run_bg_worker: bool,

    /// Follow the chains of the tenants that have theirs followed; see `cipherloom tenant follow`
    ///
    /// Several processes may; each chain is followed by one of them, and by another one when that is gone.
    #[arg(long, help_heading = "Options of ours")]
    pub(crate) run_follower: bool,

    /// Generate fhe keys and exit
    ///
    /// The key set is written to ./fhevm-keys, which must not exist. `cipherloom keys generate` does the same for any directory.
    #[arg(long)]
    pub(crate) generate_fhe_keys: bool,

    /// Server maximum ciphertexts to schedule per batch
    ///
    /// A request to compute (`AsyncCompute`) or to encrypt public values (`TrivialEncryptCiphertexts`) with more of them is refused.
    #[arg(long, default_value_t = 5000, value_parser = value_parser!(u32).range(1..=65_536))]
    pub(crate) server_maximum_ciphertexts_to_schedule: u32,

    /// Server maximum ciphertexts to serve on the `GetCiphertexts` endpoint
    #[arg(long, default_value_t = 5000, value_parser = value_parser!(u32).range(1..=65_536))]
    pub(crate) server_maximum_ciphertexts_to_get: u32,

    /// Work items batch size
    ///
    /// How many transactions the worker takes from the database at a time. A transaction is taken whole, with all its computations.
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u16).range(1..=4096))]
    pub(crate) work_items_batch_size: u16,

    /// Tenant key cache size
    ///
    /// How many key sets are kept in memory; one that several tenants use counts once. A production key set takes about a gigabyte.
    #[arg(long, default_value_t = 32, value_parser = value_parser!(u16).range(1..=4096))]
    pub(crate) tenant_key_cache_size: u16,

    /// Maximum compact inputs to upload
    ///
    /// An upload with more input lists is refused. The generation misspelt the option; both spellings work.
    #[arg(
        long,
        visible_alias = "maximum-compact-inputs-upload",
        default_value_t = 10,
        value_parser = value_parser!(u16).range(1..=256)
    )]
    pub(crate) maximimum_compact_inputs_upload: u16,

    /// Maximum values of a compact input list
    #[arg(long, default_value_t = 255, value_parser = value_parser!(u16).range(1..=255))]
    pub(crate) maximum_handles_per_input: u16,

    /// Coprocessor FHE processing threads
    ///
    /// All key sets share them. The default is lowered to the number of processors; a number that is given is used as it is.
    #[arg(long, default_value_t = 8, value_parser = threads())]
    pub(crate) coprocessor_fhe_threads: u16,

    /// Tokio Async IO threads
    #[arg(long, default_value_t = 4, value_parser = threads())]
    pub(crate) tokio_threads: u16,

    /// Postgres pool max connections
    ///
    /// Two more listen for work and for changes of tenants. No connection is held while FHE runs.
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..=10_000))]
    pub(crate) pg_pool_max_connections: u32,

    /// Server socket address
    ///
    /// Port 0 picks a free one, which is printed.
    #[arg(long, default_value = "127.0.0.1:50051")]
    pub(crate) server_addr: SocketAddr,

    /// Prometheus metrics server address
    ///
    /// Metrics are at /metrics and health at /health. Port 0 picks a free one, which is printed.
    #[arg(long, default_value = "0.0.0.0:9100")]
    pub(crate) metrics_addr: SocketAddr,

    /// Postgres database url. If unspecified DATABASE_URL environment variable is used
    ///
    /// A password is safer in the environment than on the command line, which other users can see. `sqlite:FILE` is an embedded database for
    /// one process.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, hide_default_value = true)]
    pub(crate) database_url: Option<DatabaseUrl>,

    /// Coprocessor private key file path. Private key is in plain text 0x1234.. format
    ///
    /// The server signs the handles of inputs and the ciphertexts it serves with it. Workers need none.
    #[arg(long, default_value = "./coprocessor.key")]
    pub(crate) coprocessor_private_key: PathBuf,

    /// Coprocessor service name in OTLP traces
    #[arg(long, default_value = "coprocessor")]
    pub(crate) service_name: String,

    /// How often a worker that waits for work looks whether there is any, in milliseconds
    ///
    /// The database says so at once; this is for messages that get lost.
    #[arg(long, default_value_t = 1000, value_parser = value_parser!(u32).range(10..=3_600_000))]
    pub(crate) worker_polling_interval_ms: u32,

    /// Read options from this file: TOML with a line for each, under the option's name without its dashes
    #[arg(long, value_name = "FILE", env = "CIPHERLOOM_CONFIG", help_heading = "Options of ours")]
    pub(crate) config: Option<PathBuf>,

    /// Print the options in effect as a config file, with where each comes from, and exit
    #[arg(long, help_heading = "Options of ours")]
    pub(crate) print_config: bool,

    /// Keep the bytes of new ciphertexts in this object store instead of in the database
    ///
    /// All processes on the database need the same. It may be public: bytes are checked against the digest in the database.
    #[arg(long, value_name = "URL", help_heading = "Options of ours")]
    pub(crate) ciphertext_store: Option<cipherloom_store::ObjectsUrl>,

    /// Publish ciphertexts to this object store, each with a record that the server's key signs, for everybody to fetch and check
    ///
    /// Processes with --run-server do it, for all processes on the database. It may be the place of --ciphertext-store.
    #[arg(long, value_name = "URL", help_heading = "Options of ours")]
    pub(crate) mirror: Option<cipherloom_store::ObjectsUrl>,

    /// Memory for ciphertexts that workers are likely to need again, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = value_parser!(u32).range(0..=1_048_576), help_heading = "Options of ours")]
    pub(crate) ciphertext_cache_mib: u32,

    /// Squash values for committees as soon as they are computed and public, before somebody asks; for one server of a database
    #[arg(long, help_heading = "Options of ours")]
    pub(crate) squash_public_values: bool,

    /// How many batches of values are squashed at the same time for committees, each on up to three threads [default: a sixth of the FHE threads, at least 1]
    ///
    /// Squashing takes three seconds of a processor for each 64 bits; what is left of the processors computes meanwhile.
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=1024), help_heading = "Options of ours")]
    pub(crate) squashing_concurrency: Option<u16>,

    /// How many values that wait are squashed together
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = value_parser!(u16).range(1..=256), help_heading = "Options of ours")]
    pub(crate) squashing_batch: u16,

    /// How many values may wait to be squashed; more are refused until there is room
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = value_parser!(u32).range(1..=65_536), help_heading = "Options of ours")]
    pub(crate) squashing_waiting: u32,

    /// Memory for squashed values that are likely to be asked for again, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = value_parser!(u32).range(0..=1_048_576), help_heading = "Options of ours")]
    pub(crate) squashing_memory_mib: u32,

    /// How long squashed values are kept in the database; those asked for later are made again
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = value_parser!(u32).range(1..=36_500), help_heading = "Options of ours")]
    pub(crate) squashing_keep_days: u32,

    /// After how long without use the keys of noise squashing are let go, which take 1.8 GB for each key set
    #[arg(long, value_name = "MINUTES", default_value_t = 10, value_parser = value_parser!(u32).range(1..=525_600), help_heading = "Options of ours")]
    pub(crate) squashing_release_keys_minutes: u32,

    /// Serve the API over TLS with the certificate chain in this PEM file
    #[arg(long, value_name = "FILE", help_heading = "Options of ours")]
    pub(crate) tls_certificate: Option<PathBuf>,

    /// The certificate's private key, a PEM file
    #[arg(long, value_name = "FILE", help_heading = "Options of ours")]
    pub(crate) tls_private_key: Option<PathBuf>,

    /// How long requests and computations under way may take to finish at the end
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = value_parser!(u32).range(0..=3600), help_heading = "Options of ours")]
    pub(crate) drain_seconds: u32,

    /// How many transactions a worker has under way at the same time; their bootstraps share batches [default: 8 per processor, at least 16]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=4096), help_heading = "Options of ours")]
    pub(crate) concurrent_transactions: Option<u16>,

    /// How long a lease of a transaction lasts unless it is renewed: what a worker that was killed had waits as long for another one
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = value_parser!(u32).range(2..=3600), help_heading = "Options of ours")]
    pub(crate) lease_seconds: u32,

    /// This process's name in leases, unique among the processes on the database [default: the host's name and a random number]
    #[arg(long, value_name = "NAME", help_heading = "Options of ours")]
    pub(crate) worker_name: Option<String>,

    /// How often a follower looks for new blocks, in milliseconds; a tenth as often while a node announces them
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = value_parser!(u32).range(10..=3_600_000), help_heading = "Options of ours")]
    pub(crate) follower_polling_interval_ms: u32,

    /// How long a chain must stay shorter than what is recorded until the rest is withdrawn
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = value_parser!(u32).range(0..=86_400), help_heading = "Options of ours")]
    pub(crate) follower_rollback_seconds: u32,

    /// How long a follower's claim on a chain lasts unless it is renewed: what one that was killed followed waits as long for another one
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = value_parser!(u32).range(1..=3600), help_heading = "Options of ours")]
    pub(crate) follower_lease_seconds: u32,

    /// Leave the database's schema as it is, and refuse to start unless it is the newest; `cipherloom db migrate` brings it there
    #[arg(long, help_heading = "Options of ours")]
    pub(crate) no_migrate: bool,

    /// INSECURE: serve tenants whose key set hides nothing, for tests
    #[arg(long, help_heading = "Options of ours")]
    pub(crate) insecure_keys: bool,

    /// Print one JSON object with the addresses once everything runs, instead of sentences
    #[arg(long, help_heading = "Options of ours")]
    pub(crate) json: bool,

    #[command(flatten, next_help_heading = "Options of ours")]
    pub(crate) engine: EngineOptions,

    /// All options in effect and where they come from.
    #[arg(skip)]
    pub(crate) settings: Settings,
}

impl std::fmt::Debug for CoprocessorOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.settings.iter().map(|setting| &setting.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::line::CoprocessorArguments;
    use cipherloom_service::settings::configurable;

    /// What operators read.
    const DOCUMENT: &str = include_str!("../../../../docs/coprocessor.md");

    #[test]
    fn the_documents_table_has_every_option_with_default_and_meaning() {
        let command = CoprocessorArguments::command();
        let mut table = String::from("| option | default | meaning |\n|---|---|---|\n");
        for argument in command.get_arguments().filter(|argument| argument.get_long().is_some()) {
            let default = argument.get_default_values().first().and_then(|value| value.to_str());
            let default = default.map(|value| format!("`{value}`")).unwrap_or_default();
            let names: Vec<String> = std::iter::once(argument.get_long().unwrap_or_default())
                .chain(argument.get_visible_aliases().unwrap_or_default())
                .map(|name| format!("`--{name}`"))
                .collect();
            let environment = argument.get_env().and_then(|name| name.to_str());
            let environment = environment.map(|name| format!(", `{name}`")).unwrap_or_default();
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            table += &format!("| {}{environment} | {default} | {help} |\n", names.join(", "));
        }
        let shown = DOCUMENT
            .split("<!-- options -->\n")
            .nth(1)
            .and_then(|rest| rest.split("<!-- end of options -->").next());
        assert_eq!(shown, Some(table.as_str()), "docs/coprocessor.md needs this table:\n{table}");
        assert!(configurable(&command).count() > 20);
    }
}
