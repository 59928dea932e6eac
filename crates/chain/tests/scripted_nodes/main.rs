//! Following a chain whose nodes disconnect, lie, lag behind, limit what they answer and change their minds.
//!
//! The chain is made up ([`chain`]) with real hashes, bloom filters and receipts roots, so that what can be checked can be checked. Its nodes ([`node`]) speak
//! HTTP and WebSocket and misbehave as their faults say, at random from a seed.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests and their helpers fail by panicking"
)]

mod chain;
mod following;
mod node;
mod sockets;
