//! The gateway of the 0.6 generation, for dApps on `fhevmjs` 0.6.
//!
//! A service of its own on a port of its own, because nothing is shared with clients of today but the machine: those clients read another key
//! material, know other handles and signatures, and ask contracts of their own chain. They wait for each answer in the request that asks for it.
//!
//! * [`LegacyServices`]: what it needs, as traits.
//! * [`LegacyGateway::start`]: serves until [`LegacyGatewayHandle::shutdown`].
//! * [`ROUTES`]: all routes; `docs/legacy-0.6.md` describes them.
//!
//! **Threats.** Anybody may ask. Bodies, connections, requests at a time and the time of each are limited as in the gateway of today; it holds no
//! secret, and what it says is signed by others. What it cannot prevent is that it withholds.
//!
//! Source: the 0.6 generation's interface, sections 5.1 and 6.1.

mod requests;
mod routes;
mod services;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use self::routes::LegacyApp;
pub use self::{
    routes::ROUTES,
    services::{LegacyAdmission, LegacyInput, LegacyInputs, LegacyReencryption, LegacyServices, ReencryptionResponse, SignedInput},
};
use crate::{
    body::BodyMemory,
    clock::{Clock as _, SystemClock},
    config::RateLimit,
    connection::{LimitedListener, Limits, Peer},
    error::GatewayError,
    keys::KeyFiles,
    metrics::Metrics,
    rate::RateLimiter,
    server::reachable,
};

/// How long tasks may take to notice that they were told to end.
const LAST_GRACE: Duration = Duration::from_secs(1);

/// Settings of a gateway of the 0.6 generation.
#[derive(Clone, Debug)]
pub struct LegacyConfig {
    /// Where to listen; port 0 takes a free port. That generation's port is 7077.
    pub bind: SocketAddr,
    /// The base URL that clients use, with which download URLs start. Without it the `Host` header of each request says it, with `http`.
    pub public_url: Option<String>,
    /// How many requests one client address may post; unlimited without it.
    pub rate_limit: Option<RateLimit>,
    /// The most input proofs given to the services at once; others wait.
    pub max_running_inputs: usize,
    /// The most reencryptions given to the services at once, those included that wait for a ciphertext to be computed; others wait.
    pub max_running_reencryptions: usize,
    /// How long a request may take, waiting included.
    pub deadline: Duration,
    /// The most connections open at once.
    pub max_connections: usize,
    /// How long a connection may wait for the next request; see [`crate::Config::idle_timeout`].
    pub idle_timeout: Duration,
    /// The most bytes of request bodies held at once.
    pub max_held_body_bytes: usize,
    /// How long the body of a request may take to arrive.
    pub body_timeout: Duration,
    /// How long a response may make no progress because the client does not read.
    pub write_timeout: Duration,
    /// How long running requests may take to finish at shutdown.
    pub shutdown_grace: Duration,
}

impl LegacyConfig {
    /// Returns the defaults, with this address.
    #[must_use]
    pub const fn new(bind: SocketAddr) -> Self {
        Self {
            bind,
            public_url: None,
            rate_limit: None,
            max_running_inputs: 4,
            max_running_reencryptions: 256,
            deadline: Duration::from_secs(600),
            max_connections: 1024,
            idle_timeout: Duration::from_secs(180),
            max_held_body_bytes: 64 << 20,
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(60),
            shutdown_grace: Duration::from_secs(5),
        }
    }
}

/// The HTTP service that `fhevmjs` talks to.
#[derive(Debug)]
pub struct LegacyGateway;

impl LegacyGateway {
    /// Starts serving.
    ///
    /// # Errors
    /// [`GatewayError`] if the address is taken, or the public URL or a key id is not usable.
    pub async fn start(config: LegacyConfig, services: LegacyServices) -> Result<LegacyGatewayHandle, GatewayError> {
        let keys = KeyFiles::new(Arc::clone(&services.keys), config.public_url.as_deref(), "http")?;
        let cannot_bind = |source| GatewayError::Bind {
            address: config.bind,
            source,
        };
        let listener = TcpListener::bind(config.bind).await.map_err(cannot_bind)?;
        let address = listener.local_addr().map_err(cannot_bind)?;
        let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
        let limits = Limits {
            connections: config.max_connections,
            idle: config.idle_timeout,
            write: config.write_timeout,
        };
        let listener = LimitedListener::new(listener, None, limits, abort.clone(), Arc::new(Metrics::default()));
        let local = reachable(address).to_string();
        let clock = SystemClock::start();
        let grace = config.shutdown_grace;
        let app = LegacyApp {
            services,
            keys,
            local: local.clone(),
            memory: BodyMemory::new(config.max_held_body_bytes),
            rate: RateLimiter::new(config.rate_limit, Vec::new()),
            clock: Box::new(move || clock.now()),
            inputs: Semaphore::new(config.max_running_inputs.max(1)),
            reencryptions: Semaphore::new(config.max_running_reencryptions.max(1)),
            stop: stop.clone(),
            config,
        };
        let service = routes::router(Arc::new(app)).into_make_service_with_connect_info::<Peer>();
        let serve = axum::serve(listener, service).with_graceful_shutdown(stop.clone().cancelled_owned());
        let server = tokio::spawn(async move {
            if let Err(error) = serve.await {
                tracing::error!(%error, "the gateway of the 0.6 generation stopped serving");
            }
        });
        tracing::info!(%address, "gateway of the 0.6 generation listening");
        Ok(LegacyGatewayHandle {
            url: format!("http://{local}"),
            stop,
            abort,
            server,
            grace,
        })
    }
}

/// A running gateway; dropping it stops it without waiting.
pub struct LegacyGatewayHandle {
    url: String,
    stop: CancellationToken,
    abort: CancellationToken,
    server: JoinHandle<()>,
    grace: Duration,
}

impl LegacyGatewayHandle {
    /// Returns the URL to reach the gateway from this machine, as `fhevmjs` takes it (`gatewayUrl`).
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops accepting connections, ends requests that wait for a service, and closes what is left after the configured time.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(self.grace, &mut self.server).await.is_err() {
            self.abort.cancel();
            if tokio::time::timeout(LAST_GRACE, &mut self.server).await.is_err() {
                tracing::warn!("connections did not end in time");
                self.server.abort();
            }
        }
    }
}

impl Drop for LegacyGatewayHandle {
    fn drop(&mut self) {
        self.stop.cancel();
        self.abort.cancel();
    }
}
