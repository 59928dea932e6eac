//! Compiles the example token with the published Solidity library instead of ours.
//!
//! A contract is to move between the two libraries by changing its imports and nothing else. `cargo xtask token-npm` does
//! just that to the token's source and writes an artifact of the same form, which the end-to-end test deploys in place
//! of the one that is built in. The published packages are pinned in `e2e/npm-token/package-lock.json`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::{
    command::root,
    contracts::{Compilation, LIBRARY_PACKAGE, install_compiler, install_packages},
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

/// Returns the folder whose lock file pins the published packages.
pub(crate) fn packages() -> PathBuf {
    root().join("e2e/npm-token")
}

/// Writes the artifact of the token, compiled with the published library, into `out`.
///
/// # Errors
/// If npm is missing, a package cannot be installed, or the token does not compile.
pub(crate) fn run(out: &Path, release: Release) -> Result<()> {
    install_compiler()?;
    let library = release.install()?;
    let source = root().join("examples/confidential-token/contracts/ConfidentialToken.sol");
    let ours = fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
    let moved = tempfile::tempdir().context("cannot make a temporary folder")?;
    fs::write(moved.path().join("ConfidentialToken.sol"), with_published_imports(&ours)?)?;
    let compilation = Compilation {
        roots: vec![("confidential-token".to_owned(), moved.path().to_path_buf())],
        maps: vec![(PUBLISHED_PACKAGE.to_owned(), library)],
        modules: vec![packages().join("node_modules")],
        ..Compilation::default()
    };
    compilation.write_to(out)
}

/// Changes the imports of our library to those of the published one.
///
/// # Errors
/// If there is none, or if our library is named anywhere else, so that more than imports would have to change.
pub(crate) fn with_published_imports(source: &str) -> Result<String> {
    let ours = format!("\"{LIBRARY_PACKAGE}/");
    let mut changed = 0;
    let lines: Vec<String> = source
        .lines()
        .map(|line| {
            if line.starts_with("import ") && line.contains(&ours) {
                changed += 1;
                line.replacen(&ours, &format!("\"{PUBLISHED_PACKAGE}/"), 1)
            } else {
                line.to_owned()
            }
        })
        .collect();
    ensure!(changed > 0, "the source does not import {LIBRARY_PACKAGE}");
    let moved = lines.join("\n") + "\n";
    ensure!(
        !moved.contains(LIBRARY_PACKAGE),
        "the source names {LIBRARY_PACKAGE} outside its imports"
    );
    Ok(moved)
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
    fn a_source_that_needs_more_than_its_imports_changed_is_refused() {
        assert!(with_published_imports("contract A {}\n").is_err());
        let elsewhere = "import {FHE} from \"@cipherloom/solidity/lib/FHE.sol\";\nstring constant A = \"@cipherloom/solidity\";\n";
        assert!(with_published_imports(elsewhere).is_err());
    }
}
