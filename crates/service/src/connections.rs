//! Listening with limits: how many connections a port has open, in all and from one address.
//!
//! Strangers can connect to any port. Each connection costs a descriptor and memory, so there is a number of them above which a new one is closed at
//! once: an honest caller sees that and tries again, and one address cannot take the places of all others. A failure to accept, as when the process
//! has no descriptors left, never ends the server.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Sleep, sleep},
};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// How long accepting rests after the operating system refused.
const PAUSE: Duration = Duration::from_millis(100);

/// How many connections a port has at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// All of them.
    pub connections: usize,
    /// Those from one address.
    pub per_address: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            per_address: 256,
        }
    }
}

/// What a port counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Connections that are open now.
    pub open: usize,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections that were closed at once because there were too many.
    pub refused: u64,
}

/// The places of a port, and who has them.
#[derive(Debug)]
pub struct Places {
    limits: ConnectionLimits,
    taken: Mutex<Taken>,
    accepted: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Places {
    /// Makes the places of a port.
    #[must_use]
    pub fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            taken: Mutex::default(),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Takes a place for a connection from this address; `None` if there is none left.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        // A client that has a whole network of IPv6 addresses counts once.
        let address = network(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let here = taken.by_address.get(&address).copied().unwrap_or_default();
        if taken.all >= self.limits.connections || here >= self.limits.per_address {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        taken.all += 1;
        taken.by_address.insert(address, here + 1);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Some(Place {
            places: Arc::clone(self),
            address,
        })
    }

    /// Returns what was counted.
    #[must_use]
    pub fn counts(&self) -> ConnectionCounts {
        ConnectionCounts {
            open: self.taken.lock().unwrap_or_else(PoisonError::into_inner).all,
            accepted: self.accepted.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

/// Returns the part of an address that one customer of a provider has: an IPv4 address, or the /64 network of an IPv6 one.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

/// One connection's place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        if let Some(here) = taken.by_address.get_mut(&self.address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

/// A listener that closes connections for which there is no place.
#[derive(Debug)]
pub(crate) struct LimitedListener {
    listener: TcpListener,
    places: Arc<Places>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl LimitedListener {
    pub(crate) const fn new(listener: TcpListener, places: Arc<Places>) -> Self {
        Self {
            listener,
            places,
            pause: None,
        }
    }

    /// Waits for the next connection that there is a place for.
    pub(crate) fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<(TcpStream, SocketAddr, Place)> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(context)) {
                Ok((stream, address)) => {
                    let Some(place) = self.places.take(address.ip()) else {
                        tracing::debug!(%address, "closed a connection: there are too many");
                        continue;
                    };
                    // Without it small messages wait for one another.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "a connection that was gone at once");
                        continue;
                    }
                    return Poll::Ready((stream, address, place));
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections for now");
                    self.pause = Some(Box::pin(sleep(PAUSE)));
                }
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused | io::ErrorKind::Interrupted
    )
}

/// The connections of a port, for tonic to serve. Never ends.
#[derive(Debug)]
pub struct LimitedIncoming(LimitedListener);

impl LimitedIncoming {
    /// Takes connections from a listener as long as there are places.
    #[must_use]
    pub const fn new(listener: TcpListener, places: Arc<Places>) -> Self {
        Self(LimitedListener::new(listener, places))
    }
}

impl Stream for LimitedIncoming {
    type Item = io::Result<LimitedStream>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0
            .poll_accept(context)
            .map(|(stream, _, place)| Some(Ok(LimitedStream { stream, _place: place })))
    }
}

/// A connection that has a place.
#[derive(Debug)]
pub struct LimitedStream {
    stream: TcpStream,
    _place: Place,
}

impl Connected for LimitedStream {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for LimitedStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for LimitedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures_util::StreamExt as _;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn limits(connections: usize, per_address: usize) -> ConnectionLimits {
        ConnectionLimits { connections, per_address }
    }

    #[test]
    fn one_address_cannot_take_all_places() {
        let places = Places::new(limits(3, 2));
        let (one, two): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let held = [places.take(one), places.take(one)];
        assert!(held.iter().all(Option::is_some) && places.take(one).is_none());
        let other = places.take(two);
        assert!(other.is_some() && places.take([10, 0, 0, 3].into()).is_none());
        let counts = places.counts();
        assert_eq!((counts.open, counts.accepted, counts.refused), (3, 3, 2));
        drop((held, other));
        assert_eq!(places.counts().open, 0);
        assert!(places.taken.lock().unwrap().by_address.is_empty());
    }

    #[test]
    fn a_network_of_addresses_counts_once() {
        let places = Places::new(limits(9, 1));
        let _held = places.take("2001:db8::1".parse().unwrap()).unwrap();
        assert!(places.take("2001:db8::ffff:2".parse().unwrap()).is_none());
        assert!(places.take("2001:db8:0:1::1".parse().unwrap()).is_some());
        let _mapped = places.take("::ffff:10.0.0.1".parse().unwrap()).unwrap();
        assert!(places.take([10, 0, 0, 1].into()).is_none());
    }

    #[tokio::test]
    async fn what_is_too_much_is_closed_and_a_place_that_is_given_back_is_taken_again() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let places = Places::new(limits(1, 1));
        let mut incoming = LimitedIncoming::new(listener, Arc::clone(&places));
        let first = TcpStream::connect(address).await.unwrap();
        let served = incoming.next().await.unwrap().unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        // The server is asked for the next connection until it has closed the second one.
        let closed = async { second.read(&mut [0]).await };
        tokio::select! {
            _ = incoming.next() => panic!("there was no place"),
            read = closed => assert!(matches!(read, Ok(0) | Err(_))),
        }
        drop((first, served));
        let _third = TcpStream::connect(address).await.unwrap();
        assert!(incoming.next().await.unwrap().is_ok());
        assert_eq!(places.counts().refused, 1);
    }
}
