//! Carries a confidential token of the 0.6 generation through a running `cipherloom dev --legacy-0.6` with the published fhevmjs, WebAssembly, contracts
//! and libraries of that generation, unmodified.
//!
//! The stack runs as a process of its own, on real TFHE, free ports and a temporary directory; only its keys are kept from run to run, because the
//! reference string of that generation takes minutes to make. What is run is in `e2e/legacy`, pinned in its `package-lock.json`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{
    command::{cache, program, root, run as execute},
    contracts::{Compilation, install_compiler, install_packages},
    dev_stack::RunningStack,
    e2e_sdk,
};

/// Runs the story.
///
/// # Errors
/// If npm is missing, the packages cannot be installed, the stack does not build or start, or fhevmjs does not get what it should.
pub(crate) fn run(binary: Option<PathBuf>) -> Result<()> {
    let folder = root().join("e2e/legacy");
    install_packages(&folder)?;
    install_compiler()?;
    let binary = binary.map_or_else(e2e_sdk::build, Ok)?;
    let directory = tempfile::tempdir().context("cannot make a temporary folder")?;
    let artifacts = directory.path().join("artifacts");
    token(&folder).write_to(&artifacts)?;
    keep_keys(directory.path())?;

    println!("starting {}; the first time it makes keys, which takes minutes", binary.display());
    let options = ["--legacy-0.6", "--legacy-gateway-port", "0"];
    let stack = RunningStack::start_with(&binary, directory.path(), &options)?;
    let mut command = program("node", &[]);
    command
        .arg(folder.join("story.cjs"))
        .arg(stack.summary())
        .arg(artifacts.join("Token.json"))
        .arg(root().join("crates/signcryption/tests/vectors/generation-0.6.json"));
    execute(command).context("fhevmjs does not work with this stack")?;
    stack.stop()
}

/// Compiles the token against that generation's libraries.
fn token(folder: &Path) -> Compilation {
    Compilation {
        roots: vec![("legacy".to_owned(), folder.join("contracts"))],
        modules: vec![folder.join("node_modules")],
        only: vec!["Token".to_owned()],
        ..Compilation::default()
    }
}

/// Has the stack keep its keys in the cache of this project.
fn keep_keys(directory: &Path) -> Result<()> {
    let kept = cache().join("e2e-keys").join("legacy");
    std::fs::create_dir_all(&kept).with_context(|| format!("cannot make {}", kept.display()))?;
    let data = directory.join("data");
    std::fs::create_dir_all(&data)?;
    std::os::unix::fs::symlink(&kept, data.join("keys")).context("cannot link the keys")
}
