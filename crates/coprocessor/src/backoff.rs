//! Pauses between attempts, which grow.

use std::time::Duration;

/// The shortest and the longest pause.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The pauses between attempts at something that fails for now.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    last: Duration,
}

impl Backoff {
    /// Returns the next pause: twice the last one.
    pub(crate) fn next(&mut self) -> Duration {
        self.last = self.last.saturating_mul(2).clamp(PAUSES.0, PAUSES.1);
        self.last
    }

    /// Begins again after a success.
    pub(crate) const fn reset(&mut self) {
        self.last = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_begin_again() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u64> = (0..9).map(|_| u64::try_from(backoff.next().as_millis()).unwrap()).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.next(), PAUSES.0);
    }
}
