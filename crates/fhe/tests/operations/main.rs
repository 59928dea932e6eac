//! Every operation on every type, on both backends.
//!
//! * `matrix` makes the cases from the operation table, so that a new line of the table is tested as soon as it exists.
//! * `plain` computes what must come out, by other means than the code under test.
//! * `clear`, `cpu`, `random`, `refusals`: the backends against it, on toy parameters where keys are involved.
//! * `direct`: tfhe-rs without the backend around it, which benchmarks use.
//! * `determinism`: the same bytes again, whatever runs around it.
//! * `production`: a few operations on real parameters.
#![cfg(feature = "insecure-toy-parameters")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are its own"
)]

mod clear;
mod cpu;
mod determinism;
mod direct;
mod fixture;
mod matrix;
mod plain;
mod production;
mod random;
mod refusals;
