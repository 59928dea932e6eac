//! A database that forwards to a real one, counts calls, and fails, panics or hangs when a test wants it to.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use cipherloom_primitives::{B256, Handle};
use cipherloom_store::{
    AdmittedInput, ApiKeyDigest, BlockRef, CallbackSite, Callbacks, CiphertextHead, CoolingRequest, Database, Finished, FollowClaim,
    FollowState, FollowedChain, Following, GatewayJobs, Grantee, HandleState, InputKey, Inspection, KeySetRecord, Lease, LeaseRequest,
    LeasedTransaction, NamedHandle, NewTenant, PublicationRequest, Publications, PublishedCiphertext, PushedWork, RecordedBlock, Squashed,
    SquashedList, Store, StoreError, StoreFuture, StoredCiphertext, Tenant, TenantId, TenantLimits, Tenants, TransactionNumber,
};
use futures_util::stream::BoxStream;
use tokio::sync::watch;

/// What is wrong with calls, by their name.
pub(crate) struct Faults {
    calls: Mutex<HashMap<&'static str, usize>>,
    /// How many calls are still to fail before they reach the database.
    failing: Mutex<HashMap<&'static str, usize>>,
    /// How many are still to fail after they did.
    unanswered: Mutex<HashMap<&'static str, usize>>,
    panicking: Mutex<HashMap<&'static str, usize>>,
    /// Calls that hang while this is set.
    hanging: watch::Sender<Option<&'static str>>,
    /// How many calls hung.
    hung: watch::Sender<usize>,
}

impl Faults {
    fn none() -> Arc<Self> {
        Arc::new(Self {
            calls: Mutex::default(),
            failing: Mutex::default(),
            unanswered: Mutex::default(),
            panicking: Mutex::default(),
            hanging: watch::Sender::new(None),
            hung: watch::Sender::new(0),
        })
    }

    /// Counts the calls of a name.
    pub(crate) fn calls(&self, name: &str) -> usize {
        self.calls.lock().unwrap().get(name).copied().unwrap_or_default()
    }

    /// Lets the next calls of a name fail in a way that passes.
    pub(crate) fn fail(&self, name: &'static str, calls: usize) {
        self.failing.lock().unwrap().insert(name, calls);
    }

    /// Lets the answers of the next calls of a name be lost.
    pub(crate) fn lose_answers(&self, name: &'static str, calls: usize) {
        self.unanswered.lock().unwrap().insert(name, calls);
    }

    /// Lets the next calls of a name panic.
    pub(crate) fn panic(&self, name: &'static str, calls: usize) {
        self.panicking.lock().unwrap().insert(name, calls);
    }

    /// Lets calls of a name hang until [`Self::release`].
    pub(crate) fn hang(&self, name: &'static str) {
        self.hanging.send_replace(Some(name));
    }

    pub(crate) fn release(&self) {
        self.hanging.send_replace(None);
    }

    pub(crate) async fn wait_until_hung(&self, calls: usize) {
        self.hung.subscribe().wait_for(|hung| *hung >= calls).await.unwrap();
    }

    async fn before(&self, name: &'static str) -> Result<(), StoreError> {
        *self.calls.lock().unwrap().entry(name).or_default() += 1;
        assert!(!take_one(&self.panicking, name), "the test asked for this panic");
        if *self.hanging.borrow() == Some(name) {
            self.hung.send_modify(|hung| *hung += 1);
            self.hanging.subscribe().wait_for(|hanging| *hanging != Some(name)).await.unwrap();
        }
        if take_one(&self.failing, name) { Err(passing()) } else { Ok(()) }
    }

    fn after(&self, name: &'static str) -> Result<(), StoreError> {
        if take_one(&self.unanswered, name) { Err(passing()) } else { Ok(()) }
    }
}

fn take_one(counts: &Mutex<HashMap<&'static str, usize>>, name: &str) -> bool {
    let mut counts = counts.lock().unwrap();
    match counts.get_mut(name) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    }
}

/// A failure that may pass.
fn passing() -> StoreError {
    let error = StoreError::MissingObject { digest: B256::ZERO };
    assert!(error.is_retryable());
    error
}

/// A database with faults.
pub(crate) struct ForwardingDatabase {
    inner: Arc<dyn Database>,
    pub(crate) faults: Arc<Faults>,
}

impl ForwardingDatabase {
    pub(crate) fn new(inner: Arc<dyn Database>) -> Self {
        Self {
            inner,
            faults: Faults::none(),
        }
    }
}

struct ForwardingStore {
    inner: Arc<dyn Store>,
    faults: Arc<Faults>,
}

macro_rules! forward {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(fn $name<'a>(&'a self, $($argument: $type),*) -> StoreFuture<'a, $result> {
            Box::pin(async move {
                self.faults.before(stringify!($name)).await?;
                let result = self.inner.$name($($argument),*).await?;
                self.faults.after(stringify!($name))?;
                Ok(result)
            })
        })*
    };
}

impl Tenants for ForwardingDatabase {
    forward! {
        add_tenant(tenant: &'a NewTenant, api_key: ApiKeyDigest) -> Tenant;
        tenants() -> Vec<Tenant>;
        tenant_with_key(api_key: ApiKeyDigest) -> Option<Tenant>;
        replace_api_key(tenant: TenantId, api_key: ApiKeyDigest) -> ();
        set_tenant_disabled(tenant: TenantId, disabled: bool) -> ();
        set_tenant_limits(tenant: TenantId, limits: TenantLimits) -> ();
        remove_tenant(tenant: TenantId) -> ();
        put_key_part(digest: B256, bytes: &'a [u8]) -> ();
        put_key_set(key_set: &'a KeySetRecord) -> ();
        attach_key_set(tenant: TenantId, key_set: B256) -> ();
        key_sets_of(tenant: TenantId) -> Vec<KeySetRecord>;
        key_part(digest: B256) -> Option<Arc<[u8]>>;
    }
}

impl Following for ForwardingDatabase {
    forward! {
        follow(tenant: TenantId, chain: &'a FollowedChain) -> ();
        unfollow(tenant: TenantId) -> bool;
        followed() -> Vec<(Tenant, FollowedChain)>;
        claim_following(tenant: TenantId, claim: FollowClaim<'a>) -> bool;
        follow_state(tenant: TenantId) -> Option<FollowState>;
    }
}

impl Database for ForwardingDatabase {
    fn store(&self, tenant: &Tenant) -> Arc<dyn Store> {
        Arc::new(ForwardingStore {
            inner: self.inner.store(tenant),
            faults: Arc::clone(&self.faults),
        })
    }

    fn inspection(&self, tenant: &Tenant) -> Arc<dyn Inspection> {
        self.inner.inspection(tenant)
    }

    fn gateway_jobs(&self, deployment: &str) -> Arc<dyn GatewayJobs> {
        self.inner.gateway_jobs(deployment)
    }

    fn callbacks(&self, site: &str) -> Arc<dyn Callbacks> {
        self.inner.callbacks(site)
    }

    fn callback_sites(&self) -> StoreFuture<'_, Vec<CallbackSite>> {
        self.inner.callback_sites()
    }

    fn changes(&self) -> BoxStream<'static, TenantId> {
        self.inner.changes()
    }

    forward! {
        tenants_by_turn(among: &'a [TenantId], served_last: Option<TenantId>, now_ms: u64) -> Vec<TenantId>;
        ping() -> ();
    }
}

impl Publications for ForwardingStore {
    forward! {
        ciphertexts_to_publish(request: &'a PublicationRequest) -> Vec<Handle>;
        mark_published(published: &'a [PublishedCiphertext]) -> ();
        publish_again(chain_id: u64) -> u64;
        claim_publishing(chain_id: u64, owner: &'a str, now_ms: u64, until_ms: u64) -> bool;
    }
}

impl Squashed for ForwardingStore {
    forward! {
        squashed(handle: Handle) -> Option<SquashedList>;
        add_squashed(list: &'a SquashedList, now_ms: u64) -> bool;
        public_without_list(chain_id: u64, blocks: u64, limit: u32) -> Vec<Handle>;
        forget_squashed(chain_id: u64, before_ms: u64, limit: u32) -> u64;
    }
}

impl Store for ForwardingStore {
    forward! {
        recent_blocks(chain_id: u64, limit: u32) -> Vec<BlockRef>;
        record_blocks(chain_id: u64, blocks: &'a [RecordedBlock]) -> ();
        record_pushed(chain_id: u64, work: &'a PushedWork) -> ();
        add_names(names: &'a [NamedHandle]) -> ();
        handles_of_names(names: &'a [Vec<u8>]) -> Vec<Option<Handle>>;
        remove_blocks_from(chain_id: u64, first_removed: u64) -> ();
        lease_transactions(request: &'a LeaseRequest) -> Vec<LeasedTransaction>;
        renew_lease(lease: &'a Lease, expires_at_ms: u64) -> ();
        release_lease(lease: &'a Lease) -> ();
        finish_transaction(lease: &'a Lease, finished: &'a Finished) -> Vec<TransactionNumber>;
        admit_input(input: &'a AdmittedInput, handles: &'a [Handle], now_ms: u64) -> ();
        admitted_input(key: InputKey) -> Option<AdmittedInput>;
        ciphertexts(handles: &'a [Handle]) -> Vec<Option<StoredCiphertext>>;
        ciphertext_heads(handles: &'a [Handle]) -> Vec<Option<CiphertextHead>>;
        add_ciphertexts(ciphertexts: &'a [StoredCiphertext]) -> ();
        ciphertexts_to_cool(request: &'a CoolingRequest) -> Vec<Handle>;
        cool_ciphertext(packed: &'a StoredCiphertext) -> ();
        known_handles(handles: &'a [Handle]) -> Vec<bool>;
        handle_state(handle: Handle) -> HandleState;
        grants_of(handle: Handle) -> Vec<Grantee>;
        pending_transactions(chain_id: u64) -> u64;
    }

    fn changes(&self) -> BoxStream<'static, ()> {
        self.inner.changes()
    }
}
