//! Stacks on a chain that is not ours: anvil, as published. Deployment, demo, upgrade, restarts, and what is refused.
//!
//! With `CIPHERLOOM_E2E=full` the demos compute on real ciphertexts, and lines that begin with `E2E` say how long they took.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "in a test, a panic is how a failure is reported, and figures are printed"
)]

mod deployed;
mod elsewhere;
mod foreign_chain;
#[expect(dead_code, reason = "tests of other kinds need more of it")]
#[path = "../whole/process.rs"]
mod process;
mod refused;
mod restarted;
