//! The compiler against the clear reference: every kernel, every rule, random graphs, schedules, failures, and toy encryption.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and its numbers are its own"
)]

mod encrypted;
mod explain;
mod failures;
mod kernels;
mod pools;
mod random_graphs;
mod rules;
mod schedules;
mod support;
mod table;
mod vectors;
mod whole_operations;
