//! `cipherloom executor`: native mode's evaluation service as a process.

use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use cipherloom_engine::{Engine, Policy, PoolOptions};
use cipherloom_executor::{Executor, ExecutorConfig, Limits};
use cipherloom_fhe::KeySet;
use clap::Args;
use serde_json::json;

use crate::dev::shutdown_signal;

/// What `cipherloom executor --help` begins with.
pub(crate) const HELP: &str = "\
Serve native mode's executor: nodes send the encrypted operations of a block, and get the ciphertexts.

Nodes of the 0.6 generation call fhevm.executor.FhevmExecutor/SyncCompute over gRPC. Next to it, cipherloom.executor.v1.Executor/Compute gives results as they are \
ready, each with its own success or failure. The standard health service and server reflection are there too:

  grpcurl -plaintext 127.0.0.1:50051 list
  grpcurl -plaintext 127.0.0.1:50051 grpc.health.v1.Health/Check

An executor keeps nothing between requests and needs no secret: give it a key directory without secret_key.bin, and as many executors behind one address as you \
like. Executors of one version and key set give the same bytes. Connections are not encrypted; keep them inside your network, or put a proxy with TLS in front.

SIGTERM and Ctrl-C end it gracefully: health turns to NOT_SERVING, requests under way get --drain-seconds to finish.";

/// Options of `executor`. The first five are those of the 0.6 generation.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExecutorOptions {
    /// The directory of the key set, as `cipherloom keys generate` makes it.
    #[arg(long, visible_alias = "keys", value_name = "DIR")]
    fhe_keys_directory: PathBuf,

    /// Where to listen; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50051")]
    server_addr: SocketAddr,

    /// Threads for connections and messages.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    tokio_threads: u16,

    /// Threads for what is done around bootstraps: proofs, reading, packing and compiling.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    fhe_compute_threads: u16,

    /// Threads for bootstraps, at most one per processor. All requests share them.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=4096))]
    policy_fhe_compute_threads: u16,

    /// In which order bootstraps are done: BATCHED, LOOP, FINE_GRAIN, MAX_PARALLELISM or MAX_LOCALITY. Results do not depend on it.
    #[arg(long, value_name = "POLICY", env = "FHEVM_DF_SCHEDULE", default_value_t, value_parser = str::parse::<Policy>)]
    schedule: Policy,

    /// The largest request, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=4095))]
    max_request_mib: u16,

    /// The most computations in a request.
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    max_computations: u32,

    /// The most ciphertexts in a request, values of input lists included.
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    max_ciphertexts: u32,

    /// The most input lists in a request; each costs the check of a proof.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    max_input_lists: u16,

    /// How many requests are received and computed at a time; more are refused.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    max_requests: u16,

    /// How long a request may take. Clients can ask for less with a deadline.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    max_seconds: u32,

    /// How long requests may take to finish at the end.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=3600))]
    drain_seconds: u32,

    /// Take input lists whose contract, user and chain the request does not name, without a check of their proofs. For nodes whose chain has
    /// checked the signatures of the key management system over each list.
    #[arg(long)]
    trust_node_for_proofs: bool,

    /// INSECURE: accept a key set without any security, for tests.
    #[arg(long)]
    insecure_keys: bool,

    /// Print one JSON object with the address once it listens, instead of a sentence.
    #[arg(long)]
    json: bool,
}

/// Runs the executor until it is told to stop.
///
/// # Errors
/// If keys cannot be used or the address is taken.
pub(crate) fn run(options: &ExecutorOptions) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(usize::from(options.tokio_threads))
        .max_blocking_threads(usize::from(options.fhe_compute_threads))
        .enable_all()
        .build()?
        .block_on(serve(options))
}

async fn serve(options: &ExecutorOptions) -> Result<()> {
    let keys = open(&options.fhe_keys_directory)?;
    let parameters = keys.parameters();
    if !parameters.is_secure() {
        ensure!(
            options.insecure_keys,
            "the key set in {} is {parameters}, which hides nothing; --insecure-keys accepts it",
            options.fhe_keys_directory.display()
        );
        tracing::warn!(%parameters, "INSECURE: the key set hides nothing");
    }
    let id = keys.manifest().id;
    let executor = Executor::start(config(options, *id.as_bytes()), keys.evaluation()?).await?;
    let address = executor.address();
    if options.json {
        println!(
            "{}",
            json!({ "address": address.to_string(), "keySetId": id.to_string(), "policy": options.schedule.name() })
        );
    } else {
        println!("executor listening on {address}, key set {id}, policy {}", options.schedule);
    }
    shutdown_signal().await;
    if !options.json {
        println!("stopping; requests under way have {} s to finish", options.drain_seconds);
    }
    executor.shutdown().await?;
    Ok(())
}

fn config(options: &ExecutorOptions, key_set_id: [u8; 32]) -> ExecutorConfig {
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = usize::from(options.policy_fhe_compute_threads).min(processors);
    let defaults = ExecutorConfig::new(options.server_addr, key_set_id);
    ExecutorConfig {
        limits: Limits {
            request_bytes: usize::from(options.max_request_mib) << 20,
            computations: options.max_computations as usize,
            ciphertexts: options.max_ciphertexts as usize,
            input_lists: usize::from(options.max_input_lists),
            requests: usize::from(options.max_requests),
            ..defaults.limits
        },
        engine: PoolOptions {
            engine: Engine {
                policy: options.schedule,
                ..Engine::default()
            },
            threads: NonZeroUsize::new(threads),
            ..PoolOptions::default()
        },
        trust_node_for_proofs: options.trust_node_for_proofs,
        request_timeout: Duration::from_secs(options.max_seconds.into()),
        drain_timeout: Duration::from_secs(options.drain_seconds.into()),
        ..defaults
    }
}

fn open(directory: &Path) -> Result<KeySet> {
    // A folder of the generation is recognised, because its keys are of no use here: no tfhe since 0.11 reads such a server key.
    let legacy = ["sks", "pks"].iter().all(|file| directory.join(file).is_file());
    ensure!(
        !legacy,
        "{} holds keys of the 0.6 generation (sks, pks, pp), whose server key this software cannot read; make a key set with `cipherloom keys generate DIR`",
        directory.display()
    );
    KeySet::open(directory).with_context(|| format!("cannot use the keys in {}", directory.display()))
}
