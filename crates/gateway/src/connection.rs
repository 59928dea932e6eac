//! Connections with limits: how many, how long idle, how long stalled.
//!
//! axum's server sets no timers. One rule replaces them for reading: the complete head of the next request must have arrived
//! [`Limits::idle`] after the last answer was ready, however slowly its bytes drip in. It is long, because SDKs keep a
//! connection open while they compute a proof and fail if it is gone; holding a slot that long costs an attacker the same with
//! silence as with dripping, so a shorter limit for the head alone would gain nothing. The number of connections is what bounds memory.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::{
    metrics::Metrics,
    tls::{Certificates, Transport},
};

/// The limits of each connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) idle: Duration,
    pub(crate) write: Duration,
}

/// Accepts connections while there are slots.
pub(crate) struct LimitedListener {
    inner: TcpListener,
    limits: Limits,
    slots: Arc<Semaphore>,
    /// Ends all connections, including those in the middle of a request.
    abort: CancellationToken,
    metrics: Arc<Metrics>,
    /// With what connections are encrypted, if they are.
    certificates: Option<Arc<Certificates>>,
}

impl LimitedListener {
    pub(crate) fn new(
        inner: TcpListener,
        certificates: Option<Arc<Certificates>>,
        limits: Limits,
        abort: CancellationToken,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            inner,
            certificates,
            limits,
            slots: Arc::new(Semaphore::new(limits.connections.max(1))),
            abort,
            metrics,
        }
    }
}

impl Listener for LimitedListener {
    type Io = LimitedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (LimitedStream, SocketAddr) {
        let slot = Arc::clone(&self.slots).acquire_owned().await.expect("nobody closes the semaphore");
        let (stream, address) = Listener::accept(&mut self.inner).await;
        // Answers are small and complete when written; waiting for more would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        self.metrics.connected();
        let transport = match &self.certificates {
            Some(certificates) => certificates.accept(stream),
            None => Transport::Plain(stream),
        };
        (LimitedStream::new(transport, self.limits, self.abort.clone(), slot), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// What a connection and the requests on it tell each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Activity(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    begun: AtomicUsize,
    answered: AtomicUsize,
}

impl Activity {
    /// Notes that the head of a request is complete; the guard notes when its answer is ready.
    pub(crate) fn begin(&self) -> ActiveRequest {
        self.0.begun.fetch_add(1, Ordering::AcqRel);
        ActiveRequest(self.clone())
    }
}

/// A request that is being answered.
pub(crate) struct ActiveRequest(Activity);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.0.answered.fetch_add(1, Ordering::AcqRel);
    }
}

/// Where a request came from.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) activity: Activity,
}

impl Connected<IncomingStream<'_, LimitedListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, LimitedListener>) -> Self {
        Self {
            address: *stream.remote_addr(),
            activity: stream.io().activity.clone(),
        }
    }
}

/// A connection that ends itself when its limits are reached.
pub(crate) struct LimitedStream {
    inner: Transport,
    limits: Limits,
    activity: Activity,
    /// The answers counted when `idle` was last set.
    seen_answers: usize,
    idle: Pin<Box<Sleep>>,
    /// Runs while a write makes no progress.
    stalled: Option<Pin<Box<Sleep>>>,
    aborted: Pin<Box<WaitForCancellationFutureOwned>>,
    _slot: OwnedSemaphorePermit,
}

impl LimitedStream {
    fn new(inner: Transport, limits: Limits, abort: CancellationToken, slot: OwnedSemaphorePermit) -> Self {
        Self {
            inner,
            limits,
            activity: Activity::default(),
            seen_answers: 0,
            idle: Box::pin(sleep(limits.idle)),
            stalled: None,
            aborted: Box::pin(abort.cancelled_owned()),
            _slot: slot,
        }
    }

    /// Ready with an error if no request is being answered and the next one is overdue, or at shutdown.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.aborted.as_mut().poll(cx).is_ready() {
            return Poll::Ready(io::Error::new(io::ErrorKind::ConnectionAborted, "the gateway is shutting down"));
        }
        let answered = self.activity.0.answered.load(Ordering::Acquire);
        let busy = self.activity.0.begun.load(Ordering::Acquire) != answered;
        if busy || answered != self.seen_answers {
            self.seen_answers = answered;
            self.restart_idle();
        }
        // While a request is being answered the timer still wakes this task, finds it busy and starts again.
        self.idle
            .as_mut()
            .poll(cx)
            .map(|()| io::Error::new(io::ErrorKind::TimedOut, "no request arrived in time"))
    }

    fn restart_idle(&mut self) {
        let deadline = Instant::now() + self.limits.idle;
        self.idle.as_mut().reset(deadline);
    }

    fn poll_written(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if self.aborted.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the gateway is shutting down",
            )));
        }
        if written.is_ready() {
            self.stalled = None;
            // A long download is no idleness.
            self.restart_idle();
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.limits.write)));
        stalled
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
    }
}

impl AsyncRead for LimitedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // The limit comes before the data: otherwise a client that sends single bytes would never reach it.
        if let Poll::Ready(error) = self.poll_overdue(cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for LimitedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, data);
        self.poll_written(cx, written)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, data);
        self.poll_written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
