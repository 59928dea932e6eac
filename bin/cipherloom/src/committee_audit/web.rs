//! Asking servers that are not trusted: over HTTP or HTTPS, with limits on time and bytes, and without following anybody elsewhere.

use std::{
    io::{self, Read},
    path::Path,
    sync::Arc,
    time::Duration,
};

use alloy::transports::http::reqwest::Url;
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

/// How long a connection may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// How long an answer of a few bytes may take; making a quote takes the hardware about a second, and others may be waiting.
const PATIENCE: Duration = Duration::from_secs(45);

/// How long a server may be silent within a long answer.
const CHUNK_PATIENCE: Duration = Duration::from_secs(30);

/// Sends requests. Clones share their connections.
#[derive(Clone)]
pub(super) struct Web {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

/// An answer.
pub(super) struct Fetched {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Fetched {
    /// Returns the body of an answer that is no error.
    ///
    /// # Errors
    /// If it is one, with the reason that the server gives.
    pub(super) fn expect_ok(self, url: &str) -> Result<Self> {
        if self.status == StatusCode::OK {
            return Ok(self);
        }
        /// The most characters of a server's own words that are shown.
        const MAX_REASON_CHARS: usize = 200;

        let reason: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        let reason = reason.as_ref().and_then(|value| value.get("error")?.as_str());
        match reason {
            Some(reason) => {
                let reason: String = reason.chars().filter(|char| !char.is_control()).take(MAX_REASON_CHARS).collect();
                bail!("{url} answers {}: {reason}", self.status)
            }
            None => bail!("{url} answers {}", self.status),
        }
    }
}

impl Web {
    /// Prepares. Servers over HTTPS need a certificate of the system's authorities, or of those in a PEM file.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub(super) fn new(authorities: Option<&Path>) -> Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_PATIENCE));
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(authorities)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
        })
    }

    /// Fetches an answer of at most so many bytes, whatever its status.
    ///
    /// # Errors
    /// If the URL is none, the server does not answer in time, or answers more.
    pub(super) async fn get(&self, url: &str, limit: usize) -> Result<Fetched> {
        let exchange = async {
            let response = self.begin(url).await?;
            let (head, mut body) = response.into_parts();
            let mut bytes = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.with_context(|| format!("{url} broke off"))?;
                if let Some(chunk) = frame.data_ref() {
                    ensure!(bytes.len() + chunk.len() <= limit, "{url} answers more than {limit} bytes");
                    bytes.extend_from_slice(chunk);
                }
            }
            Ok(Fetched {
                status: head.status,
                headers: head.headers,
                body: bytes,
            })
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .map_err(|_| anyhow::anyhow!("{url} did not answer within {} s", PATIENCE.as_secs()))?
    }

    /// Fetches a long answer, which is read while it comes, on a thread that may block.
    ///
    /// # Errors
    /// If the server does not answer, or with an error.
    pub(super) async fn read(&self, url: &str, limit: u64) -> Result<impl Read + Send + use<>> {
        let begun = tokio::time::timeout(PATIENCE, self.begin(url)).await;
        let response = begun.map_err(|_| anyhow::anyhow!("{url} did not answer within {} s", PATIENCE.as_secs()))??;
        ensure!(response.status() == StatusCode::OK, "{url} answers {}", response.status());
        let (_, mut body) = response.into_parts();
        let (chunks, receiver) = tokio::sync::mpsc::channel(4);
        let address = url.to_owned();
        tokio::spawn(async move {
            let mut total = 0u64;
            loop {
                let chunk = match tokio::time::timeout(CHUNK_PATIENCE, body.frame()).await {
                    Err(_) => Err(format!("{address} is silent")),
                    Ok(None) => return,
                    Ok(Some(Err(error))) => Err(format!("{address} broke off: {error}")),
                    Ok(Some(Ok(frame))) => match frame.into_data() {
                        Ok(chunk) => {
                            total += chunk.len() as u64;
                            if total > limit {
                                Err(format!("{address} answers more than {limit} bytes"))
                            } else {
                                Ok(chunk)
                            }
                        }
                        Err(_) => continue,
                    },
                };
                let is_last = chunk.is_err();
                // A reader that is gone wants no more.
                if chunks.send(chunk).await.is_err() || is_last {
                    return;
                }
            }
        });
        Ok(Chunks {
            receiver,
            current: Bytes::new(),
        })
    }

    async fn begin(&self, url: &str) -> Result<http::Response<hyper::body::Incoming>> {
        let request = Request::get(parse(url)?.as_str())
            .header(header::USER_AGENT, concat!("cipherloom/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "*/*")
            .body(Empty::new())
            .with_context(|| format!("{url} is no URL"))?;
        self.client.request(request).await.map_err(|error| {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            anyhow::anyhow!("{url} cannot be reached: {text}")
        })
    }
}

/// Reads a URL of HTTP or HTTPS without a name and password, which would end up in outputs and logs.
///
/// # Errors
/// If it is another one.
pub(super) fn parse(url: &str) -> Result<Url> {
    let parsed: Url = url.parse().with_context(|| format!("{url:?} is no URL"))?;
    ensure!(
        matches!(parsed.scheme(), "http" | "https") && parsed.has_host(),
        "{url:?} is no URL that begins with http:// or https://"
    );
    ensure!(
        parsed.username().is_empty() && parsed.password().is_none() && parsed.fragment().is_none(),
        "a URL must have no user name, password or fragment here"
    );
    Ok(parsed)
}

/// Reads the base URL of a node or another server: without a query, and without a slash at the end.
///
/// # Errors
/// As the message says; for the command line.
pub(super) fn base(url: &str) -> Result<String, String> {
    let parsed = parse(url).map_err(|error| format!("{error:#}"))?;
    if parsed.query().is_some() {
        return Err("give the URL of the server without a query".to_owned());
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// Chunks that a task receives, as a blocking reader.
struct Chunks {
    receiver: tokio::sync::mpsc::Receiver<Result<Bytes, String>>,
    current: Bytes,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                None => return Ok(0),
                Some(chunk) => self.current = chunk.map_err(io::Error::other)?,
            }
        }
        let count = buffer.len().min(self.current.len());
        let taken = self.current.split_to(count);
        let (start, _) = buffer.split_at_mut(count);
        start.copy_from_slice(&taken);
        Ok(count)
    }
}

fn tls(authorities: Option<&Path>) -> Result<rustls::ClientConfig> {
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions()?;
    let Some(path) = authorities else {
        // A system that trusts nobody can still talk to servers without TLS.
        return Ok(match builder.clone().with_native_roots() {
            Ok(builder) => builder.with_no_client_auth(),
            Err(_) => builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth(),
        });
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).with_context(|| format!("cannot read {}", path.display()))?;
    for certificate in certificates {
        roots.add(certificate.with_context(|| format!("a certificate in {}", path.display()))?)?;
    }
    ensure!(!roots.is_empty(), "{} has no certificates", path.display());
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_say_too_much_are_refused() {
        assert_eq!(base("https://node.example:1234/").unwrap(), "https://node.example:1234");
        for url in [
            "node.example",
            "ftp://a/",
            "https://me:secret@a/",
            "https://a/?x=1",
            "https://a/#b",
            "http://",
        ] {
            assert!(base(url).is_err(), "{url}");
        }
    }
}
