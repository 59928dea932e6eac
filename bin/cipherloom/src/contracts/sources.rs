//! The compiler's standard JSON input of the host contracts, made again from their sources.
//!
//! The sources of the libraries that the contracts use belong to others, so neither the repository nor this binary has them: `cargo xtask contracts`
//! installs the pinned ones, and here they are read. Everything that compiles into the committed artifacts is put together in the same way as there, source
//! names and settings included, so that an explorer that compiles the input gets the same bytes. Tests compile it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use cipherloom_contracts::{HostContract, InputChecks};
use clap::Args;
use serde_json::{Value, json};

/// The compiler, as explorers name it.
pub(crate) const COMPILER: &str = "v0.8.29+commit.ab55807c";

/// What the names of our sources begin with.
const PACKAGE: &str = "@cipherloom/solidity";

/// The largest source that is read, in bytes.
const MAX_SOURCE_BYTES: u64 = 1024 * 1024;

/// The most sources that are read.
const MAX_SOURCES: usize = 1000;

/// Where the sources are.
#[derive(Clone, Debug, Args)]
pub(crate) struct SourceOptions {
    /// The folder `contracts` of a checkout in which `cargo xtask contracts` installed the libraries.
    #[arg(long, value_name = "DIR", default_value = "contracts")]
    pub(crate) sources: PathBuf,
}

/// What to write.
#[derive(Clone, Debug, Args)]
pub(crate) struct StandardJsonOptions {
    #[command(flatten)]
    sources: SourceOptions,

    /// Where to write it [default: standard output].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Writes the input.
///
/// # Errors
/// If sources are missing or the file cannot be written.
pub(crate) fn run(options: &StandardJsonOptions) -> Result<()> {
    let input = standard_json(&options.sources.sources)?;
    match &options.out {
        Some(path) => {
            fs::write(path, &input).with_context(|| format!("cannot write {}", path.display()))?;
            println!("{}: compile it with {COMPILER}", path.display());
        }
        None => println!("{input}"),
    }
    Ok(())
}

/// Returns the name under which explorers know a contract: its source and its name.
pub(crate) fn qualified_name(contract: HostContract, inputs: InputChecks) -> String {
    let name = match (contract, inputs) {
        (HostContract::InputVerifier, InputChecks::Validators) => "NativeInputVerifier",
        _ => contract.name(),
    };
    format!("{PACKAGE}/src/host/{name}.sol:{name}")
}

/// Returns the name of the proxies.
pub(crate) fn proxy_name() -> String {
    format!("{PACKAGE}/src/deploy/HostProxy.sol:HostProxy")
}

/// Puts the input together from all sources of the host contracts and what they import.
///
/// # Errors
/// If a source is missing, too large, or imports something that is not there.
pub(crate) fn standard_json(contracts: &Path) -> Result<String> {
    let root = contracts.join("src");
    ensure!(
        root.is_dir(),
        "{} has no folder src: name the folder `contracts` of a checkout with --sources",
        contracts.display()
    );
    let mut waiting: Vec<String> = Vec::new();
    list(&root, &format!("{PACKAGE}/src"), &mut waiting)?;
    let mut sources: BTreeMap<String, String> = BTreeMap::new();
    while let Some(name) = waiting.pop() {
        if sources.contains_key(&name) {
            continue;
        }
        ensure!(sources.len() < MAX_SOURCES, "there are more than {MAX_SOURCES} sources");
        let text = read(contracts, &name)?;
        for import in imports(&text) {
            waiting.push(resolve(&name, import)?);
        }
        sources.insert(name, text);
    }
    let sources: BTreeMap<String, Value> = sources
        .into_iter()
        .map(|(name, content)| (name, json!({ "content": content })))
        .collect();
    let input = json!({
        "language": "Solidity",
        "sources": sources,
        "settings": {
            "evmVersion": "cancun",
            "optimizer": { "enabled": true, "runs": 800 },
            "metadata": { "bytecodeHash": "none", "appendCBOR": false },
            "outputSelection": { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
        },
    });
    Ok(input.to_string())
}

/// Lists sources below a folder under their names.
fn list(folder: &Path, name: &str, into: &mut Vec<String>) -> Result<()> {
    let unreadable = || format!("cannot read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(unreadable)? {
        let entry = entry.with_context(unreadable)?;
        let file = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().with_context(unreadable)?.is_dir() {
            list(&entry.path(), &format!("{name}/{file}"), into)?;
        } else if file.ends_with(".sol") {
            into.push(format!("{name}/{file}"));
        }
    }
    Ok(())
}

fn read(contracts: &Path, name: &str) -> Result<String> {
    let path = match name.strip_prefix(PACKAGE).and_then(|rest| rest.strip_prefix('/')) {
        Some(own) => contracts.join(own),
        None => contracts.join("node_modules").join(name),
    };
    let missing = || {
        format!(
            "{name} is not at {}; `cargo xtask contracts` installs the libraries",
            path.display()
        )
    };
    let size = fs::metadata(&path).with_context(missing)?.len();
    ensure!(size <= MAX_SOURCE_BYTES, "{} is too large for a source", path.display());
    fs::read_to_string(&path).with_context(missing)
}

/// Returns what a source imports, as it is written there. Our sources and the libraries' have one import per statement, and none in comments that begin
/// a line like one.
fn imports(text: &str) -> impl Iterator<Item = &str> {
    let statements = text.split(';').filter_map(|statement| {
        let start = statement
            .rfind("\nimport ")
            .map(|at| at + 1)
            .or_else(|| statement.starts_with("import ").then_some(0))?;
        statement.get(start..)
    });
    statements.filter_map(|statement| {
        // The path is the last thing in quotes: `import "a"`, `import {A} from "a"`, `import "a" as A`.
        let quote = statement.find(['"', '\''])?;
        let rest = statement.get(quote + 1..)?;
        let mark = statement.get(quote..=quote)?;
        rest.split_once(mark).map(|(path, _)| path)
    })
}

/// Returns the name of an imported source.
fn resolve(importer: &str, import: &str) -> Result<String> {
    if !import.starts_with('.') {
        return Ok(import.to_owned());
    }
    let mut parts: Vec<&str> = importer.split('/').collect();
    parts.pop();
    for part in import.split('/') {
        match part {
            "." => {}
            ".." => {
                if parts.pop().is_none() {
                    bail!("{importer} imports {import}, which is outside");
                }
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_found_however_they_are_written() {
        let text = "// SPDX\npragma solidity ^0.8.24;\n\nimport \"./A.sol\";\nimport {B} from '../b/B.sol';\nimport {\n    C,\n    D\n} from \"@lib/C.sol\";\n// import of nothing;\ncontract X { string s = \"import y\"; }\n";
        assert_eq!(imports(text).collect::<Vec<_>>(), ["./A.sol", "../b/B.sol", "@lib/C.sol"]);
    }

    #[test]
    fn names_are_resolved_as_the_compiler_does() {
        let from = "@cipherloom/solidity/src/host/ACL.sol";
        assert_eq!(resolve(from, "../base/X.sol").unwrap(), "@cipherloom/solidity/src/base/X.sol");
        assert_eq!(resolve(from, "./Y.sol").unwrap(), "@cipherloom/solidity/src/host/Y.sol");
        assert_eq!(
            resolve(from, "@openzeppelin/contracts/Z.sol").unwrap(),
            "@openzeppelin/contracts/Z.sol"
        );
        assert!(resolve("A.sol", "../../B.sol").is_err());
    }
}
