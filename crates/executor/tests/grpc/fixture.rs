//! Executors, clients and blocks.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use cipherloom_engine::Policy;
use cipherloom_executor::{Executor, ExecutorConfig, ExecutorHandle};
use cipherloom_fhe::{FheBackend, KeySet, ParameterSet, insecure_test_keys};
use cipherloom_primitives::{Address, FheType, Handle, TypedOperation, U256, input::InputMetadata};
use cipherloom_rpc::{
    cipherloom::{executor::v1::executor_client::ExecutorClient, input::v1::InputContext},
    fhevm::{
        common::FheOperation,
        executor::{
            CompressedCiphertext, SyncComputation, SyncComputeError, SyncComputeRequest, SyncComputeResponse, SyncInput,
            fhevm_executor_client::FhevmExecutorClient, sync_compute_response::Resp, sync_input::Input,
        },
    },
};
use tonic::transport::{Channel, Endpoint};

/// The largest answer the clients of the tests take.
const MAX_ANSWER: usize = 1 << 30;

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

/// A running executor with its clients.
pub(crate) struct Served {
    pub(crate) keys: Arc<KeySet>,
    pub(crate) handle: ExecutorHandle,
    pub(crate) channel: Channel,
}

impl Served {
    pub(crate) async fn start(keys: Arc<KeySet>) -> Self {
        Self::with(keys, |_| {}).await
    }

    pub(crate) async fn with_policy(keys: Arc<KeySet>, policy: Policy) -> Self {
        Self::with(keys, |config| config.engine.engine.policy = policy).await
    }

    pub(crate) async fn with(keys: Arc<KeySet>, change: impl FnOnce(&mut ExecutorConfig)) -> Self {
        let mut config = ExecutorConfig::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), *keys.manifest().id.as_bytes());
        change(&mut config);
        let handle = Executor::start(config, keys.evaluation().unwrap()).await.unwrap();
        let channel = connect(handle.address()).await;
        Self { keys, handle, channel }
    }

    pub(crate) fn client(&self) -> FhevmExecutorClient<Channel> {
        FhevmExecutorClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn own_client(&self) -> ExecutorClient<Channel> {
        ExecutorClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// Sends a block and returns the answer.
    pub(crate) async fn ask(&self, block: &Block) -> SyncComputeResponse {
        self.client().sync_compute(block.request.clone()).await.unwrap().into_inner()
    }

    /// Sends a block and returns its ciphertexts.
    pub(crate) async fn compute(&self, block: &Block) -> Vec<CompressedCiphertext> {
        match self.ask(block).await.resp {
            Some(Resp::ResultCiphertexts(results)) => results.ciphertexts,
            other => panic!("no results: {other:?}"),
        }
    }

    /// Sends a block that cannot be computed, and returns why.
    pub(crate) async fn refused(&self, block: &Block) -> SyncComputeError {
        match self.ask(block).await.resp {
            Some(Resp::Error(error)) => SyncComputeError::try_from(error).unwrap(),
            other => panic!("no error: {other:?}"),
        }
    }

    pub(crate) fn decrypt(&self, handle: &[u8], bytes: &[u8]) -> U256 {
        let handle = Handle::try_from(handle).unwrap();
        self.keys.decryptor().unwrap().decrypt(handle.fhe_type(), bytes).unwrap()
    }

    /// Sends a block and decrypts its results.
    pub(crate) async fn values(&self, block: &Block) -> Vec<U256> {
        let results = self.compute(block).await;
        results
            .iter()
            .map(|result| self.decrypt(&result.handle, &result.serialization))
            .collect()
    }

    /// Waits until the engine has so many programs.
    pub(crate) async fn wait_for_programs(&self, expected: impl Fn(usize) -> bool) {
        let wait = async {
            while !expected(self.handle.statistics().programs) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait)
            .await
            .expect("the engine should get there");
    }
}

pub(crate) async fn connect(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// A handle that stands for nothing else.
pub(crate) fn handle(number: u32, ty: FheType) -> Handle {
    let mut bytes = [0u8; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes[30] = ty.id();
    Handle::try_from(bytes.as_slice()).unwrap()
}

pub(crate) fn bytes(handle: Handle) -> Bytes {
    Bytes::copy_from_slice(handle.as_slice())
}

pub(crate) fn input(handle: Handle) -> SyncInput {
    SyncInput {
        input: Some(Input::Handle(bytes(handle))),
    }
}

pub(crate) fn scalar(value: impl Into<U256>) -> SyncInput {
    SyncInput {
        input: Some(Input::Scalar(value.into().to_be_bytes_vec().into())),
    }
}

/// Whom the inputs of the tests are for.
pub(crate) fn metadata() -> InputMetadata {
    InputMetadata {
        contract: Address::repeat_byte(1),
        user: Address::repeat_byte(2),
        acl: Address::repeat_byte(3),
        chain_id: 8009,
    }
}

pub(crate) fn context(metadata: &InputMetadata) -> InputContext {
    InputContext {
        contract_address: Bytes::copy_from_slice(metadata.contract.as_slice()),
        user_address: Bytes::copy_from_slice(metadata.user.as_slice()),
        acl_address: Bytes::copy_from_slice(metadata.acl.as_slice()),
        chain_id: metadata.chain_id,
    }
}

/// A block under construction. Handles are numbered by what they stand for, so that the same steps give the same block.
#[derive(Clone, Default)]
pub(crate) struct Block {
    pub(crate) request: SyncComputeRequest,
    next: u32,
}

impl Block {
    fn fresh(&mut self, ty: FheType) -> Handle {
        self.next += 1;
        handle(self.next, ty)
    }

    /// Gives the ciphertext of a public value.
    pub(crate) fn given(&mut self, backend: &dyn FheBackend, value: u64, ty: FheType) -> Handle {
        let value = U256::from(value);
        let ciphertext = backend.evaluate(&TypedOperation::TrivialEncrypt { value, ty }, &[]).unwrap();
        let serialization = backend.serialize(&ciphertext).unwrap();
        self.given_bytes(ty, serialization.into())
    }

    /// Gives a ciphertext in bytes.
    pub(crate) fn given_bytes(&mut self, ty: FheType, serialization: Bytes) -> Handle {
        let handle = self.fresh(ty);
        self.request.compressed_ciphertexts.push(CompressedCiphertext {
            handle: bytes(handle),
            serialization,
        });
        handle
    }

    /// Gives secret values in a proven list, and returns the native handles.
    pub(crate) fn proven(&mut self, keys: &KeySet, values: &[(FheType, u64)]) -> Vec<Handle> {
        let plain: Vec<(FheType, U256)> = values.iter().map(|(ty, value)| (*ty, U256::from(*value))).collect();
        let list = keys.encryptor().unwrap().encrypt(&plain, &metadata()).unwrap();
        let types: Vec<FheType> = values.iter().map(|(ty, _)| *ty).collect();
        let handles = cipherloom_primitives::native::native_input_handles(&list, &types).unwrap();
        self.request.compact_ciphertext_lists.push(list.into());
        self.request.input_contexts.push(context(&metadata()));
        handles
    }

    /// Adds a computation whose result has this type.
    pub(crate) fn compute(&mut self, operation: FheOperation, inputs: Vec<SyncInput>, ty: FheType) -> Handle {
        let result = self.fresh(ty);
        self.compute_as(operation, inputs, result);
        result
    }

    /// Adds a computation with this result.
    pub(crate) fn compute_as(&mut self, operation: FheOperation, inputs: Vec<SyncInput>, result: Handle) {
        self.request.computations.push(SyncComputation {
            operation: operation as i32,
            inputs,
            result_handles: vec![bytes(result)],
        });
    }

    /// Adds a chain of additions of a value to itself, and returns the last result.
    pub(crate) fn chain(&mut self, mut value: Handle, length: usize) -> Handle {
        for _ in 0..length {
            value = self.compute(FheOperation::FheAdd, vec![input(value), input(value)], value.fhe_type());
        }
        value
    }
}
