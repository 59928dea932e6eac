//! The public mirror: what is published, what a reader accepts, and what happens when publishing is interrupted.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use alloy::signers::local::PrivateKeySigner;
use cipherloom_coprocessor::mirror::{CiphertextRecord, MANIFEST_NAME, Mirror, MirrorError, Publisher, Publishing};
use cipherloom_primitives::{Address, B256, FheType, Handle};
use cipherloom_private_postgres::shared;
use cipherloom_store::{
    ApiKey, CiphertextDirectory, CiphertextObjects, Database, NewTenant, PostgresConfig, PostgresDatabase, PublicPlace, SqliteStore, Store,
    StoreError, StoreFuture, StoredCiphertext, Tenants, object_digest, object_name,
};
use tokio_util::sync::CancellationToken;

const CHAIN: u64 = 31337;

fn handle(tag: u8) -> Handle {
    Handle::computed(B256::repeat_byte(tag), CHAIN, FheType::Uint64)
}

fn signer(tag: u8) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(tag)).unwrap()
}

fn raw(tag: u8) -> StoredCiphertext {
    let bytes = vec![tag; 100];
    StoredCiphertext::raw(handle(tag), B256::repeat_byte(0x77), object_digest(&bytes), bytes)
}

/// A value in packed form, as the database has it for an input or after cooling. The bytes are not looked into.
fn packed(tag: u8) -> StoredCiphertext {
    let bytes = vec![tag, 0xff];
    raw(tag).packed(object_digest(&bytes), bytes)
}

async fn store_with(tags: std::ops::RangeInclusive<u8>) -> Arc<dyn Store> {
    let store = SqliteStore::in_memory().await.unwrap();
    store.add_ciphertexts(&tags.map(packed).collect::<Vec<_>>()).await.unwrap();
    Arc::new(store)
}

fn directory(path: &Path) -> Arc<dyn PublicPlace> {
    Arc::new(CiphertextDirectory::open(path).unwrap())
}

fn publisher(store: &Arc<dyn Store>, place: &Arc<dyn PublicPlace>, key: u8, owner: &str, now_ms: u64) -> Publisher {
    let clock = Arc::new(move || now_ms);
    Publisher::new(CHAIN, Arc::clone(store), Arc::clone(place), signer(key), owner.to_owned(), clock)
}

async fn publish(store: &Arc<dyn Store>, place: &Arc<dyn PublicPlace>, key: u8) -> Result<usize, MirrorError> {
    Ok(publisher(store, place, key, "one", 1000).publish(usize::MAX).await?.values)
}

#[tokio::test]
async fn what_is_published_can_be_fetched_by_handle_and_verified() {
    let root = tempfile::tempdir().unwrap();
    let (store, place) = (store_with(1..=5).await, directory(root.path()));
    assert_eq!(publish(&store, &place, 1).await.unwrap(), 5);
    assert_eq!(publish(&store, &place, 1).await.unwrap(), 0, "it is published once");
    let mirror = Mirror::new(place);
    for tag in 1..=5 {
        let fetched = mirror
            .fetch(handle(tag), &[signer(9).address(), signer(1).address()])
            .await
            .unwrap();
        assert_eq!(fetched.bytes, packed(tag).bytes);
        assert_eq!(fetched.record.key_set_id, B256::repeat_byte(0x77));
    }
    let manifest = mirror.manifest().await.unwrap();
    assert_eq!(manifest.chains.len(), 1);
    assert_eq!(manifest.chains[0].chain_id, CHAIN);
    assert_eq!(manifest.chains[0].signers, [signer(1).address()]);
    assert_eq!(manifest.chains[0].key_set_ids, [B256::repeat_byte(0x77)]);
    for (asked, signers) in [
        (handle(6), vec![signer(1).address()]),
        (handle(1), vec![signer(2).address()]),
        (handle(1), vec![]),
    ] {
        let refused = mirror.fetch(asked, &signers).await;
        assert!(
            matches!(refused, Err(MirrorError::NotPublished(handle)) if handle == asked),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn several_signers_and_new_values_are_added() {
    let root = tempfile::tempdir().unwrap();
    let (store, place) = (store_with(1..=2).await, directory(root.path()));
    publish(&store, &place, 1).await.unwrap();
    store.add_ciphertexts(&[packed(3)]).await.unwrap();
    assert_eq!(publish(&store, &place, 1).await.unwrap(), 1);
    assert_eq!(store.publish_again(CHAIN).await.unwrap(), 3);
    assert_eq!(publish(&store, &place, 2).await.unwrap(), 3);
    let mirror = Mirror::new(place);
    for key in [1, 2] {
        let record = mirror.record(handle(3), &[signer(key).address()]).await.unwrap();
        assert_eq!(record.signer, signer(key).address());
    }
    let mut signers = vec![signer(1).address(), signer(2).address()];
    signers.sort();
    assert_eq!(mirror.manifest().await.unwrap().chains[0].signers, signers);
}

/// Whoever has the mirror can only withhold.
#[tokio::test]
async fn nothing_that_a_mirror_changes_is_accepted() {
    let root = tempfile::tempdir().unwrap();
    let (store, place) = (store_with(1..=2).await, directory(root.path()));
    publish(&store, &place, 1).await.unwrap();
    let expected = [signer(1).address()];
    let mirror = Mirror::new(Arc::clone(&place));
    let object = root.path().join(object_name(packed(1).digest));
    let name = CiphertextRecord::document_name(handle(1), expected[0]);
    let fetch = || mirror.fetch(handle(1), &expected);

    let original = std::fs::read(&object).unwrap();
    for changed in [&b"other bytes"[..], &original[..1], b""] {
        std::fs::write(&object, changed).unwrap();
        assert!(matches!(fetch().await, Err(MirrorError::OtherBytes { .. })));
    }
    std::fs::remove_file(&object).unwrap();
    assert!(matches!(fetch().await, Err(MirrorError::Place(StoreError::MissingObject { .. }))));
    std::fs::write(&object, &original).unwrap();
    fetch().await.unwrap();

    let record = CiphertextRecord::parse(&place.document(&name).await.unwrap().unwrap()).unwrap();
    let write = async |record: &CiphertextRecord| place.put_document(&name, &record.to_document().unwrap()).await.unwrap();
    // The record of another value, whole and rightly signed.
    let other = mirror.record(handle(2), &expected).await.unwrap();
    write(&other).await;
    assert!(matches!(fetch().await, Err(MirrorError::OtherHandle { .. })));
    // The same, said to be of this handle.
    write(&CiphertextRecord {
        handle: handle(1),
        ..other
    })
    .await;
    assert!(matches!(fetch().await, Err(MirrorError::Signature(_))));
    // A record of the mirror's own, under its own name and under the expected one.
    let forged = CiphertextRecord::sign(handle(1), record.key_set_id, b"forged", &signer(6)).unwrap();
    place.put(forged.digest, b"forged").await.unwrap();
    write(&forged).await;
    assert!(matches!(fetch().await, Err(MirrorError::UnexpectedSigner(_))));
    let renamed = CiphertextRecord {
        signer: expected[0],
        ..forged
    };
    write(&renamed).await;
    assert!(matches!(fetch().await, Err(MirrorError::Signature(_))));
    // Another length, which nobody signed.
    write(&CiphertextRecord {
        size_bytes: 3,
        ..record.clone()
    })
    .await;
    assert!(matches!(fetch().await, Err(MirrorError::OtherBytes { .. })));
    place.put_document(&name, b"no record").await.unwrap();
    assert!(matches!(fetch().await, Err(MirrorError::Malformed { .. })));
    write(&record).await;
    fetch().await.unwrap();
}

/// A place that fails once its credit is spent, as a disk that fills up or a process that is killed.
struct Failing {
    place: Arc<dyn PublicPlace>,
    credit: AtomicI64,
}

impl Failing {
    fn spend(&self) -> Result<(), StoreError> {
        if self.credit.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        Err(StoreError::Object {
            action: "put",
            object: "an object".to_owned(),
            source: "no space".into(),
        })
    }
}

impl CiphertextObjects for Failing {
    fn put<'a>(&'a self, digest: B256, bytes: &'a [u8]) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            self.spend()?;
            self.place.put(digest, bytes).await
        })
    }

    fn read(&self, digest: B256) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.place.read(digest)
    }

    fn remove(&self, digest: B256) -> StoreFuture<'_, ()> {
        self.place.remove(digest)
    }
}

impl PublicPlace for Failing {
    fn put_document<'a>(&'a self, name: &'a str, bytes: &'a [u8]) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            self.spend()?;
            self.place.put_document(name, bytes).await
        })
    }

    fn document<'a>(&'a self, name: &'a str) -> StoreFuture<'a, Option<Vec<u8>>> {
        self.place.document(name)
    }
}

#[tokio::test]
async fn publishing_that_was_interrupted_anywhere_is_completed() {
    const VALUES: u8 = 6;
    // Each value takes two writes, and the manifest one.
    for credit in 0..=i64::from(VALUES) * 2 + 1 {
        let root = tempfile::tempdir().unwrap();
        let (store, place) = (store_with(1..=VALUES).await, directory(root.path()));
        let failing: Arc<dyn PublicPlace> = Arc::new(Failing {
            place: Arc::clone(&place),
            credit: AtomicI64::new(credit),
        });
        let interrupted = publish(&store, &failing, 1).await;
        assert_eq!(interrupted.is_ok(), credit == i64::from(VALUES) * 2 + 1, "{credit}");
        let mirror = Mirror::new(Arc::clone(&place));
        // Whatever is there verifies: there are no records without bytes.
        for tag in 1..=VALUES {
            match mirror.fetch(handle(tag), &[signer(1).address()]).await {
                Ok(fetched) => assert_eq!(fetched.bytes, packed(tag).bytes),
                Err(error) => assert!(matches!(error, MirrorError::NotPublished(_)), "{credit}: {error}"),
            }
        }
        publish(&store, &place, 1).await.unwrap();
        for tag in 1..=VALUES {
            mirror.fetch(handle(tag), &[signer(1).address()]).await.unwrap();
        }
        assert_eq!(mirror.manifest().await.unwrap().chains.len(), 1);
    }
}

#[tokio::test]
async fn a_value_that_is_damaged_does_not_hold_up_the_others() {
    let (objects, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let database = postgres(objects.path()).await;
    let tenant = add_tenant(&database, 1).await;
    let store = Database::store(&database, &tenant);
    store.add_ciphertexts(&(1..=5).map(packed).collect::<Vec<_>>()).await.unwrap();
    let damaged = objects.path().join(object_name(packed(3).digest));
    let bytes = std::fs::read(&damaged).unwrap();
    std::fs::write(&damaged, b"damaged").unwrap();
    let place = directory(root.path());
    let error = publish(&store, &place, 1).await.unwrap_err();
    assert!(matches!(error, MirrorError::Place(StoreError::DamagedObject { .. })), "{error}");
    let mirror = Mirror::new(Arc::clone(&place));
    for tag in [1, 2, 4, 5] {
        mirror.fetch(handle(tag), &[signer(1).address()]).await.unwrap();
    }
    std::fs::write(&damaged, bytes).unwrap();
    assert_eq!(publish(&store, &place, 1).await.unwrap(), 1);
}

async fn postgres(objects: &Path) -> PostgresDatabase {
    let url = shared().create_database().unwrap();
    let database = PostgresDatabase::open(PostgresConfig::new(&url).unwrap()).await.unwrap();
    database.with_objects(Arc::new(CiphertextDirectory::open(objects).unwrap()))
}

async fn add_tenant(database: &PostgresDatabase, tag: u8) -> cipherloom_store::Tenant {
    let new = NewTenant {
        name: format!("tenant-{tag}"),
        chain_id: CHAIN,
        acl: Address::repeat_byte(tag),
        input_verifier: Address::repeat_byte(4),
        is_admin: false,
    };
    database.add_tenant(&new, ApiKey::from_random([tag; 16]).digest()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_publishes_at_a_time_and_another_takes_over() {
    let (objects, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let database = postgres(objects.path()).await;
    let store = Database::store(&database, &add_tenant(&database, 1).await);
    let place = directory(root.path());
    store.add_ciphertexts(&(1..=5).map(packed).collect::<Vec<_>>()).await.unwrap();
    // One process has begun, and dies.
    assert!(store.claim_publishing(CHAIN, "first", 1000, 2000).await.unwrap());
    let second = async |now_ms| publisher(&store, &place, 1, "second", now_ms).publish(usize::MAX).await.unwrap();
    let waited = second(1001).await;
    assert!(waited.busy && waited.values == 0, "{waited:?}");
    assert_eq!(second(2000).await.values, 5);
    // Who has nothing to do any more keeps nobody from publishing.
    store.add_ciphertexts(&[packed(6)]).await.unwrap();
    let third = publisher(&store, &place, 1, "third", 2001).publish(usize::MAX).await.unwrap();
    assert!(third.values == 1 && !third.busy, "{third:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_publish_for_all_tenants_in_the_background() {
    let (objects, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let database = postgres(objects.path()).await;
    let place = directory(root.path());
    let tenants = [add_tenant(&database, 1).await, add_tenant(&database, 2).await];
    let stores = tenants.each_ref().map(|tenant| Database::store(&database, tenant));
    stores[0].add_ciphertexts(&(1..=100).map(packed).collect::<Vec<_>>()).await.unwrap();
    let stop = CancellationToken::new();
    let tasks: Vec<_> = (0..3)
        .map(|number| {
            let publishing = Publishing::new(
                Arc::new(database.clone()),
                Arc::clone(&place),
                signer(1),
                &format!("process-{number}"),
                Duration::from_millis(10),
                cipherloom_coprocessor::system_clock(),
            );
            let stop = stop.clone();
            tokio::spawn(async move { publishing.run(stop).await })
        })
        .collect();
    // While they run, the second tenant gets values too.
    stores[1]
        .add_ciphertexts(&(101..=200).map(packed).collect::<Vec<_>>())
        .await
        .unwrap();
    let mirror = Mirror::new(place);
    let all = async {
        for tag in 1..=200 {
            while mirror.fetch(handle(tag), &[signer(1).address()]).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        while mirror.manifest().await.unwrap().chains.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all)
        .await
        .expect("not everything was published");
    stop.cancel();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(root.path().join(MANIFEST_NAME).exists());
}
