//! Reading request bodies within limits on size, time and the memory of all of them together.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{error::Label, services::ServiceError};

/// How much more than its limit a client may send and still read why it is refused.
///
/// A server that stops reading resets the connection, and the reset can overtake the answer.
const LINGER_BYTES: usize = 16 << 20;

/// The memory that all bodies share.
#[derive(Clone, Debug)]
pub(crate) struct BodyMemory(Arc<Semaphore>, usize);

/// A share of the memory for bodies, given back when dropped.
#[derive(Debug)]
pub(crate) struct Grant {
    _bytes: Option<OwnedSemaphorePermit>,
}

/// What one body may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    pub(crate) bytes: usize,
    pub(crate) timeout: Duration,
}

impl BodyMemory {
    /// Makes a memory of this many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))), bytes)
    }

    /// Reads a body to its end.
    ///
    /// # Errors
    /// `request_error` if it is too long, too slow or breaks off; `protocol_overload` if the memory is used up.
    pub(crate) async fn read(&self, headers: &HeaderMap, body: Body, limits: BodyLimits) -> Result<(Vec<u8>, Grant), ServiceError> {
        let announced = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        let read = async {
            match announced {
                Some(length) if length > limits.bytes => self.refuse(body, length, limits.bytes).await,
                _ => self.collect(body, limits.bytes).await,
            }
        };
        tokio::time::timeout(limits.timeout, read).await.unwrap_or_else(|_| {
            Err(ServiceError::new(
                Label::RequestError,
                format!("the body did not arrive within {} s", limits.timeout.as_secs()),
            ))
        })
    }

    /// Waits until there is memory for this many bytes that are there already. More than the whole memory counts as all of it.
    pub(crate) async fn reserve(&self, bytes: usize) -> Grant {
        let count = u32::try_from(bytes.min(self.1)).unwrap_or(u32::MAX);
        Grant {
            // Nobody closes the semaphore.
            _bytes: Arc::clone(&self.0).acquire_many_owned(count).await.ok(),
        }
    }

    async fn collect(&self, body: Body, limit: usize) -> Result<(Vec<u8>, Grant), ServiceError> {
        let mut chunks = body.into_data_stream();
        let mut bytes = Vec::new();
        let mut grant: Option<OwnedSemaphorePermit> = None;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| ServiceError::new(Label::RequestError, format!("the body broke off: {error}")))?;
            let length = bytes.len() + chunk.len();
            if length > limit {
                drop((std::mem::take(&mut bytes), grant));
                return self.refuse(Body::from_stream(chunks), length, limit).await;
            }
            let more = u32::try_from(chunk.len())
                .ok()
                .and_then(|count| Arc::clone(&self.0).try_acquire_many_owned(count).ok());
            match (more, &mut grant) {
                (None, _) => {
                    return Err(ServiceError::new(
                        Label::ProtocolOverload,
                        "too much data is being processed; try again in a moment",
                    ));
                }
                (Some(more), Some(grant)) => grant.merge(more),
                (Some(more), none) => *none = Some(more),
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok((bytes, Grant { _bytes: grant }))
    }

    /// Reads on without keeping anything, then says that the body is too long.
    async fn refuse(&self, body: Body, at_least: usize, limit: usize) -> Result<(Vec<u8>, Grant), ServiceError> {
        let mut chunks = body.into_data_stream();
        let mut read = 0usize;
        while read < LINGER_BYTES
            && let Some(Ok(chunk)) = chunks.next().await
        {
            read = read.saturating_add(chunk.len());
        }
        Err(ServiceError::new(
            Label::RequestError,
            format!("the body has {at_least} bytes or more; at most {limit} are allowed"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use futures_util::stream;

    use super::*;

    const LIMITS: BodyLimits = BodyLimits {
        bytes: 10,
        timeout: Duration::from_millis(50),
    };

    fn chunked(chunks: Vec<&'static [u8]>) -> Body {
        Body::from_stream(stream::iter(
            chunks.into_iter().map(|chunk| Ok::<_, std::io::Error>(Bytes::from_static(chunk))),
        ))
    }

    async fn read(memory: &BodyMemory, body: Body) -> Result<(Vec<u8>, Grant), ServiceError> {
        memory.read(&HeaderMap::new(), body, LIMITS).await
    }

    #[tokio::test]
    async fn bodies_are_limited_even_without_an_announced_length() {
        let memory = BodyMemory::new(100);
        assert_eq!(read(&memory, chunked(vec![b"01234", b"56789"])).await.unwrap().0, b"0123456789");
        let error = read(&memory, chunked(vec![b"01234", b"567890"])).await.unwrap_err();
        assert_eq!(
            (error.label, error.message.as_str()),
            (Label::RequestError, "the body has 11 bytes or more; at most 10 are allowed")
        );
        assert_eq!(memory.0.available_permits(), 100);
    }

    #[tokio::test]
    async fn memory_is_shared_and_given_back() {
        let memory = BodyMemory::new(15);
        let (_, grant) = read(&memory, chunked(vec![b"0123456789"])).await.unwrap();
        assert_eq!(
            read(&memory, chunked(vec![b"0123", b"456789"])).await.unwrap_err().label,
            Label::ProtocolOverload
        );
        assert_eq!(read(&memory, chunked(vec![b"0123"])).await.unwrap().0, b"0123");
        drop(grant);
        assert!(read(&memory, chunked(vec![b"0123456789"])).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_given_up() {
        let memory = BodyMemory::new(100);
        let error = read(&memory, Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>()))
            .await
            .unwrap_err();
        assert!(error.message.contains("did not arrive"), "{error}");
    }
}
