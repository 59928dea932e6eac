//! Our own service: results one by one, each with its own success or failure.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use cipherloom_executor::{ExecutorConfig, LocalExecutor};
use cipherloom_primitives::{FheType, U256};
use cipherloom_rpc::{
    cipherloom::executor::v1::{CiphertextForm, ComputeRequest, ComputeResult, DescribeRequest, compute_result::Outcome},
    fhevm::{common::FheOperation, executor::SyncComputeError},
};
use futures_util::TryStreamExt as _;
use tonic::Code;

use crate::fixture::{Block, Served, bytes, clear_keys, handle, input, scalar, toy_keys};

const U64: FheType = FheType::Uint64;

async fn results(served: &Served, request: ComputeRequest) -> Vec<ComputeResult> {
    let mut stream = served.own_client().compute(request).await.unwrap().into_inner();
    let mut results = Vec::new();
    while let Some(result) = stream.message().await.unwrap() {
        results.push(result);
    }
    results
}

fn request(block: &Block) -> ComputeRequest {
    ComputeRequest {
        block: Some(block.request.clone()),
        ..ComputeRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_without_a_server_gives_the_same_bytes() {
    for keys in [clear_keys(), toy_keys()] {
        let served = Served::start(keys.clone()).await;
        let mut block = Block::default();
        let value = block.proven(&keys, &[(U64, 12)])[0];
        let sum = block.compute(FheOperation::FheAdd, vec![input(value), scalar(U256::from(1))], U64);
        block.compute(FheOperation::FheMul, vec![input(sum), input(value)], U64);
        block.compute(FheOperation::FheDiv, vec![input(value), scalar(U256::ZERO)], U64);

        let config = ExecutorConfig::new(served.handle.address(), *keys.manifest().id.as_bytes());
        let local = LocalExecutor::start(config, keys.evaluation().unwrap()).unwrap();
        let stream = local.compute(request(&block)).await.unwrap();
        let here: Vec<ComputeResult> = stream.try_collect().await.unwrap();
        let by_handle = |results: Vec<ComputeResult>| -> BTreeMap<Bytes, Option<Outcome>> {
            results.into_iter().map(|result| (result.handle, result.outcome)).collect()
        };
        assert_eq!(by_handle(here), by_handle(results(&served, request(&block)).await));
        assert_eq!(local.key_set_id(), *keys.manifest().id.as_bytes());
        let unknown = local
            .compute(ComputeRequest {
                form: 7,
                ..request(&block)
            })
            .await;
        assert_eq!(unknown.err().unwrap().code(), Code::InvalidArgument);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_operation_fails_alone_with_what_depends_on_it() {
    for keys in [clear_keys(), toy_keys()] {
        let served = Served::start(keys.clone()).await;
        let mut block = Block::default();
        let value = block.proven(&keys, &[(U64, 12)])[0];
        let good = block.compute(FheOperation::FheAdd, vec![input(value), scalar(U256::from(1))], U64);
        let zero = block.compute(FheOperation::FheDiv, vec![input(value), scalar(U256::ZERO)], U64);
        let after = block.compute(FheOperation::FheAdd, vec![input(zero), input(good)], U64);
        let missing = block.compute(FheOperation::FheNeg, vec![input(handle(999, U64))], U64);
        let wrong = block.compute(FheOperation::FheAdd, vec![input(value), input(handle(998, FheType::Uint8))], U64);
        let garbage = block.given_bytes(U64, Bytes::from_static(b"garbage"));
        let read = block.compute(FheOperation::FheNeg, vec![input(garbage)], U64);
        let circle = block.compute(FheOperation::FheGetCiphertext, vec![input(handle(997, U64))], U64);
        block.compute_as(FheOperation::FheGetCiphertext, vec![input(circle)], handle(997, U64));
        let last = block.compute(FheOperation::FheSub, vec![input(good), scalar(U256::from(3))], U64);

        let results = results(&served, request(&block)).await;
        let by_handle: HashMap<Bytes, &Outcome> = results
            .iter()
            .map(|result| (result.handle.clone(), result.outcome.as_ref().unwrap()))
            .collect();
        for (handle, expected) in [(good, 13), (last, 10)] {
            let Outcome::Serialization(ciphertext) = by_handle[&bytes(handle)] else {
                panic!("{handle} should be computed")
            };
            assert_eq!(served.decrypt(handle.as_slice(), ciphertext), U256::from(expected));
        }
        for (handle, expected, word) in [
            (zero, SyncComputeError::ComputationFailed, "division by zero"),
            (after, SyncComputeError::ComputationFailed, "division by zero"),
            (missing, SyncComputeError::ComputationFailed, "neither given nor computed"),
            (wrong, SyncComputeError::BadInputs, "one type"),
            (read, SyncComputeError::BadInputCiphertext, "ciphertext 0"),
            (circle, SyncComputeError::UnsatisfiedDependence, "circle"),
        ] {
            let Outcome::Failure(failure) = by_handle[&bytes(handle)] else {
                panic!("{handle} should fail")
            };
            assert_eq!(failure.error, expected as i32, "{failure:?}");
            assert!(failure.reason.contains(word), "{failure:?}");
        }
        // The ciphertext that cannot be used is reported by itself too.
        assert!(by_handle.contains_key(&Bytes::new()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_services_give_the_same_bytes() {
    let keys = toy_keys();
    let served = Served::start(keys.clone()).await;
    let mut block = Block::default();
    let values = block.proven(&keys, &[(U64, 12), (U64, 30)]);
    let sum = block.compute(FheOperation::FheAdd, vec![input(values[0]), input(values[1])], U64);
    block.compute(FheOperation::FheMax, vec![input(sum), input(values[1])], U64);
    block.compute(FheOperation::FheLt, vec![input(values[0]), input(values[1])], FheType::Bool);
    let together = served.compute(&block).await;
    let mut pieces = results(&served, request(&block)).await;
    assert_eq!(pieces.len(), together.len());
    pieces.sort_by_key(|piece| together.iter().position(|result| result.handle == piece.handle));
    for (piece, result) in pieces.iter().zip(&together) {
        assert_eq!(piece.outcome, Some(Outcome::Serialization(result.serialization.clone())));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_wanted_outputs_come_back_and_in_the_wanted_form() {
    let keys = toy_keys();
    let backend = keys.evaluation().unwrap();
    let served = Served::start(keys.clone()).await;
    let mut block = Block::default();
    let value = block.proven(&keys, &[(U64, 12)])[0];
    let inner = block.compute(FheOperation::FheAdd, vec![input(value), input(value)], U64);
    let outer = block.compute(FheOperation::FheAdd, vec![input(inner), input(value)], U64);
    let unknown = handle(999, U64);
    let request = ComputeRequest {
        outputs: vec![bytes(outer), bytes(unknown), bytes(value)],
        form: CiphertextForm::Raw as i32,
        ..request(&block)
    };
    let mut found: HashMap<Bytes, Outcome> = results(&served, request)
        .await
        .into_iter()
        .map(|r| (r.handle, r.outcome.unwrap()))
        .collect();
    assert_eq!(found.len(), 3);
    for (handle, expected) in [(outer, 36), (value, 12)] {
        let Some(Outcome::Serialization(raw)) = found.remove(&bytes(handle)) else {
            panic!("{handle} is wanted")
        };
        assert!(backend.deserialize(U64, &raw).is_ok(), "raw form is read without a bootstrap");
        assert_eq!(served.decrypt(handle.as_slice(), &raw), U256::from(expected));
    }
    let Some(Outcome::Failure(failure)) = found.remove(&bytes(unknown)) else {
        panic!("there is no such result")
    };
    assert_eq!(failure.error, SyncComputeError::UnknownHandle as i32);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_form_is_refused() {
    let served = Served::start(clear_keys()).await;
    let request = ComputeRequest {
        form: 7,
        ..ComputeRequest::default()
    };
    assert_eq!(
        served.own_client().compute(request).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_says_what_it_computes_with() {
    let served = Served::start(clear_keys()).await;
    let described = served.own_client().describe(DescribeRequest {}).await.unwrap().into_inner();
    assert_eq!(described.key_set_id, served.keys.manifest().id.as_bytes().as_slice());
    assert_eq!(described.policy, "BATCHED");
    assert!(described.insecure_clear);
    assert_eq!(described.max_computations, 16_384);
}
