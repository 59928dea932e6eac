//! Running the binary.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use serde_json::Value;

/// Prepares the binary with arguments, cut off from the user's own settings.
pub(crate) fn cipherloom(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cipherloom"));
    command
        .args(arguments)
        .env_remove("RUST_LOG")
        .env_remove("CIPHERLOOM_DATA_DIR")
        .env_remove("CIPHERLOOM_DATABASE_URL")
        .env_remove("DATABASE_URL")
        .env_remove("FHEVM_DF_SCHEDULE")
        .stdin(Stdio::null());
    command
}

/// Runs the binary to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    cipherloom(arguments).output().unwrap()
}

/// Runs the demo with `--json` and returns what it printed last.
pub(crate) fn demo(data_dir: &Path, more: &[&str]) -> Value {
    let data_dir = data_dir.to_str().unwrap();
    let output = run(&[&["demo", "--json", "--data-dir", data_dir], more].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "the demo failed: {errors}\n{text}");
    assert_eq!(text.lines().count(), 1, "--json prints one line: {text}");
    serde_json::from_str(&text).unwrap()
}

/// A running process whose output is read line by line; killed at the end of the test whatever happens.
pub(crate) struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Running {
    /// Starts the binary.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = cipherloom(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads until a line has this in it, and returns the line.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let found = self.lines.find(|line| line.as_ref().unwrap().contains(text));
        found
            .unwrap_or_else(|| panic!("the process ended before it printed {text:?}"))
            .unwrap()
    }

    /// Ends the process at once, as a power failure or an operator's `kill -9` would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the process to stop as Ctrl-C does, and says whether it stopped well.
    pub(crate) fn interrupt(self) -> bool {
        self.signal("-INT")
    }

    /// Sends a signal, such as `-TERM`, and says whether the process stopped well.
    pub(crate) fn signal(mut self, signal: &str) -> bool {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        self.child.wait().unwrap().success()
    }
}

impl Running {
    /// Sends a signal that does not end the process, such as `-STOP`.
    #[expect(clippy::allow_attributes, reason = "not all tests need it")]
    #[allow(dead_code, reason = "not all tests need it")]
    pub(crate) fn tell(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
