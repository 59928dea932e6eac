//! JSON-RPC without a server: shapes, filters, proofs, errors.

use alloy::consensus::TrieAccount;
use alloy::eips::BlockId;
use alloy::primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256};
use alloy::rlp::encode;
use alloy::rpc::types::{Block, EIP1186AccountProofResponse, Log, Transaction, TransactionReceipt, TransactionRequest};
use alloy_trie::Nibbles;
use alloy_trie::proof::verify_proof;
use cipherloom_node::{DevChain, DevChainConfig, Limits, NodeError};
use serde_json::{Value, json};

use crate::support::*;

fn ask(chain: &DevChain, method: &str, params: Value) -> Value {
    chain.rpc_call(method, params).unwrap_or_else(|error| panic!("{method}: {error}"))
}

fn request(chain: &DevChain, body: &Value) -> Value {
    serde_json::from_slice(&chain.rpc(body.to_string().as_bytes()).unwrap()).unwrap()
}

#[test]
fn blocks_transactions_and_receipts_have_the_published_shapes() {
    let (chain, _) = chain();
    let register = deploy(&chain, &REGISTER);
    let sent = transaction(&chain, 1, TxKind::Call(register), word(7));
    let hash: B256 = serde_json::from_value(ask(&chain, "eth_sendRawTransaction", json!([Bytes::from(raw(&chain, 0, sent))]))).unwrap();
    let receipt: TransactionReceipt = serde_json::from_value(ask(&chain, "eth_getTransactionReceipt", json!([hash]))).unwrap();
    assert!(receipt.status());
    assert_eq!(receipt.from, account(&chain, 0));
    assert_eq!(receipt.to, Some(register));
    assert_eq!(receipt.logs()[0].transaction_hash, Some(hash));
    let found: Transaction = serde_json::from_value(ask(&chain, "eth_getTransactionByHash", json!([hash]))).unwrap();
    assert_eq!(found.inner.signer(), account(&chain, 0));
    assert_eq!(found.block_number, Some(2));
    for (method, block) in [
        ("eth_getBlockByNumber", json!("latest")),
        ("eth_getBlockByHash", json!(receipt.block_hash)),
    ] {
        let full: Block = serde_json::from_value(ask(&chain, method, json!([block, true]))).unwrap();
        assert_eq!(full.header.inner.hash_slow(), full.header.hash);
        assert_eq!(full.transactions.as_transactions().unwrap()[0], found);
    }
    assert_eq!(
        ask(&chain, "eth_getTransactionByBlockNumberAndIndex", json!(["0x2", "0x0"])),
        ask(&chain, "eth_getTransactionByHash", json!([hash]))
    );
    assert_eq!(
        ask(&chain, "eth_getBlockReceipts", json!(["latest"]))[0],
        ask(&chain, "eth_getTransactionReceipt", json!([hash]))
    );
    assert_eq!(ask(&chain, "eth_getBlockTransactionCountByNumber", json!(["0x2"])), "0x1");
    assert_eq!(ask(&chain, "eth_getBlockByNumber", json!(["0x99", false])), Value::Null);
    assert_eq!(ask(&chain, "eth_getTransactionReceipt", json!([B256::ZERO])), Value::Null);
    let pending = ask(&chain, "eth_getBlockByNumber", json!(["pending", false]));
    assert_eq!((&pending["hash"], &pending["number"]), (&Value::Null, &json!("0x3")));
    assert_eq!(
        ask(&chain, "eth_getStorageAt", json!([register, "0x0", "latest"])),
        json!(B256::from(U256::from(7)))
    );
    for block in ["latest", "pending", "safe", "finalized", "0x2"] {
        assert_eq!(
            ask(&chain, "eth_getTransactionCount", json!([account(&chain, 0), block])),
            "0x2",
            "{block}"
        );
    }
    for (block, nonce) in [
        (json!("earliest"), "0x0"),
        (json!({ "blockNumber": "0x1" }), "0x1"),
        (json!({ "blockHash": receipt.block_hash }), "0x2"),
    ] {
        assert_eq!(
            ask(&chain, "eth_getTransactionCount", json!([account(&chain, 0), block])),
            nonce,
            "{block}"
        );
    }
    assert_eq!(ask(&chain, "eth_chainId", Value::Null), "0x7a69");
    assert_eq!(ask(&chain, "net_version", json!([])), "31337");
}

#[test]
fn batches_answer_each_call_under_its_id() {
    let (chain, _) = chain();
    let answer = request(
        &chain,
        &json!([
            { "jsonrpc": "2.0", "id": "a", "method": "eth_chainId" },
            { "jsonrpc": "2.0", "method": "eth_chainId" },
            { "jsonrpc": "2.0", "id": 7, "method": "eth_nothing", "params": [] },
            { "jsonrpc": "2.0", "id": null, "method": "eth_getBalance", "params": ["0x12"] },
            5,
        ]),
    );
    let codes = answer
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["id"].clone(), one["error"]["code"].as_i64()))
        .collect::<Vec<_>>();
    assert_eq!(
        codes,
        [
            (json!("a"), None),
            (json!(7), Some(-32601)),
            (Value::Null, Some(-32602)),
            (Value::Null, Some(-32600))
        ]
    );
    assert_eq!(answer[0]["result"], "0x7a69");
    assert!(
        chain.rpc(br#"{"jsonrpc":"2.0","method":"eth_chainId"}"#).is_none(),
        "a notification has no answer"
    );
}

#[test]
fn a_batch_cannot_grow_beyond_the_response_limit() {
    let limits = Limits {
        response_size_bytes: 2000,
        ..Limits::default()
    };
    let chain = DevChain::new(DevChainConfig {
        limits,
        ..DevChainConfig::default()
    })
    .unwrap();
    let calls = (0..10).map(|id| json!({ "jsonrpc": "2.0", "id": id, "method": "eth_getBlockByNumber", "params": ["0x0", false] }));
    let answer = request(&chain, &Value::Array(calls.collect()));
    assert!(answer[0]["result"].is_object());
    assert_eq!(answer[9]["id"], 9);
    assert_eq!(answer[9]["error"]["code"], -32005);
}

#[test]
fn reverts_carry_code_3_and_their_data() {
    let (chain, _) = chain();
    let reverter = deploy(&chain, &reverter());
    for method in ["eth_call", "eth_estimateGas"] {
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": [{ "to": reverter }] });
        let error = &request(&chain, &call)["error"];
        assert_eq!(error["code"], 3);
        assert_eq!(error["message"], "execution reverted: nope");
        assert!(error["data"].as_str().unwrap().starts_with("0x08c379a0"));
    }
}

#[test]
fn calls_take_data_or_input_and_overrides() {
    let (chain, _) = chain();
    let register = deploy(&chain, &REGISTER);
    for field in ["data", "input"] {
        assert_eq!(
            ask(&chain, "eth_call", json!([{ "to": register, field: word(9) }, "latest"])),
            json!(word(9))
        );
    }
    let both = json!([{ "to": register, "data": word(1), "input": word(2) }]);
    assert!(matches!(chain.rpc_call("eth_call", both), Err(NodeError::InvalidParams(_))));
    let slot = json!({ register.to_string(): { "stateDiff": { B256::ZERO.to_string(): B256::from(U256::from(77)) } } });
    assert_eq!(
        ask(&chain, "eth_call", json!([{ "to": register }, "latest", slot])),
        json!(word(77))
    );
    let elsewhere = Address::repeat_byte(0x77);
    let code = json!({ elsewhere.to_string(): { "code": TIMESTAMP } });
    assert_eq!(
        ask(&chain, "eth_call", json!([{ "to": elsewhere }, "latest", code, { "time": "0x10" }])),
        json!(word(16))
    );
    let from_contract = json!([{ "from": register, "to": register, "data": word(9) }, "latest"]);
    assert_eq!(
        ask(&chain, "eth_call", from_contract),
        json!(word(9)),
        "a contract may be the sender of a call"
    );
}

#[test]
fn logs_are_selected_by_range_address_topics_and_hash() {
    let (chain, _) = chain();
    let (one, two) = (deploy(&chain, &REGISTER), deploy(&chain, &REGISTER));
    for (to, value) in [(one, 1), (two, 1), (one, 2), (one, 3)] {
        chain.send_transaction(call_to(to, word(value))).unwrap();
    }
    let topic = |value: u64| json!(B256::from(U256::from(value)));
    let count = |filter: Value| ask(&chain, "eth_getLogs", json!([filter])).as_array().unwrap().len();
    assert_eq!(count(json!({ "fromBlock": "0x0", "toBlock": "latest" })), 4);
    assert_eq!(count(json!({ "fromBlock": "earliest", "address": one })), 3);
    assert_eq!(count(json!({ "fromBlock": "0x0", "address": [one, two], "topics": [topic(1)] })), 2);
    assert_eq!(count(json!({ "fromBlock": "0x0", "topics": [[topic(1), topic(3)]] })), 3);
    assert_eq!(count(json!({ "fromBlock": "0x0", "topics": [null, topic(1)] })), 0);
    assert_eq!(count(json!({ "fromBlock": "0x3", "toBlock": "0x4" })), 2);
    assert_eq!(count(json!({})), 1, "the default is the latest block");
    let hash = chain.block(BlockId::latest()).unwrap().unwrap().hash;
    assert_eq!(count(json!({ "blockHash": hash })), 1);
    let failing = |filter: Value| chain.rpc_call("eth_getLogs", json!([filter])).unwrap_err().code();
    assert_eq!(failing(json!({ "blockHash": B256::ZERO })), -32000);
    assert_eq!(failing(json!({ "fromBlock": "0x5", "toBlock": "0x1" })), -32602);
    assert_eq!(failing(json!({ "blockHash": hash, "fromBlock": "0x1" })), -32602);
    assert_eq!(
        failing(json!({ "address": vec![one; 3], "topics": [(0..1001).map(topic).collect::<Vec<_>>()] })),
        -32005
    );
}

#[test]
fn too_many_logs_are_an_error() {
    let limits = Limits {
        logs_per_query: 2,
        ..Limits::default()
    };
    let chain = DevChain::new(DevChainConfig {
        limits,
        ..DevChainConfig::default()
    })
    .unwrap();
    let register = deploy(&chain, &REGISTER);
    for value in 0..3 {
        chain.send_transaction(call_to(register, word(value))).unwrap();
    }
    let error = chain.rpc_call("eth_getLogs", json!([{ "fromBlock": "0x0" }])).unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (-32005, "query returned more than 2 results")
    );
}

#[test]
fn filters_report_each_change_once() {
    let (chain, _) = chain();
    let register = deploy(&chain, &REGISTER);
    let logs = ask(&chain, "eth_newFilter", json!([{ "address": register }]));
    let blocks = ask(&chain, "eth_newBlockFilter", json!([]));
    let pending = ask(&chain, "eth_newPendingTransactionFilter", json!([]));
    let changes = |id: &Value| ask(&chain, "eth_getFilterChanges", json!([id])).as_array().unwrap().clone();
    assert!(changes(&logs).is_empty() && changes(&blocks).is_empty() && changes(&pending).is_empty());
    let hash = chain.send_transaction(call_to(register, word(5))).unwrap();
    let found: Log = serde_json::from_value(changes(&logs)[0].clone()).unwrap();
    assert_eq!(found.transaction_hash, Some(hash));
    assert_eq!(changes(&blocks), [json!(chain.block(BlockId::latest()).unwrap().unwrap().hash)]);
    assert_eq!(changes(&pending), [json!(hash)]);
    assert!(changes(&logs).is_empty() && changes(&blocks).is_empty() && changes(&pending).is_empty());
    let id = chain.snapshot().unwrap();
    chain.mine(2).unwrap();
    assert_eq!(changes(&blocks).len(), 2);
    chain.revert(id).unwrap();
    chain.mine(1).unwrap();
    assert_eq!(changes(&blocks).len(), 1, "the block that replaces a reported one is new");
    assert_eq!(ask(&chain, "eth_getFilterLogs", json!([logs])).as_array().unwrap().len(), 0);
    assert_eq!(ask(&chain, "eth_uninstallFilter", json!([logs])), true);
    assert_eq!(ask(&chain, "eth_uninstallFilter", json!([logs])), false);
    assert!(matches!(
        chain.rpc_call("eth_getFilterChanges", json!([logs])),
        Err(NodeError::UnknownFilter)
    ));
}

#[test]
fn proofs_verify_against_the_header() {
    let (chain, _) = chain();
    let register = deploy(&chain, &REGISTER);
    chain.send_transaction(call_to(register, word(7))).unwrap();
    let root = chain.block(BlockId::latest()).unwrap().unwrap().header.state_root;
    for address in [register, account(&chain, 0), Address::repeat_byte(0xee)] {
        let answer = ask(&chain, "eth_getProof", json!([address, ["0x0", "0x1"], "latest"]));
        let proof: EIP1186AccountProofResponse = serde_json::from_value(answer).unwrap();
        let exists = address != Address::repeat_byte(0xee);
        let expected = exists.then(|| {
            encode(TrieAccount {
                nonce: proof.nonce,
                balance: proof.balance,
                storage_root: proof.storage_hash,
                code_hash: proof.code_hash,
            })
        });
        verify_proof(root, Nibbles::unpack(keccak256(address)), expected, &proof.account_proof).unwrap();
        for slot in proof.storage_proof {
            let key = Nibbles::unpack(keccak256(slot.key.as_b256()));
            let value = (!slot.value.is_zero()).then(|| encode(slot.value));
            verify_proof(proof.storage_hash, key, value, &slot.proof).unwrap();
        }
    }
}

#[test]
fn development_accounts_sign_messages_and_typed_data() {
    let (chain, _) = chain();
    let address = account(&chain, 3);
    let recover = |signature: Value, digest: B256| -> Address {
        let bytes: Bytes = serde_json::from_value(signature).unwrap();
        Signature::from_raw(&bytes).unwrap().recover_address_from_prehash(&digest).unwrap()
    };
    let digest = alloy::primitives::eip191_hash_message(b"hello");
    let message = json!(Bytes::from_static(b"hello"));
    assert_eq!(recover(ask(&chain, "eth_sign", json!([address, message])), digest), address);
    assert_eq!(recover(ask(&chain, "personal_sign", json!([message, address])), digest), address);
    let data = json!({
        "types": { "EIP712Domain": [{ "name": "name", "type": "string" }], "Mail": [{ "name": "text", "type": "string" }] },
        "primaryType": "Mail",
        "domain": { "name": "Test" },
        "message": { "text": "hi" },
    });
    let typed: alloy::dyn_abi::TypedData = serde_json::from_value(data.clone()).unwrap();
    let digest = typed.eip712_signing_hash().unwrap();
    for form in [data.clone(), json!(data.to_string())] {
        assert_eq!(
            recover(ask(&chain, "eth_signTypedData_v4", json!([address, form])), digest),
            address
        );
    }
    assert!(matches!(
        chain.rpc_call("eth_sign", json!([Address::ZERO, message])),
        Err(NodeError::UnknownAccount(_))
    ));
}

#[test]
fn development_methods_work_under_their_names() {
    let (chain, _) = chain();
    let somebody = Address::repeat_byte(0x42);
    ask(&chain, "anvil_setBalance", json!([somebody, "0xde0b6b3a7640000"]));
    ask(&chain, "hardhat_setCode", json!([somebody, TIMESTAMP]));
    ask(&chain, "hardhat_setNonce", json!([somebody, "0x5"]));
    ask(&chain, "anvil_setStorageAt", json!([somebody, "0x1", B256::repeat_byte(1)]));
    assert_eq!(ask(&chain, "eth_getBalance", json!([somebody, "latest"])), "0xde0b6b3a7640000");
    assert_eq!(ask(&chain, "eth_getTransactionCount", json!([somebody, "latest"])), "0x5");
    ask(&chain, "hardhat_impersonateAccount", json!([somebody]));
    let sent = ask(
        &chain,
        "eth_sendTransaction",
        json!([{ "from": somebody, "to": Address::ZERO, "value": "0x1" }]),
    );
    assert_eq!(ask(&chain, "eth_getTransactionReceipt", json!([sent]))["from"], json!(somebody));
    ask(&chain, "hardhat_mine", json!(["0x5", "0xa"]));
    assert_eq!(ask(&chain, "eth_blockNumber", json!([])), "0x6");
    assert_eq!(chain.block(BlockId::latest()).unwrap().unwrap().header.timestamp, START + 40);
    let id = ask(&chain, "evm_snapshot", json!([]));
    ask(&chain, "evm_increaseTime", json!([3600]));
    ask(&chain, "evm_mine", json!([]));
    assert_eq!(chain.block(BlockId::latest()).unwrap().unwrap().header.timestamp, START + 40 + 3600);
    ask(&chain, "evm_mine", json!([{ "timestamp": START + 9000 }]));
    assert_eq!(chain.block(BlockId::latest()).unwrap().unwrap().header.timestamp, START + 9000);
    assert_eq!(ask(&chain, "evm_revert", json!([id])), true);
    assert_eq!(ask(&chain, "eth_blockNumber", json!([])), "0x6");
    ask(&chain, "evm_setAutomine", json!([false]));
    chain.send_transaction(call_to(Address::ZERO, "".parse().unwrap())).unwrap();
    assert_eq!(ask(&chain, "txpool_status", json!([]))["pending"], "0x1");
    assert_eq!(
        ask(&chain, "eth_getBlockByNumber", json!(["pending", true]))["transactions"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let content = ask(&chain, "txpool_content", json!([]));
    assert_eq!(content["pending"][account(&chain, 0).to_string()]["0"]["to"], json!(Address::ZERO));
    ask(&chain, "evm_setAutomine", json!([true]));
    assert_eq!(ask(&chain, "eth_blockNumber", json!([])), "0x7");
    assert_eq!(chain.rpc_call("anvil_mine", json!([1_000_000])).unwrap_err().code(), -32005);
}

#[test]
fn fee_history_covers_the_asked_blocks() {
    let (chain, _) = chain();
    let tip = transaction(&chain, 0, TxKind::Call(Address::ZERO), "".parse().unwrap());
    chain.send_raw_transaction(&raw(&chain, 0, tip)).unwrap();
    chain.mine(2).unwrap();
    let history = ask(&chain, "eth_feeHistory", json!(["0x3", "latest", [10.0, 90.0]]));
    assert_eq!(history["oldestBlock"], "0x1");
    assert_eq!(history["baseFeePerGas"].as_array().unwrap().len(), 4);
    assert_eq!(
        history["reward"],
        json!([["0x3b9aca00", "0x3b9aca00"], ["0x0", "0x0"], ["0x0", "0x0"]])
    );
    assert_eq!(
        chain
            .rpc_call("eth_feeHistory", json!(["0x1", "latest", [90.0, 10.0]]))
            .unwrap_err()
            .code(),
        -32602
    );
    assert_eq!(ask(&chain, "eth_feeHistory", json!([9, "latest", null]))["oldestBlock"], "0x0");
}

#[test]
fn traces_show_the_calls_inside_a_transaction() {
    let (chain, _) = chain();
    let (caller, register, reverter) = (deploy(&chain, &CALLER), deploy(&chain, &REGISTER), deploy(&chain, &reverter()));
    let through = |to: Address, input: Bytes| [to.into_word().to_vec(), input.to_vec()].concat().into();
    let sent = |input: Bytes| {
        chain
            .send_transaction(TransactionRequest {
                gas: Some(200_000),
                ..call_to(caller, input)
            })
            .unwrap()
    };
    let (good, bad) = (sent(through(register, word(6))), sent(through(reverter, Bytes::new())));
    let trace = |hash: B256, config: Value| {
        ask(
            &chain,
            "debug_traceTransaction",
            json!([hash, { "tracer": "callTracer", "tracerConfig": config, "timeout": "5s" }]),
        )
    };

    let root = trace(good, json!({ "withLog": true }));
    assert_eq!(
        (&root["type"], &root["to"], &root["gas"]),
        (&json!("CALL"), &json!(caller), &json!("0x30d40"))
    );
    assert_eq!(root["gasUsed"], ask(&chain, "eth_getTransactionReceipt", json!([good]))["gasUsed"]);
    let inner = &root["calls"][0];
    assert_eq!(
        (&inner["from"], &inner["to"], &inner["input"], &inner["output"]),
        (&json!(caller), &json!(register), &json!(word(6)), &json!(word(6)))
    );
    assert_eq!(inner["logs"][0]["topics"], json!([B256::from(U256::from(6))]));

    let root = trace(bad, json!({}));
    assert!(root.get("error").is_none(), "the outer call goes on after the inner one fails");
    assert_eq!(
        (&root["calls"][0]["error"], &root["calls"][0]["revertReason"]),
        (&json!("execution reverted"), &json!("nope"))
    );
    assert!(trace(bad, json!({ "onlyTopCall": true })).get("calls").is_none());
    let creation = chain.block(1.into()).unwrap().unwrap().transactions[0].hash;
    assert_eq!(
        (&trace(creation, json!({}))["type"], &trace(creation, json!({}))["to"]),
        (&json!("CREATE"), &json!(caller))
    );

    assert_eq!(chain.rpc_call("debug_traceTransaction", json!([good])).unwrap_err().code(), -32602);
    let recursive = deploy(&chain, &RECURSIVE);
    let deep = chain
        .send_transaction(TransactionRequest {
            gas: Some(50_000_000),
            ..call_to(recursive, Bytes::new())
        })
        .unwrap();
    let deep = json!([deep, { "tracer": "callTracer" }]);
    assert!(matches!(
        chain.rpc_call("debug_traceTransaction", deep),
        Err(NodeError::LimitExceeded(_))
    ));
    let unknown = json!([B256::ZERO, { "tracer": "callTracer" }]);
    assert!(matches!(
        chain.rpc_call("debug_traceTransaction", unknown),
        Err(NodeError::UnknownTransaction(_))
    ));
}
