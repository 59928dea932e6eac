//! HTTP, in the clear or over TLS: exchanges with limits on time and bytes.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use alloy::transports::http::reqwest::Url;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::{
    config::ClientConfig,
    error::{ClientError, TransportFailure},
    wire::Failure,
};

/// How this software names itself to servers.
const USER_AGENT: &str = concat!("cipherloom-client/", env!("CARGO_PKG_VERSION"));

/// What gateways read API keys from.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The most bytes of an answer that is an error.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// Sends requests to a gateway. Clones share their connections.
pub(crate) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: Url,
    api_key: Option<HeaderValue>,
    connect_limit: Duration,
}

/// The beginning of an answer that is no error; the rest is read as it comes.
pub(crate) struct Answer {
    pub(crate) what: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: UnsyncBoxBody<Bytes, Box<dyn StdError + Send + Sync>>,
    chunk_limit: Duration,
}

impl Http {
    /// Prepares exchanges with the gateway at a URL without a version.
    pub(crate) fn new(url: &str, config: &ClientConfig) -> Result<Self, ClientError> {
        let invalid = || ClientError::Url(url.to_owned());
        let base: Url = format!("{}/", url.trim_end_matches('/')).parse().map_err(|_| invalid())?;
        let has_credentials = !base.username().is_empty() || base.password().is_some();
        if !matches!(base.scheme(), "http" | "https") || base.query().is_some() || base.fragment().is_some() || has_credentials {
            return Err(invalid());
        }
        let api_key = config.api_key.as_ref().map(|key| {
            let mut value = HeaderValue::from_str(key.expose()).map_err(|_| ClientError::Configuration {
                what: "API key",
                reason: "it has characters that HTTP headers cannot carry".into(),
            })?;
            value.set_sensitive(true);
            Ok::<_, ClientError>(value)
        });
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(config.limits.request));
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(config.trusted_certificates.as_deref())?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector),
            base,
            api_key: api_key.transpose()?,
            connect_limit: config.limits.request,
        })
    }

    /// Returns the gateway's URL, with a slash at its end.
    pub(crate) const fn base(&self) -> &Url {
        &self.base
    }

    /// Returns the URL of a path at the gateway.
    pub(crate) fn url(&self, path: &str) -> Result<Url, ClientError> {
        self.base.join(path).map_err(|_| ClientError::Url(self.base.to_string()))
    }

    /// Prepares a request. The API key goes to the gateway itself and to nobody whose URL the gateway names.
    pub(crate) fn request(&self, method: Method, url: &Url, headers: HeaderMap, body: Bytes) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = url.as_str().parse().map_err(|_| ClientError::Url(url.to_string()))?;
        *request.headers_mut() = headers;
        request
            .headers_mut()
            .insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        if let Some(key) = &self.api_key
            && url.origin() == self.base.origin()
        {
            request.headers_mut().insert(API_KEY, key.clone());
        }
        Ok(request)
    }

    /// Sends a request and reads the beginning of the answer; an answer that is an error becomes one. A status that HTTP does not count as an
    /// error but that is none of `accepted` becomes one, too.
    pub(crate) async fn send(
        &self,
        what: &'static str,
        request: Request<Full<Bytes>>,
        accepted: &[StatusCode],
        chunk_limit: Duration,
    ) -> Result<Answer, ClientError> {
        let response = self.client.request(request).await;
        let response = response.map_err(|error| transport(what, &error))?;
        let (head, body) = response.into_parts();
        let answer = Answer {
            what,
            status: head.status,
            headers: head.headers,
            body: body.map_err(Into::into).boxed_unsync(),
            chunk_limit,
        };
        if accepted.contains(&answer.status) {
            return Ok(answer);
        }
        if answer.status.is_success() || answer.status.is_redirection() || answer.status.is_informational() {
            return Err(ClientError::Malformed {
                what,
                reason: format!("unexpected HTTP status {}", answer.status),
            });
        }
        Err(answer.into_error(self.connect_limit).await)
    }
}

impl Answer {
    /// Appends the rest of the answer to what is there, which together must not exceed the limit. What has arrived before an error stays.
    pub(crate) async fn read_into(&mut self, body: &mut Vec<u8>, limit: usize) -> Result<(), ClientError> {
        let what = self.what;
        let too_large = || ClientError::TooLarge { what, limit };
        let announced = self.headers.get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|value| value.to_str().ok()?.parse::<usize>().ok()).unwrap_or(0);
        if body.len().saturating_add(announced) > limit {
            return Err(too_large());
        }
        loop {
            let frame = tokio::time::timeout(self.chunk_limit, self.body.frame()).await;
            let frame = frame.map_err(|_| late(what, self.chunk_limit))?;
            let Some(frame) = frame else { return Ok(()) };
            let frame = frame.map_err(|error| transport(what, error.as_ref()))?;
            if let Some(chunk) = frame.data_ref() {
                if body.len().saturating_add(chunk.len()) > limit {
                    return Err(too_large());
                }
                body.extend_from_slice(chunk);
            }
        }
    }

    /// Returns how long the server wants to be left alone. Dates, which HTTP also allows here, are not read.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let value = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?;
        value.trim().parse().ok().map(Duration::from_secs)
    }

    async fn into_error(mut self, limit: Duration) -> ClientError {
        let (what, status, retry_after) = (self.what, self.status, self.retry_after());
        let mut body = Vec::new();
        let read = tokio::time::timeout(limit, self.read_into(&mut body, MAX_ERROR_BYTES)).await;
        let failure = match read {
            Ok(Ok(())) => serde_json::from_slice::<Failure>(&body).ok(),
            _ => None,
        };
        match failure {
            Some(failure) => ClientError::Server {
                what,
                status: status.as_u16(),
                label: failure.error.label,
                message: failure.error.message,
                details: failure.error.details,
                retry_after,
            },
            None if matches!(status.as_u16(), 408 | 425 | 429 | 502 | 503 | 504) => ClientError::Unavailable {
                what,
                status: status.as_u16(),
                retry_after,
            },
            None if matches!(status.as_u16(), 404 | 405 | 501) => ClientError::MissingRoute {
                what,
                status: status.as_u16(),
            },
            None => ClientError::Malformed {
                what,
                reason: format!("HTTP status {status} without the protocol's error"),
            },
        }
    }
}

/// The error of an exchange that takes too long.
pub(crate) fn late(what: &'static str, limit: Duration) -> ClientError {
    ClientError::Transport {
        what,
        source: TransportFailure(format!("no answer within {} s", limit.as_secs_f64())),
    }
}

/// Takes an error with all its causes in one line: the last one says why it failed.
fn transport(what: &'static str, error: &(dyn StdError + 'static)) -> ClientError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    ClientError::Transport {
        what,
        source: TransportFailure(text),
    }
}

/// Trusts the given certificates or, without any, those of the system. A system that trusts nobody can still talk to a gateway without TLS.
fn tls(trusted: Option<&[u8]>) -> Result<rustls::ClientConfig, ClientError> {
    let refuse = |reason: String| ClientError::Configuration {
        what: "trusted certificates",
        reason,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = || {
        let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions();
        builder.map_err(|error| refuse(error.to_string()))
    };
    let Some(pem) = trusted else {
        let builder = match builder()?.with_native_roots() {
            Ok(config) => config,
            Err(error) => {
                tracing::debug!(%error, "the system trusts no certificates");
                builder()?.with_root_certificates(RootCertStore::empty())
            }
        };
        return Ok(builder.with_no_client_auth());
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
        roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(refuse("there is none in it".into()));
    }
    Ok(builder()?.with_root_certificates(roots).with_no_client_auth())
}
