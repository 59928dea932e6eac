//! A committee of KMS nodes, as a gateway sees it: it carries requests to the nodes and their answers back, and decides nothing.
//!
//! # Roles
//! * The **nodes**, numbered from 1, hold a share of the secret key each. `t` of them may be corrupt. Each checks every request by itself, and no node
//!   talks to another.
//! * The **carrier** ([`Carrier`]) asks all of them, brings each what it needs of the others, and hands on what enough of them signed.
//!
//! # Messages and flow
//! ```text
//!  user decryption                                  public decryption
//!
//!  carrier ── request ──► all n nodes               carrier ── request ──► all n nodes
//!          ◄─ sealed share, signed ──                       ◄─ shares, signed ──
//!  n − t are there: wait a moment for               n − t are there:
//!  the rest, then answer with all                   carrier ── request and all shares ──► the nodes that sent theirs
//!                                                           ◄─ value, signed  |  "more shares are needed" ──
//!                                                   as many equal answers as the chain asks signatures for: answer;
//!                                                   more shares came in meanwhile: ask again with them
//! ```
//!
//! # What a node can do to the others' answers
//! Nothing that `n − t` others do not make good. What a node signs is checked here before it is used: a signature that is not its own, an answer to
//! another request or under another number counts as no answer, because one such among several would make clients and contracts refuse them all.
//! Whether a sealed or a plain share is *right* only those can say who put shares together: users, and the other nodes, who name whoever sent a
//! wrong one. A node that more than `t` of the others name is a *suspect* for a while: its shares are still carried, and not counted as enough.
//!
//! # What the carrier can do
//! Withhold and delay. It sees who asks for which handles, and public values; it cannot read what is sealed to users, nor make nodes answer what the
//! chain does not allow, nor change what they sign.
//!
//! # Waiting
//! Each call has a deadline. Once one node has answered the others have a shorter one, since all wait for the same values; once it is decided what
//! becomes of the request there is only a short grace for the rest. A node that is late is left alone with what it does, which is lost.
//!
//! # Restart
//! Nothing is kept. A request that a restart interrupts is asked again by whoever asked, and nodes answer the same request the same way.

mod attestation;
mod carrier;
mod checks;
mod client;
mod connected;
mod public;
mod remote;
mod standing;
#[cfg(test)]
mod tests;
mod verdict;

pub(crate) use self::{
    attestation::{Attestation, AttestationOptions, HEADING, insecure_attestor},
    carrier::{Carrier, ChainTerms, Member, Patience},
    client::CommitteeClient,
    connected::{Connected, ConnectedCommittee, NodePlace},
    remote::{NodeDescription, RemoteNode},
};
