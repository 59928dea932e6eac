//! Followed chains, and results of blocks that come back.

use std::sync::Arc;

use cipherloom_primitives::Address;
use cipherloom_store::{
    ApiKey, Database, Finished, FollowClaim, FollowProgress, FollowedChain, HandleState, NewTenant, RecordedBlock, Store, StoreError,
    Tenant,
};

use crate::fixture::{CHAIN, NOW_MS, block, ciphertext, handle, lease_one, publish, published, record, transaction};

async fn add(database: &dyn Database, name: &str, chain_id: u64) -> Tenant {
    let new = NewTenant {
        name: name.to_owned(),
        chain_id,
        acl: Address::repeat_byte(1),
        input_verifier: Address::repeat_byte(2),
        is_admin: false,
    };
    let key = ApiKey::from_random([u8::try_from(chain_id % 251).unwrap(); 16]);
    database.add_tenant(&new, key.digest()).await.unwrap()
}

fn chain(first_block: u64) -> FollowedChain {
    FollowedChain {
        urls: vec!["https://one.example/v2/secret".to_owned(), "wss://two.example".to_owned()],
        executor: Address::repeat_byte(0xee),
        first_block,
        finality_depth: 64,
        checks_receipts: true,
    }
}

fn claim(owner: &str, now_ms: u64, until_ms: u64, recorded: Option<u64>) -> FollowClaim<'_> {
    FollowClaim {
        owner,
        now_ms,
        until_ms,
        progress: FollowProgress {
            recorded,
            ..FollowProgress::default()
        },
    }
}

pub(crate) async fn a_chain_is_followed_as_was_said_last(database: Arc<dyn Database>) {
    let (one, other) = (add(database.as_ref(), "one", 1).await, add(database.as_ref(), "other", 2).await);
    database.follow(other.id, &chain(7)).await.unwrap();
    database.follow(one.id, &chain(1)).await.unwrap();
    database.follow(one.id, &chain(5)).await.unwrap();
    assert_eq!(
        database.followed().await.unwrap(),
        [(one.clone(), chain(5)), (other.clone(), chain(7))]
    );
    assert!(database.unfollow(one.id).await.unwrap());
    assert!(!database.unfollow(one.id).await.unwrap());
    assert_eq!(database.followed().await.unwrap(), [(other.clone(), chain(7))]);
    assert!(!format!("{:?}", chain(1)).contains("secret"));

    database.remove_tenant(other.id).await.unwrap();
    assert!(database.followed().await.unwrap().is_empty());
    let error = database.follow(other.id, &chain(7)).await.unwrap_err();
    assert!(matches!(error, StoreError::UnknownTenant(_)), "{error}");
    let error = database.follow(one.id, &chain(u64::MAX)).await.unwrap_err();
    assert!(matches!(error, StoreError::OutOfRange { .. }), "{error}");
}

pub(crate) async fn one_process_at_a_time_follows_a_chain(database: Arc<dyn Database>) {
    let tenant = add(database.as_ref(), "one", 1).await;
    assert!(
        !database.claim_following(tenant.id, claim("first", 0, 10, None)).await.unwrap(),
        "it is not followed"
    );
    database.follow(tenant.id, &chain(0)).await.unwrap();
    assert_eq!(database.follow_state(tenant.id).await.unwrap(), None);

    assert!(database.claim_following(tenant.id, claim("first", 0, 10, Some(3))).await.unwrap());
    assert!(!database.claim_following(tenant.id, claim("second", 9, 20, None)).await.unwrap());
    assert!(database.claim_following(tenant.id, claim("first", 9, 19, None)).await.unwrap());
    let state = database.follow_state(tenant.id).await.unwrap().unwrap();
    // What was found out earlier stays.
    assert_eq!(
        (state.owner.as_str(), state.claimed_until_ms, state.progress.recorded),
        ("first", 19, Some(3))
    );

    // A claim ends by its time, or when it is given up.
    assert!(!database.claim_following(tenant.id, claim("second", 18, 30, None)).await.unwrap());
    assert!(database.claim_following(tenant.id, claim("second", 19, 30, Some(4))).await.unwrap());
    assert!(!database.claim_following(tenant.id, claim("first", 20, 40, None)).await.unwrap());
    assert!(database.claim_following(tenant.id, claim("second", 21, 21, None)).await.unwrap());
    assert!(database.claim_following(tenant.id, claim("first", 21, 40, None)).await.unwrap());

    // Another way of following does not end the claim.
    database.follow(tenant.id, &chain(1)).await.unwrap();
    assert!(!database.claim_following(tenant.id, claim("second", 22, 40, None)).await.unwrap());
    database.unfollow(tenant.id).await.unwrap();
    assert!(!database.claim_following(tenant.id, claim("first", 23, 40, None)).await.unwrap());
}

/// Records a block whose transaction needs `handle(1)` of the block before, and publishes `handle(2)`.
fn dependent(number: u64, branch: u8) -> RecordedBlock {
    RecordedBlock {
        block: block(number, branch),
        transactions: vec![transaction(0, handle(2), &[handle(1)])],
    }
}

pub(crate) async fn a_block_that_comes_back_has_its_results_again(store: Arc<dyn Store>) {
    let store = store.as_ref();
    publish(store, 1, handle(1), 11).await;
    store.record_blocks(CHAIN, &[dependent(2, 1)]).await.unwrap();
    let leased = lease_one(store, "worker", NOW_MS).await.unwrap();
    let done = Finished {
        ciphertexts: vec![ciphertext(handle(2), 22)],
        failures: Vec::new(),
    };
    store.finish_transaction(&leased.lease, &done).await.unwrap();

    store.remove_blocks_from(CHAIN, 1).await.unwrap();
    assert_eq!(store.ciphertext(handle(1)).await.unwrap(), None);
    assert_eq!(store.ciphertext(handle(2)).await.unwrap(), None);
    assert_eq!(store.handle_state(handle(2)).await.unwrap(), HandleState::Unknown);

    record(store, 1, vec![transaction(0, handle(1), &[])]).await;
    store.record_blocks(CHAIN, &[dependent(2, 1)]).await.unwrap();
    assert_eq!(store.pending_transactions(CHAIN).await.unwrap(), 0);
    assert_eq!(lease_one(store, "worker", NOW_MS).await, None);
    assert_eq!(store.ciphertext(handle(1)).await.unwrap(), Some(published(handle(1), 11, 1)));
    assert_eq!(store.ciphertext(handle(2)).await.unwrap(), Some(published(handle(2), 22, 2)));
}

pub(crate) async fn another_block_gets_no_results_of_a_withdrawn_one(store: Arc<dyn Store>) {
    let store = store.as_ref();
    publish(store, 1, handle(1), 11).await;
    store.remove_blocks_from(CHAIN, 1).await.unwrap();
    let other = RecordedBlock {
        block: block(1, 2),
        transactions: vec![transaction(0, handle(1), &[])],
    };
    store.record_blocks(CHAIN, &[other]).await.unwrap();
    assert_eq!(store.pending_transactions(CHAIN).await.unwrap(), 1);
    assert_eq!(store.ciphertext(handle(1)).await.unwrap(), None);
    let leased = lease_one(store, "worker", NOW_MS).await.unwrap();
    let done = Finished {
        ciphertexts: vec![ciphertext(handle(1), 99)],
        failures: Vec::new(),
    };
    store.finish_transaction(&leased.lease, &done).await.unwrap();
    // And back to the first: its own bytes come with it.
    store.remove_blocks_from(CHAIN, 1).await.unwrap();
    record(store, 1, vec![transaction(0, handle(1), &[])]).await;
    assert_eq!(store.ciphertext(handle(1)).await.unwrap(), Some(published(handle(1), 11, 1)));
}

pub(crate) async fn what_was_not_finished_in_a_block_is_computed_when_it_comes_back(store: Arc<dyn Store>) {
    let store = store.as_ref();
    let both = vec![transaction(0, handle(1), &[]), transaction(1, handle(2), &[handle(1)])];
    record(store, 1, both.clone()).await;
    let leased = lease_one(store, "worker", NOW_MS).await.unwrap();
    let done = Finished {
        ciphertexts: vec![ciphertext(handle(1), 11)],
        failures: Vec::new(),
    };
    store.finish_transaction(&leased.lease, &done).await.unwrap();
    store.remove_blocks_from(CHAIN, 1).await.unwrap();
    record(store, 1, both).await;
    assert_eq!(store.pending_transactions(CHAIN).await.unwrap(), 1);
    let leased = lease_one(store, "worker", NOW_MS).await.unwrap();
    assert_eq!(leased.outputs, [handle(2)]);
}

pub(crate) async fn results_of_withdrawn_blocks_are_forgotten_when_the_chain_is_far_ahead(store: Arc<dyn Store>) {
    let store = store.as_ref();
    publish(store, 1, handle(1), 11).await;
    store.remove_blocks_from(CHAIN, 1).await.unwrap();
    // Nothing returns to it from here.
    record(store, 1_000, Vec::new()).await;
    store.remove_blocks_from(CHAIN, 0).await.unwrap();
    record(store, 1, vec![transaction(0, handle(1), &[])]).await;
    assert_eq!(store.pending_transactions(CHAIN).await.unwrap(), 1);
    assert_eq!(store.ciphertext(handle(1)).await.unwrap(), None);
}
