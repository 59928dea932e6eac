//! Connections, of which a number are open at a time.
//!
//! When all places are taken, others wait; and connections over which no tenant has asked for anything yet are closed, so that whoever has no API
//! key cannot keep out those who have one.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};
use tonic::transport::server::Connected;

/// How long to wait after a connection could not be accepted: for lack of file descriptors, for example, of which there will be some again.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection, which gives its place to another when it is closed.
pub(super) struct Connection {
    stream: TcpStream,
    places: Arc<Semaphore>,
    _place: OwnedSemaphorePermit,
    tenant: TenantConnection,
    patience: Duration,
    check: Pin<Box<Sleep>>,
}

/// Says of a connection whether a tenant uses it.
#[derive(Clone, Debug, Default)]
pub(super) struct TenantConnection(Arc<AtomicBool>);

impl TenantConnection {
    /// Notes that a tenant uses the connection.
    pub(super) fn is_used(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Accepts connections, at most this many at a time. When there are no more places, those that no tenant uses are closed after a time.
pub(super) fn incoming(listener: TcpListener, connections: usize, patience: Duration) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(connections.clamp(1, Semaphore::MAX_PERMITS)));
    stream::unfold((listener, places), move |(listener, places)| async move {
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        let accepted = match listener.accept().await {
            Ok((stream, _)) => stream.set_nodelay(true).map(|()| Connection {
                stream,
                places: Arc::clone(&places),
                _place: place,
                tenant: TenantConnection::default(),
                patience,
                check: Box::pin(sleep(patience)),
            }),
            Err(error) => {
                sleep(PAUSE).await;
                Err(error)
            }
        };
        Some((accepted, (listener, places)))
    })
}

impl Connection {
    /// Fails if the connection is to make room for others.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.tenant.0.load(Ordering::Relaxed) {
            return Ok(());
        }
        while self.check.as_mut().poll(context).is_ready() {
            if self.places.available_permits() == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "no tenant used the connection, and others wait",
                ));
            }
            let next = Instant::now() + self.patience;
            self.check.as_mut().reset(next);
        }
        Ok(())
    }
}

impl Connected for Connection {
    type ConnectInfo = TenantConnection;

    fn connect_info(&self) -> TenantConnection {
        self.tenant.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
