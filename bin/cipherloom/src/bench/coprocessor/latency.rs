//! From a request to the begin of its computation by an idle worker.
//!
//! When a transaction began is in the worker's log: the line that says it is published has the time, and how long the worker had it. The clocks of
//! all processes here are one. What is counted begins when the request is sent, and so includes its way to the server, its checks and its commit; the
//! time since the answer is given too, and is that since the commit but for the answer's way back.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use cipherloom_load::{Ledger, Process, Role, Shape, Traffic};
use serde_json::{Value, json};

use super::{Finding, bar, options::CoprocessorBenchOptions, place::Place};

/// How long a transaction may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the worker is left idle between two requests, at least, so that it waits again.
const IDLE: Duration = Duration::from_millis(30);

/// Measures the time to wake up.
///
/// # Errors
/// If a process fails, its log cannot be read, or a result is wrong.
pub(super) async fn measure(options: &CoprocessorBenchOptions, place: &Place) -> Result<Finding> {
    let keys = place.clear_keys();
    let (deployment, tenant) = place.tenant("latency", keys.directory())?;
    let processes: Vec<Process> = if place.is_embedded() {
        vec![deployment.start(Role::Both, &["--log-json"])?]
    } else {
        vec![
            deployment.start(Role::Server, &[])?,
            deployment.start(Role::Worker, &["--log-json"])?,
        ]
    };
    let (Some(server), Some(worker)) = (processes.first(), processes.last()) else {
        bail!("there is no process");
    };
    let client = place.client(Some(server), tenant)?;
    let mut traffic = Traffic::of_shapes(options.seed, client.tenant().chain_id, &[Shape::Single]);
    let mut ledger = Ledger::default();
    let progress = bar(u64::from(options.wakeups), "latency");
    let (mut since_request, mut since_answer) = (Vec::new(), Vec::new());
    // The first few make connections and read keys; they are not counted.
    const UNCOUNTED: usize = 3;
    for number in 0..usize::try_from(options.wakeups)? + UNCOUNTED {
        tokio::time::sleep(IDLE).await;
        let batch = traffic.batch(1);
        let sent = now()?;
        client.compute(&batch.request).await?;
        let answered = now()?;
        ledger.accepted(batch.results);
        let started = start_of(worker, number).await?;
        if number >= UNCOUNTED {
            since_request.push((started - sent) * 1000.0);
            since_answer.push((started - answered) * 1000.0);
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    client.await_all(&mut ledger, keys.decryptor()?.as_ref(), PATIENCE).await?;
    for process in processes {
        process.terminate(PATIENCE)?;
    }
    let (request, answer) = (Spread::of(since_request), Spread::of(since_answer));
    Ok(Finding {
        lines: vec![
            ("wake-up, from the request".to_owned(), request.describe()),
            ("wake-up, from the answer".to_owned(), answer.describe()),
        ],
        json: json!({
            "wakeups": options.wakeups,
            "ms_from_request": request.json(),
            "ms_from_answer": answer.json(),
        }),
    })
}

/// The middle of many times, and how late the latest are. In milliseconds.
struct Spread {
    median: f64,
    p99: f64,
    largest: f64,
}

impl Spread {
    fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let at = |hundredths: usize| {
            times
                .get(times.len().saturating_sub(1) * hundredths / 100)
                .copied()
                .unwrap_or(f64::NAN)
        };
        Self {
            median: at(50),
            p99: at(99),
            largest: at(100),
        }
    }

    fn describe(&self) -> String {
        format!(
            "median {:.2} ms, 99 % below {:.2} ms, largest {:.2} ms",
            self.median, self.p99, self.largest
        )
    }

    fn json(&self) -> Value {
        json!({ "median": self.median, "p99": self.p99, "largest": self.largest })
    }
}

/// Returns the seconds since the Unix epoch.
fn now() -> Result<f64> {
    Ok(SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock is before 1970")?
        .as_secs_f64())
}

/// Waits until the worker's log says that so many transactions and one more are published, and returns when the last one began.
async fn start_of(worker: &Process, before: usize) -> Result<f64> {
    let clock = Instant::now();
    while clock.elapsed() < PATIENCE {
        let log = worker.log();
        if let Some(line) = log.lines().filter(|line| line.contains("\"published\"")).nth(before) {
            return began(line).with_context(|| format!("the worker's log has a line of another form: {line}"));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    bail!("the worker has published {before} transactions and not one more within {PATIENCE:?}")
}

/// Returns when the transaction of a line began, in seconds since the Unix epoch.
fn began(line: &str) -> Option<f64> {
    let line: Value = serde_json::from_str(line).ok()?;
    let published = line.get("timestamp")?.as_str().and_then(unix_seconds)?;
    let field = |name: &str| line.get(name).or_else(|| line.get("fields")?.get(name));
    Some(published - field("seconds")?.as_f64()?)
}

/// Reads a time such as `2026-01-31T12:00:00.123456Z`.
fn unix_seconds(text: &str) -> Option<f64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let mut time = time.splitn(3, ':');
    let (hours, minutes): (i64, i64) = (time.next()?.parse().ok()?, time.next()?.parse().ok()?);
    let seconds: f64 = time.next()?.parse().ok()?;
    // Years begin in March, so that the day that leap years add is the last one.
    let shifted = if month > 2 { year } else { year - 1 };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 + day_of_year - 719_468;
    #[expect(clippy::cast_precision_loss, reason = "some billions")]
    let whole = (days * 86_400 + hours * 3_600 + minutes * 60) as f64;
    Some(whole + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_logs_are_read() {
        assert_eq!(unix_seconds("1970-01-01T00:00:00.5Z"), Some(0.5));
        assert_eq!(unix_seconds("2000-02-29T23:59:59Z"), Some(951_868_799.0));
        assert_eq!(unix_seconds("2026-11-21T03:30:21.25Z"), Some(1_795_231_821.25));
        assert_eq!(unix_seconds("yesterday"), None);
    }

    #[test]
    fn a_transaction_began_as_long_before_its_line_as_the_line_says() {
        let line = r#"{"timestamp":"1970-01-01T00:00:10.5Z","level":"INFO","fields":{"message":"published","seconds":0.25}}"#;
        assert_eq!(began(line), Some(10.25));
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let spread = Spread::of((0..=100).rev().map(f64::from).collect());
        assert_eq!((spread.median, spread.p99, spread.largest), (50.0, 99.0, 100.0));
    }
}
