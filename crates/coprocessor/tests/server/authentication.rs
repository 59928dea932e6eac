//! API keys.

use std::time::Duration;

use cipherloom_primitives::FheType;
use cipherloom_rpc::fhevm::coprocessor::{AsyncComputeRequest, GetCiphertextBatch, InputUploadBatch, TrivialEncryptBatch};
use tonic::{Code, Status};

use crate::fixture::{Bench, Kind, add_tenant, clear_keys, new_key, on_both_databases, trivial, with_authorization, with_key};

on_both_databases!(
    every_call_needs_a_key,
    keys_are_taken_in_either_case,
    a_key_that_was_replaced_ends_soon,
    a_disabled_tenant_ends_soon,
    a_tenant_without_keys_is_told_so,
);

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(status.message(), "API key unknown/invalid/not provided");
}

async fn every_call_needs_a_key(kind: Kind) {
    let bench = Bench::new(kind).await;
    let unknown = new_key(0xee);
    let mut client = bench.client();
    refused(client.async_compute(AsyncComputeRequest::default()).await);
    refused(client.upload_inputs(InputUploadBatch::default()).await);
    refused(client.get_ciphertexts(GetCiphertextBatch::default()).await);
    refused(client.trivial_encrypt_ciphertexts(TrivialEncryptBatch::default()).await);
    refused(client.async_compute(with_key(&unknown, AsyncComputeRequest::default())).await);
    refused(client.upload_inputs(with_key(&unknown, InputUploadBatch::default())).await);
    refused(client.get_ciphertexts(with_key(&unknown, GetCiphertextBatch::default())).await);
    refused(
        client
            .trivial_encrypt_ciphertexts(with_key(&unknown, TrivialEncryptBatch::default()))
            .await,
    );
    refused(
        client
            .async_compute(with_authorization(bench.key.expose(), AsyncComputeRequest::default()))
            .await,
    );
}

async fn keys_are_taken_in_either_case(kind: Kind) {
    let bench = Bench::new(kind).await;
    let key = bench.key.expose();
    for value in [
        format!("Bearer {key}"),
        format!("bearer {key}"),
        format!("BEARER {}", key.to_uppercase()),
    ] {
        let request = with_authorization(&value, GetCiphertextBatch::default());
        assert!(bench.client().get_ciphertexts(request).await.is_ok(), "{value}");
    }
}

async fn a_key_that_was_replaced_ends_soon(kind: Kind) {
    let bench = Bench::with(kind, clear_keys(), |config| config.api_key_lifetime = Duration::from_millis(200)).await;
    bench.fetch(&[]).await.unwrap();
    let new = new_key(0xdd);
    bench.database.replace_api_key(bench.tenant.id, new.digest()).await.unwrap();
    let request = with_key(&new, GetCiphertextBatch::default());
    assert!(bench.client().get_ciphertexts(request).await.is_ok(), "the new key counts at once");
    ends(&bench).await;
}

async fn a_disabled_tenant_ends_soon(kind: Kind) {
    let bench = Bench::with(kind, clear_keys(), |config| config.api_key_lifetime = Duration::from_millis(200)).await;
    bench.fetch(&[]).await.unwrap();
    bench.database.set_tenant_disabled(bench.tenant.id, true).await.unwrap();
    ends(&bench).await;
    bench.database.set_tenant_disabled(bench.tenant.id, false).await.unwrap();
    bench.fetch(&[]).await.unwrap();
}

/// Waits until the bench's key counts no more.
async fn ends(bench: &Bench) {
    let ended = async {
        loop {
            match bench.fetch(&[]).await {
                Ok(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(status) => return refused::<()>(Err(status)),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended)
        .await
        .expect("the key should end");
}

async fn a_tenant_without_keys_is_told_so(kind: Kind) {
    let mut bench = Bench::new(kind).await;
    let (tenant, key) = add_tenant(&*bench.database, "keyless", 77).await;
    (bench.tenant, bench.key) = (tenant, key);
    let status = bench.encrypt_trivially(&[(b"a", 1, FheType::Uint8)]).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("has no keys yet"), "{}", status.message());
    // Computations are taken: they run once there are keys.
    bench.schedule(&[trivial(b"a", 1, FheType::Uint8)]).await.unwrap();
}
