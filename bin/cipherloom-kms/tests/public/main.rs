//! What strangers can find out about a node, and what is in the binary that is measured.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod minimal;
mod port;
