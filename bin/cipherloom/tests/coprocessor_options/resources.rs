//! What a process takes of the machine and of the database, and how it works: each option changes what can be measured from outside.

use std::sync::Arc;

use cipherloom_fhe::{KeySet, ParameterSet};
use cipherloom_load::{Process, Role, TenantClient};
use cipherloom_private_postgres::shared;

use crate::ground::{Ground, metric, note_leases, threads, until, values};

/// Fails unless a process has this many threads whose names begin so. A thread has its name when it first runs.
async fn assert_threads(process: &Process, prefix: &str, count: usize) {
    until(prefix, || threads(process, prefix) >= count).await;
    assert_eq!(threads(process, prefix), count, "threads called {prefix}");
}

#[tokio::test]
async fn tokio_threads_are_as_many_as_asked_for() {
    let ground = Ground::embedded();
    for count in [1, 3] {
        let server = ground.start(
            Role::Both,
            &["--tokio-threads", &count.to_string(), "--coprocessor-fhe-threads", "1"],
        );
        assert_threads(&server, "tokio-", count).await;
    }
}

#[tokio::test]
async fn coprocessor_fhe_threads_compute_as_many_as_asked_for_and_no_more_than_processors_by_default() {
    let ground = Ground::embedded();
    let processors = std::thread::available_parallelism().unwrap().get();
    for (options, count) in [
        (["--coprocessor-fhe-threads", "1"].as_slice(), 1),
        (&["--coprocessor-fhe-threads", "11"], 11),
        (&[], processors.min(8)),
    ] {
        let server = ground.start(Role::Both, options);
        let client = ground.client(&server);
        let (request, names) = values(0, 1);
        client.compute_once(request).await.unwrap();
        // The engine starts with the first work under a key set.
        ground.await_value(&client, &names[0]).await;
        assert_threads(&server, "engine-", count).await;
    }
}

#[tokio::test]
async fn no_more_connections_than_pg_pool_max_connections_are_open() {
    let (ground, database) = Ground::on_postgres();
    let connections = || -> usize {
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND query NOT ILIKE '%listen%'");
        shared().execute("postgres", &sql).unwrap().parse().unwrap()
    };
    for (limit, options) in [(2, ["--pg-pool-max-connections", "2"]), (6, ["--pg-pool-max-connections", "6"])] {
        let server = ground.start(Role::Server, &options);
        let client = ground.client(&server);
        let mut most = 0;
        // As many at a time as the server answers, until there were enough that every connection is used.
        for round in 0..20u32 {
            let mut requests = tokio::task::JoinSet::new();
            for number in 0..24u32 {
                let (client, first) = (client.clone(), limit * 100_000 + (round * 24 + number) * 10);
                requests.spawn(async move { client.compute_once(values(first, 10).0).await });
            }
            while let Some(answer) = requests.join_next().await {
                answer.unwrap().unwrap();
            }
            most = most.max(connections());
        }
        assert_eq!(most, limit as usize, "{options:?}");
        let told = metric(&server, "coprocessor_database_connections{state=\"limit\"}");
        assert!((told - f64::from(limit)).abs() < f64::EPSILON, "{told}");
    }
}

#[tokio::test]
async fn work_items_batch_size_is_how_much_a_worker_takes_at_a_time() {
    for size in [1u32, 7] {
        let (ground, database) = Ground::on_postgres();
        note_leases(&database);
        let size = size.to_string();
        let server = ground.start(Role::Server, &[]);
        let client = ground.client(&server);
        // All of it is there before the worker is.
        let (request, names) = values(0, 40);
        client.compute_once(request).await.unwrap();
        let worker = ground.start(Role::Worker, &["--work-items-batch-size", &size, "--concurrent-transactions", "16"]);
        for name in &names {
            ground.await_value(&client, name).await;
        }
        let largest = shared().execute(&database, "SELECT max(count), sum(count) FROM noted").unwrap();
        assert_eq!(largest, format!("{size}|40"));
        assert!((metric(&worker, "coprocessor_work_items_found") - 40.0).abs() < f64::EPSILON);
    }
}

#[tokio::test]
async fn worker_polling_interval_ms_is_how_often_an_idle_worker_looks() {
    let ground = Ground::embedded();
    let polls = |process: &Process| metric(process, "coprocessor_work_items_polls");
    let eager = ground.start(Role::Both, &["--worker-polling-interval-ms", "10"]);
    until("many polls", || polls(&eager) >= 50.0).await;
    drop(eager);
    let lazy = ground.start(Role::Both, &["--worker-polling-interval-ms", "3600000"]);
    let client = ground.client(&lazy);
    // It learns of work without polling.
    let (request, names) = values(0, 1);
    client.compute_once(request).await.unwrap();
    ground.await_value(&client, &names[0]).await;
    assert!(polls(&lazy) < 20.0, "{}", polls(&lazy));
}

#[tokio::test]
async fn tenant_key_cache_size_is_how_many_key_sets_are_kept() {
    let ground = Ground::embedded();
    let keys = KeySet::generate(&ground.directory.path().join("more-keys"), ParameterSet::InsecureClear, &()).unwrap();
    let other = ground.deployment.add_tenant("other", 54_321, Some(keys.directory())).unwrap();
    let mut loads = Vec::new();
    for (first, size) in [(0, "1"), (1000, "2")] {
        let server = ground.start(Role::Both, &["--tenant-key-cache-size", size]);
        let clients = [&ground.tenant, &other]
            .map(|tenant| TenantClient::new(&server.url().unwrap(), Arc::clone(tenant), std::time::Duration::from_secs(60)).unwrap());
        for round in 0..4 {
            for client in &clients {
                let (request, names) = values(first + round, 1);
                client.compute_once(request).await.unwrap();
                ground.await_value(client, &names[0]).await;
            }
        }
        loads.push(metric(&server, "coprocessor_key_cache_loads_total"));
    }
    assert!(loads[0] >= 6.0, "with room for one, each turn loads again: {loads:?}");
    assert!(
        (loads[1] - 2.0).abs() < f64::EPSILON,
        "with room for both, each is loaded once: {loads:?}"
    );
}
