//! A party while it runs: started, looked at, and ended.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use alloy::signers::local::PrivateKeySigner;
use anyhow::{Context as _, Result, ensure};
use cipherloom_attest::{DEVELOPMENT_CHAINS, Role, Statement};
use cipherloom_ceremony::Node;
use cipherloom_kms::{AuditLog, Budgets, Clock as _, CommitteeNode, CommitteeParts, HeldShares, NodeKey, SystemClock};
use cipherloom_primitives::{Address, B256};
use cipherloom_rpc::{FILE_DESCRIPTOR_SET, cipherloom::committee::v1::committee_server::CommitteeServer};
use cipherloom_service::{
    attested::{AttestedIncoming, AttestedPort, LIFETIME, LIFETIME_GRACE},
    ceremony::CeremonyService,
};
use cipherloom_telemetry::{Check, Checks, Health, MonitoringServer};
use futures_util::future::BoxFuture;
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use zeroize::Zeroizing;

use super::{Party, PartyChain, PartyConfig, PartyState, metrics::PartyMetrics, server::CommitteeService};
use crate::{
    metrics::CONTENT_TYPE,
    process::{KEEPALIVE, MAX_CONCURRENT, MAX_HEADER_BYTES, MAX_STREAMS, REQUEST},
    public::{
        self, PublicLimits, PublicParts,
        documents::{Form, NodeState, NodeStatus},
    },
    server::MAX_REQUEST_BYTES,
};

/// How long what has nothing left to do may take to end.
const LEFTOVERS: Duration = Duration::from_secs(5);

/// A party that runs. Dropping it stops it at once; [`Self::shutdown`] lets requests end.
pub struct RunningParty {
    party: Arc<Party>,
    attested_address: SocketAddr,
    public_address: SocketAddr,
    metrics_address: SocketAddr,
    monitoring: Option<MonitoringServer>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    public: JoinHandle<std::io::Result<()>>,
    watching: JoinHandle<()>,
}

impl RunningParty {
    /// Starts a party. It returns as soon as the ports listen; registration and ceremony may come later ([`Self::state`], [`Self::changes`]).
    ///
    /// # Errors
    /// If an address is taken, an audit log cannot be used, the policy accepts nothing, or attestation is simulated on a chain that is not for
    /// development.
    pub async fn start(config: PartyConfig) -> Result<Self> {
        check(&config)?;
        let listen = async |address: SocketAddr| {
            let listener = TcpListener::bind(address).await;
            listener.with_context(|| format!("cannot listen on {address}"))
        };
        let attested = listen(config.attested_addr).await?;
        let public = listen(config.public_addr).await?;
        let (attested_address, public_address) = (attested.local_addr()?, public.local_addr()?);
        let (metrics_addr, poll) = (config.metrics_addr, config.poll);
        let (party, signer) = assemble(config)?;
        let counted = Arc::clone(&party);
        let served = cipherloom_telemetry::Metrics {
            content_type: CONTENT_TYPE,
            read: Arc::new(move || counted.metrics.write(&counted)),
        };
        let monitoring = MonitoringServer::start(metrics_addr, served, Arc::new(PartyHealth(Arc::clone(&party)))).await?;
        let public_parts = public_parts(&party, signer);
        let public = tokio::spawn(public::serve(public, public_parts, party.stop.clone().cancelled_owned()));
        let incoming = AttestedIncoming::new(attested, Arc::clone(&party.port));
        let router = router(&party)?;
        let server = tokio::spawn(router.serve_with_incoming_shutdown(incoming, party.stop.clone().cancelled_owned()));
        let watching = tokio::spawn(Arc::clone(&party).watch(poll));
        Ok(Self {
            party,
            attested_address,
            public_address,
            metrics_address: monitoring.address(),
            monitoring: Some(monitoring),
            server,
            public,
            watching,
        })
    }

    /// Returns the address that the party signs with.
    #[must_use]
    pub fn signer(&self) -> Address {
        self.party.signer
    }

    /// Returns where gateways and dealers call.
    #[must_use]
    pub const fn attested_address(&self) -> SocketAddr {
        self.attested_address
    }

    /// Returns where anybody may check the party.
    #[must_use]
    pub const fn public_address(&self) -> SocketAddr {
        self.public_address
    }

    /// Returns where metrics and health are.
    #[must_use]
    pub const fn metrics_address(&self) -> SocketAddr {
        self.metrics_address
    }

    /// Returns what the party is doing now.
    #[must_use]
    pub fn state(&self) -> PartyState {
        self.party.state.borrow().clone()
    }

    /// Returns what tells when the party does something else.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<PartyState> {
        self.party.state.subscribe()
    }

    /// Returns the party's side of ceremonies, for a dealer in the same process.
    #[must_use]
    pub fn ceremony(&self) -> &Node {
        &self.party.ceremony
    }

    /// Has the chain and the stored shares looked at now.
    pub fn wake(&self) {
        self.party.woken.notify_one();
    }

    /// Waits until the party ends by itself, which is a failure.
    ///
    /// # Errors
    /// Always: why it ended.
    pub async fn failed(&mut self) -> Result<()> {
        tokio::select! {
            ended = &mut self.server => ended.context("the server was lost")?.context("the server ended")?,
            ended = &mut self.public => ended.context("the public port was lost")?.context("the public port ended")?,
            ended = &mut self.watching => ended.context("what watches the chain was lost")?,
        }
        anyhow::bail!("a part of the node ended by itself")
    }

    /// Takes no more requests, lets those under way end for as long as this, and stops.
    pub async fn shutdown(mut self, drain: Duration) {
        self.party.stop.cancel();
        if tokio::time::timeout(drain, &mut self.server).await.is_err() {
            // What is left is told that the node stops. A decryption that has begun is recorded, and its answer is lost.
            self.party.stopped.cancel();
            let ended = tokio::time::timeout(Duration::from_secs(1), &mut self.server).await;
            tracing::warn!(
                all_answered = ended.is_ok(),
                "requests were under way for longer than may be waited"
            );
        }
        self.server.abort();
        // Ends connections that callers keep open.
        self.party.port.close();
        if let Some(monitoring) = self.monitoring.take() {
            monitoring.shutdown().await;
        }
        let ended = tokio::time::timeout(LEFTOVERS, async {
            // Of these only whether they have ended matters.
            let _ = (&mut self.public).await;
            let _ = (&mut self.watching).await;
            // The directory is free once nobody has the party: connections may take a moment.
            while Arc::strong_count(&self.party) > 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        if ended.await.is_err() {
            tracing::warn!("something of the party still runs");
        }
    }
}

impl Drop for RunningParty {
    fn drop(&mut self) {
        self.party.stop.cancel();
        self.party.stopped.cancel();
        self.server.abort();
        self.public.abort();
        self.watching.abort();
    }
}

/// Refuses what must not be together.
fn check(config: &PartyConfig) -> Result<()> {
    ensure!(!config.chains.is_empty(), "a party answers for at least one chain");
    for chain in &config.chains {
        ensure!(
            !config.attestation.is_simulated() || DEVELOPMENT_CHAINS.contains(&chain.id),
            "attestation is simulated, and chain {} is not one for development: it is allowed on {DEVELOPMENT_CHAINS:?} only",
            chain.id
        );
    }
    config.attestation.verifier().context("cannot use the policy")?;
    Ok(())
}

fn assemble(config: PartyConfig) -> Result<(Arc<Party>, PrivateKeySigner)> {
    let PartyConfig {
        store,
        attestation,
        chains,
        parameters,
        audit_dir,
        limits,
        budgets,
        connections,
        recovery_key,
        squashing,
        ..
    } = config;
    let bytes = Zeroizing::new(<[u8; 32]>::from(store.identity().signing_key().to_bytes()));
    let signing_key = NodeKey::from_bytes(&bytes).context("the signing key is no key of the curve")?;
    let signer = PrivateKeySigner::from_slice(bytes.as_slice()).context("the signing key is no key of the curve")?;
    let (signing_key, metrics) = (Arc::new(signing_key), PartyMetrics::default());
    let (shares, budgets) = (Arc::new(HeldShares::new()), Arc::new(Budgets::new(budgets)));
    std::fs::create_dir_all(&audit_dir).with_context(|| format!("cannot create {}", audit_dir.display()))?;
    let home = chains.first().context("a party answers for at least one chain")?.host.clone();
    let home_id = chains.first().map_or(0, |chain| chain.id);
    let (mut nodes, mut audits) = (HashMap::new(), Vec::new());
    for PartyChain {
        id,
        view,
        domains,
        squashed,
        ..
    } in chains
    {
        let path = audit_dir.join(format!("audit-{id}.jsonl"));
        let audit = AuditLog::open(&path).with_context(|| format!("cannot use the audit log {}", path.display()))?;
        let (head, audit) = (audit.head(), Arc::new(audit));
        tracing::info!(chain = id, records = head.records, hash = %head.hash, "the audit log is whole");
        audits.push((id, Arc::clone(&audit)));
        let node = CommitteeNode::new(CommitteeParts {
            parameters,
            shares: Arc::clone(&shares),
            signing_key: Arc::clone(&signing_key),
            domains,
            chain: view,
            squashed,
            audit,
            clock: Arc::new(SystemClock),
            limits,
            budgets: Arc::clone(&budgets),
            alarms: Arc::new(metrics.clone()),
        });
        ensure!(nodes.insert(id, node).is_none(), "chain {id} is named twice");
    }
    let attestor = Arc::clone(&attestation.attestor);
    let ceremony = Node::new(store, attestor, attestation.verifier()?, Arc::new(|| SystemClock.now_seconds()));
    let party = Arc::new(Party {
        signer: signer.address(),
        home,
        home_id,
        ceremony,
        shares,
        nodes,
        audits,
        budgets,
        policy: attestation.policy.digest()?,
        attestation,
        insecure_keys: !parameters.is_secure(),
        port: AttestedPort::new(connections),
        state: watch::Sender::new(PartyState::unread()),
        records: Mutex::new(BTreeMap::new()),
        recovery_key,
        squashing,
        woken: Notify::new(),
        looking: tokio::sync::Mutex::new(()),
        opened: tokio::sync::Mutex::new(None),
        metrics,
        started: SystemClock.now_seconds(),
        stop: CancellationToken::new(),
        stopped: CancellationToken::new(),
    });
    Ok((party, signer))
}

fn router(party: &Arc<Party>) -> Result<tonic::transport::server::Router> {
    let committee = CommitteeServer::new(CommitteeService(Arc::clone(party)))
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(usize::MAX);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .build_v1()?;
    Ok(Server::builder()
        .timeout(REQUEST)
        .max_concurrent_streams(MAX_STREAMS)
        .concurrency_limit_per_connection(MAX_CONCURRENT)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        // Evidence is to be shown anew; callers connect again by themselves.
        .max_connection_age(LIFETIME)
        .max_connection_age_grace(LIFETIME_GRACE)
        .add_service(committee)
        .add_service(CeremonyService::server(Arc::clone(party) as _))
        .add_service(reflection))
}

fn public_parts(party: &Arc<Party>, signer: PrivateKeySigner) -> PublicParts {
    let shared = || Arc::clone(party);
    let (statement, status, manifest, audit) = (shared(), shared(), shared(), shared());
    PublicParts {
        attestor: Arc::clone(&party.attestation.attestor),
        signer,
        statement: Box::new(move || statement.statement()),
        status: Box::new(move || status.status()),
        manifest: Box::new(move || manifest.manifest()),
        audit: Box::new(move || audit.audits.iter().map(|(chain, log)| (*chain, log.head())).collect()),
        clock: Box::new(|| SystemClock.now_seconds()),
        limits: PublicLimits::default(),
    }
}

impl Party {
    /// Returns what the party states of itself: before it is registered, that it is in no committee.
    fn statement(&self) -> Statement {
        let opened = self.port.endpoint().map(|endpoint| endpoint.statement().clone());
        opened.unwrap_or(Statement {
            role: Role::KmsNode,
            chain_id: self.home_id,
            context: B256::ZERO,
            party: 0,
            signer: self.signer,
        })
    }

    fn status(&self) -> NodeStatus {
        let now = self.state.borrow().clone();
        let committee = now.committee.as_ref();
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        NodeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            form: Form::Threshold,
            state: match self.stop.is_cancelled() {
                true => NodeState::Stopping,
                false => now.state,
            },
            detail: now.detail.clone(),
            time: SystemClock.now_seconds(),
            started: self.started,
            chain_id: self.home_id,
            signer: self.signer,
            party: now.party,
            parties: committee.map_or(0, |committee| small(committee.signers.len() as u64)),
            threshold: committee.map_or(0, |committee| small(committee.mpc_threshold)),
            context: committee.map(|committee| committee.context_id).unwrap_or_default(),
            epoch: committee.map(|committee| committee.epoch_id).unwrap_or_default(),
            share: now.share.clone(),
            attestation: self.attestation.attestor.kind(),
            policy: self.policy,
            insecure_parameters: self.insecure_keys,
        }
    }

    /// Returns what the newest share was checked against, as JSON.
    fn manifest(&self) -> Option<Vec<u8>> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, newest) = records.last_key_value()?;
        serde_json::to_vec(&**newest).ok()
    }
}

/// Whether the party should get work: while it has a share that the chain lets it use.
struct PartyHealth(Arc<Party>);

impl Health for PartyHealth {
    fn live(&self) -> Checks {
        vec![Check::passed("process", "it answers")]
    }

    fn ready(&self) -> BoxFuture<'_, Checks> {
        Box::pin(async move {
            let party = &self.0;
            let now = party.state.borrow().clone();
            let told = match &now.detail {
                Some(detail) => format!("{}: {detail}", now.state.as_str()),
                None => now.state.as_str().to_owned(),
            };
            vec![
                match party.stop.is_cancelled() {
                    false => Check::passed("accepting", "yes"),
                    true => Check::failed("accepting", "the process was told to stop"),
                },
                match now.state {
                    NodeState::Serving => Check::passed("share", told),
                    _ => Check::failed("share", told),
                },
                match party.home.chain_id().await {
                    Ok(id) => Check::passed("chain", format!("{id} answers")),
                    Err(error) => {
                        tracing::warn!(%error, "not ready");
                        Check::failed("chain", "it cannot be read; see the log")
                    }
                },
            ]
        })
    }
}
