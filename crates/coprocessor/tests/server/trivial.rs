//! `TrivialEncryptCiphertexts`.

use cipherloom_primitives::{FheType, Handle, U256};
use tonic::Code;

use crate::fixture::{Bench, CHAIN, Kind, add, chain_handle, clear_keys, on_both_databases, toy_keys, trivial};

on_both_databases!(
    public_values_are_there_at_once_and_can_be_computed_with,
    a_handle_keeps_its_first_value,
    duplicates_and_unknown_types_are_refused_with_nothing_stored,
    an_ebool_is_true_if_its_last_byte_is_not_zero,
    batches_above_the_limit_are_refused,
);

async fn public_values_are_there_at_once_and_can_be_computed_with(kind: Kind) {
    let bench = Bench::new(kind).await;
    let [a, b] = [1, 2].map(|number| chain_handle(number, FheType::Uint16));
    bench
        .encrypt_trivially(&[(&a, 300, FheType::Uint16), (b"name", 0x1_0005, FheType::Uint16)])
        .await
        .unwrap();
    assert_eq!(bench.value(&a).await, Some(U256::from(300)));
    assert_eq!(bench.value(b"name").await, Some(U256::from(5)));
    bench.schedule(&[add(&b, &a, b"name")]).await.unwrap();
    bench.compute_all().await;
    assert_eq!(bench.value(&b).await, Some(U256::from(305)));
}

async fn a_handle_keeps_its_first_value(kind: Kind) {
    let bench = Bench::new(kind).await;
    bench.encrypt_trivially(&[(b"a", 1, FheType::Uint8)]).await.unwrap();
    bench
        .encrypt_trivially(&[(b"a", 2, FheType::Uint8), (b"b", 3, FheType::Uint8)])
        .await
        .unwrap();
    assert_eq!(bench.value(b"a").await, Some(U256::from(1)));
    assert_eq!(bench.value(b"b").await, Some(U256::from(3)));
    // One that is still to be computed is not given a value either.
    bench.schedule(&[trivial(b"c", 4, FheType::Uint8)]).await.unwrap();
    bench.encrypt_trivially(&[(b"c", 5, FheType::Uint8)]).await.unwrap();
    assert_eq!(bench.value(b"c").await, None);
    bench.compute_all().await;
    assert_eq!(bench.value(b"c").await, Some(U256::from(4)));
}

async fn duplicates_and_unknown_types_are_refused_with_nothing_stored(kind: Kind) {
    let bench = Bench::new(kind).await;
    let own = Handle::named(b"a", CHAIN, FheType::Uint8);
    for (second, text) in [
        (
            (b"a".as_slice(), FheType::Uint8),
            "Duplicate output handle in ciphertext batch: 0x61",
        ),
        ((b"a", FheType::Uint16), "Duplicate output handle in ciphertext batch: 0x61"),
        ((own.as_slice(), FheType::Uint8), "Duplicate output handle in ciphertext batch: 0x"),
        (
            (own.as_slice(), FheType::Uint16),
            "gives euint16, but that handle stands for euint8",
        ),
        ((b"", FheType::Uint8), "Found ciphertext handle is empty"),
    ] {
        let status = bench
            .encrypt_trivially(&[(b"a", 1, FheType::Uint8), (second.0, 2, second.1)])
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(
            status.message().starts_with(text) || status.message().contains(text),
            "{}",
            status.message()
        );
        assert_eq!(bench.value(b"a").await, None);
    }
    let value = cipherloom_rpc::fhevm::coprocessor::TrivialEncryptRequestSingle {
        handle: b"x".to_vec().into(),
        be_value: vec![1].into(),
        output_type: 9,
    };
    let batch = cipherloom_rpc::fhevm::coprocessor::TrivialEncryptBatch { values: vec![value] };
    let status = bench
        .client()
        .trivial_encrypt_ciphertexts(crate::fixture::with_key(&bench.key, batch))
        .await
        .unwrap_err();
    assert!(
        status.message().contains("ebytes64 (type 9) is not supported"),
        "{}",
        status.message()
    );
}

async fn an_ebool_is_true_if_its_last_byte_is_not_zero(kind: Kind) {
    let bench = Bench::new(kind).await;
    bench
        .encrypt_trivially(&[(b"a", 2, FheType::Bool), (b"b", 0x100, FheType::Bool)])
        .await
        .unwrap();
    assert_eq!(bench.value(b"a").await, Some(U256::ONE));
    assert_eq!(bench.value(b"b").await, Some(U256::ZERO));
}

async fn batches_above_the_limit_are_refused(kind: Kind) {
    let bench = Bench::with(kind, clear_keys(), |config| config.limits.ciphertexts_to_schedule = 1).await;
    let status = bench
        .encrypt_trivially(&[(b"a", 2, FheType::Bool), (b"b", 2, FheType::Bool)])
        .await
        .unwrap_err();
    assert_eq!(status.message(), "maximum ciphertexts exceeded in batch, maximum: 1, got: 2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_real_tfhe_public_values_are_packed_and_computed_with() {
    let bench = Bench::with(Kind::Sqlite, toy_keys(), |_| {}).await;
    bench
        .encrypt_trivially(&[(b"a", 11, FheType::Uint8), (b"b", 31, FheType::Uint8)])
        .await
        .unwrap();
    bench.schedule(&[add(b"c", b"a", b"b")]).await.unwrap();
    bench.compute_all().await;
    assert_eq!(bench.value(b"a").await, Some(U256::from(11)));
    assert_eq!(bench.value(b"c").await, Some(U256::from(42)));
}
