//! Metrics and health as Prometheus, Kubernetes and people ask for them.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use cipherloom_telemetry::{Check, Checks, Health, Metrics, MonitoringServer, TelemetryError};
use futures_util::future::BoxFuture;
use serde_json::Value;

/// A process that is as it is told to be.
#[derive(Default)]
struct Process {
    stuck: AtomicBool,
    without_database: AtomicBool,
    asked: AtomicUsize,
}

impl Health for Process {
    fn live(&self) -> Checks {
        if self.stuck.load(Ordering::SeqCst) {
            return vec![Check::failed("worker", "has not looked for work for 60 s")];
        }
        vec![Check::passed("worker", "looked for work 0 s ago")]
    }

    fn ready(&self) -> BoxFuture<'_, Checks> {
        Box::pin(async {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.without_database.load(Ordering::SeqCst) {
                return vec![Check::failed("database", "connection refused")];
            }
            vec![Check::passed("database", "reachable")]
        })
    }
}

async fn start(process: &Arc<Process>) -> MonitoringServer {
    let metrics = Metrics {
        content_type: "text/plain; version=0.0.4",
        read: Arc::new(|| b"up 1\n".to_vec()),
    };
    MonitoringServer::start(SocketAddr::from(([127, 0, 0, 1], 0)), metrics, process.clone())
        .await
        .unwrap()
}

async fn ask(server: &MonitoringServer, path: &str) -> (u16, String) {
    let response = reqwest::get(format!("http://{}{path}", server.address())).await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn a_process_that_works_is_alive_and_ready() {
    let process = Arc::new(Process::default());
    let server = start(&process).await;
    for path in ["/health", "/health/live", "/health/ready"] {
        assert_eq!(ask(&server, path).await, (200, "OK".to_owned()), "{path}");
    }
    assert_eq!(ask(&server, "/metrics").await, (200, "up 1\n".to_owned()));
    assert_eq!(ask(&server, "/elsewhere").await.0, 404);
    server.shutdown().await;
}

#[tokio::test]
async fn without_its_database_a_process_is_alive_and_not_ready() {
    let process = Arc::new(Process::default());
    process.without_database.store(true, Ordering::SeqCst);
    let server = start(&process).await;
    assert_eq!(ask(&server, "/health").await, (200, "OK".to_owned()));
    assert_eq!(ask(&server, "/health/live").await.0, 200);
    assert_eq!(
        ask(&server, "/health/ready").await,
        (503, "database: connection refused\n".to_owned())
    );
    let (status, text) = ask(&server, "/health?verbose").await;
    let details: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (status, &details["live"], &details["ready"]),
        (200, &Value::Bool(true), &Value::Bool(false))
    );
    assert_eq!(details["checks"][1]["name"], "database");
    assert_eq!(details["checks"][1]["detail"], "connection refused");
    server.shutdown().await;
}

#[tokio::test]
async fn a_process_that_is_stuck_is_neither() {
    let process = Arc::new(Process::default());
    process.stuck.store(true, Ordering::SeqCst);
    let server = start(&process).await;
    for path in ["/health", "/health/live", "/health/ready"] {
        let (status, text) = ask(&server, path).await;
        assert_eq!(
            (status, text.as_str()),
            (503, "worker: has not looked for work for 60 s\n"),
            "{path}"
        );
    }
    server.shutdown().await;
}

#[tokio::test]
async fn details_are_given_to_who_accepts_json() {
    let process = Arc::new(Process::default());
    let server = start(&process).await;
    let request = reqwest::Client::new()
        .get(format!("http://{}/health/ready", server.address()))
        .header("accept", "application/json");
    let details: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(details["status"], "ok");
    assert_eq!(details["checks"].as_array().unwrap().len(), 2);
    server.shutdown().await;
}

#[tokio::test]
async fn many_who_ask_are_answered_with_one_look_at_the_database() {
    let process = Arc::new(Process::default());
    let server = start(&process).await;
    for _ in 0..5 {
        assert_eq!(ask(&server, "/health/ready").await.0, 200);
    }
    // One, or two if the second was over in between.
    assert!(process.asked.load(Ordering::SeqCst) <= 2);
    server.shutdown().await;
}

#[tokio::test]
async fn a_taken_address_is_an_error_that_names_it() {
    let process = Arc::new(Process::default());
    let server = start(&process).await;
    let metrics = Metrics {
        content_type: "text/plain",
        read: Arc::new(Vec::new),
    };
    let error = MonitoringServer::start(server.address(), metrics, process.clone())
        .await
        .unwrap_err();
    assert!(matches!(&error, TelemetryError::Listen { address, .. } if *address == server.address()));
    assert!(error.to_string().contains(&server.address().to_string()), "{error}");
    server.shutdown().await;
}
