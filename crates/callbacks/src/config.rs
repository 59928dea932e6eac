//! What a relay is told about its chain, its money and its patience.

use std::{collections::BTreeSet, time::Duration};

use cipherloom_primitives::{Address, U256};

/// Limits and intervals of a [`crate::Relay`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayConfig {
    /// Where following begins: the block of the gateway contract's deployment or earlier.
    pub first_block: u64,
    /// How many blocks must follow a request's block, and a delivery's, before they count. 0 counts the newest block, which is right only where blocks
    /// are never taken back. Not less than what the KMS asks of the access list, or it refuses at first.
    pub finality_depth: u64,
    /// How often to look for new blocks, where the node does not announce them.
    pub poll_interval: Duration,
    /// The longest range of blocks whose logs are asked for at once.
    pub longest_range: u64,
    /// How many requests are decrypted at the same time; most of that time they wait for their computations.
    pub concurrent_decryptions: usize,
    /// How long one try to decrypt may take; computations are waited for meanwhile.
    pub decryption_limit: Duration,
    /// How long a decryption that is refused is tried again, in case that the KMS looks at an older block: afterwards the request has failed.
    pub refusal_patience: Duration,
    /// How long a call that fails in simulation is tried again: afterwards the request has failed.
    pub revert_patience: Duration,
    /// The shortest and the longest pause before something that went wrong is tried again.
    pub pauses: (Duration, Duration),
    /// How many transactions may be out at the same time.
    pub max_in_flight: usize,
    /// The most gas that a delivery may be given.
    pub max_gas: u64,
    /// The most wei that a unit of gas may cost; above, deliveries wait for cheaper times.
    pub max_fee_per_gas: u128,
    /// Send transactions with a gas price even if the chain has a base fee.
    pub force_legacy: bool,
    /// How long a transaction may stay out before it is replaced by one that pays more.
    pub stuck_after: Duration,
    /// How often a transaction that stays out is sent again as it is.
    pub resend_after: Duration,
    /// Below this balance, in wei, nothing is sent.
    pub min_balance: U256,
    /// Below this balance, in wei, there is a warning.
    pub alarm_balance: U256,
    /// The most wei that a call may carry. They are the relay's own: whoever asks gets them.
    pub max_wei: U256,
    /// The contracts that are served; all if there are none.
    pub callers: BTreeSet<Address>,
    /// How long the claim on the contract lasts if it is not renewed.
    pub claim: Duration,
    /// How long what has ended is kept.
    pub retention: Duration,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            first_block: 0,
            finality_depth: 12,
            poll_interval: Duration::from_secs(2),
            longest_range: 2_000,
            concurrent_decryptions: 64,
            decryption_limit: Duration::from_secs(60),
            refusal_patience: Duration::from_secs(20 * 60),
            revert_patience: Duration::from_secs(2 * 60),
            pauses: (Duration::from_secs(1), Duration::from_secs(60)),
            max_in_flight: 16,
            max_gas: 5_000_000,
            max_fee_per_gas: 200_000_000_000,
            force_legacy: false,
            stuck_after: Duration::from_secs(60),
            resend_after: Duration::from_secs(15),
            min_balance: U256::from(20_000_000_000_000_000_u64),
            alarm_balance: U256::from(200_000_000_000_000_000_u64),
            max_wei: U256::ZERO,
            callers: BTreeSet::new(),
            claim: Duration::from_secs(30),
            retention: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

impl RelayConfig {
    /// Returns the pause before a try, after so many that went wrong.
    pub(crate) fn pause_ms(&self, tries: u32) -> u64 {
        let (shortest, longest) = self.pauses;
        let pause = shortest.saturating_mul(1_u32.checked_shl(tries.min(20)).unwrap_or(u32::MAX));
        milliseconds(pause.min(longest))
    }
}

/// Returns a duration in milliseconds.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end_at_the_longest() {
        let config = RelayConfig::default();
        assert_eq!(
            [0, 1, 5, 6, 40, u32::MAX].map(|tries| config.pause_ms(tries)),
            [1_000, 2_000, 32_000, 60_000, 60_000, 60_000]
        );
    }
}
