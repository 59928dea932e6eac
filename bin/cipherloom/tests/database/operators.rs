//! The stack and the commands for operators on PostgreSQL.

use std::path::Path;

use cipherloom_private_postgres::shared;
use serde_json::Value;

use crate::process::{self, Running, cipherloom};

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Makes an empty database and returns its URL.
pub(crate) fn database() -> String {
    shared().create_database().unwrap()
}

/// Asks a database of the shared server.
pub(crate) fn ask(url: &str, sql: &str) -> String {
    let name = url.split('?').next().unwrap().rsplit('/').next().unwrap();
    shared().execute(name, sql).unwrap()
}

/// Runs the binary, which must succeed, and reads the JSON it prints.
pub(crate) fn json(arguments: &[&str]) -> Value {
    let output = process::run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_demo_runs_on_a_database_and_a_temporary_one_leaves_nothing_there() {
    let url = database();
    let directory = tempfile::tempdir().unwrap();
    // Without --data-dir only the keys are kept, in the user's data directory.
    let output = cipherloom(&["demo", "--json", "--insecure-clear", "--database-url", &url])
        .env("XDG_DATA_HOME", directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(ask(&url, "SELECT count(*) FROM tenants"), "0");
    assert_eq!(ask(&url, "SELECT count(*) FROM ciphertexts"), "0");

    let kept = directory.path().join("kept");
    let summary = process::demo(&kept, &["--insecure-clear", "--database-url", &url]);
    assert_eq!(summary["balances"]["bob"], 250);
    assert_ne!(ask(&url, "SELECT count(*) FROM ciphertexts"), "0");
    // From here on with the bytes outside of the database; what it has stays readable.
    let objects = directory.path().join("objects");
    let outside = [
        "--insecure-clear",
        "--database-url",
        &url,
        "--ciphertext-dir",
        objects.to_str().unwrap(),
    ];
    assert_eq!(process::demo(&kept, &outside)["balances"]["alice"], 750);
    assert_ne!(ask(&url, "SELECT count(*) FROM ciphertexts WHERE bytes IS NULL"), "0");
    assert!(!kept.join("clear").join("store.sqlite").exists());
}

#[test]
fn a_killed_stack_goes_on_and_directories_on_one_database_are_apart() {
    let url = database();
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let dev = |directory: &Path| {
        let directory = directory.to_str().unwrap().to_owned();
        let arguments = [
            "dev",
            "--json",
            "--insecure-clear",
            "--database-url",
            &url,
            "--data-dir",
            &directory,
        ];
        [arguments.as_slice(), &["--rpc-port", "0", "--gateway-port", "0"]]
            .concat()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let start = |directory: &Path| {
        let arguments = dev(directory);
        let mut running = Running::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        running.wait_for("rpcUrl");
        running
    };
    // The same development chain number twice, with other blocks each.
    process::demo(directories[0].path(), &["--insecure-clear", "--database-url", &url]);
    let first = start(directories[0].path());
    let second = start(directories[1].path());

    let arguments = dev(directories[0].path());
    let refused = process::run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("another process"), "{}", text(&refused.stderr));

    first.kill();
    assert!(second.interrupt());
    for directory in &directories {
        let summary = process::demo(directory.path(), &["--insecure-clear", "--database-url", &url]);
        assert_eq!(summary["ok"], true);
    }
    assert_eq!(ask(&url, "SELECT count(*) FROM tenants"), "2");
    assert_eq!(ask(&url, "SELECT count(*) FROM transactions WHERE state <> 'done'"), "0");
}

#[test]
fn a_schema_is_migrated_by_command_and_commands_say_when_it_is_not() {
    let url = database();
    let status = json(&["db", "status", "--json", "--database-url", &url]);
    assert_eq!(status["migrations"][0]["state"], "missing");
    let early = process::run(&["tenant", "list", "--database-url", &url]);
    assert!(!early.status.success());
    assert!(text(&early.stderr).contains("cipherloom db migrate"), "{}", text(&early.stderr));
    // By the environment, as services are configured.
    let migrated = cipherloom(&["db", "migrate"]).env("DATABASE_URL", &url).output().unwrap();
    assert!(text(&migrated.stdout).contains("initial"), "{}", text(&migrated.stderr));
    let status = json(&["db", "status", "--json", "--database-url", &url]);
    assert_eq!(status["migrations"][0]["state"], "applied");
    assert!(text(&process::run(&["tenant", "list", "--database-url", &url]).stdout).contains("no tenants"));
}

#[test]
fn an_unreachable_database_is_an_error_that_does_not_repeat_the_password() {
    let output = process::run(&["db", "status", "--database-url", "postgres://user:secret@127.0.0.1:1/none"]);
    assert!(!output.status.success());
    let errors = text(&output.stderr);
    assert!(errors.contains("cannot connect") && !errors.contains("secret"), "{errors}");
    let help = cipherloom(&["db", "status", "--help"])
        .env("DATABASE_URL", "postgres://user:secret@host/db")
        .output()
        .unwrap();
    assert!(!text(&help.stdout).contains("secret"));
}

#[test]
fn tenants_are_managed_in_both_kinds_of_database() {
    let directory = tempfile::tempdir().unwrap();
    let url = database();
    assert!(process::run(&["db", "migrate", "--database-url", &url]).status.success());
    // The demo leaves a key set behind.
    process::demo(directory.path(), &["--insecure-clear"]);
    let keys = directory.path().join("keys").join("insecure-clear");
    let sqlite = format!("sqlite:{}", directory.path().join("embedded.sqlite").display());
    for (number, url) in [url, sqlite].iter().enumerate() {
        manage(url, keys.to_str().unwrap(), &directory.path().join(format!("fetched-{number}")));
    }
}

/// The life of a tenant.
fn manage(url: &str, keys: &str, fetched: &Path) {
    let (acl, verifier) = (
        "0x339EcE85B9E11a3A3AA557582784a15d7F82AAf2",
        "0x69dE3158643e738a0724418b21a35FAA20CBb1c5",
    );
    let at = ["--json", "--database-url", url];
    let contracts = [
        "--chain-id",
        "12345",
        "--acl-contract-address",
        acl,
        "--verifying-contract-address",
        verifier,
    ];
    let added = json(&[["tenant", "add", "shop"].as_slice(), &at, &contracts, &["--keys", keys]].concat());
    let first_key = added["apiKey"].as_str().unwrap().to_owned();
    assert_eq!((first_key.len(), added["chainId"].as_u64()), (36, Some(12345)));
    let again = process::run(&[["tenant", "add", "shop"].as_slice(), &at, &contracts].concat());
    assert!(text(&again.stderr).contains("already"), "{}", text(&again.stderr));

    let shown = json(&[["tenant", "show", "shop"].as_slice(), &at].concat());
    assert_eq!(
        (shown["aclContractAddress"].as_str(), shown["verifyingContractAddress"].as_str()),
        (Some(acl), Some(verifier))
    );
    assert_eq!(shown["keySets"].as_array().unwrap().len(), 1);
    assert!(!shown.to_string().contains(&first_key), "the key can be read again");
    assert!(!shown.to_string().contains("secret_key"), "the secret key was stored");

    let rotated = json(&[["tenant", "rotate-api-key", "shop"].as_slice(), &at].concat());
    assert_ne!(rotated["apiKey"].as_str(), Some(first_key.as_str()));
    json(&[["tenant", "disable", "shop"].as_slice(), &at].concat());
    assert_eq!(
        json(&[["tenants", "list"].as_slice(), &at].concat())["tenants"][0]["disabled"],
        true
    );
    json(&[["tenant", "enable", "shop"].as_slice(), &at].concat());

    // What is fetched is the key set, ready to be used, without the secret key.
    json(
        &[
            ["tenant", "fetch-keys", "shop"].as_slice(),
            &at,
            &["--keys", fetched.to_str().unwrap()],
        ]
        .concat(),
    );
    assert!(!fetched.join("secret_key.bin").exists());
    let inspected = json(&["keys", "show", "--json", fetched.to_str().unwrap()]);
    assert_eq!(
        inspected["id"],
        shown["keySets"][0]["id"].as_str().unwrap().trim_start_matches("0x")
    );

    let unconfirmed = process::run(&[["tenant", "remove", "shop"].as_slice(), &at].concat());
    assert_eq!(unconfirmed.status.code(), Some(2));
    json(&[["tenant", "remove", "shop", "--with-all-data"].as_slice(), &at].concat());
    let gone = process::run(&[["tenant", "show", "shop"].as_slice(), &at].concat());
    assert!(text(&gone.stderr).contains("no tenant"), "{}", text(&gone.stderr));
}
