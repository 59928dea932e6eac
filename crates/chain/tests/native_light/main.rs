//! A native chain as a light client sees it: validators that change, and nodes that forge, hide, freeze and alter.
//!
//! The chain is made up ([`chain`]) with real headers, tries and signatures; its nodes ([`node`]) lie as they are told to.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests and their helpers fail by panicking"
)]

mod chain;
mod following;
mod genesis_file;
mod node;
mod real_node;
mod state;
mod storage;
