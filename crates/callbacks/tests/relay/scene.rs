//! A chain with host contracts, a contract that asks, a KMS that signs, and relays.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    providers::{Provider, RootProvider},
    rpc::types::Filter,
    signers::{SignerSync, local::MnemonicBuilder, local::PrivateKeySigner},
    sol,
    sol_types::{SolCall, SolConstructor, SolEvent, SolValue},
};
use cipherloom_callbacks::{
    CallbackMetrics, Clock, Condition, Decrypted, Decryption, DecryptionFailure, Relay, RelayConfig, RelayParts, SystemClock,
};
use cipherloom_chain::{
    Call, Fees, HostChain, SendOptions, TransactionSender, TransactionSigner, UnsignedTransaction, deploy,
    proof::slot_of_allowance_for_decryption,
};
use cipherloom_contracts::{SignerSet, bindings::GatewayContract, deployment_steps, development};
use cipherloom_node::{DevChain, DevChainConfig, DevChainHandle};
use cipherloom_primitives::{FheType, Handle};
use cipherloom_private_anvil::{AnvilOptions, PrivateAnvil};
use cipherloom_store::{CallbackRecord, CallbackState, Callbacks, Database, SqliteStore};
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

sol!(
    #[sol(rpc)]
    DecryptionCaller,
    "../../contracts/test/artifacts/DecryptionCaller.json"
);

/// The name of the contract in stores.
pub(crate) const SITE: &str = "here";

/// How long a test waits for what should take moments.
const PATIENCE: Duration = Duration::from_secs(90);

/// Who runs the chain.
enum Node {
    Embedded(DevChainHandle),
    Anvil(#[expect(dead_code, reason = "the chain ends with it")] PrivateAnvil),
}

/// A chain and everything around it but relays.
pub(crate) struct Scene {
    node: Node,
    pub(crate) host: HostChain,
    pub(crate) provider: RootProvider,
    /// The contract that asks.
    pub(crate) caller: Address,
    pub(crate) kms: Arc<TestKms>,
    user: TransactionSigner,
    next_nonce: AtomicU64,
    next_handle: AtomicU64,
}

/// The accounts of relays, which the contract knows.
pub(crate) fn relayer(index: u32) -> PrivateKeySigner {
    let mnemonic = MnemonicBuilder::from_phrase(development::INSECURE_DEPLOYER_MNEMONIC);
    mnemonic.index(100 + index).unwrap().build().unwrap()
}

fn deployer() -> PrivateKeySigner {
    let mnemonic = MnemonicBuilder::from_phrase(development::INSECURE_DEPLOYER_MNEMONIC);
    mnemonic.index(development::DEPLOYER_INDEX).unwrap().build().unwrap()
}

impl Scene {
    /// On the embedded chain, where each transaction has a block of its own at once.
    pub(crate) async fn embedded() -> Self {
        let node = DevChain::start(DevChainConfig::default()).await.unwrap();
        let url = node.rpc_url();
        Self::on(Node::Embedded(node), &url).await
    }

    /// On anvil, the same.
    pub(crate) async fn anvil() -> Self {
        let node = PrivateAnvil::start(&AnvilOptions::default()).unwrap();
        let url = node.http_url();
        Self::on(Node::Anvil(node), &url).await
    }

    async fn on(node: Node, url: &str) -> Self {
        let host = HostChain::connect(url, development::addresses()).unwrap();
        let provider = RootProvider::new_http(url.parse().unwrap());
        let user: PrivateKeySigner = MnemonicBuilder::from_phrase("test test test test test test test test test test test junk")
            .build()
            .unwrap();
        let kms = Arc::new(TestKms::new());
        let mut scene = Self {
            node,
            host,
            provider,
            caller: Address::ZERO,
            kms,
            user: TransactionSigner::new(user.clone(), development::HOST_CHAIN_ID),
            next_nonce: AtomicU64::new(0),
            next_handle: AtomicU64::new(1),
        };
        let ether = U256::from(10).pow(U256::from(21));
        for account in [deployer().address(), relayer(0).address(), relayer(1).address(), user.address()] {
            scene.set_balance(account, ether).await;
        }
        let signer = SignerSet::single(scene.kms.key.address());
        let mut plan = development::deployment(signer.clone(), signer);
        plan.gateway.relayers = vec![relayer(0).address(), relayer(1).address()];
        deploy(&scene.host, &deployment_steps(&plan), &deployer()).await.unwrap();
        let addresses = development::addresses();
        let asking = DecryptionCaller::constructorCall {
            gateway: addresses.gateway_contract,
            verifier: addresses.kms_verifier,
        };
        let create = Call {
            name: "DecryptionCaller".to_owned(),
            to: None,
            data: [DecryptionCaller::BYTECODE.as_ref(), &asking.abi_encode()].concat().into(),
        };
        let mut sender = TransactionSender::new(&scene.host, user, SendOptions::default()).await.unwrap();
        let nonce = sender.next_nonce().await.unwrap();
        scene.caller = sender.send(&create, nonce, &mut |_| {}).await.unwrap().created.unwrap();
        scene.next_nonce.store(nonce + 1, Ordering::SeqCst);
        scene
    }

    /// The embedded chain itself.
    pub(crate) fn chain(&self) -> &DevChain {
        match &self.node {
            Node::Embedded(node) => node.chain(),
            Node::Anvil(_) => panic!("this chain is anvil's"),
        }
    }

    /// Tells anvil something.
    pub(crate) async fn tell(
        &self,
        method: &'static str,
        parameters: impl serde::Serialize + Clone + std::fmt::Debug + Send + Sync + Unpin + 'static,
    ) {
        let _: Option<AnyAnswer> = self.provider.raw_request(method.into(), parameters).await.unwrap();
    }

    pub(crate) async fn set_balance(&self, account: Address, wei: U256) {
        match &self.node {
            Node::Embedded(node) => node.chain().set_balance(account, wei).unwrap(),
            Node::Anvil(_) => self.tell("anvil_setBalance", (account, wei)).await,
        }
    }

    /// Makes a handle of this type that anyone may decrypt, as the access list has it.
    async fn public_handle(&self, ty: FheType) -> B256 {
        let number = self.next_handle.fetch_add(1, Ordering::SeqCst);
        let handle = Handle::computed(B256::from(U256::from(number) << 200), development::HOST_CHAIN_ID, ty);
        let (acl, slot) = (development::addresses().acl, slot_of_allowance_for_decryption(handle));
        match &self.node {
            Node::Embedded(node) => node.chain().set_storage(acl, slot.into(), U256::ONE).unwrap(),
            Node::Anvil(_) => {
                self.tell("anvil_setStorageAt", (acl, U256::from_be_bytes(slot.0), B256::from(U256::ONE)))
                    .await
            }
        }
        handle.as_b256()
    }

    /// Returns a number and a flag that anyone may decrypt.
    pub(crate) async fn handles(&self) -> Vec<B256> {
        vec![self.public_handle(FheType::Uint64).await, self.public_handle(FheType::Bool).await]
    }

    /// Sends a transaction of the user's, and does not wait for it.
    pub(crate) async fn submit(&self, to: Address, call: &impl SolCall) -> B256 {
        let fees = Fees::Dynamic {
            max_fee: 500_000_000_000,
            tip: 1_000_000_000,
        };
        let transaction = UnsignedTransaction {
            to,
            data: call.abi_encode().into(),
            value: U256::ZERO,
            gas_limit: 400_000,
            nonce: self.next_nonce.fetch_add(1, Ordering::SeqCst),
            fees,
        };
        let signed = self.user.sign(&transaction).await.unwrap();
        self.host.offer(&signed.raw).await.unwrap();
        signed.hash
    }

    /// The nonce that the user's next transaction has, for after a reorganisation.
    pub(crate) async fn forget_nonces(&self) {
        let next = self.host.sent_by(self.user.account()).await.unwrap();
        self.next_nonce.store(next, Ordering::SeqCst);
    }

    async fn now(&self) -> u64 {
        let latest = alloy::eips::BlockNumberOrTag::Latest;
        self.host.header(latest).await.unwrap().unwrap().timestamp
    }

    /// Has the contract ask for a number and a flag, with so many seconds to answer.
    pub(crate) async fn ask_within(&self, seconds: u64) -> B256 {
        let handles = self.handles().await;
        let call = DecryptionCaller::askCall {
            handles,
            maxTimestamp: U256::from(self.now().await + seconds),
        };
        self.submit(self.caller, &call).await
    }

    pub(crate) async fn ask(&self) -> B256 {
        self.ask_within(40_000).await
    }

    /// The same, and the contract checks the signatures itself.
    pub(crate) async fn ask_signed(&self) -> B256 {
        let call = DecryptionCaller::askSignedCall {
            handles: self.handles().await,
            maxTimestamp: U256::from(self.now().await + 40_000),
        };
        self.submit(self.caller, &call).await
    }

    /// Has the contract behave: see its source.
    pub(crate) async fn behave(&self, behaviour: u64) {
        let call = DecryptionCaller::setBehaviourCall {
            newBehaviour: U256::from(behaviour),
        };
        let hash = self.submit(self.caller, &call).await;
        eventually("the contract behaves", async || self.host.outcome(hash).await.unwrap().is_some()).await;
    }

    pub(crate) fn contract(&self) -> DecryptionCaller::DecryptionCallerInstance<RootProvider> {
        DecryptionCaller::new(self.caller, self.provider.clone())
    }

    /// How often the contract took values.
    pub(crate) async fn taken(&self) -> u64 {
        self.contract().deliveries().call().await.unwrap().to()
    }

    /// The deliveries that the gateway contract announced, by request.
    pub(crate) async fn announced(&self) -> HashMap<u64, Vec<bool>> {
        let filter = Filter::new()
            .address(development::addresses().gateway_contract)
            .event_signature(GatewayContract::ResultCallback::SIGNATURE_HASH)
            .from_block(0);
        let mut announced: HashMap<u64, Vec<bool>> = HashMap::new();
        for log in self.provider.get_logs(&filter).await.unwrap() {
            let event = GatewayContract::ResultCallback::decode_log(&log.inner).unwrap();
            announced.entry(event.requestID.to()).or_default().push(event.success);
        }
        announced
    }

    /// How many transactions of a relay were included.
    pub(crate) async fn paid_by(&self, index: u32) -> u64 {
        self.host.sent_by(relayer(index).address()).await.unwrap()
    }

    /// Starts a relay, as a process of its own would be.
    pub(crate) fn relay(&self, index: u32, owner: &str, store: &Arc<dyn Callbacks>, config: RelayConfig) -> Running {
        let metrics = CallbackMetrics::default();
        let relay = Relay::new(RelayParts {
            chain: self.host.clone(),
            chain_id: development::HOST_CHAIN_ID,
            site: SITE.to_owned(),
            owner: owner.to_owned(),
            signer: relayer(index),
            store: Arc::clone(store),
            decryption: Arc::clone(&self.kms) as Arc<dyn Decryption>,
            clock: Arc::new(SystemClock) as Arc<dyn Clock>,
            config,
            metrics: metrics.clone(),
        });
        let stop = CancellationToken::new();
        Running {
            metrics,
            task: tokio::spawn(relay.run(stop.clone())),
            stop,
        }
    }
}

/// What anvil answers, whatever it is.
#[derive(Debug, serde::Deserialize)]
#[serde(untagged)]
enum AnyAnswer {
    Text(#[expect(dead_code, reason = "only its form matters")] String),
    Flag(#[expect(dead_code, reason = "only its form matters")] bool),
    Number(#[expect(dead_code, reason = "only its form matters")] u64),
}

/// A relay that runs.
pub(crate) struct Running {
    pub(crate) metrics: CallbackMetrics,
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Running {
    pub(crate) fn condition(&self) -> Condition {
        self.metrics.status(SITE).map(|status| status.condition).unwrap_or_default()
    }

    pub(crate) fn counted(&self, series: &str) -> bool {
        self.metrics
            .render()
            .lines()
            .any(|line| line == format!("cipherloom_callbacks_{series}"))
    }

    /// Ends it in order.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// Ends it wherever it is, as a killed process does.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Limits for tests: everything is final at once, and everything is tried again soon.
pub(crate) fn config() -> RelayConfig {
    RelayConfig {
        finality_depth: 0,
        poll_interval: Duration::from_millis(50),
        pauses: (Duration::from_millis(50), Duration::from_millis(400)),
        refusal_patience: Duration::from_millis(300),
        revert_patience: Duration::from_millis(300),
        stuck_after: Duration::from_secs(20),
        resend_after: Duration::from_secs(1),
        claim: Duration::from_millis(1_500),
        ..RelayConfig::default()
    }
}

/// An empty store of its own.
pub(crate) async fn store() -> Arc<dyn Callbacks> {
    SqliteStore::in_memory().await.unwrap().callbacks(SITE)
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = tokio::time::Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Waits until so many requests are in a state.
pub(crate) async fn until(store: &Arc<dyn Callbacks>, state: CallbackState, count: u64) {
    let what = format!("{count} requests {}", state.name());
    eventually(&what, async || {
        let totals = store.totals().await.unwrap();
        totals.contains(&(state, count))
    })
    .await;
}

pub(crate) async fn record(store: &Arc<dyn Callbacks>, id: u64) -> CallbackRecord {
    store.find(id).await.unwrap().unwrap().0
}

/// Signs what it is asked for: the number of a handle is one that follows from the handle, and flags are set.
pub(crate) struct TestKms {
    key: PrivateKeySigner,
    /// What it refuses with instead, if anything.
    pub(crate) failure: Mutex<Option<DecryptionFailure>>,
}

impl TestKms {
    fn new() -> Self {
        Self {
            key: PrivateKeySigner::from_slice(&[7; 32]).unwrap(),
            failure: Mutex::default(),
        }
    }
}

/// The number behind a handle.
pub(crate) fn number_of(handle: B256) -> u64 {
    u64::from_be_bytes(handle[..8].try_into().unwrap()) | 1
}

impl Decryption for TestKms {
    fn decrypt(&self, handles: Vec<Handle>) -> BoxFuture<'static, Result<Decrypted, DecryptionFailure>> {
        if let Some(failure) = self.failure.lock().unwrap().clone() {
            return Box::pin(async move { Err(failure) });
        }
        let values = (number_of(handles[0].as_b256()), true).abi_encode();
        let digest = development::signing_domains().public_decryption_digest(&handles, &values, &[]);
        let signature = self.key.sign_hash_sync(&digest).unwrap();
        let signatures = vec![Bytes::copy_from_slice(&signature.as_bytes())];
        Box::pin(async move {
            tokio::task::yield_now().await;
            Ok(Decrypted {
                values: values.into(),
                signatures,
            })
        })
    }
}
