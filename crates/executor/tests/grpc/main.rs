//! An executor on a TCP port, asked by a real gRPC client.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod errors;
mod fixture;
mod inputs;
mod lifecycle;
mod limits;
mod patterns;
mod pieces;
mod production;
mod random;
