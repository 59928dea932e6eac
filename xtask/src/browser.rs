//! The browser that pages are tested in: the system's Chromium, installed where it is missing and can be.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context, Result, bail};

use crate::command::{program, run as execute};

/// What Chromium is called.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Returns the Chromium of the system; installs it where `apt-get` can.
///
/// # Errors
/// If there is none and it cannot be installed.
pub(crate) fn find() -> Result<PathBuf> {
    if let Some(browser) = installed() {
        return Ok(browser);
    }
    if which("apt-get").is_none() {
        bail!(
            "there is no Chromium on the path ({}), and no apt-get to install it with",
            BROWSERS.join(", ")
        );
    }
    eprintln!("installing Chromium with apt-get");
    let install = || -> Result<()> {
        for arguments in [&["update"][..], &["install", "--yes", "--no-install-recommends", "chromium"]] {
            let mut command = program("apt-get", arguments);
            command.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
            execute(command)?;
        }
        Ok(())
    };
    install().context("cannot install Chromium; install it by hand, with `apt-get install chromium` as root")?;
    installed().context("Chromium was installed and is not on the path")
}

fn installed() -> Option<PathBuf> {
    BROWSERS.into_iter().find_map(which)
}

/// Looks for a program on the path.
fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}
