//! Private anvil nodes for tests: chains that are not ours, gone when the process is.
//!
//! anvil is a development chain that others made, so what works against it does not work only because our own node is lenient. Its program is
//! pinned in `e2e/anvil/package-lock.json` and comes from npm: `cargo xtask test` installs it and names it in [`PROGRAM`].
//!
//! **Ending.** A shell stands between this process and the node, reading a pipe that only this process writes to. When the pipe closes, however
//! the process ended, the shell stops the node. So nothing is left behind by a test that is killed.
//!
//! ```no_run
//! use cipherloom_private_anvil::{AnvilOptions, PrivateAnvil};
//!
//! let anvil = PrivateAnvil::start(&AnvilOptions { chain_id: 12345, ..AnvilOptions::default() })?;
//! println!("{} {}", anvil.http_url(), anvil.ws_url());
//! # Ok::<(), cipherloom_private_anvil::AnvilError>(())
//! ```

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    thread::JoinHandle,
};

/// The environment variable that names anvil's program.
pub const PROGRAM: &str = "CIPHERLOOM_ANVIL";

/// Where `cargo xtask` installs it, below the root of the repository.
const INSTALLED: &str = "e2e/anvil/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil";

/// What anvil prints before the address once it answers.
const READY: &str = "Listening on ";

/// The most lines anvil prints before it is ready; it lists its accounts, a line each.
const MAX_LINES: usize = 1_000;

/// Runs the node until the shell's standard input closes. Nothing of the shell's own keeps the node's output open.
const GUARD: &str = r#""$0" "$@" </dev/null & node=$!; exec >/dev/null 2>&1; read -r _; kill -9 "$node""#;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnvilError {
    /// There is no anvil.
    #[error(
        "anvil is not installed: `cargo xtask anvil` installs it with npm, on Linux on x86-64; elsewhere name its program in {PROGRAM}"
    )]
    NotInstalled,
    /// It cannot be started.
    #[error("cannot start anvil: {0}")]
    Io(#[from] std::io::Error),
    /// It ended, or said nothing understandable, before it was ready.
    #[error("anvil was not ready; it said: {0}")]
    NotReady(String),
}

/// What kind of chain to start.
#[derive(Clone, Debug)]
pub struct AnvilOptions {
    /// The chain id.
    pub chain_id: u64,
    /// The port; 0 is a free one. A node that comes back must have the port it had.
    pub port: u16,
    /// Seconds between blocks; without, each transaction gets a block at once.
    pub block_time_s: Option<u64>,
    /// More arguments of its command line, such as `--state FILE` or `--mnemonic WORDS`.
    pub more: Vec<String>,
}

impl Default for AnvilOptions {
    fn default() -> Self {
        Self {
            chain_id: 31337,
            port: 0,
            block_time_s: None,
            more: Vec::new(),
        }
    }
}

impl AnvilOptions {
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            "--host".to_owned(),
            "127.0.0.1".to_owned(),
            "--port".to_owned(),
            self.port.to_string(),
            "--chain-id".to_owned(),
            self.chain_id.to_string(),
        ];
        if let Some(seconds) = self.block_time_s {
            arguments.extend(["--block-time".to_owned(), seconds.to_string()]);
        }
        arguments.extend(self.more.iter().cloned());
        arguments
    }
}

/// A running node; it ends when this is dropped.
#[derive(Debug)]
pub struct PrivateAnvil {
    guard: Child,
    port: u16,
    chain_id: u64,
    /// Reads what anvil prints, so that it never waits for a reader.
    reader: Option<JoinHandle<()>>,
}

impl PrivateAnvil {
    /// Starts a node and waits until it answers. It has the ten accounts of the mnemonic `test test … junk`, with 10 000 ether each.
    ///
    /// # Errors
    /// [`AnvilError`] if it is not installed or does not start.
    pub fn start(options: &AnvilOptions) -> Result<Self, AnvilError> {
        let mut guard = Command::new("sh")
            .args(["-c", GUARD])
            .arg(program()?)
            .args(options.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let output = guard.stdout.take().ok_or_else(|| AnvilError::NotReady(String::new()))?;
        let mut this = Self {
            guard,
            port: options.port,
            chain_id: options.chain_id,
            reader: None,
        };
        let mut output = BufReader::new(output);
        this.port = port_of(&mut output)?;
        this.reader = Some(std::thread::spawn(move || drain(output)));
        Ok(this)
    }

    /// Returns the port it listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns the chain id it was started with.
    #[must_use]
    pub const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// Returns the URL of its JSON-RPC over HTTP.
    #[must_use]
    pub fn http_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns the URL of its JSON-RPC over WebSocket.
    #[must_use]
    pub fn ws_url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// Ends the node now. Its port is free afterwards, and what it has not been told to write is lost.
    pub fn stop(&mut self) {
        drop(self.guard.stdin.take());
        // The guard kills the node and ends; the node's output ends with it, and with that the reader.
        let _ = self.guard.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Drop for PrivateAnvil {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Finds anvil's program.
///
/// # Errors
/// [`AnvilError::NotInstalled`].
pub fn program() -> Result<PathBuf, AnvilError> {
    if let Some(named) = std::env::var_os(PROGRAM) {
        return Ok(named.into());
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let installed = repository.join(INSTALLED);
    if installed.is_file() {
        Ok(installed)
    } else {
        Err(AnvilError::NotInstalled)
    }
}

/// Reads up to the line with the address.
fn port_of(output: &mut impl BufRead) -> Result<u16, AnvilError> {
    let mut said = String::new();
    for line in output.lines().take(MAX_LINES) {
        let line = line?;
        if let Some(address) = line.strip_prefix(READY) {
            let port = address.rsplit(':').next().and_then(|port| port.trim().parse().ok());
            return port.ok_or(AnvilError::NotReady(line));
        }
        said.push_str(&line);
        said.push('\n');
    }
    Err(AnvilError::NotReady(said))
}

fn drain(mut output: BufReader<ChildStdout>) {
    let mut bytes = [0; 4096];
    while output.read(&mut bytes).is_ok_and(|length| length > 0) {}
}

#[cfg(test)]
mod tests {
    use std::{io::Write, net::TcpStream};

    use super::*;

    /// Asks for a chain's number over a connection of its own.
    fn chain_id(port: u16) -> std::io::Result<String> {
        let mut connection = TcpStream::connect(("127.0.0.1", port))?;
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}"#;
        let length = body.len();
        write!(
            connection,
            "POST / HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn a_node_answers_while_it_is_held_and_ends_when_it_is_dropped() {
        let anvil = PrivateAnvil::start(&AnvilOptions {
            chain_id: 12345,
            ..AnvilOptions::default()
        })
        .unwrap();
        assert!(chain_id(anvil.port()).unwrap().contains("0x3039"));
        let port = anvil.port();
        drop(anvil);
        assert!(chain_id(port).is_err());
    }

    #[test]
    fn an_argument_it_does_not_know_is_an_error() {
        let options = AnvilOptions {
            more: vec!["--no-such-option".to_owned()],
            ..AnvilOptions::default()
        };
        assert!(matches!(PrivateAnvil::start(&options), Err(AnvilError::NotReady(_))));
    }

    #[test]
    fn the_port_is_found_among_what_it_prints() {
        let mut printed = BufReader::new("Chain ID\n\nListening on 127.0.0.1:4711\nmore\n".as_bytes());
        assert_eq!(port_of(&mut printed).unwrap(), 4711);
        let mut nothing = BufReader::new("thread panicked\n".as_bytes());
        assert!(matches!(port_of(&mut nothing), Err(AnvilError::NotReady(said)) if said == "thread panicked\n"));
    }
}
