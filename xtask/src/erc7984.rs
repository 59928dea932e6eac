//! Compiles OpenZeppelin's confidential contracts from npm, unmodified, with what a deployment of them has to add.
//!
//! The added contracts are in `e2e/npm-erc7984/contracts`; the packages are pinned in `e2e/npm-erc7984/package-lock.json`. The published contracts
//! import the published library. They get it, or ours in its place, without a change to any source.

use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;

use crate::{
    command::root,
    contracts::{Compilation, contracts_dir, install_compiler, install_packages},
    published_library::PUBLISHED_PACKAGE,
};

/// Which Solidity library the published contracts get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Library {
    /// Ours, under the name of the published one.
    Ours,
    /// The release of the published one that they ask npm for.
    Published,
}

/// Writes the artifacts into `out`.
///
/// # Errors
/// If npm is missing, a package cannot be installed, or a contract does not compile.
pub(crate) fn compile(out: &Path, library: Library) -> Result<()> {
    install_compiler()?;
    let packages = root().join("e2e/npm-erc7984");
    install_packages(&packages)?;
    let maps = match library {
        Library::Ours => vec![(PUBLISHED_PACKAGE.to_owned(), contracts_dir())],
        Library::Published => Vec::new(),
    };
    let compilation = Compilation {
        roots: vec![("npm-erc7984".to_owned(), packages.join("contracts"))],
        maps,
        modules: vec![packages.join("node_modules")],
        ..Compilation::default()
    };
    compilation.write_to(out)
}
