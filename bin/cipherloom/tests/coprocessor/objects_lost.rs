//! An object store that fails in the middle of work: a full disk, an unmounted directory. What was accepted waits until it is put right.

use std::path::Path;

use cipherloom_load::{Process, Role};

use crate::{
    ground::{Ground, Source, until},
    scale,
};

/// Makes a directory unusable, as an unmounted file system is: writing and reading fail, also for an account that may do everything.
fn lose(directory: &Path) {
    std::fs::rename(directory, directory.with_extension("away")).unwrap();
    std::fs::write(directory, b"").unwrap();
}

fn bring_back(directory: &Path) {
    std::fs::remove_file(directory).unwrap();
    std::fs::rename(directory.with_extension("away"), directory).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_object_store_delays_work_and_loses_nothing() {
    let seed = scale::seed();
    let (rounds, transactions) = scale::of((4, 600), (1, 200));
    let (ground, rows) = Ground::on_postgres(1);
    let objects = ground.directory.path().join("objects");
    std::fs::create_dir(&objects).unwrap();
    let url = format!("file://{}", objects.display());
    let at = ["--ciphertext-store", url.as_str()];
    let mut server = ground.deployment.start(Role::Server, &at).unwrap();
    let mut workers: Vec<Process> = (0..2).map(|_| ground.deployment.start(Role::Worker, &at).unwrap()).collect();
    let mut source: Source = ground.source(0, &server, seed);
    source.open(&ground.clear.keys).await.unwrap();
    let failed = || rows.count("SELECT count(*) FROM transaction_outputs WHERE failure IS NOT NULL");
    let done = || rows.count("SELECT count(*) FROM transactions WHERE state = 'done'");
    for _ in 0..rounds {
        let before = done();
        source.feed(transactions / 2).await.unwrap();
        until("progress", || done() > before).await;
        lose(&objects);
        // Accepting needs no object store; computing does, and fails in the meantime.
        source.feed(transactions / 2).await.unwrap();
        until("a complaint", || {
            workers.iter().any(|worker| worker.log().to_lowercase().contains("object"))
        })
        .await;
        assert_eq!(failed(), 0, "a failure of the object store was taken for one of the computation");
        bring_back(&objects);
        source.await_all().await.unwrap();
    }
    source.check_again().await.unwrap();
    until("the last finish", || {
        rows.count("SELECT count(*) FROM transactions WHERE state = 'pending'") == 0
    })
    .await;
    rows.check_all_done(source.transactions, source.ledger.values().len());
    assert_ne!(
        rows.count("SELECT count(*) FROM ciphertexts WHERE bytes IS NULL"),
        0,
        "bytes are in the directory"
    );
    server.check_running().unwrap();
    for worker in &mut workers {
        worker.check_running().unwrap();
    }
    scale::report(
        "object store lost",
        &format!(
            "{} transactions, lost {rounds} times: all present, right, once",
            source.transactions
        ),
    );
}
