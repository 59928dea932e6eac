//! The KMS node against a chain, a ciphertext storage and a clock that the tests control.

mod answers;
mod refusals;
mod support;
