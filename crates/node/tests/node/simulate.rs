//! Access lists and simulated blocks.

use alloy::consensus::Header;
use alloy::eips::BlockId;
use alloy::primitives::{Address, B256, Bytes, U256, address, bytes, keccak256};
use alloy::rpc::types::simulate::SimulatedBlock;
use alloy::rpc::types::{AccessListResult, Log, TransactionRequest};
use cipherloom_node::DevChain;
use serde_json::{Value, json};

use crate::support::*;

/// Passes the value of the call on to the address in the call data, and returns 1 if that succeeded.
const FORWARDER: Bytes = bytes!("5f5f5f5f345f355af15f5260205ff3");

/// What stands for ether in the logs of transfers.
const ETHER: Address = address!("EeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE");

fn ask(chain: &DevChain, method: &str, params: Value) -> Value {
    chain.rpc_call(method, params).unwrap_or_else(|error| panic!("{method}: {error}"))
}

fn simulate(chain: &DevChain, payload: Value) -> Vec<SimulatedBlock> {
    serde_json::from_value(ask(chain, "eth_simulateV1", json!([payload, "latest"]))).unwrap()
}

fn refusal(chain: &DevChain, payload: Value) -> i64 {
    chain.rpc_call("eth_simulateV1", json!([payload, "latest"])).unwrap_err().code()
}

fn through(to: Address, input: &Bytes) -> Bytes {
    [to.into_word().to_vec(), input.to_vec()].concat().into()
}

#[test]
fn an_access_list_names_what_is_touched_and_costs_what_it_says() {
    let (chain, _) = chain();
    let (caller, register) = (deploy(&chain, &CALLER), deploy(&chain, &REGISTER));
    let call = call_to(caller, through(register, &word(5)));
    let answer: AccessListResult = serde_json::from_value(ask(&chain, "eth_createAccessList", json!([call]))).unwrap();
    assert_eq!(answer.error, None);
    assert_eq!(
        json!(answer.access_list),
        json!([{ "address": register, "storageKeys": [B256::ZERO] }]),
        "neither sender nor recipient"
    );
    let sent = TransactionRequest {
        access_list: Some(answer.access_list),
        gas: Some(200_000),
        ..call
    };
    let hash = chain.send_transaction(sent).unwrap();
    let (block, index) = chain.mined_transaction(&hash).unwrap().unwrap();
    assert_eq!(U256::from(block.receipts[index].gas_used), answer.gas_used);

    let own_slot = json!([{ "to": register, "data": word(6) }, "latest"]);
    let answer = ask(&chain, "eth_createAccessList", own_slot);
    assert_eq!(answer["accessList"][0]["address"], json!(register), "slots of the recipient count");
    let transfer = json!([{ "to": Address::repeat_byte(9), "value": "0x0" }]);
    assert_eq!(ask(&chain, "eth_createAccessList", transfer)["accessList"], json!([]));
}

#[test]
fn an_access_list_of_a_failing_call_comes_with_the_reason() {
    let (chain, _) = chain();
    let (caller, reverter) = (deploy(&chain, &CALLER), deploy(&chain, &reverter()));
    let answer = ask(&chain, "eth_createAccessList", json!([{ "to": reverter }]));
    assert_eq!(answer["error"], "execution reverted: nope");
    let inner = ask(
        &chain,
        "eth_createAccessList",
        json!([{ "to": caller, "data": through(reverter, &Bytes::new()) }]),
    );
    assert!(inner.get("error").is_none());
    assert_eq!(
        inner["accessList"][0]["address"],
        json!(reverter),
        "what reverted was touched as well"
    );
    assert_eq!(chain.rpc_call("eth_createAccessList", json!([])).unwrap_err().code(), -32602);
}

#[test]
fn simulated_blocks_build_on_each_other_and_leave_the_chain_alone() {
    let (chain, _) = chain();
    let register = deploy(&chain, &REGISTER);
    let head = chain.block(BlockId::latest()).unwrap().unwrap();
    let rich = Address::repeat_byte(0x0a);
    let blocks = simulate(
        &chain,
        json!({
            "blockStateCalls": [
                {
                    "stateOverrides": { rich.to_string(): { "balance": "0x10" } },
                    "calls": [
                        { "from": rich, "to": Address::repeat_byte(0x0b), "value": "0x6" },
                        { "to": register, "input": word(77) },
                    ],
                },
                {
                    "blockOverrides": { "number": "0x4", "time": U256::from(head.header.timestamp + 1000) },
                    "calls": [{ "to": register }, { "to": register, "input": "0x01" }],
                },
            ],
            "returnFullTransactions": true,
        }),
    );
    assert_eq!(
        blocks.iter().map(|block| block.inner.header.number).collect::<Vec<_>>(),
        [2, 3, 4],
        "the gap is filled"
    );
    assert_eq!(blocks[0].inner.header.parent_hash, head.hash);
    for pair in blocks.windows(2) {
        assert_eq!(pair[1].inner.header.parent_hash, pair[0].inner.header.hash);
        let header: &Header = &pair[0].inner.header.inner;
        assert_eq!(header.hash_slow(), pair[0].inner.header.hash);
    }
    assert_eq!(blocks[0].inner.header.timestamp, head.header.timestamp + 12);
    assert_eq!(blocks[2].inner.header.timestamp, head.header.timestamp + 1000);
    assert_eq!(blocks[0].inner.transactions.as_transactions().unwrap()[0].inner.signer(), rich);
    let stored: &Log = &blocks[0].calls[1].logs[0];
    assert_eq!(
        (stored.address(), stored.block_number, stored.log_index),
        (register, Some(2), Some(0))
    );
    assert_eq!(blocks[2].calls[0].return_data, word(77));
    assert!(
        blocks
            .iter()
            .flat_map(|block| &block.calls)
            .all(|call| call.status && call.error.is_none())
    );
    assert_eq!(chain.block_number().unwrap(), 1);
    assert_eq!(chain.storage(register, U256::ZERO, BlockId::latest()).unwrap(), U256::ZERO);
}

#[test]
fn simulated_failures_are_results() {
    let (chain, _) = chain();
    let (reverter, endless) = (deploy(&chain, &reverter()), deploy(&chain, &ENDLESS));
    let calls = json!([{ "to": reverter }, { "to": endless, "gas": "0x186a0" }, { "to": Address::repeat_byte(1) }]);
    let blocks = simulate(&chain, json!({ "blockStateCalls": [{ "calls": calls }] }));
    let calls = &blocks[0].calls;
    let error = |index: usize| calls[index].error.as_ref().map(|error| (error.code, error.message.as_str()));
    assert_eq!(error(0), Some((3, "execution reverted: nope")));
    assert_eq!(calls[0].return_data, calls[0].error.as_ref().unwrap().data.clone().unwrap());
    assert_eq!(error(1), Some((-32015, "out of gas")));
    assert_eq!((calls[0].status, calls[1].status, calls[2].status), (false, false, true));
    assert_eq!(calls[1].gas_used, 100_000);
}

#[test]
fn transfers_are_logged_where_they_happen_if_asked_for() {
    let (chain, _) = chain();
    let register = deploy(&chain, &REGISTER);
    let (from, to) = (account(&chain, 0), Address::repeat_byte(0x0b));
    let (forwarder, failing) = (Address::repeat_byte(0xf0), Address::repeat_byte(0xf1));
    let payload = |trace: bool| {
        json!({
            "blockStateCalls": [{
                "stateOverrides": { forwarder.to_string(): { "code": FORWARDER }, failing.to_string(): { "code": reverter() } },
                "calls": [
                    { "from": from, "to": forwarder, "value": "0x5", "input": to.into_word() },
                    { "from": from, "to": register, "input": word(1) },
                    { "from": from, "to": failing, "value": "0x7" },
                    { "from": from, "value": "0x8", "input": "0x" },
                ],
            }],
            "traceTransfers": trace,
        })
    };
    let plain = simulate(&chain, payload(false));
    assert_eq!(plain[0].calls.iter().map(|call| call.logs.len()).collect::<Vec<_>>(), [0, 1, 0, 0]);
    let traced = simulate(&chain, payload(true));
    let calls = &traced[0].calls;
    assert_eq!(calls.iter().map(|call| call.logs.len()).collect::<Vec<_>>(), [2, 1, 0, 1]);
    let transfer = |log: &Log| {
        assert_eq!(
            (log.address(), log.topics()[0]),
            (ETHER, keccak256("Transfer(address,address,uint256)"))
        );
        (
            Address::from_word(log.topics()[1]),
            Address::from_word(log.topics()[2]),
            U256::from_be_slice(&log.inner.data.data),
        )
    };
    assert_eq!(transfer(&calls[0].logs[0]), (from, forwarder, U256::from(5)));
    assert_eq!(transfer(&calls[0].logs[1]), (forwarder, to, U256::from(5)));
    assert_eq!(calls[1].logs[0].address(), register);
    assert!(!calls[2].status);
    let created = from.create(chain.nonce(from, BlockId::latest()).unwrap() + 3);
    assert_eq!(transfer(&calls[3].logs[0]), (from, created, U256::from(8)));
}

#[test]
fn impossible_simulations_have_the_codes_of_the_specification() {
    let (chain, _) = chain();
    chain.mine(3).unwrap();
    let from = account(&chain, 0);
    let block = |overrides: Value, calls: Value| json!({ "blockOverrides": overrides, "calls": calls });
    let blocks = |blocks: Value| json!({ "blockStateCalls": blocks });
    let validated = |call: Value| json!({ "blockStateCalls": [{ "calls": [call] }], "validation": true });
    assert_eq!(
        refusal(&chain, blocks(json!([block(json!({ "number": "0x2" }), json!([]))]))),
        -38020
    );
    assert_eq!(refusal(&chain, blocks(json!([block(json!({ "time": "0x1" }), json!([]))]))), -38021);
    assert_eq!(
        refusal(&chain, blocks(json!([block(json!({ "number": "0xffff" }), json!([]))]))),
        -38026
    );
    assert_eq!(
        refusal(&chain, blocks(json!([block(json!({}), json!([{ "gas": "0xffffffffff" }]))]))),
        -38015
    );
    let poor = json!([{ "from": Address::repeat_byte(5), "to": from, "value": "0x1" }]);
    assert_eq!(refusal(&chain, blocks(json!([block(json!({}), poor)]))), -38014);
    let fees = json!({ "from": from, "to": from, "gas": "0x5208", "maxFeePerGas": "0x77359400" });
    assert_eq!(simulate(&chain, validated(fees.clone()))[0].calls[0].gas_used, 21_000);
    let with = |name: &str, value: &str| {
        let mut call = fees.clone();
        call[name] = json!(value);
        call
    };
    chain.send_transaction(call_to(from, Bytes::new())).unwrap();
    assert_eq!(refusal(&chain, validated(with("nonce", "0x0"))), -38010);
    assert_eq!(refusal(&chain, validated(with("maxFeePerGas", "0x1"))), -38012);
    let unvalidated = json!([block(json!({}), json!([with("nonce", "0x0"), with("maxFeePerGas", "0x1")]))]);
    assert_eq!(
        simulate(&chain, blocks(unvalidated))[0].calls.len(),
        2,
        "without validation neither matters"
    );
    assert_eq!(refusal(&chain, json!({ "blockStateCalls": 5 })), -32602);
}
