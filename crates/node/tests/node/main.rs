//! Tests of the development chain through its public interfaces.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may fail")]

mod beside_anvil;
mod chain;
mod fuzz;
mod http;
mod restart;
mod rpc;
mod simulate;
mod support;
mod tools;
mod websocket;
