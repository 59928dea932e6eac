//! The parts of a deployment as processes of their own, as operators run them: chain, coprocessor, KMS and gateway, with the client of dApps in front.
//!
//! The tests need anvil. They compute on plaintext; `CIPHERLOOM_E2E=full` takes real ciphertexts and longer. `CIPHERLOOM_E2E_SEED` repeats a run.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "in a test, a panic is how a failure is reported, and figures are printed"
)]

mod committee;
mod deployment;
mod killed;
mod liar;
#[expect(dead_code, reason = "tests of other kinds need more of it")]
#[path = "../whole/process.rs"]
mod process;
mod refused;
mod token;
mod whole;
