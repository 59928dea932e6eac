//! `cipherloom bench gateway`: a whole stack under load. Nothing may be lost.
//!
//! So many clients at once ask for public decryptions as jobs, each a new one as soon as it has its answer, while others poll jobs at a fixed rate, those
//! that are done included, as many SDKs would. Every answer is compared with the value. Requests that get no answer, or a wrong one, count as lost, and the
//! command fails. The clients run in this process and take their share of its CPU time.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use cipherloom_primitives::Handle;
use clap::Args;
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};

use super::{
    clock,
    decryptable::{Decryptable, Route, check_public, job_id, public_body},
    ground::Ground,
    latency::Latencies,
    options::CommonOptions,
};

const OPERATION: &str = "public-decrypt";

/// How many values a request asks for: of 16 handles there are tens of thousands of such lists.
const VALUES: usize = 4;

/// How many jobs are kept in mind for polling.
const REMEMBERED_JOBS: usize = 2000;

/// How long a client waits between polls for its own answer: what the gateway asks SDKs for would measure their pause.
const OWN_PAUSE: Duration = Duration::from_millis(100);

/// How long a request may take before it is lost.
const LOST_AFTER: Duration = Duration::from_secs(60);

/// Options of `gateway`.
#[derive(Clone, Debug, Args)]
pub(crate) struct GatewayOptions {
    /// How many requests are under way at the same time.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) concurrent: u16,

    /// How many polls per second others send.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) polls_per_second: u32,

    /// For how long.
    #[arg(long, value_name = "S", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,

    /// How many values there are to ask for.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(8..=256))]
    pub(crate) handles: u16,

    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

/// What happened.
#[derive(Default)]
struct Tally {
    accepted: AtomicUsize,
    answered: AtomicUsize,
    /// Requests without an answer, or with a wrong one.
    lost: AtomicUsize,
    polls: AtomicUsize,
    /// Polls that failed.
    lost_polls: AtomicUsize,
    /// What went wrong first.
    complaint: Mutex<Option<String>>,
    answers: Mutex<Latencies>,
    poll_times: Mutex<Latencies>,
    jobs: Mutex<VecDeque<String>>,
}

impl Tally {
    fn complain(&self, count: &AtomicUsize, error: &anyhow::Error) {
        count.fetch_add(1, Ordering::Relaxed);
        held(&self.complaint).get_or_insert_with(|| format!("{error:#}"));
    }
}

fn held<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is whole whenever they are free.
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Measures and prints.
///
/// # Errors
/// If anything fails, or a request or poll was lost.
pub(crate) fn run(options: &GatewayOptions) -> Result<()> {
    let ground = Ground::prepare(&options.common)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(Box::pin(async {
        let stack = Arc::new(Box::pin(Decryptable::prepare(&ground, options.handles)).await?);
        clock::forget_peak_memory();
        let tally = Arc::new(Tally::default());
        let start = Instant::now();
        load(&stack, &tally, options).await?;
        let seconds = start.elapsed().as_secs_f64();
        if let Ok(stack) = Arc::try_unwrap(stack) {
            stack.stack.shutdown().await;
        }
        report(&ground, &tally, options, seconds)
    }))
}

async fn load(stack: &Arc<Decryptable>, tally: &Arc<Tally>, options: &GatewayOptions) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..options.concurrent {
        let (stack, tally, next) = (Arc::clone(stack), Arc::clone(tally), Arc::clone(&next));
        clients.spawn(async move {
            while Instant::now() < end {
                let values = nth_list(&stack.public, next.fetch_add(1, Ordering::Relaxed));
                let asked = tokio::time::timeout(LOST_AFTER, ask(&stack, &tally, &values)).await;
                match asked.context("no answer").and_then(|answered| answered) {
                    Ok(()) => {}
                    Err(error) => tally.complain(&tally.lost, &error),
                }
            }
        });
    }
    clients.spawn(poll_at_a_rate(Arc::clone(stack), Arc::clone(tally), options.polls_per_second, end));
    while let Some(ended) = clients.join_next().await {
        ended.context("a client ended with a panic")?;
    }
    Ok(())
}

/// Asks for values until they are there.
async fn ask(stack: &Decryptable, tally: &Tally, values: &[(Handle, u64)]) -> Result<()> {
    let start = Instant::now();
    let job = job_id(&stack.post(&format!("v2/{OPERATION}"), &public_body(values, &[0])).await?)?;
    tally.accepted.fetch_add(1, Ordering::Relaxed);
    {
        let mut jobs = held(&tally.jobs);
        jobs.push_back(job.clone());
        if jobs.len() > REMEMBERED_JOBS {
            jobs.pop_front();
        }
    }
    loop {
        if let Some(answer) = stack.poll(OPERATION, &job).await? {
            let took = start.elapsed();
            check_public(Route::Jobs, &answer, values)?;
            tally.answered.fetch_add(1, Ordering::Relaxed);
            held(&tally.answers).add(took);
            return Ok(());
        }
        tokio::time::sleep(OWN_PAUSE).await;
    }
}

/// Polls jobs of all ages, at a fixed rate whether the last poll was answered or not.
async fn poll_at_a_rate(stack: Arc<Decryptable>, tally: Arc<Tally>, per_second: u32, end: Instant) {
    // Timers have a resolution of a millisecond: several polls at each tick.
    let each_tick = per_second.div_ceil(200);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) * each_tick / per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut polls, mut number) = (JoinSet::new(), 0usize);
    while Instant::now() < end {
        ticks.tick().await;
        for _ in 0..each_tick {
            number = number.wrapping_add(1);
            let job = {
                let jobs = held(&tally.jobs);
                let count = jobs.len().max(1);
                jobs.get(number.wrapping_mul(7919) % count).cloned()
            };
            let Some(job) = job else { continue };
            let (stack, tally) = (Arc::clone(&stack), Arc::clone(&tally));
            polls.spawn(async move {
                let start = Instant::now();
                let polled = tokio::time::timeout(LOST_AFTER, stack.poll(OPERATION, &job)).await;
                match polled.context("no answer to a poll").and_then(|polled| polled) {
                    Ok(_) => {
                        tally.polls.fetch_add(1, Ordering::Relaxed);
                        held(&tally.poll_times).add(start.elapsed());
                    }
                    Err(error) => tally.complain(&tally.lost_polls, &error),
                }
            });
        }
        while polls.try_join_next().is_some() {}
    }
    // A poll that panicked was not counted, and is one of those that are missing.
    while polls.join_next().await.is_some() {}
}

/// Returns one of the many lists of distinct values; as long as there are that many, another one for each number.
fn nth_list(values: &[(Handle, u64)], number: usize) -> Vec<(Handle, u64)> {
    let (mut left, mut number) = (values.to_vec(), number);
    let mut list = Vec::with_capacity(VALUES);
    while list.len() < VALUES && !left.is_empty() {
        let index = number % left.len();
        number /= left.len();
        list.push(left.remove(index));
    }
    list
}

fn report(ground: &Ground, tally: &Tally, options: &GatewayOptions, seconds: f64) -> Result<()> {
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    let (answered, polls) = (count(&tally.answered), count(&tally.polls));
    let (lost, lost_polls) = (count(&tally.lost), count(&tally.lost_polls));
    let (answers, poll_times) = (held(&tally.answers).clone(), held(&tally.poll_times).clone());
    let rate = |count: usize| per_second(count, seconds);
    let peak = clock::peak_memory();
    if options.common.json {
        let report = json!({
            "bench": "gateway",
            "parameters": ground.parameters().name(),
            "insecure": !ground.parameters().is_secure(),
            "concurrent": options.concurrent,
            "values_per_request": VALUES,
            "seconds": seconds,
            "requests": { "accepted": count(&tally.accepted), "answered": answered, "lost": lost, "per_second": rate(answered), "latency": answers.json() },
            "polls": { "answered": polls, "lost": lost_polls, "per_second": rate(polls), "wanted_per_second": options.polls_per_second, "latency": poll_times.json() },
            "peak_memory_bytes": peak,
        });
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!(
            "bench gateway, parameters {}: {} requests of {VALUES} values under way, {} polls per second, {seconds:.1} s, clients in the same process\n",
            ground.parameters(),
            options.concurrent,
            options.polls_per_second
        );
        println!(
            "{:<12} {:>10} {:>8} {:>12} {:>10} {:>10} {:>10}",
            "", "answered", "lost", "per second", "p50 ms", "p95 ms", "p99 ms"
        );
        for (name, answered, lost, latencies) in [("decryptions", answered, lost, &answers), ("polls", polls, lost_polls, &poll_times)] {
            let [p50, p95, p99] = [50, 95, 99].map(|percent| latencies.percentile_ms(percent));
            println!(
                "{name:<12} {answered:>10} {lost:>8} {:>12.1} {p50:>10.1} {p95:>10.1} {p99:>10.1}",
                rate(answered)
            );
        }
        if let Some(peak) = peak {
            println!("\nlargest memory {} MB, keys and clients included", peak / 1_000_000);
        }
    }
    let complaint = held(&tally.complaint).clone().unwrap_or_default();
    ensure!(
        lost == 0 && lost_polls == 0,
        "{lost} requests and {lost_polls} polls were lost; the first: {complaint}"
    );
    ensure!(answered > 0, "nothing was answered");
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts of some millions")]
fn per_second(count: usize, seconds: f64) -> f64 {
    count as f64 / seconds
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use cipherloom_primitives::{B256, FheType};

    use super::*;

    #[test]
    fn lists_do_not_repeat_before_there_are_no_others() {
        let value = |tag: u8| (Handle::computed(B256::repeat_byte(tag), 31337, FheType::Uint64), u64::from(tag));
        let values: Vec<_> = (0..8).map(value).collect();
        let lists: HashSet<Vec<_>> = (0..8 * 7 * 6 * 5).map(|number| nth_list(&values, number)).collect();
        assert_eq!(lists.len(), 8 * 7 * 6 * 5);
        assert!(lists.iter().all(|list| list.iter().collect::<HashSet<_>>().len() == VALUES));
    }
}
