//! Every route and what it does.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{ConnectInfo, Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use serde_json::json;
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, CorsLayer},
    set_header::SetResponseHeaderLayer,
};
use uuid::Uuid;

use crate::{
    access::Access,
    answers,
    body::{BodyLimits, BodyMemory},
    config::{Config, MoreMetrics},
    connection::Peer,
    desk::{Accepted, Desk, Standing},
    error::{Label, Refusal, retry_after_header},
    keys::{KeyFiles, KeyKind},
    metrics::Metrics,
    requests::{GatewayRequest, OperationKind},
    services::{FieldIssue, ServiceError},
};

/// The OpenAPI description of [`ROUTES`], as served under `/openapi.json`.
pub const OPENAPI: &str = include_str!("../../../docs/openapi-gateway.json");

/// How long clients are asked to wait between polls: the shortest time that SDKs accept.
const POLL_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// A route: a method and a path with `{parameters}`.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// `GET` or `POST`; every `GET` also answers `HEAD`.
    pub method: &'static str,
    /// The path, in the syntax that axum and OpenAPI share.
    pub path: &'static str,
    endpoint: Endpoint,
}

#[derive(Clone, Copy, Debug)]
enum Endpoint {
    Submit(OperationKind),
    Poll(OperationKind),
    Answer(OperationKind),
    KeyUrl1,
    KeyUrl2,
    Download(KeyKind),
    Liveness,
    Health,
    Version,
    Metrics,
    OpenApi,
}

const fn route(method: &'static str, path: &'static str, endpoint: Endpoint) -> Route {
    Route { method, path, endpoint }
}

/// All routes.
pub const ROUTES: [Route; 23] = [
    route("POST", "/v2/input-proof", Endpoint::Submit(OperationKind::InputProof)),
    route("GET", "/v2/input-proof/{jobId}", Endpoint::Poll(OperationKind::InputProof)),
    route("POST", "/v2/public-decrypt", Endpoint::Submit(OperationKind::PublicDecrypt)),
    route("GET", "/v2/public-decrypt/{jobId}", Endpoint::Poll(OperationKind::PublicDecrypt)),
    route("POST", "/v2/user-decrypt", Endpoint::Submit(OperationKind::UserDecrypt)),
    route("GET", "/v2/user-decrypt/{jobId}", Endpoint::Poll(OperationKind::UserDecrypt)),
    route(
        "POST",
        "/v2/delegated-user-decrypt",
        Endpoint::Submit(OperationKind::DelegatedUserDecrypt),
    ),
    route(
        "GET",
        "/v2/delegated-user-decrypt/{jobId}",
        Endpoint::Poll(OperationKind::DelegatedUserDecrypt),
    ),
    route("POST", "/v3/user-decrypt", Endpoint::Submit(OperationKind::UnifiedUserDecrypt)),
    route("GET", "/v3/user-decrypt/{jobId}", Endpoint::Poll(OperationKind::UnifiedUserDecrypt)),
    route("GET", "/v2/keyurl", Endpoint::KeyUrl2),
    route("GET", "/v2/keys/public-key/{keyId}", Endpoint::Download(KeyKind::PublicKey)),
    route("GET", "/v2/keys/crs/{keyId}", Endpoint::Download(KeyKind::Crs)),
    route("POST", "/v1/input-proof", Endpoint::Answer(OperationKind::InputProof)),
    route("POST", "/v1/public-decrypt", Endpoint::Answer(OperationKind::PublicDecrypt)),
    route("POST", "/v1/user-decrypt", Endpoint::Answer(OperationKind::UserDecrypt)),
    route("GET", "/v1/keyurl", Endpoint::KeyUrl1),
    route("GET", "/liveness", Endpoint::Liveness),
    route("GET", "/healthz", Endpoint::Health),
    route("GET", "/version", Endpoint::Version),
    route("GET", "/metrics", Endpoint::Metrics),
    route("GET", "/openapi.json", Endpoint::OpenApi),
    route("GET", "/", Endpoint::Version),
];

/// What the handlers share.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) desk: Arc<Desk>,
    pub(crate) keys: KeyFiles,
    pub(crate) memory: BodyMemory,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) access: Access,
    /// The address we listen on, for clients that do not say how they reached us.
    pub(crate) local: String,
}

type Shared = State<Arc<App>>;
type JobId = Result<Path<String>, PathRejection>;

/// Builds the router with everything around it.
pub(crate) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let named = middleware::map_response(move |mut response: Response| async move {
            response.extensions_mut().insert(RoutePath(route.path));
            response
        });
        router = router.route(route.path, handler(route.endpoint).layer(named));
    }
    let metrics = Arc::clone(&app.metrics);
    let catch_panic = CatchPanicLayer::custom(move |_| {
        // The panic hook has logged it.
        metrics.panicked();
        Refusal::new(
            Uuid::new_v4(),
            ServiceError::new(Label::InternalServerError, "the gateway failed unexpectedly"),
        )
        .into_response()
    });
    router
        .fallback(async || Refusal::new(Uuid::new_v4(), ServiceError::new(Label::NotFound, "there is no such route")))
        .method_not_allowed_fallback(async || {
            let error = ServiceError::new(Label::RequestError, "this route does not know this method");
            Refusal::new(Uuid::new_v4(), error).with_status(StatusCode::METHOD_NOT_ALLOWED)
        })
        .layer(SetResponseHeaderLayer::if_not_present(
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        ))
        .layer(catch_panic)
        .layer(cors())
        .layer(middleware::from_fn_with_state(Arc::clone(&app), observe))
        .with_state(app)
}

fn handler(endpoint: Endpoint) -> MethodRouter<Arc<App>> {
    match endpoint {
        Endpoint::Submit(kind) => post(async move |State(app): Shared, request: Request| submit(app, kind, request).await),
        Endpoint::Poll(kind) => get(async move |State(app): Shared, job: JobId, headers: HeaderMap| poll(&app, kind, job, &headers).await),
        Endpoint::Answer(kind) => post(async move |State(app): Shared, request: Request| answer(app, kind, request).await),
        Endpoint::KeyUrl1 => get(async |State(app): Shared, headers: HeaderMap| Json(app.keys.version_1(&headers, &app.local))),
        Endpoint::KeyUrl2 => get(async |State(app): Shared, headers: HeaderMap| Json(app.keys.version_2(&headers, &app.local))),
        Endpoint::Download(kind) => get(async move |State(app): Shared, id: JobId, headers: HeaderMap| {
            let response = id.ok().and_then(|Path(id)| app.keys.download(kind, &id, &headers));
            response.ok_or_else(|| {
                Refusal::new(
                    Uuid::new_v4(),
                    ServiceError::new(Label::NotFound, "this is not the id of a current key file; see keyurl"),
                )
            })
        }),
        Endpoint::Liveness => get(async || Json(json!({ "status": "alive" }))),
        Endpoint::Health => get(async |State(app): Shared| {
            let jobs = app.desk.counts();
            Json(json!({ "status": "healthy", "jobs": { "unfinished": jobs.unfinished, "finished": jobs.finished } }))
        }),
        Endpoint::Version => get(async |State(app): Shared| {
            Json(json!({
                "name": env!("CARGO_PKG_NAME"),
                "version": env!("CARGO_PKG_VERSION"),
                "chainId": app.config.host_chain_ids.first(),
                "chainIds": app.config.host_chain_ids,
                "apiVersions": ["v1", "v2", "v3"],
            }))
        }),
        Endpoint::Metrics => get(async |State(app): Shared| {
            let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
            let more = app.config.more_metrics.as_ref().map(MoreMetrics::render).unwrap_or_default();
            (content_type, app.metrics.render(app.desk.counts()) + &more)
        }),
        Endpoint::OpenApi => get(async || ([(header::CONTENT_TYPE, "application/json")], OPENAPI)),
    }
}

/// Takes a request and answers with its job.
async fn submit(app: Arc<App>, kind: OperationKind, request: Request) -> Result<Response, Refusal> {
    let request_id = Uuid::new_v4();
    let job = accept(&app, kind, request).await.map_err(|error| Refusal::new(request_id, error))?;
    Ok(in_progress(answers::accepted(request_id, job.id())))
}

/// Answers how a job stands.
async fn poll(app: &App, kind: OperationKind, id: JobId, headers: &HeaderMap) -> Result<Response, Refusal> {
    let request_id = Uuid::new_v4();
    let refuse = |error| Refusal::of_job(request_id, error);
    app.access.poll(headers).map_err(refuse)?;
    let id = id.ok().and_then(|Path(id)| id.parse::<Uuid>().ok()).ok_or_else(|| {
        refuse(ServiceError::invalid(vec![FieldIssue::new(
            "jobId",
            "must be the id of a job as the submission returned it",
        )]))
    })?;
    let standing = app.desk.standing(kind, id).await.ok_or_else(|| {
        refuse(ServiceError::new(
            Label::NotFound,
            "there is no such job; jobs are forgotten some time after they end: make the request again",
        ))
    })?;
    match standing {
        Standing::Unfinished(waiting) => Ok(in_progress(answers::queued(request_id, &waiting))),
        Standing::Ended(outcome) => match outcome.as_ref() {
            Ok(answer) => Ok(Json(answers::succeeded(request_id, answer)).into_response()),
            Err(error) => Err(refuse(error.clone())),
        },
    }
}

/// Takes a request and answers with its result, as version 1 does.
async fn answer(app: Arc<App>, kind: OperationKind, request: Request) -> Result<Response, Refusal> {
    let request_id = Uuid::new_v4();
    let refuse = |error| Refusal::new(request_id, error);
    let job = accept(&app, kind, request).await.map_err(refuse)?;
    let outcome = app.desk.outcome(kind, job).await.map_err(refuse)?;
    let answer = outcome.as_ref().as_ref().map_err(|error| refuse(error.clone()))?;
    answers::version_1(answer).map(|body| Json(body).into_response()).map_err(refuse)
}

async fn accept(app: &Arc<App>, kind: OperationKind, request: Request) -> Result<Accepted, ServiceError> {
    let (parts, body) = request.into_parts();
    let peer = parts
        .extensions
        .get::<ConnectInfo<Peer>>()
        .map(|ConnectInfo(peer)| peer.address.ip());
    app.access.post(kind.into(), &parts.headers, peer)?;
    let limits = BodyLimits {
        bytes: kind.max_body_bytes(),
        timeout: app.config.body_timeout,
    };
    let (bytes, grant) = app.memory.read(&parts.headers, body, limits).await?;
    let request = GatewayRequest::parse(kind, &bytes, &app.config.host_chain_ids)?;
    app.desk.submit(kind, request, grant).await
}

fn in_progress(body: serde_json::Value) -> Response {
    (
        StatusCode::ACCEPTED,
        [(header::RETRY_AFTER, retry_after_header(POLL_INTERVAL))],
        Json(body),
    )
        .into_response()
}

/// The route that answered, noted on its responses.
#[derive(Clone, Copy, Debug)]
struct RoutePath(&'static str);

/// Counts and logs requests, and tells the connection that it is not idle.
async fn observe(State(app): Shared, request: Request, next: Next) -> Response {
    let peer = request
        .extensions()
        .get::<ConnectInfo<Peer>>()
        .map(|ConnectInfo(peer)| peer.clone());
    let _active = peer.as_ref().map(|peer| peer.activity.begin());
    let method = request.method().clone();
    let mut response = next.run(request).await;
    let route = response
        .extensions_mut()
        .remove::<RoutePath>()
        .map_or("other", |RoutePath(path)| path);
    app.metrics.answered(route, response.status());
    tracing::debug!(%method, route, status = response.status().as_u16(), "answered");
    response
}

/// Lets pages of any origin use the gateway: it holds nothing that a page's origin could unlock.
///
/// One SDK asks with credentials, which browsers allow only if the answer names the origin and says so. That gives pages no power: the
/// gateway reads no cookies, sets none, and takes keys from headers alone, which a page has to know.
fn cors() -> CorsLayer {
    const HEADERS: [&str; 10] = [
        "zama-sdk-name",
        "zama-sdk-version",
        "content-type",
        "authorization",
        "x-api-key",
        "x-csrf-token",
        "accept",
        "if-none-match",
        "if-range",
        "range",
    ];
    CorsLayer::new()
        .allow_origin(AllowOrigin::mirror_request())
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::OPTIONS])
        .allow_headers(HEADERS.map(HeaderName::from_static))
        .expose_headers([
            header::RETRY_AFTER,
            header::ETAG,
            header::CONTENT_LENGTH,
            header::CONTENT_RANGE,
            header::ACCEPT_RANGES,
        ])
        .max_age(std::time::Duration::from_secs(86_400))
}
