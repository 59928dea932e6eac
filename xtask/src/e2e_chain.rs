//! Everything about chains at full scale: a chain that is not ours, reorganisations, clients of our own chain, dApps, and the contracts themselves.
//!
//! Each part is a command or a test of its own, which the table names. Packages come from npm as their lock files pin them; PostgreSQL is a private
//! server of this run.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use crate::{
    anvil,
    bars::{self, Line, Scale},
    command::cargo,
    contracts, e2e_examples, e2e_node_clients, e2e_sdk, postgres,
};

/// Tests whose figures belong into the table: package, test, the modules of it if not all, and the bar.
const TESTS: [(&str, &str, &[&str], &str); 4] = [
    ("cipherloom", "attach", &[], "anvil: deploy, demo, upgrade, demo; 31337 and 12345"),
    ("cipherloom", "following", &[], "anvil: 1,000 blocks with reorganisations"),
    ("cipherloom", "contracts", &[], "contracts: precompute, deploy, verify, upgrade"),
    ("cipherloom-node", "host_contracts", &[], "host contracts: every revert path"),
];

/// Runs everything and prints the table.
///
/// # Errors
/// If npm or PostgreSQL cannot be had, something does not build, or a bar is missed.
pub(crate) fn run(scale: Scale, binary: Option<PathBuf>) -> Result<()> {
    let server = postgres::start()?;
    let mut lines = vec![Line::checked(
        "contracts: bytes follow from the sources",
        "cargo xtask contracts --check",
        || contracts::run(true),
    )];
    for (package, test, modules, bar) in TESTS {
        let (mut command, shown) = test_command(package, test, modules);
        let (name, directory) = postgres::environment(&server);
        command.env(name, directory);
        anvil::provide(&mut command)?;
        scale.tell(&mut command);
        lines.extend(bars::test(bar, &shown, command)?);
    }
    let binary = binary.map_or_else(e2e_sdk::build, Ok)?;
    lines.push(Line::checked(
        "our chain: published clients",
        "cargo xtask e2e node-clients",
        || e2e_node_clients::node_clients(scale == Scale::Reduced),
    ));
    lines.push(Line::checked("dApps, OpenZeppelin, gas", "cargo xtask e2e examples", || {
        e2e_examples::examples(scale == Scale::Reduced, &binary)
    }));
    bars::print(lines)
}

/// Returns the command that runs a test, and how a reader would type it. The binary's package unifies features, so that nothing is built twice.
pub(crate) fn test_command(package: &str, test: &str, modules: &[&str]) -> (Command, String) {
    let mut arguments = vec!["test", "--release", "--locked", "--package", "cipherloom"];
    if package != "cipherloom" {
        arguments.extend(["--package", package]);
    }
    arguments.extend(["--test", test, "--"]);
    arguments.extend(modules);
    let shown = format!("cargo {}", arguments.join(" ").trim_end_matches(" --"));
    // One after the other: they share the machine with nobody then, and print their figures on lines of their own.
    arguments.extend(["--test-threads=1", "--nocapture"]);
    (cargo(&arguments), shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_shown_as_a_reader_would_type_it() {
        let (command, shown) = test_command("cipherloom-chain", "on_anvil", &["reorganised"]);
        assert_eq!(
            shown,
            "cargo test --release --locked --package cipherloom --package cipherloom-chain --test on_anvil -- reorganised"
        );
        assert!(command.get_args().any(|argument| argument == "--nocapture"));
        assert!(
            test_command("cipherloom", "attach", &[])
                .1
                .ends_with("--package cipherloom --test attach")
        );
    }
}
