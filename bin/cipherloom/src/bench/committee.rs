//! `cipherloom bench committee`: public decryptions by a committee whose nodes are processes of their own, of a value that is squashed already.
//!
//! Each node is this binary, started again ([`node`]), with the code of real nodes: it checks the request, the attestation and the form of the squashed list, decrypts its part, writes the audit log to the disk, and signs; then it puts
//! the values together by itself and signs those. The carrier is the one of gateways, and connections are attested (simulated). What is left out is what a chain and a coprocessor answer: both answer at once here, and
//! are asked the same. So the latency is that of everything but them.
//!
//! Nodes share the processors of this machine, as they never do in a deployment: what is shown end to end is what all of them need together.

mod cost;
mod message;
mod node;
mod nodes;

use std::sync::Arc;

use alloy::{
    primitives::keccak256,
    signers::{SignerSync, local::PrivateKeySigner},
};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use cipherloom_chain::CommitteeOnChain;
use cipherloom_contracts::development;
use cipherloom_fhe::{FheBackend, KeySet, ParameterSet};
use cipherloom_primitives::{
    B256, FheType, Handle, U256,
    decryption::{PublicDecryptionRequest, abi_words},
    eip712::squashed_ciphertext_attestation_digest,
};
use cipherloom_threshold::CommitteeSize;
use clap::Args;
use serde_json::{Value, json};
use tokio::time::Instant;

pub(crate) use self::node::{CommitteeNodeOptions, run as run_node};
use self::{cost::Alone, message::Assignment, nodes::Nodes};
use super::{
    ground::{self, metadata},
    latency::Latencies,
    options::CommonOptions,
};
use crate::{keys, progress::KeyGenerationBar};

/// What a node may spend on a value of 64 bits, in milliseconds of CPU time.
const TARGET_CPU_MS: f64 = 5.0;
/// How long the threshold part of a public decryption may take, in milliseconds.
const TARGET_END_TO_END_MS: f64 = 25.0;
/// Requests before those that count: connections are made, and code is loaded.
const WARM_UP: u16 = 5;
/// The value: its bits are mixed.
const VALUE: u64 = 0x0123_4567_89ab_cdef;

/// Options of `committee`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CommitteeOptions {
    /// How many nodes there are; fewer than a third of them may be corrupt.
    #[arg(long, value_name = "N", default_value_t = 13, value_parser = clap::value_parser!(u8).range(4..=15))]
    pub(crate) nodes: u8,

    /// How many public decryptions are asked for, one after the other.
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) requests: u16,

    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

/// What was measured.
struct Report {
    parameters: ParameterSet,
    size: CommitteeSize,
    latencies: Latencies,
    /// CPU time of a node for one value, in milliseconds: the mean of all nodes.
    cpu_ms: f64,
    /// Bytes of messages that a node received and sent for one value.
    received: f64,
    sent: f64,
    /// How many processors all nodes share.
    processors: f64,
    alone: Alone,
}

/// Measures and prints.
///
/// # Errors
/// If anything fails or a value comes out wrong.
pub(crate) fn run(options: &CommitteeOptions) -> Result<()> {
    let size = CommitteeSize::new(options.nodes, options.nodes.saturating_sub(1) / 3)?;
    let (keys, list) = squashed(&options.common)?;
    let secrets = keys.squashing_secrets()?;
    let alone = cost::measure(size, &keys, &secrets, &list, VALUE)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let report = runtime.block_on(Box::pin(measure(options, size, &keys, &secrets, list, alone)))?;
    report.print(options.common.json);
    Ok(())
}

/// Opens the keys, with noise squashing, and squashes the value.
fn squashed(options: &CommonOptions) -> Result<(KeySet, Vec<u8>)> {
    let set = options.parameters.set();
    if !set.is_secure() {
        eprintln!("INSECURE parameters: times mean nothing.");
    }
    let directory = ground::directory(options)?;
    let mut keys = keys::open_or_generate(&directory, set)?;
    if !keys.has_noise_squashing() {
        eprintln!("the key set in {} gets keys for noise squashing", directory.display());
        let with = keys
            .add_noise_squashing(&KeyGenerationBar::of_noise_squashing())
            .context("cannot add noise squashing to the key set")?;
        keys = Arc::new(with);
    }
    let input = keys.encryptor()?.encrypt(&[(FheType::Uint64, U256::from(VALUE))], &metadata())?;
    let backend = cipherloom_fhe::CpuBackend::new(keys.evaluation_keys()?);
    let ciphertexts = backend.expand_input(&input)?;
    let ciphertext = ciphertexts.first().context("the list is empty")?;
    let list = keys.squasher_on(&backend)?.squash_list(&[ciphertext])?;
    // Opened anew, without the keys that only computing needs: they would be two gigabytes beside the nodes.
    drop((backend, keys));
    Ok((KeySet::open(&directory)?, list))
}

async fn measure(
    options: &CommitteeOptions,
    size: CommitteeSize,
    keys: &KeySet,
    secrets: &cipherloom_fhe::SquashingSecrets,
    list: Vec<u8>,
    alone: Alone,
) -> Result<Report> {
    let coprocessor = PrivateKeySigner::random();
    let key_set_id = B256::from(*keys.manifest().id.as_bytes());
    let digest = keccak256(&list);
    let handles: Vec<Handle> = (0..WARM_UP + options.requests)
        .map(|number| Handle::computed(keccak256(number.to_be_bytes()), development::HOST_CHAIN_ID, FheType::Uint64))
        .collect();
    let attested = handles.iter().map(|handle| {
        let signature = coprocessor.sign_hash_sync(&squashed_ciphertext_attestation_digest(*handle, key_set_id, digest))?;
        Ok((handle.as_b256(), signature.as_bytes().to_vec().into()))
    });
    let assignment = Assignment {
        party: 0,
        key_set_id,
        signers: Vec::new(),
        coprocessor: coprocessor.address(),
        list: list.into(),
        attested: attested.collect::<Result<_>>()?,
    };
    let mut nodes = Nodes::start(size, options.common.parameters, assignment, secrets).await?;
    let domains = development::signing_domains();
    let (mut latencies, mut before) = (Latencies::default(), nodes.spent()?);
    for (number, handle) in handles.iter().enumerate() {
        if number == usize::from(WARM_UP) {
            before = nodes.spent()?;
        }
        let request = PublicDecryptionRequest {
            handles: vec![*handle],
            extra_data: [0].into(),
        };
        let start = Instant::now();
        let answer = nodes.carrier().public_decrypt(&request, Bytes::new()).await;
        let took = start.elapsed();
        let answer = answer.map_err(|error| anyhow::anyhow!("{}: {}", error.label, error.message))?;
        ensure!(
            answer.decrypted_result == abi_words(&[U256::from(VALUE)]),
            "the value came out as {}",
            answer.decrypted_result
        );
        let signed = domains.public_decryption_digest(&request.handles, &answer.decrypted_result, &request.extra_data);
        nodes.check_signatures(signed, &answer.signatures)?;
        if number >= usize::from(WARM_UP) {
            latencies.add(took);
        }
    }
    // A node that nobody waits for any more may still be at work.
    nodes.settle()?;
    let spent = nodes.spent()?.since(before);
    let each = f64::from(options.requests) * f64::from(size.parties());
    Ok(Report {
        parameters: keys.parameters(),
        size,
        latencies,
        cpu_ms: spent.cpu_ms / each,
        received: spent.received / each,
        sent: spent.sent / each,
        processors: f64::from(u32::try_from(std::thread::available_parallelism()?.get())?),
        alone,
    })
}

impl Report {
    /// Returns how long the processors of this machine take at least for what all nodes do for one value, in milliseconds.
    fn processors_ms(&self) -> f64 {
        self.cpu_ms * f64::from(self.size.parties()) / self.processors
    }

    /// Returns how many times as long as that an answer takes.
    fn ratio_to_processors(&self) -> f64 {
        self.latencies.percentile_ms(50) / self.processors_ms()
    }

    fn print(&self, as_json: bool) {
        if as_json {
            println!("{}", self.json());
            return;
        }
        println!(
            "bench committee, parameters {}{}: {} as processes on this machine, one public decryption of 64 bits after the other, squashed before\n",
            self.parameters,
            if self.parameters.is_secure() { "" } else { " (INSECURE)" },
            self.size
        );
        let lines = [
            ("requests".to_owned(), self.latencies.count().to_string()),
            (
                "CPU of a node for a value".to_owned(),
                format!("{:.2} ms (target {TARGET_CPU_MS} ms)", self.cpu_ms),
            ),
            (
                "  of which threshold decryption".to_owned(),
                format!(
                    "{:.2} ms: {:.2} ms for its part, {:.2} ms for putting the value together",
                    self.alone.node_ms(),
                    self.alone.partial_ms,
                    self.alone.opening_ms
                ),
            ),
            (
                "  compared with one who has the whole key".to_owned(),
                format!(
                    "{:.1} times its {:.2} ms; threshold decryption alone {:.1} times",
                    self.cpu_ms / self.alone.holder_ms,
                    self.alone.holder_ms,
                    self.alone.node_ms() / self.alone.holder_ms
                ),
            ),
            (
                "bytes of a node for a value".to_owned(),
                format!(
                    "{:.0} received, {:.0} sent, of which its part of the value {}",
                    self.received, self.sent, self.alone.partial_bytes
                ),
            ),
            (
                "end to end".to_owned(),
                format!(
                    "p50 {:.1} ms, p95 {:.1} ms, mean {:.1} ms (target {TARGET_END_TO_END_MS} ms)",
                    self.latencies.percentile_ms(50),
                    self.latencies.percentile_ms(95),
                    self.latencies.mean_ms()
                ),
            ),
            (
                "  compared with the CPU of all nodes".to_owned(),
                format!(
                    "{:.1} times the {:.1} ms that {} processors take for it at least",
                    self.ratio_to_processors(),
                    self.processors_ms(),
                    self.processors
                ),
            ),
        ];
        for (what, value) in lines {
            println!("{what:<44} {value}");
        }
    }

    fn json(&self) -> Value {
        json!({
            "bench": "committee",
            "parameters": self.parameters.name(),
            "insecure": !self.parameters.is_secure(),
            "nodes": self.size.parties(),
            "threshold": self.size.threshold(),
            "cpu_ms_per_node_and_value": self.cpu_ms,
            "bytes_received_per_node_and_value": self.received,
            "bytes_sent_per_node_and_value": self.sent,
            "end_to_end": self.latencies.json(),
            "threshold_decryption": self.alone.json(),
            "ratio_to_holder_of_the_key": self.cpu_ms / self.alone.holder_ms,
            "cpu_ms_of_all_nodes_on_these_processors": self.processors_ms(),
            "ratio_of_end_to_end_to_that": self.ratio_to_processors(),
        })
    }
}

/// The committee as a chain would have it registered.
fn registered(signers: Vec<alloy::primitives::Address>, size: CommitteeSize) -> CommitteeOnChain {
    let corrupt = u64::from(size.threshold());
    CommitteeOnChain {
        chain_id: development::HOST_CHAIN_ID,
        context_id: B256::from((U256::from(7) << 248) | U256::ONE),
        epoch_id: B256::from((U256::from(8) << 248) | U256::ONE),
        signers,
        public_decryption_threshold: corrupt + 1,
        user_decryption_threshold: 2 * corrupt + 1,
        mpc_threshold: corrupt,
    }
}
