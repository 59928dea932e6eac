//! The PostgreSQL server that tests share: installed if it is missing and can be, started once per run.

use anyhow::{Context, Result};
use cipherloom_private_postgres::{PostgresError, PrivatePostgres, Programs, SHARED_SERVER};

use crate::command::{program, run};

/// The package that is installed on Debian.
const PACKAGE: &str = "postgresql-15";

/// The packages of this workspace whose tests need a server.
const USERS: [&str; 4] = ["cipherloom", "coprocessor", "private-postgres", "store"];

/// Says whether tests of these packages need a server; none given means all.
pub(crate) fn is_needed(packages: &[String]) -> bool {
    packages.is_empty() || packages.iter().any(|package| USERS.contains(&package.as_str()))
}

/// Starts a server. It ends when the returned value is dropped, or this process ends.
///
/// # Errors
/// If PostgreSQL is not installed and cannot be, or does not start.
pub(crate) fn start() -> Result<PrivatePostgres> {
    if matches!(Programs::find(), Err(PostgresError::NotInstalled)) {
        install()?;
    }
    PrivatePostgres::start().context("tests need a private PostgreSQL server")
}

/// Returns the environment variable by which tests find the server.
pub(crate) fn environment(server: &PrivatePostgres) -> (&'static str, &std::path::Path) {
    (SHARED_SERVER, server.socket_directory())
}

/// Installs the server package where that needs no questions: on Debian, as root. Elsewhere the error of the search says what to do.
fn install() -> Result<()> {
    let is_root = program("id", &["-u"])
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == "0");
    let has_apt = program("apt-get", &["--version"]).output().is_ok();
    if !is_root || !has_apt {
        return Ok(());
    }
    println!("PostgreSQL is not installed; installing Debian's {PACKAGE} (once)");
    for arguments in [
        ["update", "-q"].as_slice(),
        &["install", "-q", "-y", "--no-install-recommends", PACKAGE],
    ] {
        let mut command = program("apt-get", arguments);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        run(command).with_context(|| format!("cannot install {PACKAGE}"))?;
    }
    Ok(())
}
