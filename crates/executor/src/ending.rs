//! When a request ends before it is done: at its deadline, or when the executor stops.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Stream, future::BoxFuture};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Waits for the deadline or the end of the executor, and says which it was.
pub(crate) async fn ending(deadline: Instant, stopped: CancellationToken) -> Status {
    tokio::select! {
        () = tokio::time::sleep_until(deadline) => Status::deadline_exceeded("the deadline passed before everything was computed"),
        () = stopped.cancelled() => Status::unavailable("the executor is stopping; ask another one"),
    }
}

/// A stream that ends with a status when something happens first.
pub(crate) struct Until<S> {
    /// Dropped at the end, which cancels what it waits for.
    inner: Option<Pin<Box<S>>>,
    ending: BoxFuture<'static, Status>,
}

impl<S> Until<S> {
    pub(crate) fn new(inner: S, ending: BoxFuture<'static, Status>) -> Self {
        Self {
            inner: Some(Box::pin(inner)),
            ending,
        }
    }
}

impl<T, S: Stream<Item = Result<T, Status>>> Stream for Until<S> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        // What is ready goes out, even when time is over.
        if let Poll::Ready(item) = inner.as_mut().poll_next(context) {
            if item.is_none() {
                self.inner = None;
            }
            return Poll::Ready(item);
        }
        match self.ending.as_mut().poll(context) {
            Poll::Ready(status) => {
                self.inner = None;
                Poll::Ready(Some(Err(status)))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}
