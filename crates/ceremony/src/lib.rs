//! The life of key shares: how the nodes of a committee get them from a dealer, keep them, pass them on, and get lost ones back.
//!
//! What shares are and how they are used is the matter of `threshold`; that a participant runs known code in trusted hardware is that of `attest`. This crate puts both together into ceremonies that nobody outside
//! of the participants can influence, spoil unnoticed, or learn from. It has no network: [`NodeLink`] is how a driver reaches nodes.
//!
//! # Roles
//! * [`Node`]: a member of a committee, with a [`Store`] of sealed files.
//! * [`Dealer`]: makes a new key in a trust domain, deals its shares once, and forgets it ([`deal`]).
//! * The *carrier* of a resharing, who takes letters from node to node ([`carry_resharing`]), and any other driver.
//! * Custodians of a [`RecoveryKey`], and the [`Backup`]s that it opens.
//! * Anybody: checks the published [`Record`].
//!
//! # Messages
//! [`Proposal`] (what is to be done), [`Card`] (who takes part, with evidence), [`Letter`] (signed, and sealed where it is secret), [`Acceptance`] (a member's signature over the outcome and its part of a
//! test decryption), [`Record`] (all of that together).
//!
//! # What holds
//! * A node gives shares to, and takes them from, only what the chain has registered ([`Registration`], which the node itself read) and what its policy believes.
//! * Shares are used only after all members signed the same outcome and decrypted known values together; otherwise everybody wipes what is new, and what was before stays.
//! * Epochs only go up. Old shares are erased, refused by the ledger and by the chain's epoch, and lie on other polynomials than new ones.
//!
//! # Restart
//! An interrupted ceremony is begun anew. A share that was accepted survives a restart until its record arrives or another ceremony begins.
//!
//! # Assumptions
//! Those of `threshold` and `attest`; the dealer is honest, because its hardware and code are; X25519, XSalsa20-Poly1305, Keccak-256 and ECDSA over secp256k1 do what they promise; the node's own
//! endpoints tell it the truth about the chain. Not reviewed yet by anybody but its authors.

mod card;
mod dealer;
mod digest;
mod drive;
mod error;
mod identity;
mod letter;
mod node;
mod proposal;
mod record;
mod recovery;
mod shamir;
mod store;

pub use card::Card;
pub use dealer::{Dealer, Dealt, GeneratedKeys, Seed};
pub use drive::{DealingParts, LocalLink, NodeLink, Outcome, Step, activate, carry_resharing, deal};
pub use error::CeremonyError;
pub use identity::Identity;
pub use letter::{Letter, MAX_LETTER_BYTES};
pub use node::{Accepted, Delivered, Node};
pub use proposal::{Proposal, Registration, Seats, VERSION, identity_of};
pub use record::{Acceptance, Core, Known, MAX_RECORD_BYTES, Material, Record};
pub use recovery::{Backup, MAX_BACKUP_BYTES, Piece, RecoveryCard, RecoveryKey, SealedPiece};
pub use store::{Held, Store};
