//! Compiles the examples with the published Solidity library instead of ours.
//!
//! A contract is to move between the two libraries by changing its imports and nothing else. `cargo xtask examples-npm` does
//! just that to the sources of the examples and writes artifacts of the same form, which the end-to-end tests deploy in place
//! of ours. The published packages are pinned in `e2e/npm-token/package-lock.json`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::{
    command::root,
    contracts::{Compilation, LIBRARY_PACKAGE, contracts_dir, install_compiler, install_packages},
};

/// A release of the published library.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Release {
    /// 0.11.1, the release of the contract libraries that most contracts use.
    #[value(name = "0.11.1")]
    V0_11,
    /// 0.13.2, the newest.
    #[default]
    #[value(name = "0.13.2")]
    V0_13,
}

impl Release {
    /// Returns the folder with the release's Solidity sources, installing it if it is not there.
    ///
    /// # Errors
    /// If npm is missing or cannot install the pinned packages.
    pub(crate) fn install(self) -> Result<PathBuf> {
        let folder = packages();
        install_packages(&folder)?;
        let name = match self {
            Self::V0_11 => "@fhevm/solidity-0.11",
            Self::V0_13 => PUBLISHED_PACKAGE,
        };
        Ok(folder.join("node_modules").join(name))
    }
}

/// The name under which the published library is imported.
pub(crate) const PUBLISHED_PACKAGE: &str = "@fhevm/solidity";

/// What our library has and the published one has not. It names no encrypted type, so it works with both; its imports stay.
const ONLY_OURS: &str = "lib/GatewayCaller.sol";

/// Returns the folder whose lock file pins the published packages.
pub(crate) fn packages() -> PathBuf {
    root().join("e2e/npm-token")
}

/// Returns the folders of the examples with their names, in the order of the names.
///
/// # Errors
/// If the folder cannot be read.
fn examples() -> Result<Vec<(String, PathBuf)>> {
    let folder = root().join("examples");
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.join("contracts").is_dir() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.push((name, path.join("contracts")));
        }
    }
    found.sort();
    ensure!(!found.is_empty(), "{} has no examples", folder.display());
    Ok(found)
}

/// Writes the artifacts of each example, compiled with the published library, into a folder of its name in `out`.
///
/// # Errors
/// If npm is missing, a package cannot be installed, or an example does not compile.
pub(crate) fn run(out: &Path, release: Release) -> Result<()> {
    install_compiler()?;
    let library = release.install()?;
    let moved = tempfile::tempdir().context("cannot make a temporary folder")?;
    // Of our library, the compiler sees this file and no other.
    let ours = moved.path().join("ours");
    fs::create_dir_all(ours.join("lib"))?;
    fs::copy(contracts_dir().join(ONLY_OURS), ours.join(ONLY_OURS)).with_context(|| format!("cannot copy {ONLY_OURS}"))?;
    for (name, sources) in examples()? {
        let folder = moved.path().join(&name);
        move_sources(&sources, &folder)?;
        let compilation = Compilation {
            roots: vec![(name.clone(), folder)],
            maps: vec![
                (PUBLISHED_PACKAGE.to_owned(), library.clone()),
                (LIBRARY_PACKAGE.to_owned(), ours.clone()),
            ],
            modules: vec![packages().join("node_modules")],
            ..Compilation::default()
        };
        compilation.write_to(&out.join(&name))?;
    }
    Ok(())
}

/// Writes the sources of an example with the imports of the published library.
fn move_sources(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        ensure!(
            path.extension().is_some_and(|extension| extension == "sol"),
            "{} is no Solidity source",
            path.display()
        );
        let source = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let moved = with_published_imports(&source).with_context(|| path.display().to_string())?;
        fs::write(to.join(name), moved)?;
    }
    Ok(())
}

/// Changes the imports of our library to those of the published one, as far as it has them.
///
/// # Errors
/// If there is none, or if our library is named anywhere else, so that more than imports would have to change.
pub(crate) fn with_published_imports(source: &str) -> Result<String> {
    let (mut imports, mut text) = (0, String::with_capacity(source.len()));
    for line in source.lines() {
        let moved = if line.starts_with("import ") && line.contains(&quoted(LIBRARY_PACKAGE)) {
            imports += 1;
            if line.contains(&format!("{}{ONLY_OURS}\"", quoted(LIBRARY_PACKAGE))) {
                line.to_owned()
            } else {
                line.replacen(&quoted(LIBRARY_PACKAGE), &quoted(PUBLISHED_PACKAGE), 1)
            }
        } else {
            ensure!(
                !line.contains(LIBRARY_PACKAGE),
                "{LIBRARY_PACKAGE} is named outside the imports: {line}"
            );
            line.to_owned()
        };
        text.push_str(&moved);
        text.push('\n');
    }
    ensure!(imports > 0, "the source does not import {LIBRARY_PACKAGE}");
    Ok(text)
}

/// The beginning of an imported path.
fn quoted(package: &str) -> String {
    format!("\"{package}/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_imports_change() {
        let source = "// a\nimport {FHE} from \"@cipherloom/solidity/lib/FHE.sol\";\ncontract A {}\n";
        let expected = "// a\nimport {FHE} from \"@fhevm/solidity/lib/FHE.sol\";\ncontract A {}\n";
        assert_eq!(with_published_imports(source).unwrap(), expected);
    }

    #[test]
    fn what_only_our_library_has_stays() {
        let source = "import {GatewayCaller} from \"@cipherloom/solidity/lib/GatewayCaller.sol\";\n";
        assert_eq!(with_published_imports(source).unwrap(), source);
    }

    #[test]
    fn a_source_that_needs_more_than_its_imports_changed_is_refused() {
        assert!(with_published_imports("contract A {}\n").is_err());
        let elsewhere = "import {FHE} from \"@cipherloom/solidity/lib/FHE.sol\";\nstring constant A = \"@cipherloom/solidity\";\n";
        assert!(with_published_imports(elsewhere).is_err());
    }
}
