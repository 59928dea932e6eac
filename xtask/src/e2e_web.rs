//! Drives the example web page in a headless browser against a running `cipherloom dev`.
//!
//! The stack runs on real TFHE, because the page's SDK makes real proofs. The page is built by its own package (`examples/web-token`) and served twice:
//! with the headers that let it use threads, and without. What the browser does is in `e2e/web/drive.mjs`.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    command::{program, root, run as execute},
    contracts::install_packages,
    e2e_sdk::{self, RunningStack},
};

/// How the page is served.
const SERVINGS: [&str; 2] = ["isolated", "plain"];

/// What Chromium is called.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Builds the page, starts a stack, and uses the page in a browser.
///
/// # Errors
/// If npm or a browser is missing and cannot be installed, if the page or the stack does not build or start, or if the page does not do what it should.
pub(crate) fn run(binary: Option<PathBuf>) -> Result<()> {
    let page = root().join("examples/web-token");
    let driver = root().join("e2e/web");
    install_packages(&page)?;
    install_packages(&driver)?;
    let browser = browser()?;
    let binary = binary.map_or_else(e2e_sdk::build, Ok)?;
    let directory = tempfile::tempdir().context("cannot make a temporary folder")?;
    let built = directory.path().join("page");
    execute(npm(&page, &["run", "check"]))?;
    let mut build = npm(&page, &["exec", "--", "vite", "build", "--emptyOutDir", "--outDir"]);
    build.arg(&built);
    execute(build)?;

    let pictures = pictures()?;
    println!("starting {} with fresh keys", binary.display());
    let stack = RunningStack::start(&binary, directory.path())?;
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
        println!("pictures of the page, served {serving}: {}", picture.display());
    }
    stack.stop()
}

/// Prepares npm in a folder.
fn npm(folder: &std::path::Path, arguments: &[&str]) -> Command {
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

/// Returns the Chromium of the system; installs it where `apt-get` can.
fn browser() -> Result<PathBuf> {
    if let Some(browser) = installed_browser() {
        return Ok(browser);
    }
    if which("apt-get").is_none() {
        bail!(
            "there is no Chromium on the path ({}), and no apt-get to install it with",
            BROWSERS.join(", ")
        );
    }
    println!("installing Chromium with apt-get");
    let install = || -> Result<()> {
        for arguments in [&["update"][..], &["install", "--yes", "--no-install-recommends", "chromium"]] {
            let mut command = program("apt-get", arguments);
            command.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
            execute(command)?;
        }
        Ok(())
    };
    install().context("cannot install Chromium; install it by hand, with `apt-get install chromium` as root")?;
    installed_browser().context("Chromium was installed and is not on the path")
}

fn installed_browser() -> Option<PathBuf> {
    BROWSERS.into_iter().find_map(which)
}

/// Looks for a program on the path.
fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}
