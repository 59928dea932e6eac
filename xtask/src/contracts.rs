//! Compiles the Solidity sources and keeps the committed artifacts equal to them.
//!
//! `cargo xtask contracts` installs the pinned compiler (`npm ci` in `contracts/`, which needs Node), compiles the host
//! contracts into `contracts/artifacts`, the tests' contracts into `contracts/test/artifacts` and `e2e/sdk/artifacts`, and the
//! contracts of each example into `examples/NAME/artifacts`. Snapshots of the host contracts, which reviewers read and upgrades are checked
//! against, go to `contracts/snapshots`: ABI as text, storage layouts, places of immutables. With `--check` it compiles
//! into a temporary folder and fails if anything differs from what is committed.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::command::root;

/// The host contracts that are deployed; everything else in `contracts/src` is part of one of them.
const HOST_CONTRACTS: [&str; 13] = [
    "ACL",
    "EmptyACL",
    "EmptyHostContract",
    "FHEVMExecutor",
    "GatewayContract",
    "HCULimit",
    "HostProxy",
    "InputVerifier",
    "KMSVerifier",
    "NativeInputVerifier",
    "PauserSet",
    "ProtocolConfig",
    "ValidatorSet",
];

/// The folders of snapshots, below [`snapshots_dir`].
const SNAPSHOTS: [&str; 3] = ["abi", "code", "storage"];

/// The name under which dApps import the Solidity library; the host contracts' source names begin with it too.
pub(crate) const LIBRARY_PACKAGE: &str = "@cipherloom/solidity";

/// One run of the compiler.
#[derive(Debug, Default)]
pub(crate) struct Compilation {
    /// Folders whose sources are compiled, each with the name its source names begin with.
    pub(crate) roots: Vec<(String, PathBuf)>,
    /// Import prefixes and the folders they stand for.
    pub(crate) maps: Vec<(String, PathBuf)>,
    /// Where other imports are looked up; empty means `contracts/node_modules`.
    pub(crate) modules: Vec<PathBuf>,
    /// The contracts to write artifacts of; empty means all that have bytecode.
    pub(crate) only: Vec<String>,
    /// Where to write snapshots of them, if anywhere.
    pub(crate) snapshots: Option<PathBuf>,
}

impl Compilation {
    /// Compiles and writes one artifact per contract into `out`.
    ///
    /// # Errors
    /// Fails if Node or the compiler is missing, or with the compiler's messages.
    pub(crate) fn write_to(&self, out: &Path) -> Result<()> {
        let mut command = Command::new("node");
        command.arg(contracts_dir().join("compile.mjs")).arg("--out").arg(out);
        for (name, directory) in &self.roots {
            command.arg("--root").arg(format!("{name}={}", directory.display()));
        }
        for (prefix, directory) in &self.maps {
            command.arg("--map").arg(format!("{prefix}={}", directory.display()));
        }
        for folder in &self.modules {
            command.arg("--modules").arg(folder);
        }
        for name in &self.only {
            command.arg("--only").arg(name);
        }
        if let Some(folder) = &self.snapshots {
            command.arg("--snapshots").arg(folder);
        }
        run_quietly(command)
    }
}

/// Compiles everything, or with `check` fails if the committed artifacts are not what the sources give.
///
/// # Errors
/// Fails if Node or npm is missing, if a source does not compile or, with `check`, naming the artifacts that differ.
pub(crate) fn run(check: bool) -> Result<()> {
    install_compiler()?;
    let mut differences = Vec::new();
    for (mut compilation, artifacts) in compilations()? {
        if check {
            let fresh = tempfile::tempdir().context("making a temporary folder")?;
            let fresh_snapshots = fresh.path().join("snapshots");
            let committed_snapshots = compilation.snapshots.take();
            compilation.snapshots = committed_snapshots.is_some().then(|| fresh_snapshots.clone());
            compilation.write_to(fresh.path())?;
            differences.extend(compare(fresh.path(), &artifacts)?);
            if let Some(committed) = committed_snapshots {
                for folder in SNAPSHOTS {
                    differences.extend(compare(&fresh_snapshots.join(folder), &committed.join(folder))?);
                }
            }
        } else {
            clear_artifacts(&artifacts)?;
            if let Some(snapshots) = &compilation.snapshots {
                SNAPSHOTS.iter().try_for_each(|folder| clear_artifacts(&snapshots.join(folder)))?;
            }
            compilation.write_to(&artifacts)?;
        }
    }
    ensure!(
        differences.is_empty(),
        "committed artifacts and snapshots do not match the Solidity sources; run `cargo xtask contracts` and commit:\n  {}",
        differences.join("\n  ")
    );
    Ok(())
}

/// Installs the compiler and the libraries of `contracts/package-lock.json` unless they are there already.
///
/// # Errors
/// Fails if npm is missing or cannot install the locked packages.
pub(crate) fn install_compiler() -> Result<()> {
    install_packages(&contracts_dir())
}

/// Installs the packages that a folder's `package-lock.json` names unless they are there already.
///
/// # Errors
/// Fails if npm is missing or cannot install the locked packages.
pub(crate) fn install_packages(directory: &Path) -> Result<()> {
    install(directory, Command::new("npm"))
}

/// As [`install_packages`], with npm running on this Node.js: packages for a newer one than npm runs on are left out or refused.
///
/// # Errors
/// As [`install_packages`].
pub(crate) fn install_packages_with(directory: &Path, javascript: &Path) -> Result<()> {
    let mut command = Command::new("npm");
    if let Some(folder) = javascript.parent().filter(|folder| folder.is_absolute()) {
        let others = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&others));
        command.env("PATH", std::env::join_paths(path).context("making a search path")?);
    }
    install(directory, command)
}

fn install(directory: &Path, mut npm: Command) -> Result<()> {
    let file = directory.join("package-lock.json");
    let lock = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
    // npm's own record of an install differs in form from the lock file, so a copy of the lock is kept next to it.
    let installed = directory.join("node_modules/.cipherloom-lock.json");
    if fs::read(&installed).is_ok_and(|previous| previous == lock) {
        return Ok(());
    }
    npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
        .current_dir(directory);
    run_quietly(npm)?;
    fs::write(&installed, lock).context("recording the installed packages")
}

/// Returns the folder of the repository's Solidity sources.
pub(crate) fn contracts_dir() -> PathBuf {
    root().join("contracts")
}

/// Returns the folder of the snapshots that the compiler's script writes.
fn snapshots_dir() -> PathBuf {
    contracts_dir().join("snapshots")
}

/// Lists what is compiled and where its artifacts are committed.
fn compilations() -> Result<Vec<(Compilation, PathBuf)>> {
    let host = Compilation {
        roots: vec![(format!("{LIBRARY_PACKAGE}/src"), contracts_dir().join("src"))],
        only: HOST_CONTRACTS.map(str::to_owned).to_vec(),
        snapshots: Some(snapshots_dir()),
        ..Compilation::default()
    };
    let test = Compilation {
        roots: vec![(format!("{LIBRARY_PACKAGE}/test"), contracts_dir().join("test"))],
        maps: vec![(LIBRARY_PACKAGE.to_owned(), contracts_dir())],
        ..Compilation::default()
    };
    let sdks = root().join("e2e/sdk");
    let for_sdks = Compilation {
        roots: vec![("e2e/sdk".to_owned(), sdks.join("contracts"))],
        maps: vec![(LIBRARY_PACKAGE.to_owned(), contracts_dir())],
        ..Compilation::default()
    };
    let mut all = vec![
        (host, contracts_dir().join("artifacts")),
        (test, contracts_dir().join("test/artifacts")),
        (for_sdks, sdks.join("artifacts")),
    ];
    let examples = root().join("examples");
    if examples.is_dir() {
        let mut folders: Vec<PathBuf> = fs::read_dir(&examples)?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_, std::io::Error>>()?;
        folders.sort();
        for folder in folders.into_iter().filter(|folder| folder.join("contracts").is_dir()) {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let example = Compilation {
                roots: vec![(name, folder.join("contracts"))],
                maps: vec![(LIBRARY_PACKAGE.to_owned(), contracts_dir())],
                ..Compilation::default()
            };
            all.push((example, folder.join("artifacts")));
        }
    }
    Ok(all)
}

fn run_quietly(command: Command) -> Result<()> {
    run_for_output(command).map(drop)
}

/// Runs a program of Node's and returns what it prints.
///
/// # Errors
/// If it cannot be started or fails, with what it printed.
pub(crate) fn run_for_output(mut command: Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| {
        format!("running {name}; compiling Solidity needs Node 18 or newer with npm (building the Rust workspace does not)")
    })?;
    if !output.status.success() {
        bail!(
            "{name} failed:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Removes artifacts, so that those of deleted contracts do not stay behind.
fn clear_artifacts(directory: &Path) -> Result<()> {
    for name in artifact_names(directory)? {
        fs::remove_file(directory.join(name))?;
    }
    Ok(())
}

fn artifact_names(directory: &Path) -> Result<BTreeSet<String>> {
    if !directory.is_dir() {
        return Ok(BTreeSet::new());
    }
    let names = fs::read_dir(directory)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>, std::io::Error>>()?;
    let is_ours = |name: &String| [".json", ".txt"].iter().any(|ending| name.ends_with(ending));
    Ok(names.into_iter().filter(is_ours).collect())
}

/// Describes every difference between two folders of artifacts.
fn compare(fresh: &Path, committed: &Path) -> Result<Vec<String>> {
    let (expected, found) = (artifact_names(fresh)?, artifact_names(committed)?);
    let shown = |name: &str| {
        let path = committed.join(name);
        path.strip_prefix(root()).unwrap_or(&path).display().to_string()
    };
    let mut differences = Vec::new();
    for name in expected.union(&found) {
        match (expected.contains(name), found.contains(name)) {
            (true, false) => differences.push(format!("{} is missing", shown(name))),
            (false, _) => differences.push(format!("{} has no source", shown(name))),
            (true, true) if fs::read(fresh.join(name))? != fs::read(committed.join(name))? => {
                differences.push(format!("{} differs", shown(name)));
            }
            (true, true) => {}
        }
    }
    Ok(differences)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_difference_is_named() {
        let (fresh, committed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |folder: &Path, name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        write(fresh.path(), "Same.json", "1");
        write(committed.path(), "Same.json", "1");
        write(fresh.path(), "Changed.json", "1");
        write(committed.path(), "Changed.json", "2");
        write(fresh.path(), "New.json", "1");
        write(committed.path(), "Old.json", "1");
        write(committed.path(), "README.md", "not an artifact");

        let differences = compare(fresh.path(), committed.path()).unwrap();

        let ends: Vec<String> = differences
            .iter()
            .map(|line| line.rsplit('/').next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(ends, ["Changed.json differs", "New.json is missing", "Old.json has no source"]);
    }

    #[test]
    fn a_missing_folder_has_no_artifacts() {
        let folder = tempfile::tempdir().unwrap();
        assert!(artifact_names(&folder.path().join("absent")).unwrap().is_empty());
    }
}
