//! Deadlines, clients that go away, health, and the end.

use std::{num::NonZeroUsize, time::Duration};

use cipherloom_primitives::{FheType, U256};
use cipherloom_rpc::{
    cipherloom::executor::v1::{ComputeRequest, compute_result::Outcome},
    fhevm::{common::FheOperation, executor::sync_compute_response::Resp},
};
use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
    server_reflection_response::MessageResponse,
};

use crate::fixture::{Block, Served, clear_keys, connect, input, scalar, toy_keys};

/// How many additions take far longer than a test waits for their end.
const LONG: usize = 3000;

/// A block that takes seconds on toy parameters: additions of secrets that wait for each other.
fn long_block(served: &Served) -> Block {
    let mut block = Block::default();
    let value = block.proven(&served.keys, &[(FheType::Uint128, 3)])[0];
    block.chain(value, LONG);
    block
}

/// Asserts that computing has stopped well before the end of a long block.
async fn assert_stopped_early(served: &Served) {
    served.wait_for_programs(|programs| programs == 0).await;
    let bootstraps = served.handle.statistics().bootstraps;
    // An addition of 128 bits needs more than 64 bootstraps.
    assert!(bootstraps < 64 * LONG as u64, "{bootstraps} bootstraps were done");
}

#[tokio::test(flavor = "multi_thread")]
async fn computing_stops_when_the_client_goes_away() {
    let served = Served::start(toy_keys()).await;
    let (mut client, request) = (served.client(), long_block(&served).request);
    let call = tokio::spawn(async move { client.sync_compute(request).await });
    served.wait_for_programs(|programs| programs > 0).await;
    call.abort();
    let _ = call.await;
    assert_stopped_early(&served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_dropped_stops_computing() {
    let served = Served::start(toy_keys()).await;
    let request = ComputeRequest {
        block: Some(long_block(&served).request),
        ..ComputeRequest::default()
    };
    let stream = served.own_client().compute(request).await.unwrap();
    served.wait_for_programs(|programs| programs > 0).await;
    drop(stream);
    assert_stopped_early(&served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn computing_stops_at_the_clients_deadline() {
    let served = Served::start(toy_keys()).await;
    let mut request = Request::new(long_block(&served).request);
    request.set_timeout(Duration::from_millis(600));
    let status = served.client().sync_compute(request).await.unwrap_err();
    // Client and executor look at the same deadline; tonic's client calls it a cancellation if it is first.
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    assert_stopped_early(&served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_executors_own_time_limit_is_a_deadline() {
    let served = Served::with(toy_keys(), |config| config.request_timeout = Duration::from_millis(600)).await;
    let status = served.client().sync_compute(long_block(&served).request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_stopped_early(&served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_deadline_a_stream_has_given_what_was_ready() {
    // One thread, on which the long part takes far longer than the deadline.
    let served = Served::with(toy_keys(), |config| config.engine.threads = Some(NonZeroUsize::MIN)).await;
    let mut block = long_block(&served);
    let value = block.proven(&served.keys, &[(FheType::Uint8, 3)])[0];
    let quick = block.compute(FheOperation::FheAdd, vec![input(value), scalar(U256::from(4))], FheType::Uint8);
    let mut request = Request::new(ComputeRequest {
        block: Some(block.request),
        ..ComputeRequest::default()
    });
    request.set_timeout(Duration::from_millis(1500));
    let mut stream = served.own_client().compute(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!(first.handle, quick.as_slice());
    let Some(Outcome::Serialization(ciphertext)) = first.outcome else {
        panic!("the quick result should be computed")
    };
    assert_eq!(served.decrypt(quick.as_slice(), &ciphertext), U256::from(7));
    let status = stream.message().await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_stopped_early(&served).await;
}

async fn health(served: &Served, service: &str) -> ServingStatus {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let response = HealthClient::new(served.channel.clone()).check(request).await.unwrap();
    response.into_inner().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_reported_for_each_service() {
    let served = Served::start(clear_keys()).await;
    for service in ["", "fhevm.executor.FhevmExecutor", "cipherloom.executor.v1.Executor"] {
        assert_eq!(health(&served, service).await, ServingStatus::Serving, "{service}");
    }
    let unknown = HealthCheckRequest {
        service: "something.else".to_owned(),
    };
    let status = HealthClient::new(served.channel.clone()).check(unknown).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_describes_the_services() {
    let served = Served::start(clear_keys()).await;
    let ask = |message_request| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message_request),
    };
    let requests = vec![
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("fhevm.executor.FhevmExecutor".to_owned())),
    ];
    let mut client = ServerReflectionClient::new(served.channel.clone());
    let mut answers = client
        .server_reflection_info(futures_util::stream::iter(requests))
        .await
        .unwrap()
        .into_inner();
    let services = match answers.message().await.unwrap().unwrap().message_response {
        Some(MessageResponse::ListServicesResponse(list)) => list.service.into_iter().map(|service| service.name).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    for name in [
        "fhevm.executor.FhevmExecutor",
        "cipherloom.executor.v1.Executor",
        "grpc.health.v1.Health",
    ] {
        assert!(services.iter().any(|service| service == name), "{services:?}");
    }
    let file = answers.message().await.unwrap().unwrap().message_response;
    assert!(matches!(file, Some(MessageResponse::FileDescriptorResponse(files)) if !files.file_descriptor_proto.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_are_finished_at_shutdown() {
    let served = Served::start(toy_keys()).await;
    let mut block = Block::default();
    let value = block.proven(&served.keys, &[(FheType::Uint128, 3)])[0];
    block.chain(value, 50);
    let (mut client, request) = (served.client(), block.request);
    let call = tokio::spawn(async move { client.sync_compute(request).await });
    served.wait_for_programs(|programs| programs > 0).await;
    let address = served.handle.address();
    served.handle.shutdown().await.unwrap();
    let answer = call.await.unwrap().unwrap().into_inner();
    assert!(matches!(answer.resp, Some(Resp::ResultCiphertexts(results)) if results.ciphertexts.len() == 50));
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    assert!(endpoint.connect().await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_take_too_long_are_ended_at_shutdown() {
    let served = Served::with(toy_keys(), |config| config.drain_timeout = Duration::from_millis(50)).await;
    let (mut client, request) = (served.client(), long_block(&served).request);
    let call = tokio::spawn(async move { client.sync_compute(request).await });
    served.wait_for_programs(|programs| programs > 0).await;
    served.handle.shutdown().await.unwrap();
    assert_eq!(call.await.unwrap().unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_listen_does_not_hold_up_the_shutdown() {
    let served = Served::with(clear_keys(), |config| config.drain_timeout = Duration::from_secs(600)).await;
    let silent = tokio::net::TcpStream::connect(served.handle.address()).await.unwrap();
    served.compute(&Block::default()).await;
    tokio::time::timeout(Duration::from_secs(60), served.handle.shutdown())
        .await
        .unwrap()
        .unwrap();
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_executors_of_one_key_set_give_the_same_bytes() {
    let keys = toy_keys();
    let (one, other) = (Served::start(keys.clone()).await, Served::start(keys.clone()).await);
    let mut block = Block::default();
    let value = block.proven(&keys, &[(FheType::Uint64, 3)])[0];
    block.chain(value, 3);
    assert!(one.compute(&block).await == other.compute(&block).await);
    // One address, many connections: each is as good as the other.
    let channel = connect(one.handle.address()).await;
    let again = Served { channel, ..one };
    assert!(again.compute(&block).await == other.compute(&block).await);
}
