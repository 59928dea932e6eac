//! A validator or full node of a native chain as a process, and the library behind `cipherloom node`.
//!
//! Four parts make a node: the chain of `cipherloom-node`, which executes blocks; consensus and the network between nodes of `cipherloom-consensus`; an
//! executor, here or elsewhere, that computes on ciphertexts; and the check of input proofs. [`RunningNode`] wires them; [`ChainApplication`] is
//! where consensus and the chain meet. The rest is what operators see: options and a config file, the genesis of a chain, directories, metrics,
//! health, an end when it is told to. docs/validator.md is for them.
//!
//! A full node is the same without votes: it follows what validators decided, executes it, and serves it.
#![expect(clippy::print_stdout, reason = "a command-line tool prints its results")]

mod announcing;
pub mod application;
pub mod command;
pub mod compute;
pub mod directory;
pub mod genesis;
mod genesis_alloc;
pub mod genesis_command;
pub mod init;
pub mod inputs;
mod look;
mod metrics;
pub mod options;
mod process;
pub mod running;
pub mod status;

pub use application::ChainApplication;
pub use command::{NodeCommand, run, run_command, run_schema, start_logging};
pub use compute::{EmbeddedExecutor, EmbeddedOptions, RemoteExecutors, RemoteOptions};
pub use directory::NodeDirectory;
pub use genesis::ChainPlan;
pub use inputs::ProofChecks;
pub use options::RunOptions;
pub use running::{NodeParts, Peers, RunningNode};
