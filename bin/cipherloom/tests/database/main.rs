//! The binary on PostgreSQL, from outside. A test program of its own, so that the others need no server.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is how a failure is reported"
)]

mod ciphertexts;
mod computations;
mod doctor;
mod first_steps;
mod operators;
#[path = "../whole/process.rs"]
mod process;
mod tenants;
