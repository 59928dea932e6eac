//! `cipherloom coprocessor --run-follower` as operators run it, on chains that are not ours.
//!
//! The tests need anvil and PostgreSQL. `CIPHERLOOM_E2E=full` makes the chain as long as it should be once in a while; `CIPHERLOOM_E2E_SEED` repeats a run.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests and their helpers fail by panicking"
)]

mod chain;
mod processes;
mod proxy;
mod reorganisations;
mod several;
