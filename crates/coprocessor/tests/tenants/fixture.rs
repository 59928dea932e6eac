//! A database with tenants, and workers for them.

use std::{collections::HashSet, sync::Arc, time::Duration};

use alloy::{primitives::keccak256, signers::local::PrivateKeySigner};
use cipherloom_coprocessor::{Coprocessor, HandleStatus, Machine, MachineOptions, Tenancy, TenancyOptions, Workers, WorkersOptions};
use cipherloom_fhe::{KeySet, ParameterSet, insecure_test_keys};
use cipherloom_primitives::{Address, B256, Computation, FheType, Handle, Operand, Operation, TypedOperation, U256};
use cipherloom_store::{
    ApiKey, BlockRef, Database, KeyPartRecord, KeySetRecord, NewTenant, PostgresConfig, PostgresDatabase, RecordedBlock,
    RecordedTransaction, SqliteStore, Tenant, Tenants,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::forwarding::{Faults, ForwardingDatabase};

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A key set, and the directory it may be in.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) set: Arc<KeySet>,
    _directory: Arc<TempDir>,
}

impl Keys {
    /// Makes a key set of the clear backend.
    pub(crate) fn clear() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let set = KeySet::generate(&directory.path().join("keys"), ParameterSet::InsecureClear, &()).unwrap();
        Self {
            set: Arc::new(set),
            _directory: Arc::new(directory),
        }
    }

    /// Takes the key set of real TFHE on toy parameters that all tests share.
    pub(crate) fn toy() -> Self {
        Self {
            set: insecure_test_keys().unwrap(),
            _directory: Arc::new(tempfile::tempdir().unwrap()),
        }
    }
}

/// A database with faults, and the tenants in it.
pub(crate) struct Deployment {
    pub(crate) database: Arc<dyn Database>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) tenants: Vec<Tenant>,
    keys: Vec<Keys>,
    _directory: TempDir,
}

impl Deployment {
    /// Makes tenants with key sets of the clear backend: tenant number n has key set number n modulo `key_sets`.
    pub(crate) async fn new(tenants: usize, key_sets: usize) -> Self {
        let keys = (0..key_sets).map(|_| Keys::clear()).collect();
        Self::with_keys(tenants, keys).await
    }

    /// Makes tenants with these key sets in an embedded database.
    pub(crate) async fn with_keys(tenants: usize, keys: Vec<Keys>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let database = SqliteStore::open(&directory.path().join("store.sqlite")).await.unwrap();
        Self::on(Arc::new(database), directory, tenants, keys).await
    }

    /// Makes tenants in a PostgreSQL database of their own.
    pub(crate) async fn on_postgres(tenants: usize, key_sets: usize) -> Self {
        let url = cipherloom_private_postgres::shared().create_database().unwrap();
        let database = PostgresDatabase::open(PostgresConfig::new(&url).unwrap()).await.unwrap();
        let keys = (0..key_sets).map(|_| Keys::clear()).collect();
        Self::on(Arc::new(database), tempfile::tempdir().unwrap(), tenants, keys).await
    }

    async fn on(database: Arc<dyn Database>, directory: TempDir, tenants: usize, keys: Vec<Keys>) -> Self {
        let forwarding = ForwardingDatabase::new(database);
        let faults = Arc::clone(&forwarding.faults);
        let mut deployment = Self {
            database: Arc::new(forwarding),
            faults,
            tenants: Vec::new(),
            keys,
            _directory: directory,
        };
        for number in 0..tenants {
            let tenant = deployment.add_tenant(number).await;
            deployment.give_keys(&tenant, number % deployment.keys.len()).await;
            deployment.tenants.push(tenant);
        }
        deployment
    }

    /// Adds a tenant without keys.
    pub(crate) async fn add_tenant(&self, number: usize) -> Tenant {
        let new = NewTenant {
            name: format!("tenant {number}"),
            chain_id: 1000 + number as u64,
            acl: Address::repeat_byte(0xac),
            input_verifier: Address::repeat_byte(0xd2),
            is_admin: false,
        };
        let mut key = [0; 16];
        key[..8].copy_from_slice(&number.to_be_bytes());
        self.database.add_tenant(&new, ApiKey::from_random(key).digest()).await.unwrap()
    }

    pub(crate) async fn give_keys(&self, tenant: &Tenant, key_set: usize) {
        let record = store_keys(self.database.as_ref(), &self.keys[key_set].set).await;
        self.database.attach_key_set(tenant.id, record.id).await.unwrap();
    }

    pub(crate) fn tenancy(&self, configure: impl FnOnce(&mut TenancyOptions)) -> Tenancy {
        let machine = Machine::new(MachineOptions {
            processors: std::num::NonZero::new(2),
            ..MachineOptions::default()
        });
        let mut options = TenancyOptions::new(machine);
        options.insecure_keys = true;
        options.key_check_interval = Duration::from_millis(20);
        configure(&mut options);
        let signer = PrivateKeySigner::from_bytes(&B256::repeat_byte(0x11)).unwrap();
        Tenancy::new(Arc::clone(&self.database), signer, options)
    }

    /// Starts workers that stop with the returned token.
    pub(crate) fn start(&self, tenancy: &Tenancy, configure: impl FnOnce(&mut WorkersOptions)) -> Running {
        let mut options = WorkersOptions {
            polling_interval: Duration::from_millis(50),
            ..WorkersOptions::default()
        };
        configure(&mut options);
        let (workers, stop) = (Workers::new(tenancy.clone(), options), CancellationToken::new());
        let task = tokio::spawn({
            let (workers, stop) = (workers.clone(), stop.clone());
            async move { workers.run(stop).await }
        });
        Running { workers, stop, task }
    }

    /// Records transactions that each publish [`sum`]s, in one block per call.
    pub(crate) async fn record(&self, tenant: &Tenant, block: u64, transactions: Vec<RecordedTransaction>) {
        let hash = |number: u64| keccak256(number.to_be_bytes());
        let recorded = RecordedBlock {
            block: BlockRef {
                number: block,
                hash: hash(block),
                parent_hash: hash(block - 1),
                timestamp: 1_700_000_000 + block,
            },
            transactions,
        };
        self.database
            .store(tenant)
            .record_blocks(tenant.chain_id, &[recorded])
            .await
            .unwrap();
    }

    pub(crate) async fn pending(&self, tenant: &Tenant) -> u64 {
        self.database.store(tenant).pending_transactions(tenant.chain_id).await.unwrap()
    }

    pub(crate) async fn until_done(&self, tenant: &Tenant) {
        tokio::time::timeout(PATIENCE, async {
            while self.pending(tenant).await > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("transactions of {} are still pending", tenant.name));
    }

    pub(crate) async fn until_all_done(&self) {
        for tenant in &self.tenants {
            self.until_done(tenant).await;
        }
    }

    /// Decrypts a computed handle.
    pub(crate) async fn value(&self, coprocessor: &Coprocessor, handle: Handle) -> U256 {
        assert_eq!(coprocessor.handle_status(handle).await.unwrap(), HandleStatus::Computed, "{handle}");
        let signed = coprocessor.signed_ciphertext(handle).await.unwrap();
        let keys = self
            .keys
            .iter()
            .find(|keys| keys.set.manifest().id.as_bytes() == &signed.key_set_id.0);
        let decryptor = keys.unwrap().set.decryptor().unwrap();
        decryptor.decrypt(handle.fhe_type(), &signed.bytes).unwrap()
    }
}

/// Running workers.
pub(crate) struct Running {
    pub(crate) workers: Workers,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("the workers do not end")
            .unwrap();
    }
}

/// Stores the parts of a key set, as the command line does.
pub(crate) async fn store_keys(tenants: &(impl Tenants + ?Sized), set: &KeySet) -> KeySetRecord {
    let manifest = set.manifest();
    let mut parts = Vec::new();
    for (_, part) in manifest.parts.not_secret() {
        let bytes = std::fs::read(set.directory().join(&part.file)).unwrap();
        let digest: B256 = part.sha3_256.parse().unwrap();
        tenants.put_key_part(digest, &bytes).await.unwrap();
        parts.push(KeyPartRecord {
            name: part.file.clone(),
            digest,
            size_bytes: part.size_bytes,
        });
    }
    let record = KeySetRecord {
        id: B256::from(*manifest.id.as_bytes()),
        manifest: serde_json::to_string(manifest).unwrap(),
        parts,
    };
    tenants.put_key_set(&record).await.unwrap();
    assert!(ParameterSet::from_name(&manifest.parameters).is_some());
    record
}

/// A handle of a tenant's chain.
pub(crate) fn handle(tenant: &Tenant, number: u64) -> Handle {
    Handle::computed(keccak256(number.to_be_bytes()), tenant.chain_id, FheType::Uint32)
}

pub(crate) fn trivial(value: u64, result: Handle) -> Computation {
    Computation {
        operation: TypedOperation::TrivialEncrypt {
            value: U256::from(value),
            ty: result.fhe_type(),
        },
        inputs: Vec::new(),
        result,
    }
}

pub(crate) fn add(lhs: Handle, rhs: Handle, result: Handle) -> Computation {
    Computation {
        operation: TypedOperation::Binary {
            operation: Operation::Add,
            ty: lhs.fhe_type(),
            rhs: Operand::Encrypted,
        },
        inputs: vec![lhs, rhs],
        result,
    }
}

/// A transaction of these computations that publishes these handles.
pub(crate) fn transaction(tenant: &Tenant, index: u64, computations: Vec<Computation>, outputs: &[Handle]) -> RecordedTransaction {
    let results: HashSet<Handle> = computations.iter().map(|computation| computation.result).collect();
    let operands: HashSet<Handle> = computations
        .iter()
        .flat_map(|computation| computation.inputs.iter().copied())
        .collect();
    let first = outputs.first().copied().unwrap();
    RecordedTransaction {
        hash: keccak256([first.as_slice(), &tenant.chain_id.to_be_bytes(), &index.to_be_bytes()].concat()),
        index,
        computations,
        boundary: operands.difference(&results).copied().collect(),
        outputs: outputs.to_vec(),
        grants: Vec::new(),
        delegations: Vec::new(),
    }
}

/// A transaction that publishes the sum of its number and one under the handle of its number.
pub(crate) fn sum(tenant: &Tenant, number: u64) -> RecordedTransaction {
    let (value, one, result) = (
        handle(tenant, 1_000_000 + 2 * number),
        handle(tenant, 1_000_001 + 2 * number),
        handle(tenant, number),
    );
    let computations = vec![trivial(number, value), trivial(1, one), add(value, one, result)];
    transaction(tenant, number, computations, &[result])
}

/// The value of [`sum`].
pub(crate) fn sum_value(number: u64) -> U256 {
    U256::from(number + 1)
}
