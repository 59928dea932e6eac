//! The network between nodes over real sockets: who is let in, what arrives, and what becomes of peers that lie, stall, flood or fall silent.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod discovery;
mod hostile;
mod identity;
mod messages;
mod nodes;
mod partitions;
mod proxy;
mod raw;
mod requests;
