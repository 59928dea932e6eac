//! What a process tells about its work: traces that follow a transaction through processes, log lines, and health.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use cipherloom_load::{Process, Role};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value as AnyValue},
    trace::v1::Span,
};
use serde_json::Value;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use crate::ground::{Ground, authorized, get, service, until, values};

/// The variables that the SDK of OpenTelemetry reads.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// A span, and the service and process that sent it.
#[derive(Clone)]
struct Sent {
    service: String,
    instance: String,
    span: Span,
}

/// A collector that keeps what it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Sent>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let (service, instance) = (text(&attributes, "service.name"), text(&attributes, "service.instance.id"));
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.0.lock().unwrap().extend(spans.map(|span| Sent {
                service: service.clone(),
                instance: instance.clone(),
                span,
            }));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Begins to collect; returns where.
    async fn start() -> (Self, String) {
        let collector = Self::default();
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let url = format!("http://{}", incoming.local_addr().unwrap());
        let server = Server::builder().add_service(TraceServiceServer::new(collector.clone()));
        tokio::spawn(server.serve_with_incoming(incoming));
        (collector, url)
    }

    /// Returns the spans with this name.
    fn named(&self, name: &str) -> Vec<Sent> {
        let sent = self.0.lock().unwrap();
        sent.iter().filter(|sent| sent.span.name == name).cloned().collect()
    }

    fn in_trace(&self, trace: &[u8]) -> Vec<Sent> {
        let sent = self.0.lock().unwrap();
        sent.iter().filter(|sent| sent.span.trace_id == trace).cloned().collect()
    }
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.clone()?.value) {
        Some(AnyValue::StringValue(text)) => text,
        other => panic!("{key} is {other:?}"),
    }
}

/// Tells a process to stop, waits until it has sent everything, and returns its log.
fn end(process: Process, directory: &std::path::Path) -> Vec<String> {
    process.terminate(std::time::Duration::from_secs(60)).unwrap();
    let logs = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let logs = logs.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_follows_a_transaction_from_its_request_through_all_processes() {
    let (collector, url) = Collector::start().await;
    let (mut ground, _) = Ground::on_postgres();
    ground.deployment = ground.deployment.with_environment(ENDPOINT, &url);
    let server = ground.start(Role::Server, &["--service-name", "api"]);
    let worker = ground.start(Role::Worker, &["--service-name", "worker"]);
    let (message, names) = values(0, 1);
    let mut request = authorized(&ground.tenant, message);
    let caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    request.metadata_mut().insert("traceparent", caller.parse().unwrap());
    service(server.url().unwrap()).await.async_compute(request).await.unwrap();
    ground.await_value(&ground.client(&server), &names[0]).await;
    end(server, ground.directory.path());
    end(worker, ground.directory.path());
    until("the spans", || !collector.named("transaction").is_empty()).await;

    let whole = collector.named("transaction").remove(0);
    let hash = text(&whole.span.attributes, "transaction");
    let bytes = hex::decode(hash.trim_start_matches("0x")).unwrap();
    assert_eq!(
        (&whole.span.trace_id[..], &whole.span.span_id[..]),
        (&bytes[..16], &bytes[16..24]),
        "{hash}"
    );
    assert_eq!(text(&whole.span.attributes, "tenant"), "shop");
    assert!(whole.span.parent_span_id.is_empty());

    let spans = collector.in_trace(&bytes[..16]);
    let by: BTreeSet<(&str, &str)> = spans.iter().map(|sent| (sent.service.as_str(), sent.span.name.as_str())).collect();
    let stages = [
        "work",
        "load",
        "compile",
        "take_in",
        "evaluate",
        "serialise",
        "publish",
        "transaction",
    ];
    let expected = stages.map(|stage| ("worker", stage)).into_iter().chain([("api", "record")]);
    assert_eq!(by, expected.collect());
    assert_eq!(spans.iter().map(|sent| sent.instance.as_str()).collect::<BTreeSet<_>>().len(), 2);
    // Each is a child of another one of the trace.
    let ids: HashMap<&[u8], &str> = spans.iter().map(|sent| (&sent.span.span_id[..], sent.span.name.as_str())).collect();
    for Sent { span, .. } in spans.iter().filter(|sent| sent.span.name != "transaction") {
        let expected = if ["work", "record"].contains(&span.name.as_str()) {
            "transaction"
        } else {
            "work"
        };
        assert_eq!(ids.get(&span.parent_span_id[..]), Some(&expected), "{}", span.name);
        assert!(whole.span.start_time_unix_nano <= span.end_time_unix_nano, "{}", span.name);
    }

    // The call is part of its caller's trace, and linked with the transaction in both directions.
    let call = collector.named("AsyncCompute").remove(0);
    assert_eq!(hex::encode(&call.span.trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(hex::encode(&call.span.parent_span_id), "b7ad6b7169203331");
    assert!(call.span.links.iter().any(|link| link.trace_id == bytes[..16]));
    let record = spans.iter().find(|sent| sent.span.name == "record").unwrap();
    assert!(record.span.links.iter().any(|link| link.span_id == call.span.span_id));
    let parts: BTreeSet<String> = collector
        .in_trace(&call.span.trace_id)
        .into_iter()
        .filter(|sent| sent.span.parent_span_id == call.span.span_id)
        .map(|sent| sent.span.name)
        .collect();
    let expected = ["authenticate", "plan", "record", "resolve"].map(str::to_owned);
    assert_eq!(parts, BTreeSet::from(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_json_with_tenant_and_transaction_and_holds_no_secret() {
    let (mut ground, _) = Ground::on_postgres();
    ground.deployment = ground.deployment.with_environment("RUST_LOG", "trace");
    let process = ground.start(Role::Both, &["--log-json"]);
    let (request, names) = values(0, 1);
    ground.client(&process).compute_once(request).await.unwrap();
    ground.await_value(&ground.client(&process), &names[0]).await;
    let mut stranger = authorized(&ground.tenant, values(1, 1).0);
    let wrong = "Bearer 11111111-2222-4333-8444-555555555555";
    stranger.metadata_mut().insert("authorization", wrong.parse().unwrap());
    service(process.url().unwrap()).await.async_compute(stranger).await.unwrap_err();
    let logs = end(process, ground.directory.path()).concat();

    let lines: Vec<Value> = logs
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let published = lines.iter().find(|line| line["fields"]["message"] == "published").unwrap();
    assert_eq!(published["span"]["name"], "work");
    assert_eq!(published["span"]["tenant"], "shop");
    assert!(published["span"]["transaction"].as_str().is_some_and(|hash| hash.len() == 66));
    assert!(published["timestamp"].is_string() && published["level"] == "INFO");
    let refused = lines
        .iter()
        .find(|line| line["fields"]["message"] == "a request was refused")
        .unwrap();
    assert_eq!(refused["span"]["rpc"], "AsyncCompute");

    let url = ground.deployment.database_url();
    let password = url
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('@'))
        .and_then(|(user, _)| user.split_once(':'));
    let mut secrets = vec![ground.tenant.api_key.as_str(), wrong.trim_start_matches("Bearer "), url];
    secrets.extend(password.map(|(_, password)| password));
    secrets.push("59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d");
    for secret in secrets {
        assert!(!logs.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_tells_what_is_missing_while_the_process_lives() {
    let (ground, database) = Ground::on_postgres();
    let process = ground.start(Role::Both, &["--worker-polling-interval-ms", "100"]);
    let address = process.metrics_address().unwrap();
    let ready = || get(&address, "/health/ready").0.starts_with("HTTP/1.1 200");
    until("readiness", ready).await;
    // Workers are ready when they have begun; that they look for work is known after their first look.
    until("the first look for work", || {
        get(&address, "/health?verbose").1.contains("\"work\"")
    })
    .await;
    let (_, body) = get(&address, "/health?verbose");
    let details: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&details["live"], &details["ready"]), (&Value::Bool(true), &Value::Bool(true)));
    let checks = details["checks"].as_array().unwrap();
    let names: Vec<&str> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["workers", "accepting", "server", "work", "database", "schema", "keys"]);

    // Somebody upgrades the database under it.
    let sql = "INSERT INTO cipherloom_migrations (version, name, checksum) VALUES (1000, 'later', '')";
    cipherloom_private_postgres::shared().execute(&database, sql).unwrap();
    until("the schema to be noticed", || {
        get(&address, "/health/ready").1.starts_with("schema: ")
    })
    .await;
    assert!(get(&address, "/health").1.starts_with("OK"));
    assert!(get(&address, "/metrics").1.contains("coprocessor_ready{check=\"schema\"} 0"));
    let sql = "DELETE FROM cipherloom_migrations WHERE version = 1000";
    cipherloom_private_postgres::shared().execute(&database, sql).unwrap();
    until("readiness", ready).await;
}
