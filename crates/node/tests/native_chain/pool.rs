//! Transactions on their way into blocks.

use alloy::consensus::Transaction;
use alloy::primitives::{Address, Bytes};
use cipherloom_node::native::{NativeChain, NativeConfig};
use cipherloom_node::{Limits, NodeError};

use crate::world::World;

const TO: Address = Address::repeat_byte(0x70);

#[tokio::test]
async fn what_clients_send_is_passed_on_and_what_peers_send_is_not() {
    let world = World::new();
    let (one, other) = (world.node(), world.node());
    let mut sent = one.chain.new_transactions();
    let mut heard = other.chain.new_transactions();
    let raw = world.transaction(1, 0, TO, 5, Bytes::new());
    one.chain.send_raw_transaction(&raw).unwrap();
    assert!(matches!(one.chain.send_raw_transaction(&raw), Err(NodeError::AlreadyKnown)));
    let passed = sent.try_recv().unwrap();
    assert_eq!(passed, raw);
    assert!(sent.try_recv().is_err(), "once");
    assert!(other.chain.add_transaction(&passed).unwrap());
    assert!(!other.chain.add_transaction(&passed).unwrap());
    assert!(heard.try_recv().is_err());
    world.decide(&[&other, &one]).await;
    assert!(!one.chain.add_transaction(&raw).unwrap(), "it is mined");
    assert_eq!(one.chain.balance(TO, crate::world::LATEST).unwrap().to::<u64>(), 5);
}

#[test]
fn transactions_that_no_block_takes_are_not_taken() {
    let world = World::new();
    let node = world.node();
    let mut forged = world.transaction(1, 0, TO, 5, Bytes::new()).to_vec();
    let end = forged.len() - 1;
    forged.truncate(end);
    // What honest nodes do not pass on is told from what they may.
    for raw in [&forged[..], b"", b"\x03blob", &[0xff; 100]] {
        assert!(matches!(node.chain.add_transaction(raw), Err(NodeError::InvalidTransaction(_))));
    }
    let poor = world.transaction(1, 0, TO, u64::MAX, Bytes::new());
    assert!(
        node.chain.add_transaction(&poor).unwrap(),
        "18 ether are not too much for a user of these tests"
    );
}

#[test]
fn transactions_that_cannot_be_mined_make_room_for_those_that_can() {
    let world = World::new();
    let node = world.node();
    let limits = Limits {
        pool_transactions: 3,
        ..Limits::default()
    };
    let config = NativeConfig {
        limits,
        ..NativeConfig::new(world.genesis.clone())
    };
    let chain = NativeChain::open(config, node.executor.clone(), node.inputs.clone()).unwrap();
    let raw = |user, nonce| world.transaction(user, nonce, TO, 1, Bytes::new());
    for nonce in [5, 6, 7] {
        chain.send_raw_transaction(&raw(0, nonce)).unwrap();
    }
    assert!(
        matches!(chain.send_raw_transaction(&raw(1, 1)), Err(NodeError::PoolFull)),
        "for one that cannot, nobody makes room"
    );
    for user in [1, 2, 3] {
        chain.send_raw_transaction(&raw(user, 0)).unwrap();
    }
    assert!(matches!(chain.send_raw_transaction(&raw(0, 0)), Err(NodeError::PoolFull)));
    let status = chain.rpc_call("txpool_status", serde_json::json!([])).unwrap();
    assert_eq!(status, serde_json::json!({ "pending": "0x3", "queued": "0x0" }));
}

#[tokio::test]
async fn a_block_takes_transactions_in_order_of_arrival_and_of_nonces() {
    let world = World::new();
    let node = world.node();
    let order = [(2, 1), (1, 0), (3, 0), (2, 0), (1, 1), (0, 0)];
    for (user, nonce) in order {
        node.chain
            .send_raw_transaction(&world.transaction(user, nonce, TO, 1, Bytes::new()))
            .unwrap();
    }
    world.decide(&[&node]).await;
    let block = node.chain.block(crate::world::LATEST).unwrap().unwrap();
    let taken = block.transactions.iter().map(|transaction| {
        let user = world.users.iter().position(|key| key.address() == transaction.sender).unwrap();
        (user, transaction.envelope.nonce())
    });
    // The first to arrive waited for its nonce, and then came before what arrived later.
    assert_eq!(taken.collect::<Vec<_>>(), [(1, 0), (3, 0), (2, 0), (2, 1), (1, 1), (0, 0)]);
}

#[tokio::test]
async fn a_transaction_waits_for_the_nonce_before_it() {
    let world = World::new();
    let node = world.node();
    let raw = |nonce| world.transaction(2, nonce, TO, 1, Bytes::new());
    node.chain.send_raw_transaction(&raw(1)).unwrap();
    world.decide(&[&node]).await;
    assert!(node.chain.block(crate::world::LATEST).unwrap().unwrap().transactions.is_empty());
    node.chain.send_raw_transaction(&raw(0)).unwrap();
    world.decide(&[&node]).await;
    assert_eq!(node.chain.block(crate::world::LATEST).unwrap().unwrap().transactions.len(), 2);
}
