//! Making and judging blocks.

use std::sync::atomic::Ordering;
use std::time::Duration;

use alloy::consensus::{Block, Header, TxEnvelope};
use alloy::primitives::{Address, B256, Bytes};
use alloy::rlp::Decodable;
use cipherloom_node::NodeError;
use cipherloom_node::native::{Verdict, fhe_gas};
use cipherloom_primitives::{FheType, Operation};
use serde_json::json;
use tokio::time::Instant;

use crate::program::{Program, byte};
use crate::world::{LATEST, Node, START, World, soon};

/// `(7 + 8) - 1`, of which only the last result is stored.
fn sum(slot: u64) -> Program {
    let mut program = Program::new();
    let (left, right) = (program.value(7, FheType::Uint32), program.value(8, FheType::Uint32));
    let sum = program.operation(Operation::Add, &[left, right, byte(0)]);
    let less = program.operation(Operation::Sub, &[sum, 1.into(), byte(1)]);
    program.store(slot, less);
    program
}

type Change = fn(&mut Header);

fn decode(bytes: &Bytes) -> Block<TxEnvelope> {
    Block::decode(&mut bytes.as_ref()).unwrap()
}

fn changed(bytes: &Bytes, change: impl FnOnce(&mut Header)) -> Bytes {
    let mut block = decode(bytes);
    change(&mut block.header);
    alloy::rlp::encode(block).into()
}

/// What a node says of a block, in words; nothing if it is valid.
async fn judged(world: &World, node: &Node, bytes: Bytes) -> Option<String> {
    let height = node.height() + 1;
    let proposer = world.proposer(height);
    match node.chain.validate(height, 0, proposer, bytes, soon()).await.unwrap() {
        Verdict::Valid { .. } => None,
        Verdict::Invalid(reason) => Some(reason),
    }
}

#[tokio::test]
async fn validators_come_to_the_same_block_and_what_was_stored_is_in_state() {
    let world = World::new();
    let (one, other) = (world.node(), world.node());
    let sent = world.run(&one, 0, &sum(1));
    world.decide(&[&one, &other]).await;
    assert!(one.succeeded(sent) && other.succeeded(sent));
    assert_eq!(one.hash(), other.hash());
    let handle = one.stored(1);
    let work = one.executor.asked.lock().unwrap()[0].clone();
    assert_eq!((work.number, work.outputs.clone()), (1, vec![handle]));
    let bytes = other.ciphertext(handle).unwrap();
    assert_eq!(bytes.len(), 32, "as the executor of these tests makes values of 32 bits");
    for computation in &work.computations {
        assert_eq!(one.ciphertext(computation.result).is_some(), computation.result == handle);
    }
    let header = one.chain.block(LATEST).unwrap().unwrap().header.clone();
    assert_eq!(header.extra_data.as_ref(), one.chain.validators_at(2).unwrap().digest().as_slice());
    assert_eq!(header.beneficiary, world.proposer(1));
}

#[tokio::test]
async fn a_block_that_differs_anywhere_is_invalid() {
    let world = World::new();
    let (one, other) = (world.node(), world.node());
    world.run(&one, 0, &sum(1));
    let (_, proposed) = world.propose(&one).await;
    let cases: [(&str, Change); 14] = [
        ("state root", |header| header.state_root.0[0] ^= 1),
        ("receipts root", |header| header.receipts_root.0[0] ^= 1),
        ("transactions root", |header| header.transactions_root.0[0] ^= 1),
        ("extra data", |header| header.extra_data = Bytes::from(vec![1; 32])),
        ("extra data", |header| header.extra_data = Bytes::new()),
        ("gas used", |header| header.gas_used += 1),
        ("prevrandao", |header| header.mix_hash.0[0] ^= 1),
        ("other fields", |header| header.difficulty += alloy::primitives::U256::from(1)),
        ("beneficiary", |header| header.beneficiary = Address::ZERO),
        ("number", |header| header.number += 1),
        ("parent", |header| header.parent_hash.0[0] ^= 1),
        ("timestamp", |header| header.timestamp = START),
        ("too far in the future", |header| header.timestamp += 16),
        ("base fee", |header| header.base_fee_per_gas = Some(7)),
    ];
    for (words, change) in cases {
        let reason = judged(&world, &other, changed(&proposed.bytes, change)).await;
        assert!(reason.as_ref().is_some_and(|reason| reason.contains(words)), "{words}: {reason:?}");
    }
    let limit = judged(&world, &other, changed(&proposed.bytes, |header| header.gas_limit += 1)).await;
    assert!(limit.unwrap().contains("gas limit"));
    let mut twice = decode(&proposed.bytes);
    twice.body.transactions.push(twice.body.transactions[0].clone());
    let reason = judged(&world, &other, alloy::rlp::encode(&twice).into()).await.unwrap();
    assert!(reason.contains("nonce too low"), "{reason}");
    for garbage in [Bytes::new(), Bytes::from_static(b"block"), proposed.bytes.slice(1..)] {
        assert!(judged(&world, &other, garbage).await.is_some());
    }
    assert_eq!(judged(&world, &other, proposed.bytes).await, None);
}

#[tokio::test]
async fn one_wrong_bit_of_a_proposers_ciphertext_makes_its_block_invalid() {
    let world = World::new();
    let (liar, honest) = (world.node(), world.node());
    liar.executor.wrong.store(true, Ordering::SeqCst);
    world.run(&liar, 0, &sum(1));
    let (_, proposed) = world.propose(&liar).await;
    let reason = judged(&world, &honest, proposed.bytes).await.unwrap();
    assert!(reason.ends_with("different are: state root"), "{reason}");
}

#[tokio::test]
async fn an_executor_that_is_away_is_asked_again_and_nobody_makes_a_block_without_it() {
    let world = World::new();
    let (one, other) = (world.node(), world.node());
    world.run(&one, 0, &sum(1));
    one.executor.away.store(2, Ordering::SeqCst);
    let (height, proposed) = world.propose(&one).await;
    assert_eq!(one.asked(), 1);
    let other = other.without_executor();
    let deadline = Instant::now() + Duration::from_millis(300);
    let judged = other
        .chain
        .validate(height, 0, world.proposer(height), proposed.bytes.clone(), deadline)
        .await;
    assert!(matches!(judged, Err(NodeError::ExecutorUnavailable(reason)) if reason.contains("switched off")));
    let certificate = world.certificate(&other, height, proposed.hash);
    let committed = other.chain.commit(proposed.hash, certificate).await;
    assert!(matches!(committed, Err(NodeError::UnknownCandidate(hash)) if hash == proposed.hash));
    other.executor.away.store(0, Ordering::SeqCst);
    let verdict = other
        .chain
        .validate(height, 1, world.proposer(height), proposed.bytes, soon())
        .await
        .unwrap();
    assert_eq!(verdict, Verdict::Valid { hash: proposed.hash });
}

#[tokio::test]
async fn empty_blocks_need_no_executor() {
    let world = World::new();
    let node = world.node().without_executor();
    for height in 1..=3 {
        world.decide(&[&node]).await;
        assert_eq!(node.height(), height);
    }
}

#[tokio::test]
async fn only_certified_candidates_are_committed_and_only_once() {
    let world = World::new();
    let node = world.node();
    let (height, proposed) = world.propose(&node).await;
    let (hash, all) = (proposed.hash, world.certificate(&node, height, proposed.hash));
    let mut other_height = all.clone();
    other_height.height += 1;
    let bad = [
        world.certificate_by(&world.keys[..2], &node, height, hash),
        world.certificate(&node, height, B256::repeat_byte(1)),
        other_height,
    ];
    for certificate in bad {
        let refused = node.chain.commit(hash, certificate).await;
        assert!(matches!(refused, Err(NodeError::BlockRefused(_))), "{refused:?}");
    }
    assert_eq!(node.height(), 0);
    let three = world.certificate_by(&world.keys[..3], &node, height, hash);
    node.chain.commit(hash, three.clone()).await.unwrap();
    node.chain.commit(hash, all).await.unwrap();
    assert_eq!((node.height(), node.hash()), (1, hash));
    assert_eq!(node.chain.certificate(1).unwrap(), Some(three), "the first certificate stays");
}

#[tokio::test]
async fn blocks_that_come_faster_than_seconds_do_not_run_away_from_the_clock() {
    let world = World::new();
    let node = world.node();
    let propose = async |height: u64, deadline: Instant| {
        let proposed = node.chain.propose(height, 0, world.proposer(height), deadline).await.unwrap();
        let certificate = world.certificate(&node, height, proposed.hash);
        node.chain.commit(proposed.hash, certificate).await.unwrap();
        decode(&proposed.bytes).header.timestamp
    };
    for height in 1..=5 {
        assert_eq!(propose(height, soon()).await, START + height);
    }
    let clock = std::sync::Arc::clone(&world.clock);
    let later = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        clock.set(START + 1);
    });
    let before = Instant::now();
    assert_eq!(propose(6, soon()).await, START + 6);
    assert!(before.elapsed() >= Duration::from_millis(150), "it waited for the clock");
    later.await.unwrap();
}

#[tokio::test]
async fn heights_other_than_the_next_are_not_known_yet() {
    let world = World::new();
    let node = world.node();
    for height in [0, 2] {
        let proposed = node.chain.propose(height, 0, world.proposer(height), soon()).await;
        assert!(matches!(proposed, Err(NodeError::UnknownBlock(_))), "{proposed:?}");
    }
    assert!(node.chain.validators_at(1).is_ok());
    assert!(matches!(node.chain.validators_at(2), Err(NodeError::UnknownBlock(_))));
    assert!(matches!(node.chain.validators_at(0), Err(NodeError::UnknownBlock(_))));
}

#[tokio::test]
async fn fhe_gas_bounds_a_block_and_the_rest_waits() {
    let needed = {
        let world = World::new();
        let node = world.node();
        world.run(&node, 0, &sum(1));
        world.propose(&node).await;
        let work = node.executor.asked.lock().unwrap()[0].clone();
        fhe_gas(work.computations.iter(), 0, 1)
    };
    // Two of these scripts fit, and one of five never does.
    let world = World::with(4, 2 * needed + needed / 2);
    let (one, other) = (world.node(), world.node());
    let sent = (0..3).map(|user| world.run(&one, user, &sum(7 + user as u64))).collect::<Vec<_>>();
    let mut large = Program::new();
    for slot in 20..25 {
        let value = large.value(slot, FheType::Uint32);
        let sum = large.operation(Operation::Add, &[value, 1.into(), byte(1)]);
        let less = large.operation(Operation::Sub, &[sum, 1.into(), byte(1)]);
        large.store(slot, less);
    }
    let large = world.run(&one, 3, &large);
    let first = world.decide(&[&one, &other]).await;
    assert!(
        one.chain.rpc_call("eth_getTransactionByHash", json!([large])).unwrap().is_null(),
        "it can never be mined"
    );
    let second = world.decide(&[&one, &other]).await;
    assert_eq!(decode(&first.block).body.transactions.len(), 2);
    assert_eq!(decode(&second.block).body.transactions.len(), 1);
    assert!(sent.iter().all(|hash| one.succeeded(*hash)));
    // A proposer that does not care is refused.
    let fresh = world.node();
    let mut greedy = decode(&first.block);
    greedy.body.transactions.extend(decode(&second.block).body.transactions);
    let reason = judged(&world, &fresh, alloy::rlp::encode(&greedy).into()).await.unwrap();
    assert!(reason.contains("FHE gas"), "{reason}");
}
