//! What a thread spends its time on.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds that several threads add up.
#[derive(Debug, Default)]
pub(super) struct Total(AtomicU64);

impl Total {
    pub(super) fn add(&self, time: Duration) {
        self.0
            .fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// The time that the calling thread computed.
pub(super) struct ThreadClock(Duration);

impl ThreadClock {
    pub(super) fn start() -> Self {
        Self(now())
    }

    /// Returns the time since the last call, or the start.
    pub(super) fn lap(&mut self) -> Duration {
        let before = std::mem::replace(&mut self.0, now());
        self.0.saturating_sub(before)
    }
}

fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}
