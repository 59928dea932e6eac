//! Drives the example web page in a headless browser against a running `cipherloom dev`.
//!
//! The stack runs on real TFHE, because the page's SDK makes real proofs. The page is built by its own package (`examples/web-token`) and served twice:
//! with the headers that let it use threads, and without. What the browser does is in `e2e/web/drive.mjs`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    browser,
    command::{program, root, run as execute},
    contracts::install_packages,
    dev_stack::RunningStack,
    e2e_sdk,
};

/// How the page is served.
const SERVINGS: [&str; 2] = ["isolated", "plain"];

/// Builds the page, starts a stack, and uses the page in a browser.
///
/// # Errors
/// If npm or a browser is missing and cannot be installed, if the page or the stack does not build or start, or if the page does not do what it should.
pub(crate) fn run(binary: Option<PathBuf>) -> Result<()> {
    let binary = binary.map_or_else(e2e_sdk::build, Ok)?;
    let directory = tempfile::tempdir().context("cannot make a temporary folder")?;
    println!("starting {} with fresh keys", binary.display());
    let stack = RunningStack::start(&binary, directory.path())?;
    drive(&stack, directory.path())?;
    stack.stop()
}

/// Builds the page in this directory, and uses it in a browser with this stack.
///
/// # Errors
/// As [`run`].
pub(crate) fn drive(stack: &RunningStack, directory: &Path) -> Result<()> {
    let page = root().join("examples/web-token");
    let driver = root().join("e2e/web");
    install_packages(&page)?;
    install_packages(&driver)?;
    let browser = browser::find()?;
    let built = directory.join("page");
    execute(npm(&page, &["run", "check"]))?;
    let mut build = npm(&page, &["exec", "--", "vite", "build", "--emptyOutDir", "--outDir"]);
    build.arg(&built);
    execute(build)?;

    let pictures = pictures()?;
    for serving in SERVINGS {
        let picture = pictures.join(format!("{serving}.png"));
        let mut command = program("node", &[]);
        command
            .arg(driver.join("drive.mjs"))
            .arg(stack.summary())
            .args([&page, &built, &browser])
            .arg(serving)
            .arg(&picture);
        execute(command).with_context(|| format!("the page, served {serving}, does not do what it should; see {}", picture.display()))?;
        eprintln!("pictures of the page, served {serving}: {}", picture.display());
    }
    Ok(())
}

/// Prepares npm in a folder.
fn npm(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("npm");
    command.args(arguments).current_dir(folder);
    command
}

/// Makes the folder for pictures, below the one that cargo builds into.
fn pictures() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |folder| root().join(folder));
    let folder = target.join("e2e-web");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}
