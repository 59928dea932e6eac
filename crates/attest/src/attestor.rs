//! The prover's side: where evidence and sealing keys come from.

use futures_util::future::BoxFuture;
use zeroize::Zeroizing;

use crate::{AttestError, Evidence, TeeKind};

/// A key that only this software on this kind of hardware gets again. Wiped when dropped.
pub type SealingKey = Zeroizing<[u8; 32]>;

/// Hardware, or what stands in for it.
///
/// Which one a process uses is set by its operator, never found out by trying: a missing device must not turn into a simulated one.
pub trait Attestor: Send + Sync {
    /// Returns what makes the evidence.
    fn kind(&self) -> TeeKind;

    /// Makes evidence over 64 bytes; see [`crate::Statement::report_data`].
    fn evidence(&self, report_data: [u8; 64]) -> BoxFuture<'_, Result<Evidence, AttestError>>;

    /// Derives the key for a purpose, the same one after every restart.
    fn sealing_key<'a>(&'a self, purpose: &'a str) -> BoxFuture<'a, Result<SealingKey, AttestError>>;
}
