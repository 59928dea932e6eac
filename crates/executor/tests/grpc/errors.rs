//! Every error of the protocol, and what it says.

use cipherloom_executor::REASON_HEADER;
use cipherloom_primitives::{FheType, U256};
use cipherloom_rpc::fhevm::{
    common::FheOperation,
    executor::{CompressedCiphertext, SyncComputation, SyncComputeError, SyncInput, sync_input::Input},
};

use crate::fixture::{Block, Served, bytes, clear_keys, handle, input, scalar, toy_keys};

const U8: FheType = FheType::Uint8;
const U64: FheType = FheType::Uint64;

/// A block with two given values and nothing to compute yet.
fn block(served: &Served) -> (Block, cipherloom_primitives::Handle, cipherloom_primitives::Handle) {
    let mut block = Block::default();
    let backend = served.keys.evaluation().unwrap();
    let a = block.given(backend.as_ref(), 10, U64);
    let b = block.given(backend.as_ref(), 3, U64);
    (block, a, b)
}

/// Asks for one computation on top of a good one, and expects an error.
async fn expect(served: &Served, computation: SyncComputation, expected: SyncComputeError) {
    let (mut block, a, b) = block(served);
    block.compute(FheOperation::FheAdd, vec![input(a), input(b)], U64);
    block.request.computations.push(computation.clone());
    assert_eq!(served.refused(&block).await, expected, "{computation:?}");
}

fn computation(operation: FheOperation, inputs: Vec<SyncInput>, ty: FheType) -> SyncComputation {
    SyncComputation {
        operation: operation as i32,
        inputs,
        result_handles: vec![bytes(handle(5000, ty))],
    }
}

/// The handle of the first given value of [`block`].
fn given() -> SyncInput {
    input(handle(1, U64))
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_ciphertexts_that_cannot_be_read_are_named() {
    for keys in [clear_keys(), toy_keys()] {
        let served = Served::start(keys).await;
        let (mut bad, ..) = block(&served);
        bad.request.compact_ciphertext_lists.push(vec![7; 100].into());
        bad.request
            .input_contexts
            .push(crate::fixture::context(&crate::fixture::metadata()));
        assert_eq!(served.refused(&bad).await, SyncComputeError::BadInputList);

        for garbage in [
            vec![],
            vec![0xff; 10],
            vec![1; 100_000],
            b"CLCT\x01\x01\x05\x00and then nothing".to_vec(),
        ] {
            let (mut bad, ..) = block(&served);
            bad.given_bytes(U64, garbage.into());
            assert_eq!(served.refused(&bad).await, SyncComputeError::BadInputCiphertext);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ciphertext_has_to_be_what_its_handle_says() {
    let served = Served::start(toy_keys()).await;
    let (good, ..) = block(&served);
    let sixty_four = good.request.compressed_ciphertexts[0].serialization.clone();
    let mut cases = vec![bytes(handle(77, U8)), bytes::Bytes::from_static(&[1; 31])];
    // A version and a type this software does not know.
    for (position, byte) in [(31, 1), (30, 1), (30, 9)] {
        let mut handle = handle(78, U64).as_slice().to_vec();
        handle[position] = byte;
        cases.push(handle.into());
    }
    for handle in cases {
        let (mut bad, ..) = block(&served);
        bad.request.compressed_ciphertexts.push(CompressedCiphertext {
            handle: handle.clone(),
            serialization: sixty_four.clone(),
        });
        assert_eq!(served.refused(&bad).await, SyncComputeError::BadInputCiphertext, "{handle:?}");
    }
    let (mut twice, ..) = block(&served);
    let mut other = twice.request.compressed_ciphertexts[1].clone();
    other.handle = twice.request.compressed_ciphertexts[0].handle.clone();
    twice.request.compressed_ciphertexts.push(other);
    assert_eq!(served.refused(&twice).await, SyncComputeError::BadInputCiphertext);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packed_ciphertext_of_garbage_is_found_when_it_is_used() {
    for keys in [clear_keys(), toy_keys()] {
        let served = Served::start(keys).await;
        let backend = served.keys.evaluation().unwrap();
        let mut block = Block::default();
        let raw = block.given(backend.as_ref(), 10, U64);
        let value = backend
            .deserialize(U64, &block.request.compressed_ciphertexts[0].serialization)
            .unwrap();
        let mut packed = backend.pack(&value).unwrap();
        packed.pop();
        let packed = block.given_bytes(U64, packed.into());
        block.compute(FheOperation::FheAdd, vec![input(raw), input(packed)], U64);
        assert_eq!(served.refused(&block).await, SyncComputeError::BadInputCiphertext);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_that_do_not_exist_are_invalid() {
    let served = Served::start(clear_keys()).await;
    for number in [-1, 22, 31, 33, i32::MAX] {
        let mut unknown = computation(FheOperation::FheAdd, vec![given(), given()], U64);
        unknown.operation = number;
        expect(&served, unknown, SyncComputeError::InvalidOperation).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_that_do_not_exist_for_their_operands_are_unsupported() {
    use FheOperation::{FheAdd, FheCast, FheDiv, FheTrivialEncrypt};
    let served = Served::start(clear_keys()).await;
    let wide = input(handle(6, FheType::Uint256));
    let mut four_bits = handle(7, U64).as_slice().to_vec();
    four_bits[30] = 1;
    let four_bits = SyncInput {
        input: Some(Input::Handle(four_bits.into())),
    };
    for (operation, inputs, ty) in [
        (FheDiv, vec![given(), given()], U64),
        (FheAdd, vec![wide.clone(), wide], FheType::Uint256),
        (FheAdd, vec![four_bits, scalar(U256::from(1))], U64),
        (FheCast, vec![given(), scalar(U256::from(U64.id()))], U64),
        (FheTrivialEncrypt, vec![scalar(U256::from(1)), scalar(U256::from(9))], U64),
    ] {
        expect(&served, computation(operation, inputs, ty), SyncComputeError::UnsupportedOperation).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operands_of_the_wrong_number_kind_or_type_are_bad() {
    use FheOperation::{FheAdd, FheCast, FheGetCiphertext, FheIfThenElse, FheNot, FheRand, FheRandBounded};
    let served = Served::start(clear_keys()).await;
    let one = || scalar(U256::from(1));
    let malformed = |bytes: &'static [u8]| SyncInput {
        input: Some(Input::Handle(bytes.into())),
    };
    for (operation, inputs) in [
        (FheAdd, vec![]),
        (FheAdd, vec![given()]),
        (FheAdd, vec![given(), given(), given()]),
        (FheAdd, vec![one(), given()]),
        (FheAdd, vec![given(), SyncInput::default()]),
        (FheAdd, vec![given(), input(handle(2, U8))]),
        (FheAdd, vec![given(), malformed(&[1; 33])]),
        (FheAdd, vec![given(), malformed(&[1; 32])]),
        (
            FheAdd,
            vec![
                given(),
                SyncInput {
                    input: Some(Input::Scalar(bytes::Bytes::new())),
                },
            ],
        ),
        (
            FheAdd,
            vec![
                given(),
                SyncInput {
                    input: Some(Input::Scalar(vec![1; 257].into())),
                },
            ],
        ),
        (FheNot, vec![one()]),
        (FheCast, vec![given(), given()]),
        (FheIfThenElse, vec![given(), given()]),
        (FheRand, vec![given(), one()]),
        (FheRandBounded, vec![one(), scalar(U256::from(3)), scalar(U256::from(U64.id()))]),
        (FheGetCiphertext, vec![one()]),
    ] {
        expect(&served, computation(operation, inputs, U64), SyncComputeError::BadInputs).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_without_a_producer_fail() {
    let served = Served::start(clear_keys()).await;
    let unknown = input(handle(4000, U64));
    let sum = computation(FheOperation::FheAdd, vec![given(), unknown.clone()], U64);
    expect(&served, sum, SyncComputeError::ComputationFailed).await;
    let copy = computation(FheOperation::FheGetCiphertext, vec![unknown], U64);
    expect(&served, copy, SyncComputeError::UnknownHandle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_division_by_zero_fails() {
    let served = Served::start(clear_keys()).await;
    for operation in [FheOperation::FheDiv, FheOperation::FheRem] {
        let division = computation(operation, vec![given(), scalar(U256::ZERO)], U64);
        expect(&served, division, SyncComputeError::ComputationFailed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn results_need_a_handle_of_their_own_and_of_their_type() {
    let served = Served::start(clear_keys()).await;
    let sum = |ty| computation(FheOperation::FheAdd, vec![given(), given()], ty);
    let mut none = sum(U64);
    none.result_handles.clear();
    let mut short = sum(U64);
    short.result_handles = vec![vec![1; 31].into()];
    let mut version = sum(U64);
    version.result_handles = vec![vec![1; 32].into()];
    let copy = computation(FheOperation::FheGetCiphertext, vec![given()], U8);
    for bad in [none, short, version, sum(U8), copy] {
        expect(&served, bad, SyncComputeError::BadResultHandles).await;
    }

    let (mut block, a, b) = block(&served);
    block.compute_as(FheOperation::FheAdd, vec![input(a), input(b)], handle(800, U64));
    block.compute_as(FheOperation::FheSub, vec![input(a), input(b)], handle(800, U64));
    assert_eq!(served.refused(&block).await, SyncComputeError::BadResultHandles);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reason_is_in_a_header_and_names_the_cause() {
    let served = Served::start(clear_keys()).await;
    let (mut block, a, _) = block(&served);
    let late = handle(900, U64);
    // What depends on the fault comes first in the request, and is not what is named.
    block.compute(FheOperation::FheAdd, vec![input(late), scalar(U256::from(1))], U64);
    block.compute_as(FheOperation::FheDiv, vec![input(a), scalar(U256::ZERO)], late);
    let response = served.client().sync_compute(block.request).await.unwrap();
    let reason = response.metadata().get(REASON_HEADER).unwrap().to_str().unwrap();
    assert!(reason.contains("computation 1") && reason.contains("division by zero"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_request_has_empty_results() {
    let served = Served::start(clear_keys()).await;
    assert!(served.compute(&Block::default()).await.is_empty());
}
