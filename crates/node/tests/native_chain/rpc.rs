//! What clients can ask a native chain, and what they cannot.

use alloy::consensus::Header;
use alloy::primitives::{Address, Bytes};
use alloy::rlp::Decodable;
use cipherloom_node::NodeError;
use cipherloom_node::native::NetworkStatus;
use cipherloom_primitives::quorum::CertifiedHeader;
use serde_json::{Value, json};

use crate::world::{Node, World};

fn ask(node: &Node, method: &str, params: Value) -> Value {
    node.chain
        .rpc_call(method, params)
        .unwrap_or_else(|error| panic!("{method}: {error}"))
}

#[test]
fn there_is_nothing_for_development() {
    let world = World::new();
    let node = world.node();
    let user = world.users[0].address();
    let calls = [
        ("evm_mine", json!([])),
        ("evm_snapshot", json!([])),
        ("evm_increaseTime", json!([1])),
        ("anvil_setBalance", json!([user, "0x1"])),
        ("hardhat_setCode", json!([user, "0x"])),
        ("hardhat_impersonateAccount", json!([user])),
        ("anvil_nodeInfo", json!([])),
        ("eth_sendTransaction", json!([{ "from": user, "to": user }])),
        ("eth_sendUnsignedTransaction", json!([{ "from": user, "to": user }])),
        ("eth_signTransaction", json!([{ "from": user, "to": user }])),
        ("eth_sign", json!([user, "0x00"])),
        ("personal_sign", json!(["0x00", user])),
        ("eth_signTypedData_v4", json!([user, {}])),
    ];
    for (method, params) in calls {
        let answer = node.chain.rpc_call(method, params);
        assert!(matches!(answer, Err(NodeError::MethodNotFound(_))), "{method}: {answer:?}");
    }
    assert_eq!(ask(&node, "eth_accounts", json!([])), json!([]));
    assert!(
        ask(&node, "web3_clientVersion", json!([]))
            .as_str()
            .unwrap()
            .starts_with("cipherloom-node/")
    );
    assert!(ask(&node, "rpc_modules", json!([])).get("evm").is_none());
}

#[tokio::test]
async fn certificates_come_with_the_headers_they_certify() {
    let world = World::new();
    let node = world.node();
    assert_eq!(
        ask(&node, "cipherloom_getCertificate", json!(["latest"])),
        Value::Null,
        "nobody signs the first block"
    );
    for _ in 0..3 {
        world.decide(&[&node]).await;
    }
    for (id, number) in [("0x2", 2), ("latest", 3), ("finalized", 3), ("safe", 3)] {
        let answer = ask(&node, "cipherloom_getCertificate", json!([id]));
        let certified: CertifiedHeader = serde_json::from_value(answer).unwrap();
        let header = Header::decode(&mut certified.header.as_ref()).unwrap();
        assert_eq!((header.number, header.hash_slow()), (number, certified.certificate.block_hash));
        let set = node.chain.validators_at(number).unwrap();
        certified.certificate.check(&node.chain.domain(), &set).unwrap();
    }
    assert_eq!(ask(&node, "cipherloom_getCertificate", json!(["0x4"])), Value::Null);
}

#[tokio::test]
async fn status_tells_of_the_node_and_its_network() {
    let world = World::new();
    let node = world.node();
    world.decide(&[&node]).await;
    assert_eq!(ask(&node, "eth_syncing", json!([])), json!(false));
    node.chain.set_network_status(NetworkStatus { peers: 3, highest: 40 });
    let status = ask(&node, "cipherloom_nodeStatus", json!([]));
    assert_eq!(status["genesisHash"], json!(world.genesis.hash));
    assert_eq!(status["hash"], json!(node.hash()));
    assert_eq!((&status["number"], &status["highestKnown"]), (&json!("0x1"), &json!("0x28")));
    assert_eq!((&status["peers"], &status["validators"]), (&json!("0x3"), &json!("0x4")));
    assert_eq!(ask(&node, "net_peerCount", json!([])), json!("0x3"));
    assert_eq!(ask(&node, "eth_syncing", json!([]))["highestBlock"], json!("0x28"));
}

#[tokio::test]
async fn the_pending_block_is_the_latest() {
    let world = World::new();
    let node = world.node();
    world.decide(&[&node]).await;
    world.send(&node, 0, Address::repeat_byte(1), Bytes::new());
    let pending = ask(&node, "eth_getBlockByNumber", json!(["pending", false]));
    assert_eq!((&pending["number"], &pending["transactions"]), (&json!("0x1"), &json!([])));
}

#[tokio::test]
async fn a_server_answers_and_a_client_can_wait_for_its_receipt() {
    let world = World::new();
    let node = world.node();
    let server = node.chain.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let client = reqwest::Client::new();
    let post = |method: &str, params: Value| {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let request = client
            .post(server.rpc_url())
            .header("content-type", "application/json")
            .body(body.to_string());
        async move {
            let text = request.send().await.unwrap().text().await.unwrap();
            serde_json::from_str::<Value>(&text).unwrap()
        }
    };
    assert_eq!(post("eth_chainId", json!([])).await["result"], json!("0x7a6a"));
    assert_eq!(post("evm_mine", json!([])).await["error"]["code"], json!(-32601));
    let raw = world.transaction(3, 0, Address::repeat_byte(2), 1, Bytes::new());
    let mut arrived = node.chain.new_transactions();
    let receipt = post("eth_sendRawTransactionSync", json!([raw]));
    let block = async {
        arrived.recv().await.unwrap();
        world.decide(&[&node]).await;
    };
    let (receipt, ()) = tokio::join!(receipt, block);
    assert_eq!(receipt["result"]["status"], json!("0x1"));
    let (mut socket, _) = tokio_tungstenite::connect_async(server.ws_url()).await.unwrap();
    socket.close(None).await.unwrap();
    server.shutdown().await;
    world.decide(&[&node]).await;
    assert_eq!(node.height(), 2, "the chain goes on without its server");
}

#[test]
fn an_access_list_leaves_the_precompiled_contract_out() {
    let world = World::new();
    let node = world.node();
    // Runs as the code of a new contract: staticcall(gas(), 0x5d, 0, 0, 0, 0), then sload(1).
    let code = "0x5f5f5f5f605d5afa600154505000";
    let answer = ask(&node, "eth_createAccessList", json!([{ "input": code }]));
    let list = answer["accessList"].as_array().unwrap();
    assert_eq!(list.len(), 1, "{answer}");
    assert_eq!(list[0]["storageKeys"].as_array().unwrap().len(), 1);
}
