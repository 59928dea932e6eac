//! A published place, read over HTTP.
//!
//! Any web server that serves the files of a place will do. Nothing it sends is believed: bytes have the digest they are asked by, and
//! documents are signed.

use std::time::Duration;

use cipherloom_primitives::B256;
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};

use super::{CiphertextObjects, PublicPlace, cloud::ObjectLimits, failed, object_name, transport::Transport};
use crate::{StoreError, StoreFuture};

/// A place that others publish, over HTTP or HTTPS.
#[derive(Clone, Debug)]
pub struct WebMirror {
    root: String,
    client: HttpClient,
    limits: ObjectLimits,
}

impl WebMirror {
    /// Makes a client for a place, without asking it anything. Documents and objects are at the URL, a slash, and their name.
    ///
    /// # Errors
    /// [`StoreError::ObjectsUrl`] if the place is on HTTPS and the system has no roots to trust.
    pub(super) fn open(root: &str, limits: ObjectLimits) -> Result<Self, StoreError> {
        let transport = Transport {
            request_limit: limits.request,
        };
        let client = transport
            .client(root.starts_with("http://"))
            .map_err(|error| StoreError::ObjectsUrl(error.to_string()))?;
        Ok(Self {
            root: root.to_owned(),
            client,
            limits,
        })
    }

    /// Gets a file, trying again while the server or the network fails.
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let url = format!("{}/{name}", self.root);
        let mut pause = self.limits.first_pause;
        for _ in 0..self.limits.retries {
            match self.get_once(&url).await {
                Err(Refused::ForNow(_)) => tokio::time::sleep(pause).await,
                Err(Refused::Always(reason)) => return Err(failed("read", url, reason)),
                Ok(found) => return Ok(found),
            }
            pause = pause.saturating_mul(2).min(Duration::from_secs(5));
        }
        self.get_once(&url).await.map_err(|refused| match refused {
            Refused::ForNow(reason) | Refused::Always(reason) => failed("read", url, reason),
        })
    }

    async fn get_once(&self, url: &str) -> Result<Option<Vec<u8>>, Refused> {
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.uri_mut() = url
            .parse()
            .map_err(|error| Refused::Always(format!("the URL cannot be used: {error}")))?;
        let response = self
            .client
            .execute(request)
            .await
            .map_err(|error| Refused::ForNow(error.to_string()))?;
        let status = response.status();
        match status.as_u16() {
            200 => match response.into_body().bytes().await {
                Ok(bytes) => Ok(Some(bytes.to_vec())),
                Err(error) => Err(Refused::ForNow(error.to_string())),
            },
            404 | 410 => Ok(None),
            408 | 429 | 500.. => Err(Refused::ForNow(format!("the server answers {status}"))),
            _ => Err(Refused::Always(format!("the server answers {status}"))),
        }
    }
}

/// Why there is no answer.
enum Refused {
    /// Another try may help.
    ForNow(String),
    /// It will not.
    Always(String),
}

impl CiphertextObjects for WebMirror {
    fn put<'a>(&'a self, _: B256, _: &'a [u8]) -> StoreFuture<'a, ()> {
        Box::pin(async { Err(StoreError::ReadOnlyPlace(self.root.clone())) })
    }

    fn read(&self, digest: B256) -> StoreFuture<'_, Option<Vec<u8>>> {
        Box::pin(async move { self.get(&object_name(digest)).await })
    }

    fn remove(&self, _: B256) -> StoreFuture<'_, ()> {
        Box::pin(async { Err(StoreError::ReadOnlyPlace(self.root.clone())) })
    }
}

impl PublicPlace for WebMirror {
    fn put_document<'a>(&'a self, _: &'a str, _: &'a [u8]) -> StoreFuture<'a, ()> {
        Box::pin(async { Err(StoreError::ReadOnlyPlace(self.root.clone())) })
    }

    fn document<'a>(&'a self, name: &'a str) -> StoreFuture<'a, Option<Vec<u8>>> {
        Box::pin(self.get(name))
    }
}
