//! Carries encrypted values through a running `cipherloom dev` with the published SDKs, unmodified and configured only, in Node.js and in a browser.
//!
//! The stack runs as a process of its own, on real TFHE with fresh keys, free ports and a temporary directory. Each SDK runs in a process or a page
//! of its own: it encrypts and proves with its own WebAssembly, and opens the KMS's answers with it. What it has to do, and what it has to refuse, is
//! one story for all of them, in `e2e/sdk/story.mjs`; what the scripts import is pinned in `e2e/sdk/package-lock.json`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::{
    browser,
    command::{build_executable, program, root},
    contracts::install_packages,
    dev_stack::RunningStack,
    e2e_web,
    sdk_report::{Report, Told},
};

/// The oldest release of Node.js that the SDKs declare to run on.
const OLDEST_NODE: u32 = 22;

/// What is run against the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// ethers 6 and viem, against the development chain.
    Libraries,
    /// What `cipherloom sdk-config` prints, for each SDK.
    Config,
    /// @zama-fhe/relayer-sdk in Node.js, with the gateway's routes of version 2.
    RelayerV2,
    /// The same with the gateway's routes of version 1.
    RelayerV1,
    /// @fhevm/sdk in Node.js.
    Fhevm,
    /// @zama-fhe/sdk in Node.js.
    Zama,
    /// @fhevm/sdk on a stack whose contracts show the face of protocol 0.14.
    #[value(name = "face-0.14")]
    Face014,
    /// @zama-fhe/relayer-sdk in Node.js on a stack whose KMS is a committee of four nodes.
    #[value(name = "relayer-v2-committee")]
    RelayerCommittee,
    /// @fhevm/sdk on such a stack.
    #[value(name = "fhevm-committee")]
    FhevmCommittee,
    /// @zama-fhe/relayer-sdk in Node.js on a native chain, whose validators check inputs.
    #[value(name = "relayer-v2-native")]
    RelayerNative,
    /// @fhevm/sdk on such a chain.
    FhevmNative,
    /// @zama-fhe/sdk on such a chain.
    ZamaNative,
    /// @zama-fhe/relayer-sdk in Chromium, with routes of version 2, with threads and without.
    WebRelayerV2,
    /// The same with routes of version 1, with threads.
    WebRelayerV1,
    /// @fhevm/sdk in Chromium, with threads and without.
    WebFhevm,
    /// @zama-fhe/sdk in Chromium, with threads and without.
    WebZama,
    /// The example web page in Chromium, with threads and without: what `cargo xtask e2e web` does.
    WebToken,
}

impl Part {
    /// What the script of this part is called with before the stack; or nothing, where it is not one process in Node.js.
    const fn script(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Libraries => Some(&["libraries.mjs"]),
            Self::Config => Some(&["config.mjs"]),
            Self::RelayerV2 | Self::RelayerCommittee | Self::RelayerNative => Some(&["node.mjs", "relayer-v2"]),
            Self::RelayerV1 => Some(&["node.mjs", "relayer-v1"]),
            Self::Fhevm | Self::Face014 | Self::FhevmCommittee | Self::FhevmNative => Some(&["node.mjs", "fhevm"]),
            Self::Zama | Self::ZamaNative => Some(&["node.mjs", "zama"]),
            Self::WebRelayerV2 | Self::WebRelayerV1 | Self::WebFhevm | Self::WebZama | Self::WebToken => None,
        }
    }

    /// What the page is asked for, and how it is served.
    const fn page(self) -> Option<(&'static str, &'static [&'static str])> {
        match self {
            Self::WebRelayerV2 => Some(("relayer-v2", &["isolated", "plain"])),
            Self::WebRelayerV1 => Some(("relayer-v1", &["isolated"])),
            Self::WebFhevm => Some(("fhevm", &["isolated", "plain"])),
            Self::WebZama => Some(("zama", &["isolated", "plain"])),
            _ => None,
        }
    }

    /// What the stack is started with besides the usual.
    const fn stack(self) -> &'static [&'static str] {
        match self {
            Self::Face014 => &["--face", "0.14"],
            Self::RelayerCommittee | Self::FhevmCommittee => &["--kms-nodes", "4"],
            // On this chain the libraries of published contracts know the host contracts.
            Self::RelayerNative | Self::FhevmNative | Self::ZamaNative => &["--native", "--chain-id", "31337"],
            _ => &[],
        }
    }

    fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Runs these parts, or all, against a stack that is started for them; prints tables of what was done and how long it took, or all of it as JSON.
///
/// # Errors
/// If npm or a browser cannot be had, the packages cannot be installed, the stack does not build or start, or an SDK does not get what it should.
pub(crate) fn run(parts: &[Part], json: bool, binary: Option<PathBuf>) -> Result<()> {
    let folder = root().join("e2e/sdk");
    install_packages(&folder)?;
    let node = node(&folder)?;
    let parts = if parts.is_empty() { Part::value_variants() } else { parts };
    let binary = binary.map_or_else(build, Ok)?;
    let mut report = Report::new(&folder)?;
    // Each kind of stack is started once, for all its parts.
    let stacks: BTreeSet<&[&str]> = parts.iter().map(|part| part.stack()).collect();
    for options in stacks {
        let on_stack: Vec<Part> = parts.iter().copied().filter(|part| part.stack() == options).collect();
        let directory = tempfile::tempdir().context("cannot make a temporary folder")?;
        eprintln!("starting {} {} with fresh keys", binary.display(), options.join(" "));
        let stack = RunningStack::start_with(&binary, directory.path(), options)?;
        for part in on_stack {
            let site = Site {
                folder: &folder,
                node: &node,
                binary: &binary,
                stack: &stack,
                directory: directory.path(),
            };
            for told in site.run(part)? {
                report.add(told);
            }
        }
        stack.stop()?;
    }
    report.print(json)
}

/// Where a part runs.
struct Site<'a> {
    folder: &'a Path,
    node: &'a Path,
    binary: &'a Path,
    stack: &'a RunningStack,
    directory: &'a Path,
}

impl Site<'_> {
    /// Runs a part. What goes wrong in it is in what it gives back; what it needs and is not there is an error.
    fn run(&self, part: Part) -> Result<Vec<Told>> {
        if let Some((script, more)) = part.script().and_then(<[_]>::split_first) {
            let mut command = self.script(script);
            command.args(more).arg(self.stack.summary());
            if part == Part::Config {
                command.arg(self.binary);
            }
            return Ok(vec![Told::by(part.name(), command)?]);
        }
        let browser = browser::find()?;
        if let Some((sdk, servings)) = part.page() {
            let page = self.page()?;
            return servings
                .iter()
                .map(|serving| {
                    let mut command = self.script("web/drive.mjs");
                    command.arg(sdk).arg(self.stack.summary()).args([&page, &browser]).arg(serving);
                    Told::by(format!("{} {serving}", part.name()), command)
                })
                .collect();
        }
        Ok(vec![Told::of(part.name(), || e2e_web::drive(self.stack, self.directory))])
    }

    fn script(&self, script: &str) -> Command {
        let mut command = program(self.node, &[]);
        command.arg(self.folder.join(script));
        command
    }

    /// Builds the page, unless it was already, and returns the folder that it is in.
    fn page(&self) -> Result<PathBuf> {
        let built = self.directory.join("sdk-page");
        if !built.is_dir() {
            let mut build = program(self.node, &[]);
            build
                .arg(self.folder.join("node_modules/vite/bin/vite.js"))
                .args(["build", "--logLevel", "warn", "--emptyOutDir", "--outDir"])
                .arg(&built)
                .arg(self.folder.join("web"))
                .stdout(Stdio::null());
            let status = build.status().context("cannot start Vite")?;
            if !status.success() {
                bail!("the page of the SDKs does not build");
            }
        }
        Ok(built)
    }
}

/// Returns a Node.js that is new enough: the one on the path, or the one among the packages.
///
/// # Errors
/// If there is none.
pub(crate) fn node(folder: &Path) -> Result<PathBuf> {
    let bundled = ["x64", "arm64"].map(|machine| folder.join(format!("node_modules/node-linux-{machine}/bin/node")));
    for candidate in std::iter::once(PathBuf::from("node")).chain(bundled) {
        let version = Command::new(&candidate).arg("--version").output();
        if version.is_ok_and(|output| major(&String::from_utf8_lossy(&output.stdout)).is_some_and(|major| major >= OLDEST_NODE)) {
            return Ok(candidate);
        }
    }
    bail!("the SDKs need Node.js {OLDEST_NODE} or later; there is none on the path, nor a packaged one for this machine")
}

fn major(version: &str) -> Option<u32> {
    version.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

/// Builds the binary and returns where it is.
///
/// # Errors
/// If it does not build.
pub(crate) fn build() -> Result<PathBuf> {
    build_executable(&["--package", "cipherloom"], "cipherloom")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_says_its_release() {
        assert_eq!(major("v22.23.3\n"), Some(22));
        assert_eq!(major("not found"), None);
    }

    #[test]
    fn every_part_is_a_script_or_a_page_but_the_example() {
        for part in Part::value_variants() {
            let kinds = [part.script().is_some(), part.page().is_some(), *part == Part::WebToken];
            assert_eq!(kinds.into_iter().filter(|kind| *kind).count(), 1, "{part:?}");
        }
    }
}
