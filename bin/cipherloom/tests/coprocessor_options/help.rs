//! The help, the manual pages and the completions: the names and defaults of the 0.6 generation, and nothing secret.

use std::process::Command;

use crate::process::{self, coprocessor, text};

/// The generation's options in their order, each with its default.
const GENERATION: &str = include_str!("generation.txt");

/// Reads option names and defaults out of a help text.
fn described(help: &str) -> Vec<String> {
    let options = help
        .split("\nOptions:\n")
        .nth(1)
        .unwrap()
        .split("\nOptions of ours:\n")
        .next()
        .unwrap();
    let mut found: Vec<String> = Vec::new();
    let mut words = options.split_whitespace();
    while let Some(word) = words.next() {
        if word == "[default:" {
            *found.last_mut().unwrap() += &format!(" {}", words.next().unwrap().trim_end_matches(']'));
        } else if word.starts_with("--") && !word.ends_with(']') {
            found.push(word.to_owned());
        }
    }
    found
}

#[test]
fn names_and_defaults_are_exactly_those_of_the_generation() {
    let expected: Vec<&str> = GENERATION.lines().chain(["--help", "--version"]).collect();
    for arguments in [["--help"], ["-h"]] {
        let help = text(&coprocessor(&arguments).output().unwrap().stdout);
        assert_eq!(described(&help), expected, "{help}");
        assert!(help.contains("Usage: coprocessor [OPTIONS]"), "{help}");
    }
    let help = text(&process::run(&["coprocessor", "--help"]).stdout);
    for option in GENERATION.lines() {
        let name = option.split(' ').next().unwrap();
        assert!(help.contains(name), "{name} is not in {help}");
    }
}

#[test]
fn the_version_is_printed() {
    let version = text(&coprocessor(&["--version"]).output().unwrap().stdout);
    assert_eq!(version.trim(), concat!("coprocessor ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_database_url_is_in_no_help_and_no_message() {
    // Refused at once; an address where nobody answers is tried for half a minute.
    let secret = "postgres://user:geheim@127.0.0.1:1/db?sslmode=nonsense";
    let show = |command: &mut Command| {
        let output = command.env("DATABASE_URL", secret).output().unwrap();
        text(&output.stdout) + &text(&output.stderr)
    };
    for arguments in [
        ["--help"].as_slice(),
        &["--print-config"],
        &["--run-bg-worker", "--metrics-addr", "127.0.0.1:0", "-vvv"],
        &["--run-bg-worker", "--tokio-threads", "none"],
    ] {
        let shown = show(&mut coprocessor(arguments));
        assert!(!shown.contains("geheim"), "{shown}");
    }
    // The same without the environment.
    let shown = show(&mut coprocessor(&[
        "--run-bg-worker",
        "--database-url",
        secret,
        "--metrics-addr",
        "127.0.0.1:0",
    ]));
    assert!(!shown.contains("geheim") && shown.contains("error: "), "{shown}");
}

#[test]
fn both_binaries_have_manual_pages_and_completions() {
    let directory = tempfile::tempdir().unwrap();
    assert!(process::run(&["man", directory.path().to_str().unwrap()]).status.success());
    for page in ["coprocessor.1", "cipherloom-coprocessor.1"] {
        let page = std::fs::read_to_string(directory.path().join(page)).unwrap();
        assert!(page.contains("maximimum"), "{page}");
    }
    let script = text(&process::run(&["completions", "bash", "--binary", "coprocessor"]).stdout);
    assert!(
        script.contains("_coprocessor") && script.contains("--maximimum-compact-inputs-upload"),
        "{script}"
    );
    assert!(text(&process::run(&["completions", "fish"]).stdout).contains("run-bg-worker"));
}
