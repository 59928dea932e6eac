//! An encrypted transfer with the published SDKs from npm, unmodified, on real TFHE.

use std::process::Command;

#[test]
fn the_published_sdks_work_with_configuration_only() {
    // Installs the published packages with npm by itself.
    let status = Command::new(env!("CARGO"))
        .args(["xtask", "e2e", "sdk", "--binary", env!("CARGO_BIN_EXE_cipherloom")])
        .status()
        .unwrap();
    assert!(status.success(), "cargo xtask e2e sdk failed");
}
