//! The public mirror: anyone fetches a ciphertext by its handle, and checks who vouches for it, without trusting the place.
//!
//! **Layout** of a mirror, which is any [`PublicPlace`]: a directory that a web server publishes, or a bucket.
//!
//! | name | what |
//! |---|---|
//! | `ab/ab12…` | the bytes whose Keccak hash is `ab12…` |
//! | `handles/cd/cd34…/SIGNER.json` | a [`CiphertextRecord`]: which digest the ciphertext of the handle `cd34…` has, signed by SIGNER |
//! | `manifest.json` | a [`MirrorManifest`]: which chains, signers and key sets there are. It is for finding one's way and proves nothing |
//!
//! **Roles.** [`Publishing`] is run by whoever has the database and a signing key; [`Publisher`] does it for a tenant. A [`Mirror`] reads, and checks everything it reads.
//!
//! **What is published** is the packed form, as everywhere where something is vouched for, once it is stored: of inputs at once, of results
//! when they have cooled and reorganisations of the chain are no longer expected.
//!
//! **Restart.** The database marks what was published after it was. A publisher that dies publishes some values again, with the same
//! bytes and signatures. Any number of processes may publish; one at a time does it for a tenant, and the next one takes over when its
//! claim is no longer renewed.

mod manifest;
mod publisher;
mod publishing;
mod reader;
mod record;

use cipherloom_primitives::{Address, B256, Handle};
use cipherloom_store::StoreError;

#[cfg(doc)]
use cipherloom_store::PublicPlace;

pub use manifest::{MANIFEST_NAME, MirrorChain, MirrorManifest};
pub use publisher::{Published, Publisher};
pub use publishing::Publishing;
pub use reader::{Mirror, MirroredCiphertext};
pub use record::CiphertextRecord;

/// The version of the layout that this software writes and reads.
pub const LAYOUT_VERSION: u32 = 1;

/// Why a ciphertext of a mirror cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MirrorError {
    /// The place failed.
    #[error(transparent)]
    Place(#[from] StoreError),
    /// A document cannot be read.
    #[error("{document} cannot be read: {reason}")]
    Malformed {
        /// Which document.
        document: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A document has another layout.
    #[error("{document} has layout version {found}; this software reads version {LAYOUT_VERSION}")]
    Layout {
        /// Which document.
        document: &'static str,
        /// The version found.
        found: u32,
    },
    /// A record is about another handle than the one asked for.
    #[error("the record is about handle {found}, not {asked}")]
    OtherHandle {
        /// The handle asked for.
        asked: Handle,
        /// The handle in the record.
        found: Handle,
    },
    /// The signature of a record is none of the signer it names.
    #[error("the signature is not one of {0}")]
    Signature(Address),
    /// The signer of a record is not one of those expected.
    #[error("{0} signed, who is none of the expected signers")]
    UnexpectedSigner(Address),
    /// Bytes are not those that the record vouches for.
    #[error(
        "the bytes have digest {found:x} and are {size_bytes} bytes long; vouched for are {expected_bytes} bytes with digest {expected:x}"
    )]
    OtherBytes {
        /// The digest in the record.
        expected: B256,
        /// The length in the record.
        expected_bytes: u64,
        /// The digest of the bytes.
        found: B256,
        /// The length of the bytes.
        size_bytes: u64,
    },
    /// There is no record of any expected signer.
    #[error(
        "the mirror has no record of handle {0} by an expected signer; values that transactions may still read in raw form are published later"
    )]
    NotPublished(Handle),
    /// The key could not sign.
    #[error("signing: {0}")]
    Signing(#[from] alloy::signers::Error),
}
