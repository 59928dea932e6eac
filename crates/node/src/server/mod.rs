//! JSON-RPC over HTTP and WebSocket on one port.
//!
//! `POST /` takes a request or batch, `GET /` upgrades to a WebSocket. Execution runs on blocking
//! threads, bounded in number; a request that takes too long gets an error while its thread, whose
//! work is bounded by the gas limit, finishes on its own.

mod dev;
mod interval;
mod socket;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::CorsLayer;
use tower_http::timeout::TimeoutLayer;

pub use self::dev::DevChainHandle;
use crate::chain::Chain;
use crate::error::{NodeError, Result};
use crate::rpc::{Methods, anonymous_error, answer};

/// How long open connections may take to finish at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// What every connection shares.
struct Shared {
    methods: Arc<dyn Methods>,
    /// One permit per request that executes.
    requests: Arc<Semaphore>,
    /// One permit per WebSocket connection.
    sockets: Arc<Semaphore>,
    /// WebSocket connections and other tasks, awaited at shutdown.
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A running server. Dropping it stops it without waiting.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    tasks: TaskTracker,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

impl Server {
    /// Answers the methods of a chain at `listen`.
    ///
    /// # Errors
    ///
    /// [`NodeError::Listen`] if the address is not available.
    pub(crate) async fn start(methods: Arc<dyn Methods>, listen: SocketAddr) -> Result<Self> {
        let cannot = |source| NodeError::Listen {
            address: listen.to_string(),
            source,
        };
        let listener = TcpListener::bind(listen).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let limits = methods.chain().limits().clone();
        let body_limit = Duration::from_millis(limits.request_timeout_ms.saturating_mul(2).saturating_add(1000));
        let shared = Arc::new(Shared {
            methods,
            requests: Arc::new(Semaphore::new(limits.concurrent_requests)),
            sockets: Arc::new(Semaphore::new(limits.websocket_connections)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        let (tasks, stop) = (shared.tasks.clone(), shared.stop.clone());
        let app = Router::new()
            .route("/", post(answer_http).get(open_socket))
            .layer(DefaultBodyLimit::max(limits.request_size_bytes))
            .layer(CatchPanicLayer::new())
            // For bodies that trickle in; the work itself has its own, shorter limit and a JSON answer.
            .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, body_limit))
            // Pages of dApps come from anywhere; what is behind this is public.
            .layer(CorsLayer::permissive().allow_private_network(true))
            .with_state(shared);
        let stopped = stop.clone().cancelled_owned();
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).with_graceful_shutdown(stopped).await {
                tracing::error!(%error, "the chain's server failed");
            }
        });
        // Everyone's address is nobody's to connect to; from here, the loopback one is meant.
        let address = match address {
            SocketAddr::V4(v4) if v4.ip().is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, v4.port())),
            SocketAddr::V6(v6) if v6.ip().is_unspecified() => SocketAddr::from((Ipv6Addr::LOCALHOST, v6.port())),
            specific => specific,
        };
        Ok(Self {
            address,
            tasks,
            stop,
            server,
        })
    }

    /// The address to connect to: the listening one, with loopback for an unspecified one.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tasks that [`Self::shutdown`] waits for.
    fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Cancelled when the server stops.
    fn stopped(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Stops and waits up to two seconds for open connections to end.
    pub(crate) async fn shutdown(&mut self) {
        self.stop.cancel();
        self.tasks.close();
        let ended = async {
            // A panic of the server task has been logged by the runtime; nothing is left to do.
            let _ = (&mut self.server).await;
            self.tasks.wait().await;
        };
        if tokio::time::timeout(SHUTDOWN_GRACE, ended).await.is_err() {
            tracing::debug!("some connections did not end in time and are cut");
            self.server.abort();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Shared {
    fn chain(&self) -> &Chain {
        self.methods.chain()
    }

    /// Runs `work` on a blocking thread within the limits on number and time.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&dyn Methods) -> T + Send + 'static) -> Result<T> {
        let limit = Duration::from_millis(self.chain().limits().request_timeout_ms);
        let methods = Arc::clone(&self.methods);
        let requests = Arc::clone(&self.requests);
        let run = async {
            let permit = requests
                .acquire_owned()
                .await
                .map_err(|error| NodeError::Internal(error.to_string()))?;
            tokio::task::spawn_blocking(move || {
                // Held until the work is really over, even if nobody waits for it any more.
                let _permit = permit;
                work(&*methods)
            })
            .await
            .map_err(|error| NodeError::Internal(error.to_string()))
        };
        tokio::time::timeout(limit, run).await.map_err(|_| NodeError::TimedOut)?
    }
}

async fn answer_http(State(shared): State<Arc<Shared>>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => {
            let error = NodeError::LimitExceeded(format!("request body: {}", rejection.body_text()));
            return json_response(rejection.status(), anonymous_error(&error));
        }
    };
    match shared.run(move |methods| answer(methods, &body, &mut |_| None)).await {
        Ok(Some(response)) => json_response(StatusCode::OK, response),
        Ok(None) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => json_response(StatusCode::OK, anonymous_error(&error)),
    }
}

fn json_response(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn open_socket(State(shared): State<Arc<Shared>>, upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>) -> Response {
    let Ok(upgrade) = upgrade else {
        return (StatusCode::UPGRADE_REQUIRED, "POST JSON-RPC requests here, or open a WebSocket\n").into_response();
    };
    let Ok(permit) = Arc::clone(&shared.sockets).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many WebSocket connections\n").into_response();
    };
    let limit = shared.chain().limits().request_size_bytes;
    upgrade.max_message_size(limit).max_frame_size(limit).on_upgrade(move |socket| {
        let tasks = shared.tasks.clone();
        tasks.track_future(async move {
            socket::serve(socket, &shared).await;
            drop(permit);
        })
    })
}
