//! Workers: sharing, stopping, crashing, panicking.

use std::{num::NonZero, sync::Arc, time::Duration};

use cipherloom_coprocessor::{Coprocessor, HandleStatus, SignedCiphertext};
use cipherloom_engine::PoolOptions;
use cipherloom_fhe::FheBackend;
use cipherloom_primitives::{Computation, FheType, Handle, Operation, TypedOperation, U256};
use cipherloom_store::{LeaseRequest, LeasedTransaction, SqliteStore, Store};
use tokio_util::sync::CancellationToken;

use crate::{
    backend::ObservedBackend,
    fixture::{Bench, CHAIN, Keys, PATIENCE, add, block, bootstraps_of, handle, signer, start_workers, transaction, trivial, until_idle},
};

/// How many transactions [`chained_transactions`] has.
const LINKS: u8 = 20;

/// A transaction that publishes a first value, and 20 that add one to the value before. They have computations that nothing needs, too.
fn chained_transactions() -> Vec<cipherloom_chain::BlockEvents> {
    let first = block(1, vec![transaction(0, vec![trivial(1, handle(1))], &[handle(1)])]);
    let link = |number: u8| {
        let (one, sum) = (handle(100 + number), handle(1 + number));
        let computations = vec![trivial(1, one), trivial(7, handle(200 + number)), add(handle(number), one, sum)];
        block(u64::from(number) + 1, vec![transaction(0, computations, &[sum])])
    };
    std::iter::once(first).chain((1..=LINKS).map(link)).collect()
}

/// The handle and the value that the chain ends with.
fn end_of_chain() -> (Handle, U256) {
    (handle(1 + LINKS), U256::from(1 + LINKS))
}

/// Counts the bootstraps of one link of the chain.
fn bootstraps_per_link() -> usize {
    let count = bootstraps_of(&[trivial(1, handle(101)), add(handle(1), handle(101), handle(2))]);
    assert!(count > 1);
    count
}

fn decrypted(keys: &Keys, ciphertext: &SignedCiphertext) -> U256 {
    let decryptor = keys.set.decryptor().unwrap();
    decryptor.decrypt(ciphertext.handle.fhe_type(), &ciphertext.bytes).unwrap()
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
        let backend = Arc::clone(&backend) as Arc<dyn FheBackend>;
        let engine = keys.engine(backend, PoolOptions::default());
        Coprocessor::new(config, engine, Arc::clone(&store), signer())
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
    assert_eq!(backend.bootstraps(), usize::from(LINKS) * bootstraps_per_link());
    let (last, value) = end_of_chain();
    assert_eq!(decrypted(&keys, &first.signed_ciphertext(last).await.unwrap()), value);
}

#[test]
fn a_crash_in_the_middle_of_an_evaluation_is_made_up_for_after_restart() {
    let keys = Keys::clear();
    let path = keys.directory.path().join("store.sqlite");
    let per_link = bootstraps_per_link();
    // The process dies in the middle of the thirteenth link.
    let dying = Arc::new(ObservedBackend::gated_after(keys.backend(), 12 * per_link + per_link / 2));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).await.unwrap());
        let backend = Arc::clone(&dying) as Arc<dyn FheBackend>;
        let coprocessor = keys.coprocessor(backend, store);
        coprocessor.record_blocks(&chained_transactions()).await.unwrap();
        tokio::spawn(async move { coprocessor.work(CancellationToken::new()).await });
        let watched = Arc::clone(&dying);
        tokio::task::spawn_blocking(move || watched.wait_until_held()).await.unwrap();
    });
    // Nothing is left to publish what the engine's threads may still compute.
    runtime.shutdown_timeout(PATIENCE);
    dying.open_gate();

    let backend = Arc::new(ObservedBackend::new(keys.backend()));
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        // The old process gives the file free when its last thread has ended.
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
        assert_eq!(pending, 8, "12 links of 20 were finished");
        let observed = Arc::clone(&backend) as Arc<dyn FheBackend>;
        let coprocessor = keys.coprocessor(observed, Arc::clone(&store));
        let (stop, workers) = start_workers(&coprocessor);
        until_idle(&coprocessor, &store).await;
        stop.cancel();
        workers.await.unwrap();
        assert_eq!(backend.bootstraps(), 8 * per_link, "finished transactions are not computed again");
        let (last, value) = end_of_chain();
        assert_eq!(decrypted(&keys, &coprocessor.signed_ciphertext(last).await.unwrap()), value);
    });
}

/// A sum of two inputs, recorded in block 1; its result has handle 3.
async fn record_sum(bench: &Bench) -> usize {
    let given = bench.admit(&[(FheType::Uint64, 1), (FheType::Uint64, 3)]).await;
    let sum = add(given[0], given[1], handle(3));
    let bootstraps = bootstraps_of(std::slice::from_ref(&sum));
    let recorded = block(1, vec![transaction(0, vec![sum], &[handle(3)])]);
    bench.coprocessor.record_blocks(&[recorded]).await.unwrap();
    bootstraps
}

/// The admission of [`record_sum`]'s inputs passes the gate too.
const ADMISSIONS: usize = 1;

async fn wait_until_held(bench: &Bench) {
    let backend = Arc::clone(&bench.backend);
    tokio::task::spawn_blocking(move || backend.wait_until_held()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_gives_the_unfinished_transaction_back() {
    let bench = Bench::with(
        |keys| ObservedBackend::gated_after(keys.backend(), ADMISSIONS + 2),
        |_, pool| pool.batch = NonZero::new(1),
    )
    .await;
    let all = record_sum(&bench).await;
    let (stop, workers) = bench.start_workers();
    wait_until_held(&bench).await;
    stop.cancel();
    // The workers end although a batch is held; it is the last one.
    tokio::time::timeout(PATIENCE, workers).await.unwrap().unwrap();
    let leased = lease(&bench, 0).await;
    assert_eq!(leased.len(), 1, "the lease was not given back");
    assert_eq!(leased[0].attempts, 1, "stopping counted as a failed attempt");
    bench.store.release_lease(&leased[0].lease).await.unwrap();
    bench.backend.open_gate();
    bench.compute_all().await;
    assert_eq!(bench.value(handle(3)).await, U256::from(4));
    let done_twice = bench.backend.bootstraps() - all;
    assert!(
        done_twice < all,
        "the evaluation went on after it was stopped: {done_twice} of {all}"
    );
}

async fn lease(bench: &Bench, now_ms: u64) -> Vec<LeasedTransaction> {
    let request = LeaseRequest {
        chain_id: CHAIN,
        owner: "other".to_owned(),
        now_ms,
        duration_ms: 1,
        limit: 1,
        first: Vec::new(),
    };
    bench.store.lease_transactions(&request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evaluation_whose_transaction_is_withdrawn_ends() {
    let bench = Bench::with(
        |keys| ObservedBackend::gated_after(keys.backend(), ADMISSIONS + 2),
        |config, pool| {
            pool.batch = NonZero::new(1);
            config.lease_duration = Duration::from_millis(60);
        },
    )
    .await;
    let all = record_sum(&bench).await;
    let (stop, workers) = bench.start_workers();
    wait_until_held(&bench).await;
    bench.coprocessor.remove_blocks_from(1).await.unwrap();
    tokio::time::timeout(PATIENCE, async {
        while bench.coprocessor.engine_statistics().programs > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the evaluation is still under way");
    bench.backend.open_gate();
    stop.cancel();
    workers.await.unwrap();
    assert!(bench.backend.bootstraps() < all);
    assert_eq!(bench.status(handle(3)).await, HandleStatus::Unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn independent_transactions_share_batches() {
    let bench = Bench::with(
        |keys| ObservedBackend::gated_after(keys.backend(), 1),
        |config, pool| {
            config.workers = 16;
            pool.threads = NonZero::new(1);
            pool.batch = NonZero::new(16);
        },
    )
    .await;
    let given = bench.admit(&[(FheType::Uint64, 1), (FheType::Uint64, 3)]).await;
    let sum = |number: u8| transaction(number.into(), vec![add(given[0], given[1], handle(number))], &[handle(number)]);
    let sums = (1..=16).map(sum);
    bench.coprocessor.record_blocks(&[block(1, sums.collect())]).await.unwrap();
    let (stop, workers) = bench.start_workers();
    // The first bootstrap is held until all transactions are under way.
    tokio::time::timeout(PATIENCE, async {
        while bench.coprocessor.engine_statistics().programs < 16 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    bench.backend.open_gate();
    until_idle(&bench.coprocessor, &bench.store).await;
    stop.cancel();
    workers.await.unwrap();
    let mean = bench.coprocessor.engine_statistics().mean_batch();
    assert!(mean > 8.0, "batches have {mean} bootstraps on average");
    for number in 1..=16 {
        assert_eq!(bench.value(handle(number)).await, U256::from(4));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_evaluation_fails_its_transaction_only() {
    let bench = Bench::with(
        |keys| ObservedBackend::panicking_on(keys.backend(), Operation::Rand),
        |config, _| {
            config.max_attempts = 2;
            // The second attempt comes when the lease of the first is over.
            config.lease_duration = Duration::from_millis(60);
        },
    )
    .await;
    let random = Computation {
        operation: TypedOperation::Rand {
            ty: FheType::Uint64,
            seed: [1; 16],
            random_bits: 64,
        },
        inputs: Vec::new(),
        result: handle(2),
    };
    let bad = transaction(0, vec![random], &[handle(2)]);
    let good = transaction(1, vec![trivial(3, handle(3))], &[handle(3)]);
    bench.coprocessor.record_blocks(&[block(1, vec![bad, good])]).await.unwrap();
    bench.compute_all().await;
    assert!(matches!(bench.status(handle(2)).await, HandleStatus::Failed(reason) if reason.contains("panicked")));
    assert_eq!(bench.value(handle(3)).await, U256::from(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_kills_every_worker_is_given_up() {
    let bench = Bench::with(|keys| ObservedBackend::new(keys.backend()), |config, _| config.max_attempts = 3).await;
    bench
        .coprocessor
        .record_blocks(&[block(1, vec![transaction(0, vec![trivial(1, handle(1))], &[handle(1)])])])
        .await
        .unwrap();
    // Three workers leased it and were never heard of again.
    for attempt in 0..3u64 {
        assert_eq!(lease(&bench, attempt).await.len(), 1);
    }
    bench.compute_all().await;
    assert_eq!(
        bench.status(handle(1)).await,
        HandleStatus::Failed("given up after 3 attempts".to_owned())
    );
    assert_eq!(bench.backend.bootstraps(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_renewed_for_as_long_as_the_evaluation_runs() {
    let bench = Bench::with(
        |keys| ObservedBackend::gated_after(keys.backend(), ADMISSIONS),
        |config, _| config.lease_duration = Duration::from_millis(60),
    )
    .await;
    record_sum(&bench).await;
    let (stop, workers) = bench.start_workers();
    wait_until_held(&bench).await;
    let now_ms = cipherloom_coprocessor::system_clock();
    // Ten lease times later it is still not for others.
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(lease(&bench, now_ms()).await.is_empty());
    }
    bench.backend.open_gate();
    until_idle(&bench.coprocessor, &bench.store).await;
    stop.cancel();
    workers.await.unwrap();
    assert_eq!(bench.value(handle(3)).await, U256::from(4));
}
