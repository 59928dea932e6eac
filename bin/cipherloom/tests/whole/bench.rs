//! The benchmarks, on parameters on which they take a moment: what they print, what they count, and that they check their results.
#![cfg(feature = "insecure-development")]

use cipherloom_fhe::{KeySet, insecure_test_keys, insecure_test_keys_with_squashing};
use serde_json::Value;

use crate::process;

/// Runs a benchmark on toy parameters and returns what it printed.
fn run(arguments: &[&str]) -> String {
    run_on(&insecure_test_keys().unwrap(), arguments)
}

fn run_on(keys: &KeySet, arguments: &[&str]) -> String {
    let common = ["--parameters", "toy", "--keys", keys.directory().to_str().unwrap()];
    let output = process::run(&[&["bench"], arguments, &common].concat());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {errors}");
    assert!(errors.contains("INSECURE"), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let text = run(&[arguments, &["--json"]].concat());
    assert_eq!(text.lines().count(), 1, "--json prints one line: {text}");
    serde_json::from_str(&text).unwrap()
}

fn number(report: &Value, pointer: &str) -> f64 {
    report
        .pointer(pointer)
        .and_then(Value::as_f64)
        .unwrap_or_else(|| panic!("{pointer} is no number in {report}"))
}

/// Checks what every report of a workload has, next to tfhe-rs in both variants.
fn check_workload(report: &Value, unit: &str, transactions: u32, outputs: u32) {
    assert_eq!(report["unit"], unit, "{report}");
    assert_eq!(report["insecure"], true);
    assert_eq!(report["parameters"], "insecure-toy");
    assert_eq!(number(report, &format!("/ours/{unit}s")), f64::from(transactions));
    for side in ["ours", "tfhe_rs", "tfhe_rs_best"] {
        for figure in ["cpu_seconds_per", "wall_seconds_per"] {
            assert!(number(report, &format!("/{side}/{figure}_{unit}")) > 0.0, "{report}");
        }
    }
    let ratio = number(report, &format!("/tfhe_rs/cpu_seconds_per_{unit}")) / number(report, &format!("/ours/cpu_seconds_per_{unit}"));
    assert!((number(report, "/ratio") - ratio).abs() < 1e-9);
    for figure in [
        "/ratio_best",
        "/wall_ratio",
        "/wall_ratio_best",
        "/theory/ratio",
        "/theory/batched_bootstrap_cpu_ms",
    ] {
        assert!(number(report, figure) > 0.0, "{figure}");
    }
    assert!(number(report, "/ours/mean_batch") >= 1.0);
    let outside = number(report, "/ours/cpu_outside_bootstraps");
    assert!((0.0..1.0).contains(&outside), "{outside}");
    // All of ours, and two transactions before and after for each variant of tfhe-rs.
    assert_eq!(number(report, "/results_checked"), f64::from(outputs), "{report}");
}

#[test]
fn a_transfer_takes_128_bootstraps_through_the_whole_worker() {
    let report = json(&[
        "worker",
        "--workload",
        "transfers",
        "--count",
        "6",
        "--baseline",
        "tfhe-rs",
        "--baseline-count",
        "2",
    ]);
    check_workload(&report, "transfer", 6, 3 * (6 + 8));
    assert_eq!(report["bench"], "worker");
    assert_eq!(number(&report, "/bootstraps_per_transfer"), 128.0);
    assert_eq!(report["amounts"], "stored");
}

#[test]
fn amounts_can_come_from_input_lists() {
    for (workload, unit, outputs) in [("transfers", "transfer", 3), ("voting", "vote", 2)] {
        let report = json(&[
            "worker",
            "--workload",
            workload,
            "--amounts",
            "fresh",
            "--count",
            "3",
            "--baseline-count",
            "2",
        ]);
        check_workload(&report, unit, 3, outputs * (3 + 8));
        assert_eq!(report["amounts"], "fresh");
    }
}

#[test]
fn a_transfer_takes_128_bootstraps_in_the_engine_in_every_order() {
    for policy in ["BATCHED", "LOOP", "FINE_GRAIN", "MAX_PARALLELISM", "MAX_LOCALITY"] {
        let report = json(&["engine", "--schedule", policy, "--count", "2", "--baseline", "none"]);
        assert_eq!(report["schedule"], policy);
        assert_eq!(number(&report, "/bootstraps_per_transfer"), 128.0, "{policy}");
        assert!(report.get("tfhe_rs").is_none() && report.get("ratio").is_none(), "{report}");
    }
}

#[test]
fn every_workload_runs_through_the_worker_with_right_results() {
    for (workload, unit, outputs) in [
        ("dependent", "transfer", 3 * (3 + 8)),
        ("joined", "transfer", 3 * (3 + 8)),
        ("auction", "bid", 2 * (3 + 8)),
        ("voting", "vote", 2 * (3 + 8)),
        ("swap", "swap", 4 * (3 + 8)),
    ] {
        let report = json(&["worker", "--workload", workload, "--count", "3", "--baseline-count", "2"]);
        assert_eq!(report["workload"], workload);
        check_workload(&report, unit, 3, outputs);
    }
}

#[test]
fn blocks_run_through_the_executor_in_both_forms() {
    for form in ["packed", "raw"] {
        let report = json(&[
            "executor",
            "--form",
            form,
            "--workload",
            "mixed",
            "--count",
            "8",
            "--baseline-count",
            "2",
        ]);
        let ours = 5 * 3 + 2 + 2 + 4;
        check_workload(&report, "transaction", 8, ours + 4 * 2 * 3);
        assert_eq!(report["bench"], "executor");
    }
    let report = json(&["executor", "--workload", "dependent", "--count", "3", "--baseline", "none"]);
    assert_eq!(number(&report, "/results_checked"), 9.0);
}

#[test]
fn mixed_transactions_run_for_several_rounds() {
    let report = json(&[
        "engine",
        "--workload",
        "mixed",
        "--count",
        "8",
        "--rounds",
        "2",
        "--baseline-count",
        "2",
    ]);
    // Five transfers, a ballot, a bid and an exchange; the baseline has the first two, which are transfers.
    let ours = 5 * 3 + 2 + 2 + 4;
    check_workload(&report, "transaction", 16, 2 * (ours + 4 * 2 * 3));
    assert_eq!(number(&report, "/rounds"), 2.0);
}

#[test]
fn operations_are_listed_with_their_bootstraps() {
    let report = json(&["op", "--types", "euint8,euint64", "--operations", "add,select 0,mul 10,div 10"]);
    let rows = report["operations"].as_array().unwrap();
    let row = |name: &str, ty: &str| {
        rows.iter()
            .find(|row| row["operation"] == name && row["type"] == ty)
            .unwrap_or_else(|| panic!("no {name} on {ty} in {report}"))
    };
    assert_eq!(rows.len(), 8);
    assert_eq!(row("add", "euint64")["bootstraps"], 32);
    assert_eq!(row("add", "euint8")["bootstraps"], 4);
    assert_eq!(row("select 0", "euint64")["depth"], 1);
    for row in rows {
        for figure in ["/ours_cpu_ms", "/tfhe_rs_cpu_ms", "/tfhe_rs_best_cpu_ms", "/ratio", "/ratio_best"] {
            assert!(number(row, figure) > 0.0, "{row}");
        }
    }
}

#[test]
fn inputs_and_decryptions_are_measured_and_checked() {
    let report = json(&["input", "--sizes", "2"]);
    let list = &report["lists"][0];
    assert_eq!(list["values"], 2);
    for side in ["ours", "tfhe_rs"] {
        for figure in ["bytes", "prove_cpu_ms", "verify_cpu_ms", "expand_cpu_ms", "expand_one_cpu_ms"] {
            assert!(number(list, &format!("/{side}/{figure}")) > 0.0, "{list}");
        }
    }
    let report = json(&["decrypt", "--rounds", "3", "--part", "forms"]);
    assert_eq!(report["types"].as_array().unwrap().len(), 8);
    assert!(
        report["types"]
            .as_array()
            .unwrap()
            .iter()
            .all(|row| number(row, "/raw/decrypt_cpu_ms") > 0.0 && number(row, "/packed/read_cpu_ms") > 0.0)
    );
}

#[test]
fn the_table_says_what_it_is_worth() {
    let table = run(&["engine", "--count", "2", "--baseline-count", "1"]);
    for text in ["INSECURE", "Cipherloom", "tfhe-rs, as dApps write it", "128.0", "all right"] {
        assert!(table.contains(text), "{text:?} is missing in\n{table}");
    }
}

#[test]
fn what_does_not_exist_is_refused_with_what_does() {
    for (arguments, named) in [
        (["bench", "engine", "--workload", "nothing"], "transfers"),
        (["bench", "engine", "--schedule", "nothing"], "MAX_LOCALITY"),
        (["bench", "op", "--types", "euint7"], "euint8"),
        (["bench", "op", "--operations", "nothing"], "mul 10"),
    ] {
        let output = process::run(&arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && errors.contains(named), "{arguments:?}: {errors}");
    }
}

#[test]
fn answers_of_a_whole_stack_are_taken_apart() {
    let report = json(&["decrypt", "--part", "answers", "--handles", "8", "--rounds", "2"]);
    let series = report["answers"]["series"].as_array().unwrap();
    assert_eq!(series.len(), 8, "{report}");
    for series in series {
        assert_eq!(number(series, "/latency/count"), 8.0, "{series}");
        let steps: f64 = series["kms_mean_ms"]
            .as_object()
            .unwrap()
            .values()
            .map(|step| step.as_f64().unwrap())
            .sum();
        let (mean, outside) = (number(series, "/latency/mean_ms"), number(series, "/outside_mean_ms"));
        assert!(number(series, "/kms_mean_ms/decryption") > 0.0 && number(series, "/kms_mean_ms/checks") > 0.0);
        assert!(
            (steps + outside - mean).abs() < 0.01 || outside == 0.0,
            "the parts add up: {series}"
        );
        assert!(number(series, "/latency/p50_ms") <= number(series, "/latency/p99_ms"));
    }
    assert!(number(&report, "/answers/ratio_to_bare_decryption") > 1.0);
    assert!((0.0..1.0).contains(&number(&report, "/answers/share_outside_decryption")));
}

#[test]
fn a_stack_under_load_loses_nothing() {
    let report = json(&[
        "gateway",
        "--concurrent",
        "20",
        "--polls-per-second",
        "100",
        "--seconds",
        "2",
        "--handles",
        "8",
    ]);
    assert_eq!(number(&report, "/requests/lost") + number(&report, "/polls/lost"), 0.0);
    assert_eq!(number(&report, "/requests/accepted"), number(&report, "/requests/answered"));
    assert!(
        number(&report, "/requests/answered") >= 20.0 && number(&report, "/polls/answered") > 0.0,
        "{report}"
    );
}

#[test]
fn a_committee_of_processes_is_measured_and_its_answers_are_checked() {
    let keys = insecure_test_keys_with_squashing().unwrap();
    let report: Value = serde_json::from_str(&run_on(&keys, &["committee", "--nodes", "4", "--requests", "3", "--json"])).unwrap();
    assert_eq!((number(&report, "/nodes"), number(&report, "/threshold")), (4.0, 1.0));
    assert_eq!(number(&report, "/end_to_end/count"), 3.0);
    for figure in [
        "/cpu_ms_per_node_and_value",
        "/threshold_decryption/partial_ms",
        "/threshold_decryption/opening_ms",
        "/threshold_decryption/holder_ms",
        "/end_to_end/p50_ms",
    ] {
        assert!(number(&report, figure) > 0.0, "{figure}: {report}");
    }
    // Four elements of 64 bytes, with party and tag.
    assert_eq!(number(&report, "/threshold_decryption/partial_bytes"), 291.0);
    assert!(number(&report, "/bytes_sent_per_node_and_value") > 291.0, "{report}");
    assert!(
        number(&report, "/bytes_received_per_node_and_value") > 3.0 * 291.0,
        "a node gets the parts of the others: {report}"
    );
}
