//! Leases: exclusive, limited in time, in order.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use cipherloom_store::{Finished, OutputFailure, Store, StoreError};

use crate::fixture::{CHAIN, LEASE_MS, NOW_MS, ciphertext, handle, lease_one, record, request, transaction};

pub(crate) async fn a_transaction_is_leased_once(store: Arc<dyn Store>) {
    record(store.as_ref(), 1, vec![transaction(0, handle(1), &[])]).await;
    assert!(lease_one(store.as_ref(), "first", NOW_MS).await.is_some());
    assert_eq!(lease_one(store.as_ref(), "second", NOW_MS).await, None);
    // The owner itself does not get it twice either.
    assert_eq!(lease_one(store.as_ref(), "first", NOW_MS).await, None);
}

pub(crate) async fn many_workers_never_share_a_transaction(store: Arc<dyn Store>) {
    let transactions = (0..50)
        .map(|index| transaction(index, handle(u8::try_from(index).unwrap()), &[]))
        .collect();
    record(store.as_ref(), 1, transactions).await;
    let workers = (0..8).map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut leased = Vec::new();
            while let Some(transaction) = lease_one(store.as_ref(), &format!("worker {number}"), NOW_MS).await {
                leased.push(transaction.hash);
            }
            leased
        })
    });
    let mut all = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        all.extend(worker.await.unwrap());
    }
    assert_eq!(all.len(), 50);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 50);
}

pub(crate) async fn an_expired_lease_is_taken_over_and_its_owner_is_refused(store: Arc<dyn Store>) {
    record(store.as_ref(), 1, vec![transaction(0, handle(1), &[])]).await;
    // The same name on purpose: a restarted worker must not be mistaken for its former self.
    let former = lease_one(store.as_ref(), "worker", NOW_MS).await.unwrap();
    assert_eq!(lease_one(store.as_ref(), "worker", NOW_MS + LEASE_MS - 1).await, None);
    let current = lease_one(store.as_ref(), "worker", NOW_MS + LEASE_MS).await.unwrap();
    assert_eq!((former.attempts, current.attempts), (1, 2));

    let renewed = store.renew_lease(&former.lease, NOW_MS + 10 * LEASE_MS).await;
    assert!(matches!(renewed, Err(StoreError::LeaseLost { .. })));
    store.release_lease(&former.lease).await.unwrap();
    assert_eq!(
        lease_one(store.as_ref(), "third", NOW_MS + LEASE_MS).await,
        None,
        "a stranger released the lease"
    );
    store.finish_transaction(&current.lease, &Finished::default()).await.unwrap();
}

pub(crate) async fn a_renewed_lease_does_not_expire(store: Arc<dyn Store>) {
    record(store.as_ref(), 1, vec![transaction(0, handle(1), &[])]).await;
    let leased = lease_one(store.as_ref(), "worker", NOW_MS).await.unwrap();
    store.renew_lease(&leased.lease, NOW_MS + 3 * LEASE_MS).await.unwrap();
    assert_eq!(lease_one(store.as_ref(), "other", NOW_MS + 2 * LEASE_MS).await, None);
    assert!(lease_one(store.as_ref(), "other", NOW_MS + 3 * LEASE_MS).await.is_some());
}

pub(crate) async fn a_released_lease_is_free_and_the_attempt_not_counted(store: Arc<dyn Store>) {
    record(store.as_ref(), 1, vec![transaction(0, handle(1), &[])]).await;
    let leased = lease_one(store.as_ref(), "worker", NOW_MS).await.unwrap();
    store.release_lease(&leased.lease).await.unwrap();
    let again = lease_one(store.as_ref(), "other", NOW_MS).await.unwrap();
    assert_eq!(again.attempts, 1);
    assert_eq!(again.computations, leased.computations);
}

pub(crate) async fn transactions_wait_for_the_ciphertexts_they_need(store: Arc<dyn Store>) {
    record(
        store.as_ref(),
        1,
        vec![transaction(0, handle(1), &[]), transaction(1, handle(2), &[handle(1)])],
    )
    .await;
    record(store.as_ref(), 2, vec![transaction(0, handle(3), &[handle(2)])]).await;
    let first = store.lease_transactions(&request("worker", NOW_MS, 10)).await.unwrap();
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].outputs, [handle(1)]);
    let done = Finished {
        ciphertexts: vec![ciphertext(handle(1), 1)],
        failures: Vec::new(),
    };
    store.finish_transaction(&first[0].lease, &done).await.unwrap();
    let second = store.lease_transactions(&request("worker", NOW_MS, 10)).await.unwrap();
    assert_eq!(second.len(), 1);
    assert_eq!(second[0].outputs, [handle(2)]);
}

pub(crate) async fn a_transaction_whose_operand_nobody_will_publish_can_run(store: Arc<dyn Store>) {
    record(store.as_ref(), 1, vec![transaction(0, handle(1), &[handle(99)])]).await;
    record(store.as_ref(), 2, vec![transaction(0, handle(2), &[handle(1)])]).await;
    let first = lease_one(store.as_ref(), "worker", NOW_MS).await.unwrap();
    let failed = Finished {
        ciphertexts: Vec::new(),
        failures: vec![OutputFailure {
            handle: handle(1),
            reason: "its operand is unknown".to_owned(),
        }],
    };
    store.finish_transaction(&first.lease, &failed).await.unwrap();
    // What waits for a failed output does not wait for ever.
    assert_eq!(lease_one(store.as_ref(), "worker", NOW_MS).await.unwrap().outputs, [handle(2)]);
}

pub(crate) async fn transactions_that_publish_one_handle_run_in_order(store: Arc<dyn Store>) {
    // Whose bytes become the value must not depend on which worker is faster.
    record(
        store.as_ref(),
        1,
        vec![transaction(0, handle(1), &[]), transaction(1, handle(1), &[])],
    )
    .await;
    let first = store.lease_transactions(&request("worker", NOW_MS, 10)).await.unwrap();
    assert_eq!(
        first.iter().map(|leased| leased.hash).collect::<Vec<_>>(),
        [transaction(0, handle(1), &[]).hash]
    );
    store.finish_transaction(&first[0].lease, &Finished::default()).await.unwrap();
    let second = store.lease_transactions(&request("worker", NOW_MS, 10)).await.unwrap();
    assert_eq!(
        second.iter().map(|leased| leased.hash).collect::<Vec<_>>(),
        [transaction(1, handle(1), &[]).hash]
    );
}

pub(crate) async fn a_lease_on_a_withdrawn_transaction_is_lost(store: Arc<dyn Store>) {
    record(store.as_ref(), 1, vec![transaction(0, handle(1), &[])]).await;
    let leased = lease_one(store.as_ref(), "worker", NOW_MS).await.unwrap();
    store.remove_blocks_from(CHAIN, 1).await.unwrap();
    record(store.as_ref(), 1, vec![transaction(0, handle(2), &[])]).await;
    // Whatever took the place of the transaction in the store is not what the lease is for.
    let other = lease_one(store.as_ref(), "worker", NOW_MS).await.unwrap();
    assert_ne!(other.lease, leased.lease);
    let done = Finished {
        ciphertexts: vec![ciphertext(handle(1), 1)],
        failures: Vec::new(),
    };
    let error = store.finish_transaction(&leased.lease, &done).await.unwrap_err();
    assert!(matches!(error, StoreError::LeaseLost { .. }), "{error}");
    assert_eq!(store.ciphertext(handle(1)).await.unwrap(), None);
}

pub(crate) async fn leases_come_oldest_first_and_as_recorded(store: Arc<dyn Store>) {
    record(
        store.as_ref(),
        1,
        vec![transaction(0, handle(1), &[]), transaction(5, handle(2), &[])],
    )
    .await;
    record(store.as_ref(), 2, vec![transaction(0, handle(3), &[])]).await;
    let leased = store.lease_transactions(&request("worker", NOW_MS, 2)).await.unwrap();
    assert_eq!(
        leased.iter().map(|leased| leased.outputs[0]).collect::<Vec<_>>(),
        [handle(1), handle(2)]
    );
    let recorded = transaction(5, handle(2), &[]);
    assert_eq!((leased[1].hash, leased[1].block_number), (recorded.hash, 1));
    assert_eq!(leased[1].computations, recorded.computations);
}

pub(crate) async fn a_lease_tells_when_its_work_was_recorded(store: Arc<dyn Store>) {
    let now_ms = || u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let before = now_ms();
    record(store.as_ref(), 1, vec![transaction(0, handle(1), &[])]).await;
    let after = now_ms();
    let leased = lease_one(store.as_ref(), "worker", after).await.unwrap();
    let recorded = leased.recorded_at_ms.unwrap();
    // The database cuts or rounds to milliseconds.
    assert!((before - 1..=after + 1).contains(&recorded), "{before} {recorded} {after}");
}
