//! The chain over HTTP, used through alloy as a dApp's backend would.

use alloy::eips::BlockId;
use alloy::network::{EthereumWallet, TransactionBuilder};
use alloy::primitives::{Address, B256, TxKind, U256};
use alloy::providers::{Provider, ProviderBuilder};
use alloy::rpc::types::{Filter, TransactionRequest};
use cipherloom_node::{ChainEventKind, DevChain, DevChainConfig, DevChainHandle, Limits, NodeError};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::support::*;

async fn start(limits: Limits) -> DevChainHandle {
    DevChain::start(DevChainConfig {
        limits,
        ..DevChainConfig::default()
    })
    .await
    .unwrap()
}

async fn post(node: &DevChainHandle, body: impl Into<reqwest::Body>) -> (u16, Value) {
    let response = reqwest::Client::new().post(node.rpc_url()).body(body).send().await.unwrap();
    let status = response.status().as_u16();
    (
        status,
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or(Value::Null),
    )
}

#[tokio::test]
async fn alloy_deploys_sends_reads_logs_and_history() {
    let node = start(Limits::default()).await;
    let wallet = EthereumWallet::from(signer(node.chain(), 0));
    let provider = ProviderBuilder::new().wallet(wallet).connect_http(node.rpc_url().parse().unwrap());
    let deployment = TransactionRequest::default().with_deploy_code(creation(&REGISTER));
    let register = provider
        .send_transaction(deployment)
        .await
        .unwrap()
        .get_receipt()
        .await
        .unwrap()
        .contract_address
        .unwrap();
    for value in [11, 12] {
        let sent = provider.send_transaction(call_to(register, word(value))).await.unwrap();
        assert!(sent.get_receipt().await.unwrap().status());
    }
    let logs = provider.get_logs(&Filter::new().address(register).from_block(0)).await.unwrap();
    assert_eq!(
        logs.iter().map(|log| log.topics()[0]).collect::<Vec<_>>(),
        [11, 12].map(|value| B256::from(U256::from(value)))
    );
    assert_eq!(provider.get_block_number().await.unwrap(), 3);
    let read = call_to(register, "".parse().unwrap());
    assert_eq!(provider.call(read.clone()).await.unwrap(), word(12));
    assert_eq!(provider.call(read).block(BlockId::number(2)).await.unwrap(), word(11));
    assert_eq!(provider.get_chain_id().await.unwrap(), 31337);
    let block = provider.get_block(BlockId::latest()).full().await.unwrap().unwrap();
    assert_eq!(block.header.inner.hash_slow(), block.header.hash);
    let transfer = TransactionRequest::default()
        .with_to(Address::repeat_byte(1))
        .with_value(U256::from(5));
    let unlocked = ProviderBuilder::new().connect_http(node.rpc_url().parse().unwrap());
    let from = account(node.chain(), 4);
    assert!(
        unlocked
            .send_transaction(transfer.with_from(from))
            .await
            .unwrap()
            .get_receipt()
            .await
            .unwrap()
            .status()
    );
    assert_eq!(unlocked.get_balance(Address::repeat_byte(1)).await.unwrap(), U256::from(5));
    let stale = transaction(node.chain(), 0, TxKind::Call(register), word(1));
    let error = provider.send_raw_transaction(&raw(node.chain(), 0, stale)).await.unwrap_err();
    assert!(error.as_error_resp().unwrap().message.starts_with("nonce too low"), "{error}");
    node.shutdown().await;
}

#[tokio::test]
async fn batches_and_bad_bodies_get_json_answers() {
    let node = start(Limits {
        request_size_bytes: 10_000,
        batch_calls: 3,
        ..Limits::default()
    })
    .await;
    // The pair that ethers sends, in either order.
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [{ "to": Address::ZERO }, "latest"] });
    let id = json!({ "jsonrpc": "2.0", "id": 2, "method": "eth_chainId", "params": [] });
    for batch in [json!([call, id]), json!([id, call])] {
        let (status, answer) = post(&node, batch.to_string()).await;
        assert_eq!(status, 200);
        for one in answer.as_array().unwrap() {
            assert_eq!(one["result"], if one["id"] == 1 { "0x" } else { "0x7a69" });
        }
    }
    let (_, answer) = post(&node, json!([id, id, id, id]).to_string()).await;
    assert_eq!(answer["error"]["code"], -32600);
    assert_eq!(post(&node, "{").await.1["error"]["code"], -32700);
    assert_eq!(post(&node, vec![0xff, 0x00]).await.1["error"]["code"], -32700);
    assert_eq!(post(&node, "[".repeat(9_000)).await.1["error"]["code"], -32700);
    let (status, answer) = post(&node, vec![b' '; 10_001]).await;
    assert_eq!((status, &answer["error"]["code"]), (413, &json!(-32005)));
    let (status, _) = post(&node, json!({ "jsonrpc": "2.0", "method": "eth_chainId" }).to_string()).await;
    assert_eq!(status, 204, "a notification has no answer");
    let subscribe = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"] });
    assert_eq!(
        post(&node, subscribe.to_string()).await.1["error"]["code"],
        -32601,
        "subscriptions need a WebSocket"
    );
    node.shutdown().await;
}

#[tokio::test]
async fn browsers_may_ask_from_any_page() {
    let node = start(Limits::default()).await;
    let preflight = reqwest::Client::new()
        .request(reqwest::Method::OPTIONS, node.rpc_url())
        .header("origin", "https://dapp.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,x-other")
        .send()
        .await
        .unwrap();
    assert!(preflight.status().is_success());
    assert_eq!(preflight.headers()["access-control-allow-origin"], "*");
    let plain = reqwest::get(node.rpc_url()).await.unwrap();
    assert_eq!(plain.status().as_u16(), 426);
    node.shutdown().await;
}

#[tokio::test]
async fn a_used_port_and_a_stopped_server_are_noticed() {
    let node = start(Limits::default()).await;
    let taken = DevChain::start(DevChainConfig {
        listen: node.address(),
        ..DevChainConfig::default()
    })
    .await;
    assert!(matches!(taken, Err(NodeError::Listen { .. })));
    let url = node.rpc_url();
    node.shutdown().await;
    assert!(reqwest::get(url).await.is_err());
}

#[tokio::test]
async fn shutdown_frees_the_data_directory_despite_a_hanging_client() {
    let dir = tempfile::tempdir().unwrap();
    let config = || DevChainConfig {
        data_dir: Some(dir.path().to_owned()),
        listen: "0.0.0.0:0".parse().unwrap(),
        ..DevChainConfig::default()
    };
    let node = DevChain::start(config()).await.unwrap();
    assert!(node.rpc_url().starts_with("http://127.0.0.1:"));
    let mut client = tokio::net::TcpStream::connect(node.address()).await.unwrap();
    client
        .write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        .await
        .unwrap();
    // An answer to another client shows that the server has taken up the first one's connection.
    post(&node, "{}").await;
    let chain = node.chain().clone();
    chain.mine(1).unwrap();
    node.shutdown().await;
    assert!(matches!(chain.mine(1), Err(NodeError::ShutDown)));
    assert_eq!(chain.block_number().unwrap(), 1, "reading goes on");
    let again = DevChain::start(config()).await.unwrap();
    assert_eq!(again.chain().block_number().unwrap(), 1);
    again.shutdown().await;
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered() {
    let node = start(Limits {
        request_timeout_ms: 20,
        concurrent_requests: 0,
        ..Limits::default()
    })
    .await;
    let (_, answer) = post(&node, json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_chainId" }).to_string()).await;
    assert_eq!(answer["error"]["code"], -32002);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_clients_at_once_make_one_consistent_chain() {
    let node = start(Limits::default()).await;
    let mut events = node.chain().subscribe();
    let mut clients = tokio::task::JoinSet::new();
    for index in 0..8 {
        let wallet = EthereumWallet::from(signer(node.chain(), index));
        let provider = ProviderBuilder::new().wallet(wallet).connect_http(node.rpc_url().parse().unwrap());
        clients.spawn(async move {
            for value in 0..20 {
                let transfer = TransactionRequest::default()
                    .with_to(Address::repeat_byte(7))
                    .with_value(U256::from(value));
                let hash = *provider.send_transaction(transfer).await.unwrap().tx_hash();
                assert!(provider.get_transaction_receipt(hash).await.unwrap().unwrap().status());
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    let chain = node.chain();
    assert_eq!(chain.block_number().unwrap(), 160);
    assert_eq!(
        chain.balance(Address::repeat_byte(7), BlockId::latest()).unwrap(),
        U256::from(8 * 190)
    );
    let (mut number, mut sequence) = (0, 0);
    while let Ok(event) = events.try_recv() {
        sequence += 1;
        assert_eq!(event.sequence, sequence);
        if let ChainEventKind::NewBlock(block) = &*event.kind {
            number += 1;
            assert_eq!(block.header.number, number, "blocks are announced in order");
        }
    }
    assert_eq!(number, 160);
    node.shutdown().await;
}
