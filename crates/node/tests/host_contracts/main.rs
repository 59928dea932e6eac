//! The host contracts, deployed with the deployment steps and exercised on the development chain's EVM.
//!
//! The rules come from the public protocol, section 1; the operation table says what each operation must accept.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests may fail")]

mod access;
mod decryption;
mod delegations;
mod deployment;
mod forgeries;
mod gas;
mod gateway;
mod inputs;
mod invariants;
mod limits;
mod matrix;
mod metering;
mod native_inputs;
mod operations;
mod rules;
mod stage;
mod thresholds;
mod upgrades;
mod validator_set;
