//! The gRPC server on a TCP port, asked by a real client, on both databases.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod arbitrary;
mod authentication;
mod fixture;
mod get_ciphertexts;
mod lifecycle;
mod schedule;
mod squashed;
mod tls;
mod trivial;
mod upload;
