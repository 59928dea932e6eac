//! Trying again: how often, and after which pauses.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use crate::{config::ClientLimits, error::ClientError};

/// How often failures are still repeated, and after which pause.
pub(crate) struct Patience {
    retries: u32,
    pause: Duration,
    longest_pause: Duration,
    longest_retry_after: Duration,
}

impl Patience {
    pub(crate) const fn new(limits: &ClientLimits) -> Self {
        Self {
            retries: limits.retries,
            pause: limits.first_pause,
            longest_pause: limits.longest_pause,
            longest_retry_after: limits.longest_retry_after,
        }
    }

    /// Waits before the next attempt, or gives the error back if there should be none.
    pub(crate) async fn spend(&mut self, error: ClientError) -> Result<(), ClientError> {
        let pause = self.pause_after(error)?;
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Returns how long to wait before the next attempt, or gives the error back if there should be none.
    fn pause_after(&mut self, error: ClientError) -> Result<Duration, ClientError> {
        if !error.is_retryable() && !is_lost_job(&error) {
            return Err(error);
        }
        let asked = error.retry_after().unwrap_or_default();
        if asked > self.longest_retry_after {
            return Err(error);
        }
        // A ciphertext takes the time it takes to be computed; only the whole operation's limit ends that.
        if error.label() != Some("not_ready_for_decryption") {
            self.retries = match self.retries.checked_sub(1) {
                Some(left) => left,
                None => return Err(error),
            };
        }
        let pause = jittered(self.pause).max(asked);
        tracing::debug!(%error, ?pause, "trying again");
        self.pause = self.pause.saturating_mul(2).min(self.longest_pause);
        Ok(pause)
    }
}

/// A gateway that restarted may have forgotten its jobs.
fn is_lost_job(error: &ClientError) -> bool {
    error.label() == Some("not_found")
}

/// Takes between a half and the whole of a pause, so that clients that failed together do not come back together. This is not for secrets: the standard
/// library's hash keys are random enough.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    let part = u32::try_from(random % 1024).unwrap_or(0);
    pause / 2 + pause / 2 * part / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> ClientLimits {
        ClientLimits {
            retries: 2,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(3),
            longest_retry_after: Duration::from_secs(20),
            ..ClientLimits::default()
        }
    }

    fn failure(label: &str, retry_after: Option<u64>) -> ClientError {
        ClientError::Server {
            what: "test",
            status: 503,
            label: label.into(),
            message: String::new(),
            details: vec![],
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    #[test]
    fn pauses_grow_to_a_limit_and_end() {
        let mut patience = Patience::new(&limits());
        let mut within = |label, most: u64| {
            let (pause, most) = (patience.pause_after(failure(label, None)).unwrap(), Duration::from_secs(most));
            assert!(pause >= most / 2 && pause <= most, "{pause:?} for {most:?}");
        };
        within("rate_limited", 1);
        within("gateway_not_reachable", 2);
        // Waiting for a computation does not count.
        within("not_ready_for_decryption", 3);
        let last = patience.pause_after(failure("rate_limited", None)).unwrap_err();
        assert_eq!(last.label(), Some("rate_limited"));
    }

    #[test]
    fn what_the_server_asks_for_is_waited_for_unless_it_is_too_long() {
        let mut patience = Patience::new(&limits());
        let pause = patience.pause_after(failure("rate_limited", Some(20))).unwrap();
        assert_eq!(pause, Duration::from_secs(20));
        let error = patience.pause_after(failure("rate_limited", Some(21))).unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(21)));
    }

    #[test]
    fn what_cannot_pass_is_not_repeated() {
        let mut patience = Patience::new(&limits());
        for label in ["not_allowed_on_host_acl", "unauthorized", "validation_failed"] {
            assert!(patience.pause_after(failure(label, Some(1))).is_err(), "{label}");
        }
    }
}
