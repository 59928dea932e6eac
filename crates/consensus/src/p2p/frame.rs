//! How messages travel: cut into frames, so that long ones do not hold up urgent ones.
//!
//! ```text
//! frame = lane u8 | flags u8 | length u16 | remaining u32 | payload          big-endian
//! ```
//! `remaining` counts the message's bytes from this frame on; so the first frame says how long the message is, and the receiver refuses it before it
//! keeps a byte. Messages of one lane follow each other; frames of several lanes mix. A frame holds 32 KiB unless it is the last of its message:
//! there is only one way to cut a message.

use super::{MAX_REQUEST_BYTES, PeerError, max_message_bytes};
use crate::network::Channel;

/// The bytes before a frame's payload.
pub(super) const HEADER_BYTES: usize = 8;

/// The most bytes of a message in one frame.
pub(super) const MAX_FRAME_BYTES: usize = 32 << 10;

/// What an answer says before its content: the request's number, and whether there is an answer.
pub(super) const ANSWER_PREFIX_BYTES: usize = 9;

/// What a request says before its content: its number.
pub(super) const REQUEST_PREFIX_BYTES: usize = 8;

const FIRST: u8 = 1;
const GOSSIP: u8 = 2;

/// A queue of messages within a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    /// Pings, and addresses of other peers.
    Control,
    /// As the channel of that name.
    Consensus,
    /// As the channel of that name.
    Status,
    /// Requests, with a number each.
    Requests,
    /// As the channel of that name.
    Blocks,
    /// Answers, with the number of the request.
    Answers,
    /// As the channel of that name.
    Transactions,
}

impl Lane {
    const ALL: [Self; 7] = [
        Self::Control,
        Self::Consensus,
        Self::Status,
        Self::Requests,
        Self::Blocks,
        Self::Answers,
        Self::Transactions,
    ];

    /// Lanes of small messages, which go first, in this order.
    pub(super) const URGENT: [Self; 4] = [Self::Control, Self::Consensus, Self::Status, Self::Requests];

    /// Lanes of long messages, which take turns.
    pub(super) const BULK: [Self; 3] = [Self::Blocks, Self::Answers, Self::Transactions];

    const fn code(self) -> u8 {
        match self {
            Self::Control => 0,
            Self::Consensus => 1,
            Self::Status => 2,
            Self::Requests => 3,
            Self::Blocks => 4,
            Self::Answers => 5,
            Self::Transactions => 6,
        }
    }

    /// The longest message, in bytes.
    pub(super) const fn max_bytes(self) -> usize {
        match self {
            Self::Control => 2 << 10,
            Self::Consensus => max_message_bytes(Channel::Consensus),
            Self::Status => max_message_bytes(Channel::Status),
            Self::Requests => MAX_REQUEST_BYTES + REQUEST_PREFIX_BYTES,
            Self::Blocks => max_message_bytes(Channel::Blocks),
            Self::Answers => max_message_bytes(Channel::Sync) + ANSWER_PREFIX_BYTES,
            Self::Transactions => max_message_bytes(Channel::Transactions),
        }
    }

    /// The lane of a channel's messages; the channel for requests has none.
    pub(super) const fn of(channel: Channel) -> Option<Self> {
        match channel {
            Channel::Consensus => Some(Self::Consensus),
            Channel::Blocks => Some(Self::Blocks),
            Channel::Transactions => Some(Self::Transactions),
            Channel::Status => Some(Self::Status),
            Channel::Sync => None,
        }
    }

    /// Its name in metrics and logs.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Consensus => "consensus",
            Self::Status => "status",
            Self::Requests => "requests",
            Self::Blocks => "blocks",
            Self::Answers => "answers",
            Self::Transactions => "transactions",
        }
    }
}

/// What stands before a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) lane: Lane,
    /// Whether a message begins here.
    pub(super) first: bool,
    /// Whether the message was sent to everybody, not to this peer only.
    pub(super) gossip: bool,
    /// The message's bytes from this frame on.
    pub(super) remaining: usize,
}

impl Header {
    /// How many bytes of payload follow.
    pub(super) fn length(&self) -> usize {
        self.remaining.min(MAX_FRAME_BYTES)
    }

    /// Writes it. Lengths fit: messages are checked against their lane's limit before they are queued.
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let flags = if self.first { FIRST } else { 0 } | if self.gossip { GOSSIP } else { 0 };
        let [length_high, length_low] = u16::try_from(self.length()).unwrap_or(u16::MAX).to_be_bytes();
        let [a, b, c, d] = u32::try_from(self.remaining).unwrap_or(u32::MAX).to_be_bytes();
        [self.lane.code(), flags, length_high, length_low, a, b, c, d]
    }

    /// Reads it.
    pub(super) fn decode(bytes: [u8; HEADER_BYTES]) -> Result<Self, PeerError> {
        let wrong = |problem: String| PeerError::Protocol(problem);
        let [lane, flags, length_high, length_low, a, b, c, d] = bytes;
        let lane = Lane::ALL.into_iter().find(|known| known.code() == lane);
        let lane = lane.ok_or_else(|| wrong("a frame of an unknown lane".to_owned()))?;
        if flags & !(FIRST | GOSSIP) != 0 {
            return Err(wrong("a frame with unknown flags".to_owned()));
        }
        let remaining = u32::from_be_bytes([a, b, c, d]) as usize;
        if remaining == 0 || remaining > lane.max_bytes() {
            return Err(wrong(format!("a message of {remaining} bytes on the lane {}", lane.as_str())));
        }
        let header = Self {
            lane,
            first: flags & FIRST != 0,
            gossip: flags & GOSSIP != 0,
            remaining,
        };
        if usize::from(u16::from_be_bytes([length_high, length_low])) != header.length() {
            return Err(wrong("a message that is cut in another way than the only one".to_owned()));
        }
        Ok(header)
    }
}
