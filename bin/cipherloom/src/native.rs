//! `dev --native` and `demo --native`: a chain whose validators compute on ciphertexts inside the block, its KMS and its gateway, all in one process.
//!
//! The validators are whole: each has its key, its directory and its network connections, and computes every block. They share the evaluation key and the
//! threads that compute, as there is one machine.

mod gateway;
mod kms;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use cipherloom_chain::{HostChain, NativeGenesis};
use cipherloom_consensus::Timeouts;
use cipherloom_contracts::{HostAddresses, KmsConfig, development};
use cipherloom_fhe::KeySet;
use cipherloom_node::{
    DEV_MNEMONIC, DevAccount,
    native::{Genesis, STATE_INTERVAL},
};
use cipherloom_primitives::{
    B256,
    eip712::SigningDomains,
    quorum::{Validator, ValidatorSet},
};
use cipherloom_validator::{
    ChainPlan, EmbeddedExecutor, EmbeddedOptions, NodeDirectory, NodeParts, Peers, ProofChecks, RunningNode, genesis::DEVELOPMENT_CHAIN_ID,
    genesis_command::insecure_development_funds,
};
use clap::{Args, value_parser};
use serde_json::{Value, json};

use self::{
    gateway::NativeGateway,
    kms::{Ground, NativeFounders, NativeKms},
};
use crate::{
    cli::StackOptions,
    stack::{Listen, NodeSummary},
};

/// The most time that a block may take to compute with one of the validators.
const BLOCK: Duration = Duration::from_secs(60);

/// The least time between blocks.
const BLOCK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a validator may say nothing. One process does the work of all, so that this takes longer than elsewhere.
const SILENCE: Duration = Duration::from_secs(10);

/// How long the first new block may take.
const FIRST_BLOCK: Duration = Duration::from_secs(120);

/// How many accounts are told.
const ACCOUNTS: u32 = 10;

/// Whether the chain is a native one, and how large.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct NativeOptions {
    /// Run a native chain: validators that compute on ciphertexts inside the block, instead of a development chain with a coprocessor. Its id is 31338,
    /// unless --chain-id says otherwise; the host contracts stand where they do on 31337.
    #[arg(long, conflicts_with = "rpc")]
    pub(crate) native: bool,

    /// The native chain's id, and another chain for each. With 31337 it is a chain that published Solidity libraries know, so that contracts work unchanged.
    #[arg(long, value_name = "ID", requires = "native", default_value_t = DEVELOPMENT_CHAIN_ID, value_parser = value_parser!(u64).range(1..))]
    pub(crate) chain_id: u64,

    /// How many validators it has; all compute every block.
    #[arg(long, value_name = "N", requires = "native", default_value_t = 4, value_parser = value_parser!(u8).range(1..=16))]
    pub(crate) validators: u8,

    /// Add a node that does not vote, and have it serve JSON-RPC.
    #[arg(long, requires = "native")]
    pub(crate) full_node: bool,
}

/// A running native chain with all that clients need.
pub(crate) struct NativeStack {
    /// The validators, then the full node if there is one. The last one serves JSON-RPC.
    nodes: Vec<RunningNode>,
    validators: usize,
    host: HostChain,
    genesis: NativeGenesis,
    kms: NativeKms,
    gateway: NativeGateway,
    accounts: Vec<DevAccount>,
}

impl NativeStack {
    /// Starts everything. What the directory holds is taken up where it was left.
    ///
    /// # Errors
    /// If a port is taken, another process uses the directory, or it holds a chain with other validators or keys.
    pub(crate) async fn start(keys: Arc<KeySet>, state: &Path, options: &StackOptions, listen: Listen) -> Result<Self> {
        let chain_id = options.native.chain_id;
        let place = state.join(match chain_id {
            DEVELOPMENT_CHAIN_ID => "native".to_owned(),
            _ => format!("native-{chain_id}"),
        });
        let founders = NativeFounders::open(&place, chain_id, options.kms_nodes).await?;
        let directories = directories(&place, &options.native)?;
        let validators = usize::from(options.native.validators);
        let genesis_file = place.join("genesis.json");
        let founded = found(
            &keys,
            chain_id,
            &genesis_file,
            directories.get(..validators).unwrap_or_default(),
            founders.config(),
        )
        .await?;
        let nodes = Box::pin(start_nodes(&keys, &founded, &directories, options, &listen)).await?;
        let rpc = nodes.last().and_then(RunningNode::rpc_url).context("no node serves JSON-RPC")?;
        let genesis = NativeGenesis::read(&genesis_file)?;
        let host = HostChain::connect(&rpc, genesis.contracts)?;
        let rpcs: Vec<String> = nodes.iter().filter_map(RunningNode::rpc_url).collect();
        let ground = Ground {
            keys: &keys,
            genesis: &genesis,
            host: &host,
            rpcs: &rpcs,
            directory: &place.join("kms"),
        };
        let kms = Box::pin(founders.start(&ground)).await?;
        let gateway = Box::pin(NativeGateway::start(
            Arc::clone(&keys),
            kms.asked(),
            &host,
            genesis.chain_id,
            &place,
            listen,
        ))
        .await?;
        let accounts = (0..ACCOUNTS).map(|index| DevAccount::derive(DEV_MNEMONIC, &format!("m/44'/60'/0'/0/{index}")));
        Ok(Self {
            nodes,
            validators,
            host,
            kms,
            gateway,
            accounts: accounts.collect::<Result<_, _>>()?,
            genesis,
        })
    }

    /// Returns the chain as clients read it.
    pub(crate) const fn host(&self) -> &HostChain {
        &self.host
    }

    /// Returns the chain's id.
    pub(crate) const fn chain_id(&self) -> u64 {
        self.genesis.chain_id
    }

    /// Returns where the host contracts are.
    pub(crate) const fn addresses(&self) -> &HostAddresses {
        &self.genesis.contracts
    }

    /// Returns where signatures are valid.
    pub(crate) fn domains(&self) -> SigningDomains {
        self.genesis.signing_domains()
    }

    /// Returns the gateway's URL, without a version.
    pub(crate) fn gateway_url(&self) -> String {
        self.gateway.url().to_owned()
    }

    /// Returns the URL of the chain's JSON-RPC.
    pub(crate) fn rpc_url(&self) -> String {
        self.nodes.last().and_then(RunningNode::rpc_url).unwrap_or_default()
    }

    /// Returns the funded accounts whose keys everybody knows.
    pub(crate) fn accounts(&self) -> &[DevAccount] {
        &self.accounts
    }

    /// Returns the nodes of the committee; none if one node has the whole key.
    pub(crate) fn committee(&self) -> &[NodeSummary] {
        self.kms.committee()
    }

    /// Stops a node of the committee; the others go on.
    pub(crate) async fn stop_kms_node(&self, party: u32) {
        self.kms.stop_node(party).await;
    }

    /// Returns how many nodes vote.
    pub(crate) const fn validators(&self) -> usize {
        self.validators
    }

    /// Waits until all nodes have a block, and returns the one state root that they have after it.
    ///
    /// # Errors
    /// If they have different ones, or one does not come.
    pub(crate) async fn common_state_root(&self, number: u64) -> Result<B256> {
        let wait = async {
            for node in &self.nodes {
                let mut status = node.watch();
                status
                    .wait_for(|status| status.height >= number)
                    .await
                    .context("a node has ended")?;
            }
            Ok::<_, anyhow::Error>(())
        };
        tokio::time::timeout(FIRST_BLOCK, wait)
            .await
            .with_context(|| format!("not all nodes came to block {number}"))??;
        let mut roots = Vec::new();
        for node in &self.nodes {
            let block = node
                .chain()
                .block(number.into())?
                .with_context(|| format!("block {number} is missing"))?;
            roots.push(block.header.state_root);
        }
        let first = *roots.first().context("there are no nodes")?;
        ensure!(
            roots.iter().all(|root| *root == first),
            "the nodes' state differs after block {number}: {roots:?}"
        );
        Ok(first)
    }

    /// Describes it as `dev` prints it.
    pub(crate) fn summary(&self, backend: &str, insecure_keys: bool, state: &Path) -> Value {
        let (addresses, domains) = (self.addresses(), self.domains());
        let accounts: Vec<Value> = self
            .accounts
            .iter()
            .map(|account| json!({ "address": account.address().to_checksum(None), "privateKey": account.insecure_private_key_hex() }))
            .collect();
        let nodes: Vec<Value> = (1usize..)
            .zip(&self.nodes)
            .map(|(number, node)| {
                json!({
                    "number": number,
                    "address": node.address().to_checksum(None),
                    "validator": number <= self.validators,
                    "rpcUrl": node.rpc_url(),
                    "peerAddress": node.peer_address().map(|peer| peer.to_string()),
                })
            })
            .collect();
        json!({
            "native": true,
            "nodes": nodes,
            "kmsNodes": self.kms.summary(),
            "backend": backend,
            "insecureKeys": insecure_keys,
            "attached": false,
            "face": cipherloom_contracts::Face::default().as_str(),
            "chainId": self.chain_id(),
            "genesisHash": self.genesis.hash,
            "rpcUrl": self.rpc_url(),
            "wsUrl": self.nodes.last().and_then(RunningNode::ws_url),
            "gatewayUrl": self.gateway_url(),
            "gatewayChainId": domains.gateway_chain_id,
            "contracts": {
                "ACL": addresses.acl.to_checksum(None),
                "FHEVMExecutor": addresses.executor.to_checksum(None),
                "KMSVerifier": addresses.kms_verifier.to_checksum(None),
                "InputVerifier": addresses.input_verifier.to_checksum(None),
                "HCULimit": addresses.hcu_limit.to_checksum(None),
                "ProtocolConfig": addresses.protocol_config.to_checksum(None),
                "GatewayContract": addresses.gateway_contract.to_checksum(None),
            },
            "verifyingContracts": {
                "Decryption": domains.decryption.to_checksum(None),
                "InputVerification": domains.input_verification.to_checksum(None),
            },
            "accounts": accounts,
            "dataDir": state,
        })
    }

    /// Stops everything: no new requests, then the nodes.
    pub(crate) async fn shutdown(self) {
        self.gateway.shutdown().await;
        Box::pin(self.kms.shutdown()).await;
        for node in self.nodes {
            if let Err(error) = node.shutdown().await {
                tracing::error!(error = format!("{error:#}"), "a node had ended by itself");
            }
        }
    }
}

/// Makes the nodes' directories: those of validators first.
fn directories(place: &Path, options: &NativeOptions) -> Result<Vec<NodeDirectory>> {
    let validators = (1..=options.validators).map(|number| format!("validator-{number}"));
    let others = options.full_node.then(|| "full-node".to_owned());
    let make = |name: String| {
        let directory = place.join(name);
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(NodeDirectory::at(&directory))
    };
    validators.chain(others).map(make).collect()
}

/// Opens the chain's genesis, or makes one at the first start.
async fn found(keys: &Arc<KeySet>, chain_id: u64, file: &Path, validators: &[NodeDirectory], kms: KmsConfig) -> Result<Genesis> {
    let key_set_id = B256::from(*keys.manifest().id.as_bytes());
    let mut members = Vec::new();
    for directory in validators {
        let address = directory.read_or_make_key()?.address();
        members.push(Validator { address, power: 1 });
    }
    let set = ValidatorSet::new(members)?;
    if file.exists() {
        let genesis = Genesis::read(file).with_context(|| format!("cannot use {}", file.display()))?;
        ensure!(
            genesis.chain_id == chain_id && genesis.validators == set && genesis.key_set_id == key_set_id,
            "{} is of a chain with {} validators or other keys; start with as many, or with another --data-dir",
            file.display(),
            genesis.validators.len()
        );
        return Ok(genesis);
    }
    let mut plan = ChainPlan::new(chain_id, set, development::DEPLOYER, kms)?;
    plan.funded = insecure_development_funds()?;
    let payers = gateway::payers()?;
    plan.relayers = payers.iter().map(DevAccount::address).take(1).collect();
    plan.funded
        .extend(payers.iter().map(|payer| (payer.address(), gateway::FUNDED_WEI)));
    let keys = Arc::clone(keys);
    let genesis = tokio::task::spawn_blocking(move || plan.build(&keys))
        .await
        .context("making the genesis was interrupted")??;
    std::fs::write(file, genesis.to_json()?).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(genesis)
}

async fn start_nodes(
    keys: &Arc<KeySet>,
    genesis: &Genesis,
    directories: &[NodeDirectory],
    options: &StackOptions,
    listen: &Listen,
) -> Result<Vec<RunningNode>> {
    // Reading the evaluation key takes seconds of CPU.
    let evaluation = tokio::task::spawn_blocking({
        let keys = Arc::clone(keys);
        move || keys.evaluation()
    });
    let backend = evaluation.await.context("reading the evaluation key was interrupted")??;
    let computing = EmbeddedOptions {
        schedule: options.engine.schedule,
        threads: None,
    };
    let executor = Arc::new(EmbeddedExecutor::start(Arc::clone(&backend), genesis.key_set_id, computing)?);
    let checks = Arc::new(ProofChecks::new(backend));
    let timeouts = Timeouts {
        silence: SILENCE,
        block_interval: BLOCK_INTERVAL,
        ..Timeouts::local(BLOCK)
    };
    let mut nodes: Vec<RunningNode> = Vec::new();
    for (number, directory) in directories.iter().enumerate() {
        let is_last = number + 1 == directories.len();
        let parts = NodeParts {
            genesis: genesis.clone(),
            data_dir: directory.data.clone(),
            state_interval: STATE_INTERVAL,
            key: directory.read_or_make_key()?,
            votes: number < usize::from(options.native.validators),
            compute: Arc::clone(&executor) as _,
            checks: Arc::clone(&checks) as _,
            peers: Peers::local(nodes.iter().filter_map(RunningNode::peer_address).collect()),
            rpc: Some(if is_last { listen.rpc } else { ([127, 0, 0, 1], 0).into() }),
            timeouts,
        };
        let node = Box::pin(RunningNode::start(parts)).await;
        nodes.push(node.with_context(|| format!("cannot start node {}", number + 1))?);
    }
    // The KMS does not believe old blocks, and blocks before the first one have no signatures.
    if let Some(node) = nodes.last() {
        let mut status = node.watch();
        let before = status.borrow_and_update().height;
        let next = tokio::time::timeout(FIRST_BLOCK, status.wait_for(|status| status.height > before));
        next.await
            .context("the validators do not decide a block")?
            .context("a node has ended")?;
    }
    Ok(nodes)
}
