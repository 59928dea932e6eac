//! What waits to be sent to one peer.
//!
//! Whoever sends never waits: messages are put here, and the connection's writer takes them frame by frame, urgent lanes first. Each lane has a limit of
//! bytes. Above it, transactions are dropped, and for messages that must not be lost the peer is cut off: it connects again and is told anew what it missed.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    time::Instant,
};

use super::frame::{Header, Lane, MAX_FRAME_BYTES};

/// How many messages a lane holds, however short they are.
const MAX_WAITING: usize = 16_384;

/// What urgent lanes, and transactions, hold in bytes.
const SMALL_LANE_BYTES: usize = 8 << 20;

/// A message on its way out. Bodies are shared between peers.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) prefix: Bytes,
    pub(super) body: Bytes,
    pub(super) gossip: bool,
    /// Its share of the memory for answers to strangers.
    #[expect(dead_code, reason = "it is held until the message is sent")]
    pub(super) share: Option<OwnedSemaphorePermit>,
}

impl Outgoing {
    /// A message without a prefix.
    pub(super) const fn plain(body: Bytes, gossip: bool) -> Self {
        Self {
            prefix: Bytes::new(),
            body,
            gossip,
            share: None,
        }
    }

    fn len(&self) -> usize {
        self.prefix.len() + self.body.len()
    }

    /// A part of it, inside its bounds.
    fn part(&self, from: usize, length: usize) -> [Bytes; 2] {
        let (from, to) = (from.min(self.len()), (from + length).min(self.len()));
        let prefix = self.prefix.len();
        [
            self.prefix.slice(from.min(prefix)..to.min(prefix)),
            self.body.slice(from.saturating_sub(prefix)..to.saturating_sub(prefix)),
        ]
    }
}

/// A frame to be written.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) header: Header,
    pub(super) payload: [Bytes; 2],
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It will be sent.
    Queued,
    /// There is no room, and it may be lost.
    Dropped,
    /// There is no room, and it may not be lost.
    Overflow,
}

#[derive(Debug)]
struct UnderWay {
    message: Outgoing,
    sent: usize,
    since: Instant,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Outgoing>,
    /// Bytes of all messages that wait, and of the one under way.
    bytes: usize,
    under_way: Option<UnderWay>,
}

#[derive(Debug, Default)]
struct Queues {
    lanes: BTreeMap<Lane, Queue>,
    /// Which bulk lane comes next.
    turn: usize,
}

/// What waits to be sent to one peer.
#[derive(Debug)]
pub(super) struct Outbox {
    queues: Mutex<Queues>,
    filled: Notify,
    block_bytes: usize,
}

impl Outbox {
    /// An empty one, whose lanes of blocks and answers hold so many bytes each.
    pub(super) fn new(block_bytes: usize) -> Self {
        Self {
            queues: Mutex::default(),
            filled: Notify::new(),
            block_bytes,
        }
    }

    /// Puts a message at the end of a lane.
    pub(super) fn push(&self, lane: Lane, message: Outgoing) -> Pushed {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.lanes.entry(lane).or_default();
        if lane == Lane::Status {
            queue.bytes -= queue.waiting.drain(..).map(|message| message.len()).sum::<usize>();
        }
        let limit = match lane {
            Lane::Blocks | Lane::Answers => self.block_bytes,
            _ => SMALL_LANE_BYTES.min(self.block_bytes),
        };
        // One message of any legal length fits into an empty lane; that there is no answer is said even if there is no room for answers.
        let crowded = queue.bytes > 0 && !message.body.is_empty() && queue.bytes + message.len() > limit;
        let full = crowded || queue.waiting.len() >= MAX_WAITING;
        if full {
            return match lane {
                Lane::Transactions | Lane::Requests | Lane::Answers | Lane::Status => Pushed::Dropped,
                Lane::Control | Lane::Consensus | Lane::Blocks => Pushed::Overflow,
            };
        }
        queue.bytes += message.len();
        queue.waiting.push_back(message);
        drop(queues);
        self.filled.notify_one();
        Pushed::Queued
    }

    /// Waits for a frame. Only the connection's writer calls it.
    pub(super) async fn next(&self) -> Frame {
        loop {
            if let Some(frame) = self.try_next() {
                return frame;
            }
            self.filled.notified().await;
        }
    }

    /// When the message was begun that has been under way for longest.
    pub(super) fn under_way_since(&self) -> Option<Instant> {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = queues.lanes.values().filter_map(|queue| queue.under_way.as_ref());
        under_way.map(|under_way| under_way.since).min()
    }

    /// Takes a frame, if there is one.
    pub(super) fn try_next(&self) -> Option<Frame> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = queues.turn;
        let bulk = Lane::BULK.into_iter().cycle().skip(turn).take(Lane::BULK.len());
        for lane in Lane::URGENT.into_iter().chain(bulk) {
            let Some(frame) = queues.lanes.get_mut(&lane).and_then(|queue| queue.frame(lane)) else {
                continue;
            };
            if let Some(place) = Lane::BULK.iter().position(|bulk| *bulk == lane) {
                queues.turn = (place + 1) % Lane::BULK.len();
            }
            return Some(frame);
        }
        None
    }
}

impl Queue {
    fn frame(&mut self, lane: Lane) -> Option<Frame> {
        let UnderWay { message, sent, since } = match self.under_way.take() {
            Some(under_way) => under_way,
            None => UnderWay {
                message: self.waiting.pop_front()?,
                sent: 0,
                since: Instant::now(),
            },
        };
        let header = Header {
            lane,
            first: sent == 0,
            gossip: message.gossip,
            remaining: message.len() - sent,
        };
        let payload = message.part(sent, MAX_FRAME_BYTES);
        let sent = sent + header.length();
        if sent < message.len() {
            self.under_way = Some(UnderWay { message, sent, since });
        } else {
            self.bytes -= message.len();
        }
        Some(Frame { header, payload })
    }
}
