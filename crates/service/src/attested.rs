//! gRPC over connections between attested processes.
//!
//! # Roles
//! A *node* listens: [`AttestedIncoming`] gives tonic only connections whose other end showed evidence that the node's policy accepts, and every request
//! on one can ask who sent it ([`AttestedPeer`]). A *caller*, such as a gateway or a dealer, gets a channel that only ever talks to such a node
//! ([`attested_channel`]).
//!
//! # Flow
//! TCP, then what [`ra_tls`] does: TLS 1.3 with evidence in both certificates and an exchange of fresh evidence bound to this connection; then HTTP/2.
//! Handshakes run side by side, so that a slow one keeps nobody waiting.
//!
//! # Limits
//! Who has no evidence can only begin handshakes. There is a limit on how many are in progress, in all and for one address, each has
//! [`HANDSHAKE_TIMEOUT`], and what is above is closed at once. Those that passed have places of their own, which strangers cannot take.
//!
//! # Freshness
//! What evidence showed is believed for [`LIFETIME`], and never beyond the expiry of the manufacturer's statements. Then the connection ends, and a
//! caller connects anew by itself. So do all connections when the endpoint is replaced, as after a change of policy or committee.
//!
//! # Restart
//! There is no state.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use cipherloom_attest::{
    AttestError,
    ra_tls::{self, Endpoint, Peer},
};
use futures_util::{Stream, future::BoxFuture};
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::{self, server::Connected};
use tower_service::Service;

use crate::connections::{ConnectionCounts, ConnectionLimits, LimitedListener, Place, Places};

/// How long a handshake may take, in which each side makes two quotes of about a second at most.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long evidence is believed without being shown anew.
pub const LIFETIME: Duration = Duration::from_secs(3600);
/// How long requests under way may take to end before a connection that is too old is cut.
pub const LIFETIME_GRACE: Duration = Duration::from_secs(180);

/// How long a connection may say nothing before it is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// How many connections an attested port has at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttestedLimits {
    /// Those that showed evidence.
    pub attested: ConnectionLimits,
    /// Those in the handshake.
    pub handshakes: ConnectionLimits,
}

impl Default for AttestedLimits {
    fn default() -> Self {
        Self {
            attested: ConnectionLimits {
                connections: 256,
                per_address: 64,
            },
            handshakes: ConnectionLimits {
                connections: 64,
                per_address: 16,
            },
        }
    }
}

/// What an attested port counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttestedCounts {
    /// Connections with evidence.
    pub attested: ConnectionCounts,
    /// Connections in the handshake.
    pub handshakes: ConnectionCounts,
    /// Handshakes that ended without evidence that is accepted.
    pub failed: u64,
}

/// An attested port as others see it: its endpoint, which can be replaced, and its counters.
///
/// A port without an endpoint, as before a node knows in which committee it is, closes every connection.
pub struct AttestedPort {
    endpoint: RwLock<Option<Current>>,
    attested: Arc<Places>,
    handshakes: Arc<Places>,
    failed: AtomicU64,
}

/// The endpoint in use, and what ends the connections that it made.
#[derive(Clone)]
struct Current {
    endpoint: Arc<Endpoint>,
    replaced: CancellationToken,
}

impl AttestedPort {
    /// Makes a port that is closed.
    #[must_use]
    pub fn new(limits: AttestedLimits) -> Arc<Self> {
        Arc::new(Self {
            endpoint: RwLock::new(None),
            attested: Places::new(limits.attested),
            handshakes: Places::new(limits.handshakes),
            failed: AtomicU64::new(0),
        })
    }

    /// Returns the endpoint in use.
    #[must_use]
    pub fn endpoint(&self) -> Option<Arc<Endpoint>> {
        self.current().map(|current| current.endpoint)
    }

    /// Shows this endpoint's evidence from now on. Connections of the former endpoint end: their evidence was judged by what no longer holds.
    pub fn open(&self, endpoint: Arc<Endpoint>) {
        self.replace(Some(Current {
            endpoint,
            replaced: CancellationToken::new(),
        }));
    }

    /// Takes no connections from now on, and ends those that there are.
    pub fn close(&self) {
        self.replace(None);
    }

    fn replace(&self, new: Option<Current>) {
        let old = std::mem::replace(&mut *self.endpoint.write().unwrap_or_else(PoisonError::into_inner), new);
        if let Some(old) = old {
            old.replaced.cancel();
        }
    }

    /// Returns what was counted.
    #[must_use]
    pub fn counts(&self) -> AttestedCounts {
        AttestedCounts {
            attested: self.attested.counts(),
            handshakes: self.handshakes.counts(),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }

    fn current(&self) -> Option<Current> {
        self.endpoint.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shakes hands with whoever connected.
    async fn accept(self: Arc<Self>, stream: TcpStream, address: SocketAddr) -> Option<AttestedConnection> {
        let failed = |reason: &dyn std::fmt::Display| {
            self.failed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%address, %reason, "refused a connection");
        };
        let Some(Current { endpoint, replaced }) = self.current() else {
            failed(&"this process is in no committee yet");
            return None;
        };
        let channel = match timeout(HANDSHAKE_TIMEOUT, endpoint.accept(stream)).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => {
                failed(&error);
                return None;
            }
            Err(_) => {
                failed(&format_args!("no evidence within {} s", HANDSHAKE_TIMEOUT.as_secs()));
                return None;
            }
        };
        let Some(place) = self.attested.take(address.ip()) else {
            tracing::warn!(%address, "closed a connection with evidence: there are too many");
            return None;
        };
        Some(AttestedConnection::new(channel, address, Some(replaced), Some(place)))
    }
}

/// The attested connections of a port, for tonic's `serve_with_incoming`. Never ends.
pub struct AttestedIncoming {
    listener: LimitedListener,
    port: Arc<AttestedPort>,
    /// Ended with the stream.
    handshakes: JoinSet<Option<AttestedConnection>>,
}

impl AttestedIncoming {
    /// Takes connections from a listener.
    #[must_use]
    pub fn new(listener: TcpListener, port: Arc<AttestedPort>) -> Self {
        Self {
            listener: LimitedListener::new(listener, Arc::clone(&port.handshakes)),
            port,
            handshakes: JoinSet::new(),
        }
    }
}

impl Stream for AttestedIncoming {
    type Item = io::Result<AttestedConnection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match self.handshakes.poll_join_next(context) {
                Poll::Ready(Some(Ok(Some(connection)))) => return Poll::Ready(Some(Ok(connection))),
                Poll::Ready(Some(Ok(None))) => continue,
                Poll::Ready(Some(Err(error))) => {
                    tracing::error!(%error, "a handshake was lost");
                    continue;
                }
                Poll::Ready(None) | Poll::Pending => {}
            }
            let Poll::Ready((stream, address, place)) = self.listener.poll_accept(context) else {
                return Poll::Pending;
            };
            let accepted = Arc::clone(&self.port).accept(stream, address);
            self.handshakes.spawn(async move {
                let _place = place;
                accepted.await
            });
        }
    }
}

/// Who is on the other end of a connection. Every request on it has this in its extensions.
#[derive(Clone, Debug)]
pub struct AttestedPeer {
    /// What it states and what its hardware says of it.
    pub peer: Arc<Peer>,
    /// Where it calls from.
    pub address: SocketAddr,
}

impl AttestedPeer {
    /// Finds who sent a request; `None` if it did not come over an attested connection.
    #[must_use]
    pub fn of<T>(request: &tonic::Request<T>) -> Option<&Self> {
        request.extensions().get::<Self>()
    }
}

/// A connection whose both ends showed evidence.
pub struct AttestedConnection {
    channel: ra_tls::Channel<TcpStream>,
    peer: AttestedPeer,
    /// Ready when the evidence no longer counts. Behind a lock only so that the connection can be shared between threads.
    ended: Mutex<BoxFuture<'static, ()>>,
    _place: Option<Place>,
}

impl AttestedConnection {
    fn new(channel: ra_tls::Channel<TcpStream>, address: SocketAddr, replaced: Option<CancellationToken>, place: Option<Place>) -> Self {
        let peer = Arc::new(channel.peer().clone());
        let believed = believed_for(&peer);
        let ended = async move {
            match replaced {
                Some(replaced) => {
                    tokio::select! {
                        () = sleep(believed) => {}
                        () = replaced.cancelled() => {}
                    }
                }
                None => sleep(believed).await,
            }
        };
        Self {
            channel,
            peer: AttestedPeer { peer, address },
            ended: Mutex::new(Box::pin(ended)),
            _place: place,
        }
    }

    /// Fails once the evidence no longer counts.
    fn poll_ended(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        match ended.as_mut().poll(context) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => {
                // It stays so: a future that ended must not be asked again.
                *ended = Box::pin(std::future::ready(()));
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the peer's evidence no longer counts; connect anew",
                ))
            }
        }
    }
}

/// Tells how long the evidence of a peer is believed at most.
fn believed_for(peer: &Peer) -> Duration {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(u64::MAX, |since| since.as_secs());
    let valid = Duration::from_secs(peer.claims.collateral_expires.saturating_sub(now));
    valid.min(LIFETIME + LIFETIME_GRACE)
}

impl Connected for AttestedConnection {
    type ConnectInfo = AttestedPeer;

    fn connect_info(&self) -> AttestedPeer {
        self.peer.clone()
    }
}

impl AsyncRead for AttestedConnection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_ended(context)?;
        Pin::new(&mut self.channel).poll_read(context, buffer)
    }
}

impl AsyncWrite for AttestedConnection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.channel).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.channel).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.channel).poll_shutdown(context)
    }
}

/// Sets up calls to an attested process. Nothing is sent yet; a connection is made, and made anew, when there is something to send.
///
/// `address` is a host and a port. With `party` the other end must be that member of the committee, not just any.
///
/// # Errors
/// [`AttestError::Channel`] if the address is none.
pub fn attested_channel(endpoint: Arc<Endpoint>, address: &str, party: Option<u32>) -> Result<transport::Channel, AttestError> {
    let wrong = || AttestError::Channel(format!("{address:?} is no address: write host:port"));
    // The scheme is only a word: the connector encrypts.
    let uri: Uri = format!("http://{address}").parse().map_err(|_| wrong())?;
    let is_address = uri.port().is_some() && uri.path() == "/" && uri.query().is_none() && !address.contains('@');
    if !is_address {
        return Err(wrong());
    }
    let connector = Connector {
        endpoint,
        address: address.into(),
        party,
    };
    Ok(transport::Endpoint::from(uri)
        .connect_timeout(HANDSHAKE_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(connector))
}

/// Makes the connections of a channel.
#[derive(Clone)]
struct Connector {
    endpoint: Arc<Endpoint>,
    address: Arc<str>,
    party: Option<u32>,
}

impl Connector {
    async fn connect(self) -> Result<TokioIo<AttestedConnection>, AttestError> {
        let unreachable = |error: io::Error| AttestError::Channel(format!("cannot connect to {}: {error}", self.address));
        let stream = TcpStream::connect(&*self.address).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let address = stream.peer_addr().map_err(unreachable)?;
        let channel = self.endpoint.connect(stream).await?;
        let found = channel.peer().statement.party;
        if let Some(party) = self.party
            && party != found
        {
            return Err(AttestError::WrongPeer {
                what: "party",
                found: found.to_string(),
                expected: party.to_string(),
            });
        }
        Ok(TokioIo::new(AttestedConnection::new(channel, address, None, None)))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<AttestedConnection>;
    type Error = AttestError;
    type Future = BoxFuture<'static, Result<Self::Response, AttestError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), AttestError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}
