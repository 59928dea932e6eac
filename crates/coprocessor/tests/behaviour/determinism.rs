//! The bytes of results do not depend on who computed them, when, or how often it was interrupted.

use std::{num::NonZero, sync::Arc};

use cipherloom_coprocessor::{Coprocessor, SignedCiphertext};
use cipherloom_engine::{Engine, Policy, PoolOptions};
use cipherloom_primitives::{FheType, Handle, U256};
use cipherloom_store::{SqliteStore, Store};

use crate::fixture::{Keys, block, handle, metadata, mint_and_transfer, signer, start_workers, until_idle};

/// What the token's two transactions publish.
fn outputs() -> [Handle; 4] {
    [handle(2), handle(3), handle(7), handle(8)]
}

/// One way of computing the same two transactions.
#[derive(Clone, Debug)]
struct Way {
    workers: usize,
    threads: usize,
    batch: usize,
    policy: Policy,
    /// Whether everything is recorded before anything is computed.
    recorded_at_once: bool,
    /// Whether the coprocessor is closed and opened again between the two transactions.
    restarted: bool,
    /// Whether the coprocessor is stopped in the middle of the transfer, and opened again.
    interrupted: bool,
}

/// The plainest way.
const PLAIN: Way = Way {
    workers: 1,
    threads: 1,
    batch: 1,
    policy: Policy::Loop,
    recorded_at_once: true,
    restarted: false,
    interrupted: false,
};

async fn compute(keys: &Keys, list: &[u8], way: &Way) -> Vec<SignedCiphertext> {
    let directory = tempfile::tempdir().unwrap();
    let open = async || {
        let store = SqliteStore::open(&directory.path().join("store.sqlite")).await.unwrap();
        let mut config = keys.config();
        config.workers = way.workers;
        let pool = PoolOptions {
            engine: Engine {
                policy: way.policy,
                ..Engine::default()
            },
            threads: NonZero::new(way.threads),
            batch: NonZero::new(way.batch),
            permits: None,
        };
        let store: Arc<dyn Store> = Arc::new(store);
        let coprocessor = Coprocessor::new(config, keys.engine(keys.backend(), pool), Arc::clone(&store), signer());
        (coprocessor, store)
    };
    let (mut coprocessor, mut store) = open().await;
    let amount = coprocessor
        .admit_input(metadata(), list.to_vec(), Vec::new())
        .await
        .unwrap()
        .handles[0];
    let [mint, transfer] = mint_and_transfer(amount);
    let blocks = [block(1, vec![mint]), block(2, vec![transfer])];
    if way.recorded_at_once {
        coprocessor.record_blocks(&blocks).await.unwrap();
    }
    for block in &blocks {
        if !way.recorded_at_once {
            coprocessor.record_blocks(std::slice::from_ref(block)).await.unwrap();
        }
        if way.interrupted {
            interrupt(&coprocessor).await;
            drop((coprocessor, store));
            (coprocessor, store) = open().await;
        }
        let (stop, workers) = start_workers(&coprocessor);
        until_idle(&coprocessor, &store).await;
        stop.cancel();
        workers.await.unwrap();
        if way.restarted {
            drop((coprocessor, store));
            (coprocessor, store) = open().await;
        }
    }
    let mut results = Vec::new();
    for output in outputs() {
        results.push(coprocessor.signed_ciphertext(output).await.unwrap());
    }
    results
}

/// Lets workers compute until they are in the middle of a transaction, if it has bootstraps at all.
async fn interrupt(coprocessor: &Coprocessor) {
    let changes = coprocessor.changes();
    let before = coprocessor.engine_statistics().bootstraps;
    let (stop, workers) = start_workers(coprocessor);
    while coprocessor.engine_statistics().bootstraps == before && !changes.has_changed().unwrap() {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    workers.await.unwrap();
}

async fn every_way_gives_the_same_bytes(keys: Keys) {
    let list = keys.encrypt(&[(FheType::Uint64, 250)], &metadata());
    let first = compute(&keys, &list, &PLAIN).await;
    let mut ways = vec![
        Way { workers: 3, ..PLAIN },
        Way {
            recorded_at_once: false,
            ..PLAIN
        },
        Way {
            workers: 2,
            recorded_at_once: false,
            restarted: true,
            ..PLAIN
        },
        Way {
            recorded_at_once: false,
            interrupted: true,
            ..PLAIN
        },
    ];
    for policy in Policy::ALL {
        ways.extend([(1, 16), (2, 3), (3, 16), (8, 1)].map(|(threads, batch)| Way {
            workers: 4,
            threads,
            batch,
            policy,
            ..PLAIN
        }));
    }
    for way in ways {
        assert!(compute(&keys, &list, &way).await == first, "{way:?}");
    }
    let decryptor = keys.set.decryptor().unwrap();
    let values: Vec<U256> = first
        .iter()
        .map(|result| decryptor.decrypt(FheType::Uint64, &result.bytes).unwrap())
        .collect();
    assert_eq!(values, [1000, 0, 750, 250].map(U256::from));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_computing_gives_the_same_bytes() {
    every_way_gives_the_same_bytes(Keys::clear()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_computing_gives_the_same_bytes_on_real_tfhe() {
    every_way_gives_the_same_bytes(Keys::toy()).await;
}
