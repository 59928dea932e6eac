//! The published WebAssembly client reads our answers.

use std::process::Command;

#[test]
fn the_published_client_opens_the_committed_answer_and_refuses_changed_ones() {
    // Installs the client with npm by itself.
    let status = Command::new(env!("CARGO")).args(["xtask", "e2e", "kms-wasm"]).status().unwrap();
    assert!(status.success(), "cargo xtask e2e kms-wasm failed");
}
