//! What all connections of a node have in common: who is connected, who may be, what was heard already.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use alloy::primitives::Bytes;
use rustls::crypto::{CryptoProvider, ring};
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    NetworkConfig, PeerError,
    bans::{Bans, Kept},
    book::Book,
    connection::{End, Peer},
    delivery::{Delivered, Delivery},
    frame::Lane,
    identity::Identity,
    max_message_bytes,
    memory::{Memory, message_hash},
    metrics::{Count, Metrics},
    outbox::{Outgoing, Pushed},
    peer::{Direction, Offence},
};
use crate::network::{Channel, PeerId, Received};

/// Within which time two connections between the same nodes count as made at once, by both.
const AT_ONCE: Duration = Duration::from_secs(3);

/// How many nodes, and addresses, are remembered that were found where configured peers should be.
const MAX_FOUND: usize = 1024;

/// Why a connection is not wanted. Its code is the last thing said before messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Full,
    Banned,
    Duplicate,
    Own,
    Closed,
    Leaving,
}

impl Refusal {
    const ALL: [Self; 6] = [Self::Full, Self::Banned, Self::Duplicate, Self::Own, Self::Closed, Self::Leaving];

    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Full => 1,
            Self::Banned => 2,
            Self::Duplicate => 3,
            Self::Own => 4,
            Self::Closed => 5,
            Self::Leaving => 6,
        }
    }

    pub(super) fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| refusal.code() == code)
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "there is no room for more peers",
            Self::Banned => "the peer is banned for now",
            Self::Duplicate => "both are connected already",
            Self::Own => "a node does not connect to itself",
            Self::Closed => "the network is closed to unknown peers",
            Self::Leaving => "the node is shutting down",
        }
    }

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Banned => "banned",
            Self::Duplicate => "duplicate",
            Self::Own => "own",
            Self::Closed => "closed",
            Self::Leaving => "leaving",
        }
    }
}

/// A node's network, as its tasks see it.
pub(super) struct Node {
    pub(super) config: NetworkConfig,
    pub(super) identity: Identity,
    pub(super) metrics: Metrics,
    pub(super) delivery: Delivery,
    pub(super) book: Mutex<Book>,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    /// Memory for long messages of strangers, in KiB.
    pub(super) buffers: Arc<Semaphore>,
    /// Memory for long answers to strangers, in KiB.
    pub(super) answers: Arc<Semaphore>,
    /// Connections in the course of being set up from outside.
    pub(super) handshakes: Arc<Semaphore>,
    /// How many connections to discovered peers there are or are being made.
    pub(super) discovered: AtomicUsize,
    pub(super) next_request: AtomicU64,
    peers: Mutex<HashMap<PeerId, Arc<Peer>>>,
    heard: Mutex<Memory>,
    bans: Mutex<Bans>,
    /// Told of each ban.
    pub(super) banned: Notify,
    favoured: Mutex<Favoured>,
    /// Connections of strangers, by IP address.
    places: Mutex<HashMap<IpAddr, usize>>,
    random: CryptoProvider,
}

#[derive(Debug, Default)]
struct Favoured {
    /// Configured peers, and who was found at their addresses.
    configured: HashSet<PeerId>,
    /// IP addresses at which configured peers were found.
    addresses: HashSet<IpAddr>,
    told: HashSet<PeerId>,
}

impl Node {
    pub(super) fn new(config: NetworkConfig, identity: Identity, delivery: Delivery, stop: CancellationToken) -> Self {
        let limits = &config.limits;
        let memory = || Arc::new(Semaphore::new((limits.buffer_bytes >> 10).min(Semaphore::MAX_PERMITS)));
        let handshakes = Arc::new(Semaphore::new(limits.handshakes.min(Semaphore::MAX_PERMITS)));
        let favoured = Favoured {
            configured: config.peers.iter().filter_map(|peer| peer.id).collect(),
            ..Favoured::default()
        };
        Self {
            identity,
            metrics: Metrics::new(),
            delivery,
            book: Mutex::default(),
            stop,
            tasks: TaskTracker::new(),
            buffers: memory(),
            answers: memory(),
            handshakes,
            discovered: AtomicUsize::new(0),
            next_request: AtomicU64::new(0),
            peers: Mutex::default(),
            heard: Mutex::new(Memory::new()),
            bans: Mutex::default(),
            banned: Notify::new(),
            favoured: Mutex::new(favoured),
            places: Mutex::default(),
            random: ring::default_provider(),
            config,
        }
    }

    pub(super) fn peers(&self) -> MutexGuard<'_, HashMap<PeerId, Arc<Peer>>> {
        lock(&self.peers)
    }

    pub(super) fn peer(&self, id: &PeerId) -> Option<Arc<Peer>> {
        self.peers().get(id).cloned()
    }

    /// Says whether a peer is configured or favoured.
    pub(super) fn is_favoured(&self, id: &PeerId) -> bool {
        let favoured = lock(&self.favoured);
        favoured.configured.contains(id) || favoured.told.contains(id)
    }

    /// Says whether a configured peer was found at an IP address.
    pub(super) fn is_known_address(&self, address: &IpAddr) -> bool {
        lock(&self.favoured).addresses.contains(address)
    }

    /// Replaces the peers that are favoured besides configured ones.
    pub(super) fn favour(&self, peers: HashSet<PeerId>) {
        lock(&self.favoured).told = peers;
    }

    /// Remembers who was found at a configured address that does not say who is there.
    pub(super) fn found(&self, id: PeerId, address: IpAddr) {
        self.known_address(address);
        let mut favoured = lock(&self.favoured);
        // Whoever answers may change its key.
        if favoured.configured.len() < MAX_FOUND {
            favoured.configured.insert(id);
        }
    }

    /// Remembers an IP address of a configured peer.
    pub(super) fn known_address(&self, address: IpAddr) {
        let mut favoured = lock(&self.favoured);
        // A host name may resolve to ever new addresses.
        if favoured.addresses.len() < MAX_FOUND {
            favoured.addresses.insert(address.to_canonical());
        }
    }

    /// Takes one of the connections that strangers of an IP address may have; says whether there was one left.
    pub(super) fn take_place(&self, address: IpAddr) -> bool {
        let mut places = lock(&self.places);
        let taken = places.entry(address).or_insert(0);
        if *taken >= self.config.limits.inbound_per_address {
            return false;
        }
        *taken += 1;
        true
    }

    /// Gives it back.
    pub(super) fn give_place(&self, address: IpAddr) {
        let mut places = lock(&self.places);
        if let Some(taken) = places.get_mut(&address) {
            *taken = taken.saturating_sub(1);
            if *taken == 0 {
                places.remove(&address);
            }
        }
    }

    /// Decides whether a connection to a peer is wanted.
    pub(super) fn admit(&self, id: &PeerId, direction: Direction) -> Result<(), Refusal> {
        self.admit_among(&self.peers(), id, direction)
    }

    fn admit_among(&self, peers: &HashMap<PeerId, Arc<Peer>>, id: &PeerId, direction: Direction) -> Result<(), Refusal> {
        if self.stop.is_cancelled() {
            return Err(Refusal::Leaving);
        }
        if *id == self.identity.id() {
            return Err(Refusal::Own);
        }
        if self.is_banned(id) {
            return Err(Refusal::Banned);
        }
        let favoured = self.is_favoured(id);
        if self.config.closed && !favoured {
            return Err(Refusal::Closed);
        }
        if let Some(existing) = peers.get(id) {
            return if self.replaces(existing, direction) {
                Ok(())
            } else {
                Err(Refusal::Duplicate)
            };
        }
        if direction == Direction::Inbound && !favoured {
            let strangers = peers
                .values()
                .filter(|peer| peer.direction == Direction::Inbound && !self.is_favoured(&peer.id))
                .count();
            if strangers >= self.config.limits.inbound {
                return Err(Refusal::Full);
            }
        }
        Ok(())
    }

    /// Decides which of two connections to one peer stays. A peer that connects although it is connected has lost the old connection; only if both sides
    /// made one at the same time, both keep the one that the lower address made.
    fn replaces(&self, existing: &Peer, direction: Direction) -> bool {
        if existing.direction == direction || existing.since.elapsed() >= AT_ONCE {
            return true;
        }
        let dialer = match direction {
            Direction::Outbound => self.identity.id(),
            Direction::Inbound => existing.id,
        };
        dialer == self.identity.id().min(existing.id)
    }

    /// Makes a peer one of the connected; returns the connection that it replaces.
    pub(super) fn register(&self, peer: &Arc<Peer>) -> Result<Option<Arc<Peer>>, Refusal> {
        let mut peers = self.peers();
        self.admit_among(&peers, &peer.id, peer.direction)?;
        Ok(peers.insert(peer.id, Arc::clone(peer)))
    }

    /// Takes a connection off the list, unless another one took its place.
    pub(super) fn unregister(&self, peer: &Arc<Peer>) {
        let mut peers = self.peers();
        if peers.get(&peer.id).is_some_and(|current| Arc::ptr_eq(current, peer)) {
            peers.remove(&peer.id);
        }
    }

    /// Sends a message to all peers that are not known to have it.
    pub(super) fn spread(&self, channel: Channel, message: &Bytes, except: Option<PeerId>) {
        let Some(lane) = self.sendable(channel, message) else {
            return;
        };
        let gossip = channel != Channel::Status;
        let hash = message_hash(channel, message);
        let now = Instant::now();
        lock(&self.heard).insert(channel, hash, now);
        let peers: Vec<Arc<Peer>> = self.peers().values().cloned().collect();
        for peer in peers {
            if Some(peer.id) != except
                && lock(&peer.known).insert(channel, hash, now)
                && !self.push(&peer, lane, Outgoing::plain(message.0.clone(), gossip))
            {
                lock(&peer.known).forget(channel, &hash);
            }
        }
    }

    /// Sends a message to one peer.
    pub(super) fn send(&self, id: &PeerId, channel: Channel, message: &Bytes) {
        if let Some(lane) = self.sendable(channel, message)
            && let Some(peer) = self.peer(id)
        {
            self.push(&peer, lane, Outgoing::plain(message.0.clone(), false));
        }
    }

    fn sendable(&self, channel: Channel, message: &Bytes) -> Option<Lane> {
        let lane = Lane::of(channel);
        let bytes = message.len();
        if lane.is_none() || bytes == 0 || bytes > max_message_bytes(channel) {
            tracing::error!(
                ?channel,
                bytes,
                "a message was not sent: it is too long, empty, or on the channel for requests"
            );
            self.metrics.count(Count::Dropped, "unsendable");
            return None;
        }
        lane
    }

    /// Puts something into a peer's queue, and says whether it is there; a peer that does not keep up is cut off.
    pub(super) fn push(&self, peer: &Peer, lane: Lane, message: Outgoing) -> bool {
        match peer.outbox.push(lane, message) {
            Pushed::Queued => return true,
            Pushed::Dropped => self.metrics.count(Count::Dropped, "peer_slow"),
            Pushed::Overflow => peer.end(End::Slow),
        }
        false
    }

    /// Delivers a message from a peer, unless it was gossip that others told already.
    pub(super) async fn hear(
        &self,
        peer: &Peer,
        channel: Channel,
        gossip: bool,
        message: Bytes,
        share: Option<tokio::sync::OwnedSemaphorePermit>,
    ) -> Result<(), PeerError> {
        let mut named = None;
        if gossip {
            let hash = named_message(channel, &message).await?;
            let now = Instant::now();
            lock(&peer.known).insert(channel, hash, now);
            if !lock(&self.heard).insert(channel, hash, now) {
                let lane = Lane::of(channel).map_or("", Lane::as_str);
                self.metrics.count(Count::Duplicates, lane);
                return Ok(());
            }
            named = Some(hash);
        }
        let received = Received::Message {
            peer: peer.id,
            channel,
            message,
        };
        match self.delivery.deliver(received, share).await {
            Delivered::Yes => Ok(()),
            Delivered::Dropped => {
                self.metrics.count(Count::Dropped, "node_slow");
                if let Some(hash) = named {
                    lock(&self.heard).forget(channel, &hash);
                }
                Ok(())
            }
            Delivered::Closed => Err(PeerError::ShutDown),
        }
    }

    /// Counts an offence, and bans a peer that has too many.
    pub(super) fn punish(&self, id: PeerId, offence: Offence, reason: &str) {
        self.metrics.count(Count::Offences, offence.as_str());
        tracing::debug!(peer = %id, offence = offence.as_str(), reason, "a peer did wrong");
        let favoured = self.is_favoured(&id);
        let ban = self.config.limits.ban / if favoured { 60 } else { 1 };
        let now = Instant::now();
        if !lock(&self.bans).offend(id, offence, ban, now) {
            return;
        }
        self.metrics.count(Count::Bans, if favoured { "favoured" } else { "stranger" });
        tracing::warn!(peer = %id, reason, ban_s = ban.as_secs(), "banned a peer");
        if let Some(peer) = self.peer(&id) {
            let ip = peer.address.ip().to_canonical();
            if !favoured && !ip.is_loopback() {
                lock(&self.bans).blame(ip, ban, now);
            }
            peer.end(End::Banned);
        }
        self.banned.notify_one();
    }

    /// What is to be remembered of bans over a restart.
    pub(super) fn kept_bans(&self, now: Instant) -> Kept {
        lock(&self.bans).kept(now)
    }

    /// Takes bans of before a restart.
    pub(super) fn restore_bans(&self, kept: Kept) {
        lock(&self.bans).restore(kept, self.config.limits.ban, Instant::now());
    }

    /// Says whether a peer is banned.
    pub(super) fn is_banned(&self, id: &PeerId) -> bool {
        lock(&self.bans).banned(id, Instant::now())
    }

    /// Says whether strangers from an IP address are let in.
    pub(super) fn is_shut_out(&self, address: &IpAddr) -> bool {
        lock(&self.bans).shut_out(address, Instant::now())
    }

    /// A random number below a limit, for choices and delays; zero if there is no randomness.
    pub(super) fn random_below(&self, limit: u64) -> u64 {
        let mut bytes = [0; 8];
        if self.random.secure_random.fill(&mut bytes).is_err() {
            return 0;
        }
        u64::from_be_bytes(bytes).checked_rem(limit).unwrap_or(0)
    }

    /// A number for a request.
    pub(super) fn request_number(&self) -> u64 {
        self.next_request.fetch_add(1, Ordering::Relaxed)
    }

    /// Where peers are that are connected now and said, or were found, to listen.
    pub(super) fn listening_peers(&self) -> Vec<(PeerId, SocketAddr)> {
        let peers = self.peers();
        peers.values().filter_map(|peer| Some((peer.id, peer.listens_at?))).collect()
    }
}

/// Long messages are hashed where they hold up nobody.
async fn named_message(channel: Channel, message: &Bytes) -> Result<alloy::primitives::B256, PeerError> {
    if message.len() < 1 << 20 {
        return Ok(message_hash(channel, message));
    }
    let message = message.clone();
    tokio::task::spawn_blocking(move || message_hash(channel, &message))
        .await
        .map_err(|_| PeerError::ShutDown)
}

/// Locks; what a panicking thread left behind is used as it is.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
