//! The chain over WebSocket: requests and subscriptions on one connection.

use alloy::primitives::{B256, U256};
use cipherloom_node::{DevChain, DevChainConfig, DevChainHandle, Limits};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::*;

struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    notifications: Vec<Value>,
}

impl Client {
    async fn connect(node: &DevChainHandle) -> Self {
        Self {
            socket: connect_async(node.ws_url()).await.unwrap().0,
            notifications: Vec::new(),
        }
    }

    async fn next(&mut self) -> Value {
        loop {
            match self.socket.next().await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("unexpected message {other:?}"),
            }
        }
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        let call = json!({ "jsonrpc": "2.0", "id": 9, "method": method, "params": params });
        self.socket.send(Message::text(call.to_string())).await.unwrap();
        loop {
            let message = self.next().await;
            if message.get("id").is_some() {
                return message;
            }
            self.notifications.push(message);
        }
    }

    async fn notification(&mut self) -> Value {
        let message = if self.notifications.is_empty() {
            self.next().await
        } else {
            self.notifications.remove(0)
        };
        assert_eq!(message["method"], "eth_subscription");
        message["params"].clone()
    }
}

async fn start(limits: Limits) -> DevChainHandle {
    DevChain::start(DevChainConfig {
        limits,
        ..DevChainConfig::default()
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn subscriptions_deliver_heads_logs_and_pending_transactions() {
    let node = start(Limits::default()).await;
    let chain = node.chain();
    let register = deploy(chain, &REGISTER);
    let mut client = Client::connect(&node).await;
    let heads = client.ask("eth_subscribe", json!(["newHeads"])).await["result"].clone();
    let logs = client
        .ask(
            "eth_subscribe",
            json!(["logs", { "address": register, "topics": [B256::from(U256::from(5))] }]),
        )
        .await["result"]
        .clone();
    let pending = client.ask("eth_subscribe", json!(["newPendingTransactions"])).await["result"].clone();
    chain.send_transaction(call_to(register, word(4))).unwrap();
    let hash = chain.send_transaction(call_to(register, word(5))).unwrap();
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(client.notification().await);
    }
    let of = |id: &Value| {
        seen.iter()
            .filter(|one| &one["subscription"] == id)
            .map(|one| one["result"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        of(&heads).iter().map(|head| head["number"].clone()).collect::<Vec<_>>(),
        ["0x2", "0x3"]
    );
    assert_eq!(of(&heads)[1]["parentHash"], of(&heads)[0]["hash"]);
    assert_eq!(of(&logs).len(), 1);
    assert_eq!(of(&logs)[0]["transactionHash"], json!(hash));
    assert_eq!(of(&pending)[1], json!(hash));
    assert_eq!(client.ask("eth_unsubscribe", json!([heads])).await["result"], true);
    assert_eq!(client.ask("eth_unsubscribe", json!([heads])).await["result"], false);
    assert_eq!(
        client.ask("eth_blockNumber", json!([])).await["result"],
        "0x3",
        "requests work beside subscriptions"
    );
    node.shutdown().await;
}

#[tokio::test]
async fn a_later_subscription_sees_nothing_of_the_past() {
    let node = start(Limits::default()).await;
    let mut client = Client::connect(&node).await;
    let first = client.ask("eth_subscribe", json!(["newHeads"])).await["result"].clone();
    node.chain().mine(3).unwrap();
    let second = client.ask("eth_subscribe", json!(["newHeads"])).await["result"].clone();
    node.chain().mine(1).unwrap();
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(client.notification().await);
    }
    assert_eq!(seen.iter().filter(|one| one["subscription"] == first).count(), 4);
    let late = seen.iter().filter(|one| one["subscription"] == second).collect::<Vec<_>>();
    assert_eq!(late.len(), 1);
    assert_eq!(late[0]["result"]["number"], "0x4");
    node.shutdown().await;
}

#[tokio::test]
async fn a_return_to_a_snapshot_removes_logs() {
    let node = start(Limits::default()).await;
    let chain = node.chain();
    let register = deploy(chain, &REGISTER);
    let id = chain.snapshot().unwrap();
    let mut client = Client::connect(&node).await;
    client.ask("eth_subscribe", json!(["logs", { "address": register }])).await;
    chain.send_transaction(call_to(register, word(1))).unwrap();
    chain.revert(id).unwrap();
    assert_eq!(client.notification().await["result"]["removed"], false);
    assert_eq!(client.notification().await["result"]["removed"], true);
    node.shutdown().await;
}

#[tokio::test]
async fn bad_messages_are_answered_and_limits_hold() {
    let node = start(Limits {
        subscriptions_per_connection: 1,
        websocket_connections: 1,
        ..Limits::default()
    })
    .await;
    let mut client = Client::connect(&node).await;
    client.socket.send(Message::text("{")).await.unwrap();
    assert_eq!(client.next().await["error"]["code"], -32700);
    client.socket.send(Message::binary(vec![0xff, 0xfe])).await.unwrap();
    assert_eq!(client.next().await["error"]["code"], -32700);
    assert_eq!(client.ask("eth_subscribe", json!(["weather"])).await["error"]["code"], -32602);
    assert_eq!(client.ask("eth_subscribe", json!([])).await["error"]["code"], -32602);
    assert_eq!(
        client.ask("eth_subscribe", json!(["logs", { "address": 5 }])).await["error"]["code"],
        -32602
    );
    assert_eq!(client.ask("eth_unsubscribe", json!([5])).await["error"]["code"], -32602);
    client.ask("eth_subscribe", json!(["newHeads"])).await;
    assert_eq!(client.ask("eth_subscribe", json!(["newHeads"])).await["error"]["code"], -32005);
    assert!(connect_async(node.ws_url()).await.is_err(), "one connection is the limit here");
    node.shutdown().await;
}

#[tokio::test]
async fn shutdown_closes_open_connections() {
    let node = start(Limits::default()).await;
    let mut client = Client::connect(&node).await;
    client.ask("eth_chainId", json!([])).await;
    node.shutdown().await;
    assert!(matches!(
        client.socket.next().await,
        Some(Ok(Message::Close(_))) | Some(Err(_)) | None
    ));
}

#[tokio::test]
async fn random_messages_leave_the_connection_usable() {
    let node = start(Limits::default()).await;
    let mut client = Client::connect(&node).await;
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        "\"id\":1,",
        "\"jsonrpc\":\"2.0\",",
        "\"method\":\"eth_subscribe\",",
        "\"params\":[\"logs\",{}]",
        "null",
        "\u{0}",
        "0x",
    ];
    // A small linear congruential generator: the same messages in every run.
    let mut state = 20_251_120u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for _ in 0..500 {
        let text = (0..random(12)).map(|_| pieces[random(pieces.len())]).collect::<String>();
        let message = if random(2) == 0 {
            Message::text(text)
        } else {
            Message::binary(text.into_bytes())
        };
        client.socket.send(message).await.unwrap();
        let answer = client.next().await;
        assert!(
            answer.is_array() || answer["error"]["code"].is_i64() || answer["result"].is_string(),
            "{answer}"
        );
    }
    assert_eq!(client.ask("eth_chainId", json!([])).await["result"], "0x7a69");
    node.shutdown().await;
}
