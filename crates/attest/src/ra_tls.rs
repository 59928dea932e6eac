//! TLS 1.3 between attested processes (RA-TLS: remote-attestation TLS).
//!
//! A [`Endpoint`] has a TLS key of its own, made at start and never stored, and a self-signed certificate with the [`Statement`] and evidence over that
//! key inside. [`Endpoint::connect`] and [`Endpoint::accept`] give a [`Channel`] only after
//! 1. the handshake, in which each end's certificate was verified against the policy and the peer that was expected, and
//! 2. an exchange of fresh evidence, bound to keying material exported from this connection (RFC 8446, section 7.5).
//!
//! The second step is what makes the first one fresh: certificates can be replayed by whoever stole a TLS key; a quote over exported keying
//! material cannot be, nor relayed, because the attacker in the middle has other keying material on each side.
//!
//! Names and validity dates of certificates mean nothing here; the hardware's word does.

mod certificate;
mod channel;
mod handshake;

use std::sync::Arc;

use alloy_primitives::B256;

pub use self::channel::{Channel, Endpoint};
use crate::{Claims, Role, Statement};

/// Whom an endpoint talks to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The chain that both serve.
    pub chain_id: u64,
    /// The committee.
    pub context: B256,
    /// The roles that may be on the other end.
    pub roles: Vec<Role>,
    /// The members of the committee: party and signer; a peer that says to be a node must be one of them.
    pub members: Vec<(u32, alloy_primitives::Address)>,
    /// The one party that must be on the other end, where only one will do.
    pub party: Option<u32>,
}

/// A peer whose evidence was believed.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// What it says to be.
    pub statement: Statement,
    /// What its hardware says.
    pub claims: Claims,
}

/// Tells the time in seconds since 1970; a parameter, so that recorded evidence can be verified at its own time.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;
