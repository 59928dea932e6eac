//! `cipherloom bench coprocessor`: the coprocessor backend as a whole, from a node's request to the ciphertext that it fetches.
//!
//! Servers and workers are processes of their own, as operators run them: this binary, started on a private database. What they are asked for, and
//! what must come out, is the traffic of the crate `load`; every result that is fetched is decrypted and compared. With `--server` a deployment
//! that runs already is asked instead.
//!
//! * [`ingestion`]: how fast computations are accepted, and whether a larger table makes it slower.
//! * [`latency`]: how long an idle worker takes to begin with what was just committed.
//! * [`throughput`]: transactions from a backlog, on plaintext, so that everything but encryption is measured.
//! * [`saturation`]: where a worker's CPU time goes on real ciphertexts.

mod ingestion;
mod latency;
mod options;
mod place;
mod saturation;
mod throughput;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

pub(crate) use self::options::CoprocessorBenchOptions;
use self::{
    options::Measure,
    place::{Place, Running},
};

/// What one measurement has to say.
struct Finding {
    /// For programs.
    json: Value,
    /// For people: lines of a name and what is to be said about it.
    lines: Vec<(String, String)>,
}

/// Measures and prints.
///
/// # Errors
/// If anything fails, or a result is wrong.
pub(crate) fn run(options: &CoprocessorBenchOptions) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(measure_all(options))
}

async fn measure_all(options: &CoprocessorBenchOptions) -> Result<()> {
    let place = Place::prepare(options)?;
    if options.json {
        eprintln!("seed {}", options.seed);
    } else {
        println!("bench coprocessor on {}, seed {}", place.describe(), options.seed);
    }
    let mut report = Map::new();
    report.insert("bench".to_owned(), json!("coprocessor"));
    report.insert("database".to_owned(), json!(place.describe()));
    report.insert("seed".to_owned(), json!(options.seed));
    for measure in options.measures() {
        let finding = match (measure, place.running()) {
            (Measure::Ingestion, _) => Box::pin(ingestion::measure(options, &place)).await,
            (Measure::Throughput, _) => Box::pin(throughput::measure(options, &place)).await,
            (Measure::Latency, Running::Ours) => Box::pin(latency::measure(options, &place)).await,
            (Measure::Fhe, Running::Ours) => Box::pin(saturation::measure(options, &place)).await,
            (Measure::Latency | Measure::Fhe, Running::Given(_)) => {
                bail!(
                    "{} is measured inside of the processes; it cannot be measured of a deployment that runs elsewhere",
                    measure.name()
                )
            }
        };
        place.clear()?;
        let finding = finding.with_context(|| format!("cannot measure {}", measure.name()))?;
        if !options.json {
            println!();
            for (name, text) in &finding.lines {
                println!("{name:<28} {text}");
            }
        }
        report.insert(measure.name().to_owned(), finding.json);
    }
    if options.json {
        println!("{}", Value::Object(report));
    }
    Ok(())
}

/// Returns a bar of so many steps, on a terminal only.
fn bar(steps: u64, what: &'static str) -> indicatif::ProgressBar {
    let style = indicatif::ProgressStyle::with_template("  {msg}  [{bar:32}] {percent:>3} %  {elapsed_precise}")
        .unwrap_or_else(|_| indicatif::ProgressStyle::default_bar())
        .progress_chars("=> ");
    indicatif::ProgressBar::new(steps).with_style(style).with_message(what)
}

/// Returns a count as a number to calculate with.
#[expect(clippy::cast_precision_loss, reason = "counts of some millions")]
const fn float(count: usize) -> f64 {
    count as f64
}

/// Writes bytes in megabytes.
fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}
