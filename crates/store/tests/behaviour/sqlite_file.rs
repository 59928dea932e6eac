//! What only a file can do: survive, be locked, be too new.

use cipherloom_store::{Database, Finished, HandleState, InputKey, JobId, JobLease, NewJob, SqliteStore, Store, StoreError};

use crate::fixture::{CHAIN, LEASE_MS, NOW_MS, ciphertext, handle, input, lease_one, published, record, transaction};

#[tokio::test]
async fn everything_survives_a_crash_and_leases_are_free_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let (admitted, handles) = input(7);
    {
        let store = SqliteStore::open(&path).await.unwrap();
        store.admit_input(&admitted, &handles, NOW_MS).await.unwrap();
        record(&store, 1, vec![transaction(0, handle(1), &[]), transaction(1, handle(2), &[])]).await;
        let leased = lease_one(&store, "worker", NOW_MS).await.unwrap();
        let done = Finished {
            ciphertexts: vec![ciphertext(handle(1), 1)],
            failures: Vec::new(),
        };
        store.finish_transaction(&leased.lease, &done).await.unwrap();
        lease_one(&store, "worker", NOW_MS).await.unwrap();
        // Dropped without closing, with a live lease.
    }
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(store.ciphertext(handle(1)).await.unwrap(), Some(published(handle(1), 1, 1)));
    assert_eq!(store.admitted_input(InputKey::Handle(handles[0])).await.unwrap(), Some(admitted));
    assert_eq!(store.handle_state(handle(2)).await.unwrap(), HandleState::Pending);
    let leased = lease_one(&store, "worker", NOW_MS).await.unwrap();
    assert_eq!((leased.outputs.as_slice(), leased.attempts), ([handle(2)].as_slice(), 2));
    assert_eq!(store.recent_blocks(CHAIN, 5).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_file_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let store = SqliteStore::open(&path).await.unwrap();
    assert!(matches!(SqliteStore::open(&path).await, Err(StoreError::InUse(in_use)) if in_use == path));
    store.close().await;
    drop(store);
    SqliteStore::open(&path).await.unwrap();
}

#[tokio::test]
async fn a_missing_directory_is_reported_with_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing").join("store.sqlite");
    let error = SqliteStore::open(&path).await.unwrap_err();
    assert!(matches!(&error, StoreError::File { .. }), "{error}");
    assert!(error.to_string().contains("missing"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    std::fs::write(&path, vec![0xab; 8192]).unwrap();
    let error = SqliteStore::open(&path).await.unwrap_err();
    assert!(matches!(&error, StoreError::Database(_)) && !error.is_retryable(), "{error}");
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    SqliteStore::open(&path).await.unwrap().close().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::query("INSERT INTO migrations (version) VALUES (1000)")
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    assert!(matches!(
        SqliteStore::open(&path).await,
        Err(StoreError::NewerSchema { found: 1000, .. })
    ));
}

#[tokio::test]
async fn computations_recorded_as_json_by_earlier_versions_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let recorded = transaction(0, handle(1), &[]);
    let store = SqliteStore::open(&path).await.unwrap();
    record(&store, 1, vec![recorded.clone()]).await;
    store.close().await;
    drop(store);
    let file = sqlx::SqlitePool::connect_with(sqlx::sqlite::SqliteConnectOptions::new().filename(&path))
        .await
        .unwrap();
    sqlx::query("UPDATE transactions SET work = NULL, computations = ?")
        .bind(serde_json::to_string(&recorded.computations).unwrap())
        .execute(&file)
        .await
        .unwrap();
    file.close().await;
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(
        lease_one(&store, "worker", NOW_MS).await.unwrap().computations,
        recorded.computations
    );
}

#[tokio::test]
async fn jobs_of_a_gateway_that_was_killed_are_free_when_the_file_is_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let lease = JobLease {
        owner: "killed",
        now_ms: NOW_MS,
        until_ms: NOW_MS + LEASE_MS,
    };
    let job = NewJob {
        id: JobId([1; 16]),
        operation: "public-decrypt",
        digest: cipherloom_primitives::B256::repeat_byte(1),
        request: b"request",
    };
    let store = SqliteStore::open(&path).await.unwrap();
    store.gateway_jobs("main").submit(&job, lease).await.unwrap();
    store.close().await;
    drop(store);

    let store = SqliteStore::open(&path).await.unwrap();
    let next = JobLease { owner: "next", ..lease };
    let claimed = store.gateway_jobs("main").claim(next, 1).await.unwrap();
    assert_eq!((claimed.len(), claimed[0].request.as_slice()), (1, &b"request"[..]));
}
