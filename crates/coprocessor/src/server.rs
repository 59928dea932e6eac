//! The gRPC server of a coprocessor: `fhevm.coprocessor.FhevmCoprocessor` of the 0.6 generation, and `cipherloom.coprocessor.v1.Coprocessor` for the
//! gateways and KMS nodes of today.
//!
//! **Roles.** A node sends the computations that its chain asks for (`AsyncCompute`) and public values (`TrivialEncryptCiphertexts`), a gateway the
//! encrypted inputs of users (`UploadInputs`), and both fetch ciphertexts (`GetCiphertexts`). Each names its tenant by an API key. Handles and
//! signatures are those of that generation, whatever a tenant's chain has otherwise; `parts` has what gateways and KMS nodes of today ask.
//!
//! A request goes through these steps:
//!
//! 1. `incoming`, `admission`, `authentication`: is there room for it, and who asks? Decided before its body is read.
//! 2. The message is decoded, with limits on its parts ([`cipherloom_rpc::codec`]), and its size compared with what the operator allows.
//! 3. `schedule` and `plan`, `inputs`, `serve`, `trivial`: one module per call.
//!
//! **Failures.** A request happens as a whole or not at all, and may be sent again: what it asked for happens once (`error` has the codes). What goes
//! wrong inside is logged, and the caller learns that it did and whether to try again.
//!
//! **Restart.** The server keeps nothing but caches. Any number of them can stand behind one address.

mod admission;
mod answers;
mod authentication;
mod config;
mod domains;
mod error;
mod failure;
mod health;
mod incoming;
mod inputs;
mod names;
mod parts;
mod plan;
mod schedule;
mod serve;
mod service;
mod trivial;
mod watch;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cipherloom_rpc::{
    FILE_DESCRIPTOR_SET,
    cipherloom::coprocessor::v1::coprocessor_server::{self, CoprocessorServer as PartsServer},
    fhevm::coprocessor::fhevm_coprocessor_server::{self, FhevmCoprocessorServer},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, ServerTlsConfig, server::Router};

pub use self::config::{ServerConfig, ServerLimits, TlsIdentity};
use self::{
    admission::{Admission, Admitting},
    answers::AnswerCache,
    authentication::Authentication,
    domains::InputDomains,
    health::Health,
    parts::PartsService,
    service::{Service, Shared},
};
use crate::Tenancy;

/// How long a connection may say nothing before it is asked whether it is still there, and how long it has for its answer.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// How long the handshake of an encrypted connection may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long connections have to say goodbye once all requests are answered.
const GOODBYE: Duration = Duration::from_millis(500);
/// How much of a body may be on its way before the client waits for room.
const WINDOW_BYTES: u32 = 1 << 20;
/// How many calls one connection may have open.
const MAX_STREAMS: u32 = 64;
/// How large the headers of a request may be.
const MAX_HEADER_BYTES: u32 = 16 << 10;

/// Why the server does not start or fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The descriptions for reflection cannot be read.
    #[error("server reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The certificate or its key cannot be used, or the server stopped by itself.
    #[error("the server: {}", with_causes(.0))]
    Server(#[from] tonic::transport::Error),
}

/// The gRPC server of a deployment's tenants.
#[derive(Debug)]
pub struct CoprocessorServer;

impl CoprocessorServer {
    /// Starts serving the tenants of a database. Their keys are read when a request needs them.
    ///
    /// # Errors
    /// [`ServerError::Bind`] if the address is taken, [`ServerError::Server`] if certificate or key cannot be read.
    pub async fn start(config: ServerConfig, tenancy: Tenancy) -> Result<ServerHandle, ServerError> {
        let database = Arc::clone(tenancy.database());
        let config = ServerConfig {
            limits: config.limits.within_protocol(),
            ..config
        };
        let cannot_bind = |source| ServerError::Bind {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(cannot_bind)?;
        let address = listener.local_addr().map_err(cannot_bind)?;
        let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
        let authentication = Authentication::new(Arc::clone(&database), config.api_key_lifetime);
        let admission = Admission::new(authentication, &config.limits);
        let shared = Arc::new(Shared {
            tenancy,
            answers: AnswerCache::new(config.limits.cached_answer_bytes),
            domains: InputDomains::default(),
            stopped: abort.clone(),
            config,
        });
        let (router, health) = routes(&shared, &admission).await?;
        let connections = incoming::incoming(listener, shared.config.limits.connections, shared.config.stranger_patience);
        let server = tokio::spawn(router.serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned()));
        let watch = health.clone().watch(database, shared.config.health_interval, stop.clone());
        if shared.config.tls.is_none() && !address.ip().is_loopback() {
            tracing::warn!(%address, "connections are not encrypted: API keys can be read on the network");
        }
        tracing::info!(%address, encrypted = shared.config.tls.is_some(), "coprocessor listening");
        Ok(ServerHandle {
            address,
            drain_timeout: shared.config.drain_timeout,
            admission,
            health,
            stop,
            abort,
            server,
            watch: tokio::spawn(watch),
        })
    }
}

async fn routes(shared: &Arc<Shared>, admission: &Admission) -> Result<(Router, Health), ServerError> {
    let config = &shared.config;
    let service = FhevmCoprocessorServer::new(Service {
        shared: Arc::clone(shared),
    })
    .max_decoding_message_size(config.limits.request_bytes())
    // Answers are limited by what they are made of.
    .max_encoding_message_size(usize::MAX);
    let parts = PartsServer::new(PartsService {
        shared: Arc::clone(shared),
    })
    .max_decoding_message_size(parts::MAX_REQUEST_BYTES)
    .max_encoding_message_size(usize::MAX);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .with_service_name(fhevm_coprocessor_server::SERVICE_NAME)
            .with_service_name(coprocessor_server::SERVICE_NAME)
            .with_service_name("grpc.health.v1.Health")
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let health = Health { reporter };
    health.set(true).await;
    let mut server = Server::builder()
        .timeout(config.request_timeout)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE));
    if let Some(identity) = &config.tls {
        server = server.tls_config(ServerTlsConfig::new().identity(identity.0.clone()).timeout(HANDSHAKE))?;
    }
    let router = server
        .add_service(Admitting {
            admission: admission.clone(),
            service,
        })
        .add_service(Admitting {
            admission: admission.clone(),
            service: parts,
        })
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    Ok((router, health))
}

/// A running server; dropping it stops it without waiting.
pub struct ServerHandle {
    address: SocketAddr,
    admission: Admission,
    health: Health,
    stop: CancellationToken,
    abort: CancellationToken,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    watch: JoinHandle<()>,
    drain_timeout: Duration,
}

impl ServerHandle {
    /// Returns the address the server listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns what says whether the server is over, for as long as anybody asks.
    pub fn watch(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let server = self.server.abort_handle();
        move || server.is_finished()
    }

    /// Reports that it does not serve any more, takes no new connections and requests, lets requests finish for the configured time and then ends
    /// what is left.
    ///
    /// # Errors
    /// [`ServerError::Server`] if the server had stopped by itself.
    pub async fn shutdown(mut self) -> Result<(), ServerError> {
        // First, so that who watches it learns of it before the connection is closed.
        self.health.set(false).await;
        self.stop.cancel();
        let _ = (&mut self.watch).await;
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
fn over(ended: Result<Result<(), tonic::transport::Error>, tokio::task::JoinError>) -> Result<(), ServerError> {
    ended.unwrap_or(Ok(())).map_err(ServerError::from)
}

/// Tells an error with what it came from: by itself, the transport's says little.
fn with_causes(error: &tonic::transport::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.stop.cancel();
        self.abort.cancel();
    }
}

impl std::fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerHandle")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
