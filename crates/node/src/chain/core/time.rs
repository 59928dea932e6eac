//! Which time the blocks get.

use super::Core;
use crate::chain::journal::Record;
use crate::error::{NodeError, Result};

/// Latest accepted timestamp: the end of the year 9999, far from any overflow.
pub(super) const MAX_TIMESTAMP: u64 = 253_402_300_799;

impl Core {
    pub(super) fn next_timestamp(&self) -> u64 {
        self.fixed_timestamp()
            .unwrap_or_else(|| self.config.clock.now_unix_s().saturating_add_signed(self.time_offset))
            .max(self.head().header.timestamp)
            .min(MAX_TIMESTAMP)
    }

    /// The next block's timestamp, if it does not come from the clock.
    pub(super) fn fixed_timestamp(&self) -> Option<u64> {
        let interval = self.settings.timestamp_interval_s;
        self.next_timestamp
            .or_else(|| interval.map(|seconds| self.head().header.timestamp.saturating_add(seconds).min(MAX_TIMESTAMP)))
    }

    /// Moves the time of the following blocks forward and returns the whole offset, in seconds.
    pub(crate) fn increase_time(&mut self, seconds: u64) -> Result<i64> {
        let offset = i64::try_from(seconds)
            .ok()
            .and_then(|seconds| self.time_offset.checked_add(seconds));
        let now = self.config.clock.now_unix_s();
        let offset = offset
            .filter(|offset| now.saturating_add_signed(*offset) <= MAX_TIMESTAMP)
            .ok_or_else(|| NodeError::InvalidParams("the time would be beyond the year 9999".to_owned()))?;
        self.set_time_offset(offset)?;
        Ok(offset)
    }

    /// Sets the time that following blocks count from.
    pub(crate) fn set_time(&mut self, timestamp: u64) -> Result<()> {
        self.check_timestamp(timestamp)?;
        self.set_time_offset(offset_between(self.config.clock.now_unix_s(), timestamp))
    }

    /// Fixes the timestamp of the next block; later blocks count from it.
    pub(crate) fn set_next_timestamp(&mut self, timestamp: u64) -> Result<()> {
        self.check_timestamp(timestamp)?;
        self.next_timestamp = Some(timestamp);
        Ok(())
    }

    pub(crate) fn set_next_base_fee(&mut self, base_fee: u64) {
        self.next_base_fee = Some(base_fee);
    }

    fn check_timestamp(&self, timestamp: u64) -> Result<()> {
        let earliest = self.head().header.timestamp;
        if (earliest..=MAX_TIMESTAMP).contains(&timestamp) {
            return Ok(());
        }
        Err(NodeError::InvalidParams(format!(
            "timestamp {timestamp} is not between the latest block's, {earliest}, and the year 9999"
        )))
    }

    pub(super) fn set_time_offset(&mut self, seconds: i64) -> Result<()> {
        self.record(&Record::TimeOffset { seconds })?;
        self.time_offset = seconds;
        Ok(())
    }
}

/// Seconds from the clock's `now` to `timestamp`.
pub(super) fn offset_between(now: u64, timestamp: u64) -> i64 {
    i64::try_from(i128::from(timestamp) - i128::from(now)).unwrap_or(0)
}
