//! The scheduling patterns: chain, diamond, Y, independent and circular, under every policy.

use cipherloom_engine::Policy;
use cipherloom_fhe::KeySet;
use cipherloom_primitives::{FheType, U256};
use cipherloom_rpc::fhevm::{common::FheOperation, executor::SyncComputeError};

use crate::fixture::{Block, Served, clear_keys, handle, input, scalar, toy_keys};

const U64: FheType = FheType::Uint64;

/// A pattern: its name, its block, and the values of its results.
type Pattern = (&'static str, Block, Vec<u64>);

/// Values go in as secrets of a proven list, so that real encryption has something to hide.
fn patterns(keys: &KeySet) -> Vec<Pattern> {
    vec![chain(keys), diamond(keys), y(keys), independent(keys)]
}

/// Each result is needed for the next one.
fn chain(keys: &KeySet) -> Pattern {
    let mut block = Block::default();
    let mut value = block.proven(keys, &[(U64, 7)])[0];
    for step in 1..=6u64 {
        value = block.compute(FheOperation::FheAdd, vec![input(value), scalar(U256::from(step))], U64);
    }
    ("chain", block, vec![8, 10, 13, 17, 22, 28])
}

/// One result goes two ways that meet again.
fn diamond(keys: &KeySet) -> Pattern {
    let mut block = Block::default();
    let values = block.proven(keys, &[(U64, 100), (U64, 30)]);
    let top = block.compute(FheOperation::FheSub, vec![input(values[0]), input(values[1])], U64);
    let left = block.compute(FheOperation::FheAdd, vec![input(top), scalar(U256::from(1))], U64);
    let right = block.compute(FheOperation::FheMul, vec![input(top), scalar(U256::from(2))], U64);
    let greater = block.compute(FheOperation::FheGt, vec![input(right), input(left)], FheType::Bool);
    block.compute(FheOperation::FheIfThenElse, vec![input(greater), input(right), input(left)], U64);
    ("diamond", block, vec![70, 71, 140, 1, 140])
}

/// Two chains become one.
fn y(keys: &KeySet) -> Pattern {
    let mut block = Block::default();
    let values = block.proven(keys, &[(U64, 3), (U64, 50)]);
    let left = block.compute(FheOperation::FheAdd, vec![input(values[0]), input(values[0])], U64);
    let left = block.compute(FheOperation::FheAdd, vec![input(left), input(left)], U64);
    let right = block.compute(FheOperation::FheShr, vec![input(values[1]), scalar(U256::from(1))], U64);
    let joined = block.compute(FheOperation::FheMin, vec![input(left), input(right)], U64);
    block.compute(FheOperation::FheBitXor, vec![input(joined), scalar(U256::from(0xff))], U64);
    ("Y", block, vec![6, 12, 25, 12, 12 ^ 0xff])
}

/// Nothing needs anything else.
fn independent(keys: &KeySet) -> Pattern {
    let mut block = Block::default();
    let values = block.proven(keys, &[(U64, 9), (U64, 4)]);
    for amount in 1..=4u64 {
        block.compute(FheOperation::FheSub, vec![input(values[0]), scalar(U256::from(amount))], U64);
    }
    block.compute(FheOperation::FheEq, vec![input(values[0]), input(values[1])], FheType::Bool);
    block.compute(FheOperation::FheMax, vec![input(values[0]), input(values[1])], U64);
    ("independent", block, vec![8, 7, 6, 5, 0, 9])
}

/// Runs all patterns under all policies; the bytes have to be the same, and the values right.
async fn all_policies_agree(keys: std::sync::Arc<KeySet>) {
    let patterns = patterns(&keys);
    let mut references = vec![None; patterns.len()];
    for policy in Policy::ALL {
        let served = Served::with_policy(keys.clone(), policy).await;
        for ((name, block, expected), reference) in patterns.iter().zip(&mut references) {
            let results = served.compute(block).await;
            let handles: Vec<_> = block
                .request
                .computations
                .iter()
                .map(|computation| computation.result_handles[0].clone())
                .collect();
            assert!(
                results.iter().map(|result| &result.handle).eq(&handles),
                "{name}: results in the order of computations"
            );
            let values: Vec<U256> = results
                .iter()
                .map(|result| served.decrypt(&result.handle, &result.serialization))
                .collect();
            assert_eq!(
                values,
                expected.iter().map(|value| U256::from(*value)).collect::<Vec<_>>(),
                "{name} under {policy}"
            );
            let reference = reference.get_or_insert_with(|| results.clone());
            assert!(*reference == results, "{name} under {policy} gives other bytes");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_policies_give_the_same_plaintext_results() {
    all_policies_agree(clear_keys()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_policies_give_the_same_bytes_on_real_ciphertexts() {
    all_policies_agree(toy_keys()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_computations_does_not_matter() {
    let keys = toy_keys();
    let served = Served::start(keys.clone()).await;
    for (name, block, _) in patterns(&keys) {
        let mut expected = served.compute(&block).await;
        let mut reversed = block.clone();
        reversed.request.computations.reverse();
        let results = served.compute(&reversed).await;
        expected.reverse();
        assert!(results == expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_else_is_in_a_block_does_not_matter() {
    let keys = toy_keys();
    let served = Served::start(keys.clone()).await;
    let (_, alone, _) = chain(&keys);
    let (_, other, _) = diamond(&keys);
    let mut both = alone.clone();
    // The other block's results get handles of their own; its inputs have them already.
    let mut other = other.request;
    for computation in &mut other.computations {
        for handle in &mut computation.result_handles {
            *handle = renumbered(handle);
        }
        for operand in &mut computation.inputs {
            if let Some(cipherloom_rpc::fhevm::executor::sync_input::Input::Handle(handle)) = &mut operand.input {
                *handle = renumbered(handle);
            }
        }
    }
    both.request.computations.splice(0..0, other.computations);
    both.request.compact_ciphertext_lists.extend(other.compact_ciphertext_lists);
    both.request.input_contexts.extend(other.input_contexts);
    let alone = served.compute(&alone).await;
    let both = served.compute(&both).await;
    assert!(alone.iter().all(|result| both.contains(result)));
}

/// Marks the small numbers that blocks of the tests give their results; handles of inputs are hashes.
fn renumbered(handle: &[u8]) -> bytes::Bytes {
    let mut handle = handle.to_vec();
    if handle[..3] == [0, 0, 0] {
        handle[0] = 0xee;
    }
    handle.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn results_that_need_each_other_are_refused() {
    for policy in Policy::ALL {
        let served = Served::with_policy(clear_keys(), policy).await;
        let (a, b, c) = (handle(901, U64), handle(902, U64), handle(903, U64));
        let mut block = Block::default();
        block.compute_as(FheOperation::FheAdd, vec![input(c), scalar(U256::from(1))], a);
        block.compute_as(FheOperation::FheAdd, vec![input(a), scalar(U256::from(1))], b);
        block.compute_as(FheOperation::FheAdd, vec![input(b), scalar(U256::from(1))], c);
        assert_eq!(served.refused(&block).await, SyncComputeError::UnsatisfiedDependence, "{policy}");
    }
}
