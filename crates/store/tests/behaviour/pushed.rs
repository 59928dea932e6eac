//! Work that a node sends.

use std::{collections::BTreeSet, sync::Arc};

use cipherloom_primitives::{B256, Handle};
use cipherloom_store::{Finished, LeaseRequest, LeasedTransaction, OutputFailure, PushedWork, RecordedTransaction, Store, StoreError};

use crate::fixture::{CHAIN, NOW_MS, ciphertext, empty_block, handle, input, lease_one, named, record, request, transaction};

/// Work of some transactions.
pub(crate) fn work(transactions: Vec<RecordedTransaction>) -> PushedWork {
    let transactions = transactions.into_iter().map(|transaction| RecordedTransaction {
        grants: Vec::new(),
        ..transaction
    });
    PushedWork {
        transactions: transactions.collect(),
        names: Vec::new(),
        received_at_s: 1_700_000_000,
        max_pending: None,
    }
}

/// Pushes one transaction that computes a handle.
pub(crate) async fn push(store: &dyn Store, output: Handle, boundary: &[Handle]) {
    let pushed = work(vec![transaction(u64::from(output.as_slice()[0]), output, boundary)]);
    store.record_pushed(CHAIN, &pushed).await.unwrap();
}

/// Publishes all outputs of a leased transaction.
pub(crate) async fn finish(store: &dyn Store, leased: &LeasedTransaction) -> Vec<cipherloom_store::TransactionNumber> {
    let done = Finished {
        ciphertexts: leased
            .outputs
            .iter()
            .map(|output| ciphertext(*output, output.as_slice()[0]))
            .collect(),
        failures: Vec::new(),
    };
    store.finish_transaction(&leased.lease, &done).await.unwrap()
}

/// Gives all outputs of a leased transaction up.
pub(crate) async fn fail(store: &dyn Store, leased: &LeasedTransaction) {
    let failures = leased.outputs.iter().map(|handle| OutputFailure {
        handle: *handle,
        reason: "it cannot be".to_owned(),
    });
    let failed = Finished {
        ciphertexts: Vec::new(),
        failures: failures.collect(),
    };
    store.finish_transaction(&leased.lease, &failed).await.unwrap();
}

async fn outputs_to_lease(store: &dyn Store) -> Vec<Handle> {
    let leased = store.lease_transactions(&request("looker", NOW_MS, 100)).await.unwrap();
    for leased in &leased {
        store.release_lease(&leased.lease).await.unwrap();
    }
    leased.into_iter().flat_map(|leased| leased.outputs).collect()
}

pub(crate) async fn pushed_work_becomes_a_block_of_the_tenants_own_numbering(store: Arc<dyn Store>) {
    let mut both = transaction(7, handle(2), &[]);
    both.computations.extend(transaction(0, handle(3), &[handle(2)]).computations);
    both.outputs.push(handle(3));
    store
        .record_pushed(CHAIN, &work(vec![transaction(9, handle(1), &[]), both.clone()]))
        .await
        .unwrap();
    store.record_pushed(CHAIN, &work(Vec::new())).await.unwrap();
    let mut later = work(vec![transaction(1, handle(4), &[])]);
    later.received_at_s += 5;
    store.record_pushed(CHAIN, &later).await.unwrap();

    let blocks = store.recent_blocks(CHAIN, 10).await.unwrap();
    assert_eq!(blocks.iter().map(|block| block.number).collect::<Vec<_>>(), [1, 0]);
    assert_eq!((blocks[0].parent_hash, blocks[1].parent_hash), (blocks[1].hash, B256::ZERO));
    assert_eq!((blocks[1].timestamp, blocks[0].timestamp), (1_700_000_000, 1_700_000_005));
    let leased = store.lease_transactions(&request("worker", NOW_MS, 10)).await.unwrap();
    assert_eq!(leased.iter().map(|leased| leased.block_number).collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!(leased[1].computations, both.computations);
    assert_eq!(leased[1].hash, both.hash);
    assert_eq!(leased[1].outputs, [handle(2), handle(3)]);
}

pub(crate) async fn pushed_work_waits_for_what_it_needs_and_finishing_says_what_can_run(store: Arc<dyn Store>) {
    push(store.as_ref(), handle(1), &[]).await;
    push(store.as_ref(), handle(2), &[]).await;
    push(store.as_ref(), handle(3), &[handle(1)]).await;
    push(store.as_ref(), handle(4), &[handle(1), handle(2)]).await;
    push(store.as_ref(), handle(5), &[handle(3)]).await;
    let leased = store.lease_transactions(&request("worker", NOW_MS, 10)).await.unwrap();
    assert_eq!(
        leased.iter().map(|leased| leased.outputs[0]).collect::<Vec<_>>(),
        [handle(1), handle(2)]
    );

    let freed = finish(store.as_ref(), &leased[0]).await;
    let third = lease_one(store.as_ref(), "worker", NOW_MS).await.unwrap();
    assert_eq!(freed, [third.lease.transaction()]);
    assert_eq!(third.outputs, [handle(3)]);
    let freed = finish(store.as_ref(), &leased[1]).await;
    let fourth = lease_one(store.as_ref(), "worker", NOW_MS).await.unwrap();
    assert_eq!(
        (freed, fourth.outputs.as_slice()),
        (vec![fourth.lease.transaction()], [handle(4)].as_slice())
    );
    assert_eq!(finish(store.as_ref(), &fourth).await, []);
    assert_eq!(lease_one(store.as_ref(), "worker", NOW_MS).await, None);
    assert_eq!(finish(store.as_ref(), &third).await.len(), 1);
    // What is stored is not waited for.
    push(store.as_ref(), handle(6), &[handle(3), handle(4)]).await;
    assert_eq!(outputs_to_lease(store.as_ref()).await, [handle(5), handle(6)]);
}

pub(crate) async fn transactions_of_one_work_may_need_earlier_ones(store: Arc<dyn Store>) {
    let chained = work(vec![
        transaction(0, handle(1), &[]),
        transaction(1, handle(2), &[handle(1)]),
        transaction(2, handle(3), &[handle(1), handle(2)]),
    ]);
    store.record_pushed(CHAIN, &chained).await.unwrap();
    for expected in 1..=3 {
        let leased = store.lease_transactions(&request("worker", NOW_MS, 10)).await.unwrap();
        assert_eq!(
            leased.iter().map(|leased| leased.outputs[0]).collect::<Vec<_>>(),
            [handle(expected)]
        );
        finish(store.as_ref(), &leased[0]).await;
    }
    let backwards = work(vec![transaction(0, handle(5), &[handle(6)]), transaction(1, handle(6), &[])]);
    let error = store.record_pushed(CHAIN, &backwards).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::UnknownHandles(unknown) if *unknown == [handle(6)]),
        "{error}"
    );
}

pub(crate) async fn work_that_needs_an_unknown_handle_records_nothing(store: Arc<dyn Store>) {
    push(store.as_ref(), handle(1), &[]).await;
    let mut refused = work(vec![
        transaction(0, handle(2), &[handle(1)]),
        transaction(1, handle(3), &[handle(8), handle(1), handle(9), handle(8)]),
    ]);
    refused.names = vec![named(b"two", handle(2))];
    let error = store.record_pushed(CHAIN, &refused).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::UnknownHandles(unknown) if *unknown == [handle(8), handle(9)]),
        "{error}"
    );
    assert_eq!(store.recent_blocks(CHAIN, 10).await.unwrap().len(), 1);
    assert_eq!(store.pending_transactions(CHAIN).await.unwrap(), 1);
    assert_eq!(store.known_handles(&[handle(2), handle(3)]).await.unwrap(), [false, false]);
    assert_eq!(store.handles_of_names(&[b"two".to_vec()]).await.unwrap(), [None]);
}

/// Makes handle 1 pending, 2 stored, 3 failed, 4 stored without a transaction, and returns the handle of an admitted input.
async fn one_of_each(store: &dyn Store) -> Handle {
    for tag in [2, 3] {
        push(store, handle(tag), &[]).await;
    }
    let leased = store.lease_transactions(&request("worker", NOW_MS, 2)).await.unwrap();
    finish(store, &leased[0]).await;
    fail(store, &leased[1]).await;
    push(store, handle(1), &[]).await;
    store.add_ciphertexts(&[ciphertext(handle(4), 4)]).await.unwrap();
    let (admitted, handles) = input(7);
    store.admit_input(&admitted, &handles, NOW_MS).await.unwrap();
    handles[1]
}

pub(crate) async fn known_is_what_is_stored_recorded_failed_or_admitted(store: Arc<dyn Store>) {
    let admitted = one_of_each(store.as_ref()).await;
    let asked = [
        handle(9),
        handle(1),
        handle(2),
        handle(3),
        handle(4),
        admitted,
        handle(8),
        handle(1),
    ];
    assert_eq!(
        store.known_handles(&asked).await.unwrap(),
        [false, true, true, true, true, true, false, true]
    );
    assert!(store.known_handles(&[]).await.unwrap().is_empty());
    // All of them can be needed.
    push(store.as_ref(), handle(5), &[handle(1), handle(2), handle(3), handle(4), admitted]).await;
}

pub(crate) async fn work_whose_outputs_are_known_records_nothing(store: Arc<dyn Store>) {
    let admitted = one_of_each(store.as_ref()).await;
    for known in [handle(1), handle(2), handle(3), handle(4), admitted] {
        let mut second = transaction(1, handle(11), &[]);
        second.outputs.push(known);
        let mut refused = work(vec![transaction(0, handle(10), &[]), second]);
        refused.names = vec![named(b"ten", handle(10))];
        let error = store.record_pushed(CHAIN, &refused).await.unwrap_err();
        assert!(
            matches!(&error, StoreError::KnownHandles(handles) if *handles == [known]),
            "{known}: {error}"
        );
    }
    let twice = work(vec![transaction(0, handle(10), &[]), transaction(1, handle(10), &[])]);
    let error = store.record_pushed(CHAIN, &twice).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::KnownHandles(handles) if *handles == [handle(10)]),
        "{error}"
    );
    assert_eq!(store.known_handles(&[handle(10), handle(11)]).await.unwrap(), [false, false]);
    assert_eq!(store.handles_of_names(&[b"ten".to_vec()]).await.unwrap(), [None]);
    assert_eq!(store.pending_transactions(CHAIN).await.unwrap(), 1);
}

pub(crate) async fn pushers_of_the_same_outputs_record_each_once(store: Arc<dyn Store>) {
    const PUSHERS: u8 = 6;
    const OUTPUTS: u8 = 40;
    // Each pushes everything, in pieces that begin elsewhere, and leaves out what others were faster with.
    let pushers = (0..PUSHERS).map(|pusher| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let all: Vec<u8> = (0..OUTPUTS).map(|tag| (tag + pusher * 7) % OUTPUTS).collect();
            for piece in all.chunks(9) {
                let mut left: BTreeSet<u8> = piece.iter().copied().collect();
                loop {
                    let transactions = left.iter().map(|tag| transaction(u64::from(*tag), handle(*tag), &[]));
                    match store.record_pushed(CHAIN, &work(transactions.collect())).await {
                        Ok(()) => break,
                        Err(StoreError::KnownHandles(known)) => left.retain(|tag| !known.contains(&handle(*tag))),
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        })
    });
    for pusher in pushers.collect::<Vec<_>>() {
        pusher.await.unwrap();
    }
    assert_eq!(store.pending_transactions(CHAIN).await.unwrap(), u64::from(OUTPUTS));
    let mut outputs = outputs_to_lease(store.as_ref()).await;
    outputs.sort_unstable();
    let mut expected: Vec<Handle> = (0..OUTPUTS).map(handle).collect();
    expected.sort_unstable();
    assert_eq!(outputs, expected);
    let numbers: Vec<u64> = store
        .recent_blocks(CHAIN, 1000)
        .await
        .unwrap()
        .iter()
        .map(|block| block.number)
        .collect();
    assert!(
        numbers.iter().rev().copied().eq(0..u64::try_from(numbers.len()).unwrap()),
        "{numbers:?}"
    );
}

pub(crate) async fn work_beyond_the_backlog_is_refused_until_there_is_room(store: Arc<dyn Store>) {
    let limited = |tags: &[u8]| PushedWork {
        max_pending: Some(3),
        ..work(tags.iter().map(|tag| transaction(u64::from(*tag), handle(*tag), &[])).collect())
    };
    store.record_pushed(CHAIN, &limited(&[1, 2])).await.unwrap();
    let error = store.record_pushed(CHAIN, &limited(&[3, 4])).await.unwrap_err();
    assert!(matches!(error, StoreError::Backlog { limit: 3 }), "{error}");
    assert_eq!(store.known_handles(&[handle(3), handle(4)]).await.unwrap(), [false, false]);
    store.record_pushed(CHAIN, &limited(&[3])).await.unwrap();
    store.record_pushed(CHAIN, &limited(&[4])).await.unwrap_err();
    // What is known needs no room.
    let error = store.record_pushed(CHAIN, &limited(&[1, 4])).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::KnownHandles(known) if *known == [handle(1)]),
        "{error}"
    );
    let leased = store.lease_transactions(&request("worker", NOW_MS, 2)).await.unwrap();
    finish(store.as_ref(), &leased[0]).await;
    fail(store.as_ref(), &leased[1]).await;
    store.record_pushed(CHAIN, &limited(&[4, 5])).await.unwrap();
    assert_eq!(store.pending_transactions(CHAIN).await.unwrap(), 3);
}

pub(crate) async fn a_followed_chain_takes_no_pushed_work(store: Arc<dyn Store>) {
    record(store.as_ref(), 5, vec![transaction(0, handle(1), &[])]).await;
    let error = store
        .record_pushed(CHAIN, &work(vec![transaction(0, handle(2), &[])]))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Followed), "{error}");
    assert_eq!(store.known_handles(&[handle(2)]).await.unwrap(), [false]);
    // Followed from the start again, the chain can be the other kind.
    store.remove_blocks_from(CHAIN, 0).await.unwrap();
    push(store.as_ref(), handle(2), &[]).await;
}

pub(crate) async fn a_chain_with_pushed_work_is_not_followed_and_nothing_is_withdrawn(store: Arc<dyn Store>) {
    push(store.as_ref(), handle(1), &[]).await;
    let error = store.record_blocks(CHAIN, &[empty_block(5)]).await.unwrap_err();
    assert!(matches!(error, StoreError::PushedTo), "{error}");
    let error = store.remove_blocks_from(CHAIN, 0).await.unwrap_err();
    assert!(matches!(error, StoreError::PushedTo), "{error}");
    assert_eq!(outputs_to_lease(store.as_ref()).await, [handle(1)]);
}

pub(crate) async fn transactions_asked_for_first_are_leased_before_older_ones(store: Arc<dyn Store>) {
    for tag in 1..=5 {
        push(store.as_ref(), handle(tag), &[]).await;
    }
    push(store.as_ref(), handle(6), &[handle(1)]).await;
    let all = store.lease_transactions(&request("looker", NOW_MS, 10)).await.unwrap();
    let numbers: Vec<_> = all.iter().map(|leased| leased.lease.transaction()).collect();
    for leased in &all[1..] {
        store.release_lease(&leased.lease).await.unwrap();
    }
    // The first is leased, the last two are asked for, and a number beyond all is nobody's.
    let asked = |first: Vec<_>, limit| LeaseRequest {
        first,
        ..request("worker", NOW_MS, limit)
    };
    let leased = store
        .lease_transactions(&asked(vec![numbers[4], numbers[0], numbers[3]], 3))
        .await
        .unwrap();
    let outputs: Vec<Handle> = leased.iter().map(|leased| leased.outputs[0]).collect();
    assert_eq!(outputs, [handle(4), handle(5), handle(2)]);
    // What waits is not leased however it is asked for.
    let freed = finish(store.as_ref(), &all[0]).await;
    push(store.as_ref(), handle(7), &[handle(6)]).await;
    let leased = store.lease_transactions(&asked(freed, 1)).await.unwrap();
    assert_eq!(leased[0].outputs, [handle(6)]);
    assert_eq!(outputs_to_lease(store.as_ref()).await, [handle(3)]);
}
