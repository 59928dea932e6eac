//! Recording: refusals, reorganisations, waiting.

use std::time::Duration;

use cipherloom_chain::GrantEvent;
use cipherloom_coprocessor::{CoprocessorError, HandleStatus};
use cipherloom_primitives::U256;
use cipherloom_store::{Grantee, StoreError};

use crate::fixture::{Bench, PATIENCE, TOKEN, add, block, bootstraps_of, handle, transaction, trivial};

#[tokio::test(flavor = "multi_thread")]
async fn a_reorganisation_withdraws_grants_and_unfinished_work_and_keeps_results() {
    let bench = Bench::new().await;
    bench
        .coprocessor
        .record_blocks(&[block(1, vec![transaction(0, vec![trivial(1, handle(1))], &[handle(1)])])])
        .await
        .unwrap();
    bench
        .coprocessor
        .record_blocks(&[block(2, vec![transaction(0, vec![trivial(2, handle(2))], &[handle(2)])])])
        .await
        .unwrap();
    bench.compute_all().await;
    bench
        .coprocessor
        .record_blocks(&[block(3, vec![transaction(0, vec![trivial(3, handle(3))], &[handle(3)])])])
        .await
        .unwrap();

    bench.coprocessor.remove_blocks_from(2).await.unwrap();
    assert_eq!(bench.store.grants_of(handle(1)).await.unwrap(), [Grantee::Account(TOKEN)]);
    assert!(bench.store.grants_of(handle(2)).await.unwrap().is_empty());
    // A result belongs to the transaction that computed it, and goes with it.
    assert_eq!(bench.status(handle(2)).await, HandleStatus::Unknown);
    assert_eq!(bench.status(handle(3)).await, HandleStatus::Unknown);

    // The other branch has the computed transaction again and a new one that uses its result.
    let mut other = block(
        2,
        vec![
            transaction(0, vec![trivial(2, handle(2))], &[handle(2)]),
            transaction(1, vec![add(handle(2), handle(1), handle(4))], &[handle(4)]),
        ],
    );
    other.hash.0[0] ^= 1;
    let before = bench.backend.bootstraps();
    bench.coprocessor.record_blocks(&[other]).await.unwrap();
    bench.compute_all().await;
    assert_eq!(bench.value(handle(4)).await, U256::from(3));
    assert_eq!(bench.value(handle(2)).await, U256::from(2));
    let sum = bootstraps_of(&[add(handle(2), handle(1), handle(4))]);
    assert_eq!(bench.backend.bootstraps(), before + sum);
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_do_not_continue_are_refused() {
    let bench = Bench::new().await;
    bench.coprocessor.record_blocks(&[block(5, Vec::new())]).await.unwrap();
    let error = bench.coprocessor.record_blocks(&[block(5, Vec::new())]).await.unwrap_err();
    assert!(
        matches!(error, CoprocessorError::Store(StoreError::NotAChild { number: 5, .. })),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_of_an_earlier_handle_computes_nothing() {
    let bench = Bench::new().await;
    bench
        .coprocessor
        .record_blocks(&[block(1, vec![transaction(0, vec![trivial(1, handle(1))], &[handle(1)])])])
        .await
        .unwrap();
    bench.compute_all().await;
    let mut later = transaction(0, Vec::new(), &[]);
    later.grants.push(GrantEvent::PublicDecryption { handle: handle(1) });
    bench.coprocessor.record_blocks(&[block(2, vec![later])]).await.unwrap();
    assert_eq!(bench.store.pending_transactions(crate::fixture::CHAIN).await.unwrap(), 0);
    assert_eq!(
        bench.store.grants_of(handle(1)).await.unwrap(),
        [Grantee::PublicDecryption, Grantee::Account(TOKEN)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_ends_with_the_result_or_with_the_time() {
    let bench = Bench::new().await;
    let waiting = bench.coprocessor.wait_for(handle(1), Duration::from_millis(30)).await.unwrap();
    assert_eq!(waiting, HandleStatus::Unknown);

    let coprocessor = bench.coprocessor.clone();
    let waiter = tokio::spawn(async move { coprocessor.wait_for(handle(1), PATIENCE).await });
    bench
        .coprocessor
        .record_blocks(&[block(1, vec![transaction(0, vec![trivial(1, handle(1))], &[handle(1)])])])
        .await
        .unwrap();
    let waiting = bench.coprocessor.wait_for(handle(1), Duration::from_millis(30)).await.unwrap();
    assert_eq!(waiting, HandleStatus::Pending);
    let (stop, workers) = bench.start_workers();
    assert_eq!(waiter.await.unwrap().unwrap(), HandleStatus::Computed);
    stop.cancel();
    workers.await.unwrap();
}
