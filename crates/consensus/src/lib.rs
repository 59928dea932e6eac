//! How the validators of a native chain agree on blocks.
//!
//! Validators agree on one block per height in the manner of Tendermint: rounds with a proposer each, two votes, instant finality, safety as long as
//! less than a third of the voting power lies. The algorithm is a library without I/O; this crate gives it a network, a log that survives crashes,
//! clocks, keys, and the [`Application`] whose blocks it decides. docs/consensus.md is the whole story.

mod answers;
pub mod application;
mod blocks;
mod codec;
pub mod config;
mod context;
mod core;
mod engine;
mod gossip;
pub mod log;
pub mod network;
pub mod node;
pub mod p2p;
mod signing;
pub mod status;
mod sync;

pub use application::{Application, ApplicationError, DecidedBlock, Head, MAX_BLOCK_BYTES, ProposedBlock, Verdict};
pub use config::{NodeConfig, Timeouts};
pub use context::proposer;
pub use core::Step;
pub use network::{Channel, Network, NetworkError, PeerId, Received};
pub use node::{ConsensusError, Node};
pub use status::{NodeStatus, RoundStatus};
