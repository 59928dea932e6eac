//! A coprocessor that follows a real chain with a real token on it, on the clear backend.

#![expect(clippy::unwrap_used, reason = "tests and their helpers fail by panicking")]

use std::{path::Path, sync::Arc, time::Duration};

use alloy::{
    network::{EthereumWallet, TransactionBuilder},
    primitives::{Address, B256, Bytes, U256},
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::types::TransactionRequest,
    signers::local::{MnemonicBuilder, PrivateKeySigner},
};
use cipherloom_chain::{Follower, FollowerConfig, HostChain, deploy};
use cipherloom_contracts::{SignerSet, deployment_steps, development};
use cipherloom_coprocessor::{Coprocessor, CoprocessorConfig, HandleStatus, KeyedEngine, Machine};
use cipherloom_engine::PoolOptions;
use cipherloom_fhe::{KeySet, ParameterSet};
use cipherloom_node::{DevChain, DevChainConfig, DevChainHandle};
use cipherloom_primitives::Handle;
use cipherloom_store::{SqliteStore, Store};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

alloy::sol! {
    #[sol(rpc)]
    interface Token {
        function mint(address to, uint64 amount) external;
        function balanceOf(address account) external view returns (bytes32);
    }
}

/// A chain with host contracts and a token, and the data of a coprocessor.
struct Bench {
    node: DevChainHandle,
    host: HostChain,
    owner: PrivateKeySigner,
    token: Address,
    keys: KeySet,
    directory: TempDir,
}

impl Bench {
    async fn new() -> Self {
        let node = DevChain::start(DevChainConfig::default()).await.unwrap();
        let host = HostChain::connect(&node.rpc_url(), development::addresses()).unwrap();
        let signers = SignerSet::single(signer().address());
        let steps = deployment_steps(&development::deployment(signers.clone(), signers));
        let deployer = MnemonicBuilder::from_phrase(development::INSECURE_DEPLOYER_MNEMONIC);
        let deployer = deployer.index(development::DEPLOYER_INDEX).unwrap().build().unwrap();
        deploy(&host, &steps, &deployer).await.unwrap();

        let key = node.accounts().first().unwrap().insecure_private_key_hex();
        let owner: PrivateKeySigner = key.trim_start_matches("0x").parse().unwrap();
        let provider = provider(&node, &owner);
        let creation = TransactionRequest::default().with_deploy_code(token_bytecode());
        let receipt = provider.send_transaction(creation).await.unwrap().get_receipt().await.unwrap();
        let token = receipt.contract_address.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let keys = KeySet::generate(&directory.path().join("keys"), ParameterSet::InsecureClear, &()).unwrap();
        Self {
            node,
            host,
            owner,
            token,
            keys,
            directory,
        }
    }

    /// Mints and returns the handle of the new balance.
    async fn mint(&self, amount: u64) -> Handle {
        let token = Token::new(self.token, provider(&self.node, &self.owner));
        let owner = self.owner.address();
        let receipt = token.mint(owner, amount).send().await.unwrap().get_receipt().await.unwrap();
        assert!(receipt.status());
        Handle::try_from(token.balanceOf(owner).call().await.unwrap()).unwrap()
    }

    async fn start(&self) -> Running {
        let store: Arc<dyn Store> = Arc::new(open(&self.directory.path().join("store.sqlite")).await);
        let key_set_id = B256::from(*self.keys.manifest().id.as_bytes());
        let config = CoprocessorConfig::new(development::signing_domains(), development::addresses().acl);
        let backend = self.keys.evaluation().unwrap();
        let engine = KeyedEngine::start(key_set_id, backend, PoolOptions::default(), Machine::whole()).unwrap();
        let coprocessor = Coprocessor::new(config, engine, Arc::clone(&store), signer());
        let stop = CancellationToken::new();
        let follower_config = FollowerConfig {
            poll_interval: Duration::from_millis(10),
            ..FollowerConfig::default()
        };
        let follower = Follower::new(self.host.clone(), follower_config);
        let (recording, token) = (coprocessor.clone(), stop.clone());
        let recorder = tokio::spawn(async move { recording.record(follower, token).await });
        let (working, token) = (coprocessor.clone(), stop.clone());
        let workers = tokio::spawn(async move { working.work(token).await });
        Running {
            coprocessor,
            store,
            stop,
            tasks: [recorder, workers],
        }
    }

    fn decrypt(&self, handle: Handle, bytes: &[u8]) -> U256 {
        self.keys.decryptor().unwrap().decrypt(handle.fhe_type(), bytes).unwrap()
    }
}

struct Running {
    coprocessor: Coprocessor,
    store: Arc<dyn Store>,
    stop: CancellationToken,
    tasks: [JoinHandle<()>; 2],
}

impl Running {
    /// Waits for a handle and returns its stored bytes.
    async fn computed(&self, handle: Handle) -> Vec<u8> {
        assert_eq!(self.coprocessor.wait_for(handle, PATIENCE).await.unwrap(), HandleStatus::Computed);
        self.coprocessor.signed_ciphertext(handle).await.unwrap().bytes
    }

    async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            tokio::time::timeout(PATIENCE, task).await.expect("a task did not stop").unwrap();
        }
    }
}

/// Opens the store as soon as a stopped coprocessor's last thread has let go of it.
async fn open(path: &Path) -> SqliteStore {
    loop {
        match SqliteStore::open(path).await {
            Ok(store) => return store,
            Err(error) => assert!(matches!(error, cipherloom_store::StoreError::InUse(_)), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Connects as an account. Providers remember nonces, so each transaction gets a new one: the chain may have gone back.
fn provider(node: &DevChainHandle, account: &PrivateKeySigner) -> DynProvider {
    ProviderBuilder::new()
        .wallet(EthereumWallet::from(account.clone()))
        .connect_http(node.rpc_url().parse().unwrap())
        .erased()
}

fn signer() -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(0x11)).unwrap()
}

fn token_bytecode() -> Bytes {
    let artifact = include_str!("../../../examples/confidential-token/artifacts/ConfidentialToken.json");
    let artifact: serde_json::Value = serde_json::from_str(artifact).unwrap();
    artifact.get("bytecode").unwrap().as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_token_asks_for_is_computed_also_what_it_asked_for_meanwhile() {
    let bench = Bench::new().await;
    let running = bench.start().await;
    let first = bench.mint(1000).await;
    assert_eq!(bench.decrypt(first, &running.computed(first).await), U256::from(1000));
    running.stop().await;

    // Nobody follows now.
    bench.mint(200).await;
    let last = bench.mint(30).await;
    let running = bench.start().await;
    assert_eq!(bench.decrypt(last, &running.computed(last).await), U256::from(1230));
    assert_eq!(running.store.pending_transactions(development::HOST_CHAIN_ID).await.unwrap(), 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reorganised_chain_is_followed_and_its_lost_grants_withdrawn() {
    let bench = Bench::new().await;
    let running = bench.start().await;
    let kept = bench.mint(1000).await;
    let lost = bench.mint(500).await;
    running.computed(lost).await;
    assert!(!running.store.grants_of(lost).await.unwrap().is_empty());

    let mut changes = running.coprocessor.changes();
    bench.node.chain().reorganize(1).unwrap();
    let withdrawn = tokio::time::timeout(PATIENCE, async {
        while !running.store.grants_of(lost).await.unwrap().is_empty() {
            changes.changed().await.unwrap();
        }
    });
    withdrawn.await.expect("the grant was not withdrawn");
    assert!(!running.store.grants_of(kept).await.unwrap().is_empty());
    let other = bench.mint(7).await;
    assert_ne!(other, lost);
    assert_eq!(bench.decrypt(other, &running.computed(other).await), U256::from(1007));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_chains_node_is_waited_out() {
    let bench = Bench::new().await;
    let first = bench.mint(1000).await;
    let (chain, address) = (bench.node.chain().clone(), bench.node.address());
    let running = bench.start().await;
    running.computed(first).await;
    let Bench {
        node,
        host,
        owner,
        token,
        keys,
        directory,
    } = bench;
    node.shutdown().await;
    // Long enough to fail at least once.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let node = chain.serve(address).await.unwrap();
    let bench = Bench {
        node,
        host,
        owner,
        token,
        keys,
        directory,
    };
    let second = bench.mint(1).await;
    assert_eq!(bench.decrypt(second, &running.computed(second).await), U256::from(1001));
    running.stop().await;
}
