//! `/metrics` and `/health` over HTTP, for Prometheus and for whatever restarts processes and sends them traffic.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | all metrics in Prometheus' text format |
//! | `/health`, `/health/live` | 200 while the process works; 503 means that only a restart helps |
//! | `/health/ready` | 200 while it should get work; 503 means wait, or look at what it needs |
//!
//! Health is `OK` or a line per failed check; with `?verbose`, or if `application/json` is accepted, a JSON object tells every check. What readiness
//! depends on is asked at most once a second, however many ask here.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Mutex, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::TelemetryError;

/// How long the answers about readiness are taken for true.
const READY_FOR: Duration = Duration::from_secs(1);

/// How long the checks of readiness may take.
const READY_LIMIT: Duration = Duration::from_secs(5);

/// Something that has to be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What, in one word.
    pub name: &'static str,
    /// Whether it is so.
    pub passed: bool,
    /// How it is, or why not; without secrets, because anybody who reaches the address can read it.
    pub detail: String,
}

impl Check {
    /// What is so.
    #[must_use]
    pub fn passed(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            passed: true,
            detail: detail.into(),
        }
    }

    /// What is not so, and why.
    #[must_use]
    pub fn failed(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            passed: false,
            detail: detail.into(),
        }
    }
}

/// Checks, in the order in which they are told.
pub type Checks = Vec<Check>;

/// How a process is.
pub trait Health: Send + Sync + 'static {
    /// Whether it works at all. Must not wait for anything outside of the process: if that is down, a restart does not help.
    fn live(&self) -> Checks;

    /// Whether it should get work, apart from being alive.
    fn ready(&self) -> BoxFuture<'_, Checks>;
}

/// Where metrics come from.
#[derive(Clone)]
pub struct Metrics {
    /// The content type of what `read` returns.
    pub content_type: &'static str,
    /// Writes them.
    pub read: Arc<dyn Fn() -> Vec<u8> + Send + Sync>,
}

struct Process {
    metrics: Metrics,
    health: Arc<dyn Health>,
    /// The last answers about readiness. Held while they are found, so that everybody who asks meanwhile gets the same.
    ready: Mutex<Option<(Instant, Checks)>>,
}

/// Serves metrics and health until it is shut down.
#[derive(Debug)]
pub struct MonitoringServer {
    address: SocketAddr,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

impl MonitoringServer {
    /// Begins to serve; port 0 picks a free one.
    ///
    /// # Errors
    /// [`TelemetryError::Listen`] if the address is taken or not ours.
    pub async fn start(address: SocketAddr, metrics: Metrics, health: Arc<dyn Health>) -> Result<Self, TelemetryError> {
        let failed = |source| TelemetryError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let process = Arc::new(Process {
            metrics,
            health,
            ready: Mutex::new(None),
        });
        let router = Router::new()
            .route("/metrics", get(answer_metrics))
            .route("/health", get(answer_health))
            .route("/health/live", get(answer_live))
            .route("/health/ready", get(answer_ready))
            .with_state(process);
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
                tracing::error!(%error, "metrics and health are served no more");
            }
        });
        Ok(Self { address, stop, server })
    }

    /// Returns where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it. Connections that are kept open do not hold it up.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(READY_FOR, &mut self.server).await.is_err() {
            self.server.abort();
        }
    }
}

async fn answer_metrics(State(process): State<Arc<Process>>) -> Response {
    let Metrics { content_type, read } = process.metrics.clone();
    ([(header::CONTENT_TYPE, content_type)], read()).into_response()
}

async fn answer_live(State(process): State<Arc<Process>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let checks = process.health.live();
    answer(passed(&checks), &checks, wants_details(query.as_deref(), &headers), json!({}))
}

async fn answer_ready(State(process): State<Arc<Process>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let mut checks = process.health.live();
    checks.extend(process.ready().await);
    answer(passed(&checks), &checks, wants_details(query.as_deref(), &headers), json!({}))
}

/// Answers as the 0.6 generation does, by what is alive. Details tell of readiness too.
async fn answer_health(State(process): State<Arc<Process>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let mut checks = process.health.live();
    let live = passed(&checks);
    if !wants_details(query.as_deref(), &headers) {
        return answer(live, &checks, false, json!({}));
    }
    checks.extend(process.ready().await);
    let ready = passed(&checks);
    answer(live, &checks, true, json!({ "live": live, "ready": ready }))
}

impl Process {
    async fn ready(&self) -> Checks {
        let mut last = self.ready.lock().await;
        if let Some((when, checks)) = last.as_ref()
            && when.elapsed() < READY_FOR
        {
            return checks.clone();
        }
        let checks = tokio::time::timeout(READY_LIMIT, self.health.ready())
            .await
            .unwrap_or_else(|_| vec![Check::failed("checks", format!("not finished within {} s", READY_LIMIT.as_secs()))]);
        *last = Some((Instant::now(), checks.clone()));
        checks
    }
}

fn passed(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.passed)
}

fn wants_details(query: Option<&str>, headers: &HeaderMap) -> bool {
    let verbose = |pair: &str| matches!(pair, "verbose" | "verbose=" | "verbose=1" | "verbose=true");
    let accepted = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    query.is_some_and(|query| query.split('&').any(verbose)) || accepted.contains("application/json")
}

fn answer(passed: bool, checks: &[Check], details: bool, mut more: Value) -> Response {
    let status = if passed { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if details {
        let checks: Vec<Value> = checks
            .iter()
            .map(|check| json!({ "name": check.name, "passed": check.passed, "detail": check.detail }))
            .collect();
        if let Some(fields) = more.as_object_mut() {
            fields.insert("status".to_owned(), json!(if passed { "ok" } else { "failing" }));
            fields.insert("checks".to_owned(), checks.into());
        }
        return (status, Json(more)).into_response();
    }
    if passed {
        return (status, "OK").into_response();
    }
    let failures: Vec<String> = checks
        .iter()
        .filter(|check| !check.passed)
        .map(|check| format!("{}: {}\n", check.name, check.detail))
        .collect();
    (status, failures.concat()).into_response()
}
