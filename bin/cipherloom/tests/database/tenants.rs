//! Tenants' key sets and limits, as an operator manages them.

use std::path::Path;

use serde_json::Value;

use crate::{
    operators::{ask, database, json, text},
    process,
};

/// Both kinds of database, each with a schema and nothing in it.
pub(crate) fn databases(directory: &Path) -> [String; 2] {
    let url = database();
    assert!(process::run(&["db", "migrate", "--database-url", &url]).status.success());
    [url, format!("sqlite:{}", directory.join("embedded.sqlite").display())]
}

/// Generates a key set that hides nothing and takes no time.
pub(crate) fn clear_keys(directory: &Path) -> String {
    let path = directory.to_str().unwrap().to_owned();
    json(&["keys", "generate", &path, "--parameters", "insecure-clear", "--json"]);
    path
}

/// Adds a tenant and returns what was printed.
pub(crate) fn add(url: &str, name: &str, chain_id: &str, more: &[&str]) -> Value {
    let arguments = [
        "tenant",
        "add",
        name,
        "--json",
        "--database-url",
        url,
        "--chain-id",
        chain_id,
        "--acl-contract-address",
        "0x339EcE85B9E11a3A3AA557582784a15d7F82AAf2",
        "--verifying-contract-address",
        "0x69dE3158643e738a0724418b21a35FAA20CBb1c5",
    ];
    json(&[&arguments, more].concat())
}

/// Runs a command on a database, which must succeed.
fn at(url: &str, arguments: &[&str]) -> Value {
    json(&[arguments, &["--json", "--database-url", url]].concat())
}

/// Runs a command on a database that must fail, and returns why.
fn refusal(url: &str, arguments: &[&str]) -> String {
    let output = process::run(&[arguments, &["--database-url", url]].concat());
    assert!(!output.status.success(), "{arguments:?}: {}", text(&output.stdout));
    text(&output.stderr)
}

#[test]
fn a_key_set_of_several_tenants_is_stored_once() {
    let directory = tempfile::tempdir().unwrap();
    let keys = clear_keys(&directory.path().join("keys"));
    let [postgres, sqlite] = databases(directory.path());
    for url in [&postgres, &sqlite] {
        let parts = || {
            (url == &postgres).then(|| {
                ask(
                    url,
                    "SELECT count(*) || '/' || coalesce(sum(length(bytes)), 0) FROM key_part_chunks",
                )
            })
        };
        add(url, "first", "1", &["--keys", &keys]);
        let stored = parts();
        add(url, "second", "2", &[]);
        let id = at(url, &["tenant", "show", "first"])["keySets"][0]["id"]
            .as_str()
            .unwrap()
            .to_owned();

        // By id, by its first digits, and from the directory once more: nothing is stored again.
        let digits = &id.trim_start_matches("0x")[..8];
        at(url, &["tenant", "set-keys", "second", "--key-set", digits]);
        let shown = at(url, &["tenant", "show", "second"]);
        assert_eq!(shown["keySets"][0]["id"].as_str(), Some(id.as_str()));
        assert_eq!(shown["keySets"][0]["sharedWith"][0], "first");
        assert_eq!(shown["keySets"][0]["parameters"], "insecure-clear (INSECURE)");
        at(url, &["tenant", "set-keys", "second", "--key-set", &id]);
        at(url, &["tenant", "set-keys", "second", "--keys", &keys]);
        assert_eq!(parts(), stored);

        // A newer key set becomes the current one, and the former stays.
        let newer = clear_keys(&directory.path().join(if url == &postgres { "newer-p" } else { "newer-s" }));
        at(url, &["tenant", "set-keys", "second", "--keys", &newer]);
        let shown = at(url, &["tenant", "show", "second"]);
        assert_eq!(
            (&shown["keySets"][0]["current"], &shown["keySets"][1]["id"]),
            (&Value::Bool(true), &Value::String(id.clone()))
        );
        let list = at(url, &["tenant", "list"]);
        assert_eq!(list["tenants"][0]["keySet"].as_str(), Some(id.as_str()));
        assert_ne!(list["tenants"][1]["keySet"].as_str(), Some(id.as_str()));

        let unknown = refusal(url, &["tenant", "set-keys", "second", "--key-set", "00000000"]);
        assert!(unknown.contains(id.trim_start_matches("0x")), "known ones are named: {unknown}");
        let unknown = refusal(url, &["tenant", "set-keys", "second", "--key-set", &"00".repeat(32)]);
        assert!(unknown.contains("no key set") && unknown.contains("tenant show"), "{unknown}");
        assert!(
            refusal(url, &["tenant", "set-keys", "second"]).contains("--key-set"),
            "one of both is needed"
        );
    }
}

#[test]
fn limits_are_set_shown_and_taken_away() {
    let directory = tempfile::tempdir().unwrap();
    for url in databases(directory.path()) {
        let added = add(&url, "shop", "1", &["--max-pending-transactions", "1000"]);
        assert_eq!(added["limits"]["maxPendingTransactions"], 1000);
        assert_eq!(added["limits"]["maxConcurrentTransactions"], Value::Null);
        at(&url, &["tenant", "set-limits", "shop", "--max-concurrent-transactions", "4"]);
        let shown = at(&url, &["tenant", "show", "shop"]);
        assert_eq!(shown["limits"]["maxPendingTransactions"], 1000, "what is not given stays");
        assert_eq!(shown["limits"]["maxConcurrentTransactions"], 4);
        let table = text(&process::run(&["tenant", "list", "--database-url", &url]).stdout);
        assert!(
            table.contains("max pending") && table.contains(" 1000") && table.contains("shop"),
            "{table}"
        );
        at(&url, &["tenant", "set-limits", "shop", "--max-pending-transactions", "none"]);
        assert_eq!(
            at(&url, &["tenant", "list"])["tenants"][0]["limits"]["maxPendingTransactions"],
            Value::Null
        );
        assert!(refusal(&url, &["tenant", "set-limits", "shop"]).contains("say which limit"));
        assert!(refusal(&url, &["tenant", "set-limits", "shop", "--max-pending-transactions", "0"]).contains("tenant disable"));
        assert!(refusal(&url, &["tenant", "set-limits", "nobody", "--max-pending-transactions", "1"]).contains("tenant list"));
    }
}
