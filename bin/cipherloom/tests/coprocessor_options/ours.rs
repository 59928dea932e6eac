//! The options that the generation did not have.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cipherloom_load::{LoadError, Role, TenantClient};
use cipherloom_private_postgres::shared;
use cipherloom_rpc::fhevm::coprocessor::{GetCiphertextBatch, fhevm_coprocessor_client::FhevmCoprocessorClient};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use tonic::{
    Code, Request, Response, Status,
    transport::{Certificate, ClientTlsConfig, Endpoint},
};

use crate::{
    ground::{Ground, authorized, metric, negation, note_leases, until, upload, values},
    process::{Coprocessor, coprocessor},
};

/// Has a process listen where nobody does.
const fn free_ports() -> [&'static str; 4] {
    ["--server-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0"]
}

#[tokio::test]
async fn a_database_without_schema_is_refused_with_no_migrate_and_made_ready_without() {
    let ground = Ground::embedded();
    let empty = shared().create_database().unwrap();
    let options = ["--database-url", &empty];
    let Err(LoadError::Ended { log, .. }) = ground
        .deployment
        .start(Role::Server, &[options.as_slice(), &["--no-migrate"]].concat())
    else {
        panic!("a database without tables was accepted")
    };
    assert!(log.contains("db migrate"), "{log}");
    ground.start(Role::Server, &options);
    let output = ground
        .deployment
        .command(&["db", "status", "--json", "--database-url", &empty])
        .output()
        .unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let migrations = status["migrations"].as_array().unwrap();
    assert!(migrations.iter().all(|migration| migration["state"] == "applied"), "{status}");
    ground.start(Role::Server, &[options.as_slice(), &["--no-migrate"]].concat());
}

#[tokio::test]
async fn tenants_whose_keys_hide_nothing_are_refused_unless_insecure_keys() {
    let ground = Ground::embedded();
    // The deployment of tests gives --insecure-keys; this is started without.
    let mut command = coprocessor(&["--run-server", "--run-bg-worker", "--json"]);
    command
        .args(free_ports())
        .args(["--database-url", ground.deployment.database_url()]);
    let server = Coprocessor::start(ground.directory.path(), command);
    let status = upload(server.url(), &ground.tenant, vec![ground.list(1)]).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(server.log().contains("--insecure-keys"), "{}", server.log());
}

#[tokio::test]
async fn ciphertext_store_is_where_the_bytes_of_ciphertexts_go() {
    let (ground, database) = Ground::on_postgres();
    let place = ground.directory.path().join("objects");
    let server = ground.start(Role::Both, &["--ciphertext-store", &format!("file://{}", place.display())]);
    let client = ground.client(&server);
    let (request, names) = values(0, 1);
    client.compute_once(request).await.unwrap();
    ground.await_value(&client, &names[0]).await;
    assert_eq!(
        shared()
            .execute(&database, "SELECT count(*) FROM ciphertexts WHERE bytes IS NOT NULL")
            .unwrap(),
        "0"
    );
    assert!(std::fs::read_dir(&place).unwrap().count() > 0);
}

#[tokio::test]
async fn worker_name_and_lease_seconds_are_in_the_leases() {
    let (ground, database) = Ground::on_postgres();
    note_leases(&database);
    let server = ground.start(Role::Both, &["--worker-name", "karl", "--lease-seconds", "1000"]);
    let client = ground.client(&server);
    let (request, names) = values(0, 10);
    client.compute_once(request).await.unwrap();
    for name in &names {
        ground.await_value(&client, name).await;
    }
    let noted = |what: &str| shared().execute(&database, &format!("SELECT {what} FROM noted")).unwrap();
    assert_eq!(noted("DISTINCT owner"), "karl");
    assert_eq!(noted("bool_and(seconds BETWEEN 990 AND 1001)"), "t", "{}", noted("seconds"));
}

#[tokio::test]
async fn the_schedule_is_the_engines() {
    let ground = Ground::embedded();
    for policy in ["LOOP", "MAX_LOCALITY"] {
        let server = ground.start(Role::Both, &["--schedule", policy]);
        assert_eq!(server.summary()["policy"], policy);
        let client = ground.client(&server);
        let (request, names) = values(0, 1);
        client.compute_once(request).await.unwrap();
        ground.await_value(&client, &names[0]).await;
    }
}

#[tokio::test]
async fn ciphertext_cache_mib_is_the_memory_for_values() {
    let kept = async |mib: &str| {
        let ground = Ground::embedded();
        let server = ground.start(Role::Both, &["--ciphertext-cache-mib", mib]);
        let client = ground.client(&server);
        let (request, names) = values(0, 1);
        client.compute_once(request).await.unwrap();
        ground.await_value(&client, &names[0]).await;
        let (request, negated) = negation(&names[0]);
        client.compute_once(request).await.unwrap();
        ground.await_value(&client, &negated).await;
        // Looking for the operand shows when the cache is next read.
        let looked = || {
            let count = |name: &str| metric(&server, name);
            count("coprocessor_ciphertext_cache_hits_total") + count("coprocessor_ciphertext_cache_misses_total")
        };
        until("a look at the cache", || looked() >= 1.0).await;
        metric(&server, "coprocessor_ciphertext_cache_values")
    };
    assert!(kept("0").await < 0.5);
    assert!(kept("1").await > 0.5);
}

#[tokio::test]
async fn tls_certificate_and_tls_private_key_encrypt_the_api() {
    // A certificate for tests of the server; everybody knows its key.
    let files = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../crates/coprocessor/tests/server/insecure-localhost"
    );
    let (certificate, key) = (format!("{files}.pem"), format!("{files}.key"));
    let ground = Ground::embedded();
    let server = ground.start(Role::Both, &["--tls-certificate", &certificate, "--tls-private-key", &key]);
    let address = server.server_address().unwrap();
    let port = address.rsplit(':').next().unwrap();
    let trusted = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(std::fs::read(&certificate).unwrap()));
    let endpoint = Endpoint::from_shared(format!("https://localhost:{port}")).unwrap();
    let channel = endpoint.tls_config(trusted).unwrap().connect().await.unwrap();
    let nothing = || authorized(&ground.tenant, GetCiphertextBatch::default());
    FhevmCoprocessorClient::new(channel).get_ciphertexts(nothing()).await.unwrap();
    // Not in clear.
    let clear = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    assert!(FhevmCoprocessorClient::new(clear).get_ciphertexts(nothing()).await.is_err());
}

/// Collects the names of the services that send spans.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<String>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter().filter_map(|spans| spans.resource);
        let attributes = resources.flat_map(|resource| resource.attributes);
        let names = attributes
            .filter(|attribute| attribute.key == "service.name")
            .map(|attribute| format!("{:?}", attribute.value));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_go_out_under_service_name() {
    let collector = Collector::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let service = tonic::transport::Server::builder().add_service(TraceServiceServer::new(collector.clone()));
    let running = tokio::spawn(service.serve_with_incoming(incoming));
    let ground = Ground::embedded();
    let mut command = coprocessor(&[
        "--run-server",
        "--run-bg-worker",
        "--insecure-keys",
        "--json",
        "--service-name",
        "karls-traces",
    ]);
    command
        .args(free_ports())
        .args(["--database-url", ground.deployment.database_url()])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"))
        .env("OTEL_BSP_SCHEDULE_DELAY", "50");
    let server = Coprocessor::start(ground.directory.path(), command);
    let client = TenantClient::new(&server.url(), ground.tenant.clone(), Duration::from_secs(5)).unwrap();
    client.compute_once(values(0, 1).0).await.unwrap();
    until("spans", || !collector.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()).await;
    drop(server);
    running.abort();
    let names = collector.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(names.iter().all(|name| name.contains("karls-traces")), "{names:?}");
}
