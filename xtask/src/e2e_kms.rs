//! A committee of KMS nodes at full scale: processes on production parameters with one killed, stopped or lying, published clients on a stack with four registered signers, recorded attestations, and what
//! threshold decryption takes; and a table of the bars.
//!
//! The tests assert; what they report stands in the table next to their result. Times are never asserted: they are printed next to their bar, for whoever knows what else the machine was doing.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    anvil,
    bars::{self, Line, Scale},
    command::{cache, program},
    e2e_chain::test_command,
    e2e_kms_wasm,
    e2e_sdk::{self, Part},
};

/// Tests in processes of this project: package, test, modules, and what they show.
const TESTS: [(&str, &str, &[&str], &str); 5] = [
    (
        "cipherloom",
        "processes",
        &["committee"],
        "four processes: one killed, stopped or lying; two away are told",
    ),
    (
        "cipherloom-kms",
        "kms",
        &["committee"],
        "malicious gateway, lying and missing nodes",
    ),
    ("cipherloom-attest", "attest", &[], "recorded and simulated attestations"),
    (
        "cipherloom-threshold",
        "decryption",
        &[],
        "every (n, t), every number of wrong shares",
    ),
    ("cipherloom-threshold", "resharing", &[], "shares renewed, parties replaced"),
];

/// Runs everything and prints the table.
///
/// # Errors
/// If anvil or npm cannot be had, something does not build, a benchmark fails, or a bar that is no time is missed.
pub(crate) fn run(scale: Scale, binary: Option<PathBuf>) -> Result<()> {
    let mut lines = Vec::new();
    for (package, test, modules, bar) in TESTS {
        let (mut command, shown) = test_command(package, test, modules);
        anvil::provide(&mut command)?;
        scale.tell(&mut command);
        lines.extend(bars::test(bar, &shown, command)?);
    }
    let binary = binary.map_or_else(e2e_sdk::build, Ok)?;
    lines.push(Line::checked(
        "published WebAssembly opens a committee's answers",
        "cargo xtask e2e kms-wasm",
        e2e_kms_wasm::run,
    ));
    if scale == Scale::Full {
        let parts = [Part::RelayerCommittee];
        lines.push(Line::checked(
            "relayer-sdk with four signers on chain",
            "cargo xtask e2e sdk relayer-v2-committee",
            || e2e_sdk::run(&parts, false, Some(binary.clone())),
        ));
    }
    lines.extend(bars::show(figures(&bench(scale, &binary)?)));
    bars::print(lines)
}

/// Measures threshold decryption with the nodes as processes.
fn bench(scale: Scale, binary: &Path) -> Result<Value> {
    let (keys, sizes): (_, &[&str]) = match scale {
        Scale::Full => ("production-squashing", &["--nodes", "13"]),
        Scale::Reduced => ("toy-squashing", &["--nodes", "13", "--parameters", "toy", "--requests", "10"]),
    };
    let mut command = program(binary, &["bench", "committee", "--json", "--keys"]);
    command.arg(cache().join("e2e-keys").join(keys)).args(sizes);
    println!("+ bench committee {}", sizes.join(" "));
    let output = command.stderr(Stdio::inherit()).output().context("cannot start the benchmark")?;
    ensure!(output.status.success(), "the benchmark failed: {}", output.status);
    serde_json::from_slice(&output.stdout).context("the benchmark printed no JSON")
}

/// Puts what was measured next to its bars.
fn figures(report: &Value) -> Vec<Line> {
    let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN);
    vec![
        Line::measured(
            "CPU per node and 64-bit value, bar 5 ms",
            format!(
                "{:.2} ms, of which threshold decryption {:.2} ms",
                number("/cpu_ms_per_node_and_value"),
                number("/threshold_decryption/partial_ms") + number("/threshold_decryption/opening_ms")
            ),
        ),
        Line::measured(
            "bytes per node and 64-bit value",
            format!(
                "{:.0} in, {:.0} out, its part {:.0}",
                number("/bytes_received_per_node_and_value"),
                number("/bytes_sent_per_node_and_value"),
                number("/threshold_decryption/partial_bytes")
            ),
        ),
        Line::measured(
            "13 processes on this machine, bar 25 ms",
            format!(
                "{:.1} ms (median), {:.1} ms (95 %)",
                number("/end_to_end/p50_ms"),
                number("/end_to_end/p95_ms")
            ),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_next_to_their_bars() {
        let lines = figures(&serde_json::json!({
            "cpu_ms_per_node_and_value": 4.0,
            "threshold_decryption": { "partial_ms": 1.25, "opening_ms": 0.5, "partial_bytes": 291 },
            "end_to_end": { "p50_ms": 20.0 },
        }));
        assert_eq!(lines[0].value(), "4.00 ms, of which threshold decryption 1.75 ms");
        assert!(lines[1].value().ends_with("its part 291"));
        assert_eq!(lines[2].value(), "20.0 ms (median), NaN ms (95 %)");
    }
}
