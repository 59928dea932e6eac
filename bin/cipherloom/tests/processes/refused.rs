//! Set-ups that cannot work: the process says what is wrong and what to do, and does not serve.

use std::fs;

use alloy::primitives::Address;
use cipherloom_chain::{
    Deployment as DeploymentFile,
    profile::{DEVELOPMENT, END_TO_END},
};
use cipherloom_contracts::SignerSet;

use crate::{
    deployment::{Deployment, Part, text},
    process::cipherloom,
};

/// Starts a part that must refuse, with its config changed, and returns what it says.
fn refusal(deployment: &Deployment, part: Part, change: impl FnOnce(String) -> String) -> String {
    let name = if part == Part::Kms { "kms" } else { "gateway" };
    let config = fs::read_to_string(deployment.file(&format!("{name}.toml"))).unwrap();
    let file = deployment.path(&format!("{name}-changed.toml"));
    fs::write(&file, change(config)).unwrap();
    let mut arguments = if part == Part::Kms { vec!["kms", "node"] } else { vec!["gateway"] };
    let config = format!("--config={file}");
    arguments.extend([config.as_str(), "--startup-patience-seconds=1"]);
    let output = cipherloom(&arguments).output().unwrap();
    assert!(!output.status.success(), "{part:?} should refuse: {}", text(&output));
    text(&output)
}

/// Replaces the line of an option.
fn set(config: &str, option: &str, value: &str) -> String {
    let kept: Vec<&str> = config.lines().filter(|line| !line.starts_with(&format!("{option} ="))).collect();
    format!("{option} = {value}\n{}", kept.join("\n"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_belong_together_is_refused_with_what_to_do() {
    let mut deployment = Deployment::prepare(&[DEVELOPMENT]).await;
    let says = |found: &str, wanted: &[&str]| {
        for part in wanted {
            assert!(found.contains(part), "{part:?} is not in: {found}");
        }
    };
    // Nothing runs yet.
    says(
        &refusal(&deployment, Part::Gateway, |config| config),
        &["coprocessor", "does not answer", "KMS", "start it"],
    );
    let two_parts = [Part::Coprocessor, Part::Kms];
    for part in two_parts {
        deployment.spawn(part);
        deployment.wait_for(part);
    }
    // Another API key.
    fs::write(deployment.file("wrong.api-key"), "123e4567-e89b-42d3-a456-426614174000").unwrap();
    let wrong = deployment.path("wrong.api-key");
    let right = deployment.path("chain-31337.api-key");
    says(
        &refusal(&deployment, Part::Gateway, |config| config.replace(&right, &wrong)),
        &["API key", "rotate-api-key"],
    );
    // Keys that hide nothing, without permission.
    says(
        &refusal(&deployment, Part::Gateway, |config| config.replace("insecure-keys = true\n", "")),
        &["INSECURE", "--insecure-keys"],
    );
    says(
        &refusal(&deployment, Part::Kms, |config| config.replace("insecure-keys = true\n", "")),
        &["INSECURE", "--insecure-keys"],
    );
    // A KMS with other keys than the coprocessor.
    deployment.run(&["keys", "generate", &deployment.path("other-keys"), "--parameters", "insecure-clear"]);
    let other = format!("\"{}\"", deployment.path("other-keys"));
    says(
        &refusal(&deployment, Part::Kms, |config| set(&config, "keys", &other)),
        &["has key set", "this node has", "tenant set-keys"],
    );
    says(
        &refusal(&deployment, Part::Gateway, |config| set(&config, "keys", &other)),
        &["key set", "the KMS has"],
    );
    // A KMS that is not registered.
    deployment.run(&["keys", "signing-key", &deployment.path("stranger.key")]);
    let stranger = format!("\"{}\"", deployment.path("stranger.key"));
    says(
        &refusal(&deployment, Part::Kms, |config| set(&config, "signing-key-file", &stranger)),
        &["is not registered as a KMS signer", "contracts signers"],
    );
    // Other machines, without encryption.
    says(
        &refusal(&deployment, Part::Kms, |config| set(&config, "server-addr", "\"0.0.0.0:0\"")),
        &["not encrypted", "--insecure-plaintext"],
    );
    says(
        &refusal(&deployment, Part::Gateway, |config| set(&config, "listen", "\"0.0.0.0:0\"")),
        &["not encrypted", "--insecure-plaintext"],
    );
    // Jobs nowhere.
    let without_jobs = |config: String| {
        config
            .lines()
            .filter(|line| !line.starts_with("jobs-"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    says(
        &refusal(&deployment, Part::Gateway, without_jobs),
        &["--jobs-database-url", "--jobs-in-memory"],
    );
    // A node that serves another chain than the file about the deployment says.
    let signers = || SignerSet::single(Address::repeat_byte(1));
    let elsewhere = DeploymentFile::planned(&END_TO_END.deployment(signers(), signers()));
    elsewhere.write(&deployment.file("deployment-12345.json")).unwrap();
    let file = format!("deployment = \"{}\"\nrpc-url =", deployment.path("deployment-12345.json"));
    for part in [Part::Gateway, Part::Kms] {
        says(
            &refusal(&deployment, part, |config| config.replace("rpc-url =", &file)),
            &["31337", "12345"],
        );
    }
    // No chain at all, and names that nobody knows.
    let no_chain = |config: String| config.split("[[chain]]").next().unwrap().to_owned();
    says(&refusal(&deployment, Part::Gateway, no_chain), &["no host chain", "[[chain]]"]);
    says(
        &refusal(&deployment, Part::Gateway, |config| config.replace("[[chain]]", "[[chains]]")),
        &["line", "chains"],
    );
    says(
        &refusal(&deployment, Part::Gateway, |config| config.replace("rpc-url =", "rcp-url =")),
        &["rpc-url is meant"],
    );
}
