//! SIGTERM: what is under way is finished or given back, and the process ends well.

use std::time::Duration;

use cipherloom_load::{Process, Role};

use crate::{
    ground::{Ground, until},
    scale,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_worker_leaves_no_lease_and_ends_well() {
    let seed = scale::seed();
    let (ground, rows) = Ground::on_postgres(1);
    let server = ground.deployment.start(Role::Server, &[]).unwrap();
    let mut source = ground.source(0, &server, seed);
    source.open(&ground.clear.keys).await.unwrap();
    source.feed(scale::of(3_000, 600)).await.unwrap();
    let pending = || rows.count("SELECT count(*) FROM transactions WHERE state = 'pending'");

    let all = pending();
    let mut drained = 0;
    // Each is told to end as soon as it has done something.
    while drained < 5 && pending() > 0 {
        let worker: Process = ground.deployment.start(Role::Worker, &[]).unwrap();
        let before = pending();
        until("progress", || pending() < before).await;
        worker.terminate(Duration::from_secs(60)).unwrap();
        assert_eq!(rows.leases(), 0, "a worker that was drained has leases");
        drained += 1;
    }
    assert!(pending() < all);
    let worker = ground.deployment.start(Role::Worker, &[]).unwrap();
    source.await_all().await.unwrap();
    worker.terminate(Duration::from_secs(60)).unwrap();
    rows.check_all_done(source.transactions, source.ledger.values().len());
    assert_eq!(
        rows.count("SELECT coalesce(max(attempts), 0) FROM transactions"),
        1,
        "giving back is no attempt"
    );
    server.terminate(Duration::from_secs(60)).unwrap();
    scale::report("drain", &format!("{drained} workers ended with code 0 and without a lease"));
}
