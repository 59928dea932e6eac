//! How long connections live. These tests take real time: it is the subject.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::services::{Backend, Stack, handle, public_body};

/// SDKs fetch the keys, compute a proof for many seconds, and then use the same connection; Node's own servers close it after
/// five, and SDKs do not repeat a POST that fails.
#[tokio::test]
async fn a_connection_idle_for_longer_than_five_seconds_still_takes_a_post() {
    let stack = Stack::start().await;
    let mut client = stack.client().await;
    assert_eq!(client.get("/v2/keyurl").await.status, 200);
    tokio::time::sleep(Duration::from_millis(6500)).await;
    let response = client.post("/v2/input-proof", &crate::services::input_body()).await;
    assert_eq!(response.status, 202);
    assert_ne!(response.header("connection"), Some("close"));
}

#[tokio::test]
async fn idle_connections_are_closed_in_the_end_with_or_without_a_first_request() {
    let idle = Duration::from_millis(300);
    let stack = Stack::start_with(Backend::new(), |config| config.idle_timeout = idle).await;
    let (mut silent, mut used) = (stack.client().await, stack.client().await);
    let start = Instant::now();
    assert_eq!(used.get("/liveness").await.status, 200);
    assert!(!used.closed().await);
    assert!(start.elapsed() >= idle, "{:?}", start.elapsed());
    assert!(!silent.closed().await);
}

#[tokio::test]
async fn a_head_that_drips_in_does_not_hold_a_connection() {
    let stack = Stack::start_with(Backend::new(), |config| config.idle_timeout = Duration::from_millis(300)).await;
    let (mut reader, mut writer) = stack.client().await.stream.into_inner().into_split();
    let drip = tokio::spawn(async move {
        let mut sent = 0;
        while writer.write_all(b"x").await.is_ok() && sent < 1000 {
            sent += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        sent
    });
    let mut rest = Vec::new();
    let _ = reader.read_to_end(&mut rest).await;
    assert!(drip.await.unwrap() < 500);
}

#[tokio::test]
async fn a_request_that_waits_for_its_answer_is_not_idle() {
    let stack = Stack::start_with(Backend::new(), |config| config.idle_timeout = Duration::from_millis(200)).await;
    let mut client = stack.client().await;
    client
        .write("POST", "/v1/public-decrypt", &[], public_body(&[handle(1)]).to_string().as_bytes())
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    stack.backend.publish(handle(1), 1);
    assert_eq!(client.read("POST").await.unwrap().status, 200);
    // The wait starts anew after the answer.
    assert_eq!(client.get("/liveness").await.status, 200);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_refused() {
    let stack = Stack::start_with(Backend::new(), |config| config.body_timeout = Duration::from_millis(100)).await;
    let mut client = stack.client().await;
    let head = "POST /v2/public-decrypt HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{";
    client.stream.get_mut().write_all(head.as_bytes()).await.unwrap();
    let response = client.read("POST").await.unwrap();
    assert_eq!((response.status, response.label().as_str()), (400, "request_error"));
}

#[tokio::test]
async fn a_client_that_does_not_read_its_download_is_cut_off() {
    let size = 64 << 20;
    let stack = Stack::start_with(Backend::new().with_crs_bytes(size), |config| {
        config.write_timeout = Duration::from_millis(200)
    })
    .await;
    let mut client = stack.client().await;
    client.write("GET", "/v2/keys/crs/crs-1", &[], b"").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1000)).await;
    let mut received = Vec::new();
    let _ = client.stream.read_to_end(&mut received).await;
    assert!(received.len() < size, "{} bytes", received.len());
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_their_turn() {
    let stack = Stack::start_with(Backend::new(), |config| config.max_connections = 1).await;
    let mut first = stack.client().await;
    assert_eq!(first.get("/liveness").await.status, 200);
    let mut second = stack.client().await;
    second.write("GET", "/liveness", &[], b"").await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(200), second.read("GET")).await;
    assert!(waiting.is_err(), "the second connection was served beside the first");
    drop(first);
    assert_eq!(second.read("GET").await.unwrap().status, 200);
}
