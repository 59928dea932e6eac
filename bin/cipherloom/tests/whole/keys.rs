//! Key sets from their making to the copies that others need, as an operator handles them.

#![cfg(feature = "insecure-development")]

use std::{fs, path::Path};

use cipherloom_fhe::insecure_test_keys;
use serde_json::Value;

use crate::process;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs a command that must succeed and reads the JSON it prints.
fn json(arguments: &[&str]) -> Value {
    let output = process::run(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs a command that must fail, and returns what it printed and why it failed.
fn failure(arguments: &[&str]) -> (String, String) {
    let output = process::run(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text(&output.stdout));
    (text(&output.stdout), text(&output.stderr))
}

/// Generates a key set with real ciphertexts on parameters without security.
fn generate(directory: &Path) -> Value {
    json(&["keys", "generate", path(directory), "--parameters", "insecure-toy"])
}

/// Copies the one that tests share, secret key included, as its owner would.
fn copy_of_test_keys(directory: &Path) {
    fs::create_dir(directory).unwrap();
    for entry in fs::read_dir(insecure_test_keys().unwrap().directory()).unwrap() {
        let file = entry.unwrap().path();
        fs::copy(&file, directory.join(file.file_name().unwrap())).unwrap();
    }
}

fn outcomes(verified: &Value) -> Vec<&str> {
    let steps = verified["steps"].as_array().unwrap();
    steps.iter().map(|step| step["outcome"].as_str().unwrap()).collect()
}

#[test]
fn a_key_set_is_generated_inspected_and_verified() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys");
    let made = generate(&keys);
    assert_eq!(
        (made["parameters"].as_str(), made["isSecure"].as_bool()),
        (Some("insecure-toy"), Some(false))
    );
    let again = failure(&["keys", "generate", path(&keys), "--parameters", "insecure-toy"]);
    assert!(again.1.contains("not empty"), "{}", again.1);

    let inspected = json(&["keys", "inspect", path(&keys)]);
    assert_eq!(inspected["id"], made["id"]);
    assert_eq!(inspected["description"]["securityBits"], 0);
    assert_eq!(inspected["parts"].as_array().unwrap().len(), 4);
    assert_eq!(inspected["hasSecretKey"], true);
    let shown = text(&process::run(&["keys", "show", path(&keys)]).stdout);
    for fact in [
        "security     NONE",
        "SECRET: decrypts everything",
        "pack ciphertexts",
        "secret bits, noise TUniform(",
    ] {
        assert!(shown.contains(fact), "{fact}: {shown}");
    }

    let verified = json(&["keys", "verify", path(&keys)]);
    assert_eq!((verified["ok"].as_bool(), &verified["id"]), (Some(true), &made["id"]));
    assert_eq!(outcomes(&verified)[..8], ["ok"; 8]);
    assert_eq!(outcomes(&verified)[8..], ["skipped"], "it cannot squash");
    let for_people = process::run(&["keys", "verify", path(&keys)]);
    assert!(text(&for_people.stdout).contains("every part that is here"));
    assert!(text(&for_people.stderr).contains("decrypting all of it"));
}

#[test]
fn copies_have_no_secret_and_are_verified_as_far_as_that_goes() {
    let directory = tempfile::tempdir().unwrap();
    let [keys, worker, public, plain] = ["keys", "worker", "public", "plain"].map(|name| directory.path().join(name));
    copy_of_test_keys(&keys);
    let export = |to: &Path, more: &[&str]| json(&[&["keys", "export", path(&keys), "--to", path(to)], more].concat());
    let files = |value: &Value| -> Vec<String> { serde_json::from_value(value["files"].clone()).unwrap() };
    let copied = export(&worker, &[]);
    assert_eq!(files(&copied), ["crs.bin", "evaluation_key.bin", "manifest.json", "public_key.bin"]);
    assert_eq!(
        files(&export(&public, &["--public-only"])),
        ["crs.bin", "manifest.json", "public_key.bin"]
    );
    assert_eq!(files(&export(&plain, &["--tfhe-files"])), ["pks", "pp", "sks"]);

    let verified = json(&["keys", "verify", path(&worker)]);
    assert_eq!(
        outcomes(&verified),
        ["ok", "ok", "ok", "ok", "ok", "ok", "ok", "skipped", "skipped"]
    );
    assert!(verified["steps"][7]["reason"].as_str().unwrap().contains("only its owner"));
    let verified = json(&["keys", "verify", path(&public)]);
    assert_eq!(
        outcomes(&verified),
        ["ok", "ok", "ok", "ok", "skipped", "skipped", "skipped", "skipped", "skipped"]
    );
    assert_eq!(json(&["keys", "inspect", path(&public)])["parts"][2]["present"], false);
    // Plain files are recognised, and no file is ever overwritten.
    assert!(failure(&["keys", "inspect", path(&plain)]).1.contains("plain tfhe files"));
    assert!(
        failure(&["keys", "export", path(&keys), "--to", path(&worker)])
            .1
            .contains("not empty")
    );
}

#[test]
fn a_key_set_is_given_noise_squashing_at_once_or_later() {
    let directory = tempfile::tempdir().unwrap();
    let [at_once, later, worker] = ["at-once", "later", "worker"].map(|name| directory.path().join(name));
    let made = json(&[
        "keys",
        "generate",
        path(&at_once),
        "--parameters",
        "insecure-toy",
        "--noise-squashing",
    ]);
    assert_eq!(made["noiseSquashing"], true);
    copy_of_test_keys(&later);
    let added = json(&["keys", "add-noise-squashing", path(&later)]);
    assert_eq!(added["id"], insecure_test_keys().unwrap().manifest().id.to_string());
    for keys in [&at_once, &later] {
        let inspected = json(&["keys", "inspect", path(keys)]);
        assert_eq!(inspected["capabilities"]["noise_squashing"], true);
        let parts: Vec<&str> = inspected["parts"].as_array().unwrap()[4..]
            .iter()
            .map(|part| part["part"].as_str().unwrap())
            .collect();
        assert_eq!(parts, ["squashing_key", "squashed_packing_key", "squashing_secret"]);
        assert!(inspected["parts"][6]["secrecy"].as_str().unwrap().starts_with("SECRET"));
        assert_eq!(outcomes(&json(&["keys", "verify", path(keys)])), ["ok"; 9]);
    }
    // A copy can squash, and cannot read what it squashed.
    let copied = json(&["keys", "export", path(&later), "--to", path(&worker)]);
    let files: Vec<String> = serde_json::from_value(copied["files"].clone()).unwrap();
    assert_eq!(
        files,
        [
            "crs.bin",
            "evaluation_key.bin",
            "manifest.json",
            "public_key.bin",
            "squashed_packing_key.bin",
            "squashing_key.bin"
        ]
    );
    assert_eq!(outcomes(&json(&["keys", "verify", path(&worker)]))[7..], ["skipped", "ok"]);

    assert!(failure(&["keys", "add-noise-squashing", path(&later)]).1.contains("already"));
    assert!(failure(&["keys", "add-noise-squashing", path(&worker)]).1.contains("no secret key"));
    let clear = directory.path().join("clear");
    let refused = failure(&[
        "keys",
        "generate",
        path(&clear),
        "--parameters",
        "insecure-clear",
        "--noise-squashing",
    ]);
    assert!(refused.1.contains("cannot squash noise"), "{}", refused.1);
    assert!(!clear.exists());
    // Keys of one set do not squash what is encrypted under another one.
    for file in ["squashing_key.bin", "squashed_packing_key.bin", "squashing_secret.bin"] {
        fs::copy(at_once.join(file), later.join(file)).unwrap();
    }
    let manifest = |directory: &Path| -> Value { serde_json::from_slice(&fs::read(directory.join("manifest.json")).unwrap()).unwrap() };
    let mut mixed = manifest(&later);
    mixed["parts"]["squashing"] = manifest(&at_once)["parts"]["squashing"].clone();
    fs::write(later.join("manifest.json"), mixed.to_string()).unwrap();
    let (_, error) = failure(&["keys", "verify", path(&later)]);
    assert!(error.contains("is not right"), "{error}");
}

#[test]
fn damage_is_found_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys");
    copy_of_test_keys(&keys);
    let file = keys.join("evaluation_key.bin");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let (shown, error) = failure(&["keys", "inspect", path(&keys)]);
    assert!(shown.contains("DAMAGED") && error.contains("1 parts"), "{shown}{error}");
    let (_, error) = failure(&["keys", "verify", path(&keys)]);
    assert!(error.contains("evaluation_key.bin") && error.contains("digest"), "{error}");
}

#[test]
fn parts_of_two_key_sets_are_not_taken_for_one() {
    let directory = tempfile::tempdir().unwrap();
    let [ours, theirs] = ["ours", "theirs"].map(|name| directory.path().join(name));
    copy_of_test_keys(&ours);
    generate(&theirs);
    // Whoever can write the directory can write the manifest too, so digests alone would not see it.
    fs::copy(theirs.join("evaluation_key.bin"), ours.join("evaluation_key.bin")).unwrap();
    let manifest = |directory: &Path| -> Value { serde_json::from_slice(&fs::read(directory.join("manifest.json")).unwrap()).unwrap() };
    let mut mixed = manifest(&ours);
    mixed["parts"]["evaluation_key"] = manifest(&theirs)["parts"]["evaluation_key"].clone();
    fs::write(ours.join("manifest.json"), mixed.to_string()).unwrap();
    json(&["keys", "inspect", path(&ours)]);
    let (report, error) = failure(&["keys", "verify", "--json", path(&ours)]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(outcomes(&report).last(), Some(&"failed"));
    assert!(error.contains("not of one key set"), "{error}");
}

#[test]
fn a_signing_key_is_made_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("coprocessor.key");
    let made = json(&["keys", "signing-key", path(&file)]);
    assert_eq!(made["address"].as_str().unwrap().len(), 42);
    let key = fs::read_to_string(&file).unwrap();
    assert!(key.starts_with("0x") && key.trim().len() == 66);
    let (_, error) = failure(&["keys", "signing-key", path(&file)]);
    assert!(error.contains("never overwritten"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), key);
}
