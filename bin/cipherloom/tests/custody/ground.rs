//! A chain with host contracts, nodes in this process, and the commands beside it.

use std::{process::Output, sync::Arc, time::Duration};

use alloy::signers::local::PrivateKeySigner;
use cipherloom_attest::{Attestor, CollateralStore, Policy, simulated::InsecureSimulatedAttestor};
use cipherloom_ceremony::{RecoveryKey, Store};
use cipherloom_chain::{
    Call, CallLimits, HostChain, SendOptions, TransactionSender, WitnessOptions, WitnessedChain, administration::set_kms, deploy,
    manifest::Kms, profile::DEVELOPMENT,
};
use cipherloom_contracts::{SignerSet, deployment_steps};
use cipherloom_fhe::ParameterSet;
use cipherloom_kms::{BudgetLimits, KmsLimits, SignedSquashed, SourceError, SquashedLists, SquashedSource};
use cipherloom_kms_node::{
    party::{Attestation, PartyChain, PartyConfig, PartyState, RunningParty},
    public::documents::NodeState,
};
use cipherloom_node::{AccountsConfig, DevChain, DevChainConfig, DevChainHandle};
use cipherloom_primitives::{Address, Handle};
use cipherloom_service::attested::AttestedLimits;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tempfile::TempDir;

/// How long something may take that takes seconds at most.
const PATIENCE: Duration = Duration::from_secs(60);
/// The application whose sealing keys nodes and `recover` have.
const APPLICATION: &str = "cipherloom-kms";

/// A chain, and a directory for everything.
pub(crate) struct Ground {
    _node: DevChainHandle,
    url: String,
    pub(crate) host: HostChain,
    pub(crate) directory: TempDir,
    recovery_key: Option<RecoveryKey>,
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
            recovery_key: None,
        }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    /// Makes a recovery key, which nodes that are started afterwards have in their configuration.
    pub(crate) async fn recovery_key(&mut self, needed: u8, pieces: u8) {
        let (needed, pieces, output) = (needed.to_string(), pieces.to_string(), self.path("recovery"));
        let line = [
            "kms",
            "recovery-key",
            "--needed",
            &needed,
            "--pieces",
            &pieces,
            "--output",
            &output,
            "--json",
        ];
        let made = run(&line.map(str::to_owned)).await;
        let document = std::fs::read(made["document"].as_str().unwrap()).unwrap();
        self.recovery_key = Some(RecoveryKey::from_json(&document).unwrap());
    }

    /// Starts a node on free ports.
    pub(crate) async fn start(&self, number: u32) -> RunningParty {
        let directory = self.directory.path().join(format!("party-{number}"));
        let attestor: Arc<dyn Attestor> = Arc::new(InsecureSimulatedAttestor::new(APPLICATION).unwrap());
        let addresses = DEVELOPMENT.addresses();
        let view = WitnessedChain::connect(
            &[&self.url],
            addresses,
            CallLimits::default(),
            DEVELOPMENT.chain_id(),
            WitnessOptions::default(),
        );
        let any = "127.0.0.1:0".parse().unwrap();
        let config = PartyConfig {
            store: Store::open(&directory, &*attestor).await.unwrap(),
            attestation: Attestation {
                attestor,
                policy: Policy::insecure_simulated_only(),
                collateral: Arc::new(CollateralStore::default()),
            },
            chains: vec![PartyChain {
                id: DEVELOPMENT.chain_id(),
                host: self.host.clone(),
                view: Arc::new(view.unwrap()),
                domains: DEVELOPMENT.domains,
                squashed: SquashedLists::Attested(Arc::new(NoCiphertexts)),
            }],
            parameters: ParameterSet::InsecureToy,
            audit_dir: directory.join("audit"),
            attested_addr: any,
            public_addr: any,
            metrics_addr: any,
            limits: KmsLimits::default(),
            budgets: BudgetLimits::default(),
            connections: AttestedLimits::default(),
            poll: Duration::from_millis(50),
            recovery_key: self.recovery_key.clone(),
            squashing: None,
        };
        Box::pin(RunningParty::start(config)).await.unwrap()
    }

    /// Begins a KMS context with these signers, of which as many may be corrupt as there can be.
    pub(crate) async fn register(&self, signers: Vec<Address>) {
        let corrupt = u64::try_from((signers.len() - 1) / 3).unwrap();
        let kms = Kms {
            signers,
            public_decryption_threshold: corrupt + 1,
            user_decryption_threshold: 2 * corrupt + 1,
            mpc_threshold: corrupt,
        };
        self.send(&set_kms(self.host.addresses(), &kms)).await;
    }

    pub(crate) async fn send(&self, call: &Call) {
        let mut sender = TransactionSender::new(&self.host, owner(), SendOptions::default()).await.unwrap();
        let nonce = sender.next_nonce().await.unwrap();
        sender.send(call, nonce, &mut |_| {}).await.unwrap();
    }

    /// The options that name nodes.
    pub(crate) fn nodes(&self, parties: &[RunningParty]) -> Vec<String> {
        parties
            .iter()
            .flat_map(|party| ["--node".to_owned(), party.attested_address().to_string()])
            .collect()
    }

    /// A command line for nodes.
    pub(crate) fn kms(&self, command: &str, nodes: &[String], more: &[&str]) -> Vec<String> {
        let begin = ["kms", command, "--rpc-url", &self.url, "--insecure-simulated-attestation"];
        let words = begin.into_iter().chain(more.iter().copied()).map(str::to_owned);
        words.chain(nodes.iter().cloned()).collect()
    }

    /// A command line of a recovery.
    pub(crate) fn recover(&self, step: &str, more: &[&str]) -> Vec<String> {
        let chain = ["--rpc-url", &self.url];
        let begin = ["kms", "recover", step, "--insecure-simulated-attestation"].into_iter();
        let chain = chain.iter().copied().filter(|_| step != "piece");
        begin.chain(chain).chain(more.iter().copied()).map(str::to_owned).collect()
    }

    /// Has an auditor look at nodes, and returns what they are told.
    pub(crate) async fn verify(&self, policy: &str, parties: &[RunningParty], earlier: &[&str]) -> (Option<i32>, String) {
        let mut line: Vec<String> = ["kms", "verify", "--policy", policy, "--rpc-url", &self.url, "--allow-insecure"]
            .map(str::to_owned)
            .to_vec();
        line.extend(earlier.iter().flat_map(|file| ["--earlier-record".to_owned(), (*file).to_owned()]));
        line.extend(parties.iter().map(|party| format!("http://{}", party.public_address())));
        let output = execute(&line).await;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), errors(&output));
        (output.status.code(), said)
    }

    /// Runs a step of a recovery.
    pub(crate) async fn done(&self, step: &str, more: &[&str]) {
        let output = execute(&self.recover(step, more)).await;
        assert!(output.status.success(), "{step}: {}", errors(&output));
    }
}

/// Waits until a node is in a state.
pub(crate) async fn becomes(party: &RunningParty, state: NodeState) -> PartyState {
    let mut changes = party.changes();
    let found = tokio::time::timeout(PATIENCE, changes.wait_for(|now| now.state == state)).await;
    found.unwrap_or_else(|_| panic!("{:?}", party.state())).unwrap().clone()
}

/// Runs a command that prints an object.
pub(crate) async fn run(line: &[String]) -> Value {
    let output = execute(line).await;
    assert!(output.status.success(), "{line:?}: {}", errors(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs a command that must fail, and returns what it says.
pub(crate) async fn refused(line: &[String]) -> String {
    let output = execute(line).await;
    assert!(!output.status.success(), "{line:?}");
    errors(&output)
}

pub(crate) async fn execute(line: &[String]) -> Output {
    let program = env!("CARGO_BIN_EXE_cipherloom");
    tokio::process::Command::new(program).args(line).output().await.unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
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
