//! Transactions from a backlog, on plaintext: everything but encryption.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use cipherloom_load::{Ledger, Process, Role, TenantClient, Traffic};
use serde_json::json;

use super::{
    Finding, bar, float, megabytes,
    options::CoprocessorBenchOptions,
    place::{Crew, Look, Place, Running},
};

/// How many transactions go into a request.
const TOGETHER: usize = 100;

/// How often workers are asked how far they are.
const LOOK: Look = Look(Duration::from_millis(50));

/// How long no result may appear.
const STALL: Duration = Duration::from_secs(300);

/// Sends the opening and so many transactions. Returns how many there are then.
async fn feed(client: &TenantClient, traffic: &mut Traffic, ledger: &mut Ledger, transactions: usize) -> Result<usize> {
    let opening = traffic.opening();
    let mut sent = opening.transactions;
    client.compute(&opening.request).await?;
    ledger.accepted(opening.results);
    let mut left = transactions;
    while left > 0 {
        let batch = traffic.batch(left.min(TOGETHER));
        client.compute(&batch.request).await?;
        left -= batch.transactions;
        sent += batch.transactions;
        ledger.accepted(batch.results);
    }
    Ok(sent)
}

/// Measures how fast the backlog becomes results.
///
/// # Errors
/// If a process fails, or a result is wrong.
pub(super) async fn measure(options: &CoprocessorBenchOptions, place: &Place) -> Result<Finding> {
    match place.running() {
        Running::Ours => of_our_workers(options, place).await,
        Running::Given(tenant) => {
            let client = place.client(None, Arc::clone(tenant))?;
            of_a_deployment(options, place, &client).await
        }
    }
}

async fn of_our_workers(options: &CoprocessorBenchOptions, place: &Place) -> Result<Finding> {
    let keys = place.clear_keys();
    let (deployment, tenant) = place.tenant("throughput", keys.directory())?;
    let server = deployment.start(Role::Server, &[])?;
    let client = place.client(Some(&server), Arc::clone(&tenant))?;
    let mut traffic = Traffic::new(options.seed, tenant.chain_id);
    let mut ledger = Ledger::default();
    let sent = feed(&client, &mut traffic, &mut ledger, usize::try_from(options.transactions)?).await?;
    let progress = bar(u64::try_from(sent)?, "throughput");
    let start = Instant::now();
    let mut crew = Crew::start(&deployment, server, options.workers, place.is_embedded(), &[])?;
    // The first results are those of reading keys and opening connections too.
    crew.until_published(1.0, LOOK, &progress).await?;
    let (started, first) = (start.elapsed(), crew.metric("coprocessor_work_items_processed")?);
    let (clock, cpu) = (Instant::now(), crew.metric("process_cpu_seconds_total")?);
    crew.until_published(float(sent), LOOK, &progress).await?;
    let (seconds, cpu) = (clock.elapsed().as_secs_f64(), crew.metric("process_cpu_seconds_total")? - cpu);
    progress.finish_and_clear();
    let transactions = float(sent) - first;
    let client = match crew.server() {
        Some(server) => place.client(Some(server), tenant)?,
        None => client,
    };
    client.await_all(&mut ledger, keys.decryptor()?.as_ref(), STALL).await?;
    let memory = crew.workers.iter().filter_map(Process::memory).map(|(_, peak)| peak).max();
    let workers = crew.workers.len();
    crew.end()?;
    let (rate, cpu_ms) = (transactions / seconds, cpu * 1000.0 / transactions);
    Ok(Finding {
        lines: vec![
            (
                "throughput, on plaintext".to_owned(),
                format!(
                    "{rate:.0} transactions/s with {workers} worker processes, {:.0} results/s",
                    rate * float(ledger.values().len()) / float(sent)
                ),
            ),
            ("workers' CPU".to_owned(), format!("{cpu_ms:.2} ms per transaction")),
            ("workers' largest memory".to_owned(), memory.map_or_else(String::new, megabytes)),
            ("checked".to_owned(), format!("{} results: all right", ledger.values().len())),
        ],
        json: json!({
            "transactions": sent,
            "workers": workers,
            "transactions_per_second": rate,
            "worker_cpu_ms_per_transaction": cpu_ms,
            "seconds_to_first_result": started.as_secs_f64(),
            "worker_peak_memory_bytes": memory,
            "results_checked": ledger.values().len(),
        }),
    })
}

/// From the first request to the last result that can be fetched, as a client sees it.
async fn of_a_deployment(options: &CoprocessorBenchOptions, place: &Place, client: &TenantClient) -> Result<Finding> {
    let mut traffic = Traffic::new(options.seed, client.tenant().chain_id);
    let mut ledger = Ledger::default();
    let start = Instant::now();
    let sent = feed(client, &mut traffic, &mut ledger, usize::try_from(options.transactions)?).await?;
    let accepted = start.elapsed().as_secs_f64();
    let decryptor = place.given_decryptor()?;
    let checked = match &decryptor {
        Some(decryptor) => {
            client.await_all(&mut ledger, decryptor.as_ref(), STALL).await?;
            ledger.values().len()
        }
        None => {
            client.await_present(ledger.values(), STALL).await?;
            0
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    let rate = float(sent) / seconds;
    Ok(Finding {
        lines: vec![
            (
                "throughput, end to end".to_owned(),
                format!("{rate:.1} transactions/s, all accepted after {accepted:.1} s"),
            ),
            (
                "results".to_owned(),
                format!("{}, of which {checked} were decrypted and are right", ledger.values().len()),
            ),
        ],
        json: json!({
            "transactions": sent,
            "transactions_per_second": rate,
            "seconds_to_accept": accepted,
            "results": ledger.values().len(),
            "results_checked": checked,
        }),
    })
}
