//! What development tools ask of a chain besides the standard: settings, resets, dumps, mining by itself.

use alloy::eips::BlockId;
use alloy::primitives::{Address, B256, Bytes, TxKind, U256, bytes};
use alloy::rpc::types::{Header, Transaction, TransactionRequest};
use cipherloom_node::{DevChain, DevChainConfig, MiningInterval, NodeError};
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;

use crate::support::*;

/// Returns coinbase, gas limit and PREVRANDAO of its block.
const ENVIRONMENT: Bytes = bytes!("415f52456020524460405260605ff3");

fn ask(chain: &DevChain, method: &str, params: Value) -> Value {
    chain.rpc_call(method, params).unwrap_or_else(|error| panic!("{method}: {error}"))
}

fn head(chain: &DevChain) -> alloy::consensus::Header {
    chain.block(BlockId::latest()).unwrap().unwrap().header.clone()
}

#[test]
fn blocks_are_made_as_told() {
    let (chain, _) = chain();
    let contract = deploy(&chain, &ENVIRONMENT);
    let (coinbase, randao) = (Address::repeat_byte(0xcb), B256::repeat_byte(0x77));
    ask(&chain, "hardhat_setCoinbase", json!([coinbase]));
    ask(&chain, "hardhat_setPrevRandao", json!([randao]));
    assert_eq!(ask(&chain, "evm_setBlockGasLimit", json!(["0x1c9c380"])), true);
    ask(&chain, "anvil_setBlockTimestampInterval", json!([60]));
    chain.mine(2).unwrap();
    let first = chain.block(2.into()).unwrap().unwrap().header.clone();
    assert_eq!((first.beneficiary, first.gas_limit, first.mix_hash), (coinbase, 30_000_000, randao));
    assert_eq!(first.timestamp, START + 60);
    let second = head(&chain);
    assert_eq!((second.beneficiary, second.timestamp), (coinbase, START + 120));
    assert_ne!(second.mix_hash, randao, "only the next block's");
    assert_eq!(ask(&chain, "eth_coinbase", json!([])), json!(coinbase));
    let seen = |block: u64| chain.call(&call_to(contract, Bytes::new()), block.into()).unwrap();
    assert_eq!(
        seen(2),
        [coinbase.into_word(), U256::from(30_000_000).into(), randao]
            .map(|word| word.0)
            .concat(),
        "calls on a block see its environment"
    );
    ask(&chain, "anvil_mine", json!(["0x2", "0x0"]));
    assert_eq!(head(&chain).timestamp, START + 240);
    ask(&chain, "hardhat_setBlockTimestampInterval", json!([5000]));
    chain.mine(1).unwrap();
    assert_eq!(head(&chain).timestamp, START + 245);
    assert!(chain.rpc_call("hardhat_setBlockTimestampInterval", json!([5])).is_err());
    assert_eq!(ask(&chain, "anvil_removeBlockTimestampInterval", json!([])), true);
    assert_eq!(ask(&chain, "anvil_removeBlockTimestampInterval", json!([])), false);
    chain.mine(1).unwrap();
    assert_eq!(head(&chain).timestamp, START + 245, "time goes on from where the interval left it");
    for (method, params) in [
        ("evm_setBlockGasLimit", json!(["0x1"])),
        ("evm_setBlockGasLimit", json!(["0xffffffffffff"])),
        ("anvil_setMinGasPrice", json!(["0x1"])),
        ("anvil_setChainId", json!([5])),
        ("anvil_setRpcUrl", json!(["http://localhost"])),
    ] {
        assert_eq!(chain.rpc_call(method, params).unwrap_err().code(), -32602, "{method}");
    }
}

#[test]
fn the_namespaces_answer_as_their_tools_expect() {
    let (chain, _) = chain();
    let somebody = Address::repeat_byte(0x42);
    for (method, params) in [
        ("setBalance", json!([somebody, "0x1"])),
        ("addBalance", json!([somebody, "0x2"])),
        ("setNonce", json!([somebody, "0x1"])),
        ("setCode", json!([somebody, "0x00"])),
        ("setLoggingEnabled", json!([true])),
        ("mine", json!([])),
        ("setCoinbase", json!([somebody])),
        ("setNextBlockBaseFeePerGas", json!(["0x7"])),
    ] {
        assert_eq!(ask(&chain, &format!("anvil_{method}"), params.clone()), Value::Null, "{method}");
        assert_eq!(ask(&chain, &format!("hardhat_{method}"), params), true, "{method}");
    }
    assert_eq!(chain.balance(somebody, BlockId::latest()).unwrap(), U256::from(5));
    assert!(chain.rpc_call("anvil_addBalance", json!([somebody, U256::MAX])).is_err());
    let client = ask(&chain, "web3_clientVersion", json!([]));
    assert!(
        client.as_str().unwrap().starts_with("anvil/"),
        "Hardhat's helpers look for this: {client}"
    );
    let info = ask(&chain, "anvil_nodeInfo", json!([]));
    assert_eq!(
        (&info["environment"]["chainId"], &info["currentBlockNumber"]),
        (&json!(31337), &json!("0x2"))
    );
    chain.snapshot().unwrap();
    let metadata = ask(&chain, "hardhat_metadata", json!([]));
    assert_eq!(metadata["snapshots"], json!({ "0x1": [2, head(&chain).hash_slow()] }));
    assert_eq!(metadata["instanceId"], ask(&chain, "anvil_metadata", json!([]))["instanceId"]);
}

#[test]
fn a_reset_leaves_nothing_but_the_first_block() {
    let (chain, _) = chain();
    let genesis = chain.block(0.into()).unwrap().unwrap().hash;
    let instance = ask(&chain, "hardhat_metadata", json!([]))["instanceId"].clone();
    let first = transaction(&chain, 0, TxKind::Call(Address::ZERO), Bytes::new());
    let hash = chain.send_raw_transaction(&raw(&chain, 0, first.clone())).unwrap();
    let blocks = ask(&chain, "eth_newBlockFilter", json!([]));
    chain.set_balance(account(&chain, 3), U256::ZERO).unwrap();
    let id = chain.snapshot().unwrap();
    chain.set_coinbase(Address::repeat_byte(1)).unwrap();
    chain.increase_time(10_000).unwrap();
    chain.set_automine(false).unwrap();
    chain.impersonate_all(true).unwrap();
    chain.send_transaction(call_to(Address::ZERO, Bytes::new())).unwrap();
    for (method, options) in [
        ("hardhat_reset", json!([])),
        ("anvil_reset", json!([{ "forking": { "blockNumber": null } }])),
    ] {
        chain.mine(3).unwrap();
        ask(&chain, method, options);
        assert_eq!(chain.block_number().unwrap(), 0);
    }
    assert!(chain.mined_transaction(&hash).unwrap().is_none());
    assert!(!chain.revert(id).unwrap());
    assert!(chain.automine().unwrap());
    assert_eq!(
        ask(&chain, "txpool_status", json!([])),
        json!({ "pending": "0x0", "queued": "0x0" })
    );
    assert!(!chain.balance(account(&chain, 3), BlockId::latest()).unwrap().is_zero());
    let foreign = TransactionRequest {
        from: Some(Address::repeat_byte(9)),
        ..call_to(Address::ZERO, Bytes::new())
    };
    assert!(matches!(chain.send_transaction(foreign), Err(NodeError::UnknownAccount(_))));
    assert_eq!(
        chain.send_raw_transaction(&raw(&chain, 0, first)).unwrap(),
        hash,
        "what happened can happen again"
    );
    let block = head(&chain);
    assert_eq!(
        (block.parent_hash, block.timestamp, block.beneficiary),
        (genesis, START, Address::ZERO)
    );
    assert_eq!(
        ask(&chain, "eth_getFilterChanges", json!([blocks])),
        json!([block.hash_slow()]),
        "filters go on with the new blocks"
    );
    assert_ne!(ask(&chain, "hardhat_metadata", json!([]))["instanceId"], instance);
    let fork = json!([{ "forking": { "jsonRpcUrl": "http://localhost:1" } }]);
    assert_eq!(chain.rpc_call("hardhat_reset", fork).unwrap_err().code(), -32602);
}

#[test]
fn a_dumped_state_can_be_loaded_elsewhere() {
    let (chain, _) = chain();
    let register = deploy(&chain, &REGISTER);
    chain.send_transaction(call_to(register, word(5))).unwrap();
    let dump = ask(&chain, "anvil_dumpState", json!([]));
    let (other, _) = crate::support::chain();
    other.set_balance(Address::repeat_byte(3), U256::from(7)).unwrap();
    assert_eq!(ask(&other, "anvil_loadState", json!([dump])), true);
    assert_eq!(other.call(&call_to(register, Bytes::new()), BlockId::latest()).unwrap(), word(5));
    assert_eq!(other.nonce(account(&other, 0), BlockId::latest()).unwrap(), 2);
    assert_eq!(
        other.balance(Address::repeat_byte(3), BlockId::latest()).unwrap(),
        U256::from(7),
        "others stay"
    );
    other.set_balance(Address::repeat_byte(3), U256::ZERO).unwrap();
    other.mine(1).unwrap();
    assert_eq!(head(&other).state_root, head(&chain).state_root);
    for bad in [json!(["0x1f8b08"]), json!(["0x7b7d"]), json!(["0x"]), json!([])] {
        assert_eq!(other.rpc_call("anvil_loadState", bad).unwrap_err().code(), -32602);
    }
    assert_eq!(chain.rpc_call("anvil_dumpState", json!([true])).unwrap_err().code(), -32602);
}

#[test]
fn waiting_transactions_are_shown_and_dropped() {
    let (chain, _) = chain();
    chain.set_automine(false).unwrap();
    let from = account(&chain, 0);
    let send = |nonce: u64| {
        let sent = transaction(&chain, nonce, TxKind::Call(Address::repeat_byte(1)), Bytes::new());
        chain.send_raw_transaction(&raw(&chain, 0, sent)).unwrap()
    };
    let (first, queued) = (send(0), send(5));
    let inspected = ask(&chain, "txpool_inspect", json!([]));
    assert_eq!(
        inspected["pending"][from.to_string()]["0"],
        "0x0101010101010101010101010101010101010101: 0 wei + 1000000 gas × 10000000000 wei"
    );
    let content = ask(&chain, "txpool_contentFrom", json!([from]));
    assert_eq!(
        (&content["pending"]["0"]["hash"], &content["queued"]["5"]["hash"]),
        (&json!(first), &json!(queued))
    );
    assert_eq!(
        ask(&chain, "txpool_contentFrom", json!([Address::ZERO])),
        json!({ "pending": {}, "queued": {} })
    );
    assert_eq!(ask(&chain, "eth_pendingTransactions", json!([]))[0]["hash"], json!(first));
    let by_nonce = |nonce: &str| ask(&chain, "eth_getTransactionBySenderAndNonce", json!([from, nonce]));
    assert_eq!(by_nonce("0x5")["hash"], json!(queued));
    assert_eq!(ask(&chain, "anvil_dropTransaction", json!([queued])), json!(queued));
    assert_eq!(ask(&chain, "anvil_dropTransaction", json!([queued])), Value::Null);
    assert_eq!(ask(&chain, "hardhat_dropTransaction", json!([queued])), false);
    send(6);
    ask(&chain, "anvil_removePoolTransactions", json!([Address::ZERO]));
    assert_eq!(
        ask(&chain, "txpool_status", json!([])),
        json!({ "pending": "0x1", "queued": "0x1" })
    );
    ask(&chain, "anvil_removePoolTransactions", json!([from]));
    send(0);
    send(1);
    ask(&chain, "anvil_dropAllTransactions", json!([]));
    assert_eq!(
        ask(&chain, "txpool_status", json!([])),
        json!({ "pending": "0x0", "queued": "0x0" })
    );
    let again = send(0);
    chain.mine(1).unwrap();
    let mined: Transaction = serde_json::from_value(by_nonce("0x0")).unwrap();
    assert_eq!((mined.block_number, *mined.inner.tx_hash()), (Some(1), again));
    assert_eq!(by_nonce("0x1"), Value::Null);
}

#[test]
fn transactions_can_be_sent_without_a_signature_or_with_their_receipt() {
    let (chain, _) = chain();
    let somebody = Address::repeat_byte(0x42);
    chain.set_balance(somebody, U256::from(10u64.pow(18))).unwrap();
    let hash = ask(
        &chain,
        "eth_sendUnsignedTransaction",
        json!([{ "from": somebody, "to": Address::ZERO }]),
    );
    assert_eq!(ask(&chain, "eth_getTransactionReceipt", json!([hash]))["from"], json!(somebody));
    let receipt = ask(&chain, "eth_sendTransactionSync", json!([{ "to": Address::ZERO }, 1000]));
    assert_eq!((&receipt["blockNumber"], &receipt["status"]), (&json!("0x2"), &json!("0x1")));
    chain.set_automine(false).unwrap();
    let waiting = chain.rpc_call("eth_sendTransactionSync", json!([{ "to": Address::ZERO }]));
    assert!(matches!(waiting, Err(NodeError::TimedOut)));
    for (method, block) in [
        ("eth_getHeaderByNumber", json!("latest")),
        ("eth_getHeaderByHash", json!(head(&chain).hash_slow())),
    ] {
        let header: Header = serde_json::from_value(ask(&chain, method, json!([block]))).unwrap();
        assert_eq!((header.number, header.inner.hash_slow()), (2, header.hash));
    }
    assert_eq!(ask(&chain, "eth_getHeaderByNumber", json!(["0x99"])), Value::Null);
}

#[test]
fn mining_takes_its_options_in_every_form() {
    let (chain, _) = chain();
    let blocks = ask(&chain, "evm_mine_detailed", json!([{ "blocks": 3, "timestamp": START + 7 }]));
    assert_eq!(
        blocks
            .as_array()
            .unwrap()
            .iter()
            .map(|block| block["number"].clone())
            .collect::<Vec<_>>(),
        ["0x1", "0x2", "0x3"]
    );
    assert_eq!(blocks[0]["timestamp"], json!(format!("{:#x}", START + 7)));
    ask(&chain, "evm_mine", json!([{ "blocks": "0x2" }]));
    ask(&chain, "evm_mine", json!([START + 50]));
    assert_eq!((head(&chain).number, head(&chain).timestamp), (6, START + 50));
    assert_eq!(ask(&chain, "evm_setTime", json!([START + 80])), 30);
    assert_eq!(
        chain.rpc_call("evm_mine", json!([{ "blocks": 1_000_000 }])).unwrap_err().code(),
        -32005
    );
    chain.rpc_call("anvil_reorg", json!({ "depth": 2, "tx_block_pairs": [] })).unwrap();
    assert_eq!(head(&chain).number, 6);
}

async fn next_block(events: &mut Receiver<cipherloom_node::ChainEvent>) -> u64 {
    loop {
        if let cipherloom_node::ChainEventKind::NewBlock(block) = &*events.recv().await.unwrap().kind {
            return block.header.number;
        }
    }
}

#[tokio::test]
async fn blocks_come_by_themselves_for_as_long_as_wanted() {
    let node = DevChain::start(DevChainConfig::default()).await.unwrap();
    let chain = node.chain();
    let mut events = chain.subscribe();
    ask(chain, "evm_setAutomine", json!([false]));
    let hash = chain.send_transaction(call_to(Address::ZERO, Bytes::new())).unwrap();
    ask(chain, "evm_setIntervalMining", json!([[100, 120]]));
    assert_eq!((next_block(&mut events).await, next_block(&mut events).await), (1, 2));
    assert_eq!(chain.mined_transaction(&hash).unwrap().unwrap().0.header.number, 1);
    assert_eq!(ask(chain, "hardhat_getIntervalMining", json!([])), 100);
    ask(chain, "anvil_setIntervalMining", json!([3600]));
    assert_eq!(ask(chain, "anvil_getIntervalMining", json!([])), 3600);
    assert_eq!(ask(chain, "anvil_getAutomine", json!([])), false);
    ask(chain, "evm_setIntervalMining", json!([100]));
    let before = chain.block_number().unwrap();
    assert!(
        next_block(&mut events).await <= before + 1,
        "a new pause replaces a long one at once"
    );
    ask(chain, "hardhat_reset", json!([]));
    assert_eq!(chain.interval_mining(), None);
    ask(chain, "evm_setIntervalMining", json!([0]));
    for bad in [json!([5]), json!([[200, 100]]), json!([[100]]), json!(["soon"]), json!([])] {
        assert_eq!(chain.rpc_call("evm_setIntervalMining", bad).unwrap_err().code(), -32602);
    }
    node.shutdown().await;
}

#[test]
fn a_chain_without_a_server_says_that_it_cannot_wait() {
    let (chain, _) = chain();
    let interval = MiningInterval {
        least_ms: 1000,
        most_ms: 1000,
    };
    assert!(matches!(
        chain.set_interval_mining(Some(interval)),
        Err(NodeError::InvalidParams(_))
    ));
    chain.set_interval_mining(None).unwrap();
}
