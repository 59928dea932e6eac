//! The gates of a change: formatting, lints, documentation, licences and tests.

use anyhow::{Context, Result};

use crate::{
    anvil,
    command::{cache, cargo, program, run},
    contracts, generate, library_compat, postgres, tidy,
};

/// The cargo-deny release that the licence check installs.
const CARGO_DENY_VERSION: &str = "0.20.2";

/// Runs everything that is no test.
///
/// # Errors
/// If one of the checks fails.
pub(crate) fn check() -> Result<()> {
    run(cargo(&["fmt", "--all", "--check"]))?;
    tidy::run()?;
    generate::check_tables()?;
    contracts::run(true)?;
    library_compat::run()?;
    run(cargo(&[
        "clippy",
        "--release",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    let mut documentation = cargo(&[
        "doc",
        "--release",
        "--locked",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    documentation.env("RUSTDOCFLAGS", "-D warnings");
    run(documentation)?;
    licences()
}

/// Runs the tests of the workspace or of some packages.
///
/// The binary's package is always selected as well: it unifies the features of all dependencies, and a selection without it would
/// build the large ones a second time.
///
/// # Errors
/// If a test fails, or PostgreSQL, anvil or the Solidity compiler cannot be had for those that need it.
pub(crate) fn test(packages: &[String]) -> Result<()> {
    let names: Vec<String> = packages
        .iter()
        .map(|name| {
            if matches!(name.as_str(), "xtask" | "cipherloom") {
                name.clone()
            } else {
                format!("cipherloom-{name}")
            }
        })
        .collect();
    // One run names everything that fails: building the tests takes longer than running them.
    let mut arguments = vec!["test", "--release", "--locked", "--no-fail-fast"];
    if names.is_empty() {
        arguments.push("--workspace");
    } else {
        arguments.extend(["--package", "cipherloom"]);
        names.iter().for_each(|name| arguments.extend(["--package", name.as_str()]));
    }
    // The binary's tests compile contracts, as explorers do that verify them.
    contracts::install_compiler()?;
    let mut command = cargo(&arguments);
    // Held until the tests are over.
    let server = postgres::is_needed(packages).then(postgres::start).transpose()?;
    if let Some(server) = &server {
        let (name, directory) = postgres::environment(server);
        command.env(name, directory);
    }
    if anvil::is_needed(packages) {
        anvil::provide(&mut command)?;
    }
    run(command)
}

/// Checks licences and sources of all dependencies.
///
/// # Errors
/// If a dependency has a licence or a source that `deny.toml` does not allow, or the tool cannot be installed.
pub(crate) fn licences() -> Result<()> {
    let tools = cache().join("tools");
    let cargo_deny = tools.join("bin").join("cargo-deny");
    let current = program(&cargo_deny, &["--version"])
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == format!("cargo-deny {CARGO_DENY_VERSION}"));
    if !current {
        let root = tools.to_str().context("the cache directory's path is not UTF-8")?;
        println!("installing cargo-deny {CARGO_DENY_VERSION} into {root} (once)");
        run(cargo(&[
            "install",
            "cargo-deny",
            "--locked",
            "--version",
            CARGO_DENY_VERSION,
            "--root",
            root,
        ]))?;
    }
    run(program(
        &cargo_deny,
        &["--log-level", "warn", "check", "licenses", "bans", "sources"],
    ))
}
