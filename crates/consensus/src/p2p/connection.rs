//! One connection to a peer: a reader, a writer and a clock, until one of them has enough.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use alloy::primitives::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    PeerError,
    control::Control,
    frame::{HEADER_BYTES, Lane, MAX_FRAME_BYTES},
    memory::Memory,
    metrics::Count,
    node::{Node, lock},
    outbox::{Outbox, Outgoing},
    peer::{Direction, Offence, PeerInfo},
    reader::read_messages,
};
use crate::network::PeerId;

/// Why this node ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The peer does not take what it is sent.
    Slow,
    /// The peer misbehaved too often.
    Banned,
    /// There is a newer connection to the peer.
    Replaced,
}

impl End {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Banned => "banned",
            Self::Replaced => "replaced",
        }
    }
}

/// A connected peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) address: SocketAddr,
    pub(super) direction: Direction,
    /// Where others can connect to it, if anybody can.
    pub(super) listens_at: Option<SocketAddr>,
    pub(super) since: Instant,
    pub(super) outbox: Outbox,
    /// What it has, because it sent it or was sent it.
    pub(super) known: Mutex<Memory>,
    /// Requests to it that wait for their answers.
    pub(super) asked: Mutex<HashMap<u64, oneshot::Sender<Option<Bytes>>>>,
    /// How many of its requests wait for an answer.
    pub(super) serving: AtomicUsize,
    /// Whether it was asked for addresses and has not answered.
    pub(super) asked_addresses: AtomicBool,
    /// When it was last told addresses.
    pub(super) told_addresses: Mutex<Option<Instant>>,
    /// Cancelled to end the connection.
    pub(super) stop: CancellationToken,
    /// Cancelled when the connection has ended and its end was told.
    pub(super) ended: CancellationToken,
    why: Mutex<Option<End>>,
    /// What the last ping took, in microseconds; 0 is unknown.
    round_trip_us: AtomicU64,
    pinged: Mutex<Option<(u64, Instant)>>,
    pub(super) received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

impl Peer {
    pub(super) fn new(id: PeerId, address: SocketAddr, direction: Direction, listens_at: Option<SocketAddr>, node: &Node) -> Self {
        Self {
            id,
            address,
            direction,
            listens_at,
            since: Instant::now(),
            outbox: Outbox::new(node.config.limits.queue_bytes),
            known: Mutex::new(Memory::new()),
            asked: Mutex::default(),
            serving: AtomicUsize::new(0),
            asked_addresses: AtomicBool::new(false),
            told_addresses: Mutex::default(),
            stop: node.stop.child_token(),
            ended: CancellationToken::new(),
            why: Mutex::default(),
            round_trip_us: AtomicU64::new(0),
            pinged: Mutex::default(),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
        }
    }

    /// Ends the connection; the first reason counts.
    pub(super) fn end(&self, why: End) {
        lock(&self.why).get_or_insert(why);
        self.stop.cancel();
    }

    pub(super) fn info(&self, favoured: bool) -> PeerInfo {
        let round_trip = self.round_trip_us.load(Ordering::Relaxed);
        PeerInfo {
            id: self.id,
            address: self.address,
            direction: self.direction,
            favoured,
            connected_for: self.since.elapsed(),
            round_trip: (round_trip > 0).then(|| Duration::from_micros(round_trip)),
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
        }
    }

    /// Sends a message of the network itself.
    pub(super) fn tell(&self, node: &Node, control: &Control) {
        let message = control.encode();
        node.push(self, Lane::Control, Outgoing::plain(message, false));
    }

    /// Takes the answer to a ping.
    pub(super) fn pong(&self, number: u64) {
        let mut pinged = lock(&self.pinged);
        if let Some((expected, since)) = *pinged
            && expected == number
        {
            *pinged = None;
            let took = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.round_trip_us.store(took.max(1), Ordering::Relaxed);
        }
    }
}

/// Reads and writes until the connection ends; tells why it ended.
pub(super) async fn converse<S>(node: &std::sync::Arc<Node>, peer: &std::sync::Arc<Peer>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (reading, writing) = tokio::io::split(stream);
    let result: Result<Infallible, PeerError> = tokio::select! {
        () = peer.stop.cancelled() => Err(PeerError::ShutDown),
        result = Box::pin(read_messages(node, peer, reading)) => result,
        result = write_frames(node, peer, writing) => result,
        result = ping(node, peer) => result,
    };
    let Err(error) = result;
    let ended = *lock(&peer.why);
    let label = match (&error, ended) {
        (_, Some(end)) => end.as_str(),
        (PeerError::Protocol(_), None) => "protocol",
        (PeerError::TimedOut(_), None) => "timed_out",
        (PeerError::ShutDown, None) => "shutdown",
        (_, None) => "lost",
    };
    node.metrics.count(Count::Disconnections, label);
    if let PeerError::Protocol(problem) = &error {
        node.punish(peer.id, Offence::Malformed, problem);
    }
    tracing::debug!(peer = %peer.id, address = %peer.address, reason = label, %error, "a connection ended");
    // Whoever waits for answers of this peer waits in vain.
    lock(&peer.asked).clear();
}

async fn write_frames<W: AsyncWrite + Unpin>(node: &Node, peer: &Peer, mut writing: W) -> Result<Infallible, PeerError> {
    let mut buffer = Vec::with_capacity(HEADER_BYTES + MAX_FRAME_BYTES);
    let limit = node.config.limits.write_timeout;
    loop {
        let frame = match peer.outbox.try_next() {
            Some(frame) => frame,
            None => {
                within(limit, "it does not take what it is sent", writing.flush()).await?;
                peer.outbox.next().await
            }
        };
        buffer.clear();
        buffer.extend_from_slice(&frame.header.encode());
        for part in &frame.payload {
            buffer.extend_from_slice(part);
        }
        within(limit, "it does not take what it is sent", writing.write_all(&buffer)).await?;
        let since = peer.outbox.under_way_since();
        if since.is_some_and(|since| since.elapsed() > node.config.limits.message_timeout) {
            return Err(PeerError::TimedOut("it takes what it is sent too slowly"));
        }
        let bytes = frame.header.length() as u64;
        let lane = frame.header.lane.as_str();
        peer.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
        node.metrics.add(Count::SentBytes, lane, bytes);
        if frame.header.first {
            node.metrics.count(Count::SentMessages, lane);
        }
    }
}

async fn ping(node: &Node, peer: &Peer) -> Result<Infallible, PeerError> {
    let mut ticks = interval(node.config.limits.ping_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let number = node.random_below(u64::MAX);
        lock(&peer.pinged).get_or_insert((number, Instant::now()));
        let number = lock(&peer.pinged).map_or(number, |(number, _)| number);
        peer.tell(node, &Control::Ping(number));
    }
}

/// Does I/O within a time.
pub(super) async fn within<T>(
    limit: Duration,
    otherwise: &'static str,
    io: impl Future<Output = std::io::Result<T>>,
) -> Result<T, PeerError> {
    match timeout(limit, io).await {
        Ok(result) => result.map_err(|error| PeerError::Connection(error.to_string())),
        Err(_) => Err(PeerError::TimedOut(otherwise)),
    }
}
