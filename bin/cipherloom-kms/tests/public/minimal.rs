//! The binary for production holds nothing that is for development: what is measured is what its dependencies say.

use std::{collections::BTreeSet, process::Command};

/// Lists what is built into the binary when its package is built alone, a line for each package and each feature.
fn tree(features: &[&str]) -> BTreeSet<String> {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["tree", "--offline", "--locked", "--package", "cipherloom-kms-node"])
        .args(["--edges", "normal,features", "--prefix", "none", "--format", "{p}"])
        .args(features)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    // `name v1.2.3 (path) (*)` and `name feature "default"`.
    text.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
}

fn packages(tree: &BTreeSet<String>) -> BTreeSet<&str> {
    tree.iter().filter_map(|line| line.split(' ').next()).collect()
}

#[test]
fn nothing_for_development_is_in_the_binary() {
    let tree = tree(&[]);
    let packages = packages(&tree);
    for needed in ["cipherloom-kms", "cipherloom-attest", "cipherloom-threshold", "tfhe", "dcap-qvl"] {
        assert!(
            packages.contains(needed),
            "{needed} is missing: this test looks at something else than it thinks"
        );
    }
    let ours_for_development = [
        "cipherloom",
        "cipherloom-client",
        "cipherloom-coprocessor",
        "cipherloom-engine",
        "cipherloom-executor",
        "cipherloom-gateway",
        "cipherloom-load",
        "cipherloom-node",
        "cipherloom-private-anvil",
        "cipherloom-private-postgres",
        "cipherloom-store",
    ];
    let foreign = ["revm", "sqlx", "tempfile", "proptest", "openssl-sys"];
    for unwanted in ours_for_development.into_iter().chain(foreign) {
        assert!(!packages.contains(unwanted), "{unwanted} is built into cipherloom-kms");
    }
    let insecure: Vec<&String> = tree.iter().filter(|line| line.contains("insecure")).collect();
    assert!(insecure.is_empty(), "{insecure:?}");
    // What only simulated evidence needs.
    assert!(
        !packages.contains("p256")
            || !tree
                .iter()
                .any(|line| line.contains("cipherloom-attest feature \"insecure-simulated\""))
    );
}

#[test]
fn simulated_evidence_is_a_feature_that_has_to_be_asked_for() {
    let tree = tree(&["--features", "insecure-simulated"]);
    assert!(
        tree.iter()
            .any(|line| line.contains("cipherloom-attest") && line.contains("feature \"insecure-simulated\"")),
        "the feature's name has changed, and the other test would not notice it"
    );
}
