//! Nodes that are slow, wrong or gone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::post};
use cipherloom_chain::{CallLimits, ChainError, Fault, FollowUpdate, Follower, FollowerConfig, HostChain};
use serde_json::{Value, json};

use crate::fixture::addresses;

const LIMITS: CallLimits = CallLimits {
    timeout: Duration::from_millis(200),
    attempts: 3,
    first_pause: Duration::from_millis(1),
};

/// What a scripted node does with the n-th request for a method.
type Script = fn(method: &str, number: usize, parameters: &Value) -> Answer;

enum Answer {
    Result(Value),
    Error(i64, &'static str),
    Status(StatusCode),
    Text(&'static str),
    Never,
}

async fn scripted_node(script: Script) -> (HostChain, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let app = Router::new().route("/", post(answer)).with_state((script, Arc::clone(&requests)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (HostChain::with_limits(&url, addresses(), LIMITS).unwrap(), requests)
}

async fn answer(State((script, requests)): State<(Script, Arc<AtomicUsize>)>, Json(request): Json<Value>) -> axum::response::Response {
    let number = requests.fetch_add(1, Ordering::SeqCst);
    let reply = |field: &str, value: Value| Json(json!({"jsonrpc": "2.0", "id": request["id"], field: value})).into_response();
    match script(request["method"].as_str().unwrap(), number, &request["params"]) {
        Answer::Result(value) => reply("result", value),
        Answer::Error(code, message) => reply("error", json!({"code": code, "message": message})),
        Answer::Status(status) => status.into_response(),
        Answer::Text(text) => text.into_response(),
        Answer::Never => std::future::pending().await,
    }
}

#[tokio::test]
async fn passing_failures_are_tried_again() {
    let (host, requests) = scripted_node(|_, number, _| match number {
        0 => Answer::Status(StatusCode::BAD_GATEWAY),
        1 => Answer::Error(-32005, "limit exceeded"),
        _ => Answer::Result(json!("0x7a69")),
    })
    .await;
    assert_eq!(host.chain_id().await.unwrap(), 31337);
    assert_eq!(requests.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn lasting_failures_are_not() {
    let (host, requests) = scripted_node(|_, _, _| Answer::Error(-32601, "method not found")).await;
    let error = host.chain_id().await.unwrap_err();
    assert!(
        matches!(&error, ChainError::Refused { code: -32601, message, .. } if message == "method not found"),
        "{error}"
    );
    assert_eq!((error.fault(), error.is_retryable()), (Fault::Request, false));
    assert_eq!(requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_node_that_never_answers_is_given_up_after_all_attempts() {
    let (host, requests) = scripted_node(|_, _, _| Answer::Never).await;
    let error = host.chain_id().await.unwrap_err();
    assert!(
        matches!(error, ChainError::Timeout { .. } | ChainError::Transport { .. }),
        "{error}"
    );
    assert_eq!((error.fault(), error.is_retryable()), (Fault::Node, true));
    assert_eq!(requests.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn nonsense_is_an_error_and_not_a_panic() {
    let (host, _) = scripted_node(|_, _, _| Answer::Text("<html>")).await;
    assert!(matches!(host.chain_id().await, Err(ChainError::Transport { .. })));
    let (host, _) = scripted_node(|_, _, _| Answer::Result(json!({"number": []}))).await;
    assert!(host.chain_id().await.is_err());
    assert!(Follower::new(host, FollowerConfig::default()).poll(&[]).await.is_err());
}

#[tokio::test]
async fn an_unreachable_node_is_the_nodes_fault() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = HostChain::with_limits(&url, addresses(), LIMITS)
        .unwrap()
        .chain_id()
        .await
        .unwrap_err();
    assert!(matches!(error, ChainError::Transport { .. }), "{error}");
    assert_eq!((error.fault(), error.is_retryable()), (Fault::Node, true));
}

#[test]
fn what_is_no_url_of_a_node_is_refused() {
    for url in ["", "localhost:8545", "ftp://example.org"] {
        assert!(matches!(HostChain::connect(url, addresses()), Err(ChainError::Url(_))), "{url}");
    }
}

/// A chain of 1000 empty blocks whose node refuses ranges of more than 10.
fn refuses_long_ranges(method: &str, _: usize, parameters: &Value) -> Answer {
    let number = |value: &Value| u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16);
    let hash = |number: u64| format!("0x{number:064x}");
    match method {
        "eth_getLogs" => {
            let filter = &parameters[0];
            if let (Some(_), Some(_)) = (filter["fromBlock"].as_str(), filter["toBlock"].as_str()) {
                let (first, last) = (number(&filter["fromBlock"]).unwrap(), number(&filter["toBlock"]).unwrap());
                if last - first >= 10 {
                    return Answer::Error(-32602, "query exceeds 10 blocks");
                }
            }
            Answer::Result(json!([]))
        }
        "eth_getBlockByNumber" => {
            let number = number(&parameters[0]).unwrap_or(1000);
            Answer::Result(json!({
                "number": format!("{number:#x}"), "hash": hash(number + 1), "parentHash": hash(number),
                "sha3Uncles": hash(0), "logsBloom": format!("0x{:0512x}", 0), "transactionsRoot": hash(0), "stateRoot": hash(0),
                "receiptsRoot": hash(0), "miner": format!("0x{:040x}", 0), "difficulty": "0x0", "extraData": "0x", "size": "0x0",
                "gasLimit": "0x1", "gasUsed": "0x0", "timestamp": format!("{number:#x}"), "mixHash": hash(0),
                "nonce": "0x0000000000000000", "uncles": [], "transactions": [],
            }))
        }
        other => panic!("unexpected {other}"),
    }
}

#[tokio::test]
async fn ranges_shrink_until_the_node_accepts_them() {
    let (host, requests) = scripted_node(refuses_long_ranges).await;
    let mut follower = Follower::new(
        host,
        FollowerConfig {
            longest_range: 1000,
            ..FollowerConfig::default()
        },
    );
    let FollowUpdate::Blocks(blocks) = follower.poll(&[]).await.unwrap() else {
        panic!("nothing to follow")
    };
    assert_eq!(blocks.len(), 1);
    assert!((0..10).contains(&blocks[0].number), "{blocks:?}");
    // 1000 to 7 in eight steps, then the range and one header, after the head.
    assert!(requests.load(Ordering::SeqCst) <= 12);
}
