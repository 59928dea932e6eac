//! The KMS node against a chain, a ciphertext storage and a clock that the tests control.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

mod answers;
mod permits;
mod refusals;
mod support;
