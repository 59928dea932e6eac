//! HTTP with TLS, for nodes and block explorers outside this machine: hyper and rustls with the system's roots.
//!
//! Answers are read to their end within a limit of bytes and of time, so that a hostile server cannot fill the memory or hold a call.

use std::{
    error::Error as StdError,
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use alloy::{
    rpc::json_rpc::{RequestPacket, ResponsePacket},
    transports::{Authorization, TransportError, TransportErrorKind, TransportFut, http::reqwest::Url},
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::net::TcpStream;
use tower_service::Service;

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The longest answer that is read: what providers send for the largest ranges of logs stays far below.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// How this software names itself to servers.
const USER_AGENT: &str = concat!("cipherloom/", env!("CARGO_PKG_VERSION"));

/// Sends requests, over TLS or in the clear as their URL says. Clones share their connections.
#[derive(Clone)]
pub(crate) struct HttpsClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    limit: Duration,
}

/// What a server answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// How long the server wants to be left alone.
    pub(crate) retry_after: Option<Duration>,
    /// The body.
    pub(crate) body: Bytes,
}

/// A request that got no answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unanswered(String);

impl Unanswered {
    /// Takes an error with all its causes in one line: the last one says why it failed.
    fn because(error: &(dyn StdError + 'static)) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Self(text)
    }
}

impl fmt::Debug for HttpsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsClient").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl HttpsClient {
    /// Makes a client whose requests may take this long, their answers included.
    ///
    /// # Errors
    /// If the system has no roots to trust.
    pub(crate) fn new(limit: Duration) -> Result<Self, std::io::Error> {
        Ok(Self {
            client: Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .build(connector()?),
            limit,
        })
    }

    /// Sends a body and reads the answer.
    ///
    /// # Errors
    /// If the server cannot be reached or does not answer completely in time.
    pub(crate) async fn post(&self, url: &Url, content_type: &'static str, body: Bytes) -> Result<Answer, Unanswered> {
        let request = Request::builder().method(Method::POST).header(header::CONTENT_TYPE, content_type);
        self.send(url, request, body).await
    }

    /// Asks and reads the answer.
    ///
    /// # Errors
    /// As [`Self::post`].
    pub(crate) async fn get(&self, url: &Url) -> Result<Answer, Unanswered> {
        self.send(url, Request::builder().method(Method::GET), Bytes::new()).await
    }

    async fn send(&self, url: &Url, request: http::request::Builder, body: Bytes) -> Result<Answer, Unanswered> {
        let mut request = request.uri(without_credentials(url)).header(header::USER_AGENT, USER_AGENT);
        if let Some(credentials) = Authorization::extract_from_url(url) {
            let mut value = HeaderValue::from_str(&credentials.to_string()).map_err(|error| Unanswered::because(&error))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request.body(Full::new(body)).map_err(|error| Unanswered::because(&error))?;
        match tokio::time::timeout(self.limit, self.answer(request)).await {
            Ok(answered) => answered,
            Err(_) => Err(Unanswered(format!("no answer within {} s", self.limit.as_secs()))),
        }
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Result<Answer, Unanswered> {
        let response = self.client.request(request).await.map_err(|error| Unanswered::because(&error))?;
        let (head, body) = response.into_parts();
        let retry_after = head
            .headers
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.trim().parse().ok())
            .map(Duration::from_secs);
        let body = Limited::new(body, MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|error| Unanswered::because(error.as_ref()))?;
        Ok(Answer {
            status: head.status.as_u16(),
            retry_after,
            body: body.to_bytes(),
        })
    }
}

/// Makes connections, over TLS or in the clear as a URL says.
fn connector() -> Result<HttpsConnector<HttpConnector>, std::io::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_LIMIT));
    tcp.set_nodelay(true);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(provider)?
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp))
}

/// Connects to the host of a URL over TLS, for protocols other than HTTP.
///
/// # Errors
/// If the system has no roots to trust, or the host cannot be reached or trusted.
pub(crate) async fn connect(url: &Url) -> Result<TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>, Unanswered> {
    let host = url.host_str().unwrap_or_default();
    let target = format!("https://{host}:{}/", url.port_or_known_default().unwrap_or(443));
    let target = target.parse().map_err(|error: http::uri::InvalidUri| Unanswered::because(&error))?;
    let mut connector = connector().map_err(|error| Unanswered::because(&error))?;
    let stream = connector.call(target).await.map_err(|error| Unanswered::because(error.as_ref()))?;
    Ok(TokioIo::new(stream))
}

/// Credentials travel in a header, where proxies and logs do not keep them.
pub(crate) fn without_credentials(url: &Url) -> String {
    let mut bare = url.clone();
    // Both fail only for URLs without a host, which no HTTP URL is.
    let _ = bare.set_username("");
    let _ = bare.set_password(None);
    bare.into()
}

/// JSON-RPC over such a client, as alloy's providers want it.
#[derive(Clone, Debug)]
pub(crate) struct HttpsTransport {
    client: HttpsClient,
    url: Url,
}

impl HttpsTransport {
    /// Sends to this URL.
    pub(crate) const fn new(client: HttpsClient, url: Url) -> Self {
        Self { client, url }
    }

    async fn exchange(self, packet: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let body = packet.serialize().map_err(TransportError::ser_err)?;
        let body = Bytes::from(body.get().as_bytes().to_vec());
        let answer = self
            .client
            .post(&self.url, "application/json", body)
            .await
            .map_err(TransportErrorKind::custom)?;
        let parsed: Result<ResponsePacket, _> = serde_json::from_slice(&answer.body);
        let text = || String::from_utf8_lossy(&answer.body).into_owned();
        if (200..300).contains(&answer.status) {
            return parsed.map_err(|error| TransportError::deser_err(error, text()));
        }
        match parsed {
            // Some nodes send JSON-RPC errors with an HTTP error's status.
            Ok(packet) if packet.is_error() => Ok(packet),
            _ => Err(TransportErrorKind::http_error_with_retry_after(
                answer.status,
                text(),
                answer.retry_after,
            )),
        }
    }
}

impl Service<RequestPacket> for HttpsTransport {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        Box::pin(self.clone().exchange(packet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_a_url_stay_out_of_the_request_line() {
        let url: Url = "https://alice:secret@node.example/v1?key=1".parse().unwrap();
        assert_eq!(without_credentials(&url), "https://node.example/v1?key=1");
        assert!(Authorization::extract_from_url(&url).is_some());
    }
}
