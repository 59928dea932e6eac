//! Blocks: recording, resuming, removing.

use std::sync::Arc;

use cipherloom_primitives::Address;
use cipherloom_store::{Delegation, Grant, Grantee, HandleState, RecordedBlock, Store, StoreError};

use crate::fixture::{CHAIN, NOW_MS, block, empty_block, handle, lease_one, record, transaction};

pub(crate) async fn following_resumes_at_the_newest_block(store: Arc<dyn Store>) {
    assert!(store.recent_blocks(CHAIN, 10).await.unwrap().is_empty());
    // Numbers may be skipped: 5 and 6 had no events.
    store
        .record_blocks(CHAIN, &[empty_block(3), empty_block(4), empty_block(7)])
        .await
        .unwrap();
    assert_eq!(store.recent_blocks(CHAIN, 2).await.unwrap(), [block(7, 1), block(4, 1)]);
    assert_eq!(store.recent_blocks(CHAIN, 10).await.unwrap().len(), 3);
}

pub(crate) async fn chains_are_kept_apart(store: Arc<dyn Store>) {
    record(store.as_ref(), 1, vec![transaction(0, handle(1), &[])]).await;
    assert!(store.recent_blocks(1, 10).await.unwrap().is_empty());
    assert_eq!(store.pending_transactions(1).await.unwrap(), 0);
    store.remove_blocks_from(1, 0).await.unwrap();
    assert_eq!(store.pending_transactions(CHAIN).await.unwrap(), 1);
}

pub(crate) async fn a_block_that_does_not_continue_is_refused_and_changes_nothing(store: Arc<dyn Store>) {
    store.record_blocks(CHAIN, &[empty_block(5)]).await.unwrap();
    let other_branch = RecordedBlock {
        block: block(6, 2),
        transactions: Vec::new(),
    };
    for refused in [other_branch, empty_block(5), empty_block(4)] {
        let error = store.record_blocks(CHAIN, std::slice::from_ref(&refused)).await.unwrap_err();
        assert!(
            matches!(error, StoreError::NotAChild { number, .. } if number == refused.block.number),
            "{error}"
        );
    }
    assert_eq!(store.recent_blocks(CHAIN, 10).await.unwrap(), [block(5, 1)]);
}

pub(crate) async fn a_failing_batch_records_none_of_its_blocks(store: Arc<dyn Store>) {
    let good = RecordedBlock {
        block: block(1, 1),
        transactions: vec![transaction(0, handle(1), &[])],
    };
    let bad = RecordedBlock {
        block: block(2, 2),
        transactions: Vec::new(),
    };
    store.record_blocks(CHAIN, &[good, bad]).await.unwrap_err();
    assert!(store.recent_blocks(CHAIN, 10).await.unwrap().is_empty());
    assert_eq!(store.handle_state(handle(1)).await.unwrap(), HandleState::Unknown);
    assert!(store.grants_of(handle(1)).await.unwrap().is_empty());
}

pub(crate) async fn a_transaction_without_outputs_is_recorded_as_done(store: Arc<dyn Store>) {
    let mut transaction = transaction(0, handle(1), &[]);
    transaction.outputs.clear();
    record(store.as_ref(), 1, vec![transaction]).await;
    assert_eq!(store.pending_transactions(CHAIN).await.unwrap(), 0);
    assert_eq!(lease_one(store.as_ref(), "worker", NOW_MS).await, None);
}

pub(crate) async fn removed_blocks_take_grants_and_transactions_with_them(store: Arc<dyn Store>) {
    let mut first = transaction(0, handle(1), &[]);
    first.grants.push(Grant {
        handle: handle(1),
        grantee: Grantee::PublicDecryption,
    });
    let mut second = transaction(0, handle(2), &[]);
    second.delegations.push(Delegation {
        delegator: Address::repeat_byte(1),
        delegate: Address::repeat_byte(2),
        contract: Address::repeat_byte(3),
        expires_at: u64::MAX,
    });
    record(store.as_ref(), 1, vec![first]).await;
    record(store.as_ref(), 2, vec![second]).await;
    record(store.as_ref(), 3, vec![transaction(0, handle(3), &[])]).await;
    store.remove_blocks_from(CHAIN, 2).await.unwrap();

    assert_eq!(store.recent_blocks(CHAIN, 10).await.unwrap(), [block(1, 1)]);
    assert_eq!(
        store.grants_of(handle(1)).await.unwrap(),
        [Grantee::PublicDecryption, Grantee::Account(Address::repeat_byte(0xaa))]
    );
    assert!(store.grants_of(handle(2)).await.unwrap().is_empty());
    assert_eq!(store.handle_state(handle(2)).await.unwrap(), HandleState::Unknown);
    assert_eq!(store.pending_transactions(CHAIN).await.unwrap(), 1);
    // The other branch continues from the block that is left.
    let mut other = empty_block(2);
    other.block.hash = block(2, 9).hash;
    store.record_blocks(CHAIN, &[other]).await.unwrap();
}

pub(crate) async fn a_grant_repeated_in_a_removed_block_stays(store: Arc<dyn Store>) {
    record(store.as_ref(), 1, vec![transaction(0, handle(1), &[])]).await;
    let mut repeated = transaction(0, handle(2), &[]);
    repeated.grants = transaction(0, handle(1), &[]).grants;
    record(store.as_ref(), 2, vec![repeated]).await;
    store.remove_blocks_from(CHAIN, 2).await.unwrap();
    assert_eq!(
        store.grants_of(handle(1)).await.unwrap(),
        [Grantee::Account(Address::repeat_byte(0xaa))]
    );
}
