//! A whole committee on toy parameters, around a chain, a storage and users that the tests control. What stands between them, the gateway, is the tests themselves.

mod gateway;
mod limits;
mod native;
mod public;
mod shares;
mod squashing;
mod user;

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, MutexGuard},
};

use alloy_primitives::keccak256;
use cipherloom_fhe::{Ciphertext, KeySet, NoiseSquasher, ParameterSet, SquashingMaterial, insecure_test_keys};
use cipherloom_kms::{
    Alarm, Alarms, AuditLog, BudgetLimits, Budgets, Bundle, CommitteeNode, CommitteeParts, HeldShares, KmsError, KmsLimits, NodeKey,
    PublicSignature, ShareRef, SignedSquashed, SourceError, SquashedLists, SquashedSource, UserShare, party_identity,
};
use cipherloom_primitives::{
    Address, B256, Bytes, FheType, Handle, U256,
    decryption::{PublicDecryptionRequest, UserDecryptionRequest, abi_words},
    eip712::{recover_signer, squashed_ciphertext_attestation_digest},
    input::InputMetadata,
};
use cipherloom_signcryption::{AnswerContext, CommitteeParty, Randomness, SigningKey, node_address, open_shares, seal_shares, sign_digest};
use cipherloom_threshold::{
    Committee, ContextId, Contribution, EpochId, KeyId, KeyShare, Scope, SecretKeys, ThresholdError, ValueShape, deal, reconstruct,
};
use futures_util::future::BoxFuture;
use getrandom::{SysRng, rand_core::UnwrapErr};
use zeroize::Zeroizing;

use crate::support::{CHAIN_ID, ChainState, FakeChain, FixedClock, Keys, World, context_id, epoch_id, key};

/// The committees that everything is tried with.
const COMMITTEES: [(u8, u8); 3] = [(4, 1), (7, 2), (13, 4)];

/// A key set that squashes, made once for all tests.
struct Toy {
    keys: Arc<KeySet>,
    material: SquashingMaterial,
    squasher: Arc<NoiseSquasher>,
}

static TOY: LazyLock<Toy> = LazyLock::new(|| {
    let keys = insecure_test_keys().unwrap();
    let material = SquashingMaterial::generate(&keys).unwrap();
    let squasher = NoiseSquasher::open(&keys, &material.squashing_key, &material.packing_key).unwrap();
    Toy {
        keys,
        material,
        squasher: Arc::new(squasher),
    }
});

fn key_set_id() -> B256 {
    B256::from(*TOY.keys.manifest().id.as_bytes())
}

/// A value with bits all over.
fn some_value(ty: FheType) -> U256 {
    ty.truncate(U256::MAX / U256::from(11) + U256::ONE)
}

/// Encrypts a value and squashes it. The same value is squashed once for all tests.
fn squashed_list(ty: FheType, value: U256) -> Vec<u8> {
    type Made = HashMap<(FheType, U256), Vec<u8>>;
    static MADE: LazyLock<Mutex<Made>> = LazyLock::new(Mutex::default);
    // Held while it is made, so that no other test makes it too.
    let mut made = MADE.lock().unwrap();
    made.entry((ty, value)).or_insert_with(|| squash(ty, value)).clone()
}

fn squash(ty: FheType, value: U256) -> Vec<u8> {
    TOY.squasher.squash_list(&[&encrypt(ty, value)]).unwrap()
}

fn encrypt(ty: FheType, value: U256) -> Ciphertext {
    let metadata = InputMetadata {
        contract: Address::ZERO,
        user: Address::ZERO,
        acl: Address::ZERO,
        chain_id: CHAIN_ID,
    };
    let list = TOY.keys.encryptor().unwrap().encrypt(&[(ty, value)], &metadata).unwrap();
    TOY.keys.evaluation().unwrap().expand_input(&list).unwrap().remove(0)
}

/// Shares the key anew. Every call is another dealing.
fn deal_shares(scope: &Scope) -> Vec<Arc<KeyShare>> {
    let secrets = SecretKeys {
        squashed: TOY.material.secrets.squashed(),
        compressed: TOY.material.secrets.listed(),
    };
    let dealing = deal(scope, secrets, &mut UnwrapErr(SysRng)).unwrap();
    dealing.shares.into_iter().map(Arc::new).collect()
}

type Lists = Arc<Mutex<HashMap<Handle, Result<SignedSquashed, SourceError>>>>;

/// The coprocessors' storage of squashed lists, which counts what is fetched.
#[derive(Clone, Default)]
struct Storage {
    lists: Lists,
    fetched: Arc<Mutex<Vec<Handle>>>,
}

impl SquashedSource for Storage {
    fn squashed(&self, handle: Handle) -> BoxFuture<'_, Result<SignedSquashed, SourceError>> {
        self.fetched.lock().unwrap().push(handle);
        let found = self
            .lists
            .lock()
            .unwrap()
            .get(&handle)
            .cloned()
            .unwrap_or(Err(SourceError::Unknown));
        Box::pin(async move { found })
    }
}

#[derive(Default)]
struct Raised(Mutex<Vec<Alarm>>);

impl Alarms for Raised {
    fn raise(&self, alarm: &Alarm) {
        self.0.lock().unwrap().push(alarm.clone());
    }
}

/// A committee and everything around it.
struct Stage {
    /// Chain, users and requests. Its centralised node takes no part.
    world: World,
    nodes: Vec<CommitteeNode>,
    held: Vec<Arc<HeldShares>>,
    keys: Vec<SigningKey>,
    alarms: Vec<Arc<Raised>>,
    storage: Storage,
    scope: Scope,
}

impl Stage {
    fn new(size: (u8, u8)) -> Self {
        Self::with_budgets(size, BudgetLimits::default())
    }

    /// A committee whose parties hold shares of the current context and epoch.
    fn with_budgets(size: (u8, u8), budgets: BudgetLimits) -> Self {
        let stage = Self::without_shares(size, budgets);
        for (held, share) in stage.held.iter().zip(deal_shares(&stage.scope)) {
            held.activate(share).unwrap();
        }
        stage
    }

    fn without_shares(size: (u8, u8), budgets: BudgetLimits) -> Self {
        Self::getting_lists(size, budgets, |storage| SquashedLists::Attested(Arc::new(storage.clone())))
    }

    fn getting_lists((parties, threshold): (u8, u8), budgets: BudgetLimits, lists: impl Fn(&Storage) -> SquashedLists) -> Self {
        let world = World::new(Keys::Clear);
        let keys: Vec<SigningKey> = (0..parties).map(|index| key(0x41 + index)).collect();
        let addresses: Vec<Address> = keys.iter().map(node_address).collect();
        let scope = Scope {
            key: KeyId(key_set_id().0),
            context: ContextId(context_id().0),
            epoch: EpochId(epoch_id().0),
            committee: Committee::new(threshold, addresses.iter().map(|address| party_identity(*address)).collect()).unwrap(),
        };
        world
            .chain
            .lock()
            .unwrap()
            .contexts
            .iter_mut()
            .for_each(|(_, signers, _)| signers.clone_from(&addresses));
        let storage = Storage::default();
        let held: Vec<Arc<HeldShares>> = keys.iter().map(|_| Arc::default()).collect();
        let alarms: Vec<Arc<Raised>> = keys.iter().map(|_| Arc::default()).collect();
        let party = |index: usize| {
            CommitteeNode::new(CommitteeParts {
                parameters: ParameterSet::InsecureToy,
                shares: Arc::clone(&held[index]),
                signing_key: Arc::new(NodeKey::from_bytes(&Zeroizing::new(keys[index].to_bytes().into())).unwrap()),
                domains: world.domains,
                chain: Arc::new(FakeChain(Arc::clone(&world.chain))),
                squashed: lists(&storage),
                audit: Arc::new(AuditLog::open(&world.directory.path().join(format!("audit-{index}.jsonl"))).unwrap()),
                clock: Arc::new(FixedClock),
                limits: KmsLimits::default(),
                budgets: Arc::new(Budgets::new(budgets)),
                alarms: Arc::clone(&alarms[index]) as Arc<dyn Alarms>,
            })
        };
        let nodes = (0..keys.len()).map(party).collect();
        Self {
            world,
            nodes,
            held,
            keys,
            alarms,
            storage,
            scope,
        }
    }

    fn chain(&self) -> MutexGuard<'_, ChainState> {
        self.world.chain.lock().unwrap()
    }

    fn threshold(&self) -> usize {
        self.scope.committee.size().threshold().into()
    }

    /// Puts an attested squashed value into the storage.
    fn store(&self, tag: u8, ty: FheType, value: U256) -> Handle {
        let handle = Handle::computed(B256::repeat_byte(tag), CHAIN_ID, ty);
        let list = self.attest(handle, squashed_list(ty, value));
        self.storage.lists.lock().unwrap().insert(handle, Ok(list));
        handle
    }

    fn attest(&self, handle: Handle, bytes: Vec<u8>) -> SignedSquashed {
        let digest = squashed_ciphertext_attestation_digest(handle, key_set_id(), keccak256(&bytes));
        SignedSquashed {
            handle,
            key_set_id: key_set_id(),
            bytes,
            attestations: vec![sign_digest(&self.world.coprocessor, digest).unwrap().to_vec().into()],
        }
    }

    /// Stores a value that everybody and the user may read.
    fn readable(&self, tag: u8, ty: FheType, value: U256) -> Handle {
        let handle = self.store(tag, ty, value);
        self.world.allow(handle);
        self.world.make_public(handle);
        handle
    }

    fn replace_list(&self, handle: Handle, list: Result<SignedSquashed, SourceError>) {
        self.storage.lists.lock().unwrap().insert(handle, list);
    }

    fn list(&self, handle: Handle) -> SignedSquashed {
        self.storage.lists.lock().unwrap()[&handle].clone().unwrap()
    }

    fn public_request(&self, handles: &[Handle]) -> PublicDecryptionRequest {
        self.world.public_request(handles)
    }

    /// Has every party answer a public request.
    async fn bundles(&self, request: &PublicDecryptionRequest) -> Vec<Bundle> {
        let mut bundles = Vec::new();
        for node in &self.nodes {
            bundles.push(node.public_shares(request.clone(), None).await.unwrap());
        }
        bundles
    }

    async fn sign(&self, node: usize, request: &PublicDecryptionRequest, bundles: Vec<Bundle>) -> Result<PublicSignature, Arc<KmsError>> {
        self.nodes[node].public_sign(request.clone(), None, bundles).await
    }

    /// Checks that a party signed these values as contracts check it.
    fn assert_signed(&self, node: usize, request: &PublicDecryptionRequest, answer: &PublicSignature, values: &[U256]) {
        assert_eq!(answer.decrypted_result, abi_words(values));
        assert_eq!(answer.extra_data, request.extra_data);
        let digest = self
            .world
            .domains
            .public_decryption_digest(&request.handles, &answer.decrypted_result, &request.extra_data);
        assert_eq!(recover_signer(digest, &answer.signature), Some(node_address(&self.keys[node])));
    }

    /// What a corrupt party sends instead of a bundle: changed, and rightly signed.
    fn lie(&self, bundle: &Bundle, change: impl FnOnce(&mut Bundle)) -> Bundle {
        let mut bundle = bundle.clone();
        change(&mut bundle);
        let index = usize::try_from(bundle.made_with.party).unwrap() - 1;
        bundle.signature = sign_digest(&self.keys[index], bundle.digest()).unwrap().to_vec().into();
        bundle
    }

    /// Has every party answer a user's request.
    async fn user_shares(&self, request: &UserDecryptionRequest) -> Vec<UserShare> {
        let mut shares = Vec::new();
        for node in &self.nodes {
            shares.push(node.user_share(request.clone(), None).await.unwrap());
        }
        shares
    }

    fn context<'a>(&'a self, request: &'a UserDecryptionRequest) -> AnswerContext<'a> {
        AnswerContext {
            domains: &self.world.domains,
            public_key: self.world.user_keys.public_key(),
            user: request.user,
            extra_data: &request.extra_data,
        }
    }

    fn party(&self, index: usize) -> CommitteeParty {
        CommitteeParty {
            number: u32::try_from(index).unwrap() + 1,
            threshold: u32::try_from(self.threshold()).unwrap(),
        }
    }

    /// Opens answers as a user does, by the registered numbers and addresses, and puts the values together. Also says which parties were wrong.
    fn open(&self, request: &UserDecryptionRequest, answers: &[UserShare]) -> Result<(Vec<U256>, Vec<u8>), ThresholdError> {
        let handles = request.handles();
        let shapes: Vec<ValueShape> = handles
            .iter()
            .map(|handle| ValueShape::new(u16::try_from(handle.fhe_type().bits()).unwrap()).unwrap())
            .collect();
        let size = self.scope.committee.size();
        let contributions: Vec<Contribution> = answers
            .iter()
            .map(|answer| {
                let index = usize::try_from(answer.made_with.party).unwrap() - 1;
                let registered = (self.party(index), node_address(&self.keys[index]));
                let keys = &self.world.user_keys;
                let shares = open_shares(&self.context(request), &handles, &answer.share, keys, registered).unwrap();
                let party = size.party(answer.made_with.party).unwrap();
                Contribution::of_shares(party, &shapes, shares.iter().map(|share| share.as_slice()))
            })
            .collect();
        let opened = reconstruct(size, &shapes, &contributions)?;
        let values = opened
            .values
            .iter()
            .map(|value| U256::from_le_bytes(*value.little_endian()))
            .collect();
        Ok((values, opened.wrong.iter().map(|party| party.number()).collect()))
    }

    /// What a corrupt party sends a user: its shares changed, rightly sealed and signed.
    fn lie_to_user(&self, request: &UserDecryptionRequest, answer: &UserShare, change: impl Fn(&mut Vec<u8>)) -> UserShare {
        let index = usize::try_from(answer.made_with.party).unwrap() - 1;
        let (handles, node) = (request.handles(), node_address(&self.keys[index]));
        let opened = open_shares(
            &self.context(request),
            &handles,
            &answer.share,
            &self.world.user_keys,
            (self.party(index), node),
        )
        .unwrap();
        let wrong: Vec<Vec<u8>> = opened
            .iter()
            .map(|share| {
                let mut share = share.to_vec();
                change(&mut share);
                share
            })
            .collect();
        let shares: Vec<(Handle, &[u8])> = handles.iter().copied().zip(wrong.iter().map(Vec::as_slice)).collect();
        let share = seal_shares(
            &self.context(request),
            &shares,
            self.party(index),
            &self.keys[index],
            Randomness::generate,
        )
        .unwrap();
        UserShare { share, ..answer.clone() }
    }

    /// How many lines each party's audit log has.
    fn records(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.audit().head().records).collect()
    }

    fn raised(&self, node: usize) -> Vec<&'static str> {
        self.alarms[node].0.lock().unwrap().iter().map(Alarm::name).collect()
    }

    /// Sends a user's request to every party; all must refuse it, without a record.
    async fn all_refuse_user(&self, request: &UserDecryptionRequest) -> Vec<Arc<KmsError>> {
        let before = self.records();
        let mut errors = Vec::new();
        for node in &self.nodes {
            errors.push(
                node.user_share(request.clone(), None)
                    .await
                    .expect_err("the request must be refused"),
            );
        }
        assert_eq!(self.records(), before);
        errors
    }

    /// Sends a public request to every party, in both rounds and with others' bundles; all must refuse it, without a record.
    async fn all_refuse_public(&self, request: &PublicDecryptionRequest, bundles: &[Bundle]) -> Vec<Arc<KmsError>> {
        let before = self.records();
        let mut errors = Vec::new();
        for node in &self.nodes {
            errors.push(
                node.public_shares(request.clone(), None)
                    .await
                    .expect_err("the request must be refused"),
            );
            let signed = node.public_sign(request.clone(), None, bundles.to_vec()).await;
            errors.push(signed.expect_err("the request must be refused"));
        }
        assert_eq!(self.records(), before);
        errors
    }
}

/// The digest of a request that parties sign, as the audit log has it.
fn request_digest(request: &impl serde::Serialize) -> B256 {
    keccak256(serde_json::to_vec(request).unwrap())
}

/// Changes a byte in the middle of the elements of every partial decryption.
fn flip(bundle: &mut Bundle) {
    change_partials(bundle, |bytes| bytes[40] ^= 0x55);
}

fn change_partials(bundle: &mut Bundle, change: impl Fn(&mut Vec<u8>)) {
    for partial in &mut bundle.partials {
        let mut bytes = partial.to_vec();
        change(&mut bytes);
        *partial = Bytes::from(bytes);
    }
}

/// Names the share of a party of this committee.
fn share_ref(stage: &Stage, index: usize) -> ShareRef {
    let party = stage.scope.committee.size().party(u32::try_from(index).unwrap() + 1).unwrap();
    ShareRef::new(&stage.scope, party)
}
