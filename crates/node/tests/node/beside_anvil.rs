//! The same questions to this node and to anvil: what tools get from the one they must get from the other.

use std::collections::BTreeSet;

use alloy::primitives::{Address, B256, Bytes, U256};
use cipherloom_node::{DevChain, DevChainConfig, DevChainHandle};
use cipherloom_private_anvil::{AnvilOptions, PrivateAnvil};
use serde_json::{Value, json};

use crate::support::*;

/// Asks whichever node is there.
struct Node {
    url: String,
    client: reqwest::Client,
}

impl Node {
    fn new(url: String) -> Self {
        Self {
            url,
            client: reqwest::Client::new(),
        }
    }

    async fn answer(&self, method: &str, params: &Value) -> Value {
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let response = self
            .client
            .post(&self.url)
            .body(call.to_string())
            .header("content-type", "application/json");
        let bytes = response.send().await.unwrap().bytes().await.unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    async fn ask(&self, method: &str, params: Value) -> Value {
        let mut answer = self.answer(method, &params).await;
        assert!(answer.get("error").is_none(), "{method} at {}: {answer}", self.url);
        answer["result"].take()
    }
}

/// Both nodes, under the same rules, with the same contracts at the same addresses.
async fn both() -> (DevChainHandle, PrivateAnvil, Node, Node) {
    let ours = DevChain::start(DevChainConfig::default()).await.unwrap();
    let anvil = PrivateAnvil::start(&AnvilOptions {
        more: vec!["--hardfork".to_owned(), "prague".to_owned()],
        ..AnvilOptions::default()
    })
    .unwrap();
    let nodes = (Node::new(ours.rpc_url()), Node::new(anvil.http_url()));
    for node in [&nodes.0, &nodes.1] {
        for (address, code) in [(register(), REGISTER), (caller(), CALLER), (failing(), reverter())] {
            node.ask("anvil_setCode", json!([address, code])).await;
        }
    }
    (ours, anvil, nodes.0, nodes.1)
}

fn register() -> Address {
    Address::repeat_byte(0x21)
}

fn caller() -> Address {
    Address::repeat_byte(0x22)
}

fn failing() -> Address {
    Address::repeat_byte(0x23)
}

fn through(to: Address, input: &Bytes) -> Bytes {
    [to.into_word().to_vec(), input.to_vec()].concat().into()
}

fn fields(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

#[tokio::test]
async fn every_field_that_anvil_gives_is_there() {
    let (handle, _anvil, ours, theirs) = both().await;
    let from = handle.accounts()[0].address();
    let sent = json!([{ "from": from, "to": register(), "data": word(5), "gas": "0x186a0" }]);
    let mut seen = Vec::new();
    for node in [&ours, &theirs] {
        let receipt = node.ask("eth_sendTransactionSync", sent.clone()).await;
        let hash = &receipt["transactionHash"];
        seen.push([
            receipt.clone(),
            receipt["logs"][0].clone(),
            node.ask("eth_getTransactionByHash", json!([hash])).await,
            node.ask("eth_getBlockByNumber", json!(["latest", false])).await,
            node.ask("eth_feeHistory", json!(["0x2", "latest", [50.0]])).await,
            node.ask("anvil_nodeInfo", json!([])).await,
            node.ask("anvil_nodeInfo", json!([])).await["environment"].take(),
            node.ask("eth_getProof", json!([register(), [B256::ZERO], "latest"])).await,
            node.ask("txpool_content", json!([])).await,
        ]);
    }
    // Two fields of receipts are anvil's own: Ethereum's API has the one only for blob transactions, and not the other.
    let own = BTreeSet::from(["blobGasPrice".to_owned(), "blockTimestamp".to_owned()]);
    for (ours, theirs) in seen[0].iter().zip(&seen[1]) {
        let missing = &(&fields(theirs) - &fields(ours)) - &own;
        assert!(missing.is_empty(), "{missing:?} are not in {ours}");
    }
    handle.shutdown().await;
}

#[tokio::test]
async fn executions_come_out_the_same() {
    let (handle, _anvil, ours, theirs) = both().await;
    let from = handle.accounts()[0].address();
    let call = |to: Address, data: Bytes| json!({ "from": from, "to": to, "data": data, "gas": "0x186a0", "gasPrice": "0x2540be400" });
    let calls = [
        call(register(), word(7)),
        call(register(), Bytes::new()),
        call(caller(), through(register(), &word(9))),
        call(caller(), through(failing(), &Bytes::new())),
        call(failing(), Bytes::new()),
        call(Address::repeat_byte(0x31), Bytes::new()),
    ];
    for request in &calls {
        let params = json!([request, "latest"]);
        let [one, other] = [ours.answer("eth_call", &params).await, theirs.answer("eth_call", &params).await];
        for part in ["/result", "/error/code", "/error/data", "/error/message"] {
            assert_eq!(one.pointer(part), other.pointer(part), "{part} of {request}");
        }
        let one = ours.ask("eth_createAccessList", params.clone()).await;
        let mut other = theirs.answer("eth_createAccessList", &params).await;
        if let Some(error) = other.get("error") {
            // As on Ethereum, the list comes with the reason here.
            assert_eq!(one["error"], error["message"], "{request}");
            continue;
        }
        let other = other["result"].take();
        let accounts = |list: &Value| {
            let items = list["accessList"].as_array().unwrap().clone();
            let touched = items.into_iter().map(|item| item.to_string());
            touched.collect::<BTreeSet<_>>()
        };
        assert_eq!(accounts(&one), accounts(&other), "{request}");
        assert_eq!(one["gasUsed"], other["gasUsed"], "{request}");
    }
    let payload = json!([{
        "blockStateCalls": [
            { "calls": [&calls[0], { "from": from, "to": Address::repeat_byte(0x31), "value": "0x5" }] },
            { "calls": [&calls[1], &calls[3], &calls[4]] },
        ],
        "traceTransfers": true,
    }, "latest"]);
    let [one, other] = [
        ours.ask("eth_simulateV1", payload.clone()).await,
        theirs.ask("eth_simulateV1", payload).await,
    ];
    for (block, calls) in [(0, 2), (1, 3)] {
        for call in 0..calls {
            for part in ["returnData", "gasUsed", "status"] {
                let at = format!("/{block}/calls/{call}/{part}");
                assert_eq!(one.pointer(&at), other.pointer(&at), "{at}");
            }
            for part in ["address", "topics", "data", "logIndex", "transactionIndex"] {
                let at = format!("/{block}/calls/{call}/logs/0/{part}");
                assert_eq!(one.pointer(&at), other.pointer(&at), "{at}");
            }
        }
    }
    handle.shutdown().await;
}

#[tokio::test]
async fn a_state_moves_from_one_to_the_other() {
    let (handle, _anvil, ours, theirs) = both().await;
    let somebody = Address::repeat_byte(0x44);
    ours.ask("anvil_setBalance", json!([somebody, "0x1234"])).await;
    ours.ask("anvil_setNonce", json!([somebody, "0x9"])).await;
    ours.ask("anvil_setStorageAt", json!([register(), "0x0", B256::from(U256::from(77))]))
        .await;
    let dump = ours.ask("anvil_dumpState", json!([])).await;
    assert_eq!(theirs.ask("anvil_loadState", json!([dump])).await, true);
    for node in [&ours, &theirs] {
        assert_eq!(node.ask("eth_getBalance", json!([somebody, "latest"])).await, "0x1234");
        assert_eq!(node.ask("eth_getTransactionCount", json!([somebody, "latest"])).await, "0x9");
        assert_eq!(node.ask("eth_call", json!([{ "to": register() }, "latest"])).await, json!(word(77)));
    }
    handle.shutdown().await;
}
