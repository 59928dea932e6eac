//! Who is served, and in which order.

use std::time::Duration;

use cipherloom_store::TenantLimits;

use crate::fixture::{Deployment, PATIENCE, add, handle, sum, sum_value, transaction, trivial};

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_with_little_work_does_not_wait_behind_one_with_much() {
    const BACKLOG: u64 = 2000;
    let deployment = Deployment::new(3, 1).await;
    let [much, little, late] = [&deployment.tenants[0], &deployment.tenants[1], &deployment.tenants[2]];
    deployment
        .record(much, 1, (0..BACKLOG).map(|number| sum(much, number)).collect())
        .await;
    let tenancy = deployment.tenancy(|_| {});
    let running = deployment.start(&tenancy, |options| options.concurrent = 4);
    let mut statistics = running.workers.statistics();
    tokio::time::timeout(PATIENCE, statistics.wait_for(|statistics| statistics.ended >= 20))
        .await
        .unwrap()
        .unwrap();
    for tenant in [little, late] {
        deployment
            .record(tenant, 1, (0..5).map(|number| sum(tenant, number)).collect())
            .await;
        deployment.until_done(tenant).await;
    }
    let left = deployment.pending(much).await;
    assert!(left > BACKLOG / 2, "they waited until only {left} of {BACKLOG} were left");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_with_work_get_equal_shares() {
    const EACH: u64 = 300;
    let deployment = Deployment::new(3, 2).await;
    for tenant in &deployment.tenants {
        deployment
            .record(tenant, 1, (0..EACH).map(|number| sum(tenant, number)).collect())
            .await;
    }
    // Keys that are looked at again all the time would be what is measured.
    let tenancy = deployment.tenancy(|options| options.key_check_interval = Duration::from_secs(10));
    for tenant in &deployment.tenants {
        // What is measured is not who reads its keys first.
        tenancy.coprocessor(tenant).await.unwrap();
    }
    let running = deployment.start(&tenancy, |options| options.concurrent = 6);
    let mut statistics = running.workers.statistics();
    tokio::time::timeout(PATIENCE, statistics.wait_for(|statistics| statistics.ended >= 300))
        .await
        .unwrap()
        .unwrap();
    // What is counted stands still meanwhile.
    deployment.faults.hang("finish_transaction");
    tokio::time::timeout(PATIENCE, deployment.faults.wait_until_hung(6)).await.unwrap();
    let mut done = Vec::new();
    for tenant in &deployment.tenants {
        done.push(EACH - deployment.pending(tenant).await);
    }
    let (least, most) = (*done.iter().min().unwrap(), *done.iter().max().unwrap());
    deployment.faults.release();
    assert!(least * 3 > most * 2, "{done:?}");
    deployment.until_all_done().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_limit_of_transactions_at_a_time_is_kept() {
    let deployment = Deployment::new(1, 1).await;
    let tenant = &deployment.tenants[0];
    let limits = TenantLimits {
        max_concurrent_transactions: Some(2),
        ..TenantLimits::default()
    };
    deployment.database.set_tenant_limits(tenant.id, limits).await.unwrap();
    deployment
        .record(tenant, 1, (0..20).map(|number| sum(tenant, number)).collect())
        .await;
    deployment.faults.hang("finish_transaction");
    let tenancy = deployment.tenancy(|_| {});
    let running = deployment.start(&tenancy, |options| options.concurrent = 16);
    tokio::time::timeout(PATIENCE, deployment.faults.wait_until_hung(2)).await.unwrap();
    // Several looks later there are no more.
    let polls = deployment.faults.calls("tenants_by_turn");
    tokio::time::timeout(PATIENCE, async {
        while deployment.faults.calls("tenants_by_turn") < polls + 3 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(running.workers.statistics().borrow().under_way, 2);
    deployment.faults.release();
    deployment.until_done(tenant).await;
    running.stop().await;
}

/// Records a chain of transactions, each of which adds one to the result of the one before.
async fn record_chain(deployment: &Deployment, links: u64) {
    let tenant = &deployment.tenants[0];
    let first = transaction(tenant, 0, vec![trivial(0, handle(tenant, 0))], &[handle(tenant, 0)]);
    let link = |number: u64| {
        let (one, result) = (handle(tenant, 1_000_000 + number), handle(tenant, number));
        let computations = vec![trivial(1, one), add(handle(tenant, number - 1), one, result)];
        transaction(tenant, number, computations, &[result])
    };
    let transactions = std::iter::once(first).chain((1..=links).map(link)).collect();
    deployment.record(tenant, 1, transactions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_goes_on_with_what_is_in_memory() {
    const LINKS: u64 = 40;
    let deployment = Deployment::new(1, 1).await;
    record_chain(&deployment, LINKS).await;
    let tenancy = deployment.tenancy(|_| {});
    let running = deployment.start(&tenancy, |options| options.polling_interval = Duration::from_secs(3600));
    deployment.until_all_done().await;
    running.stop().await;
    let coprocessor = tenancy.coprocessor(&deployment.tenants[0]).await.unwrap();
    assert_eq!(
        deployment.value(&coprocessor, handle(&deployment.tenants[0], LINKS)).await,
        sum_value(LINKS - 1)
    );
    let statistics = tenancy.options().machine.cache_statistics();
    assert_eq!((statistics.hits, statistics.misses), (LINKS, 0));
}

async fn two_processes_share_the_work(deployment: &Deployment) {
    for tenant in &deployment.tenants {
        deployment
            .record(tenant, 1, (0..100).map(|number| sum(tenant, number)).collect())
            .await;
    }
    let processes = ["one", "two"].map(|owner| deployment.tenancy(|options| options.coprocessors.owner = owner.to_owned()));
    let running = processes.each_ref().map(|tenancy| deployment.start(tenancy, |_| {}));
    deployment.until_all_done().await;
    for running in running {
        running.stop().await;
    }
    // Each once, whoever it was.
    assert_eq!(deployment.faults.calls("finish_transaction"), 300);
    for tenant in &deployment.tenants {
        let coprocessor = processes[0].coprocessor(tenant).await.unwrap();
        for number in [0, 50, 99] {
            assert_eq!(deployment.value(&coprocessor, handle(tenant, number)).await, sum_value(number));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_share_the_work_of_all_tenants() {
    two_processes_share_the_work(&Deployment::new(3, 2).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_share_the_work_of_all_tenants_on_postgres() {
    two_processes_share_the_work(&Deployment::on_postgres(3, 2).await).await;
}

async fn is_begun_when_it_is_hinted_at(deployment: &Deployment) {
    let tenant = &deployment.tenants[0];
    let tenancy = deployment.tenancy(|_| {});
    // Looking by itself would be too late for the test.
    let running = deployment.start(&tenancy, |options| options.polling_interval = Duration::from_secs(3600));
    for block in 1..=5 {
        deployment.record(tenant, block, vec![sum(tenant, block)]).await;
        deployment.until_done(tenant).await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_begun_when_the_store_hints_at_it() {
    is_begun_when_it_is_hinted_at(&Deployment::new(1, 1).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_begun_when_postgres_hints_at_it() {
    is_begun_when_it_is_hinted_at(&Deployment::on_postgres(1, 1).await).await;
}
