//! The binary for production holds nothing that is for development: what is measured is what its dependencies say.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

/// Lists what is built into the binary when its package is built alone: packages with their features.
fn built_in(arguments: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["tree", "--offline", "--locked", "--package", "cipherloom-kms-node"])
        .args(["--edges", "normal,features", "--prefix", "none", "--format", "{p}|{f}"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut packages: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    // `name v1.2.3 (path)|feature,feature (*)`; lines about edges (`name feature "default"`) have no bar.
    for line in text.lines() {
        let Some((package, features)) = line.trim_end_matches(" (*)").split_once('|') else {
            continue;
        };
        let name = package.split(' ').next().unwrap().to_owned();
        let features = features.split(',').filter(|feature| !feature.is_empty()).map(str::to_owned);
        packages.entry(name).or_default().extend(features);
    }
    packages
}

/// Every feature of a package of ours that is for development.
fn insecure(packages: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    packages
        .iter()
        .flat_map(|(package, features)| features.iter().map(move |feature| format!("{package}/{feature}")))
        .filter(|feature| feature.contains("insecure"))
        .collect()
}

#[test]
fn nothing_for_development_is_in_the_binary() {
    let packages = built_in(&[]);
    for needed in [
        "cipherloom-kms",
        "cipherloom-attest",
        "cipherloom-fhe",
        "cipherloom-threshold",
        "tfhe",
        "dcap-qvl",
    ] {
        assert!(
            packages.contains_key(needed),
            "{needed} is missing: this test looks at something else than it thinks"
        );
    }
    let ours = [
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
    let others = ["revm", "sqlx", "tempfile", "proptest", "openssl-sys"];
    for unwanted in ours.into_iter().chain(others) {
        assert!(!packages.contains_key(unwanted), "{unwanted} is built into cipherloom-kms");
    }
    assert_eq!(insecure(&packages), Vec::<String>::new());
}

#[test]
fn what_is_insecure_is_a_feature_that_has_to_be_asked_for() {
    // That the other test would notice: the same list, with the feature.
    let found = insecure(&built_in(&["--features", "insecure-simulated"]));
    for expected in ["cipherloom-attest/insecure-simulated", "cipherloom-kms-node/insecure-simulated"] {
        assert!(found.iter().any(|feature| feature == expected), "{found:?}");
    }
}
