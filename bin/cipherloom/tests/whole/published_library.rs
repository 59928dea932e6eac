//! The example token, compiled with the published Solidity library from npm instead of ours, through the same demo.

use std::process::Command;

use crate::process;

#[test]
fn the_token_compiled_with_the_published_library_passes_the_same_demo() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().to_str().unwrap();
    // Installs the published packages with npm by itself.
    let compiled = Command::new(env!("CARGO"))
        .args(["xtask", "token-npm", "--out", out])
        .status()
        .unwrap();
    assert!(compiled.success(), "cargo xtask token-npm failed");
    let artifact = directory.path().join("ConfidentialToken.json");
    let summary = process::demo(
        &directory.path().join("data"),
        &["--insecure-clear", "--token-artifact", artifact.to_str().unwrap()],
    );
    assert_eq!(summary["ok"], true);
    assert_eq!(
        (summary["balances"]["alice"].as_u64(), summary["balances"]["bob"].as_u64()),
        (Some(750), Some(250))
    );
}
