//! Starting and stopping an executor.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cipherloom_engine::EnginePool;
use cipherloom_fhe::FheBackend;
use cipherloom_rpc::{
    FILE_DESCRIPTOR_SET,
    cipherloom::executor::v1::executor_server::{self, ExecutorServer},
    fhevm::executor::fhevm_executor_server::{self, FhevmExecutorServer},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::transport::{
    Server,
    server::{Router, TcpIncoming},
};
use tonic_health::server::HealthReporter;

use crate::{
    admission::{Admission, Admitting},
    config::ExecutorConfig,
    error::ExecutorError,
    job::Workshop,
    service::Service,
};

/// How long a connection may say nothing before it is asked whether it is still there, and how long it has for its answer.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// How long connections have to say goodbye once all requests are answered.
const GOODBYE: Duration = Duration::from_millis(500);
/// How much of a body may be on its way before the client waits for room.
const WINDOW_BYTES: u32 = 4 << 20;
/// How many calls one connection may have open.
const MAX_STREAMS: u32 = 64;

/// Native mode's evaluation service. It keeps nothing between requests, so that any number of executors can stand behind one address.
#[derive(Debug)]
pub struct Executor;

impl Executor {
    /// Starts serving on the backend of a key set.
    ///
    /// # Errors
    /// [`ExecutorError::Bind`] if the address is taken, [`ExecutorError::Engine`] if the backend or the machine does not allow it.
    pub async fn start(config: ExecutorConfig, backend: Arc<dyn FheBackend>) -> Result<ExecutorHandle, ExecutorError> {
        let config = ExecutorConfig {
            limits: config.limits.within_engine(),
            ..config
        };
        let cannot_bind = |source| ExecutorError::Bind {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(cannot_bind)?;
        let address = listener.local_addr().map_err(cannot_bind)?;
        let pool = EnginePool::start(Arc::clone(&backend), config.engine.clone())?;
        let workshop = Arc::new(Workshop { backend, pool, config });
        let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
        let admission = Admission::new(workshop.config.limits.requests, workshop.config.request_timeout);
        let (router, health) = routes(&workshop, &admission, &abort).await?;
        let stopping = stop.clone().cancelled_owned();
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let server = tokio::spawn(router.serve_with_incoming_shutdown(incoming, stopping));
        tracing::info!(%address, policy = workshop.pool.engine().policy.name(), "executor listening");
        Ok(ExecutorHandle {
            address,
            drain_timeout: workshop.config.drain_timeout,
            workshop,
            admission,
            health,
            stop,
            abort,
            server,
        })
    }
}

async fn routes(
    workshop: &Arc<Workshop>,
    admission: &Admission,
    abort: &CancellationToken,
) -> Result<(Router, HealthReporter), ExecutorError> {
    let config = &workshop.config;
    let limits = config.limits;
    let service = Service::new(Arc::clone(workshop), abort.clone());
    let fhevm = FhevmExecutorServer::new(service.clone())
        .max_decoding_message_size(limits.request_bytes)
        .max_encoding_message_size(limits.response_bytes);
    let own = ExecutorServer::new(service)
        .max_decoding_message_size(limits.request_bytes)
        .max_encoding_message_size(limits.response_bytes);
    let reflection = || {
        let services = [
            fhevm_executor_server::SERVICE_NAME,
            executor_server::SERVICE_NAME,
            "grpc.health.v1.Health",
        ];
        services
            .into_iter()
            .fold(tonic_reflection::server::Builder::configure(), |builder, name| {
                builder.with_service_name(name)
            })
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let (health, health_service) = tonic_health::server::health_reporter();
    set_health(&health, true).await;
    let router = Server::builder()
        // After the deadline that requests are admitted with: that one says what has passed, this one ends what does not heed it.
        .timeout(config.request_timeout.saturating_add(GOODBYE))
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_service(Admitting {
            admission: admission.clone(),
            service: fhevm,
        })
        .add_service(Admitting {
            admission: admission.clone(),
            service: own,
        })
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    Ok((router, health))
}

async fn set_health(health: &HealthReporter, serving: bool) {
    let status = if serving {
        tonic_health::ServingStatus::Serving
    } else {
        tonic_health::ServingStatus::NotServing
    };
    for service in ["", fhevm_executor_server::SERVICE_NAME, executor_server::SERVICE_NAME] {
        health.set_service_status(service, status).await;
    }
}

/// A running executor; dropping it stops it without waiting.
pub struct ExecutorHandle {
    address: SocketAddr,
    workshop: Arc<Workshop>,
    admission: Admission,
    health: HealthReporter,
    stop: CancellationToken,
    abort: CancellationToken,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    drain_timeout: Duration,
}

impl ExecutorHandle {
    /// Returns the address the executor listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns what the engine did and has to do.
    #[must_use]
    pub fn statistics(&self) -> cipherloom_engine::PoolStatistics {
        self.workshop.pool.statistics()
    }

    /// Reports that it does not serve any more, takes no new connections and requests, lets requests finish for the configured time and then ends
    /// what is left.
    ///
    /// # Errors
    /// [`ExecutorError::Server`] if the server had stopped by itself.
    pub async fn shutdown(mut self) -> Result<(), ExecutorError> {
        set_health(&self.health, false).await;
        self.stop.cancel();
        let answered = async {
            self.admission.close().await;
            // A client that does not listen any more need not be waited for.
            tokio::time::sleep(GOODBYE).await;
        };
        tokio::select! {
            ended = &mut self.server => return over(ended),
            () = answered => {}
            () = tokio::time::sleep(self.drain_timeout) => tracing::warn!("requests did not finish in time and were ended"),
        }
        self.abort.cancel();
        let ended = tokio::time::timeout(GOODBYE, &mut self.server).await;
        self.server.abort();
        ended.map_or(Ok(()), over)
    }
}

/// Says how a server ended; one that was lost has nothing to say.
fn over(ended: Result<Result<(), tonic::transport::Error>, tokio::task::JoinError>) -> Result<(), ExecutorError> {
    ended.unwrap_or(Ok(())).map_err(ExecutorError::from)
}

impl Drop for ExecutorHandle {
    fn drop(&mut self) {
        self.stop.cancel();
        self.abort.cancel();
    }
}

impl std::fmt::Debug for ExecutorHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExecutorHandle")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
