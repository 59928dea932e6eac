//! Where block timestamps come from.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A source of wall-clock time in whole seconds.
pub trait Clock: Send + Sync {
    /// Returns the current time in seconds since the Unix epoch.
    fn now_unix_s(&self) -> u64;
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_unix_s(&self) -> u64 {
        // A clock before 1970 reads as zero: timestamps then follow the parent block's.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
    }
}

/// A clock that moves only when told to, for deterministic tests.
#[derive(Debug, Default)]
pub struct ManualClock {
    now_unix_s: AtomicU64,
}

impl ManualClock {
    /// Creates a clock that reads `now_unix_s` seconds since the Unix epoch.
    pub fn new(now_unix_s: u64) -> Self {
        Self {
            now_unix_s: AtomicU64::new(now_unix_s),
        }
    }

    /// Sets the time, in seconds since the Unix epoch.
    pub fn set(&self, now_unix_s: u64) {
        self.now_unix_s.store(now_unix_s, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_unix_s(&self) -> u64 {
        self.now_unix_s.load(Ordering::SeqCst)
    }
}
