//! What fails and passes, what fails for good, and stopping in the middle.

use std::time::Duration;

use cipherloom_coprocessor::HandleStatus;
use cipherloom_store::LeaseRequest;

use crate::fixture::{Deployment, PATIENCE, add, handle, sum, sum_value, transaction, trivial};

const TRANSACTIONS: u64 = 30;

async fn with_work() -> Deployment {
    let deployment = Deployment::new(1, 1).await;
    let tenant = &deployment.tenants[0];
    deployment
        .record(tenant, 1, (0..TRANSACTIONS).map(|number| sum(tenant, number)).collect())
        .await;
    deployment
}

async fn check_all(deployment: &Deployment) {
    let tenancy = deployment.tenancy(|_| {});
    let tenant = &deployment.tenants[0];
    let coprocessor = tenancy.coprocessor(tenant).await.unwrap();
    for number in 0..TRANSACTIONS {
        assert_eq!(deployment.value(&coprocessor, handle(tenant, number)).await, sum_value(number));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_for_a_while_loses_nothing() {
    let deployment = with_work().await;
    for name in ["tenants", "tenants_by_turn", "key_sets_of", "key_part", "lease_transactions"] {
        deployment.faults.fail(name, 2);
    }
    deployment.faults.fail("ciphertext_heads", 10);
    deployment.faults.fail("finish_transaction", 20);
    let tenancy = deployment.tenancy(|_| {});
    let running = deployment.start(&tenancy, |_| {});
    deployment.until_all_done().await;
    running.stop().await;
    check_all(&deployment).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_whose_publication_was_not_confirmed_are_published_once() {
    let deployment = with_work().await;
    deployment.faults.lose_answers("finish_transaction", 5);
    let tenancy = deployment.tenancy(|_| {});
    let running = deployment.start(&tenancy, |_| {});
    deployment.until_all_done().await;
    running.stop().await;
    check_all(&deployment).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_neither_the_workers_nor_other_transactions() {
    let deployment = with_work().await;
    deployment.faults.panic("ciphertext_heads", 3);
    let tenancy = deployment.tenancy(|options| options.coprocessors.lease_duration = Duration::from_millis(100));
    let running = deployment.start(&tenancy, |_| {});
    deployment.until_all_done().await;
    running.stop().await;
    check_all(&deployment).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_be_computed_is_marked_with_its_reason_and_the_rest_goes_on() {
    let deployment = with_work().await;
    let tenant = &deployment.tenants[0];
    let (unknown, bad, worse) = (handle(tenant, 9000), handle(tenant, 9001), handle(tenant, 9002));
    let first = transaction(tenant, 0, vec![add(unknown, unknown, bad)], &[bad]);
    let second = transaction(tenant, 1, vec![add(bad, bad, worse)], &[worse]);
    deployment.record(tenant, 2, vec![first, second]).await;
    let tenancy = deployment.tenancy(|_| {});
    let running = deployment.start(&tenancy, |_| {});
    deployment.until_all_done().await;
    running.stop().await;
    check_all(&deployment).await;
    let coprocessor = tenancy.coprocessor(tenant).await.unwrap();
    for handle in [bad, worse] {
        let status = coprocessor.handle_status(handle).await.unwrap();
        assert!(
            matches!(&status, HandleStatus::Failed(reason) if reason.contains(&unknown.to_string())),
            "{status:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_lets_what_is_under_way_end_and_begins_nothing() {
    let deployment = with_work().await;
    deployment.faults.hang("finish_transaction");
    let tenancy = deployment.tenancy(|_| {});
    let running = deployment.start(&tenancy, |options| {
        options.concurrent = 4;
        options.drain = PATIENCE;
    });
    tokio::time::timeout(PATIENCE, deployment.faults.wait_until_hung(4)).await.unwrap();
    running.stop.cancel();
    deployment.faults.release();
    running.stop().await;
    assert_eq!(deployment.pending(&deployment.tenants[0]).await, TRANSACTIONS - 4);
    assert_eq!(deployment.faults.calls("release_lease"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_while_draining_is_given_back() {
    let deployment = with_work().await;
    let tenant = &deployment.tenants[0];
    deployment.faults.hang("finish_transaction");
    let tenancy = deployment.tenancy(|_| {});
    let running = deployment.start(&tenancy, |options| {
        options.concurrent = 4;
        options.drain = Duration::from_millis(20);
    });
    tokio::time::timeout(PATIENCE, deployment.faults.wait_until_hung(4)).await.unwrap();
    running.stop().await;
    assert_eq!(deployment.faults.calls("release_lease"), 4);
    let request = LeaseRequest {
        chain_id: tenant.chain_id,
        owner: "other".to_owned(),
        now_ms: 0,
        duration_ms: 1,
        limit: 100,
        first: Vec::new(),
    };
    let leased = deployment.database.store(tenant).lease_transactions(&request).await.unwrap();
    assert_eq!(
        leased.len(),
        usize::try_from(TRANSACTIONS).unwrap(),
        "some leases were not given back"
    );
    assert!(
        leased.iter().all(|transaction| transaction.attempts == 1),
        "stopping counted as an attempt"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_lost_throws_the_work_away_and_nothing_is_published_twice() {
    let deployment = Deployment::new(1, 1).await;
    let tenant = &deployment.tenants[0];
    deployment
        .record(
            tenant,
            1,
            vec![transaction(tenant, 0, vec![trivial(5, handle(tenant, 0))], &[handle(tenant, 0)])],
        )
        .await;
    // The first process hangs before it publishes, and cannot renew.
    deployment.faults.hang("finish_transaction");
    let [slow, quick] = ["slow", "quick"].map(|owner| {
        deployment.tenancy(|options| {
            options.coprocessors.owner = owner.to_owned();
            options.coprocessors.lease_duration = Duration::from_millis(100);
        })
    });
    deployment.faults.fail("renew_lease", usize::MAX);
    let first = deployment.start(&slow, |_| {});
    tokio::time::timeout(PATIENCE, deployment.faults.wait_until_hung(1)).await.unwrap();
    let second = deployment.start(&quick, |_| {});
    tokio::time::timeout(PATIENCE, deployment.faults.wait_until_hung(2)).await.unwrap();
    deployment.faults.release();
    deployment.until_all_done().await;
    first.stop().await;
    second.stop().await;
    let coprocessor = quick.coprocessor(tenant).await.unwrap();
    assert_eq!(deployment.value(&coprocessor, handle(tenant, 0)).await, sum_value(4));
}
