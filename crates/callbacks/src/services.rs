//! What a relay needs from the rest of the system.

use std::time::{SystemTime, UNIX_EPOCH};

use alloy::primitives::Bytes;
use cipherloom_primitives::Handle;
use futures_util::future::BoxFuture;

/// Values in the clear, signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decrypted {
    /// The values as 32-byte ABI words, in the order of the handles.
    pub values: Bytes,
    /// One 65-byte signature per KMS node, over handles and values, with empty extra data: that of the current context.
    pub signatures: Vec<Bytes>,
}

/// Why something was not decrypted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecryptionFailure {
    /// It can never be decrypted.
    #[error("{0}")]
    Impossible(String),
    /// It may not be decrypted, or its computation has failed; that may be another matter in a while, as when the KMS looks at an older block.
    #[error("{0}")]
    Refused(String),
    /// Something does not work now.
    #[error("{0}")]
    Unavailable(String),
}

/// Decrypts what anyone may decrypt.
pub trait Decryption: Send + Sync + 'static {
    /// Decrypts handles, with empty extra data. It may take as long as their computation; the future is dropped when nobody waits any more.
    fn decrypt(&self, handles: Vec<Handle>) -> BoxFuture<'static, Result<Decrypted, DecryptionFailure>>;
}

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Returns the time in milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        crate::config::milliseconds(since)
    }
}
