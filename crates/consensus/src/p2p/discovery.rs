//! Finding peers through peers.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, interval};

use super::{
    book::{is_public, neighbourhood},
    connection::Peer,
    control::{Control, MAX_ADDRESSES},
    dial::{Dialled, dial},
    metrics::Count,
    node::{Node, lock},
    peer::{Direction, PeerAddress},
};
use crate::network::PeerId;

/// How often a peer is told addresses, at most.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// After how many looks at the book peers are asked, if more are wanted.
const ASK_EVERY: u32 = 10;

/// How often to look whether more peers are wanted.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How many peers of one neighbourhood are connected to.
const PER_NEIGHBOURHOOD: usize = 2;

/// Answers a peer's question for addresses.
pub(super) fn tell(node: &Node, peer: &Peer) {
    if !node.config.discovery {
        return;
    }
    let now = Instant::now();
    let mut told = lock(&peer.told_addresses);
    if told.is_some_and(|told| now.saturating_duration_since(told) < TELL_EVERY) {
        return;
    }
    *told = Some(now);
    drop(told);
    let mut known = node.listening_peers();
    known.retain(|(id, _)| *id != peer.id);
    let mut chosen = Vec::new();
    while chosen.len() < MAX_ADDRESSES && !known.is_empty() {
        let place = node.random_below(known.len() as u64);
        chosen.push(known.swap_remove(usize::try_from(place).unwrap_or_default()));
    }
    peer.tell(node, &Control::Addresses(chosen));
}

/// Takes addresses from a peer that was asked for some.
pub(super) fn told(node: &Node, peer: &Peer, addresses: Vec<(PeerId, SocketAddr)>) {
    if !peer.asked_addresses.swap(false, Ordering::Relaxed) {
        return;
    }
    for (id, address) in addresses {
        note(node, id, address, peer.id);
    }
}

/// Notes where a newly connected peer says that it listens, and asks it about others.
pub(super) fn introduced(node: &Node, peer: &Peer) {
    if let Some(address) = peer.listens_at {
        note(node, peer.id, address, peer.id);
    }
    if node.config.discovery {
        ask(node, peer);
    }
}

fn ask(node: &Node, peer: &Peer) {
    peer.asked_addresses.store(true, Ordering::Relaxed);
    peer.tell(node, &Control::AskAddresses);
}

fn note(node: &Node, id: PeerId, address: SocketAddr, told_by: PeerId) {
    if !node.config.discovery || id == node.identity.id() {
        return;
    }
    if !node.config.discover_private_addresses && !is_public(address.ip()) {
        node.metrics.count(Count::Discovered, "not_public");
        return;
    }
    let noted = lock(&node.book).note(id, address, told_by, Instant::now());
    node.metrics.count(Count::Discovered, if noted { "noted" } else { "not_noted" });
}

/// Connects to peers that were heard of, until there are enough.
pub(super) async fn discover(node: Arc<Node>) {
    let mut ticks = interval(LOOK_EVERY);
    let mut turn = 0_u32;
    loop {
        tokio::select! {
            () = node.stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if node.discovered.load(Ordering::Relaxed) >= node.config.limits.outbound {
            continue;
        }
        if turn.is_multiple_of(ASK_EVERY) {
            let peers: Vec<Arc<Peer>> = node.peers().values().cloned().collect();
            peers.iter().for_each(|peer| ask(&node, peer));
        }
        turn = turn.wrapping_add(1);
        if let Some((id, address)) = choose(&node) {
            node.discovered.fetch_add(1, Ordering::Relaxed);
            node.tasks.spawn(connect(Arc::clone(&node), id, address));
        }
    }
}

/// Picks a peer that is not connected, from a neighbourhood with few peers.
fn choose(node: &Node) -> Option<(PeerId, SocketAddr)> {
    let mut candidates = lock(&node.book).candidates(Instant::now());
    let peers = node.peers();
    candidates.retain(|(id, address)| {
        let neighbours = peers
            .values()
            .filter(|peer| peer.direction == Direction::Outbound && neighbourhood(peer.address.ip()) == neighbourhood(address.ip()))
            .count();
        let crowded = neighbours >= PER_NEIGHBOURHOOD && is_public(address.ip());
        !peers.contains_key(id) && !crowded && !node.is_banned(id)
    });
    drop(peers);
    let place = node.random_below(candidates.len() as u64);
    candidates.get(usize::try_from(place).ok()?).copied()
}

async fn connect(node: Arc<Node>, id: PeerId, address: SocketAddr) {
    // Whatever comes of it, it is not tried again at once.
    lock(&node.book).tried(&id, true, node.config.limits.last_retry, Instant::now());
    let target = PeerAddress {
        id: Some(id),
        host: address.to_string(),
    };
    let dialled = Box::pin(dial(&node, &target)).await;
    let succeeded = matches!(dialled, Dialled::Ended { .. } | Dialled::Refused { .. });
    lock(&node.book).tried(&id, succeeded, node.config.limits.first_retry, Instant::now());
    node.discovered.fetch_sub(1, Ordering::Relaxed);
}
