//! Starting and stopping a gateway.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    access::Access,
    body::BodyMemory,
    clock::{Clock, SystemClock},
    config::Config,
    connection::{LimitedListener, Limits, Peer},
    desk::Desk,
    error::GatewayError,
    keys::KeyFiles,
    ledger,
    metrics::Metrics,
    routes::{self, App},
    services::Services,
    tls::Certificates,
};

/// How long tasks may take to notice that they were told to end.
const LAST_GRACE: Duration = Duration::from_secs(1);

/// The HTTP service that SDKs talk to.
#[derive(Debug)]
pub struct Gateway;

impl Gateway {
    /// Starts serving.
    ///
    /// # Errors
    /// [`GatewayError`] if the address is taken, the database of jobs does not answer, or the public URL, a key id, the clients or the certificate are
    /// not usable.
    pub async fn start(config: Config, services: Services) -> Result<GatewayHandle, GatewayError> {
        Self::start_with_clock(config, services, Arc::new(SystemClock::start())).await
    }

    /// Starts serving; the clock decides when finished jobs are forgotten and how fast clients may post.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with_clock(config: Config, services: Services, clock: Arc<dyn Clock>) -> Result<GatewayHandle, GatewayError> {
        let metrics = Arc::new(Metrics::default());
        let access = Access::new(&config, Arc::clone(&clock), Arc::clone(&metrics))?;
        if let Some(jobs) = &services.jobs {
            ledger::check(jobs.as_ref()).await?;
        }
        let tls = config.tls.clone();
        let certificates = tls.map(|files| Certificates::load(files, Arc::clone(&metrics))).transpose()?;
        let scheme = if certificates.is_some() { "https" } else { "http" };
        let keys = KeyFiles::new(Arc::clone(&services.keys), config.public_url.as_deref(), scheme)?;
        let cannot_bind = |source| GatewayError::Bind {
            address: config.bind,
            source,
        };
        let listener = TcpListener::bind(config.bind).await.map_err(cannot_bind)?;
        let address = listener.local_addr().map_err(cannot_bind)?;
        let local = reachable(address).to_string();
        let grace = config.shutdown_grace;

        let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
        let limits = Limits {
            connections: config.max_connections,
            idle: config.idle_timeout,
            write: config.write_timeout,
        };
        let listener = LimitedListener::new(listener, certificates.clone(), limits, abort.clone(), Arc::clone(&metrics));
        if let Some(certificates) = certificates {
            tokio::spawn(certificates.keep(stop.clone()));
        }
        let memory = BodyMemory::new(config.max_held_body_bytes);
        let desk = Desk::open(
            services,
            config.jobs,
            Arc::clone(&clock),
            Arc::clone(&metrics),
            memory.clone(),
            stop.clone(),
        );
        let app = Arc::new(App {
            desk: Arc::clone(&desk),
            keys,
            memory,
            metrics: Arc::clone(&metrics),
            access,
            local: local.clone(),
            config,
        });
        let service = routes::router(app).into_make_service_with_connect_info::<Peer>();
        let serve = axum::serve(listener, service).with_graceful_shutdown(stop.clone().cancelled_owned());
        let server = tokio::spawn(async move {
            if let Err(error) = serve.await {
                tracing::error!(%error, "the gateway stopped serving");
            }
        });
        tracing::info!(%address, scheme, "gateway listening");
        Ok(GatewayHandle {
            address,
            url: format!("{scheme}://{local}"),
            stop,
            abort,
            server,
            desk,
            metrics,
            grace,
        })
    }
}

/// A running gateway; dropping it stops it without waiting.
pub struct GatewayHandle {
    address: SocketAddr,
    url: String,
    stop: CancellationToken,
    abort: CancellationToken,
    server: JoinHandle<()>,
    desk: Arc<Desk>,
    metrics: Arc<Metrics>,
    grace: Duration,
}

impl GatewayHandle {
    /// Returns the URL to reach the gateway from this machine, without a version: SDKs add `/v2` or are given it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the address the gateway listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns what writes the gateway's metrics in Prometheus' text format, for as long as anybody asks.
    pub fn metrics(&self) -> impl Fn() -> Vec<u8> + Send + Sync + 'static {
        let (metrics, desk) = (Arc::clone(&self.metrics), Arc::clone(&self.desk));
        move || metrics.render(desk.counts()).into_bytes()
    }

    /// Returns a token whose cancellation starts the shutdown; [`Self::shutdown`] then waits for its end.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Stops accepting connections, ends all jobs, lets responses finish for the configured time and then closes what is left.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        self.desk.drain().await;
        if tokio::time::timeout(self.grace, &mut self.server).await.is_err() {
            self.abort.cancel();
            if tokio::time::timeout(LAST_GRACE, &mut self.server).await.is_err() {
                tracing::warn!("connections did not end in time");
                self.server.abort();
            }
        }
    }
}

impl Drop for GatewayHandle {
    fn drop(&mut self) {
        self.stop.cancel();
        self.abort.cancel();
    }
}

/// Returns an address that reaches a listener on this machine, which one for all interfaces does not name.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_on_all_interfaces_are_reached_through_the_loopback() {
        assert_eq!(reachable("0.0.0.0:80".parse().unwrap()), "127.0.0.1:80".parse().unwrap());
        assert_eq!(reachable("[::]:80".parse().unwrap()), "[::1]:80".parse().unwrap());
        assert_eq!(reachable("10.0.0.1:80".parse().unwrap()), "10.0.0.1:80".parse().unwrap());
    }
}
