//! Processes of a deployment: servers and workers of the real binary, and what befalls them.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use cipherloom_primitives::Address;
use serde_json::Value;

use crate::error::LoadError;

/// What the binary reads from the environment and a test must decide itself.
const SETTINGS: [&str; 5] = [
    "RUST_LOG",
    "CIPHERLOOM_DATA_DIR",
    "CIPHERLOOM_DATABASE_URL",
    "DATABASE_URL",
    "FHEVM_DF_SCHEDULE",
];

/// A signing key that everybody knows.
const INSECURE_SIGNING_KEY: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";

/// How often a process is looked at that should end.
const LOOK: Duration = Duration::from_millis(5);

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Answers clients.
    Server,
    /// Computes.
    Worker,
    /// Both, as an embedded store needs it.
    Both,
}

impl Role {
    const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Server => &["--run-server"],
            Self::Worker => &["--run-bg-worker"],
            Self::Both => &["--run-server", "--run-bg-worker"],
        }
    }
}

/// A tenant of a deployment, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantAccess {
    /// Its name.
    pub name: String,
    /// Its chain.
    pub chain_id: u64,
    /// The access-control contract of the chain.
    pub acl: Address,
    /// Its API key. Not handled as the secret that it is: these tenants have none.
    pub api_key: String,
}

/// A binary, a database, and a directory for what processes leave: all that processes of one deployment share.
#[derive(Clone, Debug)]
pub struct Deployment {
    binary: PathBuf,
    database_url: String,
    directory: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Deployment {
    /// Describes a deployment. Its signing key is written into the directory, and is **insecure**: everybody knows it.
    ///
    /// # Errors
    /// [`LoadError::Io`] if the directory cannot be written.
    pub fn insecure_new(binary: impl Into<PathBuf>, database_url: &str, directory: &Path) -> Result<Self, LoadError> {
        let key = directory.join("coprocessor.key");
        std::fs::write(&key, INSECURE_SIGNING_KEY).map_err(LoadError::io("cannot write the signing key"))?;
        make_private(&key)?;
        Ok(Self {
            binary: binary.into(),
            database_url: database_url.to_owned(),
            directory: directory.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
        })
    }

    /// Sets a variable of the environment for every process that is started from now on.
    #[must_use]
    pub fn with_environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds arguments for every process that is started from now on.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Returns the URL of the database.
    #[must_use]
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// Returns the directory of keys and logs.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Prepares the binary, cut off from the user's own settings.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        SETTINGS.iter().for_each(|name| {
            command.env_remove(name);
        });
        command.env("DATABASE_URL", &self.database_url).args(arguments).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command of the binary to its end and returns what it prints.
    ///
    /// # Errors
    /// [`LoadError::Ended`] if it fails.
    pub fn run(&self, arguments: &[&str]) -> Result<String, LoadError> {
        let what = || arguments.join(" ");
        let output = self
            .command(arguments)
            .output()
            .map_err(LoadError::io(format!("cannot run {}", what())))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(LoadError::Ended {
            what: what(),
            status: output.status.to_string(),
            log: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }

    /// Runs a command of the binary to its end and reads the JSON that it prints.
    ///
    /// # Errors
    /// [`LoadError::Ended`] if it fails, [`LoadError::Output`] if it prints something else.
    pub fn ask(&self, arguments: &[&str]) -> Result<Value, LoadError> {
        let text = self.run(arguments)?;
        serde_json::from_str(&text).map_err(|_| LoadError::Output {
            what: arguments.join(" "),
            text,
        })
    }

    /// Adds a tenant with a key set, or without one.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn add_tenant(&self, name: &str, chain_id: u64, keys: Option<&Path>) -> Result<Arc<TenantAccess>, LoadError> {
        let (id, acl) = (chain_id.to_string(), address_of(chain_id, 1));
        let verifier = address_of(chain_id, 2).to_string();
        let acl_text = acl.to_string();
        let mut arguments = vec![
            "tenant",
            "add",
            name,
            "--json",
            "--chain-id",
            &id,
            "--acl-contract-address",
            &acl_text,
        ];
        arguments.extend(["--verifying-contract-address", &verifier]);
        let keys = keys.map(|keys| keys.display().to_string());
        if let Some(keys) = &keys {
            arguments.extend(["--keys", keys]);
        }
        let added = self.ask(&arguments)?;
        let api_key = text_of(&added, "apiKey").ok_or_else(|| LoadError::Output {
            what: "tenant add".to_owned(),
            text: added.to_string(),
        })?;
        Ok(Arc::new(TenantAccess {
            name: name.to_owned(),
            chain_id,
            acl,
            api_key,
        }))
    }

    /// Starts a process and waits until it says that it runs.
    ///
    /// # Errors
    /// [`LoadError::Ended`] if it ends instead, [`LoadError::Output`] if it says something else.
    pub fn start(&self, role: Role, more: &[&str]) -> Result<Process, LoadError> {
        static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let log = self.directory.join(format!("{role:?}-{number}.log").to_lowercase());
        let errors = File::create(&log).map_err(LoadError::io("cannot make a log"))?;
        let key = self.directory.join("coprocessor.key");
        let mut command = self.command(&["coprocessor", "--json", "--insecure-keys"]);
        command
            .args(role.arguments())
            .arg("--coprocessor-private-key")
            .arg(key)
            .args(&self.arguments)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(errors);
        for (option, free) in [("--server-addr", "127.0.0.1:0"), ("--metrics-addr", "127.0.0.1:0")] {
            if !more.contains(&option) {
                command.args([option, free]);
            }
        }
        let mut child = command.spawn().map_err(LoadError::io("cannot start the coprocessor"))?;
        let output = child.stdout.take();
        let mut process = Process {
            child,
            role,
            log,
            summary: Value::Null,
        };
        let mut line = String::new();
        if let Some(output) = output {
            BufReader::new(output)
                .read_line(&mut line)
                .map_err(LoadError::io("cannot read what the coprocessor prints"))?;
        }
        if line.is_empty() {
            let status = process.child.wait().map_err(LoadError::io("cannot wait for the coprocessor"))?;
            return Err(process.ended(status));
        }
        process.summary = serde_json::from_str(&line).map_err(|_| LoadError::Output {
            what: "the coprocessor".to_owned(),
            text: line,
        })?;
        Ok(process)
    }
}

/// A running process; killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    role: Role,
    log: PathBuf,
    summary: Value,
}

impl Process {
    /// Returns the number of the process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns what it printed when it started.
    #[must_use]
    pub const fn summary(&self) -> &Value {
        &self.summary
    }

    /// Returns where it answers clients, as `ADDRESS:PORT`.
    ///
    /// # Errors
    /// [`LoadError::Output`] if it does not.
    pub fn server_address(&self) -> Result<String, LoadError> {
        self.address("serverAddress")
    }

    /// Returns the URL of its gRPC server.
    ///
    /// # Errors
    /// [`LoadError::Output`] if it has none.
    pub fn url(&self) -> Result<String, LoadError> {
        self.server_address().map(|address| format!("http://{address}"))
    }

    /// Returns where its metrics are.
    ///
    /// # Errors
    /// [`LoadError::Output`] if they are nowhere.
    pub fn metrics_address(&self) -> Result<String, LoadError> {
        self.address("metricsAddress")
    }

    fn address(&self, field: &str) -> Result<String, LoadError> {
        text_of(&self.summary, field).ok_or_else(|| LoadError::Output {
            what: format!("{:?}, asked for {field},", self.role),
            text: self.summary.to_string(),
        })
    }

    /// Returns what it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it at once, as a power failure or the system's killer of large processes would.
    ///
    /// # Errors
    /// [`LoadError::Ended`] if it had ended by itself before.
    pub fn kill(mut self) -> Result<(), LoadError> {
        self.check_running()?;
        self.child.kill().map_err(LoadError::io("cannot kill a process"))?;
        self.child.wait().map(drop).map_err(LoadError::io("cannot wait for a process"))
    }

    /// Fails if it has ended.
    ///
    /// # Errors
    /// [`LoadError::Ended`].
    pub fn check_running(&mut self) -> Result<(), LoadError> {
        match self.child.try_wait().map_err(LoadError::io("cannot look at a process"))? {
            Some(status) => Err(self.ended(status)),
            None => Ok(()),
        }
    }

    /// Sends a signal, by its name without `SIG`.
    ///
    /// # Errors
    /// [`LoadError::Io`] if it cannot be sent.
    pub fn signal(&self, name: &str) -> Result<(), LoadError> {
        let mut kill = Command::new("kill");
        kill.args([&format!("-{name}"), &self.id().to_string()]);
        let status = kill.status().map_err(LoadError::io("cannot run kill"))?;
        if status.success() {
            return Ok(());
        }
        Err(LoadError::Ended {
            what: format!("kill -{name}"),
            status: status.to_string(),
            log: self.end_of_log(),
        })
    }

    /// Asks it to end, as service managers do, and waits until it has. Returns how long that took.
    ///
    /// # Errors
    /// [`LoadError::Ended`] if it does not end well, [`LoadError::TooSlow`] if it does not end in time.
    pub fn terminate(mut self, within: Duration) -> Result<Duration, LoadError> {
        self.signal("TERM")?;
        let start = Instant::now();
        while start.elapsed() < within {
            if let Some(status) = self.child.try_wait().map_err(LoadError::io("cannot look at a process"))? {
                return if status.success() {
                    Ok(start.elapsed())
                } else {
                    Err(self.ended(status))
                };
            }
            std::thread::sleep(LOOK);
        }
        Err(LoadError::TooSlow {
            what: format!("the end of a {:?} after SIGTERM (its log: {})", self.role, self.end_of_log()),
            within,
        })
    }

    /// Returns its resident memory in bytes: now, and the most there was. Nothing where the system does not tell.
    #[must_use]
    pub fn memory(&self) -> Option<(u64, u64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let field = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
        };
        Some((field("VmRSS:")?, field("VmHWM:")?))
    }

    /// Reads one of its metrics: the sum of all series of that name, 0 if there is none yet.
    ///
    /// # Errors
    /// [`LoadError::Io`] if it does not answer, [`LoadError::Output`] if it answers something else.
    pub fn metric(&self, name: &str) -> Result<f64, LoadError> {
        let address = self.metrics_address()?;
        let cannot = || format!("cannot read metrics from {address}");
        let mut connection = TcpStream::connect(&address).map_err(LoadError::io(cannot()))?;
        let mut answer = String::new();
        connection
            .write_all(b"GET /metrics HTTP/1.0\r\n\r\n")
            .and_then(|()| connection.read_to_string(&mut answer))
            .map_err(LoadError::io(cannot()))?;
        sum_of(&answer, name).ok_or_else(|| LoadError::Output {
            what: "the metrics server".to_owned(),
            text: answer.lines().next().unwrap_or_default().to_owned(),
        })
    }

    fn ended(&self, status: ExitStatus) -> LoadError {
        LoadError::Ended {
            what: format!("the {:?}", self.role),
            status: status.to_string(),
            log: self.end_of_log(),
        }
    }

    fn end_of_log(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().rev().take(12).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail if it was waited for, and then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes an address of a chain that stands for nothing.
fn address_of(chain_id: u64, kind: u8) -> Address {
    let mut bytes = [kind; 20];
    bytes.iter_mut().zip(chain_id.to_be_bytes()).for_each(|(to, from)| *to = from);
    Address::from(bytes)
}

fn text_of(object: &Value, field: &str) -> Option<String> {
    object.get(field)?.as_str().map(str::to_owned)
}

/// Adds up the series of a name in an answer with metrics; nothing if it is no such answer.
fn sum_of(answer: &str, name: &str) -> Option<f64> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    if !head.lines().next()?.contains(" 200 ") {
        return None;
    }
    let mut sum = 0.0;
    for line in body.lines() {
        let Some(rest) = line.strip_prefix(name) else { continue };
        if rest.starts_with(['{', ' ']) {
            sum += rest.rsplit(' ').next()?.parse::<f64>().ok()?;
        }
    }
    Some(sum)
}

#[cfg(unix)]
fn make_private(path: &Path) -> Result<(), LoadError> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(LoadError::io("cannot protect the signing key"))
}

#[cfg(not(unix))]
fn make_private(_: &Path) -> Result<(), LoadError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_a_metric_are_added_up_and_others_are_not() {
        let answer = "HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\n# TYPE work counter\nwork{tenant=\"a b\"} 2\nwork{tenant=\"c\"} 0.5\nworkers 9\n";
        assert_eq!(sum_of(answer, "work"), Some(2.5));
        assert_eq!(sum_of(answer, "workers"), Some(9.0));
        assert_eq!(sum_of(answer, "nothing"), Some(0.0));
        assert_eq!(sum_of("HTTP/1.0 404 Not Found\r\n\r\n", "work"), None);
    }
}
