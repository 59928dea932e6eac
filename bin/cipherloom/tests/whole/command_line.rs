//! Usage, good and bad.

use crate::process;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_teaches_every_command() {
    let help = text(&process::run(&["--help"]).stdout);
    for command in [
        "demo",
        "dev",
        "contracts",
        "node",
        "keys",
        "db",
        "tenant",
        "graph",
        "bench",
        "operations",
        "completions",
        "man",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
    }
    assert!(text(&process::run(&["demo", "--help"]).stdout).contains("zero-knowledge proof"));
}

#[test]
fn the_documented_bootstraps_are_those_that_are_printed() {
    let document = include_str!("../../../../docs/engine.md");
    let (_, rest) = document
        .split_once("<!-- What `cipherloom operations --bootstraps` prints, by `cargo xtask gen`. -->\n")
        .unwrap();
    let (table, _) = rest.split_once("<!-- End of what is printed. -->\n").unwrap();
    assert_eq!(
        table,
        text(&process::run(&["operations", "--bootstraps"]).stdout),
        "run `cargo xtask gen`"
    );
}

#[test]
fn an_unknown_option_is_explained() {
    let output = process::run(&["dev", "--rpc-prot", "1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--rpc-port"), "{}", text(&output.stderr));
}

#[test]
fn a_missing_key_set_is_an_error_that_names_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("nowhere");
    let output = process::run(&["keys", "show", missing.to_str().unwrap()]);
    assert!(!output.status.success());
    let errors = text(&output.stderr);
    assert!(errors.starts_with("error: ") && errors.contains("nowhere"), "{errors}");
}

#[test]
fn a_second_process_on_one_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().to_str().unwrap();
    let arguments = [
        "dev",
        "--json",
        "--insecure-clear",
        "--data-dir",
        data_dir,
        "--rpc-port",
        "0",
        "--gateway-port",
        "0",
    ];
    let mut first = process::Running::start(&arguments);
    first.wait_for("rpcUrl");
    let second = process::run(&arguments);
    assert!(!second.status.success());
    assert!(text(&second.stderr).contains("another process"), "{}", text(&second.stderr));
    assert!(first.interrupt());
}

#[test]
fn completions_and_manual_pages_are_written() {
    assert!(text(&process::run(&["completions", "bash"]).stdout).contains("_cipherloom"));
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man");
    assert!(process::run(&["man", pages.to_str().unwrap()]).status.success());
    for page in ["cipherloom.1", "cipherloom-demo.1", "cipherloom-keys-generate.1"] {
        assert!(pages.join(page).exists(), "{page}");
    }
}

#[test]
fn the_operation_table_is_printed_for_people_and_programs() {
    assert!(text(&process::run(&["operations"]).stdout).contains("fheMulDiv"));
    let table: serde_json::Value = serde_json::from_slice(&process::run(&["operations", "--json"]).stdout).unwrap();
    assert_eq!(table.as_array().unwrap().len(), 31);
}
