//! The published WebAssembly client reads our answers.

use std::process::Command;

#[test]
fn the_published_client_opens_the_committed_answer_and_refuses_changed_ones() {
    // Installs the client with npm by itself.
    let status = Command::new(env!("CARGO"))
        .args(["xtask", "wasm-user-decryption"])
        .status()
        .unwrap();
    assert!(status.success(), "cargo xtask wasm-user-decryption failed");
}
