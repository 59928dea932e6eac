//! Where the time of decryptions goes, summed up since the start, for operators and benchmarks.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// A step of a decryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Checking the request, and asking the chain who may have it decrypted.
    Checks,
    /// Fetching ciphertexts and checking where they come from.
    Ciphertexts,
    /// Waiting for a turn to decrypt.
    Turn,
    /// Decrypting.
    Decryption,
    /// Recording it in the audit log, on disk.
    Audit,
    /// Signing the answer, or encrypting it to the user.
    Answer,
}

impl Step {
    /// All steps, in their order.
    pub const ALL: [Self; 6] = [
        Self::Checks,
        Self::Ciphertexts,
        Self::Turn,
        Self::Decryption,
        Self::Audit,
        Self::Answer,
    ];

    /// Returns the name, for reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Checks => "checks",
            Self::Ciphertexts => "ciphertexts",
            Self::Turn => "turn",
            Self::Decryption => "decryption",
            Self::Audit => "audit",
            Self::Answer => "answer",
        }
    }
}

/// The time that all requests together took for each step, on the wall; of refused ones, up to the refusal.
#[derive(Debug, Default)]
pub struct Timings {
    nanoseconds: [AtomicU64; Step::ALL.len()],
    answered: AtomicU64,
}

impl Timings {
    /// Returns the time of a step.
    #[must_use]
    pub fn of(&self, step: Step) -> Duration {
        Duration::from_nanos(self.slot(step).load(Ordering::Relaxed))
    }

    /// Returns how many requests were answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Adds the time since `start` to a step, and returns now, when the next step starts.
    pub(crate) fn lap(&self, step: Step, start: Instant) -> Instant {
        let now = Instant::now();
        let passed = u64::try_from(now.saturating_duration_since(start).as_nanos()).unwrap_or(u64::MAX);
        self.slot(step).fetch_add(passed, Ordering::Relaxed);
        now
    }

    /// Counts a request that was answered.
    pub(crate) fn count(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    const fn slot(&self, step: Step) -> &AtomicU64 {
        let [checks, ciphertexts, turn, decryption, audit, answer] = &self.nanoseconds;
        match step {
            Step::Checks => checks,
            Step::Ciphertexts => ciphertexts,
            Step::Turn => turn,
            Step::Decryption => decryption,
            Step::Audit => audit,
            Step::Answer => answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laps_add_up_by_step() {
        let timings = Timings::default();
        let start = Instant::now() - Duration::from_millis(5);
        let next = timings.lap(Step::Checks, start);
        timings.lap(Step::Audit, next);
        timings.lap(Step::Checks, start);
        assert!(timings.of(Step::Checks) >= Duration::from_millis(10));
        assert!(timings.of(Step::Audit) < Duration::from_millis(5));
        assert_eq!((timings.of(Step::Answer), timings.answered()), (Duration::ZERO, 0));
        timings.count();
        assert_eq!(timings.answered(), 1);
    }
}
