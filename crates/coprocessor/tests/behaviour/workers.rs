//! Workers: sharing, stopping, crashing, panicking.

use std::{sync::Arc, time::Duration};

use cipherloom_coprocessor::{Coprocessor, HandleStatus};
use cipherloom_fhe::FheBackend;
use cipherloom_primitives::{Operation, U256};
use cipherloom_store::{LeaseRequest, SqliteStore, Store};
use tokio_util::sync::CancellationToken;

use crate::{
    backend::ObservedBackend,
    fixture::{Bench, CHAIN, Keys, PATIENCE, add, binary, block, handle, signer, start_workers, transaction, trivial, until_idle},
};

/// 20 transactions of three computations each, two of which depend on the one before.
fn chained_transactions() -> Vec<cipherloom_chain::BlockEvents> {
    (0..20u8)
        .map(|number| {
            let (one, sum) = (handle(100 + number), handle(1 + number));
            let before = if number == 0 { one } else { handle(number) };
            let computations = vec![trivial(1, one), trivial(7, handle(200 + number)), add(before, one, sum)];
            block(u64::from(number) + 1, vec![transaction(0, computations, &[sum])])
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_coprocessors_on_one_store_compute_each_transaction_once() {
    let keys = Keys::clear();
    let backend = Arc::new(ObservedBackend::new(keys.backend()));
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().await.unwrap());
    let coprocessor = |owner: &str| {
        let mut config = keys.config();
        config.owner = owner.to_owned();
        config.workers = 3;
        Coprocessor::new(config, Arc::clone(&backend) as Arc<dyn FheBackend>, Arc::clone(&store), signer())
    };
    let (first, second) = (coprocessor("first"), coprocessor("second"));
    first.record_blocks(&chained_transactions()).await.unwrap();
    let stop = CancellationToken::new();
    let workers = [first.clone(), second].map(|coprocessor| {
        let stop = stop.clone();
        tokio::spawn(async move { coprocessor.work(stop).await })
    });
    until_idle(&first, &store).await;
    stop.cancel();
    for worker in workers {
        worker.await.unwrap();
    }
    // Two computations of each transaction are needed.
    assert_eq!(backend.evaluations(), 40);
    let last = first.signed_ciphertext(handle(20)).await.unwrap();
    assert_eq!(
        keys.set.decryptor().unwrap().decrypt(handle(20).fhe_type(), &last.bytes).unwrap(),
        U256::from(21)
    );
}

#[test]
fn a_crash_in_the_middle_of_an_evaluation_is_made_up_for_after_restart() {
    let keys = Keys::clear();
    let path = keys.directory.path().join("store.sqlite");
    // The process dies while the 25th evaluation runs, in the middle of a transaction.
    let dying = Arc::new(ObservedBackend::gated_after(keys.backend(), 24));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).await.unwrap());
        let coprocessor = Coprocessor::new(keys.config(), Arc::clone(&dying) as Arc<dyn FheBackend>, store, signer());
        coprocessor.record_blocks(&chained_transactions()).await.unwrap();
        tokio::spawn(async move { coprocessor.work(CancellationToken::new()).await });
        let watched = Arc::clone(&dying);
        tokio::task::spawn_blocking(move || watched.wait_until_held()).await.unwrap();
    });
    runtime.shutdown_background();
    dying.open_gate();

    let backend = Arc::new(ObservedBackend::new(keys.backend()));
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        // The old thread gives the file free when it notices that it was stopped.
        let store = tokio::time::timeout(PATIENCE, async {
            loop {
                match SqliteStore::open(&path).await {
                    Ok(store) => return store,
                    Err(error) => assert!(matches!(error, cipherloom_store::StoreError::InUse(_)), "{error}"),
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let store: Arc<dyn Store> = Arc::new(store.await.unwrap());
        let pending = store.pending_transactions(CHAIN).await.unwrap();
        assert_eq!(pending, 8, "12 transactions of 2 evaluations were finished");
        let coprocessor = Coprocessor::new(
            keys.config(),
            Arc::clone(&backend) as Arc<dyn FheBackend>,
            Arc::clone(&store),
            signer(),
        );
        let (stop, workers) = start_workers(&coprocessor);
        until_idle(&coprocessor, &store).await;
        stop.cancel();
        workers.await.unwrap();
        assert_eq!(backend.evaluations(), 16, "finished transactions are not computed again");
        let last = coprocessor.signed_ciphertext(handle(20)).await.unwrap();
        assert_eq!(
            keys.set.decryptor().unwrap().decrypt(handle(20).fhe_type(), &last.bytes).unwrap(),
            U256::from(21)
        );
    });
}

// On one thread, so that yielding lets the workers run before the gate opens.
#[tokio::test]
async fn stopping_gives_the_unfinished_transaction_back() {
    let bench = Bench::with(|keys| ObservedBackend::gated_after(keys.backend(), 1), |_| {}).await;
    let computations = vec![
        trivial(1, handle(1)),
        add(handle(1), handle(1), handle(2)),
        add(handle(2), handle(2), handle(3)),
    ];
    bench
        .coprocessor
        .record_blocks(&[block(1, vec![transaction(0, computations, &[handle(3)])])])
        .await
        .unwrap();
    let (stop, workers) = bench.start_workers();
    let backend = Arc::clone(&bench.backend);
    tokio::task::spawn_blocking(move || backend.wait_until_held()).await.unwrap();
    stop.cancel();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    bench.backend.open_gate();
    tokio::time::timeout(PATIENCE, workers).await.unwrap().unwrap();
    assert_eq!(bench.backend.evaluations(), 2, "the evaluation went on after it was stopped");

    let request = LeaseRequest {
        chain_id: CHAIN,
        owner: "next".to_owned(),
        now_ms: 0,
        duration_ms: 1,
        limit: 1,
    };
    let leased = bench.store.lease_transactions(&request).await.unwrap();
    assert_eq!(leased.len(), 1, "the lease was not given back");
    assert_eq!(leased[0].attempts, 1, "stopping counted as a failed attempt");
    bench.store.release_lease(&leased[0].lease).await.unwrap();
    bench.compute_all().await;
    assert_eq!(bench.value(handle(3)).await, U256::from(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_evaluation_fails_its_transaction_only() {
    let bench = Bench::with(
        |keys| ObservedBackend::panicking_on(keys.backend(), Operation::Mul),
        |config| {
            config.max_attempts = 2;
            // The second attempt comes when the lease of the first is over.
            config.lease_duration = Duration::from_millis(60);
        },
    )
    .await;
    let bad = transaction(
        0,
        vec![trivial(2, handle(1)), binary(Operation::Mul, handle(1), handle(1), handle(2))],
        &[handle(2)],
    );
    let good = transaction(1, vec![trivial(3, handle(3))], &[handle(3)]);
    bench.coprocessor.record_blocks(&[block(1, vec![bad, good])]).await.unwrap();
    bench.compute_all().await;
    assert!(matches!(bench.status(handle(2)).await, HandleStatus::Failed(reason) if reason.contains("panicked")));
    assert_eq!(bench.value(handle(3)).await, U256::from(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_kills_every_worker_is_given_up() {
    let bench = Bench::with(|keys| ObservedBackend::new(keys.backend()), |config| config.max_attempts = 3).await;
    bench
        .coprocessor
        .record_blocks(&[block(1, vec![transaction(0, vec![trivial(1, handle(1))], &[handle(1)])])])
        .await
        .unwrap();
    // Three workers leased it and were never heard of again.
    for attempt in 0..3u64 {
        let request = LeaseRequest {
            chain_id: CHAIN,
            owner: "dead".to_owned(),
            now_ms: attempt,
            duration_ms: 1,
            limit: 1,
        };
        assert_eq!(bench.store.lease_transactions(&request).await.unwrap().len(), 1);
    }
    bench.compute_all().await;
    assert_eq!(
        bench.status(handle(1)).await,
        HandleStatus::Failed("given up after 3 attempts".to_owned())
    );
    assert_eq!(bench.backend.evaluations(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_renewed_for_as_long_as_the_evaluation_runs() {
    let bench = Bench::with(
        |keys| ObservedBackend::gated_after(keys.backend(), 0),
        |config| config.lease_duration = Duration::from_millis(60),
    )
    .await;
    bench
        .coprocessor
        .record_blocks(&[block(1, vec![transaction(0, vec![trivial(1, handle(1))], &[handle(1)])])])
        .await
        .unwrap();
    let (stop, workers) = bench.start_workers();
    let backend = Arc::clone(&bench.backend);
    tokio::task::spawn_blocking(move || backend.wait_until_held()).await.unwrap();
    let now_ms = cipherloom_coprocessor::system_clock();
    // Ten lease times later it is still not for others.
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let request = LeaseRequest {
            chain_id: CHAIN,
            owner: "other".to_owned(),
            now_ms: now_ms(),
            duration_ms: 1,
            limit: 1,
        };
        assert!(bench.store.lease_transactions(&request).await.unwrap().is_empty());
    }
    bench.backend.open_gate();
    until_idle(&bench.coprocessor, &bench.store).await;
    stop.cancel();
    workers.await.unwrap();
    assert_eq!(bench.value(handle(1)).await, U256::from(1));
}
