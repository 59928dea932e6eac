//! Everything that talks to a host chain: reading the host contracts, deploying them, and following what they announce.
//!
//! * [`HostChain`]: one deployment of the host contracts behind a JSON-RPC URL; typed reads with time limit and retries.
//! * [`Follower`]: turns the chain into [`BlockEvents`], detects reorganisations, and keeps no state worth saving.
//! * [`deploy`]: sends the deployment transactions, resuming where an earlier run stopped.
//!
//! The chain's node is outside: it can be slow, wrong or gone. Every call is limited in time and retries, and
//! [`ChainError`] says whose fault a failure is and whether trying again can help.

pub mod deployment;
pub mod error;
pub mod events;
pub mod follower;
pub mod host_chain;

pub use deployment::deploy;
pub use error::{ChainError, Fault};
pub use events::{BlockEvents, BlockId, DelegationEvent, GrantEvent, TransactionEvents};
pub use follower::{FollowUpdate, Follower, FollowerConfig};
pub use host_chain::{CallLimits, HostChain, SignerSetOnChain};
