//! Nodes that catch up with what others decided.

use alloy::consensus::{Block, TxEnvelope};
use alloy::primitives::{B256, Bytes};
use alloy::rlp::Decodable;
use cipherloom_node::NodeError;
use cipherloom_node::native::DecidedBlock;
use cipherloom_primitives::{FheType, Operation};

use crate::program::{Program, byte};
use crate::world::{Node, World};

/// A block in which two values are stored, and one before it.
async fn two_blocks(world: &World, node: &Node) -> [DecidedBlock; 2] {
    let first = world.decide(&[node]).await;
    let mut program = Program::new();
    let value = program.value(9, FheType::Uint64);
    let sum = program.operation(Operation::Add, &[value, 4.into(), byte(1)]);
    program.store(1, value);
    program.store(2, sum);
    world.run(node, 0, &program);
    [first, world.decide(&[node]).await]
}

fn parts(sidecar: &Bytes) -> Vec<Vec<Bytes>> {
    Vec::<Vec<Bytes>>::decode(&mut sidecar.as_ref()).unwrap()
}

fn with_parts(decided: &DecidedBlock, change: impl FnOnce(&mut Vec<Vec<Bytes>>)) -> DecidedBlock {
    let mut parts = parts(&decided.sidecar);
    change(&mut parts);
    DecidedBlock {
        sidecar: alloy::rlp::encode(parts).into(),
        ..decided.clone()
    }
}

#[tokio::test]
async fn a_late_node_takes_ciphertexts_from_sidecars_and_computes_nothing() {
    let world = World::new();
    let (early, late) = (world.node(), world.node().without_executor());
    for decided in two_blocks(&world, &early).await {
        late.chain.apply(decided.clone()).await.unwrap();
        late.chain.apply(decided).await.unwrap();
    }
    assert_eq!(late.hash(), early.hash());
    for slot in [1, 2] {
        let handle = late.stored(slot);
        assert!(late.ciphertext(handle).is_some());
        assert_eq!(late.ciphertext(handle), early.ciphertext(handle));
    }
    for number in 1..=2 {
        let passed_on = late.chain.decided(number).await.unwrap();
        assert_eq!(passed_on, early.chain.decided(number).await.unwrap());
    }
}

#[tokio::test]
async fn one_wrong_byte_of_a_sidecar_is_refused_and_the_right_one_still_taken() {
    let world = World::new();
    let (early, late) = (world.node(), world.node());
    let [first, second] = two_blocks(&world, &early).await;
    late.chain.apply(first.clone()).await.unwrap();
    let ciphertexts = parts(&second.sidecar)[0].clone();
    assert_eq!(ciphertexts.len(), 4);
    let flip = |at: usize, index: usize| {
        with_parts(&second, |parts| {
            let mut bytes = parts[0][at].to_vec();
            bytes[index] ^= 1;
            parts[0][at] = bytes.into();
        })
    };
    let lies = [
        flip(1, 0),
        flip(1, ciphertexts[1].len() - 1),
        flip(3, 5),
        flip(0, 3),
        with_parts(&second, |parts| parts[0].truncate(2)),
        with_parts(&second, |parts| parts[0].clear()),
        with_parts(&second, |parts| parts[0].swap(1, 3)),
        with_parts(&second, |parts| parts[0][1] = parts[0][1].slice(1..)),
        with_parts(&second, |parts| {
            let more = parts[0].clone();
            parts[0].extend(more);
        }),
        with_parts(&second, |parts| parts.push(Vec::new())),
        DecidedBlock {
            sidecar: Bytes::new(),
            ..second.clone()
        },
        DecidedBlock {
            sidecar: first.sidecar.clone(),
            ..second.clone()
        },
        DecidedBlock {
            block: first.block.clone(),
            ..second.clone()
        },
        DecidedBlock {
            block: second.block.slice(1..),
            ..second.clone()
        },
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let applied = late.chain.apply(lie).await;
        assert!(matches!(applied, Err(NodeError::BlockRefused(_))), "lie {number}: {applied:?}");
    }
    assert_eq!(late.height(), 1);
    late.chain.apply(second).await.unwrap();
    assert_eq!(late.hash(), early.hash());
}

#[tokio::test]
async fn no_flipped_bit_of_a_decided_block_is_taken() {
    let world = World::new();
    let (early, late) = (world.node(), world.node());
    let [first, second] = two_blocks(&world, &early).await;
    late.chain.apply(first).await.unwrap();
    let flipped = |bytes: &Bytes, at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1 << (at % 8);
        Bytes::from(bytes)
    };
    let blocks = (0..second.block.len()).step_by(3).map(|at| DecidedBlock {
        block: flipped(&second.block, at),
        ..second.clone()
    });
    let sidecars = (0..second.sidecar.len()).map(|at| DecidedBlock {
        sidecar: flipped(&second.sidecar, at),
        ..second.clone()
    });
    let signatures = (0..65).map(|at| {
        let mut decided = second.clone();
        decided.certificate.signatures[at % 4].signature[at] ^= 1;
        decided
    });
    for (number, lie) in blocks.chain(sidecars).chain(signatures).enumerate() {
        let applied = late.chain.apply(lie).await;
        assert!(matches!(applied, Err(NodeError::BlockRefused(_))), "lie {number}: {applied:?}");
    }
    late.chain.apply(second).await.unwrap();
}

#[tokio::test]
async fn a_signed_block_that_does_not_come_out_of_its_transactions_is_refused() {
    let world = World::new();
    let (early, late) = (world.node(), world.node());
    let [first, _] = two_blocks(&world, &early).await;
    let resigned = |change: fn(&mut Block<TxEnvelope>)| {
        let mut block = Block::decode(&mut first.block.as_ref()).unwrap();
        change(&mut block);
        DecidedBlock {
            certificate: world.certificate(&early, 1, block.header.hash_slow()),
            block: alloy::rlp::encode(block).into(),
            sidecar: first.sidecar.clone(),
        }
    };
    let lies = [
        resigned(|block| block.header.state_root = B256::ZERO),
        resigned(|block| block.header.extra_data = Bytes::from(vec![3; 32])),
        resigned(|block| block.header.gas_limit = 1),
        resigned(|block| block.header.parent_hash = B256::ZERO),
    ];
    for lie in lies {
        let applied = late.chain.apply(lie).await;
        assert!(matches!(applied, Err(NodeError::BlockRefused(_))), "{applied:?}");
    }
    let few = DecidedBlock {
        certificate: world.certificate_by(&world.keys[..2], &early, 1, first.certificate.block_hash),
        ..first.clone()
    };
    assert!(matches!(late.chain.apply(few).await, Err(NodeError::BlockRefused(_))));
    late.chain.apply(first).await.unwrap();
}

#[tokio::test]
async fn blocks_out_of_order_are_refused() {
    let world = World::new();
    let (early, late) = (world.node(), world.node());
    let [_, second] = two_blocks(&world, &early).await;
    assert!(matches!(late.chain.apply(second).await, Err(NodeError::BlockRefused(_))));
    assert_eq!(late.height(), 0);
}
