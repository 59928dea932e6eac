//! The KMS node, and the parties of a committee, against a chain, a ciphertext storage and a clock that the tests control.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

mod answers;
mod committee;
mod native;
mod permits;
mod refusals;
mod support;
