//! What a process serves, where, with which key, and how it ends.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use alloy::signers::local::PrivateKeySigner;
use cipherloom_load::{LoadError, Process, Role, TenantClient};
use cipherloom_primitives::Address;
use cipherloom_rpc::{
    codec::BoundedCodec,
    fhevm::coprocessor::{AsyncComputeRequest, GenericResponse, GetCiphertextBatch, fhevm_coprocessor_client::FhevmCoprocessorClient},
};
use tonic::{Request, codegen::http::uri::PathAndQuery, metadata::MetadataValue, transport::Endpoint};

use crate::{
    ground::{Ground, get, is_there, metric, upload, values},
    process::{Coprocessor, coprocessor},
};

/// How long a process without work may take to end.
const SOON: Duration = Duration::from_secs(20);

/// Finds a port that is free now.
fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn a_server_serves_and_a_worker_computes_each_alone() {
    let (ground, _) = Ground::on_postgres();
    let server = ground.start(Role::Server, &[]);
    let client = ground.client(&server);
    let (request, names) = values(0, 1);
    client.compute_once(request).await.unwrap();
    assert!(!is_there(&client, &names[0]).await, "a server alone has computed");
    let worker = ground.start(Role::Worker, &[]);
    assert!(worker.summary()["serverAddress"].is_null(), "{}", worker.summary());
    ground.await_value(&client, &names[0]).await;
    worker.terminate(SOON).unwrap();
    server.terminate(SOON).unwrap();
}

#[tokio::test]
async fn server_and_metrics_listen_where_they_are_told_to() {
    let ground = Ground::embedded();
    let (api, metrics) = (free_port(), free_port());
    let server = ground.start(Role::Both, &["--server-addr", &api, "--metrics-addr", &metrics]);
    assert_eq!(
        (server.server_address().unwrap(), server.metrics_address().unwrap()),
        (api, metrics.clone())
    );
    let (request, _) = values(0, 1);
    ground.client(&server).compute_once(request).await.unwrap();
    assert_eq!(metric(&server, "coprocessor_async_compute_count"), 1.0);
    let (head, body) = get(&metrics, "/health");
    assert!(head.starts_with("HTTP/1.1 200") && body.starts_with("OK"), "{head}\n{body}");
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error_that_names_it() {
    let ground = Ground::embedded();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for option in ["--server-addr", "--metrics-addr"] {
        let Err(LoadError::Ended { log, .. }) = ground.deployment.start(Role::Both, &[option, &address]) else {
            panic!("{option} {address} was taken twice")
        };
        assert!(log.contains(&address), "{log}");
    }
}

#[tokio::test]
async fn inputs_are_signed_with_the_key_in_the_file() {
    let ground = Ground::embedded();
    let key = ground.directory.path().join("other.key");
    let digits = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";
    let signer: PrivateKeySigner = digits.parse().unwrap();
    for written in [digits.to_owned(), format!("0x{digits}\n")] {
        std::fs::write(&key, written).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut command = coprocessor(&[
            "--run-server",
            "--insecure-keys",
            "--json",
            "--coprocessor-private-key",
            "other.key",
        ]);
        command.args(["--server-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0"]);
        // This also shows that the database's URL is taken from the environment.
        command.env("DATABASE_URL", ground.deployment.database_url());
        let server = Coprocessor::start(ground.directory.path(), command);
        let answer = upload(server.url(), &ground.tenant, vec![ground.list(1)]).await.unwrap();
        let answered: Address = answer.upload_responses[0].signer_address.parse().unwrap();
        let announced: Address = server.summary["signerAddress"].as_str().unwrap().parse().unwrap();
        assert_eq!((answered, announced), (signer.address(), signer.address()));
    }
}

#[tokio::test]
async fn the_database_url_option_comes_before_the_environment() {
    // The deployment gives its URL in the environment; that is what every other test uses.
    let (ground, other) = (Ground::embedded(), Ground::embedded());
    let server = ground.start(Role::Both, &["--database-url", other.deployment.database_url()]);
    // Only the other database knows the other's tenant.
    other.client(&server).compute_once(values(0, 1).0).await.unwrap();
    let status = ground.client(&server).compute_once(values(0, 1).0).await.unwrap_err();
    assert_eq!(status.message(), "API key unknown/invalid/not provided");
}

#[tokio::test]
async fn the_binary_of_the_generations_name_serves_from_a_config_file() {
    let ground = Ground::embedded();
    let path = ground.directory.path();
    let config = path.join("coprocessor.toml");
    let lines = format!(
        "run-server = true\nrun-bg-worker = true\nserver-addr = \"127.0.0.1:0\"\nmetrics_addr = \"127.0.0.1:0\"\ninsecure-keys = true\njson = true\ndatabase-url = \"{}\"\n",
        ground.deployment.database_url()
    );
    std::fs::write(&config, lines).unwrap();
    // The key is found where it is by default, in the current directory.
    let mut server = Coprocessor::start(path, coprocessor(&["--config", "coprocessor.toml", "--log-json"]));
    let client = TenantClient::new(&server.url(), ground.tenant.clone(), SOON).unwrap();
    let (request, names) = values(0, 1);
    client.compute_once(request).await.unwrap();
    ground.await_value(&client, &names[0]).await;
    assert!(server.terminate());
    let log = server.log();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        lines.iter().any(|line| line["fields"]["message"] == "coprocessor listening"),
        "{log}"
    );
    assert!(log.contains("INSECURE"), "{log}");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let ground = Ground::embedded();
    let mut server = ground.start(Role::Both, &["--drain-seconds", "3600"]);
    // A request whose body never ends is under way until the time to drain is over.
    let endless = endless_request(&ground, &server).await;
    server.signal("TERM").unwrap();
    let metrics = server.metrics_address().unwrap();
    crate::ground::until("the drain", || get(&metrics, "/metrics").1.contains("coprocessor_draining 1")).await;
    assert!(get(&metrics, "/health/ready").0.starts_with("HTTP/1.1 503"));
    server.check_running().unwrap();
    server.signal("TERM").unwrap();
    let Err(LoadError::Ended { status, .. }) = ended(&mut server).await else {
        panic!("it ended well with a request under way")
    };
    assert!(status.contains("130"), "{status}");
    endless.abort();
}

#[tokio::test]
async fn drain_seconds_is_how_long_requests_may_take_to_finish() {
    let ground = Ground::embedded();
    let server = ground.start(Role::Both, &["--drain-seconds", "1"]);
    let endless = endless_request(&ground, &server).await;
    let took = tokio::task::spawn_blocking(move || server.terminate(SOON)).await.unwrap().unwrap();
    assert!(took >= Duration::from_secs(1), "{took:?}");
    endless.abort();
}

/// Waits until a process has ended.
async fn ended(process: &mut Process) -> Result<(), LoadError> {
    for _ in 0..2_000 {
        process.check_running()?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Begins a request whose body never ends. When this returns, the server has accepted it.
async fn endless_request(ground: &Ground, server: &Process) -> tokio::task::JoinHandle<()> {
    let channel = Endpoint::from_shared(server.url().unwrap()).unwrap().connect().await.unwrap();
    let key: MetadataValue<_> = format!("Bearer {}", ground.tenant.api_key).parse().unwrap();
    let mut other = FhevmCoprocessorClient::with_interceptor(channel.clone(), {
        let key = key.clone();
        move |mut request: Request<()>| {
            request.metadata_mut().insert("authorization", key.clone());
            Ok(request)
        }
    });
    let nothing = || GetCiphertextBatch { handles: Vec::new() };
    // From here on the server knows the key, so that it decides at once.
    other.get_ciphertexts(nothing()).await.unwrap();
    let mut endless = Box::pin(async move {
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.unwrap();
        let mut request = Request::new(futures_util::stream::pending::<AsyncComputeRequest>());
        request.metadata_mut().insert("authorization", key);
        let path = PathAndQuery::from_static("/fhevm.coprocessor.FhevmCoprocessor/AsyncCompute");
        let codec = BoundedCodec::<AsyncComputeRequest, GenericResponse>::default();
        let ended = client.client_streaming(request, path, codec).await;
        assert!(ended.is_err(), "a request without an end was answered");
    });
    // On one connection the server sees requests in their order: when the second is answered, the first has arrived.
    let second = async {
        tokio::task::yield_now().await;
        other.get_ciphertexts(nothing()).await
    };
    tokio::select! {
        biased;
        () = &mut endless => panic!("the request ended"),
        answer = second => drop(answer.unwrap()),
    }
    tokio::spawn(endless)
}
