//! Private PostgreSQL servers for tests: started from the system's packages, gone when the process is.
//!
//! A server lives in a temporary directory, listens on a Unix socket there and nowhere else, and trusts whoever can open
//! the socket. It does not flush to disk (`fsync = off`): what it keeps survives a crash of the server, not one of the
//! machine.
//!
//! [`shared`] is what tests use: one server per test run if `cargo xtask test` started it, else one per test process.
//! Each test then makes a database of its own with [`Server::create_database`]. Tests that stop or crash a server start
//! one for themselves with [`PrivatePostgres::start`].
//!
//! **Ending.** A shell stands between this process and the server, reading a pipe that only this process writes to. When
//! the pipe closes, however the process ended, the shell stops the server and removes the directory. So nothing is left
//! behind by a test that is killed.

mod programs;
mod server;

use std::sync::OnceLock;

pub use programs::{Account, Programs};
pub use server::{PrivatePostgres, Server};

/// The environment variable that names the socket directory of a server that tests share.
pub const SHARED_SERVER: &str = "CIPHERLOOM_TEST_POSTGRES";

/// The environment variable that names the directory of PostgreSQL's programs, if they are not where packages put them.
pub const PROGRAMS: &str = "CIPHERLOOM_POSTGRES_BIN";

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// PostgreSQL is not installed.
    #[error(
        "PostgreSQL's server programs are not installed: `cargo xtask test` installs them on Debian when it runs as root; elsewhere \
         install the server package (Debian: postgresql-15), or name the directory of initdb and postgres in {PROGRAMS}"
    )]
    NotInstalled,
    /// The server refuses to run as root, and there is no account to run it as.
    #[error("PostgreSQL does not run as root, and there is neither an account `postgres` nor an account `nobody` to run it as")]
    NoAccount,
    /// A program cannot be started, or a file cannot be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A program failed.
    #[error("{program} failed: {output}")]
    Failed {
        /// The program.
        program: &'static str,
        /// What it wrote.
        output: String,
    },
    /// The server did not become ready in time.
    #[error("PostgreSQL was not ready after {seconds} seconds; its log ends with: {log}")]
    NotReady {
        /// How long was waited.
        seconds: u64,
        /// The end of its log.
        log: String,
    },
}

/// Returns the server that the tests of this process share, starting it at the first call.
///
/// # Panics
/// If PostgreSQL cannot be had. Tests on a database must not pass because there is none.
#[must_use]
pub fn shared() -> &'static Server {
    static SHARED: OnceLock<PrivatePostgres> = OnceLock::new();
    static GIVEN: OnceLock<Option<Server>> = OnceLock::new();
    let given = GIVEN.get_or_init(|| std::env::var_os(SHARED_SERVER).map(|directory| Server::at(directory.into())));
    if let Some(server) = given {
        return server;
    }
    SHARED.get_or_init(|| match PrivatePostgres::start() {
        Ok(server) => server,
        Err(error) => panic!("the tests need a private PostgreSQL server: {error}"),
    })
}
