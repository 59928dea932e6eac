//! Health, reflection, places and stopping.

use std::time::Duration;

use cipherloom_primitives::FheType;
use cipherloom_rpc::fhevm::coprocessor::AsyncComputeRequest;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::fixture::{Bench, Kind, add_tenant, clear_keys, never_ending, trivial, with_key};

const SERVICE: &str = "fhevm.coprocessor.FhevmCoprocessor";

async fn health(bench: &Bench) -> ServingStatus {
    let request = HealthCheckRequest {
        service: SERVICE.to_owned(),
    };
    let answer = HealthClient::new(bench.channel.clone()).check(request).await.unwrap();
    answer.into_inner().status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_says_serving() {
    let bench = Bench::new(Kind::Sqlite).await;
    assert_eq!(health(&bench).await, ServingStatus::Serving);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_takes_no_requests_and_keeps_what_it_took() {
    let bench = Bench::new(Kind::Sqlite).await;
    bench.schedule(&[trivial(b"a", 1, FheType::Uint8)]).await.unwrap();
    let Bench {
        handle,
        channel,
        key,
        database,
        tenant,
        ..
    } = bench;
    handle.shutdown().await.unwrap();
    let mut client = cipherloom_rpc::fhevm::coprocessor::fhevm_coprocessor_client::FhevmCoprocessorClient::new(channel);
    let status = client
        .async_compute(with_key(&key, AsyncComputeRequest::default()))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let pending = database.store(&tenant).pending_transactions(tenant.chain_id).await.unwrap();
    assert_eq!(pending, 1);
}

/// Asks a version of the reflection service which services there are and where ours is described.
macro_rules! reflected {
    ($bench:ident, $version:ident) => {{
        use tonic_reflection::pb::$version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
            server_reflection_response::MessageResponse,
        };
        let ask = |message_request| ServerReflectionRequest {
            host: String::new(),
            message_request: Some(message_request),
        };
        let requests = [
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol(SERVICE.to_owned())),
        ];
        let mut client = ServerReflectionClient::new($bench.channel.clone());
        let answers = client.server_reflection_info(futures_util::stream::iter(requests)).await;
        let mut answers = answers.unwrap().into_inner();
        let services = match answers.message().await.unwrap().unwrap().message_response {
            Some(MessageResponse::ListServicesResponse(list)) => list.service.into_iter().map(|service| service.name).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        let file = answers.message().await.unwrap().unwrap().message_response;
        assert!(matches!(file, Some(MessageResponse::FileDescriptorResponse(files)) if !files.file_descriptor_proto.is_empty()));
        services
    }};
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_reflection_services_describe_the_server() {
    let bench = Bench::new(Kind::Sqlite).await;
    for services in [reflected!(bench, v1), reflected!(bench, v1alpha)] {
        for name in [SERVICE, "grpc.health.v1.Health"] {
            assert!(services.iter().any(|service| service == name), "{services:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_one_tenant_leave_places_to_others() {
    let bench = Bench::with(Kind::Sqlite, clear_keys(), |config| {
        config.limits.requests = 8;
        config.limits.requests_per_tenant = 2;
    })
    .await;
    let (_, other) = add_tenant(&*bench.database, "other", 99).await;
    // Bodies that do not end keep their places.
    let mut slow: Vec<_> = (0..2).map(|_| never_ending(&bench, Some(&bench.key))).collect();
    let busy = async {
        loop {
            match bench.fetch(&[]).await {
                Err(status) => break status,
                Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
            // One that met the question above was refused itself.
            for ended in slow.iter_mut().filter(|request| request.is_finished()) {
                *ended = never_ending(&bench, Some(&bench.key));
            }
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(10), busy).await.unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted, "{}", status.message());
    let request = with_key(&other, AsyncComputeRequest::default());
    assert!(bench.client().async_compute(request).await.is_ok());
    slow.iter().for_each(tokio::task::JoinHandle::abort);
    let free = async {
        while bench.fetch(&[]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), free).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_take_no_places_of_tenants() {
    let bench = Bench::with(Kind::Sqlite, clear_keys(), |config| config.limits.requests = 2).await;
    let strangers: Vec<_> = (0..16).map(|_| never_ending(&bench, None)).collect();
    for _ in 0..10 {
        bench.fetch(&[]).await.unwrap();
    }
    strangers.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_never_sent_whole_ends_at_the_time_limit() {
    let bench = Bench::with(Kind::Sqlite, clear_keys(), |config| {
        config.request_timeout = Duration::from_millis(300);
    })
    .await;
    let status = tokio::time::timeout(Duration::from_secs(10), never_ending(&bench, Some(&bench.key)))
        .await
        .unwrap()
        .unwrap();
    assert!(matches!(status, Code::Cancelled | Code::DeadlineExceeded), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_counted_under_the_generations_names() {
    let bench = Bench::new(Kind::Sqlite).await;
    bench.schedule(&[trivial(b"a", 1, FheType::Uint8)]).await.unwrap();
    bench.schedule(&[trivial(b"", 1, FheType::Uint8)]).await.unwrap_err();
    let text = String::from_utf8(bench.tenancy.options().coprocessors.metrics.encode()).unwrap();
    for line in [
        "coprocessor_async_compute_count 2",
        "coprocessor_async_compute_errors 1",
        r#"coprocessor_requests_failed_total{code="invalid_argument",method="async_compute"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_follows_the_database() {
    let mut postgres = cipherloom_private_postgres::PrivatePostgres::start().unwrap();
    let url = postgres.create_database().unwrap();
    let bench = Bench::on_postgres(&url, |config| {
        config.health_interval = Duration::from_millis(50);
    })
    .await;
    let becomes = async |status: ServingStatus| {
        while health(&bench).await != status {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let patience = Duration::from_secs(30);
    tokio::time::timeout(patience, becomes(ServingStatus::Serving)).await.unwrap();
    postgres.crash().unwrap();
    tokio::time::timeout(patience, becomes(ServingStatus::NotServing)).await.unwrap();
    postgres.start_again().unwrap();
    tokio::time::timeout(patience, becomes(ServingStatus::Serving)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_health_learns_that_the_server_stops() {
    let bench = Bench::new(Kind::Sqlite).await;
    let request = HealthCheckRequest {
        service: SERVICE.to_owned(),
    };
    let mut watched = HealthClient::new(bench.channel.clone()).watch(request).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let stopped = tokio::spawn(bench.handle.shutdown());
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    stopped.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_no_tenant_uses_make_room() {
    let bench = Bench::with(Kind::Sqlite, clear_keys(), |config| {
        config.limits.connections = 3;
        config.stranger_patience = Duration::from_millis(100);
    })
    .await;
    bench.fetch(&[]).await.unwrap();
    let address = bench.handle.address();
    // Two take the places that are left; the third waits, and so makes them go.
    let mut strangers = Vec::new();
    for _ in 0..3 {
        strangers.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    let ask = async {
        let channel = endpoint.connect().await.unwrap();
        let mut client = cipherloom_rpc::fhevm::coprocessor::fhevm_coprocessor_client::FhevmCoprocessorClient::new(channel);
        client.async_compute(with_key(&bench.key, AsyncComputeRequest::default())).await
    };
    let answer = tokio::time::timeout(Duration::from_secs(20), ask)
        .await
        .expect("there should be room");
    assert!(answer.is_ok(), "{answer:?}");
    // The tenant's own connection was not closed.
    bench.fetch(&[]).await.unwrap();
    drop(strangers);
}
