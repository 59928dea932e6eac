//! Native chains without consensus: the tests propose, vote and sign. An executor that hashes computes, so that every byte of a result matters.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets what it did not expect must fail, and says where by panicking"
)]

mod archive;
mod blocks;
mod example;
mod genesis;
#[path = "../native/hashing.rs"]
mod hashing;
mod pool;
#[path = "../native/program.rs"]
mod program;
mod replay;
mod restart;
mod rpc;
mod states;
mod sync;
mod validators;
mod world;

use self::world as client;
