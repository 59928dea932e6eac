//! An encrypted transfer with the published SDKs from npm, unmodified, on real TFHE.

use std::process::Command;

#[test]
fn the_published_sdks_work_with_configuration_only() {
    // Installs the published packages with npm by itself. The rest of what it can run takes long, or needs a browser.
    let status = Command::new(env!("CARGO"))
        .args(["xtask", "e2e", "sdk", "libraries", "config", "relayer-v2", "fhevm"])
        .args(["--binary", env!("CARGO_BIN_EXE_cipherloom")])
        .status()
        .unwrap();
    assert!(status.success(), "cargo xtask e2e sdk failed");
}
