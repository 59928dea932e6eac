//! A KMS node in a world the tests control: chain, ciphertext storage, clock and keys.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex},
};

use alloy_primitives::keccak256;
use cipherloom_chain::{AclEvidence, ContextOnChain};
use cipherloom_fhe::{KeySet, ParameterSet, insecure_test_keys};
use cipherloom_kms::{
    AuditLog, ChainViewError, CiphertextSource, Clock, CoprocessorSet, HostChainView, KmsLimits, KmsNode, KmsParts, NodeKey, PinnedBlock,
    PinnedView, Provenance, SignedCiphertext, SourceError,
};
use cipherloom_primitives::{
    AclFacts, AclQuestion, Address, B256, Bytes, FheType, Handle, TypedOperation, U256,
    decryption::{
        ClassicPermit, ContextSelector, DecryptionPermit, PublicDecryptionRequest, RequestedValue, UnifiedPermit, UserDecryptionRequest,
        context_selector,
    },
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
    /// Delegator, delegate and contract, with the end of the delegation.
    pub(crate) delegated: HashMap<(Address, Address, Address), u64>,
    pub(crate) invalidated_before: HashMap<Address, u64>,
    /// Accounts that are contracts, each with the one digest and signature that it recognises.
    pub(crate) wallets: HashMap<Address, (B256, Bytes)>,
    /// The key set of a native chain, which has ciphertexts in its state and no coprocessors.
    pub(crate) native: Option<B256>,
    /// What a native chain has stored.
    pub(crate) in_state: HashMap<Handle, Result<Vec<u8>, SourceError>>,
    /// How often it was asked for that.
    pub(crate) state_reads: usize,
    pub(crate) coprocessors: Vec<Address>,
    pub(crate) threshold: usize,
    /// The contexts that were not destroyed, with their nodes and epochs; the last one is current.
    pub(crate) contexts: Vec<(B256, Vec<Address>, Vec<B256>)>,
    pub(crate) block_time: u64,
    pub(crate) down: bool,
}

impl ChainState {
    fn answer(&self, question: &AclQuestion) -> u64 {
        match *question {
            AclQuestion::AllowedForDecryption(handle) => self.public.contains(&handle).into(),
            AclQuestion::PersistAllowed { handle, account } => self.allowed.contains(&(handle, account)).into(),
            AclQuestion::DelegationExpiration {
                delegator,
                delegate,
                contract,
            } => self.delegated.get(&(delegator, delegate, contract)).copied().unwrap_or(0),
            AclQuestion::SignaturesInvalidatedBefore(account) => self.invalidated_before.get(&account).copied().unwrap_or(0),
        }
    }

    fn context(&self, extra_data: &[u8]) -> ContextOnChain {
        let found = |id: &B256| self.contexts.iter().find(|(context, ..)| context == id);
        match context_selector(extra_data).unwrap() {
            ContextSelector::Current => self.contexts.last().map_or(ContextOnChain::NoSuchContext, |(_, signers, _)| {
                ContextOnChain::Signers(signers.clone())
            }),
            ContextSelector::Context(id) => found(&id).map_or(ContextOnChain::NoSuchContext, |(_, signers, _)| {
                ContextOnChain::Signers(signers.clone())
            }),
            ContextSelector::ContextAndEpoch(id, epoch) => match found(&id) {
                None => ContextOnChain::NoSuchContext,
                Some((_, signers, epochs)) if epochs.contains(&epoch) => ContextOnChain::Signers(signers.clone()),
                Some(_) => ContextOnChain::NoSuchEpoch,
            },
        }
    }
}

#[derive(Clone)]
pub(crate) struct FakeChain(pub(crate) Arc<Mutex<ChainState>>);

impl FakeChain {
    fn read<T: Send + 'static>(&self, read: impl FnOnce(&ChainState) -> T) -> BoxFuture<'static, Result<T, ChainViewError>> {
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
    fn pin(&self, _: u64, _: Option<AclEvidence>) -> BoxFuture<'_, Result<Box<dyn PinnedView>, ChainViewError>> {
        let pinned = self.clone();
        Box::pin(async move {
            pinned.read(|_| ()).await?;
            Ok(Box::new(pinned) as Box<dyn PinnedView>)
        })
    }
}

impl PinnedView for FakeChain {
    fn block(&self) -> PinnedBlock {
        PinnedBlock {
            number: 1,
            hash: B256::repeat_byte(1),
            timestamp: self.0.lock().unwrap().block_time,
        }
    }

    fn acl<'a>(&'a self, questions: &'a BTreeSet<AclQuestion>) -> BoxFuture<'a, Result<AclFacts, ChainViewError>> {
        self.read(|state| questions.iter().map(|question| (*question, state.answer(question))).collect())
    }

    fn provenance(&self) -> BoxFuture<'_, Result<Provenance, ChainViewError>> {
        self.read(|state| match state.native {
            Some(key_set_id) => Provenance::ChainState { key_set_id },
            None => Provenance::Attestations(CoprocessorSet {
                signers: state.coprocessors.clone(),
                threshold: state.threshold,
            }),
        })
    }

    fn stored_ciphertext(&self, handle: Handle) -> BoxFuture<'_, Result<Vec<u8>, SourceError>> {
        let mut state = self.0.lock().unwrap();
        state.state_reads += 1;
        let found = state.in_state.get(&handle).cloned();
        drop(state);
        Box::pin(async move { found.unwrap_or(Err(SourceError::Failed("nothing is stored".into()))) })
    }

    fn kms_context<'a>(&'a self, extra_data: &'a [u8]) -> BoxFuture<'a, Result<ContextOnChain, ChainViewError>> {
        self.read(|state| state.context(extra_data))
    }

    fn is_valid_signature<'a>(
        &'a self,
        account: Address,
        digest: B256,
        signature: &'a Bytes,
    ) -> BoxFuture<'a, Result<bool, ChainViewError>> {
        self.read(|state| {
            let recognised = state.wallets.get(&account);
            recognised.is_some_and(|(known, by)| *known == digest && by == signature)
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

pub(crate) struct FixedClock;

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
    pub(crate) coprocessor: SigningKey,
    keys: Arc<KeySet>,
}

pub(crate) fn context_id() -> B256 {
    B256::from((U256::from(7) << 248) | U256::from(2))
}

pub(crate) fn epoch_id() -> B256 {
    B256::from((U256::from(8) << 248) | U256::from(2))
}

pub(crate) fn old_context_id() -> B256 {
    B256::from((U256::from(7) << 248) | U256::ONE)
}

pub(crate) fn old_epoch_id() -> B256 {
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
            contexts: vec![
                (old_context_id(), vec![signing_key.address()], vec![old_epoch_id()]),
                (context_id(), vec![signing_key.address()], vec![epoch_id()]),
            ],
            block_time: NOW - 5,
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

    /// A request under a unified permit for one account's values, not signed yet.
    pub(crate) fn unified_with(
        &self,
        handles: &[Handle],
        owner: Address,
        change: impl FnOnce(&mut UnifiedPermit),
    ) -> UserDecryptionRequest {
        let mut permit = UnifiedPermit {
            allowed_contracts: Vec::new(),
            start_timestamp: NOW - 10,
            duration_seconds: 60,
        };
        change(&mut permit);
        let value = |handle: &Handle| RequestedValue {
            handle: *handle,
            contract_address: CONTRACT,
            owner,
        };
        UserDecryptionRequest {
            values: handles.iter().map(value).collect(),
            permit: DecryptionPermit::Unified(permit),
            ..self.unsigned_request(&[])
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
