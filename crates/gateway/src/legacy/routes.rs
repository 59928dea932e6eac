//! Every route of the 0.6 generation's gateway.
//!
//! Success is `{"status":"success","response":…}`, failure `{"status":"failure","response":"why"}` with status 400 where the request is at fault
//! and 500 otherwise: clients know no others.

use std::{net::IpAddr, sync::Arc, time::Duration};

use alloy_primitives::hex;
use axum::{
    Json, Router,
    extract::{ConnectInfo, Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowHeaders, AllowMethods, Any, CorsLayer},
    set_header::SetResponseHeaderLayer,
};

use super::{
    LegacyConfig,
    requests::{input, reencryption},
    services::{LegacyAdmission, LegacyServices},
};
use crate::{
    body::{BodyLimits, BodyMemory, Grant},
    connection::Peer,
    error::{Label, retry_after_header},
    keys::{KeyFiles, KeyKind},
    rate::{Payer, RateLimiter},
    services::ServiceError,
};

/// All routes: method and path with `{parameters}`.
pub const ROUTES: [(&str, &str); 6] = [
    ("GET", "/keyurl"),
    ("GET", "/PublicKey/{id}"),
    ("GET", "/CRS/{id}"),
    ("POST", "/verify_proven_ct"),
    ("POST", "/reencrypt"),
    ("GET", "/health"),
];

/// Twice the largest list as hexadecimal digits, and as much again for the rest; the generation's own limit is 10 MB.
const MAX_INPUT_BODY_BYTES: usize = 4 << 20;
const MAX_REENCRYPTION_BODY_BYTES: usize = 16 << 10;
/// The key under which clients look for the CRS: the most bits of a list.
const CRS_BITS: &str = "2048";

/// What the handlers share.
pub(super) struct LegacyApp {
    pub(super) services: LegacyServices,
    pub(super) keys: KeyFiles,
    /// The address we listen on, for clients that do not say how they reached us.
    pub(super) local: String,
    pub(super) memory: BodyMemory,
    pub(super) rate: RateLimiter,
    pub(super) clock: Box<dyn Fn() -> Duration + Send + Sync>,
    /// Two limits, so that reencryptions that wait for a computation never hold up the inputs of the next one.
    pub(super) inputs: Semaphore,
    pub(super) reencryptions: Semaphore,
    pub(super) stop: CancellationToken,
    pub(super) config: LegacyConfig,
}

type Shared = State<Arc<LegacyApp>>;
type Id = Result<Path<String>, PathRejection>;

/// Builds the router with everything around it.
pub(super) fn router(app: Arc<LegacyApp>) -> Router {
    let unknown = |what: &'static str| Failure::new(StatusCode::NOT_FOUND, what);
    let download = move |kind: KeyKind| {
        get(async move |State(app): Shared, id: Id, headers: HeaderMap| {
            let response = id.ok().and_then(|Path(id)| app.keys.download(kind, &id, &headers));
            response.ok_or_else(|| unknown("this is not the id of a current key file; see /keyurl"))
        })
    };
    let [keyurl, public_key, crs, verify, reencrypt, health] = ROUTES.map(|(_, path)| path);
    Router::new()
        .route(
            keyurl,
            get(async |State(app): Shared, headers: HeaderMap| Json(success(&key_url(&app, &headers)))),
        )
        .route(public_key, download(KeyKind::PublicKey))
        .route(crs, download(KeyKind::Crs))
        .route(
            verify,
            post(async |State(app): Shared, request: Request| verify_input(&app, request).await),
        )
        .route(
            reencrypt,
            post(async |State(app): Shared, request: Request| reencrypt_value(&app, request).await),
        )
        .route(health, get(async || Json(json!({ "status": "healthy" }))))
        .fallback(async move || unknown("there is no such route"))
        .method_not_allowed_fallback(async || Failure::new(StatusCode::METHOD_NOT_ALLOWED, "this route does not know this method"))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        ))
        .layer(CatchPanicLayer::custom(|_| {
            // The panic hook has logged it.
            Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "the gateway failed unexpectedly").into_response()
        }))
        .layer(cors())
        .layer(middleware::from_fn(observe))
        .with_state(app)
}

/// Says where the key material is. The server key is named because clients expect it to be, but clients have no use for it.
fn key_url(app: &LegacyApp, headers: &HeaderMap) -> Value {
    let base = app.keys.base_url(headers, &app.local);
    let entry = |id: &str, urls: &[String]| json!({ "data_id": id, "param_choice": 0, "signatures": [], "urls": urls });
    let (key, crs) = (app.services.keys.public_key().id, app.services.keys.crs().id);
    json!({
        "fhe_key_info": [{
            "fhe_public_key": entry(&key, &[format!("{base}/PublicKey/{key}")]),
            "fhe_server_key": entry(&key, &[]),
        }],
        "crs": { CRS_BITS: entry(&crs, &[format!("{base}/CRS/{crs}")]) },
        "verf_public_key": [],
    })
}

/// Verifies an input and answers with its handles and the signatures over them.
async fn verify_input(app: &LegacyApp, request: Request) -> Result<Json<Value>, Failure> {
    let (body, _memory) = read(app, request, MAX_INPUT_BODY_BYTES).await?;
    let input = input(&body, &app.services.keys.public_key().id, &app.services.keys.crs().id)?;
    drop(body);
    let admission = bounded(app, &app.inputs, || app.services.inputs.verify(input)).await?;
    let signed = match admission {
        LegacyAdmission::Admitted(signed) => signed,
        LegacyAdmission::Rejected { reason } => {
            tracing::info!(reason, "input rejected");
            return Err(Failure::new(
                StatusCode::BAD_REQUEST,
                "the proof of the input does not hold for this contract, user and chain",
            ));
        }
    };
    Ok(Json(success(&json!({
        "handles": signed.handles.iter().map(hex::encode).collect::<Vec<_>>(),
        "kms_signatures": signed.kms_signatures.iter().map(hex::encode).collect::<Vec<_>>(),
        "proof_of_storage": hex::encode(&signed.coprocessor_signature),
        "listener_type": "COPROCESSOR",
    }))))
}

/// Answers with a value, encrypted to the user's key.
async fn reencrypt_value(app: &LegacyApp, request: Request) -> Result<Json<Value>, Failure> {
    let (body, _memory) = read(app, request, MAX_REENCRYPTION_BODY_BYTES).await?;
    let request = reencryption(&body)?;
    let answers = bounded(app, &app.reencryptions, || app.services.reencryption.reencrypt(request)).await?;
    let answers: Value = answers
        .iter()
        .map(|answer| {
            json!({
                "payload": hex::encode(&answer.payload),
                "signature": hex::encode(&answer.signature),
                "ciphertext_digest": hex::encode(answer.ciphertext_digest),
            })
        })
        .collect();
    Ok(Json(success(&answers)))
}

/// Reads a body, after asking whether its sender may send one.
async fn read(app: &LegacyApp, request: Request, limit: usize) -> Result<(Vec<u8>, Grant), Failure> {
    let (parts, body) = request.into_parts();
    if let Some(ConnectInfo(peer)) = parts.extensions.get::<ConnectInfo<Peer>>() {
        let address: IpAddr = peer.address.ip();
        app.rate.admit(Payer::Address(address), (app.clock)()).map_err(|delay| {
            ServiceError::new(Label::RateLimited, "this client sends requests too fast; wait before the next one").retry_after(delay)
        })?;
    }
    let limits = BodyLimits {
        bytes: limit,
        timeout: app.config.body_timeout,
    };
    Ok(app.memory.read(&parts.headers, body, limits).await?)
}

/// Has a service do something, within the limits on number and time. The client waits; when it goes away, so does the request.
async fn bounded<T, F>(app: &LegacyApp, turns: &Semaphore, work: impl FnOnce() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, ServiceError>>,
{
    let work = async {
        let _turn = turns.acquire().await.map_err(|_| shutting_down())?;
        work().await
    };
    tokio::select! {
        biased;
        () = app.stop.cancelled() => Err(shutting_down().into()),
        answer = tokio::time::timeout(app.config.deadline, work) => Ok(answer.unwrap_or_else(|_| {
            Err(ServiceError::new(
                Label::ResponseTimedOut,
                format!("no answer within {} s; the same request can be made again", app.config.deadline.as_secs()),
            ))
        })?),
    }
}

fn shutting_down() -> ServiceError {
    ServiceError::new(Label::GatewayNotReachable, "the gateway is shutting down; make the request again")
}

fn success(response: &Value) -> Value {
    json!({ "status": "success", "response": response })
}

/// An answer to a request that failed.
#[derive(Debug)]
struct Failure {
    status: StatusCode,
    message: String,
    retry_after: Option<Duration>,
}

impl Failure {
    fn new(status: StatusCode, message: &str) -> Self {
        Self {
            status,
            message: message.to_owned(),
            retry_after: None,
        }
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        // Too many requests are nobody's defect, but the only other status that clients know is the one for requests that are wrong.
        let status = if error.label.status() == StatusCode::BAD_REQUEST || error.label.status() == StatusCode::NOT_FOUND {
            StatusCode::BAD_REQUEST
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        };
        Self {
            status,
            message: error.message,
            retry_after: error.retry_after,
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = json!({ "status": "failure", "response": self.message });
        let mut response = (self.status, Json(body)).into_response();
        if let Some(delay) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, retry_after_header(delay));
        }
        response
    }
}

/// Logs requests, and tells the connection that it is not idle.
async fn observe(request: Request, next: Next) -> Response {
    let peer = request
        .extensions()
        .get::<ConnectInfo<Peer>>()
        .map(|ConnectInfo(peer)| peer.clone());
    let _active = peer.as_ref().map(|peer| peer.activity.begin());
    let method = request.method().clone();
    let response = next.run(request).await;
    tracing::debug!(%method, status = response.status().as_u16(), "answered a client of the 0.6 generation");
    response
}

/// Lets pages of any origin use the gateway, as that generation's does: it holds nothing that a page's origin could unlock.
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods(AllowMethods::any())
        .allow_headers(AllowHeaders::any())
        .max_age(Duration::from_secs(86_400))
}
