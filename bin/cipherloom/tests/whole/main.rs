//! The binary as people run it, from outside: demo, restart after a kill, published libraries, bad usage.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is how a failure is reported"
)]

mod auction;
mod ballot;
mod bench;
mod client;
mod command_line;
mod committee;
mod dapp;
mod demo;
mod elsewhere;
mod erc7984;
mod executor;
mod explained;
mod keys;
mod killed;
mod process;
mod published_sdks;
mod raffle;
mod token;
