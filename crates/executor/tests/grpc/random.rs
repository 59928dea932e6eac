//! Random requests: whatever comes in, an answer goes out.

use std::sync::OnceLock;

use bytes::Bytes;
use cipherloom_primitives::{FheType, TypedOperation, U256};
use cipherloom_rpc::fhevm::executor::{
    CompressedCiphertext, SyncComputation, SyncComputeRequest, SyncInput, sync_compute_response::Resp, sync_input::Input,
};
use proptest::prelude::*;
use tokio::runtime::Runtime;
use tonic::Code;

use crate::fixture::{Block, Served, clear_keys};

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    })
}

fn served() -> &'static Served {
    static SERVED: OnceLock<Served> = OnceLock::new();
    SERVED.get_or_init(|| runtime().block_on(Served::start(clear_keys())))
}

/// Few different handles, so that they meet; some are malformed.
fn any_handle() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        8 => (0..8u8, prop_oneof![Just(0u8), Just(2), Just(4), Just(5), Just(8)]).prop_map(|(number, ty)| {
            let mut bytes = [0; 32];
            bytes[0] = number;
            bytes[30] = ty;
            Bytes::copy_from_slice(&bytes)
        }),
        1 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from),
    ]
}

fn any_input() -> impl Strategy<Value = SyncInput> {
    let input = prop_oneof![
        6 => any_handle().prop_map(|handle| Some(Input::Handle(handle))),
        3 => (0..9u8).prop_map(|number| Some(Input::Scalar(vec![number].into()))),
        1 => proptest::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| Some(Input::Scalar(bytes.into()))),
        1 => Just(None),
    ];
    input.prop_map(|input| SyncInput { input })
}

fn any_computation() -> impl Strategy<Value = SyncComputation> {
    let operation = prop_oneof![20 => 0..33i32, 1 => any::<i32>()];
    let result = proptest::collection::vec(any_handle(), 0..3);
    (operation, proptest::collection::vec(any_input(), 0..5), result).prop_map(|(operation, inputs, result_handles)| SyncComputation {
        operation,
        inputs,
        result_handles,
    })
}

/// A ciphertext: of the type its handle says, or anything.
fn any_ciphertext() -> impl Strategy<Value = CompressedCiphertext> {
    (any_handle(), any::<bool>(), proptest::collection::vec(any::<u8>(), 0..80)).prop_map(|(handle, good, noise)| {
        let ty = handle.get(30).and_then(|ty| FheType::try_from(*ty).ok());
        let serialization = match ty {
            Some(ty) if good => {
                let backend = clear_keys().evaluation().unwrap();
                let value = backend
                    .evaluate(&TypedOperation::TrivialEncrypt { value: U256::from(1), ty }, &[])
                    .unwrap();
                backend.serialize(&value).unwrap().into()
            }
            _ => noise.into(),
        };
        CompressedCiphertext { handle, serialization }
    })
}

fn any_request() -> impl Strategy<Value = SyncComputeRequest> {
    let lists = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60).prop_map(Bytes::from), 0..2);
    let computations = proptest::collection::vec(any_computation(), 0..12);
    let ciphertexts = proptest::collection::vec(any_ciphertext(), 0..6);
    (computations, prop_oneof![5 => Just(Vec::new()), 1 => lists], ciphertexts).prop_map(|(computations, lists, ciphertexts)| {
        SyncComputeRequest {
            computations,
            compact_ciphertext_lists: lists,
            compressed_ciphertexts: ciphertexts,
            input_contexts: Vec::new(),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_request_has_an_answer(request in any_request()) {
        let mut client = served().client();
        let answer = runtime().block_on(client.sync_compute(request)).unwrap().into_inner();
        prop_assert!(answer.resp.is_some());
    }

    #[test]
    fn every_computation_of_a_stream_has_an_outcome(request in any_request()) {
        let handles: Vec<Bytes> = request.computations.iter().map(|c| c.result_handles.first().cloned().unwrap_or_default()).collect();
        let request = cipherloom_rpc::cipherloom::executor::v1::ComputeRequest { block: Some(request), ..Default::default() };
        let mut client = served().own_client();
        let results = runtime().block_on(async {
            let mut stream = client.compute(request).await?.into_inner();
            let mut results = Vec::new();
            while let Some(result) = stream.message().await? {
                results.push(result);
            }
            Ok::<_, tonic::Status>(results)
        });
        let results = results.unwrap();
        for handle in handles {
            prop_assert!(results.iter().any(|result| result.handle == handle), "no outcome for {handle:?}");
        }
    }
}

#[test]
fn requests_that_can_be_computed_are_among_them() {
    // Random requests are nearly all refused; this is what tells an executor that refuses everything from one that works.
    let mut block = Block::default();
    let backend = clear_keys().evaluation().unwrap();
    block.given(backend.as_ref(), 1, FheType::Uint8);
    let answer = runtime().block_on(served().ask(&block));
    assert!(matches!(answer.resp, Some(Resp::ResultCiphertexts(_))));
    let gone = runtime().block_on(served().client().sync_compute(SyncComputeRequest {
        compact_ciphertext_lists: vec![Bytes::new(); 65],
        ..SyncComputeRequest::default()
    }));
    assert_eq!(gone.unwrap_err().code(), Code::ResourceExhausted);
}
