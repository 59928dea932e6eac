//! A running node: started when all it needs is there, announced, and ended when it is told to.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use cipherloom_chain::{AclCheck, LightOptions, WitnessOptions};
use cipherloom_kms::{AuditLog, CiphertextSource, HostChainView, KmsLimits, KmsNode, KmsParts, NoCiphertexts, NodeKey, SystemClock};
use cipherloom_primitives::B256;
use cipherloom_rpc::{
    FILE_DESCRIPTOR_SET,
    cipherloom::kms::v1::kms_server::{self, KmsServer},
};
use cipherloom_service::{
    chains::Chain,
    connections::{LimitedIncoming, Places},
    endpoints, examination,
    signals::Signals,
};
use cipherloom_telemetry::{Check, Checks, Health, MonitoringServer};
use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use zeroize::Zeroizing;

use super::{
    check::{self, Parts},
    ciphertexts::RemoteCiphertexts,
    metrics::{CONTENT_TYPE, Metrics},
    options::NodeOptions,
    server::{KmsService, MAX_REQUEST_BYTES, Shared},
};

/// How long a connection may say nothing before it is asked whether it is there.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(20);
/// How long a request may take.
pub(crate) const REQUEST: Duration = Duration::from_secs(120);
/// How many calls one connection may have open.
pub(crate) const MAX_STREAMS: u32 = 512;
/// How many of them are answered at a time; others wait.
pub(crate) const MAX_CONCURRENT: usize = 256;
/// How large the headers of a request may be.
pub(crate) const MAX_HEADER_BYTES: u32 = 16 << 10;

/// Serves until told to stop.
///
/// # Errors
/// If something that the options name cannot be used, or an address is taken.
pub(crate) async fn run(options: &NodeOptions) -> Result<()> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let token = options.access_token_file.as_deref().map(token).transpose()?;
    let patience = Duration::from_secs(options.process.startup_patience_seconds.into());
    let parts = tokio::select! {
        parts = examination::until_well(patience, async || Box::pin(check::look(options)).await) => parts?,
        () = signals.next() => return Ok(()),
    };
    let stop = CancellationToken::new();
    let metrics = Metrics::default();
    let insecure = !parts.keys.parameters().is_secure();
    if insecure {
        tracing::warn!("INSECURE: the key set hides nothing");
    }
    tracing::warn!(key_set = %parts.keys.manifest().id, "CENTRALISED: this process holds the whole secret key");
    let shared = Arc::new(Shared {
        key_set_id: B256::from(*parts.keys.manifest().id.as_bytes()),
        nodes: nodes(options, &parts)?,
        insecure,
        token,
        metrics: metrics.clone(),
        stopped: CancellationToken::new(),
    });
    let places = Places::new(options.connection_limits());
    let counted = Arc::clone(&places);
    let served = cipherloom_telemetry::Metrics {
        content_type: CONTENT_TYPE,
        read: Arc::new(move || metrics.write_with_connections(counted.counts())),
    };
    let health = Arc::new(NodeHealth {
        chains: parts.chains,
        stop: stop.clone(),
    });
    let monitoring = MonitoringServer::start(options.metrics_addr, served, health).await?;
    let listener = TcpListener::bind(options.server_addr)
        .await
        .with_context(|| format!("cannot listen on {}", options.server_addr))?;
    let address = listener.local_addr()?;
    let router = router(options, &shared).await?;
    let incoming = LimitedIncoming::new(listener, Arc::clone(&places));
    let mut server = tokio::spawn(router.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned()));
    announce(options, &shared, address, monitoring.address());

    tokio::select! {
        () = signals.next() => {}
        ended = &mut server => {
            return ended.context("the server was lost")?.context("the server ended by itself");
        }
    }
    tracing::info!(
        drain_seconds = options.drain_seconds,
        "told to stop; a second signal ends the process at once"
    );
    stop.cancel();
    let drained = tokio::time::timeout(Duration::from_secs(options.drain_seconds.into()), &mut server);
    tokio::select! {
        ended = drained => if ended.is_err() {
            // What is left is told that the node stops. A decryption that has begun is recorded, and its answer is lost.
            shared.stopped.cancel();
            let _ = tokio::time::timeout(Duration::from_secs(1), &mut server).await;
            server.abort();
        },
        () = signals.next() => tracing::warn!("told to stop at once"),
    }
    monitoring.shutdown().await;
    tracing::info!("stopped");
    Ok(())
}

/// Makes a node for each chain. They share the keys.
fn nodes(options: &NodeOptions, parts: &Parts) -> Result<HashMap<u64, KmsNode>> {
    let decrypt = parts.keys.decryptor()?;
    let key_set_id = B256::from(*parts.keys.manifest().id.as_bytes());
    let directory = options.audit_dir.as_deref().context("no audit directory")?;
    std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let node = |chain: &Chain| {
        let bytes = Zeroizing::new(<[u8; 32]>::from(parts.signer.to_bytes()));
        let audit = directory.join(format!("audit-{}.jsonl", chain.id));
        let (view, ciphertexts) = ways(chain, options, directory)?;
        let node = KmsNode::new(KmsParts {
            decrypt: Arc::clone(&decrypt),
            key_set_id,
            signing_key: NodeKey::from_bytes(&bytes).context("the signing key is no key of the curve")?,
            domains: chain.domains,
            chain: view,
            ciphertexts,
            audit: AuditLog::open(&audit).with_context(|| format!("cannot use the audit log {}", audit.display()))?,
            clock: Arc::new(SystemClock),
            limits: KmsLimits {
                requests: options.maximum_requests.into(),
                decryptions: options.concurrent_decryptions.into(),
            },
        });
        let head = node.audit().head();
        tracing::info!(chain = chain.id, records = head.records, hash = %head.hash, "the audit log is whole");
        Ok((chain.id, node))
    };
    parts.chains.iter().map(node).collect()
}

/// The chain as the node reads it, and where its ciphertexts come from.
type Ways = (Arc<dyn HostChainView>, Arc<dyn CiphertextSource>);

fn ways(chain: &Chain, options: &NodeOptions, directory: &Path) -> Result<Ways> {
    if let Some(followed) = chain.followed(light_options(options), directory)? {
        return Ok((Arc::new(followed), Arc::new(NoCiphertexts)));
    }
    let (coprocessor, _) = chain.coprocessor().context("a chain that is not native has a coprocessor")?;
    let witnessed = chain.witnessed(witness_options(options))?;
    Ok((Arc::new(witnessed), Arc::new(RemoteCiphertexts(Arc::clone(coprocessor)))))
}

/// Tells how native chains are read. What a certificate does not say, and storage does not prove, is asked of as many nodes as of other chains.
pub(crate) fn light_options(options: &NodeOptions) -> LightOptions {
    let defaults = LightOptions::default();
    let asked = options.maximum_block_age_seconds.map(|seconds| Duration::from_secs(seconds.into()));
    LightOptions {
        quorum: options.rpc_quorum.into(),
        max_age: asked.or(defaults.max_age),
        ..defaults
    }
}

/// Tells how the chains are read.
pub(crate) fn witness_options(options: &NodeOptions) -> WitnessOptions {
    WitnessOptions {
        check: AclCheck {
            by: options.acl_check,
            finality: options.finality,
        },
        quorum: options.rpc_quorum.into(),
        max_age: options.maximum_block_age_seconds.map(|seconds| Duration::from_secs(seconds.into())),
        ..WitnessOptions::default()
    }
}

async fn router(options: &NodeOptions, shared: &Arc<Shared>) -> Result<tonic::transport::server::Router> {
    let service = KmsServer::new(KmsService(Arc::clone(shared)))
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(usize::MAX);
    let (reporter, health) = tonic_health::server::health_reporter();
    for name in ["", kms_server::SERVICE_NAME] {
        reporter.set_service_status(name, tonic_health::ServingStatus::Serving).await;
    }
    let reflection = tonic_reflection::server::Builder::configure()
        .with_service_name(kms_server::SERVICE_NAME)
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let mut server = Server::builder()
        .timeout(REQUEST)
        .max_concurrent_streams(MAX_STREAMS)
        .concurrency_limit_per_connection(MAX_CONCURRENT)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE));
    if let (Some(certificate), Some(key)) = (&options.tls_certificate, &options.tls_private_key) {
        let key = Zeroizing::new(endpoints::read(key)?);
        let identity = Identity::from_pem(endpoints::read(certificate)?, key.as_slice());
        server = server
            .tls_config(ServerTlsConfig::new().identity(identity))
            .with_context(|| format!("cannot use the certificate {}", certificate.display()))?;
    } else if !options.server_addr.ip().is_loopback() {
        tracing::warn!("INSECURE: other machines can connect, and connections are not encrypted");
    }
    Ok(server.add_service(service).add_service(health).add_service(reflection))
}

fn announce(options: &NodeOptions, shared: &Shared, address: std::net::SocketAddr, metrics: std::net::SocketAddr) {
    let signer = shared
        .nodes
        .values()
        .next()
        .map(|node| node.address().to_checksum(None))
        .unwrap_or_default();
    let mut chains: Vec<u64> = shared.nodes.keys().copied().collect();
    chains.sort_unstable();
    if options.process.json {
        println!(
            "{}",
            json!({
                "serverAddress": address.to_string(),
                "metricsAddress": metrics.to_string(),
                "signerAddress": signer,
                "chainIds": chains,
                "keySetId": hex::encode(shared.key_set_id),
                "centralised": true,
            })
        );
        return;
    }
    let names: Vec<String> = chains.iter().map(ToString::to_string).collect();
    println!("KMS node on {address} for chain {}, signing as {signer}", names.join(", "));
    println!(
        "CENTRALISED: this process holds the whole secret key of key set {}",
        hex::encode(shared.key_set_id)
    );
    println!("metrics on http://{metrics}/metrics, health on http://{metrics}/health");
}

/// Reads what callers have to send.
fn token(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let text = Zeroizing::new(endpoints::read(path)?);
    let token = Zeroizing::new(text.trim_ascii().to_vec());
    anyhow::ensure!(
        token.len() >= 16,
        "the access token in {} is short: give it at least 16 characters that nobody can guess, such as those of `openssl rand -hex 32`",
        path.display()
    );
    Ok(token)
}

/// Whether the node should get work: while it can read its chains.
struct NodeHealth {
    chains: Vec<Chain>,
    stop: CancellationToken,
}

impl Health for NodeHealth {
    fn live(&self) -> Checks {
        vec![Check::passed("process", "it answers")]
    }

    fn ready(&self) -> BoxFuture<'_, Checks> {
        Box::pin(async move {
            let mut checks = vec![match self.stop.is_cancelled() {
                false => Check::passed("accepting", "yes"),
                true => Check::failed("accepting", "the process was told to stop"),
            }];
            for chain in &self.chains {
                checks.push(match chain.host.chain_id().await {
                    Ok(_) => Check::passed("chain", format!("{} answers", chain.id)),
                    Err(error) => {
                        tracing::warn!(chain = chain.id, %error, "not ready");
                        Check::failed("chain", format!("{} cannot be read; see the log", chain.id))
                    }
                });
                let Some((coprocessor, _)) = chain.coprocessor() else { continue };
                checks.push(match coprocessor.describe().await {
                    Ok(_) => Check::passed("coprocessor", format!("that of chain {} answers", chain.id)),
                    Err(status) => {
                        tracing::warn!(chain = chain.id, reason = status.message(), "not ready");
                        Check::failed("coprocessor", format!("that of chain {} does not answer; see the log", chain.id))
                    }
                });
            }
            checks
        })
    }
}
