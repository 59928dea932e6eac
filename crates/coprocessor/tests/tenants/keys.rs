//! Which keys are in memory, and which are not used.

use std::{collections::HashSet, time::Duration};

use cipherloom_coprocessor::{CoprocessorError, Tenancy};

use crate::fixture::{Deployment, PATIENCE, handle, sum, sum_value};

async fn until_engines_are(tenancy: &Tenancy, count: usize) {
    tokio::time::timeout(PATIENCE, async {
        while tenancy.engine_statistics().len() != count {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{} engines instead of {count}", tenancy.engine_statistics().len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_tenants_of_two_key_sets_have_two_engines() {
    let deployment = Deployment::new(10, 2).await;
    for tenant in &deployment.tenants {
        deployment
            .record(tenant, 1, (0..3).map(|number| sum(tenant, number)).collect())
            .await;
    }
    let tenancy = deployment.tenancy(|_| {});
    let running = deployment.start(&tenancy, |_| {});
    deployment.until_all_done().await;
    running.stop().await;
    let numbers: HashSet<u64> = tenancy.engine_statistics().iter().map(|(number, _)| *number).collect();
    assert_eq!((numbers.len(), tenancy.key_sets_kept()), (2, 2));
    // Each part was read once for all tenants of its key set: three parts of two key sets.
    assert_eq!(deployment.faults.calls("key_part"), 6);
    for tenant in &deployment.tenants {
        let coprocessor = tenancy.coprocessor(tenant).await.unwrap();
        for number in 0..3 {
            assert_eq!(deployment.value(&coprocessor, handle(tenant, number)).await, sum_value(number));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_many_ask_for_at_once_are_read_once() {
    let deployment = Deployment::new(8, 1).await;
    let tenancy = deployment.tenancy(|_| {});
    let asked: Vec<_> = deployment
        .tenants
        .iter()
        .cloned()
        .map(|tenant| {
            let tenancy = tenancy.clone();
            tokio::spawn(async move { tenancy.coprocessor(&tenant).await.unwrap().keyed_engine().number() })
        })
        .collect();
    let mut numbers = HashSet::new();
    for asked in asked {
        numbers.insert(asked.await.unwrap());
    }
    assert_eq!((numbers.len(), deployment.faults.calls("key_part")), (1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_set_that_made_room_ends_with_the_last_who_uses_it_and_is_the_same_until_then() {
    let deployment = Deployment::new(2, 2).await;
    let tenancy = deployment.tenancy(|options| options.key_cache_size = 1);
    let [one, other] = [&deployment.tenants[0], &deployment.tenants[1]];
    let first = tenancy.coprocessor(one).await.unwrap();
    let number = first.keyed_engine().number();
    let second = tenancy.coprocessor(other).await.unwrap();
    assert_eq!((tenancy.key_sets_kept(), tenancy.engine_statistics().len()), (1, 2));
    // It is still used, so that it is not read again.
    assert_eq!(tenancy.coprocessor(one).await.unwrap().keyed_engine().number(), number);
    assert_eq!(deployment.faults.calls("key_part"), 6);
    drop((first, second));
    until_engines_are(&tenancy, 1).await;
    let again = tenancy.coprocessor(other).await.unwrap();
    drop(again);
    until_engines_are(&tenancy, 1).await;
    assert_ne!(tenancy.coprocessor(one).await.unwrap().keyed_engine().number(), number);
    assert!(deployment.faults.calls("key_part") > 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_key_sets_than_are_kept_are_all_served() {
    let deployment = Deployment::new(5, 5).await;
    let tenancy = deployment.tenancy(|options| options.key_cache_size = 2);
    let running = deployment.start(&tenancy, |_| {});
    for block in 1..=3 {
        for tenant in &deployment.tenants {
            deployment.record(tenant, block, vec![sum(tenant, block)]).await;
        }
        deployment.until_all_done().await;
    }
    running.stop().await;
    assert!(tenancy.key_sets_kept() <= 2);
    until_engines_are(&tenancy, tenancy.key_sets_kept()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_hide_nothing_are_refused_without_permission() {
    let deployment = Deployment::new(1, 1).await;
    let tenancy = deployment.tenancy(|options| options.insecure_keys = false);
    let refused = tenancy.coprocessor(&deployment.tenants[0]).await;
    assert!(
        matches!(&refused, Err(CoprocessorError::KeysRefused { reason, .. }) if reason.contains("hides nothing")),
        "{refused:?}"
    );
    assert_eq!(deployment.faults.calls("key_part"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_without_usable_keys_holds_nobody_up_and_is_served_when_it_has_others() {
    let deployment = Deployment::new(1, 2).await;
    let served = &deployment.tenants[0];
    let (without, broken) = (deployment.add_tenant(7).await, deployment.add_tenant(8).await);
    // A key set whose manifest lies about a part.
    let mut record = deployment.database.key_sets_of(served.id).await.unwrap().remove(0);
    record.id.0[0] ^= 1;
    deployment.database.put_key_set(&record).await.unwrap();
    deployment.database.attach_key_set(broken.id, record.id).await.unwrap();
    let tenancy = deployment.tenancy(|_| {});
    assert!(matches!(tenancy.coprocessor(&without).await, Err(CoprocessorError::NoKeys { .. })));
    assert!(matches!(
        tenancy.coprocessor(&broken).await,
        Err(CoprocessorError::KeysRefused { .. })
    ));
    for tenant in [served, &without, &broken] {
        deployment.record(tenant, 1, vec![sum(tenant, 1)]).await;
    }
    let running = deployment.start(&tenancy, |_| {});
    deployment.until_done(served).await;
    assert_eq!((deployment.pending(&without).await, deployment.pending(&broken).await), (1, 1));
    for tenant in [&without, &broken] {
        deployment.give_keys(tenant, 1).await;
        deployment.until_done(tenant).await;
        let coprocessor = tenancy.coprocessor(tenant).await.unwrap();
        assert_eq!(deployment.value(&coprocessor, handle(tenant, 1)).await, sum_value(1));
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_added_or_gets_other_keys_while_workers_run_is_served() {
    let mut deployment = Deployment::new(1, 2).await;
    let tenancy = deployment.tenancy(|_| {});
    let running = deployment.start(&tenancy, |_| {});
    let added = deployment.add_tenant(1).await;
    deployment.give_keys(&added, 0).await;
    deployment.tenants.push(added);
    let added = &deployment.tenants[1];
    deployment.record(added, 1, vec![sum(added, 1)]).await;
    deployment.until_done(added).await;
    let before = tenancy.coprocessor(added).await.unwrap().key_set_id();
    deployment.give_keys(added, 1).await;
    tokio::time::timeout(PATIENCE, async {
        while tenancy.coprocessor(added).await.unwrap().key_set_id() == before {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .unwrap();
    deployment.record(added, 2, vec![sum(added, 2)]).await;
    deployment.until_done(added).await;
    let coprocessor = tenancy.coprocessor(added).await.unwrap();
    assert_eq!(deployment.value(&coprocessor, handle(added, 2)).await, sum_value(2));
    // What was computed before stays under its key set.
    let signed = coprocessor.signed_ciphertext(handle(added, 1)).await.unwrap();
    assert_eq!(signed.key_set_id, before);
    running.stop().await;
}
