//! What a workload's measurement looks like, for people and for programs.

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::{
    ground::Ground,
    measurement::{Measurement, Side},
    options::{Baseline, WorkloadOptions},
};

/// Prints a measurement as the options ask, with an option that only this benchmark has.
///
/// # Errors
/// If the numbers cannot be written as JSON.
pub(crate) fn print(
    bench: &str,
    ground: &Ground,
    options: &WorkloadOptions,
    own: Option<(&str, &str)>,
    measurement: &Measurement,
) -> Result<()> {
    let figures = Figures::of(options, measurement);
    if options.common.json {
        let mut report = json_of(bench, ground, options, measurement, &figures)?;
        if let (Some(report), Some((name, value))) = (report.as_object_mut(), own) {
            report.insert(name.to_owned(), json!(value));
        }
        println!("{}", serde_json::to_string(&report)?);
    } else {
        let own = own.map_or_else(String::new, |(name, value)| format!(", {name} {value}"));
        print_table(bench, &own, ground, options, measurement, &figures)?;
    }
    Ok(())
}

/// What follows from a measurement.
struct Figures {
    bootstraps_each: f64,
    mean_batch: f64,
    /// What one transaction's bootstraps cost at the batched rate, in seconds.
    theory: f64,
    /// The part of our CPU time that was not spent in bootstraps; unknown if tfhe-rs did operations for us.
    outside: Option<f64>,
    scheduling: f64,
    /// tfhe-rs's CPU time and wall time in ours, per variant.
    ratios: Option<[(f64, f64); 2]>,
}

impl Figures {
    #[expect(clippy::cast_precision_loss, reason = "some millions")]
    fn of(options: &WorkloadOptions, measurement: &Measurement) -> Self {
        let ours = measurement.ours.each();
        let bootstraps_each = measurement.bootstraps as f64 / measurement.ours.transactions as f64;
        let outside = 1.0 - measurement.bootstrap_cpu.as_secs_f64() / measurement.ours.cost.cpu;
        let ratio = |side: Side| (side.each().cpu / ours.cpu, side.each().wall / ours.wall);
        Self {
            bootstraps_each,
            mean_batch: measurement.bootstraps as f64 / measurement.batches.max(1) as f64,
            theory: bootstraps_each * measurement.rate.batched_ms / 1000.0,
            outside: (measurement.whole_operations == 0).then_some(outside),
            scheduling: measurement.scheduling_cpu.as_secs_f64() / measurement.ours.cost.cpu,
            ratios: (options.compared.baseline == Baseline::TfheRs).then(|| measurement.direct.map(ratio)),
        }
    }
}

fn json_of(bench: &str, ground: &Ground, options: &WorkloadOptions, measurement: &Measurement, figures: &Figures) -> Result<Value> {
    let unit = options.workload.unit();
    let ours_each = measurement.ours.each();
    let mut ours = side_json(unit, measurement.ours);
    ours.insert("mean_batch".to_owned(), json!(figures.mean_batch));
    ours.insert("cpu_outside_bootstraps".to_owned(), json!(figures.outside));
    ours.insert("cpu_scheduling".to_owned(), json!(figures.scheduling));
    ours.insert("operations_left_to_tfhe_rs".to_owned(), json!(measurement.whole_operations));
    let mut report = json!({
        "bench": bench,
        "workload": options.workload.name(),
        "unit": unit,
        "parameters": ground.parameters().name(),
        "insecure": !ground.parameters().is_secure(),
        "threads": ground.threads,
        "schedule": options.schedule.name(),
        "rounds": measurement.rounds,
        "ours": ours,
        "theory": {
            "batch": ground.batch()?,
            "batched_bootstrap_cpu_ms": measurement.rate.batched_ms,
            "single_bootstrap_cpu_ms": measurement.rate.single_ms,
            format!("cpu_seconds_per_{unit}"): figures.theory,
            "ratio": ours_each.cpu / figures.theory,
        },
        "peak_memory_bytes": measurement.peak_memory,
        "results_checked": measurement.checked,
    });
    if let Some(report) = report.as_object_mut() {
        report.insert(format!("bootstraps_per_{unit}"), json!(figures.bootstraps_each));
        if let Some([(cpu, wall), (cpu_best, wall_best)]) = figures.ratios {
            for (name, side) in ["tfhe_rs", "tfhe_rs_best"].into_iter().zip(measurement.direct) {
                let mut json = side_json(unit, side);
                let equivalents = side.each().cpu * 1000.0 / measurement.rate.single_ms;
                json.insert(format!("bootstrap_equivalents_per_{unit}"), json!(equivalents));
                report.insert(name.to_owned(), json.into());
            }
            for (name, ratio) in [
                ("ratio", cpu),
                ("ratio_best", cpu_best),
                ("wall_ratio", wall),
                ("wall_ratio_best", wall_best),
            ] {
                report.insert(name.to_owned(), json!(ratio));
            }
        }
    }
    Ok(report)
}

fn side_json(unit: &str, side: Side) -> Map<String, Value> {
    let each = side.each();
    Map::from_iter([
        (format!("{unit}s"), json!(side.transactions)),
        (format!("cpu_seconds_per_{unit}"), json!(each.cpu)),
        (format!("wall_seconds_per_{unit}"), json!(each.wall)),
        (format!("{unit}s_per_second"), json!(1.0 / each.wall)),
        (format!("{unit}s_per_cpu_second"), json!(1.0 / each.cpu)),
    ])
}

fn print_table(
    bench: &str,
    own: &str,
    ground: &Ground,
    options: &WorkloadOptions,
    measurement: &Measurement,
    figures: &Figures,
) -> Result<()> {
    let (unit, parameters) = (options.workload.unit(), ground.parameters());
    println!(
        "bench {bench}, workload {}{own}: {} {unit}s in {}, {} threads, {}, parameters {parameters}{}",
        options.workload.name(),
        measurement.ours.transactions,
        plural(measurement.rounds, "round"),
        ground.threads,
        options.schedule.name(),
        if parameters.is_secure() {
            ""
        } else {
            " (INSECURE: only counts mean anything)"
        },
    );
    println!();
    println!(
        "{:<28} {:>12} {:>12} {:>12} {:>10}",
        "", "CPU s each", "wall s each", "per second", "CPU ratio"
    );
    let line = |name: &str, side: Side, ratio: Option<f64>| {
        let each = side.each();
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        println!(
            "{name:<28} {:>12.4} {:>12.4} {:>12.3} {ratio:>10}",
            each.cpu,
            each.wall,
            1.0 / each.wall
        );
    };
    line("Cipherloom", measurement.ours, None);
    if let Some(ratios) = figures.ratios {
        let names = ["tfhe-rs, as dApps write it", "tfhe-rs, its best functions"];
        for ((name, side), (cpu, _)) in names.into_iter().zip(measurement.direct).zip(ratios) {
            line(name, side, Some(cpu));
        }
    }
    println!();
    println!(
        "bootstraps per {unit:<12} {:>8.1}, in batches of {:.1} on average ({} preferred)",
        figures.bootstraps_each,
        figures.mean_batch,
        ground.batch()?
    );
    println!(
        "cost of one bootstrap       {:>8.3} ms of CPU in full batches; {:.3} ms one at a time as tfhe-rs does them",
        measurement.rate.batched_ms, measurement.rate.single_ms
    );
    println!(
        "sum of the bootstraps       {:>8.4} s of CPU per {unit} in full batches; ours is {:.2} times that",
        figures.theory,
        measurement.ours.each().cpu / figures.theory
    );
    match figures.outside {
        Some(outside) => println!(
            "CPU outside of bootstraps   {:>8.1} %, of which {:.1} % combine blocks and keep order",
            outside * 100.0,
            figures.scheduling * 100.0
        ),
        None => println!(
            "left to tfhe-rs             {:>8} operations without a kernel of ours",
            measurement.whole_operations
        ),
    }
    if let Some(peak) = measurement.peak_memory {
        println!(
            "largest memory              {:>8} MB, tfhe-rs's keys shared with ours",
            peak / 1_000_000
        );
    }
    println!(
        "checked                     {:>8} results, by decryption: all right",
        measurement.checked
    );
    Ok(())
}

fn plural(count: u32, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}
