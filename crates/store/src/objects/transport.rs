//! How requests reach a place over the network: HTTP/1.1 through hyper, TLS through rustls and the system's roots.
//!
//! Bodies are read to their end here, within a limit and a time, so that an answer that breaks off is a failed request, which is tried
//! again, and never a short object.

use std::{error::Error as StdError, fmt, pin::Pin, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector as TcpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use object_store::{
    ClientConfigKey, ClientOptions, HeaderValue,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
    },
};

use super::MAX_OBJECT_BYTES;

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How this software names itself to servers.
const USER_AGENT: &str = concat!("cipherloom/", env!("CARGO_PKG_VERSION"));

/// How broken off and late requests are reported: as safe to send again. All of them are, since bytes are named by their hash and documents are
/// replaced as a whole.
const AGAIN: HttpErrorKind = HttpErrorKind::Request;

/// Makes clients for `object_store`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transport {
    /// How long one request may take, its answer included.
    pub(super) request_limit: Duration,
}

impl Transport {
    /// Makes a client.
    ///
    /// # Errors
    /// If it is for TLS and the system has no roots to trust.
    pub(super) fn client(&self, allow_http: bool) -> Result<HttpClient, std::io::Error> {
        let mut tcp = TcpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_LIMIT));
        tcp.set_nodelay(true);
        let provider = || Arc::new(rustls::crypto::ring::default_provider());
        let with_roots = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider());
        let tls = match with_roots {
            // A machine without roots can still use a server in the clear; one with TLS is refused when it shows its certificate.
            Err(_) if allow_http => HttpsConnectorBuilder::new().with_tls_config(
                rustls::ClientConfig::builder_with_provider(provider())
                    .with_safe_default_protocol_versions()
                    .map_err(std::io::Error::other)?
                    .with_root_certificates(rustls::RootCertStore::empty())
                    .with_no_client_auth(),
            ),
            other => other?,
        };
        let connector = if allow_http {
            tls.https_or_http().enable_http1().wrap_connector(tcp)
        } else {
            tls.https_only().enable_http1().wrap_connector(tcp)
        };
        Ok(HttpClient::new(Service {
            client: Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector),
            request_limit: self.request_limit,
        }))
    }
}

impl HttpConnector for Transport {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allow_http = options.get_config_value(&ClientConfigKey::AllowHttp).as_deref() == Some("true");
        self.client(allow_http).map_err(|source| object_store::Error::Generic {
            store: "HTTP",
            source: Box::new(source),
        })
    }
}

struct Service {
    client: Client<HttpsConnector<TcpConnector>, HttpRequestBody>,
    request_limit: Duration,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("request_limit", &self.request_limit)
            .finish_non_exhaustive()
    }
}

impl Service {
    async fn answer(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        request.headers_mut().insert("user-agent", HeaderValue::from_static(USER_AGENT));
        let response = self.client.request(request).await.map_err(|error| {
            let kind = if error.is_connect() { HttpErrorKind::Connect } else { AGAIN };
            HttpError::new(kind, Causes::of(&error))
        })?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_OBJECT_BYTES)
            .collect()
            .await
            .map_err(|error| HttpError::new(AGAIN, Causes::of(error.as_ref())))?;
        let body = Full::new(body.to_bytes()).map_err(|never| match never {});
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}

impl HttpService for Service {
    // What `async_trait` makes of the trait's method.
    fn call<'service, 'call>(
        &'service self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'call>>
    where
        'service: 'call,
        Self: 'call,
    {
        Box::pin(async move {
            match tokio::time::timeout(self.request_limit, self.answer(request)).await {
                Ok(answered) => answered,
                Err(elapsed) => Err(HttpError::new(AGAIN, elapsed)),
            }
        })
    }
}

/// An error with all its causes in one line: what was tried is known to the caller, and the last cause says why it failed.
#[derive(Debug)]
struct Causes(String);

impl Causes {
    fn of(error: &(dyn StdError + 'static)) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Self(text)
    }
}

impl fmt::Display for Causes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Causes {}
