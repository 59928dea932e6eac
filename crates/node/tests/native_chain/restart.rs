//! Nodes that stop, in order or not, and come back.

use std::path::Path;
use std::sync::atomic::Ordering;

use alloy::primitives::Bytes;
use cipherloom_node::NodeError;
use cipherloom_primitives::FheType;

use crate::program::Program;
use crate::replay::admit_input;
use crate::world::{Node, World};

fn stored_value(value: u64) -> Program {
    let mut program = Program::new();
    let value = program.value(value, FheType::Uint16);
    program.store(1, value);
    program
}

/// A node with three blocks in `dir`; the second took in an encrypted input.
async fn three_blocks(world: &World, dir: &Path) -> Node {
    let node = world.node_in(dir);
    world.run(&node, 0, &stored_value(1));
    world.decide(&[&node]).await;
    let mut program = Program::new();
    let input = admit_input(&mut program, 7);
    program.store(2, input);
    let sent = world.run(&node, 1, &program);
    world.decide(&[&node]).await;
    assert!(node.succeeded(sent));
    world.run(&node, 0, &stored_value(3));
    world.decide(&[&node]).await;
    node
}

#[tokio::test]
async fn a_restarted_node_has_its_blocks_without_computing_or_checking_anything() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let node = three_blocks(&world, dir.path()).await;
    let (hash, handle) = (node.hash(), node.stored(2));
    let bytes = node.ciphertext(handle).unwrap();
    assert_eq!(node.inputs.checked.load(Ordering::Relaxed), 1);
    assert!(matches!(world.open(Some(dir.path())), Err(NodeError::DataDirLocked(_))));
    node.chain.close();
    let (height, proposed) = world.propose(&node).await;
    let certificate = world.certificate(&node, height, proposed.hash);
    let refused = node.chain.commit(proposed.hash, certificate).await;
    assert!(matches!(refused, Err(NodeError::ShutDown)), "a closed node adds nothing");
    assert_eq!(node.height(), 3);

    // Without the state that it wrote at its end, it executes everything again.
    drop(node);
    crate::states::remove(dir.path());
    let again = world.node_in(dir.path()).without_executor();
    assert_eq!((again.height(), again.hash()), (3, hash));
    assert_eq!(again.ciphertext(handle), Some(bytes));
    let input = again.chain.block(2.into()).unwrap().unwrap().transactions[0].hash;
    let options = serde_json::json!({ "tracer": "callTracer" });
    let trace = again
        .chain
        .rpc_call("debug_traceTransaction", serde_json::json!([input, options]))
        .unwrap();
    assert!(trace.get("error").is_none(), "{trace}");
    assert_eq!(again.inputs.checked.load(Ordering::Relaxed), 0, "neither to come back nor to trace");
    for number in 1..=3 {
        let decided = again.chain.decided(number).await.unwrap().unwrap();
        assert_eq!(again.chain.certificate(number).unwrap(), Some(decided.certificate));
    }
    assert_eq!(again.chain.decided(4).await.unwrap(), None);
    again.executor.away.store(0, Ordering::SeqCst);
    world.decide(&[&again]).await;
    assert_eq!(again.height(), 4);
}

#[tokio::test]
async fn a_crash_at_any_byte_of_a_write_loses_only_that_block_and_peers_have_it() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let node = three_blocks(&world, dir.path()).await;
    let hash = node.hash();
    let last = node.chain.decided(3).await.unwrap().unwrap();
    drop(node);
    let path = dir.path().join("blocks");
    let whole = std::fs::read(&path).unwrap();
    let record = last.block.len() + last.sidecar.len();
    // The codec's test cuts at every byte; these cuts go through a whole node.
    for cut in [1, 2, record / 3, record / 2, record] {
        std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        let node = world.node_in(dir.path()).without_executor();
        assert_eq!(node.height(), 2, "cut {cut} bytes before the end");
        node.chain.apply(last.clone()).await.unwrap();
        assert_eq!(node.hash(), hash);
        drop(node);
        assert_eq!(std::fs::read(&path).unwrap(), whole, "cut {cut} bytes before the end");
    }
}

#[tokio::test]
async fn damaged_files_and_those_of_other_chains_are_refused() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    drop(three_blocks(&world, dir.path()).await);
    let other = World::with(3, 1_000_000);
    assert!(matches!(other.open(Some(dir.path())), Err(NodeError::JournalOfOtherChain { .. })));
    let path = dir.path().join("blocks");
    let whole = std::fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 4;
    std::fs::write(&path, damaged).unwrap();
    let opened = world.open(Some(dir.path()));
    assert!(matches!(opened, Err(NodeError::JournalCorrupt { .. })));
    std::fs::write(&path, whole).unwrap();
    assert_eq!(world.node_in(dir.path()).height(), 3);
}

#[tokio::test]
async fn a_block_without_a_quorum_in_the_data_directory_is_refused() {
    let world = World::new();
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(three_blocks(&world, dir.path()).await);
    // The same genesis but for who signs: its blocks have another parent, so the file's preamble is made to fit.
    let strangers = World::with(1, crate::world::FHE_GAS);
    let node = strangers.node_in(other.path());
    strangers.send(&node, 0, crate::world::STORE, Bytes::from(vec![1; 64]));
    strangers.decide(&[&node]).await;
    drop(node);
    let mut forged = std::fs::read(other.path().join("blocks")).unwrap();
    forged[8..40].copy_from_slice(world.genesis.hash.unwrap().as_slice());
    std::fs::write(dir.path().join("blocks"), forged).unwrap();
    let opened = world.open(Some(dir.path())).map(|_| ());
    assert!(matches!(opened, Err(NodeError::ReplayRefused { number: 1, .. })), "{opened:?}");
}
