//! What is too large, too much or malformed, and that it is noticed early.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use cipherloom_primitives::{FheType, U256};
use cipherloom_rpc::fhevm::{
    common::FheOperation,
    executor::{SyncComputation, SyncComputeError, SyncInput},
};
use prost::Message as _;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
};

use crate::fixture::{Block, Served, clear_keys, input, scalar, toy_keys};

const U64: FheType = FheType::Uint64;

/// Sends bytes as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// Sends bytes as a request, and returns the status.
async fn send(served: &Served, message: Bytes) -> Result<Bytes, Status> {
    let mut client = Grpc::new(served.channel.clone());
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/fhevm.executor.FhevmExecutor/SyncCompute");
    client
        .unary(Request::new(message), path, Raw)
        .await
        .map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_are_refused_and_the_executor_goes_on() {
    let served = Served::start(clear_keys()).await;
    for message in [vec![0xff; 50], vec![0x0a, 0x7f, 1], vec![0x0b], vec![0x80]] {
        let status = send(&served, message.clone().into()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{message:?}: {status:?}");
    }
    assert!(served.compute(&Block::default()).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_tiny_parts_is_refused_before_it_is_built() {
    let served = Served::start(clear_keys()).await;
    // Two bytes each on the wire, a hundred in memory.
    let computations = [0x0a, 0x00].repeat(300_000);
    let operands = SyncComputation {
        inputs: vec![SyncInput::default(); 1000],
        ..SyncComputation::default()
    };
    let mut one = vec![0x0a];
    prost::encoding::encode_varint(operands.encoded_len() as u64, &mut one);
    operands.encode(&mut one).unwrap();
    for message in [computations, one] {
        let status = send(&served, message.into()).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_above_the_limits_are_refused() {
    let served = Served::with(clear_keys(), |config| {
        config.limits.request_bytes = 100_000;
        config.limits.computations = 10;
        config.limits.ciphertexts = 5;
        config.limits.input_lists = 2;
    })
    .await;
    let backend = served.keys.evaluation().unwrap();

    let mut large = Block::default();
    large.given_bytes(U64, vec![0; 100_001].into());
    let mut computations = Block::default();
    let value = computations.given(backend.as_ref(), 1, U64);
    computations.chain(value, 11);
    let mut ciphertexts = Block::default();
    for value in 0..6 {
        ciphertexts.given(backend.as_ref(), value, U64);
    }
    let mut lists = Block::default();
    lists.request.compact_ciphertext_lists = vec![Bytes::new(); 3];
    for (block, code) in [
        (large, Code::OutOfRange),
        (computations, Code::ResourceExhausted),
        (ciphertexts, Code::ResourceExhausted),
        (lists, Code::ResourceExhausted),
    ] {
        let status = served.client().sync_compute(block.request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
    }
    // Values of lists count as well.
    let mut values = Block::default();
    values.proven(&served.keys, &[(U64, 1); 6]);
    let status = served.client().sync_compute(values.request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");

    let mut good = Block::default();
    let value = good.given(backend.as_ref(), 1, U64);
    good.chain(value, 10);
    assert_eq!(served.values(&good).await[9], U256::from(1024));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_above_the_limit_is_left_to_the_streaming_service() {
    let served = Served::with(clear_keys(), |config| config.limits.response_bytes = 200).await;
    let mut block = Block::default();
    for number in 0..10u64 {
        block.compute(
            FheOperation::FheTrivialEncrypt,
            vec![scalar(U256::from(number)), scalar(U256::from(U64.id()))],
            U64,
        );
    }
    let status = served.client().sync_compute(block.request.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let request = cipherloom_rpc::cipherloom::executor::v1::ComputeRequest {
        block: Some(block.request),
        ..Default::default()
    };
    let mut stream = served.own_client().compute(request).await.unwrap().into_inner();
    let mut count = 0;
    while stream.message().await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_places_are_refused_and_a_place_is_free_again() {
    let served = Served::with(toy_keys(), |config| config.limits.requests = 1).await;
    let mut slow = Block::default();
    let value = slow.proven(&served.keys, &[(FheType::Uint128, 3)])[0];
    slow.chain(value, 3000);
    let (mut client, request) = (served.client(), slow.request);
    let first = tokio::spawn(async move { client.sync_compute(request).await });
    served.wait_for_programs(|programs| programs > 0).await;
    let status = served.client().sync_compute(Block::default().request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    first.abort();
    let _ = first.await;
    let free = async {
        while served.client().sync_compute(Block::default().request).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), free).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_the_same_time_get_their_own_answers() {
    let keys = toy_keys();
    let served = Served::start(keys.clone()).await;
    let blocks: Vec<Block> = (0..6u64)
        .map(|number| {
            let mut block = Block::default();
            let value = block.proven(&keys, &[(U64, number)])[0];
            block.compute(FheOperation::FheAdd, vec![input(value), scalar(U256::from(100))], U64);
            block
        })
        .collect();
    let alone = {
        let mut results = Vec::new();
        for block in &blocks {
            results.push(served.compute(block).await);
        }
        results
    };
    let together = futures_util::future::join_all(blocks.iter().map(|block| served.compute(block))).await;
    assert!(together == alone);
    for (number, results) in (0..6u64).zip(&together) {
        assert_eq!(
            served.decrypt(&results[0].handle, &results[0].serialization),
            U256::from(number + 100)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ciphertext_under_a_foreign_key_set_is_refused() {
    let served = Served::start(toy_keys()).await;
    let foreign = clear_keys().evaluation().unwrap();
    let mut block = Block::default();
    block.given(foreign.as_ref(), 1, U64);
    assert_eq!(served.refused(&block).await, SyncComputeError::BadInputCiphertext);
}
