//! A worker that stands still for longer than its lease and comes back: what it computed is no second result.

use std::time::Duration;

use cipherloom_load::Role;

use crate::{
    ground::{Ground, until},
    scale,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_comes_back_after_its_lease_changes_no_result() {
    let seed = scale::seed();
    let (ground, rows) = Ground::on_postgres(1);
    let server = ground.deployment.start(Role::Server, &[]).unwrap();
    let mut source = ground.source(0, &server, seed);
    source.open(&ground.clear.keys).await.unwrap();
    let mut slow = ground.deployment.start(Role::Worker, &["--worker-name", "slow"]).unwrap();
    for _ in 0..scale::of(5, 1) {
        source.feed(400).await.unwrap();
        let held = || rows.count("SELECT count(*) FROM transactions WHERE lease_owner = 'slow' AND state = 'pending'");
        // Stopped at an instant at which it has leases.
        loop {
            slow.signal("STOP").unwrap();
            if held() > 0 {
                break;
            }
            slow.signal("CONT").unwrap();
            assert!(
                rows.count("SELECT count(*) FROM transactions WHERE state = 'pending'") > 0,
                "everything was done before the worker could be stopped with leases"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let stopped_with = held();
        // Another one computes everything, what the slow one had included: it waits until those leases are over.
        let other = ground.deployment.start(Role::Worker, &["--worker-name", "other"]).unwrap();
        source.await_all().await.unwrap();
        until("the last finish", || {
            rows.count("SELECT count(*) FROM transactions WHERE state = 'pending'") == 0
        })
        .await;
        other.terminate(Duration::from_secs(60)).unwrap();
        assert!(stopped_with > 0 && rows.count("SELECT count(*) FROM transactions WHERE attempts > 1") >= stopped_with);
        slow.signal("CONT").unwrap();
        // It goes on with what it has in hand, and then with new work: that it did some shows that it has come through the former.
        let done = rows.count("SELECT count(*) FROM transactions WHERE state = 'done'");
        source.feed(100).await.unwrap();
        until("progress of the worker that came back", || {
            rows.count("SELECT count(*) FROM transactions WHERE state = 'done'") >= done + 100
        })
        .await;
        slow.check_running().unwrap();
        source.await_all().await.unwrap();
        source.check_again().await.unwrap();
    }
    rows.check_all_done(source.transactions, source.ledger.values().len());
    slow.terminate(Duration::from_secs(60)).unwrap();
    scale::report("paused worker", "no transaction had two results");
}
