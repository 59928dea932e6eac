//! A node's public HTTP port: what anybody may ask of it, to check it from outside.
//!
//! # Roles
//! An *auditor* is anybody: a user, another operator, `cipherloom kms verify`. The node answers without knowing who asks, and without trusting them. The
//! network between is not trusted either: each answer is signed with the node's signing key, and the evidence says that this key is inside hardware that
//! runs known software.
//!
//! # Messages
//! | route | answer |
//! |---|---|
//! | `GET /attestation?nonce=0x…` | a [`Statement`] and fresh evidence over it and the asker's 32 bytes ([`documents::Attestation`]) |
//! | `GET /manifest` | the manifest of the ceremony with all signatures, as the node stored it; 404 before there is one |
//! | `GET /status` | [`documents::NodeStatus`] |
//! | `GET /audit/head` | where each audit log ends, signed so that it can be kept ([`documents::AuditHeads`]) |
//!
//! Each answer has a header `cipherloom-signature` over route, nonce and body ([`documents::document_digest`]); with `?nonce=` in the request nobody can serve
//! an old answer.
//!
//! # Threats
//! Strangers can exhaust it: quotes take the hardware about a second each. So there are limits on connections, on their age, on requests for each network
//! address, on quotes for each, and on quotes made or waited for at a time. Requests have no bodies, and their heads are bounded. What it tells is public by design: it
//! never tells what was decrypted or for whom, only how many records there are.
//!
//! # Restart
//! Nothing is stored here.

pub mod documents;
mod limits;
mod listener;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use alloy::signers::{SignerSync, local::PrivateKeySigner};
use axum::{
    Router,
    extract::{ConnectInfo, RawQuery, State},
    http::{HeaderValue, Request, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use cipherloom_attest::{Attestor, Occasion, Statement};
use cipherloom_kms::audit::AuditHead;
use cipherloom_primitives::B256;
use serde::Serialize;
use tokio::{net::TcpListener, sync::Semaphore};

pub use self::limits::PublicLimits;
use self::{
    documents::{Attestation, AuditHeads, NodeStatus, SIGNATURE_HEADER, SignedAuditHead},
    limits::Allowances,
    listener::{Caller, PublicListener},
};

/// How long the hardware may take for a quote.
const EVIDENCE_PATIENCE: Duration = Duration::from_secs(30);

/// What the port is about.
pub struct PublicParts {
    /// Makes the evidence.
    pub attestor: Arc<dyn Attestor>,
    /// The node's signing key.
    pub signer: PrivateKeySigner,
    /// What the node states now: it changes with the committee.
    pub statement: Box<dyn Fn() -> Statement + Send + Sync>,
    /// What the node is doing now.
    pub status: Box<dyn Fn() -> NodeStatus + Send + Sync>,
    /// The manifest of the newest ceremony with its signatures, as JSON.
    pub manifest: Box<dyn Fn() -> Option<Vec<u8>> + Send + Sync>,
    /// Where the audit log of each chain ends.
    pub audit: Box<dyn Fn() -> Vec<(u64, AuditHead)> + Send + Sync>,
    /// Tells the time in seconds since 1970.
    pub clock: Box<dyn Fn() -> u64 + Send + Sync>,
    /// How much is answered.
    pub limits: PublicLimits,
}

struct Public {
    parts: PublicParts,
    allowances: Allowances,
    quotes: Semaphore,
    waiting: Semaphore,
}

/// Serves the port until it is told to stop; requests under way are answered.
///
/// # Errors
/// If the listener cannot be used.
pub async fn serve(listener: TcpListener, parts: PublicParts, stopped: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
    let listener = PublicListener::new(listener, parts.limits);
    let service = router(parts).into_make_service_with_connect_info::<Caller>();
    axum::serve(listener, service).with_graceful_shutdown(stopped).await
}

fn router(parts: PublicParts) -> Router {
    let public = Arc::new(Public {
        allowances: Allowances::new(parts.limits),
        quotes: Semaphore::new(parts.limits.quotes_at_a_time),
        waiting: Semaphore::new(parts.limits.quotes_at_a_time + parts.limits.quotes_waiting),
        parts,
    });
    Router::new()
        .route("/attestation", get(attestation))
        .route("/manifest", get(manifest))
        .route("/status", get(status))
        .route("/audit/head", get(audit_head))
        .fallback(async || Refusal::NotFound)
        .method_not_allowed_fallback(async || Refusal::Method)
        .layer(middleware::from_fn_with_state(Arc::clone(&public), limited))
        .with_state(public)
}

/// Refuses callers who ask too often, and requests that are longer than any of ours.
async fn limited(
    State(public): State<Arc<Public>>,
    ConnectInfo(Caller(caller)): ConnectInfo<Caller>,
    request: Request<axum::body::Body>,
    next: Next,
) -> Response {
    /// The longest query: a nonce.
    const MAX_QUERY_BYTES: usize = 128;

    if !public.allowances.take_request(caller.ip()) {
        return Refusal::TooOften.into_response();
    }
    if request.uri().query().is_some_and(|query| query.len() > MAX_QUERY_BYTES) {
        return Refusal::Nonce.into_response();
    }
    // Bodies are not read: connections with one are closed.
    next.run(request).await
}

async fn attestation(
    State(public): State<Arc<Public>>,
    ConnectInfo(Caller(caller)): ConnectInfo<Caller>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let nonce = nonce(query.as_deref())?.ok_or(Refusal::Nonce)?;
    let statement = (public.parts.statement)();
    let evidence = {
        // Before the allowance: a caller who is turned away because others ask can come again at once.
        let _place = public.waiting.try_acquire().map_err(|_| Refusal::Busy)?;
        take_quote(&public, caller)?;
        let _turn = public.quotes.acquire().await.map_err(|_| Refusal::Busy)?;
        let report_data = statement.report_data(&[], &Occasion::Challenge(nonce));
        let made = tokio::time::timeout(EVIDENCE_PATIENCE, public.parts.attestor.evidence(report_data)).await;
        match made {
            Ok(Ok(evidence)) => evidence,
            Ok(Err(error)) => {
                tracing::error!(%error, "the hardware made no evidence for a challenge");
                return Err(Refusal::Hardware);
            }
            Err(_) => return Err(Refusal::Hardware),
        }
    };
    public.signed("/attestation", Some(nonce), &Attestation { statement, evidence })
}

fn take_quote(public: &Public, caller: SocketAddr) -> Result<(), Refusal> {
    if public.allowances.take_quote(caller.ip()) {
        Ok(())
    } else {
        Err(Refusal::TooOften)
    }
}

async fn manifest(State(public): State<Arc<Public>>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let nonce = nonce(query.as_deref())?;
    let manifest = (public.parts.manifest)().ok_or(Refusal::NoManifest)?;
    public.signed_bytes("/manifest", nonce, manifest)
}

async fn status(State(public): State<Arc<Public>>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let nonce = nonce(query.as_deref())?;
    public.signed("/status", nonce, &(public.parts.status)())
}

async fn audit_head(State(public): State<Arc<Public>>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let nonce = nonce(query.as_deref())?;
    let time = (public.parts.clock)();
    let heads = (public.parts.audit)().into_iter();
    let heads = heads.map(|(chain_id, head)| SignedAuditHead::sign(chain_id, head, time, &public.parts.signer));
    let heads = heads.collect::<Result<_, _>>().map_err(|_| Refusal::Signing)?;
    public.signed("/audit/head", nonce, &AuditHeads { heads })
}

impl Public {
    fn signed(&self, route: &str, nonce: Option<B256>, document: &impl Serialize) -> Result<Response, Refusal> {
        let body = serde_json::to_vec(document).map_err(|_| Refusal::Signing)?;
        self.signed_bytes(route, nonce, body)
    }

    fn signed_bytes(&self, route: &str, nonce: Option<B256>, body: Vec<u8>) -> Result<Response, Refusal> {
        let digest = documents::document_digest(route, nonce, &body);
        let signature = self
            .parts
            .signer
            .sign_message_sync(digest.as_slice())
            .map_err(|_| Refusal::Signing)?;
        let signature = HeaderValue::from_str(&alloy::hex::encode_prefixed(signature.as_bytes())).map_err(|_| Refusal::Signing)?;
        let mut response = body.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // Pages may show what a node says: nothing here is secret, and nothing is changed by asking.
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(SIGNATURE_HEADER));
        headers.insert(SIGNATURE_HEADER, signature);
        Ok(response)
    }
}

/// Reads the only thing that a query may say.
fn nonce(query: Option<&str>) -> Result<Option<B256>, Refusal> {
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return Ok(None);
    };
    let digits = query.strip_prefix("nonce=0x").ok_or(Refusal::Nonce)?;
    let bytes = alloy::hex::decode_to_array(digits).map_err(|_| Refusal::Nonce)?;
    Ok(Some(B256::from(bytes)))
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    NotFound,
    Method,
    Nonce,
    NoManifest,
    TooOften,
    Busy,
    Hardware,
    Signing,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, message) = match self {
            Self::NotFound => (
                StatusCode::NOT_FOUND,
                "there are /attestation?nonce=0x…, /manifest, /status and /audit/head here",
            ),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "only GET"),
            Self::Nonce => (
                StatusCode::BAD_REQUEST,
                "the query may be nonce=0x and 64 hexadecimal digits, and nothing else; /attestation needs it",
            ),
            Self::NoManifest => (StatusCode::NOT_FOUND, "there was no ceremony yet"),
            Self::TooOften => (StatusCode::TOO_MANY_REQUESTS, "your network asks too often"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "too many others wait for evidence"),
            Self::Hardware => (StatusCode::SERVICE_UNAVAILABLE, "the hardware makes no evidence now"),
            Self::Signing => (StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be signed"),
        };
        let body = serde_json::json!({ "error": message }).to_string();
        let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        if matches!(self, Self::TooOften | Self::Busy | Self::Hardware) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
        }
        response
    }
}
