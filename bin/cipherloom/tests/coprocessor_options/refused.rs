//! Command lines and files that make no sense, and what is said about them.

use std::{os::unix::fs::PermissionsExt, path::Path, process::Output};

use crate::process::{coprocessor, text};

/// Runs `coprocessor` in a directory; it must fail, and what it says is returned.
fn refusal(directory: &Path, arguments: &[&str]) -> String {
    failure(&coprocessor(arguments).current_dir(directory).output().unwrap())
}

fn failure(output: &Output) -> String {
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("error: "), "{said}");
    said
}

#[test]
fn without_anything_to_do_it_says_what_there_is() {
    let directory = tempfile::tempdir().unwrap();
    let said = refusal(directory.path(), &[]);
    for option in ["--run-server", "--run-bg-worker", "--generate-fhe-keys"] {
        assert!(said.contains(option), "{said}");
    }
}

#[test]
fn without_a_database_it_says_how_to_name_one() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [["--run-bg-worker"].as_slice(), &["--run-bg-worker", "--database-url", ""]] {
        let said = refusal(directory.path(), arguments);
        assert!(said.contains("DATABASE_URL") && said.contains("sqlite:"), "{said}");
    }
    let said = refusal(directory.path(), &["--run-bg-worker", "--database-url", "mysql://geheim@host/db"]);
    assert!(said.contains("postgres://") && !said.contains("geheim"), "{said}");
}

#[test]
fn a_server_without_a_good_key_file_says_what_one_is_and_how_to_make_one() {
    let directory = tempfile::tempdir().unwrap();
    let start = [
        "--run-server",
        "--database-url",
        "sqlite:store.sqlite",
        "--server-addr",
        "127.0.0.1:0",
        "--metrics-addr",
        "127.0.0.1:0",
    ];
    let said = refusal(directory.path(), &start);
    assert!(
        said.contains("coprocessor.key") && said.contains("cipherloom keys signing-key"),
        "{said}"
    );
    // No database is made for a process that cannot serve.
    assert!(!directory.path().join("store.sqlite").exists());
    let key = directory.path().join("other.key");
    std::fs::write(&key, "0x1234").unwrap();
    let said = refusal(
        directory.path(),
        &[start.as_slice(), &["--coprocessor-private-key", "other.key"]].concat(),
    );
    assert!(said.contains("other.key") && said.contains("64 hexadecimal digits"), "{said}");
    assert!(said.contains("chmod 600"), "a key that others can read is warned of: {said}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let said = refusal(
        directory.path(),
        &[start.as_slice(), &["--coprocessor-private-key", "other.key"]].concat(),
    );
    assert!(!said.contains("chmod"), "{said}");
}

#[test]
fn a_certificate_without_its_key_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let said = refusal(
        directory.path(),
        &["--run-server", "--database-url", "sqlite:x", "--tls-certificate", "cert.pem"],
    );
    assert!(said.contains("--tls-private-key"), "{said}");
    assert!(!directory.path().join("x").exists());
}

#[test]
fn a_config_file_with_a_mistake_is_refused_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("coprocessor.toml");
    for (content, expected) in [
        ("run-server = true\ntoko-threads = 4\n", ["line 2", "tokio-threads"]),
        ("\n\ntokio-threads = \"four\"\n", ["line 3", "a whole number"]),
        ("run-server = true\nrun-server\n", ["line 2", "cannot use the config file"]),
        ("server-addr = \"here\"\n", ["line 1", "server-addr"]),
    ] {
        std::fs::write(&file, content).unwrap();
        let said = refusal(directory.path(), &["--config", "coprocessor.toml"]);
        assert!(expected.iter().all(|part| said.contains(part)), "{content}: {said}");
    }
    let said = refusal(directory.path(), &["--config", "missing.toml"]);
    assert!(said.contains("missing.toml"), "{said}");
}

#[test]
fn the_command_line_comes_before_the_environment_and_that_before_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("coprocessor.toml");
    std::fs::write(
        &file,
        "schedule = \"LOOP\"\ntokio-threads = 2\nservice-name = \"from-file\"\ndatabase_url = \"sqlite:f\"\n",
    )
    .unwrap();
    let shown = |arguments: &[&str], environment: &[(&str, &str)]| {
        let mut command = coprocessor(&[arguments, &["--print-config"]].concat());
        let output = command
            .current_dir(directory.path())
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let line = |page: &str, name: &str| page.lines().find(|line| line.contains(name)).unwrap().to_owned();
    let config = ["--config", "coprocessor.toml"];
    let page = shown(&config, &[]);
    assert!(line(&page, "schedule = \"LOOP\"").ends_with("# file"));
    assert!(line(&page, "tokio-threads = 2").ends_with("# file"));
    assert!(line(&page, "coprocessor-fhe-threads = 8").ends_with("# default"));
    assert!(line(&page, "database-url").contains("(file)") && !page.contains("sqlite:f"));
    let page = shown(&config, &[("FHEVM_DF_SCHEDULE", "FINE_GRAIN"), ("DATABASE_URL", "sqlite:e")]);
    assert!(line(&page, "schedule = \"FINE_GRAIN\"").ends_with("# environment"));
    assert!(line(&page, "database-url").contains("(environment)"));
    let page = shown(
        &["--schedule", "MAX_LOCALITY", "--service-name", "from-line"],
        &[("FHEVM_DF_SCHEDULE", "FINE_GRAIN"), ("CIPHERLOOM_CONFIG", "coprocessor.toml")],
    );
    assert!(line(&page, "schedule = \"MAX_LOCALITY\"").ends_with("# command line"));
    assert!(line(&page, "service-name = \"from-line\"").ends_with("# command line"));
    assert!(line(&page, "tokio-threads = 2").ends_with("# file"));
}

#[test]
fn keys_are_generated_for_the_generations_scripts_and_never_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    // Plaintext keys, because real ones take a minute; everything else is the same.
    let generate = ["--generate-fhe-keys", "--insecure-keys"];
    let output = coprocessor(&generate).current_dir(directory.path()).output().unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for part in ["INSECURE", "secret_key.bin", "SECRET", "tenant set-keys"] {
        assert!(said.contains(part), "{said}");
    }
    let keys = directory.path().join("fhevm-keys");
    let id = cipherloom_fhe::KeySet::open(&keys).unwrap().manifest().id;
    assert!(said.contains(&id.to_string()), "{said}");
    let said = refusal(directory.path(), &generate);
    assert!(
        said.contains("never overwritten") && said.contains("cipherloom keys generate"),
        "{said}"
    );
    assert_eq!(cipherloom_fhe::KeySet::open(&keys).unwrap().manifest().id, id);
}
