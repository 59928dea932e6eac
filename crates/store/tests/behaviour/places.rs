//! Places of ciphertext bytes, each on a real one: a directory, and servers that speak the clouds' protocols over HTTP.

mod server;
mod signature;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use cipherloom_primitives::B256;
use cipherloom_store::{
    CiphertextDirectory, Finished, ObjectLimits, ObjectsUrl, PublicPlace, Store, StoreError, object_digest, read_checked,
};

use self::server::{Fault, SECRET_KEY, Server};
use crate::{
    fixture::{NOW_MS, ciphertext, handle, lease_one, record, transaction},
    postgres,
};

/// Fast enough for a test that waits for some of them.
const LIMITS: ObjectLimits = ObjectLimits {
    request: Duration::from_millis(500),
    retries: 3,
    first_pause: Duration::from_millis(5),
    all: Duration::from_secs(10),
};

/// Opens a place on a server.
fn open(url: &str, environment: &[(&str, &str)]) -> Arc<dyn PublicPlace> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    url.parse::<ObjectsUrl>().unwrap().open_with(environment, LIMITS).unwrap()
}

fn s3(server: &Server) -> Arc<dyn PublicPlace> {
    s3_with(server, SECRET_KEY)
}

fn s3_with(server: &Server, secret_key: &str) -> Arc<dyn PublicPlace> {
    let url = format!("s3://bucket/some/prefix?endpoint={}&region=eu-central-2", server.url);
    open(&url, &[("AWS_ACCESS_KEY_ID", "AKIATEST"), ("AWS_SECRET_ACCESS_KEY", secret_key)])
}

fn google(server: &Server) -> Arc<dyn PublicPlace> {
    let url = format!("gs://bucket/some/prefix?endpoint={}", server.url);
    open(&url, &[("GOOGLE_BEARER_TOKEN", "a token")])
}

fn azure(server: &Server) -> Arc<dyn PublicPlace> {
    let url = format!("az://bucket/some/prefix?endpoint={}", server.url);
    let key = "c2VjcmV0";
    open(
        &url,
        &[("AZURE_STORAGE_ACCOUNT_NAME", "account"), ("AZURE_STORAGE_ACCOUNT_KEY", key)],
    )
}

/// Where the server keeps the object with a digest.
fn key(digest: B256) -> String {
    let digits = format!("{digest:x}");
    format!("/bucket/some/prefix/{}/{digits}", &digits[..2])
}

const BYTES: &[u8] = b"the bytes of a ciphertext";

/// What every place does; those on a server forget nothing of it.
async fn keeps_bytes_and_documents(place: &dyn PublicPlace) {
    let digest = object_digest(BYTES);
    assert_eq!(place.read(digest).await.unwrap(), None);
    assert!(matches!(read_checked(place, digest).await, Err(StoreError::MissingObject { .. })));
    place.put(digest, BYTES).await.unwrap();
    place.put(digest, BYTES).await.unwrap();
    assert_eq!(read_checked(place, digest).await.unwrap(), BYTES);
    // It was put just now, so somebody may be about to refer to it.
    place.remove(digest).await.unwrap();
    assert_eq!(read_checked(place, digest).await.unwrap(), BYTES);
    assert_eq!(place.document("handles/ab/one.json").await.unwrap(), None);
    place.put_document("handles/ab/one.json", b"first").await.unwrap();
    place.put_document("handles/ab/one.json", b"second").await.unwrap();
    assert_eq!(place.document("handles/ab/one.json").await.unwrap().unwrap(), b"second");
}

/// Removal of what is old on a server.
async fn removes_what_is_old(place: &dyn PublicPlace, server: &Server) {
    let digest = object_digest(BYTES);
    let old = SystemTime::now() - Duration::from_secs(3600);
    server.change(&key(digest), |object| object.put_at = old);
    // Putting it again makes it a new one.
    place.put(digest, BYTES).await.unwrap();
    place.remove(digest).await.unwrap();
    assert_eq!(read_checked(place, digest).await.unwrap(), BYTES);
    server.change(&key(digest), |object| object.put_at = old);
    place.remove(digest).await.unwrap();
    place.remove(digest).await.unwrap();
    assert_eq!(place.read(digest).await.unwrap(), None);
    assert!(server.object(&key(digest)).is_none());
}

#[tokio::test]
async fn a_directory_keeps_bytes_and_documents() {
    let directory = tempfile::tempdir().unwrap();
    let place = open(&format!("file://{}", directory.path().display()), &[]);
    keeps_bytes_and_documents(place.as_ref()).await;
}

#[tokio::test]
async fn s3_keeps_bytes_and_documents_with_signed_requests() {
    let server = Server::start().await.checking_signatures();
    let place = s3(&server);
    keeps_bytes_and_documents(place.as_ref()).await;
    let digest = object_digest(BYTES);
    let puts: Vec<String> = server
        .take_requests()
        .into_iter()
        .filter(|request| request.starts_with("PUT"))
        .collect();
    assert_eq!(puts[0], format!("PUT {} if-none-match: *", key(digest)));
    assert_eq!(puts[2], "PUT /bucket/some/prefix/handles/ab/one.json");
    removes_what_is_old(place.as_ref(), &server).await;
}

#[tokio::test]
async fn google_cloud_storage_keeps_bytes_and_documents() {
    let server = Server::start().await;
    let place = google(&server);
    keeps_bytes_and_documents(place.as_ref()).await;
    let requests = server.take_requests();
    assert!(
        requests.contains(&format!("PUT {} x-goog-if-generation-match: 0", key(object_digest(BYTES)))),
        "{requests:?}"
    );
    removes_what_is_old(place.as_ref(), &server).await;
}

#[tokio::test]
async fn azure_blob_storage_keeps_bytes_and_documents() {
    let server = Server::start().await;
    let place = azure(&server);
    keeps_bytes_and_documents(place.as_ref()).await;
    let requests = server.take_requests();
    assert!(
        requests.contains(&format!("PUT {} if-none-match: *", key(object_digest(BYTES)))),
        "{requests:?}"
    );
    removes_what_is_old(place.as_ref(), &server).await;
}

#[tokio::test]
async fn a_wrong_key_is_an_error_that_names_the_object_and_not_the_key() {
    let server = Server::start().await.checking_signatures();
    let place = s3_with(&server, "another secret");
    let digest = object_digest(BYTES);
    let error = place.put(digest, BYTES).await.unwrap_err();
    assert!(error.is_retryable(), "credentials are put right by people");
    let text = error.to_string();
    assert!(
        text.contains(&format!("s3://bucket/some/prefix/{:.2}/{digest:x}", format!("{digest:x}"))),
        "{text}"
    );
    assert!(!text.contains("another secret"), "{text}");
    assert!(
        place.read(digest).await.is_err(),
        "an object that cannot be read is not one that is missing"
    );
    assert!(server.keys().is_empty());
}

#[tokio::test]
async fn requests_that_fail_for_now_are_sent_again() {
    let server = Server::start().await.checking_signatures();
    let place = s3(&server);
    let digest = object_digest(BYTES);
    server.fail([Fault::Status(500), Fault::Status(503), Fault::Status(429)]);
    place.put(digest, BYTES).await.unwrap();
    assert_eq!(server.take_requests().len(), 4);
    server.fail([Fault::Slow(Duration::from_secs(3)), Fault::BreaksOff]);
    assert_eq!(read_checked(place.as_ref(), digest).await.unwrap(), BYTES);
    assert_eq!(server.take_requests().len(), 3);
    // The first request was carried out, and nobody knows: the second one finds the object, which is as well.
    let other = object_digest(b"other");
    server.fail([Fault::NoAnswer]);
    place.put(other, b"other").await.unwrap();
    assert_eq!(read_checked(place.as_ref(), other).await.unwrap(), b"other");
    server.fail([Fault::Status(500); 4]);
    let error = place.read(digest).await.unwrap_err();
    assert!(
        error.is_retryable() && error.to_string().contains(&format!("{digest:x}")),
        "{error}"
    );
    assert_eq!(read_checked(place.as_ref(), digest).await.unwrap(), BYTES);
}

#[tokio::test]
async fn damaged_objects_are_named_never_used_and_written_anew() {
    let server = Server::start().await;
    let place = s3(&server);
    let digest = object_digest(BYTES);
    place.put(digest, BYTES).await.unwrap();
    for damage in [&b"the bytes of another one."[..], &BYTES[..7], b""] {
        server.change(&key(digest), |object| object.bytes = damage.to_vec().into());
        let error = read_checked(place.as_ref(), digest).await.unwrap_err();
        assert!(matches!(error, StoreError::DamagedObject { .. }), "{error}");
        assert!(
            error.is_retryable() && error.to_string().contains(&format!("{digest:x}")),
            "{error}"
        );
    }
    place.put(digest, BYTES).await.unwrap();
    assert_eq!(read_checked(place.as_ref(), digest).await.unwrap(), BYTES);
}

#[tokio::test]
async fn what_is_put_again_while_it_is_removed_stays() {
    let server = Server::start().await.checking_signatures();
    let place = s3(&server);
    let digest = object_digest(BYTES);
    place.put(digest, BYTES).await.unwrap();
    server.change(&key(digest), |object| object.put_at -= Duration::from_secs(3600));
    server.replace_before_removal();
    place.remove(digest).await.unwrap();
    assert_eq!(read_checked(place.as_ref(), digest).await.unwrap(), BYTES);
}

#[tokio::test]
async fn a_server_without_conditions_can_be_used() {
    let server = Server::start().await;
    let url = format!("s3://bucket/some/prefix?endpoint={}", server.url);
    let place = open(
        &url,
        &[
            ("AWS_ACCESS_KEY_ID", "AKIATEST"),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_CONDITIONAL_PUT", "disabled"),
        ],
    );
    keeps_bytes_and_documents(place.as_ref()).await;
    assert!(server.take_requests().iter().all(|request| !request.contains("if-none-match")));
}

#[tokio::test]
async fn a_server_that_is_gone_is_an_error_in_limited_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for url in [format!("s3://bucket?endpoint=http://{address}"), format!("http://{address}/mirror")] {
        let place = open(&url, &[("AWS_ACCESS_KEY_ID", "AKIATEST"), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)]);
        let error = place.read(object_digest(BYTES)).await.unwrap_err();
        assert!(error.is_retryable() && error.to_string().contains("refused"), "{error}");
    }
}

#[tokio::test]
async fn a_published_place_is_read_over_http_and_never_written() {
    let server = Server::start().await;
    let place = s3(&server);
    let digest = object_digest(BYTES);
    place.put(digest, BYTES).await.unwrap();
    place.put_document("manifest.json", b"{}").await.unwrap();
    let mirror = open(&format!("{}/bucket/some/prefix/", server.url), &[]);
    assert_eq!(read_checked(mirror.as_ref(), digest).await.unwrap(), BYTES);
    assert_eq!(mirror.document("manifest.json").await.unwrap().unwrap(), b"{}");
    assert_eq!(mirror.document("other.json").await.unwrap(), None);
    server.fail([Fault::Status(503), Fault::BreaksOff, Fault::Slow(Duration::from_secs(3))]);
    assert_eq!(read_checked(mirror.as_ref(), digest).await.unwrap(), BYTES);
    server.fail([Fault::Status(403)]);
    assert!(mirror.read(digest).await.unwrap_err().to_string().contains("403"));
    assert!(matches!(mirror.put(digest, BYTES).await, Err(StoreError::ReadOnlyPlace(_))));
    assert!(matches!(mirror.put_document("a", b"").await, Err(StoreError::ReadOnlyPlace(_))));
}

/// Finishes a transaction on PostgreSQL while its place is full, and again when there is space: nothing is lost, and nothing half done.
async fn a_full_place_holds_a_transaction_up(place: Arc<dyn PublicPlace>, set_full: impl Fn(bool), is_empty: impl Fn() -> bool) {
    let database = postgres::open().await.with_objects(place);
    let store = postgres::store(&database, "first").await;
    record(&store, 1, vec![transaction(0, handle(1), &[])]).await;
    let leased = lease_one(&store, "worker", NOW_MS).await.unwrap();
    let done = Finished {
        ciphertexts: vec![ciphertext(handle(1), 1)],
        failures: Vec::new(),
    };
    set_full(true);
    let error = store.finish_transaction(&leased.lease, &done).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(matches!(error, StoreError::Object { .. }), "{error}");
    assert!(is_empty(), "there is a part of an object");
    assert_eq!(store.ciphertext(handle(1)).await.unwrap(), None);
    // The lease is still the worker's: it tries again as long as it takes.
    assert!(store.finish_transaction(&leased.lease, &done).await.is_err());
    set_full(false);
    store.finish_transaction(&leased.lease, &done).await.unwrap();
    assert_eq!(store.ciphertext(handle(1)).await.unwrap().unwrap().bytes, done.ciphertexts[0].bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_bucket_holds_a_transaction_up_and_loses_nothing() {
    let server = Server::start().await.checking_signatures();
    let set_full = |full: bool| server.set_space(full.then_some(50));
    a_full_place_holds_a_transaction_up(s3(&server), set_full, || server.keys().is_empty()).await;
}

/// The full disk is the system's own: the device whose writes fail for lack of space stands where the directory writes its next files.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_holds_a_transaction_up_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let place = CiphertextDirectory::open(directory.path()).unwrap();
    let digest = format!("{:x}", ciphertext(handle(1), 1).digest);
    let inside = directory.path().join(&digest[..2]);
    std::fs::create_dir(&inside).unwrap();
    let set_full = |full: bool| {
        for number in 0..2000 {
            let part = inside.join(format!("{digest}.{}-{number}.part", std::process::id()));
            if full {
                std::os::unix::fs::symlink("/dev/full", part).unwrap();
            } else if let Err(error) = std::fs::remove_file(part) {
                assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
            }
        }
    };
    let is_empty = || !inside.join(&digest).exists();
    a_full_place_holds_a_transaction_up(Arc::new(place), set_full, is_empty).await;
}
