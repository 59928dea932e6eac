//! The life of key shares.
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
pub use store::{Held, Store};
