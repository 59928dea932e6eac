//! The coprocessor backend at full scale: crash tests on real processes, then the load test tool, and a table of the bars.
//!
//! PostgreSQL is a private server of this run, and keys are kept in the cache of this project. The tests assert; what they report stands in the table next to
//! their result. Times are never asserted: they are printed next to their bar, for whoever knows what else the machine was doing.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context, Result, bail};
use cipherloom_private_postgres::PrivatePostgres;
use serde_json::Value;

use crate::{
    bars::{self, Line, Scale},
    command::{cache, cargo, program},
    e2e_sdk, postgres,
};

/// The integration tests of the backend: crashes, and every option of the command line.
const TESTS: [(&str, &str); 2] = [
    ("coprocessor", "everything accepted is present, right, once"),
    ("coprocessor_options", "every option does what it says"),
];

/// What the server for measurements has beyond the defaults, as `docs/database.md` advises. Like all private servers it does not wait for the disk.
const MEASURED_SETTINGS: [&str; 2] = ["shared_buffers = 1GB", "max_wal_size = 4GB"];

/// Runs everything and prints the table.
///
/// # Errors
/// If PostgreSQL cannot be had, something does not build, a benchmark fails, or a bar that is no time is missed.
pub(crate) fn run(scale: Scale, binary: Option<PathBuf>) -> Result<()> {
    let server = postgres::start()?;
    let mut lines = Vec::new();
    for (test, bar) in TESTS {
        lines.extend(run_tests(scale, &server, test, bar)?);
    }
    let binary = binary.map_or_else(e2e_sdk::build, Ok)?;
    // As an operator would set one up for this machine; tests get by with less.
    let measured = PrivatePostgres::start_with(&MEASURED_SETTINGS).context("cannot start PostgreSQL for measurements")?;
    let on_postgres = bench(scale, &binary, Some(&measured.create_database()?))?;
    drop(measured);
    // What is measured is printed at once: it took long, and what comes next may fail.
    lines.extend(bars::show(figures("PostgreSQL", &on_postgres, "20 ms")));
    let embedded = bench(scale, &binary, None)?;
    lines.extend(bars::show(figures("SQLite", &embedded, "5 ms")));
    bars::print(lines)
}

/// Runs an integration test and collects what it reports.
fn run_tests(scale: Scale, server: &PrivatePostgres, test: &str, bar: &str) -> Result<Vec<Line>> {
    let (name, directory) = postgres::environment(server);
    let mut command = cargo(&["test", "--release", "--locked", "--package", "cipherloom", "--test", test]);
    // One after the other: they share the machine with nobody then, and print their figures on lines of their own.
    command.args(["--", "--test-threads=1", "--nocapture"]);
    command.env(name, directory);
    scale.tell(&mut command);
    bars::test(bar, &format!("cargo test --package cipherloom --test {test}"), command)
}

/// Runs the load test tool on PostgreSQL or embedded, and returns what it found.
fn bench(scale: Scale, binary: &std::path::Path, database_url: Option<&str>) -> Result<Value> {
    let keys = cache().join("e2e-keys").join("production");
    let mut command = program(binary, &["bench", "coprocessor", "--json", "--keys"]);
    command.arg(keys);
    let sizes = match (scale, database_url) {
        (Scale::Full, Some(_)) => ["--rows", "2000000", "--window", "200000", "--transactions", "20000"],
        (Scale::Full, None) => ["--rows", "500000", "--window", "100000", "--transactions", "5000"],
        (Scale::Reduced, _) => ["--rows", "50000", "--window", "20000", "--transactions", "500"],
    };
    command.args(sizes);
    if let Some(url) = database_url {
        command.env("CIPHERLOOM_BENCH_DATABASE_URL", url);
    }
    println!("+ bench coprocessor {}", sizes.join(" "));
    let output = command.stderr(Stdio::inherit()).output().context("cannot start the benchmark")?;
    if !output.status.success() {
        bail!("the benchmark failed: {}", output.status);
    }
    serde_json::from_slice(&output.stdout).context("the benchmark printed no JSON")
}

/// Puts the times of a database next to their bars.
fn figures(name: &str, report: &Value, wake_up: &str) -> Vec<Line> {
    let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let rate = |size: &str| number(&format!("/ingestion/{size}/computations_per_second"));
    let rows = |size: &str| number(&format!("/ingestion/{size}/rows"));
    let line = |bar: String, value: String| Line::measured(&format!("{name}: {bar}"), value);
    vec![
        line(
            "ingestion, bar 20,000/s (PostgreSQL)".to_owned(),
            format!(
                "{:.0}/s at {:.0} rows, {:.0}/s at {:.0}",
                rate("small"),
                rows("small"),
                rate("large"),
                rows("large")
            ),
        ),
        line(
            "time each, large by small, bar 1".to_owned(),
            format!("{:.2}", number("/ingestion/time_ratio")),
        ),
        line(
            format!("wake-up, median, bar {wake_up}"),
            format!(
                "{:.2} ms from the request, {:.2} ms from the answer",
                number("/latency/ms_from_request/median"),
                number("/latency/ms_from_answer/median")
            ),
        ),
        line(
            "throughput on plaintext".to_owned(),
            format!("{:.0} transactions/s", number("/throughput/transactions_per_second")),
        ),
        line(
            "outside of FHE, bar 5 %".to_owned(),
            format!("{:.1} %", 100.0 * number("/fhe/cpu_outside_fhe")),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_is_missing_is_no_number() {
        let lines = figures("SQLite", &serde_json::json!({"fhe": {"cpu_outside_fhe": 0.031}}), "5 ms");
        assert_eq!(lines.len(), 5);
        assert!(lines.iter().any(|line| line.value() == "3.1 %"));
        assert!(lines.iter().any(|line| line.value() == "NaN"));
    }
}
