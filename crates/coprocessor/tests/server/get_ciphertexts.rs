//! `GetCiphertexts`.

use alloy::primitives::keccak256;
use cipherloom_primitives::{FheType, Handle, U256, eip712::recover_signer, generation_0_6::served_ciphertext_digest};
use tonic::Code;

use crate::fixture::{Bench, CHAIN, Kind, add, chain_handle, clear_keys, on_both_databases, signer, toy_keys, trivial};

on_both_databases!(
    answers_are_in_the_order_of_the_request_with_gaps_for_unknown_handles,
    each_ciphertext_is_signed_under_the_number_of_its_handle,
    what_is_served_twice_is_the_same,
    requests_and_answers_are_limited,
    handles_of_another_chain_are_unknown,
);

async fn answers_are_in_the_order_of_the_request_with_gaps_for_unknown_handles(kind: Kind) {
    let bench = Bench::new(kind).await;
    bench
        .schedule(&[trivial(b"a", 1, FheType::Uint8), trivial(b"b", 2, FheType::Uint16)])
        .await
        .unwrap();
    bench.compute_all().await;
    bench.schedule(&[add(b"pending", b"a", b"a")]).await.unwrap();
    let asked: [&[u8]; 6] = [b"b", b"nobody", b"a", b"pending", b"b", &[0xff; 32]];
    let found = bench.fetch(&asked).await.unwrap();
    let types: Vec<Option<i32>> = found
        .iter()
        .map(|answer| answer.ciphertext.as_ref().map(|ciphertext| ciphertext.ciphertext_type))
        .collect();
    assert_eq!(types, [Some(3), None, Some(2), None, Some(3), None]);
    assert!(found.iter().zip(asked).all(|(answer, asked)| answer.handle == asked));
    assert_eq!(found[0].ciphertext, found[4].ciphertext);
}

async fn each_ciphertext_is_signed_under_the_number_of_its_handle(kind: Kind) {
    let bench = Bench::new(kind).await;
    let long = [7; 33];
    let whole = chain_handle(1, FheType::Uint8);
    bench
        .schedule(&[
            trivial(b"short", 1, FheType::Uint8),
            trivial(&whole, 2, FheType::Uint8),
            trivial(&long, 3, FheType::Uint8),
        ])
        .await
        .unwrap();
    bench.compute_all().await;
    let found = bench.fetch(&[b"short", &whole, &long]).await.unwrap();
    for (answer, number) in found.iter().zip([U256::from_be_slice(b"short"), U256::from_be_slice(&whole)]) {
        let ciphertext = answer.ciphertext.as_ref().unwrap();
        let digest = served_ciphertext_digest(number, keccak256(&ciphertext.ciphertext_bytes));
        assert_eq!(recover_signer(digest, &ciphertext.signature), Some(signer().address()));
        assert_eq!(ciphertext.ciphertext_version, 0);
    }
    assert!(
        found[2].ciphertext.as_ref().unwrap().signature.is_empty(),
        "a name of 33 bytes is no 256-bit number"
    );
}

async fn what_is_served_twice_is_the_same(kind: Kind) {
    let bench = Bench::new(kind).await;
    let names: Vec<Vec<u8>> = (0..40u8).map(|number| vec![b'n', number]).collect();
    let request: Vec<_> = names.iter().map(|name| trivial(name, 9, FheType::Uint32)).collect();
    bench.schedule(&request).await.unwrap();
    bench.compute_all().await;
    let asked: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    let first = bench.fetch(&asked).await.unwrap();
    assert!(first.iter().all(|answer| answer.ciphertext.is_some()));
    assert_eq!(bench.fetch(&asked).await.unwrap(), first);
}

async fn requests_and_answers_are_limited(kind: Kind) {
    let bench = Bench::with(kind, clear_keys(), |config| {
        config.limits.ciphertexts_to_get = 3;
        config.limits.answer_bytes = 100;
    })
    .await;
    let status = bench.fetch(&[b"a".as_slice(); 4]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(
        status.message(),
        "Requested more than maximum ciphertexts allowed to download, maximum allowed: 3, requested: 4"
    );
    let names = [b"a".as_slice(), b"b", b"c"];
    bench.schedule(&names.map(|name| trivial(name, 1, FheType::Uint256))).await.unwrap();
    bench.compute_all().await;
    bench.fetch(&names[..1]).await.unwrap();
    for asked in [names.as_slice(), &[b"a".as_slice(); 3]] {
        let status = bench.fetch(asked).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().contains("ask for fewer at a time"), "{}", status.message());
    }
}

async fn handles_of_another_chain_are_unknown(kind: Kind) {
    let bench = Bench::new(kind).await;
    let other = Handle::named(b"a", CHAIN + 1, FheType::Uint8);
    bench.schedule(&[trivial(b"a", 1, FheType::Uint8)]).await.unwrap();
    bench.compute_all().await;
    assert_eq!(bench.value(other.as_slice()).await, None);
    let own = Handle::named(b"a", CHAIN, FheType::Uint8);
    assert_eq!(bench.value(own.as_slice()).await, Some(U256::ONE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_real_tfhe_raw_values_are_packed_for_the_answer() {
    let bench = Bench::with(Kind::Sqlite, toy_keys(), |_| {}).await;
    bench
        .schedule(&[trivial(b"a", 20, FheType::Uint8), add(b"b", b"a", b"a")])
        .await
        .unwrap();
    bench.compute_all().await;
    assert_eq!(bench.value(b"b").await, Some(U256::from(40)));
    let found = bench.fetch(&[b"b"]).await.unwrap();
    let bytes = &found[0].ciphertext.as_ref().unwrap().ciphertext_bytes;
    assert_eq!(cipherloom_fhe::form_of(bytes), Some(cipherloom_primitives::CiphertextForm::Packed));
}
