//! Opens user decryption answers with the unmodified WebAssembly client that published SDKs bundle.
//!
//! The answers are the known-answer vectors of the `signcryption` crate, one of a single node and one of a committee, whose tests make them byte for byte; so what passes
//! here is what KMS nodes send. The client is pinned in `e2e/wasm-user-decryption/package-lock.json`.

use anyhow::Result;

use crate::{
    command::{program, root, run as execute},
    contracts::install_packages,
};

/// Installs the client and runs the check.
///
/// # Errors
/// If npm or Node is missing, a package cannot be installed, or the client does not read the answer as it should.
pub(crate) fn run() -> Result<()> {
    install_packages(&root().join("e2e/wasm-user-decryption"))?;
    execute(program(
        "node",
        &[
            "e2e/wasm-user-decryption/check.mjs",
            "crates/signcryption/tests/vectors/centralised.json",
        ],
    ))?;
    execute(program(
        "node",
        &[
            "e2e/wasm-user-decryption/check-threshold.mjs",
            "crates/signcryption/tests/vectors/threshold.json",
            "crates/signcryption/tests/vectors/centralised.json",
        ],
    ))
}
