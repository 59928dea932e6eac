//! Proven lists, ciphertexts in both forms, and handles.

use cipherloom_primitives::{Address, FheType, Handle, U256, input::input_handles};
use cipherloom_rpc::fhevm::{common::FheOperation, executor::SyncComputeError};

use crate::fixture::{Block, Served, clear_keys, context, input, metadata, scalar, toy_keys};

const U64: FheType = FheType::Uint64;

#[tokio::test(flavor = "multi_thread")]
async fn values_of_a_list_are_known_by_the_handles_of_both_generations() {
    for keys in [clear_keys(), toy_keys()] {
        let served = Served::start(keys.clone()).await;
        let mut block = Block::default();
        let native = block.proven(&keys, &[(FheType::Bool, 1), (U64, 41)]);
        let list = block.request.compact_ciphertext_lists[0].clone();
        let metadata = metadata();
        let current = input_handles(&list, &[FheType::Bool, U64], metadata.acl, metadata.chain_id).unwrap();
        block.compute(FheOperation::FheAdd, vec![input(native[1]), scalar(U256::from(1))], U64);
        block.compute(FheOperation::FheAdd, vec![input(current[1]), scalar(U256::from(2))], U64);
        block.compute(FheOperation::FheNot, vec![input(native[0])], FheType::Bool);
        assert_eq!(served.values(&block).await, [U256::from(42), U256::from(43), U256::ZERO]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_type_in_an_input_handle_is_bound() {
    let keys = clear_keys();
    let served = Served::start(keys.clone()).await;
    let mut block = Block::default();
    let handle = block.proven(&keys, &[(U64, 41)])[0];
    let mut other = handle.as_slice().to_vec();
    other[30] = FheType::Uint32.id();
    let other = Handle::try_from(other.as_slice()).unwrap();
    block.compute(FheOperation::FheNeg, vec![input(other)], FheType::Uint32);
    assert_eq!(served.refused(&block).await, SyncComputeError::ComputationFailed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_holds_for_its_contract_user_and_chain_alone() {
    for keys in [clear_keys(), toy_keys()] {
        let served = Served::start(keys.clone()).await;
        let mut block = Block::default();
        let value = block.proven(&keys, &[(U64, 1)])[0];
        block.compute(FheOperation::FheNeg, vec![input(value)], U64);
        served.compute(&block).await;
        let good = metadata();
        for other in [
            cipherloom_primitives::input::InputMetadata {
                contract: Address::ZERO,
                ..good
            },
            cipherloom_primitives::input::InputMetadata {
                user: Address::ZERO,
                ..good
            },
            cipherloom_primitives::input::InputMetadata {
                acl: Address::ZERO,
                ..good
            },
            cipherloom_primitives::input::InputMetadata { chain_id: 1, ..good },
        ] {
            block.request.input_contexts = vec![context(&other)];
            assert_eq!(served.refused(&block).await, SyncComputeError::BadInputList);
        }
        block.request.input_contexts[0].user_address.truncate(19);
        assert_eq!(served.refused(&block).await, SyncComputeError::BadInputList);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_without_a_context_is_taken_only_from_a_trusted_node() {
    let keys = toy_keys();
    let mut block = Block::default();
    let value = block.proven(&keys, &[(U64, 1)])[0];
    block.compute(FheOperation::FheAdd, vec![input(value), input(value)], U64);
    let with_context = block.clone();
    block.request.input_contexts.clear();

    let strict = Served::start(keys.clone()).await;
    assert_eq!(strict.refused(&block).await, SyncComputeError::BadInputList);
    let trusting = Served::with(keys.clone(), |config| config.trust_node_for_proofs = true).await;
    assert_eq!(trusting.values(&block).await, [U256::from(2)]);
    // Whether a proof was checked is not seen in the results.
    assert!(trusting.compute(&block).await == strict.compute(&with_context).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn results_of_one_block_are_inputs_of_the_next() {
    for keys in [clear_keys(), toy_keys()] {
        let served = Served::start(keys.clone()).await;
        let mut first = Block::default();
        let value = first.proven(&keys, &[(U64, 20)])[0];
        first.compute(FheOperation::FheAdd, vec![input(value), input(value)], U64);
        let result = served.compute(&first).await.remove(0);

        let mut second = Block::default();
        let value = second.given_bytes(U64, result.serialization.clone());
        second.compute(FheOperation::FheSub, vec![input(value), scalar(U256::from(4))], U64);
        second.compute(FheOperation::FheGetCiphertext, vec![input(value)], U64);
        let results = served.compute(&second).await;
        assert_eq!(served.decrypt(&results[0].handle, &results[0].serialization), U256::from(36));
        assert_eq!(
            results[1].serialization, result.serialization,
            "what goes in packed comes out as it was"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_and_packed_ciphertexts_are_taken_and_packed_ones_given() {
    let keys = toy_keys();
    let backend = keys.evaluation().unwrap();
    let served = Served::start(keys.clone()).await;
    let mut block = Block::default();
    let raw = block.given(backend.as_ref(), 5, U64);
    let value = backend
        .deserialize(U64, &block.request.compressed_ciphertexts[0].serialization)
        .unwrap();
    let packed_bytes = backend.pack(&value).unwrap();
    let packed = block.given_bytes(U64, packed_bytes.clone().into());
    block.compute(FheOperation::FheAdd, vec![input(raw), input(packed)], U64);
    block.compute(FheOperation::FheGetCiphertext, vec![input(raw)], U64);
    let results = served.compute(&block).await;
    assert_eq!(served.decrypt(&results[0].handle, &results[0].serialization), U256::from(10));
    assert_eq!(results[1].serialization, packed_bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_take_scalars_as_the_executor_contract_gives_them() {
    use FheOperation::{FheAdd, FheCast, FheIsIn, FheMulDiv, FheRand, FheRandBounded, FheSum, FheTrivialEncrypt};
    let served = Served::start(clear_keys()).await;
    let backend = served.keys.evaluation().unwrap();
    let number = |value: u64| scalar(U256::from(value));
    let type_of = |ty: FheType| number(u64::from(ty.id()));
    let (u8_, bool_) = (FheType::Uint8, FheType::Bool);
    let mut block = Block::default();
    let ten = block.given(backend.as_ref(), 10, u8_);
    // A scalar of more bits than the type is truncated, one of fewer bytes is padded.
    block.compute(FheAdd, vec![input(ten), number(0x1ff)], u8_);
    let short = cipherloom_rpc::fhevm::executor::SyncInput {
        input: Some(cipherloom_rpc::fhevm::executor::sync_input::Input::Scalar(vec![7].into())),
    };
    block.compute(FheAdd, vec![input(ten), short], u8_);
    block.compute(FheCast, vec![input(ten), type_of(U64)], U64);
    block.compute(FheTrivialEncrypt, vec![number(2), type_of(bool_)], bool_);
    block.compute(FheTrivialEncrypt, vec![number(0x100), type_of(bool_)], bool_);
    block.compute(FheSum, vec![input(ten), input(ten), input(ten)], u8_);
    block.compute(FheIsIn, vec![input(ten), input(ten)], bool_);
    block.compute(FheMulDiv, vec![input(ten), number(100), number(8)], u8_);
    assert_eq!(served.values(&block).await, [9u64, 17, 10, 1, 0, 30, 1, 125].map(U256::from));

    // Random values depend on the seed's last 16 bytes; a bound beyond the type bounds nothing.
    let mut block = Block::default();
    let high = scalar(U256::from(5) | (U256::from(1) << 200));
    block.compute(FheRand, vec![number(5), type_of(U64)], U64);
    block.compute(FheRand, vec![high, type_of(U64)], U64);
    block.compute(FheRand, vec![number(6), type_of(U64)], U64);
    block.compute(FheRandBounded, vec![number(5), scalar(U256::from(1) << 200), type_of(U64)], U64);
    block.compute(FheRandBounded, vec![number(5), number(16), type_of(U64)], U64);
    let values = served.values(&block).await;
    assert_eq!(values[0], values[1]);
    assert_ne!(values[0], values[2]);
    assert_eq!(values[0], values[3]);
    assert!(values[4] < U256::from(16));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_computation_twice_is_one_result() {
    let served = Served::start(clear_keys()).await;
    let backend = served.keys.evaluation().unwrap();
    let mut block = Block::default();
    let value = block.given(backend.as_ref(), 10, U64);
    let result = block.compute(FheOperation::FheNeg, vec![input(value)], U64);
    block.compute_as(FheOperation::FheNeg, vec![input(value)], result);
    block.compute(FheOperation::FheNeg, vec![input(result)], U64);
    let values = served.values(&block).await;
    assert_eq!(values, [U256::from(u64::MAX - 9), U256::from(10)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_is_not_computed_again() {
    let served = Served::start(clear_keys()).await;
    let backend = served.keys.evaluation().unwrap();
    let mut block = Block::default();
    let value = block.given(backend.as_ref(), 10, U64);
    let known = block.given(backend.as_ref(), 77, U64);
    block.compute_as(FheOperation::FheNeg, vec![input(value)], known);
    block.compute(FheOperation::FheAdd, vec![input(known), scalar(U256::from(1))], U64);
    assert_eq!(served.values(&block).await, [U256::from(77), U256::from(78)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_results_can_be_computed_with() {
    let served = Served::start(toy_keys()).await;
    let keys = toy_keys();
    let mut block = Block::default();
    let value = block.proven(&keys, &[(U64, 10)])[0];
    let sum = block.compute(FheOperation::FheAdd, vec![input(value), input(value)], U64);
    let copy = block.compute(FheOperation::FheGetCiphertext, vec![input(sum)], U64);
    let copy = block.compute(FheOperation::FheGetCiphertext, vec![input(copy)], U64);
    block.compute(FheOperation::FheSub, vec![input(copy), input(value)], U64);
    let results = served.compute(&block).await;
    assert_eq!(results[0].serialization, results[2].serialization);
    assert_eq!(served.decrypt(&results[3].handle, &results[3].serialization), U256::from(10));
}
