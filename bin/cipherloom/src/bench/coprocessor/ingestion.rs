//! How fast a server accepts computations, and whether it gets slower as the tables grow.
//!
//! Nothing computes meanwhile, so that the tables hold everything that was ever accepted, and pending.

use std::{sync::Arc, time::Instant};

use anyhow::{Context, Result};
use cipherloom_load::{Batch, Process, Role, TenantClient, Traffic};
use serde_json::json;

use super::{
    Finding, bar, float,
    options::CoprocessorBenchOptions,
    place::{Place, Running},
};

/// The size of the tables at the first rate.
const SMALL: usize = 10_000;

/// About how many computations a transaction of mixed traffic has.
const COMPUTATIONS_EACH: usize = 8;

/// Requests of one client after the other; several are independent of each other.
struct Stream {
    client: TenantClient,
    traffic: Traffic,
    transactions: usize,
}

impl Stream {
    fn batch(&mut self) -> Batch {
        self.traffic.batch(self.transactions)
    }

    /// Makes requests with about so many computations. Making them is not what is measured.
    fn requests(&mut self, computations: usize) -> Vec<Batch> {
        let mut batches = Vec::new();
        let mut made = 0;
        while made < computations {
            let batch = self.batch();
            made += batch.request.computations.len();
            batches.push(batch);
        }
        batches
    }

    async fn send(&self, batches: Vec<Batch>) -> Result<usize> {
        let mut accepted = 0;
        for batch in batches {
            self.client.compute(&batch.request).await?;
            accepted += batch.request.computations.len();
        }
        Ok(accepted)
    }
}

/// Sends so many computations over all streams, and returns how many they were and the seconds they took.
async fn send(streams: &mut [Stream], computations: usize) -> Result<(usize, f64)> {
    let each = computations.div_ceil(streams.len().max(1));
    let work: Vec<Vec<Batch>> = streams.iter_mut().map(|stream| stream.requests(each)).collect();
    let start = Instant::now();
    let sent = streams.iter().zip(work).map(|(stream, batches)| stream.send(batches));
    let accepted = futures_util::future::try_join_all(sent).await?.into_iter().sum();
    Ok((accepted, start.elapsed().as_secs_f64()))
}

/// What a rate was, and what it cost the server.
struct Rate {
    rows: usize,
    per_second: f64,
    server_cpu_us: Option<f64>,
}

async fn rate(streams: &mut [Stream], server: Option<&Process>, rows: &mut usize, window: usize) -> Result<Rate> {
    let cpu = || server.map(|server| server.metric("process_cpu_seconds_total")).transpose();
    let (at, before) = (*rows, cpu()?);
    let (accepted, seconds) = send(streams, window).await?;
    *rows += accepted;
    let after = cpu()?;
    Ok(Rate {
        rows: at,
        per_second: float(accepted) / seconds,
        server_cpu_us: before.zip(after).map(|(before, after)| (after - before) * 1e6 / float(accepted)),
    })
}

/// Measures the rate at both sizes.
///
/// # Errors
/// If the server refuses, or a process fails.
pub(super) async fn measure(options: &CoprocessorBenchOptions, place: &Place) -> Result<Finding> {
    let (server, tenant) = match place.running() {
        Running::Given(tenant) => (None, Arc::clone(tenant)),
        Running::Ours => {
            let (deployment, tenant) = place.tenant("ingestion", place.clear_keys().directory())?;
            (Some(deployment.start(Role::Server, &[])?), tenant)
        }
    };
    let (rows, window) = (usize::try_from(options.rows)?, usize::try_from(options.window)?);
    let transactions = usize::try_from(options.batch)?.div_ceil(COMPUTATIONS_EACH);
    let mut streams = Vec::new();
    let mut accepted = 0;
    for number in 0..u64::from(options.concurrency) {
        let client = place.client(server.as_ref(), Arc::clone(&tenant))?;
        let mut traffic = Traffic::new(options.seed.wrapping_add(number << 32), tenant.chain_id);
        let opening = traffic.opening();
        client.compute(&opening.request).await?;
        accepted += opening.request.computations.len();
        streams.push(Stream {
            client,
            traffic,
            transactions,
        });
    }
    let progress = bar(u64::from(options.rows), "ingestion");
    while accepted < SMALL {
        accepted += send(&mut streams, SMALL - accepted).await?.0;
    }
    let small = rate(&mut streams, server.as_ref(), &mut accepted, window).await?;
    while accepted < rows {
        progress.set_position(u64::try_from(accepted)?);
        accepted += send(&mut streams, window.min(rows - accepted)).await?.0;
    }
    let large = rate(&mut streams, server.as_ref(), &mut accepted, window).await?;
    progress.finish_and_clear();
    let memory = server.as_ref().and_then(Process::memory).map(|(_, peak)| peak);
    if let Some(server) = server {
        server
            .terminate(std::time::Duration::from_secs(60))
            .context("the server did not end well")?;
    }
    let ratio = small.per_second / large.per_second;
    let line = |rate: &Rate| {
        let cpu = rate
            .server_cpu_us
            .map_or_else(String::new, |us| format!(", {us:.1} µs of the server's CPU each"));
        format!("{:.0} computations/s{cpu}", rate.per_second)
    };
    Ok(Finding {
        lines: vec![
            (format!("ingestion at {}", small.rows), line(&small)),
            (format!("ingestion at {}", large.rows), line(&large)),
            ("time each, large by small".to_owned(), format!("{ratio:.2}")),
        ],
        json: json!({
            "batch": options.batch,
            "concurrency": options.concurrency,
            "window": options.window,
            "small": { "rows": small.rows, "computations_per_second": small.per_second, "server_cpu_us_each": small.server_cpu_us },
            "large": { "rows": large.rows, "computations_per_second": large.per_second, "server_cpu_us_each": large.server_cpu_us },
            "time_ratio": ratio,
            "server_peak_memory_bytes": memory,
        }),
    })
}
