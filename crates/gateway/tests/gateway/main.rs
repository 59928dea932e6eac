//! The gateway over real sockets, with small services behind it that sign for real.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic in the helpers of tests is a failed test"
)]

mod access;
mod client;
mod connections;
mod downloads;
mod jobs;
mod killed;
mod legacy;
mod load;
mod openapi;
mod persistence;
mod refusals;
mod robustness;
mod sdks;
mod services;
mod steady;
mod tls;
mod unified;
