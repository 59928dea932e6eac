//! The guest agent of dstack: quotes and keys over a socket inside the trust domain.
//!
//! Source: dstack 0.5, guest API over HTTP on a Unix socket: `POST /GetQuote {report_data}` and `POST /GetKey {path, purpose, algorithm}`, in JSON with
//! hexadecimal digits.

use std::{
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use alloy_primitives::hex;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, body::Bytes, header};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use tokio::net::UnixStream;
use zeroize::{Zeroize, Zeroizing};

use crate::{AttestError, Attestor, Evidence, SealingKey, TeeKind, event_log::parse_agent_log};

/// Where the agent listens, in the order in which releases of dstack chose it.
const SOCKETS: [&str; 4] = [
    "/var/run/dstack.sock",
    "/run/dstack.sock",
    "/var/run/dstack/dstack.sock",
    "/run/dstack/dstack.sock",
];

/// How long the agent may take for an answer; a quote takes about a second.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The longest answer: a log of events in full has tens of kilobytes.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// Makes evidence with the guest agent of dstack.
#[derive(Clone, Debug)]
pub struct DstackAttestor {
    socket: PathBuf,
}

#[derive(Deserialize)]
struct QuoteAnswer {
    quote: String,
    event_log: String,
}

#[derive(Deserialize)]
struct KeyAnswer {
    key: String,
}

impl Drop for KeyAnswer {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl DstackAttestor {
    /// Uses the agent behind a socket.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Uses the agent where releases of dstack put it.
    ///
    /// # Errors
    /// [`AttestError::GuestAgent`] if there is none.
    pub fn find() -> Result<Self, AttestError> {
        SOCKETS
            .iter()
            .map(Path::new)
            .find(|path| path.exists())
            .map(Self::new)
            .ok_or_else(|| AttestError::GuestAgent {
                socket: SOCKETS.join(", "),
                problem: "does not exist: this process is not in a dstack trust domain, or its socket is not mounted into the container"
                    .into(),
            })
    }

    async fn ask<T: DeserializeOwned>(&self, method: &str, request: serde_json::Value) -> Result<T, AttestError> {
        tokio::time::timeout(TIMEOUT, self.exchange(method, request))
            .await
            .map_err(|_| self.failed(format!("did not answer {method} within {} s", TIMEOUT.as_secs())))?
    }

    async fn exchange<T: DeserializeOwned>(&self, method: &str, request: serde_json::Value) -> Result<T, AttestError> {
        let failed = |problem: String| self.failed(format!("failed on {method}: {problem}"));
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| self.failed(format!("cannot be reached: {error}")))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(error.to_string()))?;
        let request = Request::post(format!("/{method}"))
            .header(header::HOST, "dstack")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(request.to_string())))
            .map_err(|error| failed(error.to_string()))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
                .collect()
                .await
                .map_err(|error| failed(error.to_string()))?
                .to_bytes();
            if !status.is_success() {
                return Err(failed(format!("status {status}")));
            }
            let body = Zeroizing::new(body.to_vec());
            serde_json::from_slice(&body).map_err(|error| failed(format!("unexpected answer: {error}")))
        };
        let mut exchange = pin!(exchange);
        // The connection has to be driven beside the request; it can end well before the answer was taken from it.
        tokio::select! {
            biased;
            answer = &mut exchange => answer,
            ended = connection => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(failed(error.to_string())),
            },
        }
    }

    fn failed(&self, problem: String) -> AttestError {
        AttestError::GuestAgent {
            socket: self.socket.display().to_string(),
            problem,
        }
    }
}

impl Attestor for DstackAttestor {
    fn kind(&self) -> TeeKind {
        TeeKind::DstackTdx
    }

    fn evidence(&self, report_data: [u8; 64]) -> BoxFuture<'_, Result<Evidence, AttestError>> {
        Box::pin(async move {
            let answer: QuoteAnswer = self
                .ask("GetQuote", serde_json::json!({ "report_data": hex::encode(report_data) }))
                .await?;
            let quote =
                hex::decode(&answer.quote).map_err(|error| self.failed(format!("gave a quote that is not hexadecimal: {error}")))?;
            let evidence = Evidence {
                kind: TeeKind::DstackTdx,
                quote: quote.into(),
                events: parse_agent_log(&answer.event_log)?,
            };
            evidence.check_size()?;
            Ok(evidence)
        })
    }

    fn sealing_key<'a>(&'a self, purpose: &'a str) -> BoxFuture<'a, Result<SealingKey, AttestError>> {
        Box::pin(async move {
            let request = serde_json::json!({ "path": format!("cipherloom/{purpose}"), "purpose": "sealing", "algorithm": "secp256k1" });
            let answer: KeyAnswer = self.ask("GetKey", request).await?;
            let bytes = Zeroizing::new(hex::decode(&answer.key).map_err(|_| self.failed("gave a key that is not hexadecimal".into()))?);
            if bytes.len() < 32 {
                return Err(self.failed(format!("gave a key of {} bytes", bytes.len())));
            }
            // Older agents give longer encodings of the same key; a digest has 32 bytes in any case, and differs from the key's other uses.
            let mut hasher = Sha256::new();
            hasher.update(b"cipherloom sealing key v1");
            hasher.update(&*bytes);
            Ok(Zeroizing::new(hasher.finalize().into()))
        })
    }
}
