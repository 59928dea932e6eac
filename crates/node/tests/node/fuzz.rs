//! Random input to every method, in process: always an answer, never a panic.

use std::sync::OnceLock;

use alloy::primitives::{Address, Bytes, TxKind};
use cipherloom_node::{DevChain, DevChainConfig, Limits};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::support::*;

const METHODS: &[&str] = &[
    "web3_clientVersion",
    "web3_sha3",
    "net_version",
    "net_listening",
    "net_peerCount",
    "eth_chainId",
    "eth_protocolVersion",
    "eth_syncing",
    "eth_mining",
    "eth_hashrate",
    "eth_blockNumber",
    "eth_coinbase",
    "eth_accounts",
    "eth_requestAccounts",
    "txpool_status",
    "rpc_modules",
    "eth_getBalance",
    "eth_getTransactionCount",
    "eth_getCode",
    "eth_getStorageAt",
    "eth_call",
    "eth_estimateGas",
    "eth_sendRawTransaction",
    "eth_sendRawTransactionSync",
    "eth_sendTransaction",
    "eth_signTransaction",
    "eth_getTransactionByHash",
    "eth_getRawTransactionByHash",
    "debug_getRawTransaction",
    "eth_getTransactionReceipt",
    "eth_sign",
    "personal_sign",
    "eth_signTypedData",
    "eth_signTypedData_v4",
    "eth_getBlockByNumber",
    "eth_getBlockByHash",
    "eth_getBlockTransactionCountByNumber",
    "eth_getBlockTransactionCountByHash",
    "eth_getUncleCountByBlockNumber",
    "eth_getUncleCountByBlockHash",
    "eth_getUncleByBlockNumberAndIndex",
    "eth_getUncleByBlockHashAndIndex",
    "eth_getTransactionByBlockNumberAndIndex",
    "eth_getTransactionByBlockHashAndIndex",
    "eth_getBlockReceipts",
    "eth_getLogs",
    "eth_newFilter",
    "eth_newBlockFilter",
    "eth_newPendingTransactionFilter",
    "eth_getFilterChanges",
    "eth_getFilterLogs",
    "eth_uninstallFilter",
    "eth_gasPrice",
    "eth_maxPriorityFeePerGas",
    "eth_blobBaseFee",
    "eth_feeHistory",
    "eth_getProof",
    "evm_snapshot",
    "evm_revert",
    "evm_mine",
    "evm_increaseTime",
    "evm_setNextBlockTimestamp",
    "evm_setTime",
    "evm_setAutomine",
    "evm_getAutomine",
    "evm_setAccountBalance",
    "anvil_mine",
    "hardhat_mine",
    "anvil_setBalance",
    "anvil_setCode",
    "anvil_setNonce",
    "hardhat_setStorageAt",
    "anvil_setNextBlockBaseFeePerGas",
    "anvil_impersonateAccount",
    "anvil_stopImpersonatingAccount",
    "anvil_autoImpersonateAccount",
    "anvil_dropTransaction",
    "anvil_nodeInfo",
    "txpool_content",
    "eth_getAccountInfo",
    "debug_traceTransaction",
    "txpool_content",
    "anvil_rollback",
    "anvil_reorg",
    "eth_subscribe",
    "eth_unsubscribe",
    "eth_createAccessList",
    "eth_simulateV1",
    "eth_getHeaderByNumber",
    "eth_getHeaderByHash",
    "eth_getTransactionBySenderAndNonce",
    "eth_pendingTransactions",
    "eth_sendUnsignedTransaction",
    "eth_sendTransactionSync",
    "eth_signTypedData_v3",
    "txpool_contentFrom",
    "txpool_inspect",
    "evm_mine_detailed",
    "evm_setIntervalMining",
    "anvil_setIntervalMining",
    "anvil_getIntervalMining",
    "anvil_setBlockTimestampInterval",
    "anvil_removeBlockTimestampInterval",
    "hardhat_setPrevRandao",
    "evm_setBlockGasLimit",
    "anvil_setCoinbase",
    "anvil_addBalance",
    "anvil_dropAllTransactions",
    "anvil_removePoolTransactions",
    "anvil_dumpState",
    "anvil_loadState",
    "anvil_metadata",
    "anvil_setLoggingEnabled",
];

fn chain_under_attack() -> &'static DevChain {
    static CHAIN: OnceLock<DevChain> = OnceLock::new();
    CHAIN.get_or_init(|| {
        // Small limits, so that thousands of random calls stay cheap.
        let limits = Limits {
            mine_blocks_per_call: 3,
            block_gas_limit: 3_000_000,
            snapshots: 8,
            state_history_blocks: 64,
            ..Limits::default()
        };
        let chain = DevChain::new(DevChainConfig {
            limits,
            block_gas_limit: 3_000_000,
            ..DevChainConfig::default()
        })
        .unwrap();
        deploy(&chain, &REGISTER);
        deploy(&chain, &ENDLESS);
        chain
    })
}

fn text() -> impl Strategy<Value = String> {
    let known = vec![
        "latest",
        "pending",
        "earliest",
        "safe",
        "finalized",
        "0x",
        "0x0",
        "0x1",
        "0x2",
        "0x00",
        "-1",
        "1",
        "newHeads",
        "logs",
        "",
        "0xffffffffffffffff",
        "0x10000000000000000",
        "0xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "0x5fbdb2315678afecb367f032d93f642f64180aa3",
        "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266",
        "{}",
        "\u{0}",
        "0x0g",
        "0Xff",
        "é",
        "0x0000000000000000000000000000000000000000000000000000000000000001",
    ];
    prop_oneof![
        4 => select(known).prop_map(str::to_owned),
        2 => prop::collection::vec(any::<u8>(), 0..80).prop_map(|bytes| Bytes::from(bytes).to_string()),
        1 => any::<[u8; 20]>().prop_map(|bytes| Address::from(bytes).to_string()),
        1 => ".{0,20}",
    ]
}

fn field() -> impl Strategy<Value = String> {
    let known = vec![
        "from",
        "to",
        "gas",
        "gasPrice",
        "maxFeePerGas",
        "maxPriorityFeePerGas",
        "value",
        "data",
        "input",
        "nonce",
        "chainId",
        "type",
        "accessList",
        "authorizationList",
        "blobVersionedHashes",
        "blockHash",
        "blockNumber",
        "fromBlock",
        "toBlock",
        "address",
        "topics",
        "requireCanonical",
        "timestamp",
        "types",
        "domain",
        "primaryType",
        "message",
        "balance",
        "code",
        "state",
        "stateDiff",
        "number",
        "time",
        "baseFeePerGas",
        "gasLimit",
        "storageKeys",
        "EIP712Domain",
        "name",
        "Mail",
        "0x5fbdb2315678afecb367f032d93f642f64180aa3",
    ];
    prop_oneof![8 => select(known).prop_map(str::to_owned), 1 => text()]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => prop_oneof![any::<i64>().prop_map(Value::from), any::<u64>().prop_map(Value::from), any::<f64>().prop_map(Value::from)],
        6 => text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            3 => prop::collection::vec((field(), inner), 0..6).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_parameters_of_every_method_get_an_answer(
        method in select(METHODS),
        params in prop_oneof![9 => prop::collection::vec(value(), 0..5).prop_map(Value::from), 1 => value()],
    ) {
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let answer = chain_under_attack().rpc(call.to_string().as_bytes()).expect("a call with an id has an answer");
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        prop_assert!(answer.get("result").is_some() != answer.get("error").is_some());
        let code = answer["error"]["code"].as_i64();
        prop_assert!(code.is_none_or(|code| matches!(code, 3 | -32000 | -32005 | -32600 | -32601 | -32602 | -32002)), "{}", answer);
    }

    #[test]
    fn random_bytes_get_an_answer_or_silence(body in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        value().prop_map(|value| value.to_string().into_bytes()),
        value().prop_map(|value| json!([value, { "jsonrpc": "2.0", "id": value, "method": value, "params": value }]).to_string().into_bytes()),
    ]) {
        if let Some(answer) = chain_under_attack().rpc(&body) {
            prop_assert!(serde_json::from_slice::<Value>(&answer).is_ok());
        }
    }

    #[test]
    fn damaged_transactions_are_refused_or_mined(flip in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>()) {
        let chain = chain_under_attack();
        let mut bytes = raw(chain, 1, transaction(chain, 0, TxKind::Call(Address::ZERO), word(1)));
        let at = flip.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let whole = bytes.clone();
        bytes.truncate(cut.index(bytes.len()));
        let _ = chain.send_raw_transaction(&bytes);
        let _ = chain.send_raw_transaction(&whole);
        prop_assert!(chain.block_number().is_ok());
    }
}

#[test]
fn every_listed_method_exists() {
    let (chain, _) = chain();
    for method in METHODS
        .iter()
        .filter(|method| !matches!(**method, "eth_subscribe" | "eth_unsubscribe"))
    {
        let code = chain.rpc_call(method, json!([])).map_or_else(|error| error.code(), |_| 0);
        assert_ne!(code, -32601, "{method}");
    }
}

#[test]
fn the_documented_methods_are_the_fuzzed_ones() {
    let text = include_str!("../../../../docs/node.md");
    let methods = text.split_once("## Methods").unwrap().1.split_once("Not there:").unwrap().0;
    let names = methods.split('`').skip(1).step_by(2).map(|name| name.split(' ').next().unwrap());
    // A bare prefix is no method.
    for name in names.filter(|name| !name.ends_with('_')).filter(|name| {
        ["eth_", "net_", "web3_", "evm_", "txpool_", "rpc_", "debug_", "personal_"]
            .iter()
            .any(|space| name.starts_with(space))
    }) {
        assert!(
            METHODS.contains(&name) || name.starts_with("evm_setAccount"),
            "{name} is documented but not fuzzed"
        );
    }
    for method in METHODS {
        let short = method.split_once('_').unwrap().1;
        assert!(
            text.contains(&format!("`{method}`")) || text.contains(&format!("`{short}`")),
            "{method} is not documented"
        );
    }
}
