//! Values in memory: what they save, and that they are never other ones than the store has.

use std::sync::Arc;

use cipherloom_coprocessor::{Machine, MachineOptions, Tenancy};
use cipherloom_primitives::{B256, CiphertextForm, U256};
use cipherloom_store::Tenant;

use crate::fixture::{Deployment, Keys, add, handle, transaction, trivial};

async fn compute_all(deployment: &Deployment, tenancy: &Tenancy, workers: usize) {
    let running = deployment.start(tenancy, |options| options.concurrent = workers);
    deployment.until_all_done().await;
    running.stop().await;
}

/// A tree of sums in several transactions: each result is used by several later ones.
fn tree(tenant: &Tenant) -> Vec<cipherloom_store::RecordedTransaction> {
    let leaf = |number: u64| {
        transaction(
            tenant,
            number,
            vec![trivial(number, handle(tenant, number))],
            &[handle(tenant, number)],
        )
    };
    let node = |number: u64| {
        let (left, right) = (handle(tenant, number - 5), handle(tenant, number - 3));
        transaction(
            tenant,
            number,
            vec![add(left, right, handle(tenant, number))],
            &[handle(tenant, number)],
        )
    };
    (0..8).map(leaf).chain((8..40).map(node)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_just_published_is_not_fetched() {
    let deployment = Deployment::new(1, 1).await;
    let tenant = &deployment.tenants[0];
    let tenancy = deployment.tenancy(|_| {});
    deployment.record(tenant, 1, tree(tenant)).await;
    compute_all(&deployment, &tenancy, 4).await;
    assert_eq!(deployment.faults.calls("ciphertexts"), 0);
    // A process that starts has nothing in memory.
    let other = deployment.tenancy(|_| {});
    let (old, new) = (handle(tenant, 39), handle(tenant, 100));
    deployment
        .record(tenant, 2, vec![transaction(tenant, 0, vec![add(old, old, new)], &[new])])
        .await;
    compute_all(&deployment, &other, 4).await;
    assert_eq!(deployment.faults.calls("ciphertexts"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_the_same_bytes_with_and_without_values_in_memory_and_for_any_number_of_workers() {
    let keys = || vec![Keys::toy()];
    let mut digests = Vec::new();
    for (cache_bytes, workers) in [(0, 1), (0, 4), (1 << 30, 1), (1 << 30, 4), (300_000, 4)] {
        let deployment = Deployment::with_keys(1, keys()).await;
        let tenant = &deployment.tenants[0];
        let machine = Machine::new(MachineOptions {
            processors: std::num::NonZero::new(2),
            ciphertext_cache_bytes: cache_bytes,
        });
        let tenancy = deployment.tenancy(|options| options.machine = Arc::clone(&machine));
        deployment.record(tenant, 1, tree(tenant)).await;
        compute_all(&deployment, &tenancy, workers).await;
        let handles: Vec<_> = (0..40).map(|number| handle(tenant, number)).collect();
        let heads = deployment.database.store(tenant).ciphertext_heads(&handles).await.unwrap();
        digests.push(heads.into_iter().map(|head| head.unwrap().raw_digest).collect::<Vec<B256>>());
        let statistics = machine.cache_statistics();
        assert!(statistics.bytes <= cache_bytes, "{statistics:?}");
        assert_eq!(statistics.hits > 0, cache_bytes > 0, "{statistics:?}");
    }
    assert!(digests.iter().all(|other| other == &digests[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_whose_block_was_withdrawn_is_not_served() {
    let deployment = Deployment::new(1, 1).await;
    let tenant = &deployment.tenants[0];
    let tenancy = deployment.tenancy(|_| {});
    let (value, doubled) = (handle(tenant, 0), handle(tenant, 1));
    for (first, expected, block) in [(20, 40, 1), (21, 42, 3)] {
        let publish = transaction(tenant, 0, vec![trivial(first, value)], &[value]);
        let double = transaction(tenant, 0, vec![add(value, value, doubled)], &[doubled]);
        deployment.record(tenant, block, vec![publish]).await;
        compute_all(&deployment, &tenancy, 4).await;
        deployment.record(tenant, block + 1, vec![double]).await;
        compute_all(&deployment, &tenancy, 4).await;
        let coprocessor = tenancy.coprocessor(tenant).await.unwrap();
        assert_eq!(deployment.value(&coprocessor, doubled).await, U256::from(expected));
        coprocessor.remove_blocks_from(1).await.unwrap();
    }
    assert_eq!(tenancy.options().machine.cache_statistics().hits, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_with_the_same_handles_do_not_see_each_others_values() {
    // Tenants of one chain, one key set and one memory, each in a database of its own.
    let (keys, machine) = (Keys::clear(), Machine::whole());
    for value in [3, 5, 3] {
        let deployment = Deployment::with_keys(1, vec![keys.clone()]).await;
        let tenant = &deployment.tenants[0];
        let tenancy = deployment.tenancy(|options| options.machine = Arc::clone(&machine));
        let (given, doubled) = (handle(tenant, 0), handle(tenant, 1));
        let publish = transaction(tenant, 0, vec![trivial(value, given)], &[given]);
        let double = transaction(tenant, 1, vec![add(given, given, doubled)], &[doubled]);
        deployment.record(tenant, 1, vec![publish, double]).await;
        compute_all(&deployment, &tenancy, 4).await;
        let coprocessor = tenancy.coprocessor(tenant).await.unwrap();
        assert_eq!(deployment.value(&coprocessor, doubled).await, U256::from(2 * value));
    }
    assert_eq!(machine.cache_statistics().hits, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_no_transaction_published_is_read_packed() {
    let deployment = Deployment::with_keys(1, vec![Keys::toy()]).await;
    let tenant = &deployment.tenants[0];
    let tenancy = deployment.tenancy(|_| {});
    let coprocessor = tenancy.coprocessor(tenant).await.unwrap();
    // What a server does for trivial encryptions: evaluate, pack, store.
    let keys = Keys::toy();
    let backend = keys.set.evaluation().unwrap();
    let value = handle(tenant, 0);
    let trivially = backend.evaluate(&trivial(9, value).operation, &[]).unwrap();
    let raw = backend.serialize(&trivially).unwrap();
    let packed = backend.pack(&trivially).unwrap();
    let digest = |bytes: &[u8]| alloy::primitives::keccak256(bytes);
    let stored =
        cipherloom_store::StoredCiphertext::raw(value, coprocessor.key_set_id(), digest(&raw), raw).packed(digest(&packed), packed);
    let store = deployment.database.store(tenant);
    store.add_ciphertexts(std::slice::from_ref(&stored)).await.unwrap();
    assert_eq!(store.ciphertext(value).await.unwrap().unwrap().form, CiphertextForm::Packed);
    let results = [handle(tenant, 1), handle(tenant, 2)];
    for (number, result) in (1..).zip(results) {
        deployment
            .record(
                tenant,
                number,
                vec![transaction(tenant, 0, vec![add(value, value, result)], &[result])],
            )
            .await;
        compute_all(&deployment, &tenancy, 1).await;
        assert_eq!(deployment.value(&coprocessor, result).await, U256::from(18));
    }
    // Fetched once by this test, once by the worker, and once for each result's value.
    assert_eq!(deployment.faults.calls("ciphertexts"), 2 + results.len());
    assert_eq!(tenancy.options().machine.cache_statistics().hits, 1);
}
