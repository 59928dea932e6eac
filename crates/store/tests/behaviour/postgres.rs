//! What only a shared database can do: be used by many at once, lose connections, restart, serve several tenants.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use cipherloom_primitives::{Address, B256, Handle};
use cipherloom_private_postgres::{PrivatePostgres, shared};
use cipherloom_store::{
    ApiKey, CiphertextDirectory, Database, Finished, HandleState, InputKey, JobEnd, JobId, JobLease, MigrationState, NewJob, NewTenant,
    PostgresConfig, PostgresDatabase, PostgresStore, Store, StoreError, SubmittedJob, Tenants,
};
use futures_util::StreamExt;
use sha2::Digest;

use crate::fixture::{
    CHAIN, LEASE_MS, NOW_MS, ciphertext, empty_block, handle, input, lease_one, packed, publish, published, record, request, transaction,
};

/// How long a test waits for what should happen at once.
const SOON: Duration = Duration::from_secs(60);

/// Opens an empty database of its own on the shared server.
pub(crate) async fn open() -> PostgresDatabase {
    open_url(&shared().create_database().unwrap()).await
}

async fn open_url(url: &str) -> PostgresDatabase {
    PostgresDatabase::open(PostgresConfig::new(url).unwrap()).await.unwrap()
}

/// Adds a tenant of the test chain and opens its store.
pub(crate) async fn store(database: &PostgresDatabase, name: &str) -> PostgresStore {
    let tenant = NewTenant {
        name: name.to_owned(),
        chain_id: CHAIN,
        acl: Address::repeat_byte(3),
        input_verifier: Address::repeat_byte(4),
        is_admin: false,
    };
    // Unique per name, which is all that matters here.
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(name.bytes()).for_each(|(byte, letter)| *byte = letter);
    let tenant = database.add_tenant(&tenant, ApiKey::from_random(bytes).digest()).await.unwrap();
    database.store(&tenant)
}

/// Executes SQL in the database behind a URL of the shared server.
fn execute(url: &str, sql: &str) -> String {
    let name = url.split('?').next().unwrap().rsplit('/').next().unwrap();
    shared().execute(name, sql).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_together_migrate_once() {
    let url = shared().create_database().unwrap();
    let starts = (0..8).map(|_| {
        let config = PostgresConfig::new(&url).unwrap();
        tokio::spawn(PostgresDatabase::open(config))
    });
    for start in starts.collect::<Vec<_>>() {
        start.await.unwrap().unwrap();
    }
    let database = open_url(&url).await;
    let status = database.migration_status().await.unwrap();
    assert!(
        status.iter().all(|migration| migration.state == MigrationState::Applied),
        "{status:?}"
    );
    assert!(database.migrate().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_empty_database_is_refused_unless_it_may_be_migrated() {
    let url = shared().create_database().unwrap();
    let config = PostgresConfig::new(&url).unwrap();
    let error = PostgresDatabase::open_migrated(config.clone()).await.unwrap_err();
    assert!(matches!(error, StoreError::OlderSchema { found: 0, .. }), "{error}");
    let database = PostgresDatabase::connect(config.clone()).await.unwrap();
    assert!(
        database
            .migration_status()
            .await
            .unwrap()
            .iter()
            .all(|migration| migration.state == MigrationState::Missing)
    );
    assert_eq!(
        database.migrate().await.unwrap(),
        [
            "initial",
            "pushed work",
            "time of recording",
            "mirror",
            "following",
            "gateway jobs",
            "callbacks",
            "squashed"
        ]
    );
    PostgresDatabase::open_migrated(config).await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let url = shared().create_database().unwrap();
    open_url(&url).await;
    execute(
        &url,
        "INSERT INTO cipherloom_migrations (version, name, checksum) VALUES (1000, 'later', '')",
    );
    let error = PostgresDatabase::open(PostgresConfig::new(&url).unwrap()).await.unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { found: 1000, .. }), "{error}");
    let database = PostgresDatabase::connect(PostgresConfig::new(&url).unwrap()).await.unwrap();
    let newest = database.migration_status().await.unwrap().pop().unwrap();
    assert_eq!((newest.version, newest.state), (1000, MigrationState::Unknown));
}

#[tokio::test]
async fn a_migration_of_another_text_is_refused() {
    let url = shared().create_database().unwrap();
    open_url(&url).await;
    execute(&url, "UPDATE cipherloom_migrations SET checksum = 'other'");
    let error = PostgresDatabase::open(PostgresConfig::new(&url).unwrap()).await.unwrap_err();
    assert!(matches!(error, StoreError::ChangedMigration { version: 1, .. }), "{error}");
}

#[tokio::test]
async fn urls_of_other_databases_are_refused_without_repeating_them() {
    for url in ["mysql://user:secret@host/db", "postgres://user:secret@host:port/db", "secret"] {
        let error = PostgresConfig::new(url).unwrap_err();
        assert!(matches!(error, StoreError::DatabaseUrl(_)));
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let config = PostgresConfig::new("postgres://user:secret@host/db").unwrap();
    assert!(!format!("{config:?}").contains("secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_of_one_chain_see_nothing_of_each_other() {
    let database = open().await;
    let (first, second) = (store(&database, "first").await, store(&database, "second").await);
    publish(&first, 1, handle(1), 1).await;
    let (admitted, handles) = input(7);
    first.admit_input(&admitted, &handles, NOW_MS).await.unwrap();
    record(&first, 2, vec![transaction(0, handle(2), &[])]).await;
    let lease = lease_one(&first, "worker", NOW_MS).await.unwrap().lease;

    assert!(second.recent_blocks(CHAIN, 10).await.unwrap().is_empty());
    assert_eq!(second.ciphertext(handle(1)).await.unwrap(), None);
    assert_eq!(second.handle_state(handle(2)).await.unwrap(), HandleState::Unknown);
    assert_eq!(second.admitted_input(InputKey::Handle(handles[0])).await.unwrap(), None);
    assert!(second.grants_of(handle(1)).await.unwrap().is_empty());
    assert_eq!(lease_one(&second, "worker", NOW_MS + LEASE_MS).await, None);
    for refused in [
        second.renew_lease(&lease, NOW_MS + 9 * LEASE_MS).await,
        second.finish_transaction(&lease, &Finished::default()).await.map(|_| ()),
    ] {
        assert!(matches!(refused, Err(StoreError::LeaseLost { .. })));
    }
    second.remove_blocks_from(CHAIN, 0).await.unwrap();
    // The same handle has another value for the other tenant.
    publish(&second, 1, handle(1), 2).await;
    assert_eq!(first.ciphertext(handle(1)).await.unwrap(), Some(published(handle(1), 1, 1)));
    assert_eq!(second.ciphertext(handle(1)).await.unwrap(), Some(published(handle(1), 2, 1)));
    first.finish_transaction(&lease, &Finished::default()).await.unwrap();
}

#[tokio::test]
async fn what_belongs_to_another_chain_is_not_written() {
    let store = store(&open().await, "only").await;
    let error = store.record_blocks(1, &[empty_block(1)]).await.unwrap_err();
    assert!(matches!(error, StoreError::ForeignChain { expected: CHAIN, found: 1 }), "{error}");
    let foreign = Handle::computed(B256::repeat_byte(1), 1, cipherloom_primitives::FheType::Bool);
    let error = store.add_ciphertexts(&[ciphertext(foreign, 1)]).await.unwrap_err();
    assert!(matches!(error, StoreError::ForeignChain { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_in_one_process_is_a_hint_in_another_and_not_in_another_tenants() {
    let url = shared().create_database().unwrap();
    let here = store(&open_url(&url).await, "here").await;
    let elsewhere = open_url(&url).await;
    let tenants = elsewhere.tenants().await.unwrap();
    let mut hints = elsewhere.store(&tenants[0]).changes();
    let other = store(&elsewhere, "other").await;
    let mut other_hints = other.changes();
    // One when listening begins, for what was missed before.
    for hints in [&mut hints, &mut other_hints] {
        tokio::time::timeout(SOON, hints.next()).await.unwrap().unwrap();
    }
    record(&here, 1, vec![transaction(0, handle(1), &[])]).await;
    tokio::time::timeout(SOON, hints.next()).await.unwrap().unwrap();
    // A hint of the other tenant's own comes first, so that of the first one was not passed on.
    let (_, next) = tokio::join!(record(&other, 1, vec![]), tokio::time::timeout(SOON, other_hints.next()));
    next.unwrap().unwrap();
    assert!(futures_util::poll!(other_hints.next()).is_pending());
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_are_replaced_and_a_lease_survives_them() {
    let url = shared().create_database().unwrap();
    let store = Arc::new(store(&open_url(&url).await, "only").await);
    let mut hints = store.changes();
    tokio::time::timeout(SOON, hints.next()).await.unwrap().unwrap();
    record(store.as_ref(), 1, vec![transaction(0, handle(1), &[])]).await;
    let leased = lease_one(store.as_ref(), "worker", NOW_MS).await.unwrap();
    let cut = execute(
        &url,
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    assert!(cut.parse::<u32>().unwrap() >= 2, "{cut}");
    let done = Finished {
        ciphertexts: vec![ciphertext(handle(1), 1)],
        failures: Vec::new(),
    };
    // The first calls may find a dead connection; they say that trying again helps, and it does.
    let mut attempts = 0;
    while let Err(error) = store.finish_transaction(&leased.lease, &done).await {
        assert!(error.is_retryable(), "{error:?}");
        attempts += 1;
        assert!(attempts < 20, "{error}");
    }
    assert_eq!(store.ciphertext(handle(1)).await.unwrap(), Some(published(handle(1), 1, 1)));
    // Listening goes on, with a hint for what was missed.
    tokio::time::timeout(SOON, async {
        loop {
            record_retrying(store.as_ref()).await;
            if tokio::time::timeout(Duration::from_secs(5), hints.next()).await.is_ok() {
                return;
            }
        }
    })
    .await
    .unwrap();
}

/// Records one more empty block.
async fn record_retrying(store: &PostgresStore) {
    let newest = store.recent_blocks(CHAIN, 1).await.unwrap();
    record(store, newest[0].number + 1, Vec::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_survives_a_crash_of_the_server() {
    let mut server = PrivatePostgres::start().unwrap();
    let url = server.create_database().unwrap();
    let store = store(&open_url(&url).await, "only").await;
    publish(&store, 1, handle(1), 1).await;
    record(&store, 2, vec![transaction(0, handle(2), &[handle(1)])]).await;
    let leased = lease_one(&store, "worker", NOW_MS).await.unwrap();
    server.crash().unwrap();
    let error = store.finish_transaction(&leased.lease, &Finished::default()).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    server.start_again().unwrap();
    // The same store, on new connections; the lease is in the database and still ours.
    let done = Finished {
        ciphertexts: vec![ciphertext(handle(2), 2)],
        failures: Vec::new(),
    };
    let mut attempts = 0;
    while let Err(error) = store.finish_transaction(&leased.lease, &done).await {
        assert!(error.is_retryable() && attempts < 20, "{error:?}");
        attempts += 1;
    }
    assert_eq!(store.ciphertext(handle(1)).await.unwrap(), Some(published(handle(1), 1, 1)));
    assert_eq!(store.ciphertext(handle(2)).await.unwrap(), Some(published(handle(2), 2, 2)));
}

/// A handle of its own for each number.
fn numbered(number: u64) -> Handle {
    let mut hash = B256::ZERO;
    hash[..8].copy_from_slice(&number.to_be_bytes());
    Handle::computed(hash, CHAIN, cipherloom_primitives::FheType::Uint64)
}

/// Chains of dependent transactions and independent ones, in several databases' worth of workers, some of which abandon their leases: every
/// transaction is finished by exactly one lease, never before what it needs, and no two leases are live at one time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workers_of_many_processes_share_the_work_without_overlap() {
    const CHAINS: u64 = 20;
    const LENGTH: u64 = 6;
    let url = shared().create_database().unwrap();
    let first = store(&open_url(&url).await, "only").await;
    let tenant = open_url(&url).await.tenants().await.unwrap().remove(0);
    // Position p of chain c needs position p - 1; a block holds one position of all chains.
    for position in 0..LENGTH {
        let transactions = (0..CHAINS).map(|chain| {
            let output = numbered(chain * LENGTH + position + 1);
            let needed: Vec<Handle> = (position > 0).then(|| numbered(chain * LENGTH + position)).into_iter().collect();
            transaction(chain, output, &needed)
        });
        record(&first, position + 1, transactions.collect()).await;
    }
    let clock = Arc::new(std::sync::atomic::AtomicU64::new(NOW_MS));
    let workers = (0..6u64).map(|number| {
        let (url, tenant, clock) = (url.clone(), tenant.clone(), Arc::clone(&clock));
        tokio::spawn(async move {
            // A pool of its own, as another process has.
            let database = PostgresDatabase::open(PostgresConfig::new(&url).unwrap().max_connections(2))
                .await
                .unwrap();
            let store = database.store(&tenant);
            let mut finished = Vec::new();
            let mut taken = 0u64;
            while store.pending_transactions(CHAIN).await.unwrap() > 0 {
                let now_ms = clock.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                for leased in store
                    .lease_transactions(&request(&format!("worker {number}"), now_ms, 3))
                    .await
                    .unwrap()
                {
                    taken += 1;
                    // Every fifth lease is forgotten, as by a killed process; time passes until somebody takes it over.
                    if (taken + number).is_multiple_of(5) && leased.attempts == 1 {
                        clock.fetch_add(LEASE_MS, std::sync::atomic::Ordering::Relaxed);
                        continue;
                    }
                    let output = leased.outputs[0];
                    for needed in &leased.computations[0].inputs {
                        assert_eq!(
                            store.handle_state(*needed).await.unwrap(),
                            HandleState::Stored,
                            "leased before what it needs"
                        );
                    }
                    let done = Finished {
                        ciphertexts: vec![ciphertext(output, u8::try_from(number).unwrap())],
                        failures: Vec::new(),
                    };
                    match store.finish_transaction(&leased.lease, &done).await {
                        Ok(_) => finished.push((output, number)),
                        Err(StoreError::LeaseLost { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            finished
        })
    });
    let mut by_output: BTreeMap<Handle, u64> = BTreeMap::new();
    for worker in workers.collect::<Vec<_>>() {
        for (output, number) in tokio::time::timeout(SOON, worker).await.unwrap().unwrap() {
            assert_eq!(by_output.insert(output, number), None, "{output} was finished twice");
        }
    }
    assert_eq!(by_output.len(), usize::try_from(CHAINS * LENGTH).unwrap());
    for (output, number) in by_output {
        // What is stored is what the worker published whose lease held.
        assert_eq!(
            first.ciphertext(output).await.unwrap().unwrap().bytes[0],
            u8::try_from(number).unwrap()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recording_and_finishing_at_the_same_time_strands_nothing() {
    let url = shared().create_database().unwrap();
    let store = Arc::new(store(&open_url(&url).await, "only").await);
    record(store.as_ref(), 1, vec![transaction(0, numbered(1), &[])]).await;
    let recorder = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for number in 2..=60 {
                record(
                    store.as_ref(),
                    number,
                    vec![transaction(0, numbered(number), &[numbered(number - 1)])],
                )
                .await;
            }
        }
    });
    // The worker is always at the newest transaction, so that each recording meets a finish.
    let mut finished = 0;
    tokio::time::timeout(SOON, async {
        while finished < 60 {
            for leased in store.lease_transactions(&request("worker", NOW_MS, 10)).await.unwrap() {
                let done = Finished {
                    ciphertexts: vec![ciphertext(leased.outputs[0], 1)],
                    failures: Vec::new(),
                };
                store.finish_transaction(&leased.lease, &done).await.unwrap();
                finished += 1;
            }
        }
    })
    .await
    .unwrap();
    recorder.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reason_with_a_character_that_the_database_refuses_does_not_strand_the_transaction() {
    let store = store(&open().await, "only").await;
    record(&store, 1, vec![transaction(0, handle(1), &[])]).await;
    let leased = lease_one(&store, "wor\0ker", NOW_MS).await.unwrap();
    let failed = Finished {
        ciphertexts: Vec::new(),
        failures: vec![cipherloom_store::OutputFailure {
            handle: handle(1),
            reason: "no\0good".to_owned(),
        }],
    };
    store.finish_transaction(&leased.lease, &failed).await.unwrap();
    assert_eq!(
        store.handle_state(handle(1)).await.unwrap(),
        HandleState::Failed("no\u{fffd}good".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_take_turns_and_those_with_fewest_leases_come_first() {
    let database = open().await;
    let mut tenants = Vec::new();
    for (name, waiting) in [("busy", 10u8), ("idle", 0), ("small", 1)] {
        let store = store(&database, name).await;
        let transactions = (0..waiting)
            .map(|index| transaction(index.into(), handle(index + 1), &[]))
            .collect();
        record(&store, 1, transactions).await;
        tenants.push(store);
    }
    let [busy, idle, small] = [0, 1, 2].map(|index: usize| tenants[index].tenant());
    let all = [busy, idle, small];
    assert_eq!(database.tenants_by_turn(&all, None, NOW_MS).await.unwrap(), [busy, small]);
    assert_eq!(database.tenants_by_turn(&all, Some(busy), NOW_MS).await.unwrap(), [small, busy]);
    assert_eq!(database.tenants_by_turn(&[busy], Some(busy), NOW_MS).await.unwrap(), [busy]);
    tenants[0].lease_transactions(&request("worker", NOW_MS, 3)).await.unwrap();
    assert_eq!(database.tenants_by_turn(&all, Some(small), NOW_MS).await.unwrap(), [small, busy]);
    // What expired counts no more.
    assert_eq!(
        database.tenants_by_turn(&all, Some(small), NOW_MS + LEASE_MS).await.unwrap(),
        [busy, small]
    );
    database.set_tenant_disabled(busy, true).await.unwrap();
    assert_eq!(database.tenants_by_turn(&all, None, NOW_MS).await.unwrap(), [small]);
}

#[tokio::test]
async fn a_tenant_inserted_as_by_scripts_of_the_0_6_generation_is_found_by_its_key_and_the_key_is_not_kept() {
    let url = shared().create_database().unwrap();
    let database = open_url(&url).await;
    execute(
        &url,
        "INSERT INTO tenants (tenant_api_key, chain_id, acl_contract_address, verifying_contract_address, pks_key, sks_key, public_params)
         VALUES ('a1503fb6-d79b-4e9e-826d-44cf262f3e05', 12345, '0x339EcE85B9E11a3A3AA557582784a15d7F82AAf2',
                 '0x69dE3158643e738a0724418b21a35FAA20CBb1c5', 'p', 's', 'c')",
    );
    let key = ApiKey::parse("A1503FB6-D79B-4E9E-826D-44CF262F3E05").unwrap();
    let tenant = database.tenant_with_key(key.digest()).await.unwrap().unwrap();
    assert_eq!((tenant.chain_id, tenant.name.as_str(), tenant.is_admin), (12345, "tenant-1", false));
    assert_eq!(execute(&url, "SELECT count(*) FROM tenants WHERE tenant_api_key IS NOT NULL"), "0");
    // A key set by hand later goes the same way.
    execute(&url, "UPDATE tenants SET tenant_api_key = '00000000-0000-4000-8000-000000000001'");
    assert_eq!(database.tenant_with_key(key.digest()).await.unwrap(), None);
    let key = ApiKey::parse("00000000-0000-4000-8000-000000000001").unwrap();
    assert!(database.tenant_with_key(key.digest()).await.unwrap().is_some());
    assert_eq!(execute(&url, "SELECT count(*) FROM tenants WHERE tenant_api_key IS NOT NULL"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_in_a_directory_are_checked_when_they_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let url = shared().create_database().unwrap();
    let plain = open_url(&url).await;
    let objects = CiphertextDirectory::open(directory.path()).unwrap();
    let with_objects = open_url(&url).await.with_objects(Arc::new(objects));
    let store = store(&with_objects, "only").await;
    publish(&store, 1, handle(1), 1).await;
    let stored = published(handle(1), 1, 1);
    assert_eq!(store.ciphertext(handle(1)).await.unwrap(), Some(stored.clone()));
    assert_eq!(execute(&url, "SELECT count(*) FROM ciphertexts WHERE bytes IS NOT NULL"), "0");

    let tenant = plain.tenants().await.unwrap().remove(0);
    let error = plain.store(&tenant).ciphertext(handle(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::NoObjectStore), "{error}");
    let name = format!("{:x}", stored.digest);
    let path = directory.path().join(&name[..2]).join(&name);
    std::fs::write(&path, b"something else").unwrap();
    let error = store.ciphertext(handle(1)).await.unwrap_err();
    assert!(
        matches!(error, StoreError::DamagedObject { digest, .. } if digest == stored.digest),
        "{error}"
    );
    std::fs::remove_file(&path).unwrap();
    let error = store.ciphertext(handle(1)).await.unwrap_err();
    assert!(
        matches!(error, StoreError::MissingObject { digest } if digest == stored.digest),
        "{error}"
    );
    // What a wrong digest would make unreadable is not stored.
    let wrong = cipherloom_store::StoredCiphertext {
        bytes: b"other".to_vec(),
        ..ciphertext(handle(2), 2)
    };
    assert!(matches!(
        store.add_ciphertexts(std::slice::from_ref(&wrong)).await,
        Err(StoreError::Corrupt { .. })
    ));
    assert_eq!(store.handle_state(handle(2)).await.unwrap(), HandleState::Unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn cooling_removes_the_raw_object_unless_another_value_has_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let database = open()
        .await
        .with_objects(Arc::new(CiphertextDirectory::open(directory.path()).unwrap()));
    let store = store(&database, "only").await;
    for (number, content) in [(1, 1), (2, 1), (3, 3)] {
        publish(&store, number.into(), handle(number), content).await;
    }
    let path = |content| {
        let name = format!("{:x}", ciphertext(handle(1), content).digest);
        directory.path().join(&name[..2]).join(&name)
    };
    for content in [1, 3] {
        let old = std::time::SystemTime::now() - Duration::from_secs(3600);
        let file = std::fs::File::options().write(true).open(path(content)).unwrap();
        file.set_modified(old).unwrap();
    }
    for number in [1, 3] {
        let raw = store.ciphertext(handle(number)).await.unwrap().unwrap();
        store.cool_ciphertext(&packed(raw)).await.unwrap();
    }
    assert!(path(1).exists(), "the value of handle 2 has these bytes");
    assert!(!path(3).exists());
    for number in 1..=3 {
        store.ciphertext(handle(number)).await.unwrap().unwrap();
    }
}

/// The server plans statements while tables are empty and keeps the plans, so this is about the plans as much as about the indexes.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_for_a_transaction_does_not_grow_with_the_tables() {
    const BLOCKS: u64 = 30;
    const TRANSACTIONS: u64 = 60;
    /// A few dozen are usual. A plan that reads a table would read thousands.
    const ENTRIES_PER_TRANSACTION: u64 = 150;
    let url = shared().create_database().unwrap();
    let database = open_url(&url).await;
    let store = store(&database, "only").await;
    for number in 1..=BLOCKS {
        let transactions = (0..TRANSACTIONS).map(|index| {
            let needed: Vec<Handle> = (number > 1)
                .then(|| numbered((number - 1) * TRANSACTIONS + index))
                .into_iter()
                .collect();
            transaction(index, numbered(number * TRANSACTIONS + index), &needed)
        });
        record(&store, number, transactions.collect()).await;
    }
    for _ in 0..100 {
        let leased = lease_one(&store, "worker", NOW_MS).await.unwrap();
        let output = leased.outputs[0];
        let done = Finished {
            ciphertexts: vec![ciphertext(output, 1)],
            failures: Vec::new(),
        };
        store.finish_transaction(&leased.lease, &done).await.unwrap();
        store.handle_state(output).await.unwrap();
    }
    database.close().await;
    wait_for_others_to_leave(&url);
    let per_transaction = entries_read(&url) / (BLOCKS * TRANSACTIONS);
    assert!(
        per_transaction < ENTRIES_PER_TRANSACTION,
        "{per_transaction} index entries and rows were read per transaction"
    );
    assert!(per_transaction > 0, "the server's counts were not there yet");
}

/// The server's plans for jobs of gateways: what one costs does not depend on how many there are.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_for_a_gateways_job_does_not_grow_with_their_number() {
    const FINISHED: u64 = 3_000;
    const JOBS: u64 = 200;
    /// A dozen are usual. A plan that reads the table would read thousands.
    const ENTRIES_PER_JOB: u64 = 60;
    let url = shared().create_database().unwrap();
    let database = open_url(&url).await;
    let jobs = Database::gateway_jobs(&database, "main");
    let unfinished =
        "INSERT INTO gateway_jobs (id, deployment, operation, digest, request, owner, lease_expires_at_ms, attempts, submitted_at_ms)
        SELECT decode(md5(n::TEXT), 'hex'), 'main', 'public-decrypt', sha256(n::TEXT::BYTEA), 'r', 'other', 9000000000000000, 1, 1
        FROM generate_series(1, 1000) n";
    let finished = format!(
        "INSERT INTO gateway_jobs (id, deployment, operation, digest, attempts, submitted_at_ms, finished_at_ms, answer, answer_bytes)
         SELECT decode(md5(n::TEXT), 'hex'), 'main', 'public-decrypt', sha256(n::TEXT::BYTEA), 1, 1, 5, 'a', 1
         FROM generate_series(1001, {}) n",
        1000 + FINISHED
    );
    execute(&url, unfinished);
    execute(&url, &finished);
    let read_before = entries_read(&url);
    let lease = JobLease {
        owner: "one",
        now_ms: NOW_MS,
        until_ms: NOW_MS + LEASE_MS,
    };
    for number in 0..JOBS {
        let id = JobId(u128::from(number).to_be_bytes());
        let job = NewJob {
            id,
            operation: "public-decrypt",
            digest: B256::from(cipherloom_primitives::U256::from(number)),
            request: b"request",
        };
        assert_eq!(jobs.submit(&job, lease).await.unwrap(), SubmittedJob::New);
        assert_eq!(jobs.submit(&job, lease).await.unwrap(), SubmittedJob::Known(id));
        assert!(jobs.claim(lease, 8).await.unwrap().is_empty());
        jobs.renew(&[id], lease).await.unwrap();
        assert!(jobs.finish(id, "one", JobEnd::Succeeded(b"answer"), NOW_MS).await.unwrap());
        assert!(jobs.find(id).await.unwrap().is_some());
    }
    database.close().await;
    wait_for_others_to_leave(&url);
    let per_job = (entries_read(&url) - read_before) / JOBS;
    assert!(per_job > 0, "the server's counts were not there yet");
    assert!(per_job < ENTRIES_PER_JOB, "{per_job} index entries and rows were read per job");
}

/// Returns how many index entries and rows of tables were read, as far as connections have reported.
fn entries_read(url: &str) -> u64 {
    let read = execute(
        url,
        "SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes) + (SELECT sum(seq_tup_read) FROM pg_stat_user_tables)",
    );
    read.parse().unwrap()
}

/// Waits until only one's own connection is left. Connections report what they read when they end.
fn wait_for_others_to_leave(url: &str) {
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    while execute(url, others) != "0" {
        std::thread::yield_now();
    }
}

/// The schema of the first version with a transaction that is pending, one that waits for it and one that is done.
const FIRST_VERSION: &str = concat!(
    include_str!("../../src/postgres/0001_initial.sql"),
    "CREATE TABLE cipherloom_migrations (
        version BIGINT PRIMARY KEY, name TEXT NOT NULL, checksum BYTEA NOT NULL, applied_at TIMESTAMPTZ NOT NULL DEFAULT now());
     INSERT INTO tenants (tenant_api_key, chain_id, acl_contract_address, verifying_contract_address)
     VALUES (NULL, 31337, '0x339EcE85B9E11a3A3AA557582784a15d7F82AAf2', '0x69dE3158643e738a0724418b21a35FAA20CBb1c5');
     INSERT INTO blocks VALUES (1, 1, sha256('b'), sha256('a'), 1), (1, 2, sha256('c'), sha256('b'), 2);"
);

#[tokio::test(flavor = "multi_thread")]
async fn work_recorded_by_the_first_version_is_computed_and_removed_by_this_one() {
    let url = shared().create_database().unwrap();
    execute(&url, FIRST_VERSION);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let checksum = sha2::Sha256::digest(include_str!("../../src/postgres/0001_initial.sql"));
    execute(
        &url,
        &format!("INSERT INTO cipherloom_migrations VALUES (1, 'initial', '\\x{}')", hex(&checksum)),
    );
    let recorded = [
        transaction(0, handle(1), &[]),
        transaction(1, handle(2), &[handle(1)]),
        transaction(2, handle(3), &[]),
    ];
    for (index, (recorded, (block, state, waits))) in recorded
        .iter()
        .zip([(1, "pending", 0), (2, "pending", 1), (1, "done", 0)])
        .enumerate()
    {
        let computations = serde_json::to_string(&recorded.computations).unwrap();
        let output = hex(recorded.outputs[0].as_slice());
        execute(
            &url,
            &format!(
                "INSERT INTO transactions (tenant_id, block_number, transaction_index, hash, computations, state, waits_for)
                 VALUES (1, {block}, {index}, '\\x{}', '{computations}', '{state}', {waits});
                 INSERT INTO transaction_outputs SELECT max(id), 1, '\\x{output}' FROM transactions;",
                hex(recorded.hash.as_slice())
            ),
        );
    }
    let needed = hex(handle(1).as_slice());
    execute(
        &url,
        &format!("INSERT INTO transaction_waits SELECT id, 1, '\\x{needed}', FALSE FROM transactions WHERE block_number = 2"),
    );

    let database = open_url(&url).await;
    let tenant = database.tenants().await.unwrap().remove(0);
    let store = database.store(&tenant);
    assert_eq!(store.pending_transactions(CHAIN).await.unwrap(), 2);
    let first = lease_one(&store, "worker", NOW_MS).await.unwrap();
    assert_eq!(
        (&first.computations, first.outputs.as_slice()),
        (&recorded[0].computations, [handle(1)].as_slice())
    );
    assert_eq!(lease_one(&store, "worker", NOW_MS).await, None);
    let done = Finished {
        ciphertexts: vec![ciphertext(handle(1), 1)],
        failures: Vec::new(),
    };
    assert_eq!(store.finish_transaction(&first.lease, &done).await.unwrap().len(), 1);
    assert_eq!(store.pending_transactions(CHAIN).await.unwrap(), 1);
    store.remove_blocks_from(CHAIN, 2).await.unwrap();
    assert_eq!(store.pending_transactions(CHAIN).await.unwrap(), 0);
    assert_eq!(execute(&url, "SELECT count(*) FROM transaction_outputs"), "2");
    database.remove_tenant(tenant.id).await.unwrap();
    for table in [
        "transactions",
        "transaction_outputs",
        "transaction_waits",
        "tenant_work",
        "ciphertexts",
    ] {
        assert_eq!(execute(&url, &format!("SELECT count(*) FROM {table}")), "0", "{table}");
    }
}
