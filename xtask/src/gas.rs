//! What confidential transactions cost on chain, on our host contracts and on the published ones from npm.
//!
//! `cargo xtask gas` compiles the examples and OpenZeppelin's token with both Solidity libraries, takes the published host contracts as npm has
//! them, lets `cipherloom bench gas` send the same transactions to all, and writes the table into `docs/gas.md`. The bytecode of the
//! published host contracts is pinned in `e2e/npm-host-contracts/package-lock.json`. Gas does not depend on the machine, so `--check` can
//! compare the table exactly.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::{
    command::{cargo, program, root},
    contracts::install_packages,
    erc7984::{self, Library},
    published_library::{self, Release},
};

/// The document with the table.
const DOCUMENT: &str = "docs/gas.md";

/// The lines around the table.
const BEGIN: &str = "<!-- gas -->";
const END: &str = "<!-- end of gas -->";

/// The host contracts whose bytecode npm has.
const HOST_CONTRACTS: [(&str, &str); 6] = [
    ("ACL", "ACL.sol"),
    ("FHEVMExecutor", "FHEVMExecutor.sol"),
    ("HCULimit", "HCULimit.sol"),
    ("InputVerifier", "InputVerifier.sol"),
    ("KMSVerifier", "KMSVerifier.sol"),
    ("PauserSet", "immutable/PauserSet.sol"),
];

/// Measures, prints the table, and writes it into the document, or with `check` fails if it is another one.
///
/// # Errors
/// If npm is missing, a package cannot be installed, something does not compile or run or, with `check`, the table has changed.
pub(crate) fn run(check: bool, binary: Option<PathBuf>) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    collect(folder.path())?;
    let table = measure(folder.path(), binary)?;
    print!("{table}");
    let path = root().join(DOCUMENT);
    let document = fs::read_to_string(&path).with_context(|| format!("cannot read {DOCUMENT}"))?;
    let updated = with_table(&document, &table)?;
    if check {
        ensure!(
            updated == document,
            "the table in {DOCUMENT} is not what the contracts cost; run `cargo xtask gas` and commit"
        );
        return Ok(());
    }
    fs::write(&path, updated).with_context(|| format!("cannot write {DOCUMENT}"))
}

/// Puts everything that is measured into a folder, as `cipherloom bench gas --published` takes it.
fn collect(folder: &Path) -> Result<()> {
    let host = folder.join("host");
    fs::create_dir_all(&host)?;
    let package = root().join("e2e/npm-host-contracts");
    install_packages(&package)?;
    for (name, source) in HOST_CONTRACTS {
        let artifact = package
            .join("node_modules/@fhevm/host-contracts/artifacts/contracts")
            .join(source)
            .join(format!("{name}.json"));
        fs::copy(&artifact, host.join(format!("{name}.json"))).with_context(|| format!("cannot copy {}", artifact.display()))?;
    }
    // The release of the library that was published for these host contracts, and that OpenZeppelin's contracts ask for.
    published_library::run(&folder.join("published"), Release::V0_11)?;
    erc7984::compile(&folder.join("published/erc7984"), Library::Published)?;
    erc7984::compile(&folder.join("ours/erc7984"), Library::Ours)
}

/// Runs the measurement and returns the table.
fn measure(folder: &Path, binary: Option<PathBuf>) -> Result<String> {
    let folder = folder.to_str().context("the temporary folder's path is not UTF-8")?;
    let arguments = ["bench", "gas", "--published", folder];
    let mut command = match binary {
        Some(binary) => program(binary, &arguments),
        None => cargo(
            &[
                &["run", "--release", "--locked", "--quiet", "--package", "cipherloom", "--"],
                arguments.as_slice(),
            ]
            .concat(),
        ),
    };
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot start cipherloom")?;
    ensure!(output.status.success(), "`cipherloom bench gas` failed: {}", output.status);
    String::from_utf8(output.stdout).context("the table is not UTF-8")
}

/// Puts a table in the place of the one in a document.
///
/// # Errors
/// If the document does not have the two lines around it.
fn with_table(document: &str, table: &str) -> Result<String> {
    let (before, rest) = document
        .split_once(BEGIN)
        .with_context(|| format!("{DOCUMENT} has no line `{BEGIN}`"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{DOCUMENT} has no line `{END}`"))?;
    Ok(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_replaced_and_nothing_else() {
        let document = format!("# Gas\n{BEGIN}\nold\n{END}\nmore\n");
        let updated = with_table(&document, "new\n").unwrap();
        assert_eq!(updated, format!("# Gas\n{BEGIN}\n\nnew\n\n{END}\nmore\n"));
        assert_eq!(with_table(&updated, "new\n").unwrap(), updated);
        assert!(with_table("# Gas\n", "new\n").is_err());
    }
}
