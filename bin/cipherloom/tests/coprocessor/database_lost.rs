//! A database that crashes, and connections that are cut, while servers and workers go on.

use std::time::Duration;

use cipherloom_load::{Process, Role};
use cipherloom_private_postgres::PrivatePostgres;

use crate::{
    ground::{Ground, Rows, Source, until},
    scale,
};

/// Waits until at least so many transactions are done, so that what follows happens in the middle of work.
async fn some_done(rows: &Rows<'_>, more: usize) {
    let done = || rows.count("SELECT count(*) FROM transactions WHERE state = 'done'");
    let before = done();
    until("progress", || done() >= before + more).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_crashes_and_connections_that_are_cut_lose_nothing() {
    let seed = scale::seed();
    let (rounds, transactions) = scale::of((6, 600), (2, 150));
    let mut postgres = PrivatePostgres::start().unwrap();
    let url = postgres.create_database().unwrap();
    let ground = Ground::on_database(&url, 2);
    let mut server = ground.deployment.start(Role::Server, &[]).unwrap();
    let mut workers: Vec<Process> = (0..2).map(|_| ground.deployment.start(Role::Worker, &[]).unwrap()).collect();
    let mut sources: Vec<Source> = (0..2).map(|tenant| ground.source(tenant, &server, seed)).collect();
    for source in &mut sources {
        source.open(&ground.clear.keys).await.unwrap();
    }
    for _ in 0..rounds {
        let fed = async {
            for source in &mut sources {
                source.feed(transactions).await.unwrap();
            }
        };
        let lost = async {
            for _ in 0..3 {
                some_done(&Rows::of(&postgres, &url), 10).await;
                Rows::of(&postgres, &url).cut_connections();
            }
            postgres.crash().unwrap();
            // Long enough for everybody to notice.
            tokio::time::sleep(Duration::from_millis(500)).await;
            postgres.start_again().unwrap();
        };
        tokio::join!(fed, lost);
    }
    let (mut accepted, mut results) = (0, 0);
    for source in &mut sources {
        source.await_all().await.unwrap();
        source.check_again().await.unwrap();
        accepted += source.transactions;
        results += source.ledger.values().len();
    }
    let rows = Rows::of(&postgres, &url);
    until("the last finish", || {
        rows.count("SELECT count(*) FROM transactions WHERE state = 'pending'") == 0
    })
    .await;
    rows.check_all_done(accepted, results);
    // The same processes all along.
    server.check_running().unwrap();
    for worker in &mut workers {
        worker.check_running().unwrap();
    }
    scale::report(
        "database lost",
        &format!(
            "{accepted} transactions, {rounds} crashes, {} cuts: all present, right, once",
            3 * rounds
        ),
    );
}
