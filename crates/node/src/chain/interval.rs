//! Blocks that come by themselves, as on a real network.
//!
//! The chain only knows the wanted pause; a task of the server ([`DevChain::serve`]) waits and mines. The setting is not kept
//! across restarts, as automining is not.

use alloy::primitives::B256;
use tokio::sync::watch;

use super::DevChain;
use crate::error::{NodeError, Result};

/// Shortest pause between two blocks, in milliseconds. Fewer are seconds in the wrong unit.
pub const LEAST_INTERVAL_MS: u64 = 100;

/// Longest pause between two blocks, in milliseconds: a day.
const MOST_INTERVAL_MS: u64 = 24 * 60 * 60 * 1000;

/// The pause between two blocks that are mined by themselves: between these bounds, and another one each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MiningInterval {
    /// Shortest pause, in milliseconds.
    pub least_ms: u64,
    /// Longest pause, in milliseconds.
    pub most_ms: u64,
}

impl MiningInterval {
    /// The pause after the block with this hash, in milliseconds.
    pub(crate) fn pause_ms(self, hash: &B256) -> u64 {
        let random = hash.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let choices = self.most_ms.saturating_sub(self.least_ms).saturating_add(1);
        self.least_ms.saturating_add(random % choices)
    }
}

impl DevChain {
    /// Lets blocks come by themselves, with whatever waits, or stops that. It does not switch automining off.
    ///
    /// # Errors
    ///
    /// [`NodeError::InvalidParams`] for pauses below 100 ms, above a day or with bounds in the wrong order, and for a chain
    /// without a [server](DevChain::serve), which has nobody to wait.
    pub fn set_interval_mining(&self, interval: Option<MiningInterval>) -> Result<()> {
        if let Some(MiningInterval { least_ms, most_ms }) = interval {
            if least_ms < LEAST_INTERVAL_MS || most_ms > MOST_INTERVAL_MS || least_ms > most_ms {
                return Err(NodeError::InvalidParams(format!(
                    "an interval of {least_ms} to {most_ms} ms is not one of {LEAST_INTERVAL_MS} to {MOST_INTERVAL_MS} ms; \
                     evm_ and hardhat_setIntervalMining take milliseconds, anvil_setIntervalMining takes seconds"
                )));
            }
            if self.interval().receiver_count() == 0 {
                return Err(NodeError::InvalidParams(
                    "a chain without a server does not mine by itself; call mine".to_owned(),
                ));
            }
        }
        self.interval().send_replace(interval);
        Ok(())
    }

    /// Returns the pause between blocks that come by themselves, if they do.
    pub fn interval_mining(&self) -> Option<MiningInterval> {
        *self.interval().borrow()
    }

    /// Tells about changes of [`Self::interval_mining`], unless somebody listens already: two who mine would be one too many.
    pub(crate) fn first_to_hear_intervals(&self) -> Option<watch::Receiver<Option<MiningInterval>>> {
        (self.interval().receiver_count() == 0).then(|| self.interval().subscribe())
    }

    pub(crate) fn stop_interval_mining(&self) {
        self.interval().send_replace(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_within_their_bounds() {
        let interval = MiningInterval {
            least_ms: 100,
            most_ms: 103,
        };
        let pauses = (0u8..=255)
            .map(|byte| interval.pause_ms(&B256::repeat_byte(byte)))
            .collect::<Vec<_>>();
        assert_eq!((pauses.iter().min(), pauses.iter().max()), (Some(&100), Some(&103)));
        let fixed = MiningInterval {
            least_ms: 500,
            most_ms: 500,
        };
        assert_eq!(fixed.pause_ms(&B256::repeat_byte(0xff)), 500);
    }
}
