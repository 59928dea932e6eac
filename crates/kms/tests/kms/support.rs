//! A KMS node in a world the tests control: chain, ciphertext storage, clock and keys.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use alloy_primitives::keccak256;
use cipherloom_fhe::{KeySet, ParameterSet, insecure_test_keys};
use cipherloom_kms::{
    AuditLog, ChainViewError, CiphertextSource, Clock, CoprocessorSet, HostChainView, KmsContext, KmsLimits, KmsNode, KmsParts, NodeKey,
    SignedCiphertext, SourceError,
};
use cipherloom_primitives::{
    Address, B256, Bytes, FheType, Handle, TypedOperation, U256,
    decryption::{ClassicPermit, DecryptionPermit, PublicDecryptionRequest, RequestedValue, UserDecryptionRequest},
    eip712::{SigningDomains, ciphertext_attestation_digest},
};
use cipherloom_signcryption::{SigningKey, UserKeypair, node_address, sign_digest};
use futures_util::future::BoxFuture;

pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const CHAIN_ID: u64 = 31337;
pub(crate) const CONTRACT: Address = Address::repeat_byte(0xcc);

/// What the fake chain says.
#[derive(Default)]
pub(crate) struct ChainState {
    pub(crate) public: HashSet<Handle>,
    pub(crate) allowed: HashSet<(Handle, Address)>,
    pub(crate) delegated: HashSet<(Address, Address, Address, Handle)>,
    pub(crate) invalidated_before: HashMap<Address, u64>,
    pub(crate) coprocessors: Vec<Address>,
    pub(crate) threshold: usize,
    pub(crate) kms_signers: Vec<Address>,
    pub(crate) down: bool,
}

struct FakeChain(Arc<Mutex<ChainState>>);

impl FakeChain {
    fn read<T: Send + 'static>(&self, read: impl FnOnce(&ChainState) -> T) -> BoxFuture<'_, Result<T, ChainViewError>> {
        let state = self.0.lock().unwrap();
        let answer = if state.down {
            Err(ChainViewError("connection refused".into()))
        } else {
            Ok(read(&state))
        };
        Box::pin(async move { answer })
    }
}

impl HostChainView for FakeChain {
    fn is_allowed_for_decryption(&self, handle: Handle) -> BoxFuture<'_, Result<bool, ChainViewError>> {
        self.read(|state| state.public.contains(&handle))
    }

    fn persist_allowed(&self, handle: Handle, account: Address) -> BoxFuture<'_, Result<bool, ChainViewError>> {
        self.read(|state| state.allowed.contains(&(handle, account)))
    }

    fn is_handle_delegated_for_user_decryption(
        &self,
        delegator: Address,
        delegate: Address,
        contract: Address,
        handle: Handle,
    ) -> BoxFuture<'_, Result<bool, ChainViewError>> {
        self.read(|state| state.delegated.contains(&(delegator, delegate, contract, handle)))
    }

    fn decryption_signatures_invalidated_before(&self, account: Address) -> BoxFuture<'_, Result<u64, ChainViewError>> {
        self.read(|state| state.invalidated_before.get(&account).copied().unwrap_or(0))
    }

    fn coprocessors(&self) -> BoxFuture<'_, Result<CoprocessorSet, ChainViewError>> {
        self.read(|state| CoprocessorSet {
            signers: state.coprocessors.clone(),
            threshold: state.threshold,
        })
    }

    fn kms_context(&self) -> BoxFuture<'_, Result<KmsContext, ChainViewError>> {
        self.read(|state| KmsContext {
            id: context_id(),
            epoch: epoch_id(),
            signers: state.kms_signers.clone(),
        })
    }
}

type Stored = Arc<Mutex<HashMap<Handle, Result<SignedCiphertext, SourceError>>>>;

struct FakeSource(Stored);

impl CiphertextSource for FakeSource {
    fn ciphertext(&self, handle: Handle) -> BoxFuture<'_, Result<SignedCiphertext, SourceError>> {
        let found = self.0.lock().unwrap().get(&handle).cloned().unwrap_or(Err(SourceError::Unknown));
        Box::pin(async move { found })
    }
}

struct FixedClock;

impl Clock for FixedClock {
    fn now_seconds(&self) -> u64 {
        NOW
    }
}

/// Which key set the node has.
#[derive(Clone, Copy)]
pub(crate) enum Keys {
    /// No encryption.
    Clear,
    /// Real TFHE without security.
    Toy,
}

/// A node and everything around it.
pub(crate) struct World {
    pub(crate) node: KmsNode,
    pub(crate) chain: Arc<Mutex<ChainState>>,
    pub(crate) stored: Stored,
    pub(crate) domains: SigningDomains,
    pub(crate) user: SigningKey,
    pub(crate) user_keys: UserKeypair,
    pub(crate) directory: tempfile::TempDir,
    coprocessor: SigningKey,
    keys: Arc<KeySet>,
}

pub(crate) fn context_id() -> B256 {
    B256::from((U256::from(7) << 248) | U256::ONE)
}

pub(crate) fn epoch_id() -> B256 {
    B256::from((U256::from(8) << 248) | U256::ONE)
}

pub(crate) fn key(byte: u8) -> SigningKey {
    SigningKey::from_slice(&[byte; 32]).unwrap()
}

impl World {
    pub(crate) fn new(kind: Keys) -> Self {
        Self::with_limits(kind, KmsLimits::default())
    }

    pub(crate) fn with_limits(kind: Keys, limits: KmsLimits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let keys = match kind {
            Keys::Clear => Arc::new(KeySet::generate(&directory.path().join("keys"), ParameterSet::InsecureClear, &()).unwrap()),
            Keys::Toy => insecure_test_keys().unwrap(),
        };
        let domains = SigningDomains {
            host_chain_id: CHAIN_ID,
            gateway_chain_id: 10901,
            decryption: Address::repeat_byte(0xd1),
            input_verification: Address::repeat_byte(0xd2),
        };
        let signing_key = NodeKey::open_or_generate(&directory.path().join("signing-key")).unwrap();
        let coprocessor = key(0x21);
        let chain = Arc::new(Mutex::new(ChainState {
            coprocessors: vec![node_address(&coprocessor)],
            threshold: 1,
            kms_signers: vec![signing_key.address()],
            ..ChainState::default()
        }));
        let stored = Stored::default();
        let node = KmsNode::new(KmsParts {
            decrypt: keys.decryptor().unwrap(),
            key_set_id: B256::from(*keys.manifest().id.as_bytes()),
            signing_key,
            domains,
            chain: Arc::new(FakeChain(Arc::clone(&chain))),
            ciphertexts: Arc::new(FakeSource(Arc::clone(&stored))),
            audit: AuditLog::open(&directory.path().join("audit.jsonl")).unwrap(),
            clock: Arc::new(FixedClock),
            limits,
        });
        let user_keys = UserKeypair::generate().unwrap();
        Self {
            node,
            chain,
            stored,
            domains,
            user: key(0x31),
            user_keys,
            directory,
            coprocessor,
            keys,
        }
    }

    pub(crate) fn key_set_id(&self) -> B256 {
        B256::from(*self.keys.manifest().id.as_bytes())
    }

    pub(crate) fn user_address(&self) -> Address {
        node_address(&self.user)
    }

    /// Puts an attested ciphertext of `value` into the storage.
    pub(crate) fn store(&self, tag: u8, ty: FheType, value: U256) -> Handle {
        let handle = Handle::computed(B256::repeat_byte(tag), CHAIN_ID, ty);
        let ciphertext = SignedCiphertext {
            handle,
            key_set_id: self.key_set_id(),
            bytes: self.encrypt(ty, value),
            attestations: Vec::new(),
        };
        let attested = self.attest(ciphertext, &self.coprocessor);
        self.stored.lock().unwrap().insert(handle, Ok(attested));
        handle
    }

    pub(crate) fn encrypt(&self, ty: FheType, value: U256) -> Vec<u8> {
        let backend = self.keys.evaluation().unwrap();
        let ciphertext = backend.evaluate(&TypedOperation::TrivialEncrypt { value, ty }, &[]).unwrap();
        backend.serialize(&ciphertext).unwrap()
    }

    /// Adds an attestation of whatever the ciphertext says by `signer`.
    pub(crate) fn attest(&self, mut ciphertext: SignedCiphertext, signer: &SigningKey) -> SignedCiphertext {
        let digest = ciphertext_attestation_digest(ciphertext.handle, ciphertext.key_set_id, keccak256(&ciphertext.bytes));
        ciphertext.attestations.push(sign_digest(signer, digest).unwrap().to_vec().into());
        ciphertext
    }

    /// Changes what is stored for a handle.
    pub(crate) fn change(&self, handle: Handle, change: impl FnOnce(SignedCiphertext) -> SignedCiphertext) {
        let mut stored = self.stored.lock().unwrap();
        let ciphertext = stored.remove(&handle).unwrap().unwrap();
        stored.insert(handle, Ok(change(ciphertext)));
    }

    /// Lets the user and the contract use a handle.
    pub(crate) fn allow(&self, handle: Handle) {
        let mut chain = self.chain.lock().unwrap();
        chain.allowed.insert((handle, self.user_address()));
        chain.allowed.insert((handle, CONTRACT));
    }

    pub(crate) fn make_public(&self, handle: Handle) {
        self.chain.lock().unwrap().public.insert(handle);
    }

    pub(crate) fn public_request(&self, handles: &[Handle]) -> PublicDecryptionRequest {
        PublicDecryptionRequest {
            handles: handles.to_vec(),
            extra_data: Bytes::from_static(&[0]),
        }
    }

    /// A request of the user, not signed yet.
    pub(crate) fn unsigned_request(&self, handles: &[Handle]) -> UserDecryptionRequest {
        self.unsigned_with(handles, |_| ())
    }

    /// The same with other terms; about the values of whomever the permit is about.
    pub(crate) fn unsigned_with(&self, handles: &[Handle], change: impl FnOnce(&mut ClassicPermit)) -> UserDecryptionRequest {
        let mut permit = ClassicPermit {
            delegator: None,
            contracts: vec![CONTRACT],
            start_timestamp: NOW - 10,
            duration_days: 1,
        };
        change(&mut permit);
        let owner = permit.delegator.unwrap_or_else(|| self.user_address());
        UserDecryptionRequest {
            values: handles
                .iter()
                .map(|handle| RequestedValue {
                    handle: *handle,
                    contract_address: CONTRACT,
                    owner,
                })
                .collect(),
            user: self.user_address(),
            permit: DecryptionPermit::Classic(permit),
            public_key: self.user_keys.public_key().blob().to_vec().into(),
            extra_data: Bytes::from_static(&[0]),
            signature: Bytes::new(),
        }
    }

    pub(crate) fn sign(&self, request: UserDecryptionRequest) -> UserDecryptionRequest {
        self.sign_with(request, &self.user, &self.domains)
    }

    pub(crate) fn sign_with(
        &self,
        mut request: UserDecryptionRequest,
        key: &SigningKey,
        domains: &SigningDomains,
    ) -> UserDecryptionRequest {
        request.signature = sign_digest(key, request.digest(domains)).unwrap().to_vec().into();
        request
    }

    pub(crate) fn request(&self, handles: &[Handle]) -> UserDecryptionRequest {
        self.sign(self.unsigned_request(handles))
    }

    pub(crate) fn audit_text(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("audit.jsonl")).unwrap()
    }
}
