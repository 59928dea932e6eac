//! The client against a gateway and a chain that can be told to misbehave.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

mod blocking;
mod committee;
mod honest;
mod keys;
mod native;
mod permits;
mod server;
mod synchronous;
mod unreliable;
mod untrusted;
