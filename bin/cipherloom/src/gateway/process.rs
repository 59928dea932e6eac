//! A running gateway: started when all parts are there and belong together, announced, and ended when it is told to.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use cipherloom_chain::HostChain;
use cipherloom_gateway::{Config, Gateway, JobLimits, Services, TlsConfig};
use cipherloom_service::{coprocessor::RemoteCoprocessor, examination, signals::Signals};
use cipherloom_store::{Database, PostgresConfig, PostgresDatabase, SqliteStore};
use cipherloom_telemetry::{Check, Checks, Health, MonitoringServer};
use futures_util::future::BoxFuture;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    check::{self, Parts},
    clients,
    kms::GatewayKms,
    options::GatewayOptions,
};
use crate::{
    callbacks::{self, CallbackChain, RunningCallbacks},
    committee::ConnectedCommittee,
    remote::{
        awaited::{Awaited, RemoteProgress},
        decryption::{Admitting, Computing, Prover, RemoteDecryption, RemoteInputs},
        keys::{CurrentKeys, PublicKeys},
        native::{NativeInputs, deposits::Deposits},
    },
};

/// How often nodes are asked for new requests of contracts, where they do not announce blocks.
const CALLBACK_POLL: Duration = Duration::from_secs(2);
/// How often the coprocessors are asked whether they have other keys.
const KEY_CHECK: Duration = Duration::from_secs(30);
/// How many connections to the database of jobs there are.
const JOB_CONNECTIONS: u32 = 8;

/// Serves until told to stop.
///
/// # Errors
/// If something that the options name cannot be used, or an address is taken.
pub(super) async fn run(options: &GatewayOptions) -> Result<()> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let database = match &options.jobs_database_url {
        Some(url) => Some(open_database(url.expose()).await?),
        None => None,
    };
    if database.is_none() {
        tracing::warn!("jobs are kept in memory: a restart loses them, and clients have to ask again");
    }
    let patience = Duration::from_secs(options.process.startup_patience_seconds.into());
    let parts = tokio::select! {
        parts = examination::until_well(patience, async || Box::pin(check::look(options)).await) => parts?,
        () = signals.next() => return Ok(()),
    };
    if !parts.keys.is_secure() {
        tracing::warn!("INSECURE: the key set hides nothing");
    }
    let stop = CancellationToken::new();
    let keys = Arc::new(CurrentKeys::new(parts.keys.clone()));
    let services = Box::pin(services(options, &parts, Arc::clone(&keys), database.as_ref())).await?;
    let callbacks = callbacks(options, &parts, &services, database.as_ref(), &stop)?;
    let gateway = Gateway::start(config(options, &parts)?, services)
        .await
        .context("cannot start the gateway")?;
    let health = Arc::new(GatewayHealth {
        kms: parts.kms.clone(),
        coprocessors: parts
            .chains
            .iter()
            .filter_map(|chain| Some((chain.id, Arc::clone(chain.coprocessor()?.0))))
            .collect(),
        database,
        stop: stop.clone(),
    });
    let served = cipherloom_telemetry::Metrics {
        content_type: "text/plain; version=0.0.4; charset=utf-8",
        read: with_others(gateway.metrics(), callbacks.as_ref(), parts.kms.committee()),
    };
    let monitoring = MonitoringServer::start(options.metrics_addr, served, health).await?;
    let renewal = options.keys.is_none().then(|| {
        let renewal = KeyRenewal {
            keys,
            coprocessors: parts
                .chains
                .iter()
                .filter_map(|chain| Some(Arc::clone(chain.coprocessor()?.0)))
                .collect(),
            kms: parts.kms.clone(),
            cache: options.key_cache.clone(),
        };
        let stop = stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(renewal.run()).await })
    });
    let following = parts.kms.committee().map(|committee| {
        let (committee, stop) = (Arc::clone(committee), stop.clone());
        tokio::spawn(async move { stop.run_until_cancelled(committee.follow()).await })
    });
    announce(options, &parts, gateway.address(), monitoring.address());

    signals.next().await;
    tracing::info!(
        drain_seconds = options.drain_seconds,
        "told to stop; a second signal ends the process at once"
    );
    stop.cancel();
    tokio::select! {
        () = gateway.shutdown() => {}
        () = signals.next() => tracing::warn!("told to stop at once; jobs in a database go on with another gateway, or the next start"),
    }
    if let Some(renewal) = renewal {
        let _ = renewal.await;
    }
    if let Some(following) = following {
        let _ = following.await;
    }
    if let Some(callbacks) = callbacks {
        callbacks.finished().await;
    }
    monitoring.shutdown().await;
    tracing::info!("stopped");
    Ok(())
}

/// Opens the database of jobs: one that gateways share, or a file of this one.
async fn open_database(url: &str) -> Result<Arc<dyn Database>> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = Path::new(path.strip_prefix("//").unwrap_or(path));
        let store = Box::pin(SqliteStore::open(path))
            .await
            .with_context(|| format!("cannot open the database of jobs {}", path.display()))?;
        return Ok(Arc::new(store));
    }
    let config = PostgresConfig::new(url)?.max_connections(JOB_CONNECTIONS);
    let database = Box::pin(PostgresDatabase::open(config))
        .await
        .context("cannot open the database of jobs")?;
    Ok(Arc::new(database))
}

/// Wires the gateway to its parts.
async fn services(
    options: &GatewayOptions,
    parts: &Parts,
    keys: Arc<CurrentKeys>,
    database: Option<&Arc<dyn Database>>,
) -> Result<Services> {
    let chains = || parts.chains.iter();
    Ok(Services {
        keys,
        inputs: Arc::new(RemoteInputs {
            chains: Box::pin(admission(options, parts)).await?,
        }),
        decryption: Arc::new(RemoteDecryption {
            kms: parts.kms.asked(),
            awaited: chains()
                .map(|chain| {
                    let computing = match chain.coprocessor() {
                        Some((coprocessor, _)) => Computing::Coprocessor(Arc::new(Awaited::at(Arc::clone(coprocessor)))),
                        None => Computing::InBlocks,
                    };
                    (chain.id, computing)
                })
                .collect(),
            provers: options.acl_proofs.then(|| {
                let prover = |host: &HostChain| Prover {
                    host: host.clone(),
                    finality: options.finality,
                };
                chains().map(|chain| (chain.id, prover(&chain.host))).collect()
            }),
        }),
        progress: Some(Arc::new(RemoteProgress {
            coprocessors: chains()
                .filter_map(|chain| Some((chain.id, Arc::clone(chain.coprocessor()?.0))))
                .collect(),
        })),
        jobs: database.map(|database| database.gateway_jobs(&options.jobs_deployment)),
    })
}

/// Finds who looks at inputs of each chain.
async fn admission(options: &GatewayOptions, parts: &Parts) -> Result<HashMap<u64, Admitting>> {
    let depositor = options.deposits.key()?;
    let mut admitting = HashMap::new();
    for chain in &parts.chains {
        let who = match chain.coprocessor() {
            Some((coprocessor, _)) => Admitting::Coprocessor(Arc::clone(coprocessor), chain.host.addresses().acl),
            None => {
                // Reading the reference string takes a while.
                let keys = parts.keys.clone();
                let checker = tokio::task::spawn_blocking(move || keys.encryptor()).await??;
                let deposits = depositor.clone().map(|key| {
                    tracing::info!(chain = chain.id, account = %key.address(), "bringing inputs to the chain");
                    Deposits::new(chain.host.clone(), key, options.deposits.limits())
                });
                Admitting::Native(Arc::new(NativeInputs::new(chain.host.clone(), checker, deposits)))
            }
        };
        admitting.insert(chain.id, who);
    }
    Ok(admitting)
}

/// Serves the callbacks of all chains, if somebody pays for them.
fn callbacks(
    options: &GatewayOptions,
    parts: &Parts,
    services: &Services,
    database: Option<&Arc<dyn Database>>,
    stop: &CancellationToken,
) -> Result<Option<RunningCallbacks>> {
    let Some(key) = options.callbacks.key()? else {
        tracing::info!("decryption callbacks are off; --callbacks-relayer-key-file names an account that pays for them");
        return Ok(None);
    };
    let database =
        database.context("callbacks need a database, which says what was sent before a restart; name one with --jobs-database-url")?;
    let chains = parts.chains.iter().map(|chain| {
        let name = format!("chain-{}", chain.id);
        CallbackChain {
            store: database.callbacks(&name),
            name,
            host: chain.host.clone(),
            chain_id: chain.id,
            first_block: chain.first_block,
            poll_interval: CALLBACK_POLL,
            is_final: chain.native().is_some(),
        }
    });
    let config = options.callbacks.config()?;
    callbacks::start(&config, &key, chains.collect(), &services.decryption, stop).map(Some)
}

/// Writes the metrics of callbacks and of the committee's nodes after the gateway's.
fn with_others(
    gateway: impl Fn() -> Vec<u8> + Send + Sync + 'static,
    callbacks: Option<&RunningCallbacks>,
    committee: Option<&Arc<ConnectedCommittee>>,
) -> Arc<dyn Fn() -> Vec<u8> + Send + Sync> {
    let callbacks = callbacks.map(RunningCallbacks::metrics);
    let committee = committee.map(Arc::clone);
    Arc::new(move || {
        let callbacks = callbacks.as_ref().map(|callbacks| callbacks.render()).unwrap_or_default();
        let nodes = committee.as_ref().map(|committee| committee.render()).unwrap_or_default();
        [gateway(), callbacks.into_bytes(), nodes.into_bytes()].concat()
    })
}

/// Tells the gateway what it may do.
fn config(options: &GatewayOptions, parts: &Parts) -> Result<Config> {
    let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    let chain_ids: Vec<u64> = parts.chains.iter().map(|chain| chain.id).collect();
    let defaults = Config::new(chain_ids.first().copied().unwrap_or_default());
    Ok(Config {
        bind: options.listen,
        public_url: options.public_url.clone(),
        host_chain_ids: chain_ids,
        jobs: JobLimits {
            max_running_inputs: options.maximum_running_inputs.into(),
            max_running_decryptions: options.maximum_running_decryptions.into(),
            max_unfinished: number(options.maximum_unfinished_jobs),
            retention: seconds(options.job_retention_seconds),
            deadline: seconds(options.job_deadline_seconds),
            retry_unreachable: seconds(options.retry_unreachable_seconds),
            lease: seconds(options.job_lease_seconds),
            ..defaults.jobs
        },
        rate_limit: clients::rate_limit(options.rate_limit_per_second, options.rate_limit_burst),
        clients: clients::configured(&options.clients)?,
        require_api_key: options.require_api_key,
        trusted_proxies: options.trusted_proxy.clone(),
        tls: options
            .tls_certificate
            .as_ref()
            .zip(options.tls_private_key.as_ref())
            .map(|(certificate, key)| TlsConfig::new(certificate, key)),
        max_connections: number(options.maximum_connections),
        shutdown_grace: seconds(options.drain_seconds),
        ..defaults
    })
}

fn announce(options: &GatewayOptions, parts: &Parts, address: std::net::SocketAddr, metrics: std::net::SocketAddr) {
    let chains: Vec<u64> = parts.chains.iter().map(|chain| chain.id).collect();
    let scheme = if options.tls_certificate.is_some() { "https" } else { "http" };
    if options.process.json {
        println!(
            "{}",
            json!({
                "url": format!("{scheme}://{address}"),
                "address": address.to_string(),
                "metricsAddress": metrics.to_string(),
                "chainIds": chains,
                "keySetId": hex::encode(parts.keys.id()),
            })
        );
        return;
    }
    let names: Vec<String> = chains.iter().map(ToString::to_string).collect();
    println!("gateway on {scheme}://{address} for chain {}", names.join(", "));
    println!("metrics on http://{metrics}/metrics, health on http://{metrics}/health");
}

/// Takes up the coprocessors' keys when they are replaced.
struct KeyRenewal {
    keys: Arc<CurrentKeys>,
    coprocessors: Vec<Arc<RemoteCoprocessor>>,
    kms: GatewayKms,
    cache: Option<std::path::PathBuf>,
}

impl KeyRenewal {
    async fn run(self) {
        let mut told = None;
        loop {
            tokio::time::sleep(KEY_CHECK).await;
            let Some(described) = self.changed().await else { continue };
            let id = described.key_set_id;
            // What the KMS cannot decrypt must not be encrypted.
            match self.kms.key_set_id().await {
                Ok(of_kms) if of_kms == id => {}
                Ok(of_kms) => {
                    if told.replace(id) != Some(id) {
                        tracing::error!(
                            coprocessor = %hex::encode(id),
                            kms = %hex::encode(of_kms),
                            "a coprocessor has another key set than the KMS; clients are given the former one until both have the same"
                        );
                    }
                    continue;
                }
                Err(_) => continue,
            }
            for coprocessor in &self.coprocessors {
                match PublicKeys::of(coprocessor, &described, self.cache.as_deref()).await {
                    Ok(keys) => {
                        tracing::info!(key_set = %hex::encode(id), "clients are given another key set from now on");
                        self.keys.replace(keys);
                        break;
                    }
                    Err(error) => tracing::warn!(error = format!("{error:#}"), "the new key set cannot be fetched; trying again"),
                }
            }
        }
    }

    /// Says what the coprocessors have, if all have the same and it is not what is served.
    async fn changed(&self) -> Option<cipherloom_service::coprocessor::Described> {
        let mut common: Option<cipherloom_service::coprocessor::Described> = None;
        for coprocessor in &self.coprocessors {
            let described = coprocessor.describe().await.ok()?;
            if common.as_ref().is_some_and(|common| common.key_set_id != described.key_set_id) {
                return None;
            }
            common = Some(described);
        }
        common.filter(|described| described.key_set_id != self.keys.id())
    }
}

/// Whether the gateway should get requests: while its parts answer.
struct GatewayHealth {
    kms: GatewayKms,
    coprocessors: Vec<(u64, Arc<RemoteCoprocessor>)>,
    database: Option<Arc<dyn Database>>,
    stop: CancellationToken,
}

impl Health for GatewayHealth {
    fn live(&self) -> Checks {
        vec![Check::passed("process", "it answers")]
    }

    fn ready(&self) -> BoxFuture<'_, Checks> {
        Box::pin(async move {
            let mut checks = vec![match self.stop.is_cancelled() {
                false => Check::passed("accepting", "yes"),
                true => Check::failed("accepting", "the process was told to stop"),
            }];
            checks.push(match self.kms.key_set_id().await {
                Ok(_) => Check::passed("kms", "it answers"),
                Err(reason) => told("kms", "it does not answer, or too few of its nodes do; see the log", &reason),
            });
            for (chain, coprocessor) in &self.coprocessors {
                checks.push(match coprocessor.describe().await {
                    Ok(_) => Check::passed("coprocessor", format!("that of chain {chain} answers")),
                    Err(status) => told(
                        "coprocessor",
                        &format!("that of chain {chain} does not answer; see the log"),
                        status.message(),
                    ),
                });
            }
            if let Some(database) = &self.database {
                checks.push(match database.ping().await {
                    Ok(()) => Check::passed("database", "it answers"),
                    Err(error) => told("database", "it does not answer; see the log", &error.to_string()),
                });
            }
            checks
        })
    }
}

/// What parts say can name hosts; the log has it, and who asks does not learn it.
fn told(check: &'static str, detail: &str, reason: &str) -> Check {
    tracing::warn!(check, reason, "not ready");
    Check::failed(check, detail)
}
