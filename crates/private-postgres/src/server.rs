//! One server: made, started, stopped, crashed.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::{Account, PostgresError, Programs};

/// The superuser of the server, and the only user.
const USER: &str = "cipherloom";

/// How long a server may take to become ready. Two seconds are usual; a loaded machine may need much more.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// The longest path of a directory whose sockets the operating system can still address.
const LONGEST_DIRECTORY: usize = 80;

/// Runs the server until standard input says otherwise: a line means stop and keep the directory, the end of input
/// means stop and remove it. Crash-like stops are the point: an orderly shutdown would wait for clients.
const GUARD: &str = r#"
"$1" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=off -c full_page_writes=off -c max_connections=300 \
    >> "$2/log" 2>&1 &
server=$!
if read -r _; then keep=yes; fi
kill -QUIT $server 2>/dev/null
wait $server
[ -n "$keep" ] || { cd / && rm -rf -- "$2"; }
"#;

/// Where a server can be reached.
#[derive(Debug)]
pub struct Server {
    directory: PathBuf,
}

impl Server {
    pub(crate) const fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Returns the directory of the server's socket.
    #[must_use]
    pub fn socket_directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the URL of a database on the server.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        // Slashes need no escape in a query, and temporary directories have no other special characters.
        format!("postgres://{USER}@localhost/{database}?host={}", self.directory.display())
    }

    /// Makes an empty database with a name of its own and returns its URL.
    ///
    /// # Errors
    /// [`PostgresError::Failed`] if the server refuses or is gone.
    pub fn create_database(&self) -> Result<String, PostgresError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        self.execute("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(self.url(&name))
    }

    /// Executes SQL in a database as the superuser, and returns what `psql` prints for it: rows as lines, columns
    /// separated by `|`.
    ///
    /// # Errors
    /// [`PostgresError::Failed`] with the server's message.
    pub fn execute(&self, database: &str, sql: &str) -> Result<String, PostgresError> {
        let output = Command::new(Programs::find()?.path("psql"))
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"])
            .args(["--host".as_ref(), self.directory.as_os_str()])
            .args(["--username", USER, "--dbname", database, "--command", sql])
            .output()
            .map_err(|source| PostgresError::Io {
                what: "cannot run psql".to_owned(),
                source,
            })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        Err(PostgresError::Failed {
            program: "psql",
            output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

/// A server of this process. Dropping it stops the server and removes its files.
#[derive(Debug)]
pub struct PrivatePostgres {
    server: Server,
    programs: Programs,
    account: Option<Account>,
    guard: Option<Child>,
}

impl std::ops::Deref for PrivatePostgres {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// Writes settings behind those that initdb wrote; the last one of a name holds.
fn configure(directory: &Path, settings: &[&str]) -> Result<(), PostgresError> {
    let path = directory.join("data/postgresql.conf");
    let failed = |source| PostgresError::Io {
        what: format!("cannot write {}", path.display()),
        source,
    };
    let mut file = std::fs::File::options().append(true).open(&path).map_err(failed)?;
    writeln!(file, "shared_buffers = 64MB").map_err(failed)?;
    settings.iter().try_for_each(|setting| writeln!(file, "{setting}")).map_err(failed)
}

impl PrivatePostgres {
    /// Makes an empty server and starts it.
    ///
    /// # Errors
    /// [`PostgresError`], above all [`PostgresError::NotInstalled`].
    pub fn start() -> Result<Self, PostgresError> {
        Self::start_with(&[])
    }

    /// The same with settings of its own, such as `shared_buffers = 1GB`; there are 64 MB otherwise, enough for tests.
    ///
    /// # Errors
    /// As [`Self::start`], and [`PostgresError::NotReady`] if the server refuses a setting.
    pub fn start_with(settings: &[&str]) -> Result<Self, PostgresError> {
        let programs = Programs::find()?;
        let account = Account::to_run_as()?;
        let directory = directory()?;
        if let Some(account) = account {
            account.own(&directory)?;
        }
        let made = as_account(Command::new(programs.path("initdb")), account)
            .arg("--pgdata")
            .arg(directory.join("data"))
            .args([
                "--username",
                USER,
                "--auth",
                "trust",
                "--no-sync",
                "--encoding",
                "UTF8",
                "--locale",
                "C",
            ])
            .current_dir(&directory)
            .output()
            .map_err(|source| PostgresError::Io {
                what: "cannot run initdb".to_owned(),
                source,
            })?;
        if !made.status.success() {
            return Err(PostgresError::Failed {
                program: "initdb",
                output: String::from_utf8_lossy(&made.stderr).trim().to_owned(),
            });
        }
        configure(&directory, settings)?;
        let mut server = Self {
            server: Server::at(directory),
            programs,
            account,
            guard: None,
        };
        server.start_again()?;
        Ok(server)
    }

    /// Stops the server as a crash would: at once, without a word to its clients.
    ///
    /// # Errors
    /// [`PostgresError::Io`] if the guard cannot be told.
    pub fn crash(&mut self) -> Result<(), PostgresError> {
        let Some(mut guard) = self.guard.take() else {
            return Ok(());
        };
        let told = guard.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(b"stop\n"));
        told.and_then(|()| guard.wait().map(drop)).map_err(|source| PostgresError::Io {
            what: "cannot stop PostgreSQL".to_owned(),
            source,
        })
    }

    /// Starts the server on the files it has, recovering from a crash if there was one, and waits until it is ready.
    ///
    /// # Errors
    /// [`PostgresError::NotReady`], or [`PostgresError::Io`] if it cannot be started.
    pub fn start_again(&mut self) -> Result<(), PostgresError> {
        self.crash()?;
        let directory = &self.server.directory;
        let guard = as_account(Command::new("sh"), self.account)
            .args(["-c", GUARD, "sh"])
            .arg(self.programs.path("postgres"))
            .arg(directory)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for the tests; the guard learns of their end by the pipe.
            .process_group(0)
            .spawn()
            .map_err(|source| PostgresError::Io {
                what: "cannot start a shell for PostgreSQL".to_owned(),
                source,
            })?;
        self.guard = Some(guard);
        self.wait_until_ready()
    }

    fn wait_until_ready(&self) -> Result<(), PostgresError> {
        let directory = &self.server.directory;
        let start = Instant::now();
        while start.elapsed() < READY_WITHIN {
            // The last line of this file is the state; it says `ready` once connections are accepted.
            let state = std::fs::read_to_string(directory.join("data").join("postmaster.pid")).unwrap_or_default();
            if state.lines().last().is_some_and(|line| line.trim() == "ready") && self.execute("postgres", "SELECT 1").is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        Err(PostgresError::NotReady {
            seconds: READY_WITHIN.as_secs(),
            log: lines.into_iter().rev().collect::<Vec<_>>().join(" / "),
        })
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            // Closing the pipe is the whole message.
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
    }
}

/// Makes a directory that only its owner can enter.
fn directory() -> Result<PathBuf, PostgresError> {
    let default = std::env::temp_dir();
    let parent = if default.as_os_str().len() < LONGEST_DIRECTORY {
        default
    } else {
        PathBuf::from("/tmp")
    };
    let directory = tempfile::Builder::new()
        .prefix("cipherloom-pg-")
        .tempdir_in(&parent)
        .map_err(|source| PostgresError::Io {
            what: format!("cannot make a directory in {}", parent.display()),
            source,
        })?;
    // The guard removes it, since it outlives this process.
    Ok(directory.keep())
}

fn as_account(mut command: Command, account: Option<Account>) -> Command {
    if let Some(account) = account {
        command.uid(account.user).gid(account.group);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crashed_server_keeps_what_was_committed_and_a_dropped_one_leaves_nothing() {
        let mut server = PrivatePostgres::start().unwrap();
        server
            .execute("postgres", "CREATE TABLE kept (number INT); INSERT INTO kept VALUES (7)")
            .unwrap();
        server.crash().unwrap();
        assert!(server.execute("postgres", "SELECT 1").is_err());
        server.start_again().unwrap();
        assert_eq!(server.execute("postgres", "SELECT number FROM kept").unwrap(), "7");
        let directory = server.socket_directory().to_path_buf();
        drop(server);
        assert!(!directory.exists());
    }

    #[test]
    fn databases_are_apart() {
        let server = crate::shared();
        let urls = [server.create_database().unwrap(), server.create_database().unwrap()];
        assert_ne!(urls[0], urls[1]);
    }
}
