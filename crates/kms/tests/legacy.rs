//! The KMS of the 0.6 generation: who gets a value, and whom it vouches for.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use alloy_primitives::keccak256;
use cipherloom_fhe::{FheBackend, KeySet, ParameterSet};
use cipherloom_kms::{
    AuditLog, ChainViewError, KmsError, KmsLimits, LegacyError, LegacyKms, LegacyKmsParts, LegacySite, NodeKey, SourceError, SystemClock,
    legacy::{AdmittedList, InputCheck, LegacyChainView, LegacyCiphertexts, ServedCiphertext},
};
use cipherloom_primitives::{
    Address, B256, Bytes, FheType, TypedOperation, U256,
    eip712::recover_signer,
    generation_0_6::{ReencryptionRequest, VerifiedList, reencryption_digest, served_ciphertext_digest},
    input::InputMetadata,
};
use cipherloom_signcryption::{SigningKey, generation_0_6::ReencryptionAnswer, node_address, sign_digest};
use futures_util::future::BoxFuture;

const CHAIN: u64 = 12345;
const CONTRACT: Address = Address::repeat_byte(0xcc);

fn key(byte: u8) -> SigningKey {
    SigningKey::from_slice(&[byte; 32]).unwrap()
}

fn handle(ty: FheType) -> B256 {
    let mut handle = B256::repeat_byte(0x77);
    handle.0[30] = ty.id();
    handle.0[31] = 0;
    handle
}

#[derive(Clone, Default)]
struct Chain(Arc<Mutex<ChainState>>);

#[derive(Default)]
struct ChainState {
    allowed: HashSet<(B256, Address)>,
    on_behalf: HashSet<(Address, Address)>,
    down: bool,
}

impl Chain {
    fn answer(&self, read: impl FnOnce(&ChainState) -> bool) -> BoxFuture<'_, Result<bool, ChainViewError>> {
        let state = self.0.lock().unwrap();
        let answer = if state.down {
            Err(ChainViewError("connection refused".into()))
        } else {
            Ok(read(&state))
        };
        Box::pin(async move { answer })
    }
}

impl LegacyChainView for Chain {
    fn persist_allowed(&self, handle: B256, account: Address) -> BoxFuture<'_, Result<bool, ChainViewError>> {
        self.answer(|state| state.allowed.contains(&(handle, account)))
    }

    fn allowed_on_behalf(&self, delegatee: Address, _: B256, _: Address, account: Address) -> BoxFuture<'_, Result<bool, ChainViewError>> {
        self.answer(|state| state.on_behalf.contains(&(delegatee, account)))
    }
}

#[derive(Clone, Default)]
struct Source(Arc<Mutex<HashMap<B256, ServedCiphertext>>>);

impl LegacyCiphertexts for Source {
    fn ciphertext(&self, handle: B256) -> BoxFuture<'_, Result<ServedCiphertext, SourceError>> {
        let found = self.0.lock().unwrap().get(&handle).cloned();
        Box::pin(async move { found.ok_or(SourceError::NotReady) })
    }
}

struct World {
    kms: LegacyKms,
    chain: Chain,
    source: Source,
    keys: KeySet,
    backend: Arc<dyn FheBackend>,
    directory: tempfile::TempDir,
    site: LegacySite,
}

fn coprocessor() -> SigningKey {
    key(0x31)
}

fn user() -> SigningKey {
    key(0x32)
}

impl World {
    fn new(check_proofs: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let keys = KeySet::generate(&directory.path().join("keys"), ParameterSet::InsecureClear, &()).unwrap();
        let backend = keys.evaluation().unwrap();
        let site = LegacySite {
            chain_id: CHAIN,
            acl: Address::repeat_byte(0xac),
            kms_verifier: Address::repeat_byte(0x4b),
            input_verifier: Address::repeat_byte(0x1b),
            coprocessor: node_address(&coprocessor()),
        };
        let (chain, source) = (Chain::default(), Source::default());
        let kms = LegacyKms::new(LegacyKmsParts {
            decrypt: keys.decryptor().unwrap(),
            inputs: if check_proofs {
                InputCheck::Proof(Arc::clone(&backend))
            } else {
                InputCheck::Coprocessor
            },
            signing_key: NodeKey::open_or_generate(&directory.path().join("signing-key")).unwrap(),
            site,
            chain: Arc::new(chain.clone()),
            ciphertexts: Arc::new(source.clone()),
            audit: AuditLog::open(&directory.path().join("audit.jsonl")).unwrap(),
            clock: Arc::new(SystemClock),
            limits: KmsLimits::default(),
        });
        Self {
            kms,
            chain,
            source,
            keys,
            backend,
            directory,
            site,
        }
    }

    /// Has the coprocessor serve a value, which user and contract may read.
    fn publish(&self, value: u64) -> B256 {
        let ty = FheType::Uint64;
        let operation = TypedOperation::TrivialEncrypt {
            value: U256::from(value),
            ty,
        };
        let bytes = self.backend.serialize(&self.backend.evaluate(&operation, &[]).unwrap()).unwrap();
        let handle = handle(ty);
        self.serve(handle, bytes, &coprocessor());
        let mut chain = self.chain.0.lock().unwrap();
        chain.allowed.insert((handle, node_address(&user())));
        chain.allowed.insert((handle, CONTRACT));
        handle
    }

    fn serve(&self, handle: B256, bytes: Vec<u8>, signer: &SigningKey) {
        let digest = served_ciphertext_digest(U256::from_be_bytes(handle.0), keccak256(&bytes));
        let signature = Bytes::copy_from_slice(&sign_digest(signer, digest).unwrap());
        let served = ServedCiphertext {
            bytes: bytes.into(),
            signature,
        };
        self.source.0.lock().unwrap().insert(handle, served);
    }

    async fn refusal(&self, request: ReencryptionRequest) -> KmsError {
        self.kms.reencrypt(request).await.unwrap_err()
    }

    fn records(&self) -> usize {
        std::fs::read_to_string(self.directory.path().join("audit.jsonl"))
            .unwrap()
            .lines()
            .count()
    }
}

fn request(handle: B256) -> ReencryptionRequest {
    signed_by(&user(), handle, None)
}

fn signed_by(signer: &SigningKey, handle: B256, on_behalf_of: Option<Address>) -> ReencryptionRequest {
    // The base point: an X25519 key like any other.
    let public_key = [32u64.to_le_bytes().as_slice(), &[9], &[0; 31]].concat();
    let digest = reencryption_digest(CHAIN, CONTRACT, &public_key, on_behalf_of);
    ReencryptionRequest {
        handle,
        contract: CONTRACT,
        user: node_address(&user()),
        public_key: public_key.into(),
        signature: sign_digest(signer, digest).unwrap().to_vec().into(),
    }
}

#[tokio::test]
async fn a_user_gets_a_value_and_the_log_says_so() {
    let world = World::new(false);
    let handle = world.publish(42);
    let ReencryptionAnswer { payload, signature, .. } = world.kms.reencrypt(request(handle)).await.unwrap();
    assert_eq!((payload[..4].to_vec(), signature.len()), (vec![1, 0, 0, 0], 64));
    assert_eq!(world.records(), 1);
}

#[tokio::test]
async fn a_signature_counts_for_one_contract_key_and_chain_only() {
    let world = World::new(false);
    let handle = world.publish(42);
    let good = request(handle);
    let other_contract = Address::repeat_byte(0xcd);
    world.chain.0.lock().unwrap().allowed.insert((handle, other_contract));
    let other_key = Bytes::from([32u64.to_le_bytes().as_slice(), &[9], &[1; 31]].concat());
    for bad in [
        signed_by(&key(0x33), handle, None),
        ReencryptionRequest {
            contract: other_contract,
            ..good.clone()
        },
        ReencryptionRequest {
            public_key: other_key,
            ..good.clone()
        },
        ReencryptionRequest {
            signature: vec![0; 65].into(),
            ..good.clone()
        },
        ReencryptionRequest {
            signature: Bytes::new(),
            ..good.clone()
        },
    ] {
        let error = world.refusal(bad).await;
        assert!(matches!(error, KmsError::Legacy(LegacyError::Signature(_))), "{error}");
        assert_eq!(error.label(), "request_error");
    }
    assert_eq!(world.records(), 0);
}

#[tokio::test]
async fn only_who_was_let_to_signs_on_behalf_of_another() {
    let world = World::new(false);
    let handle = world.publish(42);
    let helper = key(0x34);
    let user_address = node_address(&user());
    let delegated = signed_by(&helper, handle, Some(user_address));
    assert!(matches!(
        world.refusal(delegated.clone()).await,
        KmsError::Legacy(LegacyError::Signature(_))
    ));
    world
        .chain
        .0
        .lock()
        .unwrap()
        .on_behalf
        .insert((node_address(&helper), user_address));
    assert!(world.kms.reencrypt(delegated).await.is_ok());
    // The helper's own wish does not name the account it stands for.
    assert!(world.kms.reencrypt(signed_by(&helper, handle, None)).await.is_err());
    let log = std::fs::read_to_string(world.directory.path().join("audit.jsonl")).unwrap();
    assert!(log.contains("\"delegated\""), "{log}");
}

#[tokio::test]
async fn user_and_contract_both_need_the_handle() {
    for missing in [node_address(&user()), CONTRACT] {
        let world = World::new(false);
        let handle = world.publish(42);
        world.chain.0.lock().unwrap().allowed.remove(&(handle, missing));
        let error = world.refusal(request(handle)).await;
        assert!(matches!(error, KmsError::Legacy(LegacyError::NotAllowed { account, .. }) if account == missing));
        assert_eq!(error.label(), "not_allowed_on_host_acl");
        assert_eq!(world.records(), 0);
    }
}

#[tokio::test]
async fn doubt_is_a_refusal() {
    let world = World::new(false);
    let handle = world.publish(42);
    let mut same = request(handle);
    same.user = CONTRACT;
    assert!(matches!(world.refusal(same).await, KmsError::Legacy(LegacyError::UserIsContract)));

    for (at, byte) in [(30, 1), (30, 9), (31, 1)] {
        let mut unknown = handle;
        unknown.0[at] = byte;
        assert!(matches!(
            world.refusal(request(unknown)).await,
            KmsError::Legacy(LegacyError::Handle(_))
        ));
    }
    let mut weak = request(handle);
    weak.public_key = [32u64.to_le_bytes().as_slice(), &[0; 32]].concat().into();
    assert!(matches!(world.refusal(weak).await, KmsError::Legacy(LegacyError::Key(_))));

    let bytes = world.source.0.lock().unwrap()[&handle].bytes.to_vec();
    world.serve(handle, bytes, &key(0x35));
    assert!(matches!(
        world.refusal(request(handle)).await,
        KmsError::Legacy(LegacyError::Ciphertext { .. })
    ));
    world.source.0.lock().unwrap().clear();
    let error = world.refusal(request(handle)).await;
    assert!(matches!(error, KmsError::Legacy(LegacyError::NotReady(_))) && error.is_retryable());
    world.chain.0.lock().unwrap().down = true;
    assert!(matches!(world.refusal(request(handle)).await, KmsError::Chain(_)));
    assert_eq!(world.records(), 0);
}

/// Makes an input and has the coprocessor sign it.
fn admitted(world: &World, metadata: &InputMetadata) -> AdmittedList {
    let list = world
        .keys
        .encryptor()
        .unwrap()
        .encrypt(&[(FheType::Uint8, U256::from(7)), (FheType::Bool, U256::ONE)], metadata)
        .unwrap();
    let types = [FheType::Uint8, FheType::Bool];
    let LegacySite { acl, input_verifier, .. } = world.site;
    let verified = VerifiedList::new(&list, &types, CHAIN, acl, metadata.user, metadata.contract).unwrap();
    let signature = sign_digest(&coprocessor(), verified.digest(CHAIN, input_verifier)).unwrap();
    AdmittedList {
        list: list.into(),
        contract: metadata.contract,
        user: metadata.user,
        handles: verified.handles,
        signature: signature.to_vec().into(),
    }
}

fn metadata(world: &World) -> InputMetadata {
    InputMetadata {
        contract: CONTRACT,
        user: node_address(&user()),
        acl: world.site.acl,
        chain_id: CHAIN,
    }
}

#[tokio::test]
async fn an_input_is_vouched_for_under_the_kms_verifier() {
    for check_proofs in [false, true] {
        let world = World::new(check_proofs);
        let input = admitted(&world, &metadata(&world));
        let signature = world.kms.vouch(input.clone()).await.unwrap();
        let LegacySite { acl, kms_verifier, .. } = world.site;
        let types = [FheType::Uint8, FheType::Bool];
        let signed = VerifiedList::new(&input.list, &types, CHAIN, acl, input.user, input.contract).unwrap();
        assert_eq!(
            recover_signer(signed.kms_digest(CHAIN, kms_verifier), &signature),
            Some(world.kms.address())
        );
    }
}

#[tokio::test]
async fn an_input_that_the_coprocessor_did_not_sign_is_not_vouched_for() {
    let world = World::new(false);
    let good = admitted(&world, &metadata(&world));
    let mut other_handles = good.clone();
    other_handles.handles[0].0[30] = FheType::Uint64.id();
    let mut other_list = good.clone();
    other_list.list = [good.list.as_ref(), &[0]].concat().into();
    let mut other_user = good.clone();
    other_user.user = CONTRACT;
    for bad in [other_handles, other_list, other_user] {
        assert!(matches!(
            world.kms.vouch(bad).await,
            Err(KmsError::Legacy(LegacyError::InputSignature(_)))
        ));
    }
}

#[tokio::test]
async fn a_node_that_checks_proofs_believes_no_signature_alone() {
    let world = World::new(true);
    // Proven for another contract than the coprocessor has signed for.
    let elsewhere = InputMetadata {
        contract: Address::repeat_byte(0xcd),
        ..metadata(&world)
    };
    let mut input = admitted(&world, &elsewhere);
    input.contract = CONTRACT;
    let verified = VerifiedList {
        hash: keccak256(&input.list),
        handles: input.handles.clone(),
        acl: world.site.acl,
        user: input.user,
        contract: CONTRACT,
    };
    let sign = |verified: &VerifiedList| {
        let digest = verified.digest(CHAIN, world.site.input_verifier);
        Bytes::copy_from_slice(&sign_digest(&coprocessor(), digest).unwrap())
    };
    input.signature = sign(&verified);
    assert!(matches!(world.kms.vouch(input).await, Err(KmsError::Legacy(LegacyError::Input(_)))));

    // Handles of other types than the list has.
    let mut input = admitted(&world, &metadata(&world));
    input.handles[0].0[30] = FheType::Uint64.id();
    let verified = VerifiedList {
        hash: keccak256(&input.list),
        handles: input.handles.clone(),
        acl: world.site.acl,
        user: input.user,
        contract: CONTRACT,
    };
    input.signature = sign(&verified);
    assert!(matches!(
        world.kms.vouch(input).await,
        Err(KmsError::Legacy(LegacyError::InputSignature(_)))
    ));
}
