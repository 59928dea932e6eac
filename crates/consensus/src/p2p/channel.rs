//! Limits of the channels between peers.

use std::time::Duration;

use crate::{application::MAX_BLOCK_BYTES, network::Channel};

/// All channels.
pub const CHANNELS: [Channel; 5] = [
    Channel::Consensus,
    Channel::Blocks,
    Channel::Transactions,
    Channel::Status,
    Channel::Sync,
];

/// The longest request, in bytes.
pub const MAX_REQUEST_BYTES: usize = 64 << 10;

/// Returns the longest message of a channel, in bytes; for [`Channel::Sync`], the longest answer.
#[must_use]
pub const fn max_message_bytes(channel: Channel) -> usize {
    match channel {
        // 128 signatures with their addresses are 11 KB; a proposal may carry proofs of earlier rounds.
        Channel::Consensus => 256 << 10,
        // What is wrapped around a block is small.
        Channel::Blocks => MAX_BLOCK_BYTES + (64 << 10),
        // A decided block comes with its sidecar and its certificate.
        Channel::Sync => 2 * MAX_BLOCK_BYTES + (64 << 10),
        // An input list with its proof is some ten kilobytes.
        Channel::Transactions => 2 << 20,
        Channel::Status => 4 << 10,
    }
}

/// Returns for how long a message that was broadcast is remembered, so that it is neither delivered nor sent again.
///
/// Votes may be broadcast again on purpose when a round makes no progress, so they are not remembered for long.
pub(super) const fn memory(channel: Channel) -> Duration {
    match channel {
        Channel::Consensus | Channel::Status | Channel::Sync => Duration::from_secs(1),
        Channel::Blocks => Duration::from_secs(10),
        Channel::Transactions => Duration::from_secs(120),
    }
}

/// Returns how many messages of a channel are remembered at most.
pub(super) const fn remembered(channel: Channel) -> usize {
    match channel {
        Channel::Transactions => 16_384,
        Channel::Consensus => 8192,
        Channel::Blocks | Channel::Status | Channel::Sync => 256,
    }
}
