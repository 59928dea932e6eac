//! A database of several tenants: turns, limits, hints, and that tenants see nothing of each other.

use std::{sync::Arc, time::Duration};

use cipherloom_primitives::{Address, B256, FheType, Handle};
use cipherloom_store::{
    ApiKey, Database, InputKey, LeaseRequest, NamedHandle, NewTenant, PushedWork, RetryRequest, StoreError, Tenant, TenantLimits,
    TransactionFilter,
};
use futures_util::StreamExt;

use crate::{
    fixture::{LEASE_MS, NOW_MS, ciphertext, transaction},
    pushed::work,
};

/// How long a test waits for what should happen at once.
const SOON: Duration = Duration::from_secs(60);

/// Adds a tenant of a chain.
pub(crate) async fn add(database: &dyn Database, chain_id: u64) -> Tenant {
    let new = NewTenant {
        name: format!("of chain {chain_id}"),
        chain_id,
        acl: Address::repeat_byte(3),
        input_verifier: Address::repeat_byte(4),
        is_admin: false,
    };
    let key = ApiKey::from_random([u8::try_from(chain_id).unwrap(); 16]);
    database.add_tenant(&new, key.digest()).await.unwrap()
}

pub(crate) fn handle_of(tenant: &Tenant, tag: u8) -> Handle {
    Handle::computed(B256::repeat_byte(tag), tenant.chain_id, FheType::Uint64)
}

/// Pushes one transaction for each handle.
pub(crate) async fn push(database: &dyn Database, tenant: &Tenant, tags: std::ops::RangeInclusive<u8>) {
    let transactions = tags.map(|tag| transaction(u64::from(tag), handle_of(tenant, tag), &[]));
    let pushed = work(transactions.collect());
    database.store(tenant).record_pushed(tenant.chain_id, &pushed).await.unwrap();
}

pub(crate) fn request(tenant: &Tenant, now_ms: u64, limit: u32) -> LeaseRequest {
    LeaseRequest {
        chain_id: tenant.chain_id,
        owner: "worker".to_owned(),
        now_ms,
        duration_ms: LEASE_MS,
        limit,
        first: Vec::new(),
    }
}

pub(crate) async fn tenants_take_turns_by_live_leases(database: Arc<dyn Database>) {
    let (busy, idle, small) = (
        add(database.as_ref(), 1).await,
        add(database.as_ref(), 2).await,
        add(database.as_ref(), 3).await,
    );
    push(database.as_ref(), &busy, 1..=10).await;
    push(database.as_ref(), &small, 1..=1).await;
    let all = [busy.id, idle.id, small.id];
    let turns = async |last, now_ms| database.tenants_by_turn(&all, last, now_ms).await.unwrap();
    assert_eq!(turns(None, NOW_MS).await, [busy.id, small.id]);
    assert_eq!(turns(Some(busy.id), NOW_MS).await, [small.id, busy.id]);
    assert_eq!(
        database.tenants_by_turn(&[busy.id], Some(busy.id), NOW_MS).await.unwrap(),
        [busy.id]
    );
    database.store(&busy).lease_transactions(&request(&busy, NOW_MS, 3)).await.unwrap();
    assert_eq!(turns(Some(small.id), NOW_MS).await, [small.id, busy.id]);
    // What expired counts no more.
    assert_eq!(turns(Some(small.id), NOW_MS + LEASE_MS).await, [busy.id, small.id]);
    database.set_tenant_disabled(busy.id, true).await.unwrap();
    assert_eq!(turns(None, NOW_MS).await, [small.id]);
}

pub(crate) async fn two_tenants_with_work_get_equal_shares(database: Arc<dyn Database>) {
    let (first, second) = (add(database.as_ref(), 1).await, add(database.as_ref(), 2).await);
    // One has ten times as much, and had it before.
    push(database.as_ref(), &first, 1..=200).await;
    push(database.as_ref(), &second, 1..=20).await;
    let mut served = Vec::new();
    let mut last = None;
    while served.iter().filter(|tenant| **tenant == second.id).count() < 20 {
        let turn = database.tenants_by_turn(&[first.id, second.id], last, NOW_MS).await.unwrap()[0];
        let tenant = if turn == first.id { &first } else { &second };
        assert_eq!(
            database
                .store(tenant)
                .lease_transactions(&request(tenant, NOW_MS, 1))
                .await
                .unwrap()
                .len(),
            1
        );
        served.push(turn);
        last = Some(turn);
    }
    assert_eq!(served.len(), 40, "{served:?}");
}

pub(crate) async fn limits_are_kept_with_the_tenant(database: Arc<dyn Database>) {
    let tenant = add(database.as_ref(), 1).await;
    assert_eq!(tenant.limits, TenantLimits::default());
    let limits = TenantLimits {
        max_pending_transactions: Some(1000),
        max_concurrent_transactions: Some(u32::from(u16::MAX)),
    };
    database.set_tenant_limits(tenant.id, limits).await.unwrap();
    assert_eq!(database.tenants().await.unwrap()[0].limits, limits);
    database.set_tenant_limits(tenant.id, TenantLimits::default()).await.unwrap();
    assert_eq!(database.tenants().await.unwrap()[0].limits, TenantLimits::default());
    let beyond = TenantLimits {
        max_pending_transactions: Some(u64::MAX),
        ..limits
    };
    let error = database.set_tenant_limits(tenant.id, beyond).await.unwrap_err();
    assert!(matches!(error, StoreError::OutOfRange { .. }), "{error}");
    database.remove_tenant(tenant.id).await.unwrap();
    let error = database.set_tenant_limits(tenant.id, limits).await.unwrap_err();
    assert!(matches!(error, StoreError::UnknownTenant(_)), "{error}");
}

pub(crate) async fn a_tenant_never_has_more_live_leases_than_its_limit(database: Arc<dyn Database>) {
    let tenant = add(database.as_ref(), 1).await;
    let limit = |limit| TenantLimits {
        max_concurrent_transactions: Some(limit),
        ..TenantLimits::default()
    };
    database.set_tenant_limits(tenant.id, limit(3)).await.unwrap();
    push(database.as_ref(), &tenant, 1..=30).await;
    // Many ask at the same time, and the limit holds.
    let workers = (0..8).map(|_| {
        let (store, request) = (database.store(&tenant), request(&tenant, NOW_MS, 2));
        tokio::spawn(async move { store.lease_transactions(&request).await.unwrap() })
    });
    let mut leased = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        leased.extend(worker.await.unwrap());
    }
    assert_eq!(leased.len(), 3);
    let turns = async |now_ms| database.tenants_by_turn(&[tenant.id], None, now_ms).await.unwrap();
    assert_eq!(turns(NOW_MS).await, []);
    let store = database.store(&tenant);
    // What is asked for first is no exception.
    let first = LeaseRequest {
        first: leased.iter().map(|leased| leased.lease.transaction()).collect(),
        ..request(&tenant, NOW_MS, 9)
    };
    assert_eq!(store.lease_transactions(&first).await.unwrap(), []);
    store.release_lease(&leased[0].lease).await.unwrap();
    assert_eq!(turns(NOW_MS).await, [tenant.id]);
    assert_eq!(store.lease_transactions(&first).await.unwrap().len(), 1);
    // Expired leases leave room.
    let later = NOW_MS + LEASE_MS;
    assert_eq!(turns(later).await, [tenant.id]);
    assert_eq!(store.lease_transactions(&request(&tenant, later, 9)).await.unwrap().len(), 3);
    database.set_tenant_limits(tenant.id, limit(0)).await.unwrap();
    assert_eq!(store.lease_transactions(&request(&tenant, later + LEASE_MS, 9)).await.unwrap(), []);
    database.set_tenant_limits(tenant.id, TenantLimits::default()).await.unwrap();
    assert_eq!(
        store
            .lease_transactions(&request(&tenant, later + LEASE_MS, 99))
            .await
            .unwrap()
            .len(),
        30
    );
}

pub(crate) async fn tenants_see_nothing_of_each_others_pushed_work(database: Arc<dyn Database>) {
    let (first, second) = (add(database.as_ref(), 1).await, add(database.as_ref(), 2).await);
    push(database.as_ref(), &first, 1..=3).await;
    let (store, other) = (database.store(&first), database.store(&second));
    store.add_ciphertexts(&[ciphertext(handle_of(&first, 9), 9)]).await.unwrap();
    let name = |tenant: &Tenant, tag| NamedHandle {
        name: b"name".to_vec(),
        handle: handle_of(tenant, tag),
    };
    store.add_names(&[name(&first, 1)]).await.unwrap();

    let handles = [handle_of(&first, 1), handle_of(&first, 9)];
    assert_eq!(other.known_handles(&handles).await.unwrap(), [false, false]);
    assert_eq!(other.ciphertexts(&handles).await.unwrap(), [None, None]);
    assert_eq!(other.ciphertext_heads(&handles).await.unwrap(), [None, None]);
    assert_eq!(other.handles_of_names(&[b"name".to_vec()]).await.unwrap(), [None]);
    assert_eq!(other.admitted_input(InputKey::Handle(handles[0])).await.unwrap(), None);
    assert_eq!(other.lease_transactions(&request(&first, NOW_MS, 9)).await.unwrap(), []);
    assert!(other.recent_blocks(first.chain_id, 9).await.unwrap().is_empty());
    let filter = TransactionFilter {
        limit: 9,
        ..TransactionFilter::default()
    };
    assert_eq!(database.inspection(&second).list_transactions(&filter).await.unwrap(), []);
    assert_eq!(database.inspection(&second).retry(&RetryRequest::All).await.unwrap(), 0);
    assert_eq!(database.inspection(&second).backlog(NOW_MS).await.unwrap().pending, 0);
    for refused in [
        other.add_names(&[name(&first, 2)]).await,
        other.record_pushed(first.chain_id, &PushedWork::default()).await,
        other.add_ciphertexts(&[ciphertext(handle_of(&first, 8), 8)]).await,
    ] {
        assert!(matches!(refused, Err(StoreError::ForeignChain { .. })), "{refused:?}");
    }
    // The same name may stand for something else here.
    other.add_names(&[name(&second, 2)]).await.unwrap();
    assert_eq!(
        store.handles_of_names(&[b"name".to_vec()]).await.unwrap(),
        [Some(handle_of(&first, 1))]
    );
}

pub(crate) async fn a_removed_tenant_takes_pushed_work_and_names_with_it(database: Arc<dyn Database>) {
    let (removed, kept) = (add(database.as_ref(), 1).await, add(database.as_ref(), 2).await);
    for tenant in [&removed, &kept] {
        push(database.as_ref(), tenant, 1..=3).await;
        let waiting = work(vec![transaction(4, handle_of(tenant, 4), &[handle_of(tenant, 1)])]);
        database.store(tenant).record_pushed(tenant.chain_id, &waiting).await.unwrap();
        let name = NamedHandle {
            name: b"name".to_vec(),
            handle: handle_of(tenant, 1),
        };
        database.store(tenant).add_names(&[name]).await.unwrap();
    }
    database.remove_tenant(removed.id).await.unwrap();
    let again = add(database.as_ref(), 1).await;
    let store = database.store(&again);
    assert_eq!(
        store.known_handles(&[handle_of(&again, 1), handle_of(&again, 4)]).await.unwrap(),
        [false, false]
    );
    assert_eq!(store.handles_of_names(&[b"name".to_vec()]).await.unwrap(), [None]);
    assert_eq!(store.pending_transactions(again.chain_id).await.unwrap(), 0);
    assert!(store.recent_blocks(again.chain_id, 9).await.unwrap().is_empty());
    let kept_store = database.store(&kept);
    assert_eq!(kept_store.pending_transactions(kept.chain_id).await.unwrap(), 4);
    assert_eq!(kept_store.lease_transactions(&request(&kept, NOW_MS, 9)).await.unwrap().len(), 3);
}

pub(crate) async fn changes_name_the_tenant(database: Arc<dyn Database>) {
    let (first, second) = (add(database.as_ref(), 1).await, add(database.as_ref(), 2).await);
    database.ping().await.unwrap();
    let mut all = database.changes();
    let mut of_second = database.store(&second).changes();
    // Listening may begin with hints for what was missed, so more and more is pushed until one comes.
    let mut tag = 0;
    let mut wait_for = async |wanted: &Tenant| {
        let mut changed = all.next();
        loop {
            tag += 1;
            push(database.as_ref(), wanted, tag..=tag).await;
            match tokio::time::timeout(Duration::from_millis(200), &mut changed).await {
                Ok(tenant) if tenant == Some(wanted.id) => return,
                Ok(_) => changed = all.next(),
                Err(_) => {}
            }
        }
    };
    tokio::time::timeout(SOON, wait_for(&second)).await.unwrap();
    tokio::time::timeout(SOON, wait_for(&first)).await.unwrap();
    tokio::time::timeout(SOON, of_second.next()).await.unwrap();
}
