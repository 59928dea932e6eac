//! What was heard or said lately, so that gossip does not go in circles.

use std::collections::{HashMap, VecDeque};

use alloy::primitives::{B256, Keccak256};
use tokio::time::Instant;

use super::channel::{memory, remembered};
use crate::network::Channel;

/// Names a message: its channel and its bytes.
pub(super) fn message_hash(channel: Channel, message: &[u8]) -> B256 {
    let tag: u8 = match channel {
        Channel::Consensus => 0,
        Channel::Blocks => 1,
        Channel::Transactions => 2,
        Channel::Status => 3,
        Channel::Sync => 4,
    };
    let mut hasher = Keccak256::new();
    hasher.update([tag]);
    hasher.update(message);
    hasher.finalize()
}

/// Messages of one channel: for a while, and only so many.
#[derive(Debug)]
struct Recent {
    channel: Channel,
    until: HashMap<B256, Instant>,
    /// In the order of insertion, and so of expiry. May name what was forgotten or inserted again; then the time differs.
    order: VecDeque<(B256, Instant)>,
}

impl Recent {
    fn new(channel: Channel) -> Self {
        Self {
            channel,
            until: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    fn insert(&mut self, hash: B256, now: Instant) -> bool {
        let limit = remembered(self.channel);
        while let Some((old, until)) = self.order.front().copied()
            && (until <= now || self.order.len() >= limit)
        {
            self.order.pop_front();
            if self.until.get(&old) == Some(&until) {
                self.until.remove(&old);
            }
        }
        if self.until.contains_key(&hash) {
            return false;
        }
        let until = now + memory(self.channel);
        self.until.insert(hash, until);
        self.order.push_back((hash, until));
        true
    }
}

/// Messages of the channels on which gossip is remembered.
#[derive(Debug)]
pub(super) struct Memory {
    consensus: Recent,
    blocks: Recent,
    transactions: Recent,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            consensus: Recent::new(Channel::Consensus),
            blocks: Recent::new(Channel::Blocks),
            transactions: Recent::new(Channel::Transactions),
        }
    }

    /// Remembers a message; says whether it is new. On channels without memory everything is.
    pub(super) fn insert(&mut self, channel: Channel, hash: B256, now: Instant) -> bool {
        self.of(channel).is_none_or(|recent| recent.insert(hash, now))
    }

    /// Forgets a message, so that it can come again.
    pub(super) fn forget(&mut self, channel: Channel, hash: &B256) {
        if let Some(recent) = self.of(channel) {
            recent.until.remove(hash);
        }
    }

    const fn of(&mut self, channel: Channel) -> Option<&mut Recent> {
        match channel {
            Channel::Consensus => Some(&mut self.consensus),
            Channel::Blocks => Some(&mut self.blocks),
            Channel::Transactions => Some(&mut self.transactions),
            Channel::Status | Channel::Sync => None,
        }
    }
}
