//! Ciphertexts, inputs and the state of handles.

use std::sync::Arc;

use cipherloom_primitives::{B256, FheType, Handle};
use cipherloom_store::{Finished, HandleState, InputKey, OutputFailure, Store, StoreError};

use crate::fixture::{CHAIN, LEASE_MS, NOW_MS, block, ciphertext, empty_block, handle, input, lease_one, published, record, transaction};

pub(crate) async fn publishing_is_idempotent_on_the_handle(store: Arc<dyn Store>) {
    // Two transactions of one block compute the same handle.
    record(
        store.as_ref(),
        1,
        vec![transaction(0, handle(1), &[]), transaction(1, handle(1), &[])],
    )
    .await;
    for content in [1, 2] {
        let leased = lease_one(store.as_ref(), "worker", NOW_MS).await.unwrap();
        let done = Finished {
            ciphertexts: vec![ciphertext(handle(1), content)],
            failures: Vec::new(),
        };
        store.finish_transaction(&leased.lease, &done).await.unwrap();
    }
    store.add_ciphertexts(&[ciphertext(handle(1), 3)]).await.unwrap();
    assert_eq!(store.ciphertext(handle(1)).await.unwrap(), Some(published(handle(1), 1, 1)));
    assert_eq!(store.pending_transactions(CHAIN).await.unwrap(), 0);
}

pub(crate) async fn publishing_under_a_lost_lease_writes_nothing(store: Arc<dyn Store>) {
    record(store.as_ref(), 1, vec![transaction(0, handle(1), &[])]).await;
    let former = lease_one(store.as_ref(), "former", NOW_MS).await.unwrap();
    let current = lease_one(store.as_ref(), "current", NOW_MS + LEASE_MS).await.unwrap();
    let of_former = Finished {
        ciphertexts: vec![ciphertext(handle(1), 1)],
        failures: Vec::new(),
    };
    let error = store.finish_transaction(&former.lease, &of_former).await.unwrap_err();
    assert!(matches!(error, StoreError::LeaseLost { .. }), "{error}");
    assert_eq!(store.handle_state(handle(1)).await.unwrap(), HandleState::Pending);

    let of_current = Finished {
        ciphertexts: vec![ciphertext(handle(1), 2)],
        failures: Vec::new(),
    };
    store.finish_transaction(&current.lease, &of_current).await.unwrap();
    let again = store.finish_transaction(&current.lease, &of_current).await.unwrap_err();
    assert!(matches!(again, StoreError::LeaseLost { .. }), "{again}");
    assert_eq!(store.ciphertext(handle(1)).await.unwrap(), Some(published(handle(1), 2, 1)));
}

pub(crate) async fn failed_outputs_say_why_and_do_not_hide_results(store: Arc<dyn Store>) {
    let mut both = transaction(0, handle(1), &[]);
    both.outputs.push(handle(2));
    record(store.as_ref(), 1, vec![both, transaction(1, handle(2), &[])]).await;
    let leased = lease_one(store.as_ref(), "worker", NOW_MS).await.unwrap();
    let finished = Finished {
        ciphertexts: vec![ciphertext(handle(1), 1)],
        failures: vec![OutputFailure {
            handle: handle(2),
            reason: "no such input".to_owned(),
        }],
    };
    store.finish_transaction(&leased.lease, &finished).await.unwrap();
    assert_eq!(store.handle_state(handle(1)).await.unwrap(), HandleState::Stored);
    // Another transaction may still publish the handle; only when that is over has it failed.
    assert_eq!(store.handle_state(handle(2)).await.unwrap(), HandleState::Pending);
    let other = lease_one(store.as_ref(), "worker", NOW_MS).await.unwrap();
    store.finish_transaction(&other.lease, &Finished::default()).await.unwrap();
    assert_eq!(
        store.handle_state(handle(2)).await.unwrap(),
        HandleState::Failed("no such input".to_owned())
    );
}

pub(crate) async fn inputs_are_found_by_handle_and_by_digest(store: Arc<dyn Store>) {
    let (admitted, handles) = input(7);
    assert_eq!(store.admitted_input(InputKey::Handle(handles[1])).await.unwrap(), None);
    store.admit_input(&admitted, &handles, NOW_MS).await.unwrap();
    assert_eq!(
        store.admitted_input(InputKey::Handle(handles[1])).await.unwrap().as_ref(),
        Some(&admitted)
    );
    let by_digest = |chain_id| InputKey::Digest {
        chain_id,
        digest: admitted.digest,
    };
    assert_eq!(store.admitted_input(by_digest(CHAIN)).await.unwrap().as_ref(), Some(&admitted));
    assert_eq!(store.admitted_input(by_digest(1)).await.unwrap(), None);
    assert_eq!(store.handle_state(handles[0]).await.unwrap(), HandleState::Admitted);
}

pub(crate) async fn admitting_twice_changes_nothing(store: Arc<dyn Store>) {
    let (admitted, handles) = input(7);
    store.admit_input(&admitted, &handles, NOW_MS).await.unwrap();
    let (other, other_handles) = input(8);
    store.admit_input(&other, &other_handles, NOW_MS).await.unwrap();
    store.admit_input(&admitted, &handles, NOW_MS + 1).await.unwrap();
    assert_eq!(store.admitted_input(InputKey::Handle(handles[0])).await.unwrap(), Some(admitted));
    assert_eq!(store.admitted_input(InputKey::Handle(other_handles[0])).await.unwrap(), Some(other));
}

pub(crate) async fn a_handle_goes_from_unknown_through_pending_to_stored(store: Arc<dyn Store>) {
    assert_eq!(store.handle_state(handle(1)).await.unwrap(), HandleState::Unknown);
    assert_eq!(store.ciphertext(handle(1)).await.unwrap(), None);
    record(store.as_ref(), 1, vec![transaction(0, handle(1), &[])]).await;
    assert_eq!(store.handle_state(handle(1)).await.unwrap(), HandleState::Pending);
    let leased = lease_one(store.as_ref(), "worker", NOW_MS).await.unwrap();
    assert_eq!(store.handle_state(handle(1)).await.unwrap(), HandleState::Pending);
    let done = Finished {
        ciphertexts: vec![ciphertext(handle(1), 1)],
        failures: Vec::new(),
    };
    store.finish_transaction(&leased.lease, &done).await.unwrap();
    assert_eq!(store.handle_state(handle(1)).await.unwrap(), HandleState::Stored);
    assert_eq!(store.ciphertext(handle(1)).await.unwrap(), Some(published(handle(1), 1, 1)));
}

pub(crate) async fn numbers_beyond_the_database_are_refused(store: Arc<dyn Store>) {
    let mut late = empty_block(1);
    late.block.timestamp = u64::MAX;
    let error = store.record_blocks(CHAIN, &[late]).await.unwrap_err();
    assert!(matches!(error, StoreError::OutOfRange { value: u64::MAX, .. }), "{error}");
    assert!(matches!(store.recent_blocks(u64::MAX, 1).await, Err(StoreError::OutOfRange { .. })));
    // A handle is outside data: one of a chain that cannot exist here is merely unknown.
    let foreign = Handle::computed(B256::repeat_byte(1), u64::MAX, FheType::Bool);
    assert_eq!(store.handle_state(foreign).await.unwrap(), HandleState::Unknown);
    assert_eq!(store.ciphertext(foreign).await.unwrap(), None);
    assert!(store.grants_of(foreign).await.unwrap().is_empty());
    assert_ne!(block(1, 1), block(1, 2));
}
