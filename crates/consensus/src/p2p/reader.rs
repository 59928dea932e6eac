//! What comes from a peer: frames, put together to messages, checked against limits before anything is kept.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
};

use alloy::primitives::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt, BufReader},
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep},
};

use super::{
    PeerError,
    connection::{Peer, within},
    control::Control,
    discovery,
    frame::{HEADER_BYTES, Header, Lane, MAX_FRAME_BYTES, REQUEST_PREFIX_BYTES},
    metrics::Count,
    node::{Node, lock},
    rate::Allowance,
    requests,
};
use crate::network::Channel;

/// Longer messages from strangers and answers to them need a share of the memory for them.
pub(super) const SMALL_BYTES: usize = 64 << 10;

/// A message of which not everything is there.
struct Partial {
    bytes: Vec<u8>,
    remaining: usize,
    gossip: bool,
    /// Whether it counts against the memory for strangers.
    counted: bool,
    share: Option<OwnedSemaphorePermit>,
    /// Whether it answers a request that nobody waits for any more; then it is read and thrown away.
    unwanted: bool,
    until: Instant,
}

/// Reads messages and deals with them, until the connection fails or the peer breaks the protocol.
pub(super) async fn read_messages<R: AsyncRead + Unpin>(node: &Arc<Node>, peer: &Arc<Peer>, reading: R) -> Result<Infallible, PeerError> {
    let limits = &node.config.limits;
    let mut reading = BufReader::with_capacity(64 << 10, reading);
    let mut partials: BTreeMap<Lane, Partial> = BTreeMap::new();
    let mut bytes_allowed = Allowance::new(limits.bytes_per_second, Instant::now());
    let mut messages_allowed = Allowance::new(limits.messages_per_second, Instant::now());
    let silent = "it was silent for too long";
    loop {
        let mut header = [0; HEADER_BYTES];
        within(limits.idle_timeout, silent, reading.read_exact(&mut header)).await?;
        let header = Header::decode(header)?;
        let mut partial = match partials.remove(&header.lane) {
            None if header.first => begin(node, peer, &header),
            Some(partial) if !header.first && partial.remaining == header.remaining && partial.gossip == header.gossip => partial,
            _ => return Err(PeerError::Protocol("a frame that does not continue what was begun".to_owned())),
        };
        let length = header.length();
        partial.grow(node, length)?;
        let begun = partial.bytes.len();
        partial.bytes.resize(begun + length, 0);
        let place = partial.bytes.get_mut(begun..).unwrap_or_default();
        within(limits.idle_timeout, silent, reading.read_exact(place)).await?;
        partial.remaining -= length;
        partial.check_wanted(peer, &header);
        count(node, peer, &header);
        let mut wait = bytes_allowed.take(u32::try_from(length + HEADER_BYTES).unwrap_or(u32::MAX), Instant::now());
        if header.first {
            wait = wait.max(messages_allowed.take(1, Instant::now()));
        }
        if partial.remaining == 0 {
            take(node, peer, header.lane, partial).await?;
        } else {
            partials.insert(header.lane, partial);
        }
        if partials.values().any(|partial| partial.until <= Instant::now()) {
            return Err(PeerError::TimedOut("a message took too long to arrive"));
        }
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }
}

fn begin(node: &Node, peer: &Peer, header: &Header) -> Partial {
    // Answers were asked for, so that nobody fills memory with them.
    let counted = header.lane != Lane::Answers && header.remaining > SMALL_BYTES && !node.is_favoured(&peer.id);
    Partial {
        bytes: Vec::with_capacity(header.length()),
        remaining: header.remaining,
        gossip: header.gossip,
        counted,
        share: None,
        unwanted: false,
        until: Instant::now() + node.config.limits.message_timeout,
    }
}

impl Partial {
    /// Takes memory for more bytes. Memory grows with what really came, whatever was announced.
    fn grow(&mut self, node: &Node, length: usize) -> Result<(), PeerError> {
        if !self.counted {
            return Ok(());
        }
        let kib = u32::try_from(length.div_ceil(1 << 10)).unwrap_or(u32::MAX);
        let more = Arc::clone(&node.buffers)
            .try_acquire_many_owned(kib)
            .map_err(|_| PeerError::Connection("there is no memory left for long messages of strangers".to_owned()))?;
        match &mut self.share {
            Some(share) => share.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }

    /// After the first frame of an answer: finds out whether somebody waits for it, and keeps nothing of it if not.
    fn check_wanted(&mut self, peer: &Peer, header: &Header) {
        if header.lane == Lane::Answers && header.first {
            let number = self
                .bytes
                .first_chunk::<REQUEST_PREFIX_BYTES>()
                .map(|number| u64::from_be_bytes(*number));
            self.unwanted = number.is_none_or(|number| !lock(&peer.asked).contains_key(&number));
        }
        if self.unwanted {
            self.bytes.clear();
            self.bytes.shrink_to(MAX_FRAME_BYTES);
        }
    }
}

fn count(node: &Node, peer: &Peer, header: &Header) {
    let bytes = header.length() as u64;
    peer.received_bytes.fetch_add(bytes, Ordering::Relaxed);
    node.metrics.add(Count::ReceivedBytes, header.lane.as_str(), bytes);
    if header.first {
        node.metrics.count(Count::ReceivedMessages, header.lane.as_str());
    }
}

/// Deals with a whole message.
async fn take(node: &Arc<Node>, peer: &Arc<Peer>, lane: Lane, message: Partial) -> Result<(), PeerError> {
    if message.unwanted {
        return Ok(());
    }
    let bytes = Bytes::from(message.bytes);
    let channel = match lane {
        Lane::Control => return control(node, peer, &bytes),
        Lane::Requests => return requests::serve(node, peer, &bytes).await,
        Lane::Answers => return requests::answered(peer, &bytes),
        Lane::Consensus => Channel::Consensus,
        Lane::Blocks => Channel::Blocks,
        Lane::Transactions => Channel::Transactions,
        Lane::Status => Channel::Status,
    };
    node.hear(peer, channel, message.gossip, bytes, message.share).await
}

fn control(node: &Arc<Node>, peer: &Arc<Peer>, message: &[u8]) -> Result<(), PeerError> {
    match Control::decode(message)? {
        Control::Ping(number) => peer.tell(node, &Control::Pong(number)),
        Control::Pong(number) => peer.pong(number),
        Control::AskAddresses => discovery::tell(node, peer),
        Control::Addresses(addresses) => discovery::told(node, peer, addresses),
    }
    Ok(())
}
