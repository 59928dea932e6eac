//! A chain with host contracts, parties in this process, and a dealer.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use alloy::signers::local::PrivateKeySigner;
use cipherloom_attest::{
    Attestor, CollateralStore, Policy, Role, Statement, Verifier,
    ra_tls::{Endpoint, Expected},
    simulated::InsecureSimulatedAttestor,
};
use cipherloom_ceremony::{DealingParts, GeneratedKeys, Material, NodeLink, Outcome, Proposal, Seats, Store, deal};
use cipherloom_chain::{
    CallLimits, CommitteeOnChain, HostChain, LocalProfile, SendOptions, TransactionSender, WitnessOptions, WitnessedChain,
    administration::set_kms, deploy, manifest::Kms, profile::DEVELOPMENT,
};
use cipherloom_contracts::{SignerSet, deployment_steps};
use cipherloom_fhe::ParameterSet;
use cipherloom_kms::{BudgetLimits, KmsLimits, SignedSquashed, SourceError, SquashedLists, SquashedSource};
use cipherloom_kms_node::{
    party::{Attestation, PartyChain, PartyConfig, PartyState, RunningParty},
    public::documents::NodeState,
};
use cipherloom_node::{AccountsConfig, DevChain, DevChainConfig, DevChainHandle};
use cipherloom_primitives::{Address, B256, Handle};
use cipherloom_service::{
    attested::{AttestedLimits, attested_channel},
    ceremony::RemoteNode,
};
use cipherloom_threshold::{KeyKind, SquashedCiphertext, ValueShape, reshare::KnownValue};
use futures_util::future::BoxFuture;
use tempfile::TempDir;
use tonic::transport::Channel;
use zeroize::Zeroizing;

/// How long something may take that takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// The key that is dealt.
pub(crate) const KEY: B256 = B256::repeat_byte(0x5e);

/// A chain and the parties' directories.
pub(crate) struct Ground {
    _node: DevChainHandle,
    url: String,
    pub(crate) host: HostChain,
    directory: TempDir,
}

impl Ground {
    /// Deploys the contracts with a KMS node that is none of ours.
    pub(crate) async fn new() -> Self {
        let node = DevChain::start(DevChainConfig {
            accounts: AccountsConfig {
                extra_funded: vec![DEVELOPMENT.deployer],
                ..AccountsConfig::default()
            },
            ..DevChainConfig::default()
        });
        let node = node.await.unwrap();
        let url = node.rpc_url();
        let host = HostChain::with_limits(&url, DEVELOPMENT.addresses(), CallLimits::default()).unwrap();
        let nobody = SignerSet::single(Address::repeat_byte(0xee));
        let steps = deployment_steps(&DEVELOPMENT.deployment(nobody.clone(), nobody));
        deploy(&host, &steps, &owner()).await.unwrap();
        Self {
            _node: node,
            url,
            host,
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// The directory of a party.
    pub(crate) fn directory(&self, number: u32) -> PathBuf {
        self.directory.path().join(format!("party-{number}"))
    }

    /// Starts a party on free ports.
    pub(crate) async fn start(&self, number: u32) -> RunningParty {
        let config = self.config(&self.directory(number)).await;
        Box::pin(RunningParty::start(config)).await.unwrap()
    }

    pub(crate) async fn config(&self, directory: &Path) -> PartyConfig {
        let attestor = attestor();
        let profile: LocalProfile = DEVELOPMENT;
        let view = WitnessedChain::connect(
            &[&self.url],
            profile.addresses(),
            CallLimits::default(),
            profile.chain_id(),
            WitnessOptions::default(),
        );
        let any = "127.0.0.1:0".parse().unwrap();
        PartyConfig {
            store: Store::open(directory, &*attestor).await.unwrap(),
            attestation: Attestation {
                attestor,
                policy: Policy::insecure_simulated_only(),
                collateral: Arc::new(CollateralStore::default()),
            },
            chains: vec![PartyChain {
                id: profile.chain_id(),
                host: self.host.clone(),
                view: Arc::new(view.unwrap()),
                domains: profile.domains,
                squashed: SquashedLists::Attested(Arc::new(NoCiphertexts)),
            }],
            parameters: ParameterSet::Production,
            audit_dir: directory.join("audit"),
            attested_addr: any,
            public_addr: any,
            metrics_addr: any,
            limits: KmsLimits::default(),
            budgets: BudgetLimits::default(),
            connections: AttestedLimits::default(),
            poll: Duration::from_millis(50),
            recovery_key: None,
            squashing: None,
        }
    }

    /// Begins a KMS context with these signers, of which one may be corrupt.
    pub(crate) async fn register(&self, signers: Vec<Address>) {
        let kms = Kms {
            signers,
            public_decryption_threshold: 2,
            user_decryption_threshold: 3,
            mpc_threshold: 1,
        };
        let call = set_kms(self.host.addresses(), &kms);
        self.send(&call).await;
    }

    pub(crate) async fn send(&self, call: &cipherloom_chain::Call) {
        let mut sender = TransactionSender::new(&self.host, owner(), SendOptions::default()).await.unwrap();
        let nonce = sender.next_nonce().await.unwrap();
        sender.send(call, nonce, &mut |_| {}).await.unwrap();
    }

    /// Has a dealer make a key and give each party its share, over attested connections.
    pub(crate) async fn deal(&self, parties: &[RunningParty]) -> Outcome {
        let committee = self.host.kms_committee().await.unwrap();
        let endpoint = endpoint(Role::Dealer, &committee).await;
        let mut nodes: Vec<Arc<dyn NodeLink>> = Vec::new();
        for party in parties {
            let channel = attested_channel(Arc::clone(&endpoint), &party.attested_address().to_string(), None).unwrap();
            let (node, records) = RemoteNode::connect("a node", channel).await.unwrap();
            assert!(records.is_empty());
            nodes.push(Arc::new(node));
        }
        let seats = Seats {
            context: committee.context_id,
            epoch: committee.epoch_id,
            threshold: 1,
            members: committee.signers,
        };
        let proposal = Proposal::deal(committee.chain_id, ParameterSet::Production.name(), seats).unwrap();
        let (attestor, verifier) = (attestor(), verifier());
        let parts = DealingParts {
            attestor: &*attestor,
            verifier: &verifier,
            now: now(),
        };
        Box::pin(deal(proposal, &nodes, parts, async |_| Ok(generated()), |_| {}))
            .await
            .unwrap()
    }

    /// A channel to a party for a caller in a role.
    pub(crate) async fn channel(&self, role: Role, party: &RunningParty) -> Channel {
        let committee = self.host.kms_committee().await.unwrap();
        attested_channel(endpoint(role, &committee).await, &party.attested_address().to_string(), None).unwrap()
    }
}

/// Waits until a party is in a state.
pub(crate) async fn becomes(party: &RunningParty, state: NodeState) -> PartyState {
    let mut changes = party.changes();
    let found = tokio::time::timeout(PATIENCE, changes.wait_for(|now| now.state == state)).await;
    found.unwrap_or_else(|_| panic!("{:?}", party.state())).unwrap().clone()
}

/// The end of connections of a caller who is no member.
pub(crate) async fn endpoint(role: Role, committee: &CommitteeOnChain) -> Arc<Endpoint> {
    let statement = Statement {
        role,
        chain_id: committee.chain_id,
        context: committee.context_id,
        party: 0,
        signer: Address::ZERO,
    };
    let expected = Expected {
        chain_id: committee.chain_id,
        context: committee.context_id,
        roles: vec![Role::KmsNode],
        members: committee.members(),
        party: None,
    };
    Arc::new(
        Endpoint::new(statement, attestor(), verifier(), expected, Arc::new(now))
            .await
            .unwrap(),
    )
}

pub(crate) fn attestor() -> Arc<dyn Attestor> {
    Arc::new(InsecureSimulatedAttestor::new("party").unwrap())
}

fn verifier() -> Verifier {
    Verifier::new(Policy::insecure_simulated_only(), Arc::new(CollateralStore::default())).unwrap()
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Who owns the contracts.
fn owner() -> PrivateKeySigner {
    DEVELOPMENT.insecure_deployer().unwrap()
}

/// A source that has nothing.
struct NoCiphertexts;

impl SquashedSource for NoCiphertexts {
    fn squashed(&self, _: Handle) -> BoxFuture<'_, Result<SignedSquashed, SourceError>> {
        Box::pin(async { Err(SourceError::Unknown) })
    }
}

/// A small key, with a known value under each of its secrets.
fn generated() -> GeneratedKeys {
    let bits = |length: usize| -> Vec<u128> { (0..length).map(|index| u128::from(index % 3 == 0)).collect() };
    let (squashed, compressed) = (bits(40), bits(60));
    let known = |kind, key: &[u128]| {
        let mut words: Vec<u128> = (1..=key.len())
            .map(|index| (index as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .collect();
        let product = words
            .iter()
            .zip(key)
            .fold(0u128, |sum, (word, bit)| sum.wrapping_add(word.wrapping_mul(*bit)));
        words.push((13u128 << 123).wrapping_add(product).wrapping_add(1000));
        let mut little_endian = [0; 32];
        little_endian[0] = 13;
        KnownValue {
            ciphertext: SquashedCiphertext::new(kind, ValueShape::new(4).unwrap(), key.len(), words).unwrap(),
            little_endian,
        }
    };
    GeneratedKeys {
        key_id: KEY,
        known: vec![known(KeyKind::Squashed, &squashed), known(KeyKind::Compressed, &compressed)],
        squashed: Zeroizing::new(squashed),
        compressed: Zeroizing::new(compressed),
        material: vec![Material {
            name: "public_key.bin".into(),
            digest: B256::repeat_byte(9),
            size_bytes: 12345,
        }],
    }
}
