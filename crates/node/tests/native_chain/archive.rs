//! Blocks that have left memory: what is answered about them is what was answered before.

use std::path::Path;

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope, TxLegacy};
use alloy::eips::{BlockId, Encodable2718};
use alloy::primitives::{B256, Bytes, TxKind};
use alloy::signers::SignerSync;
use cipherloom_node::NodeError;
use cipherloom_primitives::FheType;
use serde_json::{Value, json};

use crate::program::Program;
use crate::replay::{Numbers, traffic};
use crate::states::{grow, image, remove};
use crate::world::{CHAIN, GAS, Node, STORE, World};

/// Blocks that the small nodes of these tests keep.
const WINDOW: usize = 3;

/// Sends a transaction of the old kind and one that makes a contract.
fn send_others(world: &World, node: &Node) {
    let user = &world.users[3];
    let nonce = node.chain.nonce(user.address(), BlockId::pending()).unwrap();
    let legacy = TxLegacy {
        chain_id: Some(CHAIN),
        nonce,
        gas_price: 3_000_000_000,
        gas_limit: GAS,
        to: TxKind::Call(STORE),
        input: Bytes::from(vec![7; 64]),
        ..TxLegacy::default()
    };
    let signature = user.sign_hash_sync(&legacy.signature_hash()).unwrap();
    let legacy = TxEnvelope::from(legacy.into_signed(signature));
    let creation = TxEip1559 {
        chain_id: CHAIN,
        nonce: nonce + 1,
        gas_limit: GAS,
        max_fee_per_gas: 100_000_000_000,
        max_priority_fee_per_gas: 2_000_000_000,
        to: TxKind::Create,
        // log1(0, 32, 7), and a contract without code.
        input: Bytes::from_static(&[0x60, 0x07, 0x60, 0x20, 0x5f, 0xa1, 0x00]),
        ..TxEip1559::default()
    };
    let signature = user.sign_hash_sync(&creation.signature_hash()).unwrap();
    let creation = TxEnvelope::from(creation.into_signed(signature));
    for envelope in [legacy, creation] {
        node.chain.send_raw_transaction(&envelope.encoded_2718()).unwrap();
    }
}

fn ask(node: &Node, method: &str, params: Value) -> Value {
    node.chain
        .rpc_call(method, params.clone())
        .unwrap_or_else(|error| panic!("{method} {params}: {error}"))
}

fn quantity(number: u64) -> Value {
    json!(format!("{number:#x}"))
}

/// Everything that can be asked of the blocks up to `head`, with the answers. States are another matter.
fn answers(node: &Node, head: u64) -> Vec<(String, Value)> {
    let mut answers = Vec::new();
    let mut note = |method: &str, params: Value| {
        let answer = ask(node, method, params.clone());
        answers.push((format!("{method} {params}"), answer.clone()));
        answer
    };
    let (mut topics, mut addresses) = (Vec::new(), Vec::new());
    for number in 0..=head {
        let id = quantity(number);
        let block = note("eth_getBlockByNumber", json!([id, true]));
        let hash = &block["hash"];
        note("eth_getBlockByNumber", json!([id, false]));
        note("eth_getBlockByHash", json!([hash, true]));
        note("eth_getHeaderByNumber", json!([id]));
        note("eth_getHeaderByHash", json!([hash]));
        note("eth_getBlockTransactionCountByNumber", json!([id]));
        note("eth_getBlockTransactionCountByHash", json!([hash]));
        note("eth_getBlockReceipts", json!([id]));
        note("eth_getBlockReceipts", json!([hash]));
        note("eth_getUncleCountByBlockHash", json!([hash]));
        note("cipherloom_getCertificate", json!([id]));
        if number > 0 {
            note("cipherloom_getValidatorSet", json!([id]));
        }
        let logs = note("eth_getLogs", json!([{ "blockHash": hash }]));
        for log in logs.as_array().unwrap() {
            topics.push(log["topics"][0].clone());
            addresses.push(log["address"].clone());
        }
        for (index, transaction) in block["transactions"].as_array().unwrap().iter().enumerate() {
            let (sent, index) = (&transaction["hash"], quantity(u64::try_from(index).unwrap()));
            note("eth_getTransactionByHash", json!([sent]));
            note("eth_getRawTransactionByHash", json!([sent]));
            note("eth_getTransactionReceipt", json!([sent]));
            note("eth_getTransactionByBlockHashAndIndex", json!([hash, index]));
            note("eth_getTransactionByBlockNumberAndIndex", json!([id, index]));
            note(
                "eth_getTransactionBySenderAndNonce",
                json!([transaction["from"], transaction["nonce"]]),
            );
        }
    }
    for (from, to) in [(0, head), (1, 2), (2, head), (head / 2, head / 2 + 2), (head, head)] {
        let range = |mut filter: Value| {
            let fields = filter.as_object_mut().unwrap();
            fields.extend([("fromBlock".to_owned(), quantity(from)), ("toBlock".to_owned(), quantity(to))]);
            json!([filter])
        };
        note("eth_getLogs", range(json!({})));
        for topic in &topics {
            note("eth_getLogs", range(json!({ "topics": [topic] })));
        }
        note("eth_getLogs", range(json!({ "address": addresses })));
        note("eth_feeHistory", json!([quantity(to - from + 1), quantity(to), [10.0, 50.0, 90.0]]));
    }
    for unknown in [B256::ZERO, B256::repeat_byte(7)] {
        note("eth_getBlockByHash", json!([unknown, true]));
        note("eth_getTransactionByHash", json!([unknown]));
        note("eth_getTransactionReceipt", json!([unknown]));
    }
    note("eth_getTransactionBySenderAndNonce", json!([world_user(), quantity(1000)]));
    note("cipherloom_validatorChanges", json!(["0x0"]));
    answers
}

fn world_user() -> alloy::primitives::Address {
    crate::world::key("user", 0).address()
}

#[track_caller]
fn assert_same(found: &[(String, Value)], expected: &[(String, Value)], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for ((question, found), (_, expected)) in found.iter().zip(expected) {
        assert_eq!(found, expected, "{what}: {question}");
    }
}

/// A node with few blocks in memory, and one with all, after as many blocks of everything.
async fn small_and_large(world: &World, dir: &Path, blocks: u64) -> (Node, Node) {
    let (small, large) = (world.keeping(dir, WINDOW, 5).unwrap(), world.node());
    let mut numbers = Numbers(4);
    for height in 1..=blocks {
        traffic(world, &small, &mut numbers);
        if height % 3 == 1 {
            send_others(world, &small);
            // Something of which there are logs.
            let mut program = Program::new();
            let value = program.value(height, FheType::Uint8);
            program.store(1, value);
            world.run(&small, 1, &program);
        }
        world.decide(&[&small, &large]).await;
        small.chain.wait_for_state();
    }
    (small, large)
}

#[tokio::test]
async fn answers_about_blocks_that_left_memory_are_those_from_before_and_after_a_restart() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let (small, large) = small_and_large(&world, dir.path(), 14).await;
    let expected = answers(&large, 14);
    let logs = expected.iter().filter(|(question, _)| question.starts_with("eth_getLogs"));
    let found = logs.map(|(_, answer)| answer.as_array().unwrap().len()).sum::<usize>();
    assert!(found > 50, "{found} logs");
    let made = |(_, answer): &&(String, Value)| answer.get("contractAddress").is_some_and(Value::is_string);
    assert!(expected.iter().filter(made).count() >= 4);
    assert_same(&answers(&small, 14), &expected, "evicted");

    let left = image(dir.path());
    small.chain.close();
    assert!(matches!(small.chain.block(1.into()), Err(NodeError::ShutDown)));
    assert_eq!(
        small.chain.block(13.into()).unwrap().unwrap().header.number,
        13,
        "reading from memory goes on"
    );
    drop(small);
    for (dir, what) in [(dir.path(), "closed"), (left.path(), "killed")] {
        let again = world.keeping(dir, WINDOW, 5).unwrap();
        assert!(again.chain.restored().state.is_some(), "{what}");
        assert_same(&answers(&again, 14), &expected, what);
        drop(again);
        remove(dir);
        let again = world.keeping(dir, WINDOW, 5).unwrap();
        assert_eq!(again.chain.restored().executed, 14, "{what}");
        assert_same(&answers(&again, 14), &expected, what);
    }
}

#[tokio::test]
async fn states_of_blocks_that_left_memory_are_said_to_be_pruned() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let (small, _) = small_and_large(&world, dir.path(), 9).await;
    let user = world.users[0].address();
    let old = small.chain.block(4.into()).unwrap().unwrap();
    let sent = small.chain.block(1.into()).unwrap().unwrap().transactions[0].hash;
    let hash = json!({ "blockHash": old.hash });
    let calls = [
        ("eth_getBalance", json!([user, "0x4"])),
        ("eth_getBalance", json!([user, hash])),
        ("eth_getStorageAt", json!([STORE, "0x1", hash])),
        ("eth_call", json!([{ "to": STORE }, "0x4"])),
        ("eth_call", json!([{ "to": STORE }, hash])),
        ("eth_getProof", json!([STORE, [], hash])),
        ("eth_simulateV1", json!([{ "blockStateCalls": [{ "calls": [] }] }, "0x4"])),
        ("debug_traceTransaction", json!([sent, { "tracer": "callTracer" }])),
    ];
    for (method, params) in calls {
        let answer = small.chain.rpc_call(method, params.clone());
        assert!(
            matches!(answer, Err(NodeError::StatePruned { oldest: 7, .. })),
            "{method} {params}: {answer:?}"
        );
    }
    let unknown = small
        .chain
        .rpc_call("eth_getBalance", json!([user, { "blockHash": B256::repeat_byte(5) }]));
    assert!(matches!(unknown, Err(NodeError::UnknownBlock(_))), "{unknown:?}");
}

#[tokio::test]
async fn peers_get_blocks_that_left_memory() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let (small, large) = small_and_large(&world, dir.path(), 12).await;
    small.chain.close();
    drop(small);
    let small = world.keeping(dir.path(), WINDOW, 5).unwrap().without_executor();
    let late = world.node().without_executor();
    for number in 1..=12 {
        let decided = small.chain.decided(number).await.unwrap().unwrap();
        assert_eq!(Some(&decided), large.chain.decided(number).await.unwrap().as_ref());
        assert_eq!(small.chain.certificate(number).unwrap(), Some(decided.certificate.clone()));
        // What is there already changes nothing, wherever it is.
        small.chain.apply(decided.clone()).await.unwrap();
        small
            .chain
            .commit(decided.certificate.block_hash, decided.certificate.clone())
            .await
            .unwrap();
        late.chain.apply(decided).await.unwrap();
    }
    assert_eq!(small.chain.decided(13).await.unwrap(), None);
    assert_eq!(small.chain.certificate(13).unwrap(), None);
    assert_eq!((late.hash(), small.hash()), (large.hash(), large.hash()));
}

#[tokio::test]
async fn filters_that_nobody_polled_for_long_report_all() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let nodes = [world.keeping(dir.path(), WINDOW, 5).unwrap(), world.node()];
    let installed = nodes.each_ref().map(|node| {
        let logs = ask(node, "eth_newFilter", json!([{ "fromBlock": "0x2", "toBlock": "0x9" }]));
        [logs, ask(node, "eth_newBlockFilter", json!([]))]
    });
    let mut numbers = Numbers(4);
    for _ in 0..2 {
        for _ in 0..8 {
            traffic(&world, &nodes[0], &mut numbers);
            let mut program = Program::new();
            let value = program.value(3, FheType::Uint8);
            program.store(1, value);
            world.run(&nodes[0], 1, &program);
            world.decide(&[&nodes[0], &nodes[1]]).await;
        }
        for polled in 0..2 {
            for (small, large) in installed[0].iter().zip(&installed[1]) {
                let small = ask(&nodes[0], "eth_getFilterChanges", json!([small]));
                assert_eq!(small, ask(&nodes[1], "eth_getFilterChanges", json!([large])));
                assert_eq!(small.as_array().unwrap().is_empty(), polled == 1, "{small}");
            }
        }
    }
}

#[tokio::test]
async fn a_query_covers_only_so_many_blocks_that_left_memory() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let node = world
        .open_config(Default::default(), Default::default(), |config| {
            config.data_dir = Some(dir.path().to_owned());
            config.limits.state_history_blocks = 2;
            config.limits.old_blocks_per_query = 4;
        })
        .unwrap();
    let filter = ask(&node, "eth_newBlockFilter", json!([]));
    grow(&world, &node, 10, 3).await;
    let logs = |from: u64, to: u64| {
        let filter = json!([{ "fromBlock": quantity(from), "toBlock": quantity(to) }]);
        node.chain.rpc_call("eth_getLogs", filter)
    };
    for (from, to) in [(5, 10), (1, 4), (8, 8), (9, 10)] {
        assert!(logs(from, to).is_ok(), "{from} to {to}");
    }
    for (from, to) in [(4, 10), (1, 5)] {
        assert!(matches!(logs(from, to), Err(NodeError::LimitExceeded(_))), "{from} to {to}");
    }
    let polled = node.chain.rpc_call("eth_getFilterChanges", json!([filter]));
    assert!(matches!(polled, Err(NodeError::LimitExceeded(_))), "{polled:?}");
}

#[tokio::test]
async fn an_index_that_is_missing_or_no_index_is_made_again() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let (small, large) = small_and_large(&world, dir.path(), 11).await;
    let expected = answers(&large, 11);
    small.chain.close();
    drop(small);
    let index = std::fs::read(dir.path().join("index")).unwrap();
    let other = World::with(3, crate::world::FHE_GAS);
    let theirs = tempfile::tempdir().unwrap();
    let node = other.keeping(theirs.path(), WINDOW, 5).unwrap();
    other.decide(&[&node]).await;
    node.chain.close();
    drop(node);
    let theirs = std::fs::read(theirs.path().join("index")).unwrap();
    let mut without_magic = index.clone();
    without_magic[..64].fill(0);
    let zeros = vec![0; index.len()];
    let cases: [(&str, Option<&[u8]>); 7] = [
        ("missing", None),
        ("empty", Some(&[])),
        ("cut", Some(&index[..index.len() / 2])),
        ("cut to a page", Some(&index[..4096])),
        ("zeros", Some(&zeros)),
        ("without its header", Some(&without_magic)),
        ("of another chain", Some(&theirs)),
    ];
    for (what, content) in cases {
        let left = image(dir.path());
        let path = left.path().join("index");
        match content {
            Some(content) => std::fs::write(&path, content).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let node = world.keeping(left.path(), WINDOW, 5).unwrap();
        assert_eq!((node.chain.restored().state, node.chain.restored().executed), (None, 11), "{what}");
        assert_same(&answers(&node, 11), &expected, what);
        // A state is written on the way, so that whoever is interrupted does not begin from the beginning.
        node.chain.wait_for_state();
        assert!(node.chain.last_state_kept().is_some_and(|number| number >= 5), "{what}");
        drop(node);
        let node = world.keeping(left.path(), WINDOW, 5).unwrap();
        assert!(node.chain.restored().executed <= 6, "{what}: it is as good as any");
    }
}

#[tokio::test]
async fn a_damaged_index_gives_no_wrong_answer_and_is_made_again() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let (small, large) = small_and_large(&world, dir.path(), 11).await;
    let expected = answers(&large, 11);
    small.chain.close();
    drop(small);
    let index = std::fs::read(dir.path().join("index")).unwrap();
    let used = (0..index.len()).filter(|at| index[*at] != 0).collect::<Vec<_>>();
    let mut made_again = 0;
    for part in 0..60 {
        let at = used[part * used.len() / 60];
        let mut damaged = index.clone();
        damaged[at] ^= 1 << (part % 8);
        let left = image(dir.path());
        std::fs::write(left.path().join("index"), damaged).unwrap();
        let node = world.keeping(left.path(), WINDOW, 5).unwrap();
        assert_eq!(node.hash(), large.hash(), "byte {at}");
        let mut failed = node.chain.restored().executed == 11;
        for (question, expected) in &expected {
            let (method, params) = question.split_once(' ').unwrap();
            match node.chain.rpc_call(method, serde_json::from_str(params).unwrap()) {
                // A key that was changed is not found.
                Ok(answer) => assert!(answer == *expected || answer.is_null(), "byte {at}: {question}: {answer}"),
                Err(NodeError::IndexDamaged { .. }) => failed = true,
                Err(NodeError::UnknownBlock(_)) if params.contains("blockHash") => {}
                Err(other) => panic!("byte {at}: {question}: {other}"),
            }
        }
        drop(node);
        if failed {
            made_again += 1;
            let node = world.keeping(left.path(), WINDOW, 5).unwrap();
            assert_same(&answers(&node, 11), &expected, &format!("byte {at}"));
        }
    }
    assert!(made_again > 5, "{made_again} of 60 were noticed");
}
