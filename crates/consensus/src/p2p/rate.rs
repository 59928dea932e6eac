//! How fast a peer may send.

use std::time::Duration;

use tokio::time::Instant;

/// For how many seconds' worth a peer may be ahead of its rate.
const BURST_S: f64 = 4.0;

/// An allowance that grows with time. It may be overdrawn; then the one who draws waits.
#[derive(Debug)]
pub(super) struct Allowance {
    per_second: f64,
    left: f64,
    since: Instant,
}

impl Allowance {
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        Self {
            per_second,
            left: per_second * BURST_S,
            since: now,
        }
    }

    /// Takes so much, and says how long to wait before anything else is taken.
    pub(super) fn take(&mut self, amount: u32, now: Instant) -> Duration {
        let grown = now.saturating_duration_since(self.since).as_secs_f64() * self.per_second;
        self.since = now;
        self.left = (self.left + grown).min(self.per_second * BURST_S) - f64::from(amount);
        if self.left >= 0.0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64((-self.left / self.per_second).min(60.0))
    }
}
