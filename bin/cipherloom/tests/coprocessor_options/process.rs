//! Running the binaries, cut off from the user's own settings.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

/// Prepares `coprocessor`.
pub(crate) fn coprocessor(arguments: &[&str]) -> Command {
    prepare(env!("CARGO_BIN_EXE_coprocessor"), arguments)
}

/// Runs `cipherloom` to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    prepare(env!("CARGO_BIN_EXE_cipherloom"), arguments).output().unwrap()
}

fn prepare(binary: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary);
    command.args(arguments).stdin(Stdio::null());
    for name in ["RUST_LOG", "DATABASE_URL", "FHEVM_DF_SCHEDULE", "CIPHERLOOM_CONFIG"] {
        command.env_remove(name);
    }
    command
}

/// Reads what a process has printed.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running `coprocessor`, without the options that a deployment of tests gives; killed when it is dropped.
pub(crate) struct Coprocessor {
    pub(crate) child: Child,
    pub(crate) summary: Value,
    log: PathBuf,
}

impl Coprocessor {
    /// Starts it in a directory, where its log is kept too, and waits until it says in JSON that it runs.
    pub(crate) fn start(directory: &Path, mut command: Command) -> Self {
        let log = directory.join("coprocessor.log");
        command
            .current_dir(directory)
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap());
        let mut process = Self {
            child: command.spawn().unwrap(),
            summary: Value::Null,
            log,
        };
        let mut line = String::new();
        BufReader::new(process.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        process.summary = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}; its log: {}", process.log()));
        process
    }

    /// Returns the URL of its API.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.summary["serverAddress"].as_str().unwrap())
    }

    /// Asks it to end, and says whether it ended well.
    pub(crate) fn terminate(&mut self) -> bool {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.child.wait().unwrap().success()
    }

    /// Returns what it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Coprocessor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
