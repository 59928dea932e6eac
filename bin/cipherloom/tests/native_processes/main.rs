//! A native chain as processes: four validators, a full node, an executor, KMS and gateway, as operators run them, with the client of dApps in front.
//!
//! They compute on toy parameters; `CIPHERLOOM_E2E=full` takes production ones, and longer.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is how a failure is reported"
)]

mod apart;
mod bank;
mod callbacks;
mod committee;
mod deposits;
mod dev;
mod network;
mod parts;
#[path = "../whole/process.rs"]
mod process;
mod together;
