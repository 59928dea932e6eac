//! Runs the tools that people develop contracts with, from npm and unmodified, against the embedded node.
//!
//! Each client has a folder in `e2e/node-clients` with its project and the packages it needs, pinned. The project is copied into a
//! temporary folder, where the tool may write what it likes, and gets a node of its own: the example `serve` of the node's crate.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::{
    command::{build_executable, program, root, run as execute},
    contracts::{install_packages, install_packages_with},
    e2e_sdk,
};

/// The first of the well-known development accounts, which every node of this kind has.
const PRIVATE_KEY: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

/// What is run against the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Client {
    /// ethers 6 and viem.
    Libraries,
    /// forge script, forge create and cast.
    Foundry,
    /// Hardhat 2 with its toolbox.
    Hardhat2,
    /// Hardhat 3 with its Mocha and ethers toolbox.
    Hardhat3,
}

impl Client {
    const ALL: [Self; 4] = [Self::Libraries, Self::Foundry, Self::Hardhat2, Self::Hardhat3];

    /// Those whose packages are small.
    const SMALL: [Self; 2] = [Self::Libraries, Self::Foundry];

    const fn folder(self) -> &'static str {
        match self {
            Self::Libraries => "libraries",
            Self::Foundry => "foundry",
            Self::Hardhat2 => "hardhat2",
            Self::Hardhat3 => "hardhat3",
        }
    }
}

/// Runs all clients or, reduced, those that need few packages.
///
/// # Errors
/// As [`run`].
pub(crate) fn node_clients(reduced: bool) -> Result<()> {
    run_each(if reduced { &Client::SMALL } else { &Client::ALL })
}

/// Runs one client.
///
/// # Errors
/// If npm is missing, the packages cannot be installed, the node does not build or start, or the client does not get what it should.
pub(crate) fn run(client: Client) -> Result<()> {
    run_each(&[client])
}

fn run_each(clients: &[Client]) -> Result<()> {
    let binary = build()?;
    for client in clients {
        let node = Node::start(&binary)?;
        with(*client, &node).with_context(|| format!("{client:?} does not work with the embedded node"))?;
    }
    Ok(())
}

fn with(client: Client, node: &Node) -> Result<()> {
    let folder = root().join("e2e/node-clients").join(client.folder());
    let javascript = match client {
        Client::Hardhat3 => newer_javascript()?,
        Client::Libraries | Client::Foundry | Client::Hardhat2 => "node".into(),
    };
    if client == Client::Hardhat3 {
        // Its native part is left out if npm itself runs on an older Node.js.
        install_packages_with(&folder, &javascript)?;
    } else {
        install_packages(&folder)?;
    }
    let project = tempfile::tempdir().context("cannot make a temporary folder")?;
    copy(&folder, project.path())?;
    copy(&root().join("e2e/node-clients/contracts"), &project.path().join("contracts"))?;
    std::os::unix::fs::symlink(folder.join("node_modules"), project.path().join("node_modules"))?;
    let runs: &[&[&str]] = match client {
        Client::Libraries => &[&["ethers.mjs"], &["viem.mjs"]],
        Client::Foundry => &[&["run.mjs"]],
        Client::Hardhat2 => &[
            &["node_modules/hardhat/internal/cli/bootstrap.js", "test"],
            &["node_modules/hardhat/internal/cli/bootstrap.js", "run", "scripts/deploy.cjs"],
            &[
                "node_modules/hardhat/internal/cli/bootstrap.js",
                "ignition",
                "deploy",
                "ignition/modules/Vault.cjs",
            ],
        ],
        Client::Hardhat3 => &[
            &["node_modules/hardhat/dist/src/cli.js", "test", "mocha", "--network", "embedded"],
            &[
                "node_modules/hardhat/dist/src/cli.js",
                "run",
                "--network",
                "embedded",
                "scripts/deploy.js",
            ],
            &[
                "node_modules/hardhat/dist/src/cli.js",
                "ignition",
                "deploy",
                "ignition/modules/Vault.js",
                "--network",
                "embedded",
            ],
        ],
    };
    for arguments in runs {
        let mut command = program(&javascript, arguments);
        command
            .current_dir(project.path())
            .env("NODE_URL", &node.http)
            .env("HARDHAT_DISABLE_TELEMETRY_PROMPT", "true")
            .env("HARDHAT_IGNITION_CONFIRM_DEPLOYMENT", "false");
        match client {
            Client::Libraries => command.args([&node.http, &node.ws, PRIVATE_KEY]),
            Client::Foundry => command.args([&node.http, PRIVATE_KEY]),
            Client::Hardhat2 | Client::Hardhat3 => &mut command,
        };
        execute(command)?;
    }
    Ok(())
}

/// Returns a Node.js that is new enough for Hardhat 3.
fn newer_javascript() -> Result<PathBuf> {
    let packaged = root().join("e2e/node-clients/javascript");
    e2e_sdk::node(&packaged).or_else(|_| {
        install_packages(&packaged)?;
        e2e_sdk::node(&packaged)
    })
}

/// Copies a folder without the packages in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_name() == OsStr::new("node_modules") {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Builds the example that serves a node, and returns where it is.
fn build() -> Result<PathBuf> {
    // The binary's package unifies features, so that nothing is built twice.
    build_executable(
        &["--package", "cipherloom", "--package", "cipherloom-node", "--example", "serve"],
        "serve",
    )
}

/// A running node; killed when it is dropped.
struct Node {
    process: Child,
    /// Held open, because the node prints more than what is read.
    output: BufReader<ChildStdout>,
    http: String,
    ws: String,
}

impl Node {
    fn start(binary: &Path) -> Result<Self> {
        let mut process = Command::new(binary)
            .arg("127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let output = process.stdout.take().context("the node has no output")?;
        let mut node = Self {
            process,
            output: BufReader::new(output),
            http: String::new(),
            ws: String::new(),
        };
        let mut line = String::new();
        node.output.read_line(&mut line).context("cannot read what the node prints")?;
        (node.http, node.ws) = addresses(&line)?;
        Ok(node)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It fails if the node has ended by itself, and then there is nothing left to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads the addresses out of the first line that a node prints.
fn addresses(line: &str) -> Result<(String, String)> {
    let words = line.split_whitespace().collect::<Vec<_>>();
    match words.as_slice() {
        ["HTTP", http, "WebSocket", ws] => Ok(((*http).to_owned(), (*ws).to_owned())),
        _ => bail!("the node did not say where it listens, but {line:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_says_where_it_is() {
        let line = "HTTP http://127.0.0.1:5  WebSocket ws://127.0.0.1:5\n";
        assert_eq!(
            addresses(line).unwrap(),
            ("http://127.0.0.1:5".to_owned(), "ws://127.0.0.1:5".to_owned())
        );
        assert!(addresses("").is_err());
    }

    #[test]
    fn a_project_is_copied_without_its_packages() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(from.path().join("node_modules/big")).unwrap();
        fs::create_dir_all(from.path().join("test")).unwrap();
        fs::write(from.path().join("test/one.js"), "1").unwrap();
        copy(from.path(), &to.path().join("project")).unwrap();
        assert!(to.path().join("project/test/one.js").is_file());
        assert!(!to.path().join("project/node_modules").exists());
    }
}
