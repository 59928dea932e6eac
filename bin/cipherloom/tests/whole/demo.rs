//! The demo, end to end.

use serde_json::Value;

use crate::process;

fn assert_right(summary: &Value, backend: &str) {
    assert_eq!(summary["ok"], true, "{summary}");
    assert_eq!(summary["backend"], backend);
    assert_eq!(summary["balances"]["alice"], 750);
    assert_eq!(summary["balances"]["bob"], 250);
    let steps = summary["steps"].as_array().unwrap();
    assert!(steps.len() >= 10, "{summary}");
    assert!(
        steps
            .iter()
            .all(|step| step["name"].is_string() && step["seconds"].as_f64().is_some_and(|seconds| seconds >= 0.0))
    );
}

#[test]
fn the_demo_succeeds_on_the_clear_backend_twice_in_one_directory() {
    let directory = tempfile::tempdir().unwrap();
    assert_right(&process::demo(directory.path(), &["--insecure-clear"]), "clear");
    assert_right(&process::demo(directory.path(), &["--insecure-clear"]), "clear");
}

#[test]
fn the_clear_demo_warns_people() {
    let directory = tempfile::tempdir().unwrap();
    let output = process::run(&["demo", "--insecure-clear", "--data-dir", directory.path().to_str().unwrap()]);
    let story = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(story.starts_with("INSECURE"), "{story}");
    assert!(story.contains("Every value is right"), "{story}");
}

#[test]
fn a_wrong_token_fails_the_demo_with_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let artifact = directory.path().join("token.json");
    std::fs::write(&artifact, r#"{"abi":[],"bytecode":"0x60006000fd"}"#).unwrap();
    let data_dir = directory.path().to_str().unwrap();
    let output = process::run(&[
        "demo",
        "--json",
        "--insecure-clear",
        "--data-dir",
        data_dir,
        "--token-artifact",
        artifact.to_str().unwrap(),
    ]);
    assert!(!output.status.success());
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["ok"], false);
    assert!(
        summary["error"].as_str().unwrap().contains("deploy the confidential token"),
        "{summary}"
    );
}
