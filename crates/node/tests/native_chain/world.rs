//! A genesis with contracts, users and validators whose keys the tests have, and nodes on it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::{BlockId, BlockNumberOrTag, Encodable2718};
use alloy::primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy::rpc::types::TransactionRequest;
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol;
use alloy::sol_types::SolCall;
use cipherloom_contracts::native::validator_set_creation_code;
use cipherloom_contracts::{NativeDeployment, SignerSet, development, native_deployment_steps};
use cipherloom_node::native::{
    BlockWork, ComputeBlock, ComputeUnavailable, DecidedBlock, GENESIS_VERSION, Genesis, GenesisAccount, GenesisDomains, NativeChain,
    NativeConfig, ProposedBlock, Results, VALIDATOR_SET, Verdict,
};
use cipherloom_node::{AccountsConfig, DevChain, DevChainConfig, ManualClock};
use cipherloom_primitives::Handle;
use cipherloom_primitives::ciphertext_state::{FHELIB, STORAGE_ACCOUNT};
use cipherloom_primitives::quorum::{CommitCertificate, CommitSignature, Validator, ValidatorSet, VoteKind};
use futures_util::future::BoxFuture;
use serde::Deserialize;
use tokio::time::Instant;

use crate::hashing::{HashingExecutor, ToyInputs};
use crate::program::Program;

sol!(Batch, "../../contracts/test/artifacts/Batch.json");

/// Executes scripts ([`Batch`]).
pub(crate) const BATCH: Address = Address::repeat_byte(0xba);

/// Stores its second word at the slot that its first word names.
pub(crate) const STORE: Address = Address::repeat_byte(0x57);

/// Code of [`STORE`]: `sstore(calldataload(0), calldataload(32))`.
const STORE_CODE: [u8; 8] = [0x60, 0x20, 0x35, 0x60, 0x00, 0x35, 0x55, 0x00];

pub(crate) const CHAIN: u64 = 31338;
pub(crate) const LATEST: BlockId = BlockId::Number(BlockNumberOrTag::Latest);

/// Time of the first block.
pub(crate) const START: u64 = 1_750_000_000;

/// Gas limit of every transaction.
pub(crate) const GAS: u64 = 20_000_000;

/// FHE gas of a block, where a test does not say otherwise.
pub(crate) const FHE_GAS: u64 = 50_000_000;

/// What every node of a test has in common.
pub(crate) struct World {
    pub(crate) genesis: Genesis,
    /// Validators' keys, in order of the genesis file's powers.
    pub(crate) keys: Vec<PrivateKeySigner>,
    pub(crate) users: Vec<PrivateKeySigner>,
    pub(crate) clock: Arc<ManualClock>,
}

/// A node, with what it computes and checks by.
pub(crate) struct Node {
    pub(crate) chain: NativeChain,
    pub(crate) executor: Arc<Executor>,
    pub(crate) inputs: Arc<ToyInputs>,
}

/// The hashing executor, which can be away or wrong.
#[derive(Debug, Default)]
pub(crate) struct Executor {
    /// How many more times it is not there; `usize::MAX` for ever.
    pub(crate) away: AtomicUsize,
    /// Whether it changes a bit of the last result.
    pub(crate) wrong: AtomicBool,
    /// What it was asked for.
    pub(crate) asked: Mutex<Vec<BlockWork>>,
}

impl ComputeBlock for Executor {
    fn compute(&self, work: BlockWork) -> BoxFuture<'_, Result<Results, ComputeUnavailable>> {
        Box::pin(async move {
            let away = self.away.load(Ordering::SeqCst);
            if away > 0 {
                if away < usize::MAX {
                    self.away.store(away - 1, Ordering::SeqCst);
                }
                return Err(ComputeUnavailable::new("switched off"));
            }
            let mut results = HashingExecutor.results(&work);
            if self.wrong.load(Ordering::SeqCst) {
                let (_, last) = results.last_mut().unwrap();
                let mut bytes = last.as_ref().unwrap().to_vec();
                *bytes.last_mut().unwrap() ^= 1;
                *last = Ok(bytes.into());
            }
            self.asked.lock().unwrap().push(work);
            Ok(results)
        })
    }
}

pub(crate) fn key(name: &str, index: usize) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&keccak256(format!("{name} {index}"))).unwrap()
}

/// A set of these keys, with a power of one each.
pub(crate) fn set_of<'a>(keys: impl IntoIterator<Item = &'a PrivateKeySigner>) -> ValidatorSet {
    let members = keys.into_iter().map(|key| Validator {
        address: key.address(),
        power: 1,
    });
    ValidatorSet::new(members.collect()).unwrap()
}

#[derive(Deserialize)]
struct Dump {
    accounts: BTreeMap<Address, GenesisAccount>,
}

/// The accounts of the contracts, as their deployment leaves them.
fn contracts(keys: &[PrivateKeySigner], owner: Address) -> BTreeMap<Address, GenesisAccount> {
    let creator = Address::repeat_byte(0xcc);
    let chain = DevChain::new(DevChainConfig {
        chain_id: CHAIN,
        accounts: AccountsConfig {
            count: 0,
            extra_funded: vec![creator],
            ..AccountsConfig::default()
        },
        clock: Arc::new(ManualClock::new(START)),
        ..DevChainConfig::default()
    })
    .unwrap();
    let send = |from: Address, to: Option<Address>, data: Bytes| {
        let request = TransactionRequest {
            from: Some(from),
            to: to.map(TxKind::Call),
            input: data.into(),
            ..TransactionRequest::default()
        };
        let hash = chain.send_unsigned_transaction(request).unwrap();
        let (block, index) = chain.mined_transaction(&hash).unwrap().unwrap();
        assert!(block.receipts[index].is_success());
        block.receipts[index].contract_address
    };
    let set = |seed: u8| SignerSet::single(Address::repeat_byte(seed));
    let config = development::deployment(set(1), set(2));
    let deployment = NativeDeployment {
        deployer: config.deployer,
        owner: config.owner,
        domains: config.domains,
        face: config.face,
        kms: config.kms,
        hcu_limits: config.hcu_limits,
        pausers: config.pausers,
        relayers: config.gateway.relayers,
    };
    for step in native_deployment_steps(&deployment) {
        send(deployment.deployer, step.to, step.data);
    }
    let validators = keys.iter().map(|key| (key.address(), 1)).collect::<Vec<_>>();
    let set = send(creator, None, validator_set_creation_code(owner, &validators)).unwrap();
    let batch = send(creator, None, Batch::BYTECODE.clone()).unwrap();
    let mut dump: Dump = serde_json::from_slice(&chain.dump_state().unwrap()).unwrap();
    for (from, to) in [(set, VALIDATOR_SET), (batch, BATCH)] {
        let account = dump.accounts.remove(&from).unwrap();
        dump.accounts.insert(to, account);
    }
    dump.accounts.insert(
        STORE,
        GenesisAccount {
            code: Bytes::from_static(&STORE_CODE),
            ..GenesisAccount::default()
        },
    );
    for reserved in [FHELIB, STORAGE_ACCOUNT] {
        dump.accounts.insert(
            reserved,
            GenesisAccount {
                nonce: 1,
                ..GenesisAccount::default()
            },
        );
    }
    dump.accounts
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(4, FHE_GAS)
    }

    pub(crate) fn with(validators: usize, fhe_gas_limit: u64) -> Self {
        let keys = (0..validators).map(|index| key("validator", index)).collect::<Vec<_>>();
        let users = (0..4).map(|index| key("user", index)).collect::<Vec<_>>();
        let mut alloc = contracts(&keys, users[0].address());
        for user in &users {
            let account = alloc.entry(user.address()).or_default();
            account.balance = U256::from(10).pow(U256::from(24));
        }
        let domains = development::signing_domains();
        let genesis = Genesis {
            version: GENESIS_VERSION,
            chain_id: CHAIN,
            timestamp: START,
            gas_limit: 10 * GAS,
            fhe_gas_limit,
            owner: users[0].address(),
            contracts: Genesis::named(&development::addresses()),
            domains: GenesisDomains {
                gateway_chain_id: domains.gateway_chain_id,
                decryption: domains.decryption,
                input_verification: domains.input_verification,
            },
            key_set_id: B256::repeat_byte(0x6b),
            public_key_digest: None,
            crs_digest: None,
            validators: set_of(&keys),
            alloc,
            hash: None,
        };
        Self {
            genesis: genesis.seal().unwrap(),
            keys,
            users,
            clock: Arc::new(ManualClock::new(START)),
        }
    }

    pub(crate) fn node(&self) -> Node {
        self.open(None).unwrap()
    }

    pub(crate) fn node_in(&self, dir: &Path) -> Node {
        self.open(Some(dir)).unwrap()
    }

    pub(crate) fn open(&self, dir: Option<&Path>) -> cipherloom_node::Result<Node> {
        self.open_with(dir, Arc::default(), Arc::default())
    }

    pub(crate) fn open_with(&self, dir: Option<&Path>, executor: Arc<Executor>, inputs: Arc<ToyInputs>) -> cipherloom_node::Result<Node> {
        self.open_config(executor, inputs, |config| config.data_dir = dir.map(Path::to_owned))
    }

    /// A node that keeps `window` blocks in memory, and writes its state every `interval` blocks.
    pub(crate) fn keeping(&self, dir: &Path, window: usize, interval: u64) -> cipherloom_node::Result<Node> {
        self.open_config(Arc::default(), Arc::default(), |config| {
            config.data_dir = Some(dir.to_owned());
            config.limits.state_history_blocks = window;
            config.state_interval = interval;
        })
    }

    /// A node with anything else than usual.
    pub(crate) fn open_config(
        &self,
        executor: Arc<Executor>,
        inputs: Arc<ToyInputs>,
        change: impl FnOnce(&mut NativeConfig),
    ) -> cipherloom_node::Result<Node> {
        let mut config = NativeConfig {
            clock: Arc::clone(&self.clock) as _,
            ..NativeConfig::new(self.genesis.clone())
        };
        change(&mut config);
        let chain = NativeChain::open(config, Arc::clone(&executor) as _, Arc::clone(&inputs) as _)?;
        Ok(Node { chain, executor, inputs })
    }

    /// Who proposes at a height.
    pub(crate) fn proposer(&self, height: u64) -> Address {
        let index = usize::try_from(height).unwrap() % self.keys.len();
        self.keys[index].address()
    }

    /// The certificate of a block, signed by all of `keys`.
    pub(crate) fn certificate_by(&self, keys: &[PrivateKeySigner], node: &Node, height: u64, hash: B256) -> CommitCertificate {
        let digest = node.chain.domain().vote_digest(VoteKind::Precommit, height, 0, Some(hash));
        let mut signatures = keys
            .iter()
            .map(|key| CommitSignature {
                validator: key.address(),
                signature: key.sign_hash_sync(&digest).unwrap().as_bytes(),
            })
            .collect::<Vec<_>>();
        signatures.sort_by_key(|signature| signature.validator);
        CommitCertificate {
            height,
            round: 0,
            block_hash: hash,
            signatures,
        }
    }

    pub(crate) fn certificate(&self, node: &Node, height: u64, hash: B256) -> CommitCertificate {
        self.certificate_by(&self.keys, node, height, hash)
    }

    /// Has a node propose the next block.
    pub(crate) async fn propose(&self, node: &Node) -> (u64, ProposedBlock) {
        let height = node.height() + 1;
        self.clock.set(START + 2 * height);
        let proposed = node.chain.propose(height, 0, self.proposer(height), soon()).await.unwrap();
        (height, proposed)
    }

    /// Has the first of `nodes` propose a block and the others agree; all commit it.
    pub(crate) async fn decide(&self, nodes: &[&Node]) -> DecidedBlock {
        let (height, proposed) = self.propose(nodes[0]).await;
        for node in &nodes[1..] {
            let verdict = node
                .chain
                .validate(height, 0, self.proposer(height), proposed.bytes.clone(), soon())
                .await
                .unwrap();
            assert_eq!(verdict, Verdict::Valid { hash: proposed.hash });
        }
        let certificate = self.certificate(nodes[0], height, proposed.hash);
        for node in nodes {
            node.chain.commit(proposed.hash, certificate.clone()).await.unwrap();
        }
        nodes[0].chain.decided(height).await.unwrap().unwrap()
    }

    /// A signed transaction of a user.
    pub(crate) fn transaction(&self, user: usize, nonce: u64, to: Address, value: u64, data: Bytes) -> Bytes {
        let transaction = TxEip1559 {
            chain_id: CHAIN,
            nonce,
            gas_limit: GAS,
            max_fee_per_gas: 100_000_000_000,
            max_priority_fee_per_gas: 1_000_000_000,
            to: TxKind::Call(to),
            value: U256::from(value),
            input: data,
            ..TxEip1559::default()
        };
        let signature = self.users[user].sign_hash_sync(&transaction.signature_hash()).unwrap();
        TxEnvelope::from(transaction.into_signed(signature)).encoded_2718().into()
    }

    /// Sends a transaction of a user to a node.
    pub(crate) fn send(&self, node: &Node, user: usize, to: Address, data: Bytes) -> B256 {
        let nonce = node.chain.nonce(self.users[user].address(), BlockId::pending()).unwrap();
        let raw = self.transaction(user, nonce, to, 0, data);
        node.chain.send_raw_transaction(&raw).unwrap()
    }

    /// Sends a script of a user to a node.
    pub(crate) fn run(&self, node: &Node, user: usize, program: &Program) -> B256 {
        let run = Batch::runCall {
            calls: program.calls.clone(),
        };
        self.send(node, user, BATCH, run.abi_encode().into())
    }
}

impl Node {
    pub(crate) fn height(&self) -> u64 {
        self.chain.head().unwrap().number
    }

    pub(crate) fn hash(&self) -> B256 {
        self.chain.head().unwrap().hash
    }

    pub(crate) fn succeeded(&self, hash: B256) -> bool {
        let (block, index) = self.chain.mined_transaction(&hash).unwrap().unwrap();
        block.receipts[index].is_success()
    }

    /// The handle at a slot of [`STORE`].
    pub(crate) fn stored(&self, slot: u64) -> Handle {
        let word = self.chain.storage(STORE, U256::from(slot), LATEST).unwrap();
        Handle::try_from(B256::from(word)).unwrap()
    }

    /// The ciphertext of a handle, as anybody can ask for it.
    pub(crate) fn ciphertext(&self, handle: Handle) -> Option<Bytes> {
        let request = TransactionRequest {
            to: Some(TxKind::Call(FHELIB)),
            input: cipherloom_contracts::native::get_ciphertext_call(handle).into(),
            ..TransactionRequest::default()
        };
        self.chain.call(&request, LATEST).ok()
    }

    pub(crate) fn asked(&self) -> usize {
        self.executor.asked.lock().unwrap().len()
    }

    /// Takes this node's executor away for ever.
    pub(crate) fn without_executor(self) -> Self {
        self.executor.away.store(usize::MAX, Ordering::SeqCst);
        self
    }
}

/// A deadline that only a test that hangs meets.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}
