//! The bytes of results do not depend on who computed them, when, or how often it was interrupted.

use std::sync::Arc;

use cipherloom_coprocessor::{Coprocessor, SignedCiphertext};
use cipherloom_primitives::{FheType, Handle, U256};
use cipherloom_store::{SqliteStore, Store};

use crate::fixture::{Keys, block, handle, metadata, mint_and_transfer, signer, start_workers, until_idle};

/// What the token's two transactions publish.
fn outputs() -> [Handle; 4] {
    [handle(2), handle(3), handle(7), handle(8)]
}

/// One way of computing the same two transactions.
struct Way {
    workers: usize,
    /// Whether everything is recorded before anything is computed.
    recorded_at_once: bool,
    /// Whether the coprocessor is closed and opened again between the two transactions.
    restarted: bool,
}

async fn compute(keys: &Keys, list: &[u8], way: &Way) -> Vec<SignedCiphertext> {
    let directory = tempfile::tempdir().unwrap();
    let open = async || {
        let store = SqliteStore::open(&directory.path().join("store.sqlite")).await.unwrap();
        let mut config = keys.config();
        config.workers = way.workers;
        let store: Arc<dyn Store> = Arc::new(store);
        (Coprocessor::new(config, keys.backend(), Arc::clone(&store), signer()), store)
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

async fn every_way_gives_the_same_bytes(keys: Keys) {
    let list = keys.encrypt(&[(FheType::Uint64, 250)], &metadata());
    let first = compute(
        &keys,
        &list,
        &Way {
            workers: 1,
            recorded_at_once: true,
            restarted: false,
        },
    )
    .await;
    for way in [
        Way {
            workers: 3,
            recorded_at_once: true,
            restarted: false,
        },
        Way {
            workers: 1,
            recorded_at_once: false,
            restarted: false,
        },
        Way {
            workers: 2,
            recorded_at_once: false,
            restarted: true,
        },
    ] {
        assert!(
            compute(&keys, &list, &way).await == first,
            "with {} workers, restarted: {}",
            way.workers,
            way.restarted
        );
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
