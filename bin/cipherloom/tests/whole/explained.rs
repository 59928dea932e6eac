//! `cipherloom graph` from outside: explanations of a recorded transaction, and the rules' statistics.

use std::{path::Path, process::Command, process::Output};

use serde_json::Value;

use crate::process;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Records the transactions of the example contracts into a folder.
fn record(folder: &Path) {
    let output = process::run(&["graph", "statistics", "--save", folder.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

fn explain(file: &Path, options: &[&str]) -> Output {
    process::run(&[&["graph", "explain", "--file", file.to_str().unwrap()], options].concat())
}

#[test]
fn a_recorded_transfer_is_explained_in_every_form() {
    let directory = tempfile::tempdir().unwrap();
    record(directory.path());
    let transfer = directory.path().join("token-transfer.json");
    let picture = directory.path().join("transfer.svg");

    let summary = explain(&transfer, &["--svg", picture.to_str().unwrap()]);
    let (summary, errors) = (text(&summary.stdout), text(&summary.stderr));
    for part in [
        "token-transfer.json",
        "rules applied",
        "128 with",
        "CPU time",
        "critical path",
        "documented",
    ] {
        assert!(summary.contains(part), "{part:?}: {summary}{errors}");
    }
    let picture = std::fs::read_to_string(picture).unwrap();
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
    assert!(picture.contains("token-transfer.json"));

    let stages = text(&explain(&transfer, &["--stage", "all", "--cores", "4"]).stdout);
    for stage in ["recorded", "pruned", "rewritten", "program", "schedule"] {
        assert!(stages.contains(&format!("--- {stage}\n")), "{stage}");
    }

    let json = explain(&transfer, &["--json", "--without", "one-comparison", "--stage", "program"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["operations"]["recorded"], 4);
    assert_eq!(json["withRewriting"]["bootstraps"], 128);
    assert_eq!(json["rules"].as_array().unwrap().len(), 0, "the one rule that would apply is off");
    assert_eq!(json["estimate"]["source"], "documented");
    assert!(json["stages"]["program"].as_str().unwrap().contains("bootstrap"));
    let nodes = json["graph"]["rewritten"].as_array().unwrap();
    let bootstraps: u64 = nodes.iter().filter_map(|node| node["bootstraps"].as_u64()).sum();
    assert_eq!(bootstraps, 128);
}

#[test]
fn what_cannot_be_explained_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("graph.json");
    for (content, reason) in [
        ("{}", "is not a recorded transaction"),
        (r#"{"computations":[],"outputs":[]}"#, "asks for no encrypted computation"),
    ] {
        std::fs::write(&file, content).unwrap();
        let output = explain(&file, &[]);
        assert!(
            !output.status.success() && text(&output.stderr).contains(reason),
            "{}",
            text(&output.stderr)
        );
    }
    record(directory.path());
    let transfer = directory.path().join("token-transfer.json");
    let unknown = explain(&transfer, &["--without", "no-such-rule"]);
    assert!(
        text(&unknown.stderr).contains("choice-of-change"),
        "the rules there are: {}",
        text(&unknown.stderr)
    );
    let no_keys = explain(&transfer, &["--data-dir", directory.path().to_str().unwrap()]);
    assert!(text(&no_keys.stderr).contains("holds no keys"), "{}", text(&no_keys.stderr));
    assert_eq!(
        process::run(&["graph", "explain"]).status.code(),
        Some(2),
        "there is nothing to explain"
    );
}

#[test]
fn statistics_of_rules_are_those_of_the_documentation() {
    // Installs the published packages with npm by itself.
    let output = Command::new(env!("CARGO"))
        .args(["xtask", "rule-statistics", "--binary", env!("CARGO_BIN_EXE_cipherloom")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let document = std::fs::read_to_string(root.join("docs/engine.md")).unwrap();
    let tables = text(&output.stdout);
    let missing: Vec<&str> = tables.lines().filter(|line| !document.contains(line)).collect();
    assert!(
        missing.is_empty(),
        "docs/engine.md lacks what `cargo xtask rule-statistics` prints:\n{}",
        missing.join("\n")
    );
    assert!(tables.contains("| ERC7984 | transfer |"), "{tables}");
}
