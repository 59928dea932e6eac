//! The host contracts on the embedded development chain, read, deployed and followed over JSON-RPC.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests and their helpers fail by panicking"
)]

mod deployment;
mod fixture;
mod following;
mod liar;
mod proofs;
mod reading;
mod sending;
mod unreliable_nodes;
mod witnesses;
