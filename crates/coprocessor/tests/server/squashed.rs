//! `GetSquashedCiphertext`: what the nodes of a committee ask.

use std::time::Duration;

use alloy::primitives::keccak256;
use bytes::Bytes;
use cipherloom_coprocessor::SquashingAhead;
use cipherloom_fhe::{ParameterSet, insecure_test_keys_with_squashing};
use cipherloom_primitives::{
    Address, B256, Computation, FheType, Handle, TypedOperation, U256,
    eip712::{recover_signer, squashed_ciphertext_attestation_digest},
};
use cipherloom_rpc::cipherloom::coprocessor::v1::{
    GetSquashedCiphertextRequest, HandleProgress, SignedSquashedCiphertext, coprocessor_client::CoprocessorClient,
    get_squashed_ciphertext_response::Outcome,
};
use cipherloom_store::{ApiKey, BlockRef, Grant, Grantee, RecordedBlock, RecordedTransaction};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status};

use crate::fixture::{Bench, CHAIN, Kind, PATIENCE, add_tenant, clear_keys, new_key, on_both_databases, signer, toy_keys, with_key};

on_both_databases!(
    committees_get_a_value_that_was_squashed_for_them,
    a_value_that_is_not_there_yet_is_waited_for_and_told_of,
    a_tenant_gets_nothing_of_another_one_and_strangers_get_nothing,
    keys_that_cannot_squash_are_told_of,
    public_values_are_squashed_before_somebody_asks,
);

fn handle(tag: u8) -> Handle {
    Handle::computed(B256::repeat_byte(tag), CHAIN, FheType::Uint16)
}

async fn squashing_bench(kind: Kind) -> Bench {
    Bench::with(kind, insecure_test_keys_with_squashing().unwrap(), |_| {}).await
}

/// Records a block of the chain that publishes a number under a handle.
async fn publish(bench: &Bench, number: u64, value: u64, result: Handle) {
    publish_for(bench, number, value, result, Grantee::Account(Address::repeat_byte(1))).await;
}

async fn publish_for(bench: &Bench, number: u64, value: u64, result: Handle, grantee: Grantee) {
    let computation = Computation {
        operation: TypedOperation::TrivialEncrypt {
            value: U256::from(value),
            ty: result.fhe_type(),
        },
        inputs: Vec::new(),
        result,
    };
    let block = RecordedBlock {
        block: BlockRef {
            number,
            hash: B256::from(U256::from(number)),
            parent_hash: B256::from(U256::from(number - 1)),
            timestamp: 1_700_000_000 + number,
        },
        transactions: vec![RecordedTransaction {
            hash: B256::from(U256::from(1000 + number)),
            index: 0,
            computations: vec![computation],
            boundary: Vec::new(),
            outputs: vec![result],
            grants: vec![Grant { handle: result, grantee }],
            delegations: Vec::new(),
        }],
    };
    let store = bench.database.store(&bench.tenant);
    store.record_blocks(CHAIN, &[block]).await.unwrap();
}

async fn ask(bench: &Bench, key: &ApiKey, handle: &[u8], at_most: Duration) -> Result<Outcome, Status> {
    let request = GetSquashedCiphertextRequest {
        handle: Bytes::copy_from_slice(handle),
        at_most_ms: u32::try_from(at_most.as_millis()).unwrap(),
    };
    let mut client = CoprocessorClient::new(bench.channel.clone());
    let answer = client.get_squashed_ciphertext(with_key(key, request)).await?;
    Ok(answer.into_inner().outcome.unwrap())
}

async fn squashed(bench: &Bench, handle: Handle) -> SignedSquashedCiphertext {
    match ask(bench, &bench.key, handle.as_slice(), Duration::from_secs(30)).await.unwrap() {
        Outcome::Signed(signed) => signed,
        Outcome::Missing(state) => panic!("{state:?}"),
    }
}

fn progress(outcome: &Outcome) -> HandleProgress {
    match outcome {
        Outcome::Missing(state) => state.progress(),
        Outcome::Signed(_) => HandleProgress::Computed,
    }
}

async fn committees_get_a_value_that_was_squashed_for_them(kind: Kind) {
    let bench = squashing_bench(kind).await;
    publish(&bench, 1, 4711, handle(1)).await;
    bench.compute_all().await;
    let signed = squashed(&bench, handle(1)).await;
    assert_eq!(signed.handle, handle(1).as_slice());
    let key_set = B256::from(*bench.keys.manifest().id.as_bytes());
    assert_eq!(signed.key_set_id, key_set.as_slice());
    let attested = squashed_ciphertext_attestation_digest(handle(1), key_set, keccak256(&signed.content));
    let [attestation] = signed.attestations.as_slice() else {
        panic!("one coprocessor")
    };
    assert_eq!(recover_signer(attested, attestation), Some(signer().address()));
    let secrets = bench.keys.squashing_secrets().unwrap();
    let value = secrets.decrypt_list(ParameterSet::InsecureToy, FheType::Uint16, &signed.content);
    assert_eq!(value.unwrap(), U256::from(4711));
    assert_eq!(squashed(&bench, handle(1)).await, signed);
}

async fn a_value_that_is_not_there_yet_is_waited_for_and_told_of(kind: Kind) {
    let bench = squashing_bench(kind).await;
    let now = |tag| {
        let bench = &bench;
        async move { progress(&ask(bench, &bench.key, handle(tag).as_slice(), Duration::ZERO).await.unwrap()) }
    };
    assert_eq!(now(1).await, HandleProgress::Unknown);
    publish(&bench, 1, 5, handle(1)).await;
    assert_eq!(now(1).await, HandleProgress::Pending);
    let (signed, ()) = tokio::join!(squashed(&bench, handle(1)), bench.compute_all());
    assert!(!signed.content.is_empty());
    let elsewhere = Handle::computed(B256::repeat_byte(1), CHAIN + 1, FheType::Uint16);
    let outcome = ask(&bench, &bench.key, elsewhere.as_slice(), Duration::ZERO).await.unwrap();
    assert_eq!(progress(&outcome), HandleProgress::Unknown);
    for wrong in [&[][..], &[0; 31], &[0xff; 32], &[0; 33]] {
        let status = ask(&bench, &bench.key, wrong, Duration::ZERO).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
}

async fn a_tenant_gets_nothing_of_another_one_and_strangers_get_nothing(kind: Kind) {
    let bench = squashing_bench(kind).await;
    publish(&bench, 1, 5, handle(1)).await;
    bench.compute_all().await;
    squashed(&bench, handle(1)).await;
    let (_, other) = add_tenant(bench.database.as_ref(), "other", CHAIN + 1).await;
    let outcome = ask(&bench, &other, handle(1).as_slice(), Duration::ZERO).await.unwrap();
    assert_eq!(progress(&outcome), HandleProgress::Unknown);
    let status = ask(&bench, &new_key(99), handle(1).as_slice(), Duration::ZERO).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let mut client = CoprocessorClient::new(bench.channel.clone());
    let status = client
        .get_squashed_ciphertext(Request::new(GetSquashedCiphertextRequest::default()))
        .await;
    assert_eq!(status.unwrap_err().code(), Code::Unauthenticated);
}

async fn keys_that_cannot_squash_are_told_of(kind: Kind) {
    for keys in [toy_keys(), clear_keys()] {
        let bench = Bench::with(kind, keys, |_| {}).await;
        publish(&bench, 1, 5, handle(1)).await;
        bench.compute_all().await;
        let status = ask(&bench, &bench.key, handle(1).as_slice(), Duration::from_secs(1))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        assert!(status.message().contains("noise"), "{status}");
    }
}

async fn public_values_are_squashed_before_somebody_asks(kind: Kind) {
    let bench = squashing_bench(kind).await;
    let (public, private, late) = (handle(1), handle(2), handle(3));
    publish(&bench, 1, 1, private).await;
    publish_for(&bench, 2, 2, public, Grantee::PublicDecryption).await;
    bench.compute_all().await;
    let stop = CancellationToken::new();
    let ahead = tokio::spawn({
        let (ahead, stop) = (SquashingAhead::new(bench.tenancy.clone()), stop.clone());
        async move { ahead.run(stop).await }
    });
    publish_for(&bench, 3, 3, late, Grantee::PublicDecryption).await;
    bench.compute_all().await;
    let store = bench.database.store(&bench.tenant);
    let both = async {
        while store.squashed(public).await.unwrap().is_none() || store.squashed(late).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, both).await.expect("public values are not squashed");
    assert_eq!(store.squashed(private).await.unwrap(), None, "nobody asked for it");
    stop.cancel();
    ahead.await.unwrap();
}
