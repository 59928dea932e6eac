//! Noise-squashed lists for committees, on toy parameters.

use std::{sync::Arc, time::Duration};

use alloy::{
    primitives::keccak256,
    signers::{SignerSync as _, local::PrivateKeySigner},
};
use cipherloom_chain::BlockEvents;
use cipherloom_coprocessor::{
    Coprocessor, CoprocessorError, Machine, SignedSquashed, Squashing, SquashingKeys, SquashingOptions,
    metrics::{METRICS_CONTENT_TYPE, Metrics},
};
use cipherloom_engine::PoolOptions;
use cipherloom_fhe::{FheBackend, ParameterSet, insecure_test_keys};
use cipherloom_primitives::{
    B256, FheType, Handle, HotWindow, U256,
    eip712::{recover_signer, squashed_ciphertext_attestation_digest},
};
use cipherloom_store::{SqliteStore, SquashedList, Store};
use futures_util::future::join_all;

use crate::{
    backend::ObservedBackend,
    fixture::{CHAIN, Keys, PATIENCE, add, block, handle, metadata, signer, start_workers, transaction, trivial, typed_handle, until_idle},
};

/// A coprocessor that squashes, and what it counts.
struct Squasher {
    keys: Keys,
    store: Arc<dyn Store>,
    coprocessor: Coprocessor,
    squashing: Arc<Squashing>,
    metrics: Metrics,
}

/// What differs between coprocessors.
struct Setup {
    options: SquashingOptions,
    signer: PrivateKeySigner,
    store: Option<Arc<dyn Store>>,
    backend: Option<Arc<dyn FheBackend>>,
    hot_window: HotWindow,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            options: SquashingOptions {
                concurrent: 1,
                ..SquashingOptions::default()
            },
            signer: signer(),
            store: None,
            backend: None,
            hot_window: HotWindow::DEFAULT,
        }
    }
}

impl Squasher {
    async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    async fn with(setup: Setup) -> Self {
        let keys = Keys::squashing();
        let store = match setup.store {
            Some(store) => store,
            None => Arc::new(SqliteStore::in_memory().await.unwrap()),
        };
        let metrics = Metrics::new();
        let mut config = keys.config();
        config.metrics = metrics.clone();
        config.hot_window = setup.hot_window;
        config.reorganisation_margin_blocks = 0;
        let backend = setup.backend.unwrap_or_else(|| keys.backend());
        let engine = keys.engine(backend, PoolOptions::default());
        let squashing = Squashing::start(setup.options, metrics.clone());
        let coprocessor = Coprocessor::new(config, engine, Arc::clone(&store), setup.signer)
            .with_squashing(Arc::clone(&squashing), SquashingKeys::KeySet(Arc::clone(&keys.set)));
        Self {
            keys,
            store,
            coprocessor,
            squashing,
            metrics,
        }
    }

    /// Records blocks and computes what is in them.
    async fn compute(&self, blocks: Vec<BlockEvents>) {
        self.coprocessor.record_blocks(&blocks).await.unwrap();
        let (stop, workers) = start_workers(&self.coprocessor);
        until_idle(&self.coprocessor, &self.store).await;
        stop.cancel();
        workers.await.unwrap();
    }

    async fn squashed(&self, handle: Handle) -> SignedSquashed {
        self.coprocessor.signed_squashed(handle, PATIENCE).await.unwrap()
    }

    fn decrypt(&self, squashed: &SignedSquashed) -> U256 {
        let secrets = self.keys.set.squashing_secrets().unwrap();
        secrets
            .decrypt_list(ParameterSet::InsecureToy, squashed.handle.fhe_type(), &squashed.bytes)
            .unwrap()
    }

    /// Reads a metric without labels, or with those that are written as in the text format.
    fn count(&self, metric: &str) -> u64 {
        assert!(METRICS_CONTENT_TYPE.starts_with("text/plain"));
        let text = String::from_utf8(self.metrics.encode()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {metric} in {text}")).parse().unwrap()
    }
}

/// Computes 12 + 30 under handle 3.
fn sum() -> Vec<BlockEvents> {
    vec![block(
        1,
        vec![transaction(
            0,
            vec![trivial(12, handle(1)), trivial(30, handle(2)), add(handle(1), handle(2), handle(3))],
            &[handle(3)],
        )],
    )]
}

/// Publishes a public value under each handle.
fn publics(handles: &[Handle]) -> Vec<BlockEvents> {
    let computations = handles.iter().map(|handle| trivial(1, *handle)).collect();
    vec![block(1, vec![transaction(0, computations, handles)])]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_for_a_handle_gets_the_same_bytes_squashed_once() {
    let squasher = Squasher::new().await;
    squasher.compute(sum()).await;
    let asked = join_all((0..8).map(|_| squasher.squashed(handle(3)))).await;
    assert!(asked.iter().all(|one| *one == asked[0]));
    assert_eq!(squasher.decrypt(&asked[0]), U256::from(42));
    assert_eq!(squasher.count("coprocessor_squashed_values_total"), 1);
    assert_eq!(squasher.squashed(handle(3)).await, asked[0]);
    assert!(squasher.count("coprocessor_squashed_lists_total{from=\"memory\"}") >= 1);
    assert_eq!(squasher.count("coprocessor_squashing_waiting"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coprocessors_with_values_in_other_forms_sign_the_same_bytes() {
    let one = Squasher::new().await;
    let other_signer = PrivateKeySigner::from_bytes(&B256::repeat_byte(0x22)).unwrap();
    let other = Squasher::with(Setup {
        signer: other_signer.clone(),
        // It reads its own evaluation key, and packs values as soon as they are there.
        backend: Some(Arc::new(cipherloom_fhe::CpuBackend::new(one.keys.set.evaluation_keys().unwrap()))),
        hot_window: HotWindow(0),
        ..Setup::default()
    })
    .await;
    let list = one.keys.encrypt(&[(FheType::Uint64, 30), (FheType::Bool, 1)], &metadata());
    let mut found = Vec::new();
    for squasher in [&one, &other] {
        let inputs = squasher
            .coprocessor
            .admit_input(metadata(), list.clone(), Vec::new())
            .await
            .unwrap()
            .handles;
        let computations = vec![trivial(12, handle(1)), add(handle(1), inputs[0], handle(3))];
        squasher
            .compute(vec![block(1, vec![transaction(0, computations, &[handle(3)])])])
            .await;
        // An input that nothing computed with is squashed too.
        let (sum, bit) = (squasher.squashed(handle(3)).await, squasher.squashed(inputs[1]).await);
        assert_eq!((squasher.decrypt(&sum), squasher.decrypt(&bit)), (U256::from(42), U256::from(1)));
        for squashed in [&sum, &bit] {
            assert_eq!(squashed.digest, keccak256(&squashed.bytes));
            let attested = squashed_ciphertext_attestation_digest(squashed.handle, squashed.key_set_id, squashed.digest);
            let signer = recover_signer(attested, &squashed.signature.as_bytes());
            assert_eq!(signer, Some(squasher.coprocessor.signer_address()));
        }
        found.push([sum.bytes, bit.bytes]);
    }
    assert_eq!(found[0], found[1]);
    assert_eq!(other.coprocessor.signer_address(), other_signer.address());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_squashed_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let before = {
        let store = SqliteStore::open(&path).await.unwrap();
        let squasher = Squasher::with(Setup {
            store: Some(Arc::new(store.clone())),
            ..Setup::default()
        })
        .await;
        squasher.compute(sum()).await;
        let before = squasher.squashed(handle(3)).await;
        squasher.squashing.shutdown().await;
        store.close().await;
        before
    };
    let store = SqliteStore::open(&path).await.unwrap();
    let squasher = Squasher::with(Setup {
        store: Some(Arc::new(store)),
        ..Setup::default()
    })
    .await;
    assert_eq!(squasher.squashed(handle(3)).await, before);
    assert_eq!(squasher.count("coprocessor_squashed_values_total"), 0);
    assert_eq!(squasher.count("coprocessor_squashed_lists_total{from=\"store\"}"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_that_somebody_put_into_the_store_are_not_vouched_for() {
    let squasher = Squasher::with(Setup {
        options: SquashingOptions {
            memory_bytes: 0,
            ..Setup::default().options
        },
        ..Setup::default()
    })
    .await;
    squasher.compute(sum()).await;
    let right = squasher.squashed(handle(3)).await;
    let stored = squasher.store.squashed(handle(3)).await.unwrap().unwrap();
    let mallory = PrivateKeySigner::from_bytes(&B256::repeat_byte(0x66)).unwrap();
    let wrong = vec![7u8; right.bytes.len()];
    let digest = keccak256(&wrong);
    let attested = squashed_ciphertext_attestation_digest(handle(3), right.key_set_id, digest);
    for attestation in [mallory.sign_hash_sync(&attested).unwrap().as_bytes(), stored.attestation] {
        let forged = SquashedList {
            bytes: wrong.clone(),
            digest,
            attestation,
            ..stored.clone()
        };
        assert!(squasher.store.add_squashed(&forged, 1).await.unwrap());
        assert_eq!(squasher.squashed(handle(3)).await, right);
        assert_eq!(
            squasher.store.squashed(handle(3)).await.unwrap(),
            Some(stored.clone()),
            "it is put right"
        );
    }
    assert_eq!(squasher.count("coprocessor_squashed_values_total"), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawn_block_takes_its_squashed_values_with_it() {
    let squasher = Squasher::new().await;
    squasher.compute(sum()).await;
    squasher.squashed(handle(3)).await;
    squasher.store.remove_blocks_from(CHAIN, 1).await.unwrap();
    let error = squasher.coprocessor.signed_squashed(handle(3), Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, CoprocessorError::UnknownHandle(_)), "{error}");
    // On the other branch the handle has another value.
    let mut other = sum();
    other[0].hash = B256::repeat_byte(0xbb);
    other[0].transactions[0].computations[0] = trivial(13, handle(1));
    squasher.compute(other).await;
    assert_eq!(squasher.decrypt(&squasher.squashed(handle(3)).await), U256::from(43));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_wait_is_told_and_finds_the_value_later() {
    let squasher = Squasher::new().await;
    let error = squasher.coprocessor.signed_squashed(handle(3), Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, CoprocessorError::UnknownHandle(_)), "{error}");
    squasher.compute(sum()).await;
    let error = squasher.coprocessor.signed_squashed(handle(3), Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, CoprocessorError::NotComputed(_)) && error.is_retryable(), "{error}");
    assert_eq!(squasher.decrypt(&squasher.squashed(handle(3)).await), U256::from(42));
    assert_eq!(squasher.count("coprocessor_squashed_values_total"), 1, "the work went on");
    let elsewhere = Handle::computed(B256::repeat_byte(1), 1, FheType::Uint8);
    let error = squasher.coprocessor.signed_squashed(elsewhere, Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, CoprocessorError::WrongChain { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_wait_are_squashed_together_and_beyond_a_number_are_refused() {
    let backend = Arc::new(ObservedBackend::unpacking_only(Keys::squashing().backend(), 0));
    let squasher = Squasher::with(Setup {
        options: SquashingOptions {
            waiting: 4,
            ..Setup::default().options
        },
        backend: Some(Arc::clone(&backend) as Arc<dyn FheBackend>),
        ..Setup::default()
    })
    .await;
    let bits: Vec<Handle> = (1..=5).map(|tag| typed_handle(tag, FheType::Bool)).collect();
    squasher.compute(publics(&bits)).await;
    let ask = |handle| squasher.coprocessor.signed_squashed(handle, Duration::ZERO);
    assert!(matches!(ask(bits[0]).await, Err(CoprocessorError::NotComputed(_))));
    tokio::task::block_in_place(|| backend.wait_until_held());
    for bit in &bits[1..4] {
        assert!(matches!(ask(*bit).await, Err(CoprocessorError::NotComputed(_))));
    }
    // Who asks for one of them again waits with the others.
    assert!(matches!(ask(bits[2]).await, Err(CoprocessorError::NotComputed(_))));
    let error = ask(bits[4]).await.unwrap_err();
    assert!(matches!(error, CoprocessorError::SquashingBusy) && error.is_retryable(), "{error}");
    assert_eq!(squasher.count("coprocessor_squashing_waiting"), 4);
    backend.open_gate();
    for bit in &bits {
        assert_eq!(squasher.decrypt(&squasher.squashed(*bit).await), U256::from(1));
    }
    // The first alone, three together, and the one that was refused.
    assert_eq!(squasher.count("coprocessor_squashing_batch_values_count"), 3);
    assert_eq!(squasher.count("coprocessor_squashing_batch_values_sum"), 5);
    assert_eq!(squasher.count("coprocessor_squashing_refused_total{reason=\"busy\"}"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_ends_what_is_under_way_and_tells_who_waits() {
    let backend = Arc::new(ObservedBackend::unpacking_only(Keys::squashing().backend(), 0));
    let squasher = Squasher::with(Setup {
        backend: Some(Arc::clone(&backend) as Arc<dyn FheBackend>),
        ..Setup::default()
    })
    .await;
    let bits = [typed_handle(1, FheType::Bool), typed_handle(2, FheType::Bool)];
    squasher.compute(publics(&bits)).await;
    let waiting: Vec<_> = bits
        .into_iter()
        .map(|bit| {
            let coprocessor = squasher.coprocessor.clone();
            tokio::spawn(async move { coprocessor.signed_squashed(bit, PATIENCE).await })
        })
        .collect();
    tokio::task::block_in_place(|| backend.wait_until_held());
    let stopping = tokio::spawn({
        let squashing = Arc::clone(&squasher.squashing);
        async move { squashing.shutdown().await }
    });
    backend.open_gate();
    tokio::time::timeout(PATIENCE, stopping).await.expect("it does not stop").unwrap();
    for waiting in waiting {
        let ended = tokio::time::timeout(PATIENCE, waiting)
            .await
            .expect("nobody tells who waits")
            .unwrap();
        // The value at the gate may have been finished; the other one cannot be.
        assert!(matches!(ended, Ok(_) | Err(CoprocessorError::ThreadLost)), "{ended:?}");
    }
    let error = squasher
        .coprocessor
        .signed_squashed(typed_handle(2, FheType::Bool), Duration::from_millis(10))
        .await;
    assert!(matches!(error, Err(CoprocessorError::ThreadLost) | Ok(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_set_without_noise_squashing_says_so() {
    let keys = Keys::toy();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().await.unwrap());
    let plain = keys.coprocessor(keys.backend(), Arc::clone(&store));
    let error = plain.signed_squashed(handle(3), Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, CoprocessorError::NoSquashing { .. }), "{error}");
    assert!(error.to_string().contains("this process does not squash"), "{error}");
    let squashing = Squashing::start(SquashingOptions::default(), Metrics::new());
    let without = plain.with_squashing(Arc::clone(&squashing), SquashingKeys::KeySet(insecure_test_keys().unwrap()));
    let error = without.signed_squashed(handle(3), Duration::ZERO).await.unwrap_err();
    assert!(error.to_string().contains("add-noise-squashing"), "{error}");
    assert!(Machine::whole().processors().is_none());
    squashing.shutdown().await;
}
