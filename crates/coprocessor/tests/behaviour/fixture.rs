//! A coprocessor with its keys, and chain events to feed it.

use std::{sync::Arc, time::Duration};

use alloy::signers::local::PrivateKeySigner;
use cipherloom_chain::{BlockEvents, GrantEvent, TransactionEvents};
use cipherloom_coprocessor::{Coprocessor, CoprocessorConfig, HandleStatus, KeyedEngine, Machine};
use cipherloom_engine::{Engine, Graph, PoolOptions};
use cipherloom_fhe::{EncryptInputs, FheBackend, KeySet, ParameterSet, insecure_test_keys, insecure_test_keys_with_squashing};
use cipherloom_primitives::{
    Address, B256, Computation, FheType, Handle, Operand, Operation, TypedOperation, U256, eip712::SigningDomains, input::InputMetadata,
};
use cipherloom_store::{SqliteStore, Store};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::backend::ObservedBackend;

pub(crate) const CHAIN: u64 = 31337;
pub(crate) const ACL: Address = Address::repeat_byte(0xac);
pub(crate) const TOKEN: Address = Address::repeat_byte(0x70);
pub(crate) const ALICE: Address = Address::repeat_byte(0xa1);

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const DOMAINS: SigningDomains = SigningDomains {
    host_chain_id: CHAIN,
    gateway_chain_id: 10901,
    decryption: Address::repeat_byte(0xd1),
    input_verification: Address::repeat_byte(0xd2),
};

/// A key set, and a directory to put data in.
pub(crate) struct Keys {
    pub(crate) set: Arc<KeySet>,
    pub(crate) directory: TempDir,
}

impl Keys {
    /// Makes a key set of the clear backend.
    pub(crate) fn clear() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let set = KeySet::generate(&directory.path().join("keys"), ParameterSet::InsecureClear, &()).unwrap();
        Self {
            set: Arc::new(set),
            directory,
        }
    }

    /// Takes the key set of real TFHE on toy parameters that all tests share.
    pub(crate) fn toy() -> Self {
        Self {
            set: insecure_test_keys().unwrap(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// The same with noise squashing.
    pub(crate) fn squashing() -> Self {
        Self {
            set: insecure_test_keys_with_squashing().unwrap(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn backend(&self) -> Arc<dyn FheBackend> {
        self.set.evaluation().unwrap()
    }

    pub(crate) fn encrypt(&self, values: &[(FheType, u64)], metadata: &InputMetadata) -> Vec<u8> {
        let encryptor: Box<dyn EncryptInputs> = self.set.encryptor().unwrap();
        let values: Vec<(FheType, U256)> = values.iter().map(|(ty, value)| (*ty, U256::from(*value))).collect();
        encryptor.encrypt(&values, metadata).unwrap()
    }

    pub(crate) fn config(&self) -> CoprocessorConfig {
        let mut config = CoprocessorConfig::new(DOMAINS, ACL);
        config.idle_poll = Duration::from_millis(20);
        config
    }

    /// Starts an engine for a backend of this key set.
    pub(crate) fn engine(&self, backend: Arc<dyn FheBackend>, pool: PoolOptions) -> Arc<KeyedEngine> {
        let id = B256::from(*self.set.manifest().id.as_bytes());
        KeyedEngine::start(id, backend, pool, Machine::whole()).unwrap()
    }

    /// Puts a coprocessor together as it is by default.
    pub(crate) fn coprocessor(&self, backend: Arc<dyn FheBackend>, store: Arc<dyn Store>) -> Coprocessor {
        Coprocessor::new(self.config(), self.engine(backend, PoolOptions::default()), store, signer())
    }
}

/// A running or stopped coprocessor and everything around it.
pub(crate) struct Bench {
    pub(crate) keys: Keys,
    pub(crate) backend: Arc<ObservedBackend>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) coprocessor: Coprocessor,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(|keys| ObservedBackend::new(keys.backend()), |_, _| {}).await
    }

    pub(crate) async fn with(
        backend: impl FnOnce(&Keys) -> ObservedBackend,
        configure: impl FnOnce(&mut CoprocessorConfig, &mut PoolOptions),
    ) -> Self {
        let keys = Keys::clear();
        let backend = Arc::new(backend(&keys));
        let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().await.unwrap());
        let (mut config, mut pool) = (keys.config(), PoolOptions::default());
        configure(&mut config, &mut pool);
        let engine = keys.engine(Arc::clone(&backend) as Arc<dyn FheBackend>, pool);
        let coprocessor = Coprocessor::new(config, engine, Arc::clone(&store), signer());
        Self {
            keys,
            backend,
            store,
            coprocessor,
        }
    }

    /// Starts the workers; they stop with the token.
    pub(crate) fn start_workers(&self) -> (CancellationToken, JoinHandle<()>) {
        start_workers(&self.coprocessor)
    }

    /// Computes until nothing is pending.
    pub(crate) async fn compute_all(&self) {
        let (stop, workers) = self.start_workers();
        until_idle(&self.coprocessor, &self.store).await;
        stop.cancel();
        workers.await.unwrap();
    }

    pub(crate) async fn status(&self, handle: Handle) -> HandleStatus {
        self.coprocessor.handle_status(handle).await.unwrap()
    }

    /// Decrypts a computed handle.
    pub(crate) async fn value(&self, handle: Handle) -> U256 {
        let signed = self.coprocessor.signed_ciphertext(handle).await.unwrap();
        self.keys
            .set
            .decryptor()
            .unwrap()
            .decrypt(handle.fhe_type(), &signed.bytes)
            .unwrap()
    }

    /// Admits a list of values for the token and Alice and returns the handles.
    pub(crate) async fn admit(&self, values: &[(FheType, u64)]) -> Vec<Handle> {
        let list = self.keys.encrypt(values, &metadata());
        self.coprocessor.admit_input(metadata(), list, Vec::new()).await.unwrap().handles
    }
}

/// Starts the workers of a coprocessor; they stop with the token.
pub(crate) fn start_workers(coprocessor: &Coprocessor) -> (CancellationToken, JoinHandle<()>) {
    let stop = CancellationToken::new();
    let (coprocessor, token) = (coprocessor.clone(), stop.clone());
    (stop, tokio::spawn(async move { coprocessor.work(token).await }))
}

/// Waits until nothing is pending on the store.
pub(crate) async fn until_idle(coprocessor: &Coprocessor, store: &Arc<dyn Store>) {
    let mut changes = coprocessor.changes();
    tokio::time::timeout(PATIENCE, async {
        loop {
            changes.mark_unchanged();
            if store.pending_transactions(CHAIN).await.unwrap() == 0 {
                return;
            }
            // Another coprocessor on the store does not wake this one.
            let _ = tokio::time::timeout(Duration::from_millis(20), changes.changed()).await;
        }
    })
    .await
    .expect("transactions are still pending");
}

pub(crate) fn signer() -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(0x11)).unwrap()
}

pub(crate) fn metadata() -> InputMetadata {
    InputMetadata {
        contract: TOKEN,
        user: ALICE,
        acl: ACL,
        chain_id: CHAIN,
    }
}

pub(crate) fn handle(tag: u8) -> Handle {
    typed_handle(tag, FheType::Uint64)
}

pub(crate) fn typed_handle(tag: u8, ty: FheType) -> Handle {
    Handle::computed(B256::repeat_byte(tag), CHAIN, ty)
}

pub(crate) fn trivial(value: u64, result: Handle) -> Computation {
    let operation = TypedOperation::TrivialEncrypt {
        value: U256::from(value),
        ty: result.fhe_type(),
    };
    Computation {
        operation,
        inputs: Vec::new(),
        result,
    }
}

pub(crate) fn binary(operation: Operation, lhs: Handle, rhs: Handle, result: Handle) -> Computation {
    let operation = TypedOperation::Binary {
        operation,
        ty: lhs.fhe_type(),
        rhs: Operand::Encrypted,
    };
    Computation {
        operation,
        inputs: vec![lhs, rhs],
        result,
    }
}

pub(crate) fn add(lhs: Handle, rhs: Handle, result: Handle) -> Computation {
    binary(Operation::Add, lhs, rhs, result)
}

pub(crate) fn select(condition: Handle, if_true: Handle, if_false: Handle, result: Handle) -> Computation {
    let operation = TypedOperation::IfThenElse { ty: result.fhe_type() };
    Computation {
        operation,
        inputs: vec![condition, if_true, if_false],
        result,
    }
}

/// Counts the bootstraps that these computations need for their last result.
pub(crate) fn bootstraps_of(computations: &[Computation]) -> usize {
    let results: Vec<Handle> = computations.iter().map(|computation| computation.result).collect();
    let operands = computations.iter().flat_map(|computation| &computation.inputs).copied();
    let outside: Vec<Handle> = operands.filter(|handle| !results.contains(handle)).collect();
    let graph = Graph::record(computations, results.last().copied(), outside).unwrap();
    Engine::default().compile(&graph).program.bootstraps()
}

/// A transaction that computes and then allows these handles to the token.
pub(crate) fn transaction(index: u64, computations: Vec<Computation>, allowed: &[Handle]) -> TransactionEvents {
    TransactionEvents {
        hash: B256::from(U256::from(0xdead_0000_u64 + index)),
        index,
        computations,
        grants: allowed
            .iter()
            .map(|handle| GrantEvent::Account {
                handle: *handle,
                account: TOKEN,
            })
            .collect(),
        delegations: Vec::new(),
    }
}

/// Block `number` of a chain without forks.
pub(crate) fn block(number: u64, transactions: Vec<TransactionEvents>) -> BlockEvents {
    let hash = |number: u64| B256::from(U256::from(0xb10c_0000_u64 + number));
    BlockEvents {
        number,
        hash: hash(number),
        parent_hash: hash(number - 1),
        timestamp: 1_700_000_000 + number,
        transactions,
    }
}

/// A token's mint in one transaction, and a transfer of an encrypted amount in the next.
pub(crate) fn mint_and_transfer(amount: Handle) -> [TransactionEvents; 2] {
    let (supply, alice, bob) = (handle(1), handle(2), handle(3));
    let mint = transaction(
        0,
        vec![
            trivial(1000, supply),
            trivial(0, handle(9)),
            add(handle(9), supply, alice),
            trivial(0, bob),
        ],
        &[alice, bob],
    );
    let (enough, zero, moved) = (typed_handle(4, FheType::Bool), handle(5), handle(6));
    let (alice_after, bob_after) = (handle(7), handle(8));
    let transfer = transaction(
        1,
        vec![
            binary(Operation::Le, amount, alice, enough),
            trivial(0, zero),
            select(enough, amount, zero, moved),
            binary(Operation::Sub, alice, moved, alice_after),
            add(bob, moved, bob_after),
        ],
        &[alice_after, bob_after],
    );
    [mint, transfer]
}
