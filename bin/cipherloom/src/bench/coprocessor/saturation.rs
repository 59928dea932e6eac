//! Where a saturated worker's CPU time goes, on real ciphertexts.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use cipherloom_load::{Ledger, Process, Random, Role, Shape, TenantClient, Traffic, Value, transaction::Transaction};
use cipherloom_primitives::{Address, FheType, U256, input::InputMetadata};
use cipherloom_rpc::fhevm::{common::FheOperation, coprocessor::AsyncComputeRequest};
use serde_json::json;

use super::{
    Finding, bar, float, megabytes,
    options::CoprocessorBenchOptions,
    place::{Crew, Look, Place},
};

/// How many transfers come before what is measured: keys are read, connections and caches are filled.
const WARM_UP: usize = 2;

/// How many values an input list of 64-bit numbers has room for.
const LIST: usize = 32;

/// How often workers are asked how far they are.
const LOOK: Look = Look(Duration::from_secs(1));

/// How long no result may appear: real ones take their time on a busy machine.
const STALL: Duration = Duration::from_secs(900);

/// How often metrics are brought up to date, at most.
const SETTLED: Duration = Duration::from_secs(6);

/// Measures where the time goes.
///
/// # Errors
/// If keys cannot be had, a process fails, or a result is wrong.
pub(super) async fn measure(options: &CoprocessorBenchOptions, place: &Place) -> Result<Finding> {
    let keys = place.real_keys()?;
    let (deployment, tenant) = place.tenant("fhe", keys.directory())?;
    let server = deployment.start(Role::Server, &[])?;
    let client = place.client(Some(&server), Arc::clone(&tenant))?;
    let mut traffic = Traffic::of_shapes(options.seed, tenant.chain_id, &[Shape::Transfer]);
    let mut ledger = Ledger::default();
    let metadata = InputMetadata {
        contract: Address::repeat_byte(0xc0),
        user: Address::repeat_byte(0xaa),
        acl: tenant.acl,
        chain_id: tenant.chain_id,
    };
    // Every balance and amount is a real encryption: public ones would cost nearly nothing.
    let plaintexts: Vec<_> = (1..=LIST).map(|number| (FheType::Uint64, U256::from(number * 1_000_003))).collect();
    let list = keys.encryptor()?.encrypt(&plaintexts, &metadata)?;
    let inputs: Vec<Value> = client.upload_values(&list, &plaintexts, metadata.contract, metadata.user).await?;
    let mut crew = Crew::start(&deployment, server, 1, place.is_embedded(), &[])?;
    let client = place.client(crew.server(), tenant)?;
    let measured = usize::from(options.transfers);
    let progress = bar(u64::try_from(LIST + WARM_UP + measured)?, "real ciphertexts");
    // Inputs are expanded when they are first used, outside of the engine, where no clock tells that from the rest. A transaction for each takes them
    // over, so that what is measured begins with balances, as a token does.
    let (request, balances) = taken_over(&inputs, options.seed, &client);
    client.compute(&request).await?;
    ledger.accepted(balances.clone());
    traffic.open_accounts(&balances);
    crew.until_published(float(balances.len()), LOOK, &progress).await?;
    let warm_up = traffic.batch(WARM_UP);
    client.compute(&warm_up.request).await?;
    ledger.accepted(warm_up.results);
    let warm = balances.len() + WARM_UP;
    crew.until_published(float(warm), LOOK, &progress).await?;
    // The engine's figures are read now and then; an idle worker takes next to nothing meanwhile.
    tokio::time::sleep(SETTLED).await;
    let batch = traffic.batch(measured);
    let (before, clock) = (Reading::take(&crew)?, std::time::Instant::now());
    client.compute(&batch.request).await?;
    ledger.accepted(batch.results);
    crew.until_published(float(warm + measured), LOOK, &progress).await?;
    let (seconds, cpu_at_end) = (clock.elapsed().as_secs_f64(), crew.metric("process_cpu_seconds_total")?);
    tokio::time::sleep(SETTLED).await;
    let after = Reading {
        cpu: cpu_at_end,
        ..Reading::take(&crew)?
    };
    progress.finish_and_clear();
    client.await_all(&mut ledger, keys.decryptor()?.as_ref(), STALL).await?;
    let memory = crew.workers.iter().filter_map(Process::memory).map(|(_, peak)| peak).max();
    crew.end()?;

    let done = after.published - before.published;
    let (cpu, fhe) = (after.cpu - before.cpu, after.fhe - before.fhe);
    let outside = 1.0 - fhe / cpu;
    Ok(Finding {
        lines: vec![
            (
                "real ciphertexts".to_owned(),
                format!("{:.2} transfers/s, {:.3} s of the worker's CPU each", done / seconds, cpu / done),
            ),
            (
                "outside of FHE".to_owned(),
                format!("{:.1} % of the worker's CPU time", 100.0 * outside),
            ),
            (
                "keeping order".to_owned(),
                format!(
                    "{:.1} % of it, by the engine's threads",
                    100.0 * (after.scheduling - before.scheduling) / cpu
                ),
            ),
            ("worker's largest memory".to_owned(), memory.map_or_else(String::new, megabytes)),
            (
                "checked".to_owned(),
                format!("{} results, by decryption: all right", ledger.values().len()),
            ),
        ],
        json: json!({
            "parameters": keys.parameters().name(),
            "transfers": done,
            "transfers_per_second": done / seconds,
            "cpu_seconds_per_transfer": cpu / done,
            "cpu_outside_fhe": outside,
            "cpu_scheduling": (after.scheduling - before.scheduling) / cpu,
            "worker_peak_memory_bytes": memory,
            "results_checked": ledger.values().len(),
        }),
    })
}

/// Asks for the same values under names of their own, a transaction for each.
fn taken_over(inputs: &[Value], seed: u64, client: &TenantClient) -> (AsyncComputeRequest, Vec<Value>) {
    // Names must not be those of the traffic that follows.
    let mut random = Random::from_seed(!seed);
    let (mut computations, mut values) = (Vec::new(), Vec::new());
    for input in inputs {
        let mut transaction = Transaction::new(&mut random, client.tenant().chain_id);
        transaction.binary_scalar(FheOperation::FheBitOr, input, U256::ZERO);
        let (asked, results) = transaction.finish();
        computations.extend(asked);
        values.extend(results);
    }
    (AsyncComputeRequest { computations }, values)
}

/// What the worker has done so far.
struct Reading {
    published: f64,
    cpu: f64,
    fhe: f64,
    scheduling: f64,
}

impl Reading {
    fn take(crew: &Crew) -> Result<Self> {
        Ok(Self {
            published: crew.metric("coprocessor_work_items_processed")?,
            cpu: crew.metric("process_cpu_seconds_total")?,
            fhe: crew.metric("coprocessor_engine_fhe_cpu_seconds_total")?,
            scheduling: crew.metric("coprocessor_engine_scheduling_cpu_seconds_total")?,
        })
    }
}
