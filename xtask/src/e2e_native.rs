//! A native chain at full scale: validators as processes with one killed, parted and with an executor that goes away; nodes over real connections with one that lies; and the
//! demo on production parameters. Prints a table of the bars.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    bars::{self, Line, Scale},
    command::{cache, program},
    e2e_chain::test_command,
    e2e_sdk,
};

/// Tests of this project: package, test, and what they show.
const TESTS: [(&str, &str, &str); 6] = [
    (
        "cipherloom-validator",
        "native_chain",
        "same state, 100 blocks computed again and replayed, wrong byte outvoted, executor crash retried",
    ),
    (
        "cipherloom-node",
        "native_chain",
        "replays from genesis and kept states, torn files, late nodes",
    ),
    ("cipherloom-node", "native", "only what reaches storage is computed; FheLib"),
    (
        "cipherloom-consensus",
        "agreement",
        "halves, liars, late starts, restarts that never contradict themselves",
    ),
    ("cipherloom-consensus", "p2p", "impostors, floods, cut lines"),
    ("cipherloom-consensus", "real_network", "agreement over real connections"),
];

/// Runs everything and prints the table.
///
/// # Errors
/// If something does not build, or a bar is missed.
pub(crate) fn run(scale: Scale, binary: Option<PathBuf>) -> Result<()> {
    let mut lines = Vec::new();
    for (package, test, bar) in TESTS {
        let (mut command, shown) = test_command(package, test, &[]);
        scale.tell(&mut command);
        lines.extend(bars::test(bar, &shown, command)?);
    }
    let (mut command, shown) = test_command("cipherloom", "native_processes", &[]);
    scale.tell(&mut command);
    lines.extend(bars::test(
        "processes: the token works, one killed, halves, no executor, a committee",
        &shown,
        command,
    )?);
    let binary = binary.map_or_else(e2e_sdk::build, Ok)?;
    lines.push(Line::checked("the demo on a native chain", "cipherloom demo --native", || {
        demo(scale, &binary)
    }));
    bars::print(lines)
}

/// Carries the demo through four validators and a full node, on production parameters at full scale.
fn demo(scale: Scale, binary: &std::path::Path) -> Result<()> {
    let mut command = program(binary, &["demo", "--native", "--full-node", "--json"]);
    let place = tempfile::tempdir().context("cannot make a temporary directory")?;
    match scale {
        // The keys take a minute to make, and are kept for the next run.
        Scale::Full => command.arg("--data-dir").arg(cache().join("e2e-native")),
        Scale::Reduced => command.arg("--insecure-toy").arg("--data-dir").arg(place.path()),
    };
    let output = command.stderr(Stdio::inherit()).output().context("cannot start the demo")?;
    let summary: Value = serde_json::from_slice(&output.stdout).context("the demo printed no JSON")?;
    let is_ok = summary.get("ok").and_then(Value::as_bool) == Some(true);
    ensure!(output.status.success() && is_ok, "the demo failed: {summary}");
    for step in summary.get("steps").and_then(Value::as_array).into_iter().flatten() {
        let seconds = step.get("seconds").and_then(Value::as_f64).unwrap_or_default();
        let name = step.get("name").and_then(Value::as_str).unwrap_or_default();
        println!("  {seconds:>7.1} s  {name}");
    }
    Ok(())
}
