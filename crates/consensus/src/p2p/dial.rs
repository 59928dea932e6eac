//! Setting up connections, from this side and from the other.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsStream;

use super::{
    PeerError,
    connection::{End, Peer, converse},
    discovery,
    identity::{Endpoint, Introduced},
    metrics::Count,
    node::{Node, Refusal},
    peer::{Direction, PeerAddress},
};
use crate::network::{PeerId, Received};

/// What a side says when it wants the connection.
const WELCOME: u8 = 0;

/// After which time a connection counts as a success.
const STEADY: Duration = Duration::from_secs(10);

/// What became of an attempt to connect.
pub(super) enum Dialled {
    /// There was a connection, and now it is over.
    Ended { id: PeerId, steady: bool },
    /// The peer is there, but one of both sides did not want the connection.
    Refused { id: PeerId, error: PeerError },
    /// There was nobody, or somebody else.
    Failed(PeerError),
}

/// Connects, and stays connected as long as it goes well.
pub(super) async fn dial(node: &Arc<Node>, target: &PeerAddress) -> Dialled {
    let deadline = Instant::now() + node.config.limits.handshake_timeout;
    let connected = async {
        let late = |_| PeerError::TimedOut("nobody answered");
        let stream = timeout_at(deadline, TcpStream::connect(&target.host)).await.map_err(late)?;
        let stream = stream.map_err(|error| PeerError::Connection(error.to_string()))?;
        let address = stream.peer_addr().map_err(|error| PeerError::Connection(error.to_string()))?;
        let (stream, introduced) = introduce(node, stream, Direction::Outbound, deadline).await?;
        if let Some(expected) = target.id.filter(|expected| *expected != introduced.id) {
            return Err(PeerError::WrongPeer {
                what: "identity",
                found: introduced.id.to_string(),
                expected: expected.to_string(),
            });
        }
        if target.id.is_none() {
            node.found(introduced.id, address.ip());
        }
        Ok((stream, introduced, address))
    };
    let (stream, introduced, address) = match connected.await {
        Ok(connected) => connected,
        Err(error) => {
            node.metrics.count(Count::Connections, "failed");
            return Dialled::Failed(error);
        }
    };
    let id = introduced.id;
    let since = Instant::now();
    match meet(node, stream, introduced, address, Direction::Outbound, deadline).await {
        Ok(()) => Dialled::Ended {
            id,
            steady: since.elapsed() >= STEADY,
        },
        Err(error) => Dialled::Refused { id, error },
    }
}

/// Takes a connection that somebody made.
pub(super) async fn welcome(node: &Arc<Node>, stream: TcpStream, address: SocketAddr) -> Result<(), PeerError> {
    let deadline = Instant::now() + node.config.limits.handshake_timeout;
    // Favoured peers are let in even if strangers keep all places for handshakes.
    let slot = if node.is_known_address(&address.ip().to_canonical()) {
        None
    } else {
        let slot = Arc::clone(&node.handshakes).try_acquire_owned();
        Some(slot.map_err(|_| PeerError::Connection("too many connections are being set up".to_owned()))?)
    };
    let (stream, introduced) = introduce(node, stream, Direction::Inbound, deadline).await?;
    drop(slot);
    meet(node, stream, introduced, address, Direction::Inbound, deadline).await
}

async fn introduce(
    node: &Node,
    stream: TcpStream,
    direction: Direction,
    deadline: Instant,
) -> Result<(TlsStream<TcpStream>, Introduced), PeerError> {
    stream.set_nodelay(true).map_err(|error| PeerError::Connection(error.to_string()))?;
    let introduced = Box::pin(node.identity.introduce(stream, direction));
    timeout_at(deadline, introduced)
        .await
        .map_err(|_| PeerError::TimedOut("the handshake"))?
}

/// With a peer that is known now: both say whether they want the connection, and then talk until it ends.
async fn meet(
    node: &Arc<Node>,
    mut stream: TlsStream<TcpStream>,
    introduced: Introduced,
    address: SocketAddr,
    direction: Direction,
    deadline: Instant,
) -> Result<(), PeerError> {
    let id = introduced.id;
    let admitted = node.admit(&id, direction);
    let code = admitted.err().map_or(WELCOME, Refusal::code);
    let verdicts = async {
        stream.write_all(&[code]).await?;
        stream.flush().await?;
        stream.read_u8().await
    };
    let theirs = timeout_at(deadline, verdicts).await;
    let refused = |who, refusal: Refusal| {
        node.metrics.count(Count::Connections, refusal.label());
        Err(PeerError::Refused {
            who,
            reason: refusal.as_str(),
        })
    };
    if let Err(refusal) = admitted {
        return refused("this node", refusal);
    }
    let theirs = theirs
        .map_err(|_| PeerError::TimedOut("the handshake"))?
        .map_err(|error| PeerError::Connection(error.to_string()))?;
    if theirs != WELCOME {
        return match Refusal::of_code(theirs) {
            Some(refusal) => refused("the peer", refusal),
            None => Err(PeerError::Protocol("an unknown refusal".to_owned())),
        };
    }
    let listens_at = listening(&introduced, address, direction);
    let peer = Arc::new(Peer::new(id, address, direction, listens_at, node));
    let replaced = match node.register(&peer) {
        Ok(replaced) => replaced,
        Err(refusal) => return refused("this node", refusal),
    };
    node.metrics.count(Count::Connections, "connected");
    if let Some(old) = replaced {
        // The user of the network hears of the old connection's end before it hears of the new one.
        old.end(End::Replaced);
        tokio::select! {
            () = old.ended.cancelled() => {}
            () = node.stop.cancelled() => {}
        }
    }
    tracing::info!(peer = %id, %address, direction = direction.as_str(), "connected to a peer");
    discovery::introduced(node, &peer);
    node.delivery.deliver(Received::Connected(id), None).await;
    converse(node, &peer, stream).await;
    node.unregister(&peer);
    node.delivery.deliver(Received::Disconnected(id), None).await;
    peer.ended.cancel();
    tracing::info!(peer = %id, %address, "disconnected from a peer");
    Ok(())
}

/// Where others can connect to a peer.
fn listening(introduced: &Introduced, address: SocketAddr, direction: Direction) -> Option<SocketAddr> {
    match (direction, introduced.endpoint) {
        // It was found there.
        (Direction::Outbound, _) => Some(address),
        (Direction::Inbound, Endpoint::None) => None,
        (Direction::Inbound, Endpoint::Seen(port)) => Some(SocketAddr::new(address.ip().to_canonical(), port)),
        (Direction::Inbound, Endpoint::At(address)) => Some(address),
    }
}

/// Keeps a connection to a configured peer, whatever happens.
pub(super) async fn keep(node: Arc<Node>, target: PeerAddress) {
    let limits = &node.config.limits;
    let mut known = target.id;
    let mut wait = limits.first_retry;
    let mut failing = false;
    loop {
        if let Some(peer) = known.and_then(|id| node.peer(&id)) {
            tokio::select! {
                () = node.stop.cancelled() => return,
                () = peer.ended.cancelled() => {}
            }
            failing = false;
            if peer.since.elapsed() >= STEADY {
                wait = limits.first_retry;
            }
        } else {
            let dialled = tokio::select! {
                () = node.stop.cancelled() => return,
                dialled = Box::pin(dial_configured(&node, &target)) => dialled,
            };
            match dialled {
                Dialled::Ended { id, steady } => {
                    known = Some(id);
                    failing = false;
                    if steady {
                        wait = limits.first_retry;
                    }
                }
                Dialled::Refused { id, error } => {
                    known = Some(id);
                    tracing::debug!(peer = %target, %error, "a configured peer is not connected");
                }
                Dialled::Failed(error) => {
                    // Told once, not with every attempt.
                    if failing {
                        tracing::debug!(peer = %target, %error, "cannot connect to a configured peer");
                    } else {
                        tracing::warn!(peer = %target, %error, "cannot connect to a configured peer; trying on");
                    }
                    failing = true;
                }
            }
        }
        let wait_us = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        let varied = Duration::from_micros(wait_us / 2 + node.random_below(wait_us));
        wait = (wait * 2).min(limits.last_retry);
        if timeout(varied, node.stop.cancelled()).await.is_ok() {
            return;
        }
    }
}

async fn dial_configured(node: &Arc<Node>, target: &PeerAddress) -> Dialled {
    if target.id.is_none() {
        return dial(node, target).await;
    }
    // The id is known, so its addresses are a peer's own: connections from there are not held up by strangers.
    if let Ok(Ok(addresses)) = timeout(node.config.limits.handshake_timeout, tokio::net::lookup_host(&target.host)).await {
        for address in addresses.take(4) {
            node.known_address(address.ip().to_canonical());
        }
    }
    dial(node, target).await
}

/// One of the connections that strangers may have from one IP address; given back when dropped.
pub(super) struct Place {
    node: Arc<Node>,
    address: IpAddr,
}

impl Place {
    /// Takes one, if there is one left. Configured peers and the machine itself need none.
    pub(super) fn take(node: &Arc<Node>, address: IpAddr) -> Result<Option<Self>, PeerError> {
        let address = address.to_canonical();
        if address.is_loopback() || node.is_known_address(&address) {
            return Ok(None);
        }
        if node.is_shut_out(&address) {
            return Err(PeerError::Connection("several peers of this address were banned".to_owned()));
        }
        if !node.take_place(address) {
            return Err(PeerError::Connection("too many connections from one address".to_owned()));
        }
        Ok(Some(Self {
            node: Arc::clone(node),
            address,
        }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.node.give_place(self.address);
    }
}
