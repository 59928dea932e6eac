//! The committee of a stack: real threshold nodes in this process, each with its own directory, sealed share, attested port and checks of its own.
//!
//! # Flow of a start
//! 1. Each node's directory is opened; the first time it makes its signing key. So the contracts can be deployed with all signers.
//! 2. A node that has no share of the stack's key in the chain's epoch makes the stack deal the key to all of them, by the ceremony that a deployment has:
//!    the dealer is this process, which has the secret key.
//! 3. The nodes are started, and asked over connections between attested ends as in a deployment.
//!
//! # What is not as in a deployment
//! One process has all shares, and the secret key on disk besides; attestation is simulated, and everybody can open the sealed files. Nothing is a secret from
//! who runs the stack.
//!
//! On a native chain the nodes squash what they decrypt themselves. Here they share the keys and the threads for it, as there is one machine, and so one of
//! them squashes a value for all.
//!
//! # Restart
//! Shares stay in their directories. What another epoch or another key set makes useless is dealt anew.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use alloy::primitives::{Address, B256};
use anyhow::{Context, Result, bail, ensure};
use cipherloom_attest::{Attestor, CollateralStore, DEVELOPMENT_CHAINS, Policy};
use cipherloom_ceremony::{CeremonyError, DealingParts, LocalLink, Node, NodeLink, Proposal, Registration, Seats, Step, Store, deal};
use cipherloom_chain::{CallLimits, CommitteeOnChain, HostChain, LightClient, LightOptions, NativeGenesis, WitnessOptions, WitnessedChain};
use cipherloom_coprocessor::Coprocessor;
use cipherloom_fhe::KeySet;
use cipherloom_kms::{
    BudgetLimits, Clock as _, HostChainView, KmsLimits, SquashedLists, Squashing, SquashingLimits, SystemClock, TrustedKeys,
};
use cipherloom_kms_node::{
    party::{Attestation, PartyChain, PartyConfig, PartySquashing, RunningParty},
    public::documents::NodeState,
};
use cipherloom_primitives::eip712::SigningDomains;
use cipherloom_service::{attested::AttestedLimits, chains::Trouble};
use cipherloom_threshold::{EpochId, KeyId};
use futures_util::future::{join_all, try_join_all};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use crate::{
    committee::{self, ConnectedCommittee, NodePlace},
    dealt_keys,
    squashed::LocalSquashed,
};

/// How often nodes look at the chain, which is in the same process or on the same machine.
const POLL: Duration = Duration::from_secs(1);

/// How long nodes may take from their start until they serve.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long requests under way may take to end.
const DRAIN: Duration = Duration::from_secs(2);

/// The nodes before they run: their directories are open.
pub(crate) struct Founders {
    nodes: Vec<Founder>,
}

struct Founder {
    directory: PathBuf,
    store: Store,
    attestation: Attestation,
}

/// What the nodes need of the stack around them.
pub(crate) struct Surroundings<'a> {
    /// The key set, with noise squashing.
    pub(crate) keys: &'a Arc<KeySet>,
    /// The chain.
    pub(crate) host: &'a HostChain,
    /// Where signatures are valid.
    pub(crate) domains: SigningDomains,
    /// Who computes on it.
    pub(crate) computes: Computes<'a>,
}

/// Who computes on the chain of a stack, and so where nodes get squashed ciphertexts.
#[derive(Clone, Copy)]
pub(crate) enum Computes<'a> {
    /// A coprocessor, which squashes.
    Coprocessor(&'a Coprocessor),
    /// The validators of a native chain, which is read at these URLs.
    Validators { genesis: &'a NativeGenesis, rpcs: &'a [String] },
}

/// How many nodes of a native chain must agree on what cannot be proven, if there are as many.
const QUORUM: usize = 2;

/// Follows a native chain through all its nodes. Of what has no proof, such as whether a wallet that is a contract recognises a signature, two must say the same.
///
/// # Errors
/// If a URL is none.
pub(crate) fn follow_native(rpcs: &[String], genesis: &NativeGenesis, options: LightOptions) -> Result<LightClient> {
    let options = LightOptions {
        quorum: rpcs.len().clamp(1, QUORUM),
        ..options
    };
    Ok(LightClient::connect(rpcs, genesis, CallLimits::default(), options)?)
}

/// A committee that serves.
pub(crate) struct RunningCommittee {
    /// Those that run, by their number.
    parties: Mutex<BTreeMap<u32, RunningParty>>,
    nodes: Vec<NodeSummary>,
    connected: Arc<ConnectedCommittee>,
    following: JoinHandle<()>,
}

/// A node of the committee, for people.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeSummary {
    /// Its number.
    pub(crate) party: u32,
    /// The address that it signs with.
    pub(crate) signer: Address,
    /// Where gateways call.
    pub(crate) attested: SocketAddr,
    /// Where anybody may check it.
    pub(crate) public: SocketAddr,
}

impl NodeSummary {
    fn of(party: u32, node: &RunningParty) -> Self {
        Self {
            party,
            signer: node.signer(),
            attested: node.attested_address(),
            public: node.public_address(),
        }
    }
}

impl Surroundings<'_> {
    /// Makes what squashes for all nodes, where no coprocessor does. The key set is the stack's own, whose directory is believed.
    fn squashing(&self) -> Option<PartySquashing> {
        match self.computes {
            Computes::Coprocessor(_) => None,
            Computes::Validators { .. } => {
                let keys = Arc::new(TrustedKeys(Arc::clone(self.keys)));
                let service = Squashing::new(key_set_id(self.keys), keys, SquashingLimits::default());
                Some(PartySquashing {
                    service: Arc::new(service),
                    recorded: None,
                })
            }
        }
    }
}

impl Founders {
    /// Opens the directories of so many nodes.
    ///
    /// # Errors
    /// If one cannot be used, the chain is not one for development, or this build has no simulated attestation.
    pub(crate) async fn open(state: &Path, count: u8, chain_id: u64) -> Result<Self> {
        ensure!(
            DEVELOPMENT_CHAINS.contains(&chain_id),
            "--kms-nodes runs nodes whose attestation is simulated, which is allowed on chains {DEVELOPMENT_CHAINS:?} only, and this is chain {chain_id}; \
             `cipherloom kms node --party-dir` runs nodes in trusted hardware"
        );
        let mut nodes = Vec::new();
        for party in 1..=count {
            let directory = state.join("kms").join(party.to_string());
            let attestation = Attestation {
                attestor: committee::insecure_attestor(&format!("cipherloom-kms-{party}"))?,
                policy: Policy::insecure_simulated_only(),
                collateral: Arc::new(CollateralStore::default()),
            };
            let store = open(&directory, &*attestation.attestor).await?;
            nodes.push(Founder {
                directory,
                store,
                attestation,
            });
        }
        Ok(Self { nodes })
    }

    /// Returns the addresses that they sign with, party 1 first.
    pub(crate) fn signers(&self) -> Vec<Address> {
        self.nodes.iter().map(|node| node.store.identity().address()).collect()
    }

    /// Deals the key if it is not yet, starts the nodes, and waits until they serve.
    ///
    /// # Errors
    /// If the key cannot be dealt, a node does not start, or does not come to serve.
    pub(crate) async fn start(self, around: &Surroundings<'_>) -> Result<RunningCommittee> {
        let registered = around
            .host
            .kms_committee()
            .await
            .context("cannot read the committee of the chain")?;
        ensure!(
            registered.signers == self.signers(),
            "the chain has other KMS nodes registered than the {} of this directory: start with as many as before, or with another --data-dir",
            self.nodes.len()
        );
        let nodes = Box::pin(self.dealt(around, &registered)).await?;
        let squashing = around.squashing();
        let mut parties = Vec::new();
        for node in nodes {
            parties.push(Box::pin(node.start(around, registered.chain_id, squashing.clone())).await?);
        }
        let serving = try_join_all((1u32..).zip(&parties).map(|(number, party)| serves(number, party)));
        tokio::time::timeout(PATIENCE, serving).await.with_context(|| {
            format!(
                "the KMS nodes did not come to serve within {} s: {}",
                PATIENCE.as_secs(),
                told(&parties)
            )
        })??;
        let places: Vec<NodePlace> = (1u32..)
            .zip(&parties)
            .map(|(party, node)| NodePlace {
                party,
                address: node.attested_address().to_string(),
            })
            .collect();
        let hosts = vec![(registered.chain_id, around.host.clone())];
        let attestation = committee::Attestation::insecure_simulated("cipherloom-gateway")?;
        let connected = ConnectedCommittee::connect(&places, attestation, hosts).await;
        let connected = Arc::new(connected.map_err(|(Trouble::NotYet(error) | Trouble::Wrong(error))| error)?);
        let nodes = (1u32..).zip(&parties).map(|(party, node)| NodeSummary::of(party, node)).collect();
        Ok(RunningCommittee {
            following: tokio::spawn(Arc::clone(&connected).follow()),
            parties: Mutex::new((1u32..).zip(parties).collect()),
            nodes,
            connected,
        })
    }

    /// Makes sure that all nodes have a share of the key in the chain's epoch.
    async fn dealt(self, around: &Surroundings<'_>, registered: &CommitteeOnChain) -> Result<Vec<Founder>> {
        let key = KeyId(*around.keys.manifest().id.as_bytes());
        let epoch = EpochId(registered.epoch_id.0);
        let mut missing = Vec::new();
        for (party, node) in (1u32..).zip(&self.nodes) {
            match node.store.share(key, epoch) {
                Ok(Some(held)) if held.record.core.seats.context == registered.context_id => {}
                Ok(_) | Err(CeremonyError::OldEpoch { .. }) => missing.push(party),
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot use the share in {}", node.directory.display()));
                }
            }
        }
        if missing.is_empty() {
            return Ok(self.nodes);
        }
        tracing::info!(nodes = self.nodes.len(), ?missing, "dealing the key to the committee");
        let bar = DealingBar::new();
        let keys = Arc::clone(around.keys);
        bar.step("reading the key and making digests");
        let generated = tokio::task::spawn_blocking(move || dealt_keys::generated(&keys, &keys.squashing_secrets()?))
            .await
            .context("reading the key was interrupted")?
            .context("cannot deal the key")?;
        let seats = Seats {
            context: registered.context_id,
            epoch: registered.epoch_id,
            threshold: u8::try_from(registered.mpc_threshold).context("the chain's number of nodes that may be corrupt")?,
            members: registered.signers.clone(),
        };
        let registration = Registration {
            chain_id: registered.chain_id,
            context: seats.context,
            epoch: seats.epoch,
            threshold: seats.threshold,
            members: seats.members.clone(),
            former_members: Vec::new(),
        };
        let proposal = Proposal::deal(registered.chain_id, around.keys.parameters().name(), seats)?;
        let mut links: Vec<Arc<dyn NodeLink>> = Vec::new();
        let mut places = Vec::new();
        for Founder {
            directory,
            store,
            attestation,
        } in self.nodes
        {
            let clock = Arc::new(|| SystemClock.now_seconds());
            let node = Node::new(store, Arc::clone(&attestation.attestor), attestation.verifier()?, clock);
            links.push(Arc::new(LocalLink::new(Arc::new(node), registration.clone())));
            places.push((directory, attestation));
        }
        let dealer = committee::Attestation::insecure_simulated("cipherloom-dealer")?;
        let parts = DealingParts {
            attestor: &*dealer.attestor,
            verifier: &dealer.verifier,
            now: SystemClock.now_seconds(),
        };
        // The key is there already; what all contributed goes into how it is shared.
        let generate = move |_| async move { Ok(generated) };
        let outcome = Box::pin(deal(proposal, &links, parts, generate, |step| bar.step(name(step)))).await;
        let outcome = outcome.context("the ceremony failed")?;
        if let Some((signer, error)) = outcome.not_activated.into_iter().next() {
            return Err(error).with_context(|| format!("KMS node {signer} does not take up its share"));
        }
        drop(bar);
        // One process may have a directory open once, and running nodes open it again.
        drop(links);
        let mut nodes = Vec::new();
        for (directory, attestation) in places {
            let store = open(&directory, &*attestation.attestor).await?;
            nodes.push(Founder {
                directory,
                store,
                attestation,
            });
        }
        Ok(nodes)
    }
}

async fn open(directory: &Path, attestor: &dyn Attestor) -> Result<Store> {
    let opened = Box::pin(Store::open(directory, attestor)).await;
    opened.with_context(|| format!("cannot use the directory of a KMS node, {}", directory.display()))
}

impl Founder {
    async fn start(self, around: &Surroundings<'_>, chain_id: u64, squashing: Option<PartySquashing>) -> Result<RunningParty> {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (view, squashed): (Arc<dyn HostChainView>, _) = match (around.computes, &squashing) {
            (Computes::Coprocessor(coprocessor), _) => {
                let witnessed = WitnessedChain::over(vec![around.host.clone()], WitnessOptions::default())?;
                (
                    Arc::new(witnessed),
                    SquashedLists::Attested(Arc::new(LocalSquashed(coprocessor.clone()))),
                )
            }
            (Computes::Validators { genesis, rpcs }, Some(squashing)) => {
                let followed = follow_native(rpcs, genesis, LightOptions::default())?;
                (Arc::new(followed), SquashedLists::MadeHere(Arc::clone(&squashing.service) as _))
            }
            (Computes::Validators { .. }, None) => bail!("nothing squashes the ciphertexts of the native chain"),
        };
        let chain = PartyChain {
            id: chain_id,
            host: around.host.clone(),
            view,
            domains: around.domains,
            squashed,
        };
        RunningParty::start(PartyConfig {
            store: self.store,
            attestation: self.attestation,
            chains: vec![chain],
            parameters: around.keys.parameters(),
            audit_dir: self.directory.join("audit"),
            attested_addr: free,
            public_addr: free,
            metrics_addr: free,
            limits: KmsLimits::default(),
            budgets: BudgetLimits::default(),
            connections: AttestedLimits::default(),
            poll: POLL,
            recovery_key: None,
            squashing,
        })
        .await
        .with_context(|| format!("cannot start the KMS node in {}", self.directory.display()))
    }
}

/// Waits until a node serves.
async fn serves(number: u32, party: &RunningParty) -> Result<()> {
    let mut changes = party.changes();
    let reached = changes.wait_for(|state| state.state == NodeState::Serving).await;
    match reached {
        Ok(_) => Ok(()),
        Err(_) => bail!("KMS node {number} has ended"),
    }
}

/// Says what nodes do that do not serve.
fn told(parties: &[RunningParty]) -> String {
    let each: Vec<String> = (1u32..)
        .zip(parties)
        .map(|(number, party)| {
            let state = party.state();
            let detail = state.detail.map_or_else(String::new, |detail| format!(" ({detail})"));
            format!("node {number}: {}{detail}", state.state.as_str())
        })
        .collect();
    each.join("; ")
}

impl RunningCommittee {
    /// Returns the committee as a gateway asks it.
    pub(crate) fn connected(&self) -> &Arc<ConnectedCommittee> {
        &self.connected
    }

    /// Describes the nodes, those that were stopped too.
    pub(crate) fn nodes(&self) -> &[NodeSummary] {
        &self.nodes
    }

    /// Stops one node; the others go on.
    pub(crate) async fn stop(&self, party: u32) {
        let node = self.parties.lock().unwrap_or_else(PoisonError::into_inner).remove(&party);
        if let Some(node) = node {
            Box::pin(node.shutdown(DRAIN)).await;
        }
    }

    /// Stops all nodes.
    pub(crate) async fn shutdown(self) {
        self.following.abort();
        let parties = self.parties.into_inner().unwrap_or_else(PoisonError::into_inner);
        join_all(parties.into_values().map(|party| Box::pin(party.shutdown(DRAIN)))).await;
    }
}

const fn name(step: Step) -> &'static str {
    match step {
        Step::Cards => "the nodes and the dealer prove what they are",
        Step::Entropy => "collecting randomness of all nodes",
        Step::Keys => "taking the key",
        Step::Shares => "sharing the key",
        Step::Acceptance => "the nodes check their shares and decrypt known values",
        Step::Activation => "the nodes take up their shares",
    }
}

/// How far dealing is: a bar on a terminal, a line per step elsewhere.
struct DealingBar(ProgressBar);

impl DealingBar {
    /// Those of the ceremony, and reading the key before.
    const STEPS: u64 = 7;

    fn new() -> Self {
        let bar = ProgressBar::new(Self::STEPS);
        let style = ProgressStyle::with_template("  dealing the key  [{bar:32}] {pos}/{len}  {elapsed_precise}  {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    fn step(&self, message: &'static str) {
        if self.0.is_hidden() {
            eprintln!("  dealing the key: {message}");
        }
        self.0.set_message(message);
        self.0.inc(1);
    }
}

impl Drop for DealingBar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// The id of a key set as contracts and nodes write it.
pub(super) fn key_set_id(keys: &KeySet) -> B256 {
    B256::from(*keys.manifest().id.as_bytes())
}
