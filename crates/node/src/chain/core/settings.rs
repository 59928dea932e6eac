//! What following blocks are made with, where it was set: gas limit, coinbase, distance in time, randomness.

use alloy::primitives::{Address, B256};
use serde::{Deserialize, Serialize};

use super::time::MAX_TIMESTAMP;
use super::{Core, LEAST_GAS_LIMIT};
use crate::error::{NodeError, Result};

/// Deviations from the configuration. Each block's record in the journal carries those it was made with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BlockSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    gas_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    coinbase: Option<Address>,
    /// Seconds from one block's timestamp to the next one's, instead of the clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timestamp_interval_s: Option<u64>,
}

impl BlockSettings {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Core {
    /// Gas limit of the next block.
    pub(crate) fn gas_limit(&self) -> u64 {
        self.settings.gas_limit.unwrap_or(self.config.block_gas_limit)
    }

    /// Receiver of the next block's tips.
    pub(crate) fn coinbase(&self) -> Address {
        self.settings.coinbase.unwrap_or(self.config.coinbase)
    }

    pub(crate) fn set_gas_limit(&mut self, gas_limit: u64) -> Result<()> {
        let most = self.config.limits.block_gas_limit.max(self.config.block_gas_limit);
        if !(LEAST_GAS_LIMIT..=most).contains(&gas_limit) {
            return Err(NodeError::InvalidParams(format!(
                "block gas limit {gas_limit} is not between {LEAST_GAS_LIMIT} and {most}"
            )));
        }
        self.settings.gas_limit = Some(gas_limit);
        Ok(())
    }

    pub(crate) fn set_coinbase(&mut self, coinbase: Address) {
        self.settings.coinbase = Some(coinbase);
    }

    /// Sets the PREVRANDAO of the next block only.
    pub(crate) fn set_next_prevrandao(&mut self, prevrandao: B256) {
        self.next_prevrandao = Some(prevrandao);
    }

    /// Puts following blocks this many seconds apart, or lets them follow the clock again; returns whether that changed anything.
    pub(crate) fn set_timestamp_interval(&mut self, seconds: Option<u64>) -> Result<bool> {
        if seconds.is_some_and(|seconds| seconds > MAX_TIMESTAMP) {
            return Err(NodeError::InvalidParams("the time would be beyond the year 9999".to_owned()));
        }
        let before = std::mem::replace(&mut self.settings.timestamp_interval_s, seconds);
        Ok(before != seconds)
    }
}
