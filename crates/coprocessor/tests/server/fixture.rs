//! Servers, tenants and clients.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use alloy::signers::local::PrivateKeySigner;
use bytes::Bytes;
use cipherloom_coprocessor::{
    Machine, Squashing, SquashingOptions, Tenancy, TenancyOptions,
    server::{CoprocessorServer, ServerConfig, ServerHandle},
};
use cipherloom_fhe::{KeySet, ParameterSet, insecure_test_keys};
use cipherloom_primitives::{Address, B256, FheType, Handle, U256, input::InputMetadata};
use cipherloom_rpc::{
    codec::BoundedCodec,
    fhevm::{
        common::FheOperation,
        coprocessor::{
            AsyncComputation, AsyncComputationInput, AsyncComputeRequest, GenericResponse, GetCiphertextBatch, GetCiphertextSingleResponse,
            InputToUpload, TrivialEncryptBatch, TrivialEncryptRequestSingle, async_computation_input::Input,
            fhevm_coprocessor_client::FhevmCoprocessorClient,
        },
    },
};
use cipherloom_store::{ApiKey, Database, KeyPartRecord, KeySetRecord, NewTenant, PostgresConfig, PostgresDatabase, SqliteStore, Tenant};
use futures_util::stream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Response, Status,
    codegen::http::uri::PathAndQuery,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

pub(crate) const CHAIN: u64 = 12345;
pub(crate) const ACL: Address = Address::repeat_byte(0xac);
pub(crate) const INPUT_VERIFIER: Address = Address::repeat_byte(0x1b);
pub(crate) const CONTRACT: Address = Address::repeat_byte(0x70);
pub(crate) const USER: Address = Address::repeat_byte(0xa1);

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The largest answer the clients of the tests take.
const MAX_ANSWER: usize = 1 << 30;

/// Which database a test is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

/// Runs a test on both databases.
macro_rules! on_both_databases {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                Box::pin(super::$name($crate::fixture::Kind::Sqlite)).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                Box::pin(super::$name($crate::fixture::Kind::Postgres)).await;
            })*
        }
    };
}
pub(crate) use on_both_databases;

/// Keys without encryption.
pub(crate) fn clear_keys() -> Arc<KeySet> {
    static KEYS: OnceLock<(tempfile::TempDir, Arc<KeySet>)> = OnceLock::new();
    let (_, keys) = KEYS.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let keys = KeySet::generate(&directory.path().join("keys"), ParameterSet::InsecureClear, &()).unwrap();
        (directory, Arc::new(keys))
    });
    Arc::clone(keys)
}

/// Real TFHE without security.
pub(crate) fn toy_keys() -> Arc<KeySet> {
    insecure_test_keys().unwrap()
}

pub(crate) fn signer() -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(0x11)).unwrap()
}

/// Gives a tenant a key set.
pub(crate) async fn attach_keys(database: &dyn Database, tenant: &Tenant, keys: &KeySet) {
    let manifest = keys.manifest();
    let mut parts = Vec::new();
    for (_, part) in manifest.parts.not_secret() {
        let bytes = std::fs::read(keys.directory().join(&part.file)).unwrap();
        let digest: B256 = part.sha3_256.parse().unwrap();
        database.put_key_part(digest, &bytes).await.unwrap();
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
    database.put_key_set(&record).await.unwrap();
    database.attach_key_set(tenant.id, record.id).await.unwrap();
}

/// A running server with a tenant.
pub(crate) struct Bench {
    pub(crate) keys: Arc<KeySet>,
    pub(crate) database: Arc<dyn Database>,
    pub(crate) tenancy: Tenancy,
    pub(crate) handle: ServerHandle,
    pub(crate) channel: Channel,
    pub(crate) tenant: Tenant,
    pub(crate) key: ApiKey,
}

impl Bench {
    pub(crate) async fn new(kind: Kind) -> Self {
        Self::with(kind, clear_keys(), |_| {}).await
    }

    pub(crate) async fn with(kind: Kind, keys: Arc<KeySet>, change: impl FnOnce(&mut ServerConfig)) -> Self {
        Self::on(database(kind).await, keys, change).await
    }

    pub(crate) async fn on_postgres(url: &str, change: impl FnOnce(&mut ServerConfig)) -> Self {
        let database = PostgresDatabase::open(PostgresConfig::new(url).unwrap()).await.unwrap();
        Self::on(Arc::new(database), clear_keys(), change).await
    }

    async fn on(database: Arc<dyn Database>, keys: Arc<KeySet>, change: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut options = TenancyOptions::new(Machine::whole());
        options.insecure_keys = true;
        options.coprocessors.idle_poll = Duration::from_millis(20);
        options.squashing = Some(Squashing::start(SquashingOptions::default(), options.coprocessors.metrics.clone()));
        let tenancy = Tenancy::new(Arc::clone(&database), signer(), options);
        let (tenant, key) = add_tenant(&*database, "shop", CHAIN).await;
        attach_keys(&*database, &tenant, &keys).await;
        let mut config = ServerConfig::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        change(&mut config);
        let encrypted = config.tls.is_some();
        let handle = CoprocessorServer::start(config, tenancy.clone()).await.unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{}", handle.address())).unwrap();
        let channel = if encrypted {
            endpoint.connect_lazy()
        } else {
            endpoint.connect().await.unwrap()
        };
        Self {
            keys,
            database,
            tenancy,
            handle,
            channel,
            tenant,
            key,
        }
    }

    pub(crate) fn client(&self) -> FhevmCoprocessorClient<Channel> {
        FhevmCoprocessorClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_ANSWER)
            .max_encoding_message_size(MAX_ANSWER)
    }

    pub(crate) async fn schedule(&self, computations: &[AsyncComputation]) -> Result<GenericResponse, Status> {
        let request = AsyncComputeRequest {
            computations: computations.to_vec(),
        };
        answer(self.client().async_compute(with_key(&self.key, request)).await)
    }

    pub(crate) async fn encrypt_trivially(&self, values: &[(&[u8], u64, FheType)]) -> Result<GenericResponse, Status> {
        let values = values.iter().map(|(handle, value, ty)| TrivialEncryptRequestSingle {
            handle: Bytes::copy_from_slice(handle),
            be_value: value.to_be_bytes().to_vec().into(),
            output_type: ty.id().into(),
        });
        let request = TrivialEncryptBatch { values: values.collect() };
        answer(self.client().trivial_encrypt_ciphertexts(with_key(&self.key, request)).await)
    }

    pub(crate) async fn fetch(&self, handles: &[&[u8]]) -> Result<Vec<GetCiphertextSingleResponse>, Status> {
        let handles = handles.iter().map(|handle| Bytes::copy_from_slice(handle)).collect();
        let request = with_key(&self.key, GetCiphertextBatch { handles });
        Ok(answer(self.client().get_ciphertexts(request).await)?.responses)
    }

    /// Fetches one ciphertext and decrypts it.
    pub(crate) async fn value(&self, name: &[u8]) -> Option<U256> {
        let answer = self.fetch(&[name]).await.unwrap().remove(0);
        assert_eq!(answer.handle, name);
        let ciphertext = answer.ciphertext?;
        let ty = FheType::try_from(u8::try_from(ciphertext.ciphertext_type).unwrap()).unwrap();
        Some(self.keys.decryptor().unwrap().decrypt(ty, &ciphertext.ciphertext_bytes).unwrap())
    }

    /// An input list of these values for the contract and the user of the tests.
    pub(crate) fn list(&self, values: &[(FheType, u64)]) -> InputToUpload {
        let values: Vec<(FheType, U256)> = values.iter().map(|(ty, value)| (*ty, U256::from(*value))).collect();
        let list = self.keys.encryptor().unwrap().encrypt(&values, &metadata()).unwrap();
        InputToUpload {
            input_payload: list.into(),
            contract_address: CONTRACT.to_string(),
            user_address: USER.to_string(),
            signatures: Vec::new(),
        }
    }

    pub(crate) async fn pending(&self) -> u64 {
        self.database.store(&self.tenant).pending_transactions(CHAIN).await.unwrap()
    }

    /// Computes until nothing is pending.
    pub(crate) async fn compute_all(&self) {
        let coprocessor = self.tenancy.coprocessor(&self.tenant).await.unwrap();
        let stop = CancellationToken::new();
        let token = stop.clone();
        let workers: JoinHandle<()> = tokio::spawn(async move { coprocessor.work(token).await });
        tokio::time::timeout(PATIENCE, async {
            while self.pending().await > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("transactions are still pending");
        stop.cancel();
        workers.await.unwrap();
    }
}

async fn database(kind: Kind) -> Arc<dyn Database> {
    match kind {
        Kind::Sqlite => Arc::new(SqliteStore::in_memory().await.unwrap()),
        Kind::Postgres => {
            let url = cipherloom_private_postgres::shared().create_database().unwrap();
            Arc::new(PostgresDatabase::open(PostgresConfig::new(&url).unwrap()).await.unwrap())
        }
    }
}

/// Adds a tenant with a key of its own.
pub(crate) async fn add_tenant(database: &dyn Database, name: &str, chain_id: u64) -> (Tenant, ApiKey) {
    let key = new_key(u8::try_from(chain_id % 251).unwrap());
    let tenant = NewTenant {
        name: name.to_owned(),
        chain_id,
        acl: ACL,
        input_verifier: INPUT_VERIFIER,
        is_admin: false,
    };
    (database.add_tenant(&tenant, key.digest()).await.unwrap(), key)
}

pub(crate) fn new_key(seed: u8) -> ApiKey {
    ApiKey::from_random([seed; 16])
}

pub(crate) fn metadata() -> InputMetadata {
    InputMetadata {
        contract: CONTRACT,
        user: USER,
        acl: ACL,
        chain_id: CHAIN,
    }
}

pub(crate) fn with_key<T>(key: &ApiKey, message: T) -> Request<T> {
    with_authorization(&format!("Bearer {}", key.expose()), message)
}

pub(crate) fn with_authorization<T>(value: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("authorization", MetadataValue::try_from(value).unwrap());
    request
}

pub(crate) fn answer<T>(answered: Result<Response<T>, Status>) -> Result<T, Status> {
    answered.map(Response::into_inner)
}

/// Begins a request whose body never comes, and returns how it ends.
pub(crate) fn never_ending(bench: &Bench, key: Option<&ApiKey>) -> JoinHandle<Code> {
    let body = stream::pending::<AsyncComputeRequest>();
    let request = match key {
        Some(key) => with_key(key, body),
        None => Request::new(body),
    };
    let mut client = tonic::client::Grpc::new(bench.channel.clone());
    tokio::spawn(async move {
        client.ready().await.unwrap();
        let path = PathAndQuery::from_static("/fhevm.coprocessor.FhevmCoprocessor/AsyncCompute");
        let codec = BoundedCodec::<AsyncComputeRequest, GenericResponse>::default();
        let answer: Result<Response<GenericResponse>, Status> = client.client_streaming(request, path, codec).await;
        answer.map_or_else(|status| status.code(), |_| Code::Ok)
    })
}

pub(crate) fn handle_operand(name: &[u8]) -> AsyncComputationInput {
    AsyncComputationInput {
        input: Some(Input::InputHandle(Bytes::copy_from_slice(name))),
    }
}

pub(crate) fn scalar(value: u64) -> AsyncComputationInput {
    let bytes = U256::from(value).to_be_bytes_trimmed_vec();
    AsyncComputationInput {
        input: Some(Input::Scalar(bytes.into())),
    }
}

pub(crate) fn computation(operation: FheOperation, output: &[u8], inputs: Vec<AsyncComputationInput>) -> AsyncComputation {
    AsyncComputation {
        operation: operation.into(),
        output_handle: Bytes::copy_from_slice(output),
        inputs,
    }
}

pub(crate) fn trivial(output: &[u8], value: u64, ty: FheType) -> AsyncComputation {
    computation(FheOperation::FheTrivialEncrypt, output, vec![scalar(value), type_scalar(ty)])
}

/// A type as it stands on the wire: one byte.
pub(crate) fn type_scalar(ty: FheType) -> AsyncComputationInput {
    AsyncComputationInput {
        input: Some(Input::Scalar(vec![ty.id()].into())),
    }
}

pub(crate) fn add(output: &[u8], lhs: &[u8], rhs: &[u8]) -> AsyncComputation {
    computation(FheOperation::FheAdd, output, vec![handle_operand(lhs), handle_operand(rhs)])
}

/// A result handle as a chain of the 0.6 generation has it: 30 bytes of a hash, the type and the version.
pub(crate) fn chain_handle(number: u8, ty: FheType) -> [u8; 32] {
    let mut bytes = alloy::primitives::keccak256([number]).0;
    bytes[30] = ty.id();
    bytes[31] = 0;
    assert!(Handle::try_from(bytes.as_slice()).unwrap().chain_id() != CHAIN);
    bytes
}
