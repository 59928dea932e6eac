//! Compares what our Solidity library offers with what the published one offers.
//!
//! `cargo xtask library-compat` lists the functions, errors, events and types of both from the compiler's syntax tree, and
//! fails if ours lacks something that contracts could use. The exceptions are below, with their reason.

use std::{collections::BTreeSet, path::Path, process::Command};

use anyhow::{Result, ensure};

use crate::{
    contracts::{LIBRARY_PACKAGE, contracts_dir, install_compiler, run_for_output},
    published_library::{PUBLISHED_PACKAGE, Release, packages},
};

/// The sources that contracts import.
const SOURCES: [&str; 2] = ["lib/FHE.sol", "config/ZamaConfig.sol"];

/// The libraries and contracts that contracts use. What lies behind them (calls, interfaces, signature checks) may differ.
const DECLARATIONS: [&str; 5] = [
    "FHE",
    "ZamaConfig",
    "ZamaEthereumConfig",
    "ZamaMultiChainConfig",
    "ZamaPolygonConfig",
];

/// Compares with each release of the published library.
///
/// # Errors
/// If npm is missing, a library does not compile, or ours lacks something.
pub(crate) fn run() -> Result<()> {
    install_compiler()?;
    let ours = declarations(LIBRARY_PACKAGE, &contracts_dir())?;
    for release in [Release::V0_11, Release::V0_13] {
        let published = declarations(PUBLISHED_PACKAGE, &release.install()?)?;
        let missing = missing(&published, &ours);
        ensure!(
            missing.is_empty(),
            "our library lacks what release {release:?} of the published one has:\n  {}",
            missing.join("\n  ")
        );
        println!("{release:?}: everything is there ({} declarations)", published.len());
    }
    Ok(())
}

fn declarations(package: &str, directory: &Path) -> Result<BTreeSet<String>> {
    let mut command = Command::new("node");
    command.arg(contracts_dir().join("signatures.mjs"));
    command.arg("--package").arg(format!("{package}={}", directory.display()));
    command.arg("--modules").arg(packages().join("node_modules"));
    command.args(SOURCES.iter().flat_map(|source| ["--source", source]));
    command.args(DECLARATIONS.iter().flat_map(|name| ["--declaration", name]));
    Ok(run_for_output(command)?.lines().map(str::to_owned).collect())
}

/// Lists the declarations that contracts could miss.
fn missing(published: &BTreeSet<String>, ours: &BTreeSet<String>) -> Vec<String> {
    published.difference(ours).filter(|line| !is_unusable(line)).cloned().collect()
}

/// Says whether a declaration is a type that no function takes or gives: the published types include widths, signed integers
/// and byte strings for which no operation exists.
fn is_unusable(line: &str) -> bool {
    let Some(name) = line.strip_prefix("type ").and_then(|rest| rest.strip_suffix(" is bytes32")) else {
        return false;
    };
    let name = name
        .strip_prefix("externalE")
        .map_or_else(|| name.to_owned(), |rest| format!("e{rest}"));
    let number = |prefix: &str| name.strip_prefix(prefix).and_then(|digits| digits.parse::<u32>().ok());
    number("eint").is_some() || number("ebytes").is_some() || number("euint").is_some_and(|bits| ![8, 16, 32, 64, 128, 256].contains(&bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lacking_function_is_missed_and_a_type_without_operations_is_not() {
        let set = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<BTreeSet<_>>();
        let published = set(&[
            "function FHE.add(euint8,euint8) internal nonpayable returns (euint8)",
            "function FHE.sub(euint8,euint8) internal nonpayable returns (euint8)",
            "type euint24 is bytes32",
            "type externalEbytes3 is bytes32",
            "type euint64 is bytes32",
        ]);
        let ours = set(&["function FHE.add(euint8,euint8) internal nonpayable returns (euint8)"]);

        let missing = missing(&published, &ours);

        assert_eq!(
            missing,
            [
                "function FHE.sub(euint8,euint8) internal nonpayable returns (euint8)",
                "type euint64 is bytes32"
            ]
        );
    }
}
