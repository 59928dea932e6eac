//! What the doctor finds, and that it says what to do.

use std::{fs, path::Path};

use cipherloom_store::{CiphertextObjects as _, Finished, StoredCiphertext};
use serde_json::Value;

use crate::{
    computations::{CHAIN, chain_of, handle, hash, lease, wait},
    operators::{ask, database, json, text},
    process::{self, Running, cipherloom},
    tenants::{add, clear_keys, databases},
};

/// What a doctor said.
pub(crate) struct Visit {
    exit_code: i32,
    findings: Vec<Value>,
}

impl Visit {
    /// Calls the doctor. No coprocessor listens where it looks.
    pub(crate) fn to(url: &str, more: &[&str]) -> Self {
        let nowhere = ["--server-addr", "127.0.0.1:1", "--metrics-addr", "127.0.0.1:1"];
        let output = cipherloom(&[&["doctor", "--json"], nowhere.as_slice(), more].concat())
            .env("DATABASE_URL", url)
            .output()
            .unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
        let visit = Self {
            exit_code: output.status.code().unwrap(),
            findings: report["findings"].as_array().unwrap().clone(),
        };
        for finding in &visit.findings {
            // Whoever is told that something is wrong is told what to do.
            assert_eq!(finding["level"] == "ok", finding["remedy"].is_null(), "{finding}");
        }
        visit
    }

    /// Returns the finding with this in its message, and checks how bad it is.
    pub(crate) fn expect(&self, level: &str, message: &str) -> String {
        let found = self
            .findings
            .iter()
            .find(|finding| finding["message"].as_str().unwrap().contains(message));
        let found = found.unwrap_or_else(|| panic!("{message:?} is not among {:#?}", self.findings));
        assert_eq!(found["level"].as_str(), Some(level), "{found}");
        found["remedy"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn has_none(&self, level: &str) {
        let found: Vec<_> = self.findings.iter().filter(|finding| finding["level"] == level).collect();
        assert!(found.is_empty(), "{found:#?}");
    }
}

/// Makes a signing key and returns its file.
fn signing_key(directory: &Path) -> String {
    let file = directory.join("coprocessor.key").to_str().unwrap().to_owned();
    json(&["keys", "signing-key", &file, "--json"]);
    file
}

#[test]
fn a_deployment_that_is_well_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let (keys, key) = (clear_keys(&directory.path().join("keys")), signing_key(directory.path()));
    for url in databases(directory.path()) {
        add(&url, "shop", &CHAIN.to_string(), &["--keys", &keys]);
        let visit = Visit::to(&url, &["--insecure-keys", "--coprocessor-private-key", &key, "--deep"]);
        visit.has_none("fail");
        visit.expect("warn", "INSECURE key set");
        visit.expect("ok", "3 parts of keys were read");
        visit.expect("ok", "nothing is pending");
        visit.expect("ok", "address 0x");
        assert_eq!(visit.exit_code, 1, "a warning is no failure");
        if url.starts_with("postgres") {
            visit.expect("ok", "all ");
            visit.expect("ok", "its clock and this machine's agree");
            visit.expect("ok", "connections are in use");
        }
    }
}

#[test]
fn what_is_missing_is_named_with_the_command_that_makes_it() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("no.key").to_str().unwrap().to_owned();
    let [url, _] = databases(directory.path());
    let visit = Visit::to(&url, &["--coprocessor-private-key", &missing]);
    assert_eq!(visit.exit_code, 2);
    assert!(visit.expect("fail", "there are none").contains("cipherloom tenant add"));
    assert!(visit.expect("fail", "does not exist").contains("cipherloom keys signing-key"));
    add(&url, "shop", "1", &[]);
    add(&url, "other", "2", &[]);
    json(&["tenant", "disable", "other", "--json", "--database-url", &url]);
    let visit = Visit::to(&url, &["--run-bg-worker"]);
    assert!(visit.expect("fail", "shop has no key set").contains("tenant set-keys shop"));
    assert!(visit.expect("warn", "other is disabled").contains("tenant enable other"));
    assert!(visit.expect("warn", "shop has no limit").contains("tenant set-limits shop"));
    visit.expect("ok", "none is needed");
    // A process that is said to run and does not is a failure.
    assert!(visit.expect("fail", "nothing answers at").contains("start the process"));
    let visit = Visit::to(&url, &["--run-server"]);
    assert!(visit.expect("fail", "cannot be reached").contains("--run-server"));
}

#[test]
fn a_database_that_cannot_be_used_is_explained() {
    let visit = Visit::to("postgres://user:secret@127.0.0.1:1/none", &[]);
    assert_eq!(visit.exit_code, 2);
    assert!(visit.expect("fail", "cannot connect").contains("start PostgreSQL"));
    assert!(!format!("{:?}", visit.findings).contains("secret"));
    assert!(Visit::to("", &[]).expect("fail", "no URL").contains("DATABASE_URL"));
    assert!(
        Visit::to("mysql://host/db", &[])
            .expect("fail", "postgres://")
            .contains("postgres://USER")
    );
    assert!(
        Visit::to("sqlite:/nowhere/store.sqlite", &[])
            .expect("fail", "embedded database /nowhere")
            .contains("tenant add")
    );
    let empty = database();
    assert!(Visit::to(&empty, &[]).expect("fail", "lacks").contains("cipherloom db migrate"));
    // A setting that loses inputs, and a server that only follows another.
    let url = database();
    assert!(process::run(&["db", "migrate", "--database-url", &url]).status.success());
    let name = url.split('?').next().unwrap().rsplit('/').next().unwrap().to_owned();
    ask(&url, &format!("ALTER DATABASE \"{name}\" SET synchronous_commit = off"));
    Visit::to(&url, &[]).expect("warn", "synchronous_commit is off");
    ask(&url, &format!("ALTER DATABASE \"{name}\" SET default_transaction_read_only = on"));
    assert!(Visit::to(&url, &[]).expect("fail", "takes no changes").contains("primary"));
}

#[test]
fn keys_that_are_damaged_or_refused_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let keys = clear_keys(&directory.path().join("keys"));
    let [url, _] = databases(directory.path());
    add(&url, "shop", "1", &["--keys", &keys]);
    let worker = ["--run-bg-worker"];
    assert!(Visit::to(&url, &worker).expect("fail", "hides nothing").contains("production keys"));
    ask(
        &url,
        "UPDATE key_part_chunks SET bytes = overlay(bytes PLACING '\\x00'::bytea FROM 1)",
    );
    assert!(Visit::to(&url, &worker).expect("fail", "cannot be used").contains("set-keys"));
    ask(&url, "UPDATE key_sets SET manifest = '{}'");
    Visit::to(&url, &worker).expect("fail", "cannot be used by this version");
}

#[cfg(unix)]
#[test]
fn a_signing_key_that_others_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let key = signing_key(directory.path());
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let [url, _] = databases(directory.path());
    assert!(
        Visit::to(&url, &["--coprocessor-private-key", &key])
            .expect("warn", "others can read")
            .contains("chmod 600")
    );
    fs::write(&key, "no key").unwrap();
    Visit::to(&url, &["--coprocessor-private-key", &key]).expect("fail", "holds no private key");
}

#[test]
fn work_that_failed_and_ciphertexts_that_are_gone_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let (keys, place) = (clear_keys(&directory.path().join("keys")), directory.path().join("ciphertexts"));
    let [url, _] = databases(directory.path());
    add(&url, "shop", &CHAIN.to_string(), &["--keys", &keys]);
    let bytes = b"a ciphertext".to_vec();
    let digest = cipherloom_store::object_digest(&bytes);
    let at = format!("file://{}", place.display());
    wait(async {
        let config = cipherloom_store::PostgresConfig::new(&url).unwrap();
        let objects = cipherloom_store::CiphertextDirectory::open(&place).unwrap();
        let database = cipherloom_store::PostgresDatabase::open(config)
            .await
            .unwrap()
            .with_objects(std::sync::Arc::new(objects));
        let tenant = cipherloom_store::Tenants::tenants(&database).await.unwrap().remove(0);
        let store = cipherloom_store::Database::store(&database, &tenant);
        store.record_pushed(CHAIN, &chain_of(2)).await.unwrap();
        let leased = lease(store.as_ref()).await;
        let finished = Finished {
            ciphertexts: vec![StoredCiphertext::raw(handle(1), Default::default(), digest, bytes.clone())],
            ..Finished::default()
        };
        store.finish_transaction(&leased[0].lease, &finished).await.unwrap();
    });
    let worker = ["--run-bg-worker", "--insecure-keys"];
    let with_place = [worker.as_slice(), &["--ciphertext-store", &at]].concat();
    let visit = Visit::to(&url, &with_place);
    visit.expect("ok", "have their digests (1)");
    visit.expect(
        "ok",
        "the store of ciphertexts file:// can be reached".replace("file://", &at).as_str(),
    );
    let nowhere = ["--ciphertext-store", "file:///nowhere/ciphertexts", "--mirror", &at];
    let elsewhere = Visit::to(&url, &[worker.as_slice(), &nowhere].concat());
    elsewhere.expect("fail", "there is no directory /nowhere/ciphertexts");
    assert!(elsewhere.expect("warn", "is empty").contains("ciphertext publish"));
    assert!(!Path::new("/nowhere").exists());
    assert!(visit.expect("warn", "no worker holds any of it").contains("--run-bg-worker"));
    assert!(
        Visit::to(&url, &worker)
            .expect("fail", "these options name none")
            .contains("--ciphertext-store")
    );
    // The place has other bytes, and then none.
    let object = place.join(cipherloom_store::object_name(digest));
    fs::write(&object, b"other bytes").unwrap();
    Visit::to(&url, &with_place).expect("fail", "1 of 1 cannot be used");
    fs::remove_file(&object).unwrap();
    let visit = Visit::to(&url, &with_place);
    assert!(visit.expect("fail", "no object").contains("mirror"));
    ask(
        &url,
        &format!(
            "UPDATE transactions SET state = 'poisoned' WHERE hash = '\\x{}'",
            hash(2).to_string().trim_start_matches("0x")
        ),
    );
    assert!(
        Visit::to(&url, &with_place)
            .expect("warn", "failed for good")
            .contains("computations retry")
    );
    // Reading from a directory changes nothing in it.
    wait(async {
        let objects = cipherloom_store::CiphertextDirectory::open(&place).unwrap();
        assert!(objects.read(digest).await.unwrap().is_none());
    });
}

#[test]
fn a_chain_is_asked_whether_it_knows_the_signing_key() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("dev").to_str().unwrap().to_owned();
    let mut dev = Running::start(&[
        "dev",
        "--json",
        "--insecure-clear",
        "--data-dir",
        &data_dir,
        "--rpc-port",
        "0",
        "--gateway-port",
        "0",
    ]);
    let started: Value = serde_json::from_str(&dev.wait_for("rpcUrl")).unwrap();
    let rpc = started["rpcUrl"].as_str().unwrap();
    let verifier = started["contracts"]["InputVerifier"].as_str().unwrap().to_owned();
    let [url, _] = databases(directory.path());
    json(&[
        "tenant",
        "add",
        "dev",
        "--json",
        "--database-url",
        &url,
        "--chain-id",
        "31337",
        "--acl-contract-address",
        "0x339EcE85B9E11a3A3AA557582784a15d7F82AAf2",
        "--verifying-contract-address",
        &verifier,
    ]);
    let registered = Path::new(&data_dir)
        .join("clear/coprocessor/signing-key")
        .to_str()
        .unwrap()
        .to_owned();
    Visit::to(&url, &["--coprocessor-private-key", &registered, "--rpc-url", rpc]).expect("ok", "knows it");
    let unknown = signing_key(directory.path());
    let visit = Visit::to(&url, &["--coprocessor-private-key", &unknown, "--rpc-url", rpc]);
    assert!(visit.expect("fail", "does not know").contains("register the address"));
    let visit = Visit::to(
        &url,
        &[
            "--coprocessor-private-key",
            &unknown,
            "--rpc-url",
            "http://127.0.0.1:1/?token=secret",
        ],
    );
    visit.expect("fail", "does not answer");
    assert!(!format!("{:?}", visit.findings).contains("secret"));
}
