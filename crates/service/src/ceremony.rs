//! Ceremonies over gRPC: the nodes' service, and nodes as whoever drives a ceremony reaches them.
//!
//! What is done is the matter of `cipherloom_ceremony`; here are only messages. [`RemoteNode`] is a [`NodeLink`](cipherloom_ceremony::NodeLink) over an attested channel, [`CeremonyService`] the other end of it.
//!
//! # Who may call
//! Only attested callers in the role of a dealer, which the commands of operators have, too. They are not trusted: a node agrees to what it reads from the chain itself ([`CeremonyHost::registration`]), and gives
//! backups to the recovery key of its own configuration.

mod messages;
mod remote;
mod server;

pub use self::{
    remote::RemoteNode,
    server::{CeremonyHost, CeremonyService},
};

/// The largest message: a batch of letters, or a record with known values.
pub const MAX_MESSAGE_BYTES: usize = 32 << 20;
