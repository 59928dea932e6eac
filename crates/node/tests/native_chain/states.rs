//! Nodes that begin with a state of their data directory, and with states that are not what they seem.

use std::path::{Path, PathBuf};

use alloy::primitives::{B256, Bytes, keccak256};
use alloy::rlp::Decodable;
use alloy::sol_types::SolCall;
use cipherloom_contracts::bindings::ValidatorSet as Contract;
use cipherloom_node::NodeError;
use cipherloom_node::native::{Restored, VALIDATOR_SET};
use redb::{Database, ReadableTable, TableDefinition};
use serde_json::{Value, json};

use crate::replay::{Numbers, traffic};
use crate::world::{LATEST, Node, World, key, set_of};

/// More blocks than any test has.
const ALL: usize = 8192;

/// The states of a data directory, the newest one last.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut files = paths.filter(|path| name(path).starts_with("state-")).collect::<Vec<_>>();
    files.sort();
    files
}

/// Removes all states of a data directory.
pub(crate) fn remove(dir: &Path) {
    for path in files(dir) {
        std::fs::remove_file(path).unwrap();
    }
}

/// What is in a data directory now: what a node that is killed leaves.
pub(crate) fn image(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

/// Adds blocks of mixed traffic; each state that is begun is finished before the next block.
pub(crate) async fn grow(world: &World, node: &Node, blocks: u64, seed: u64) {
    let mut numbers = Numbers(seed);
    for _ in 0..blocks {
        traffic(world, node, &mut numbers);
        world.decide(&[node]).await;
        node.chain.wait_for_state();
    }
}

fn state_root(node: &Node) -> B256 {
    node.chain.block(LATEST).unwrap().unwrap().header.state_root
}

fn restored(state: Option<u64>, executed: u64) -> Restored {
    Restored { state, executed }
}

/// A directory as a node leaves it that is killed after ten blocks, with states of blocks 4 and 8; and the head's hash.
async fn killed(world: &World) -> (tempfile::TempDir, B256) {
    let dir = tempfile::tempdir().unwrap();
    let node = world.keeping(dir.path(), ALL, 4).unwrap();
    grow(world, &node, 10, 1).await;
    assert_eq!(node.chain.last_state_kept(), Some(8));
    let left = image(dir.path());
    assert_eq!(files(left.path()).len(), 2);
    (left, node.hash())
}

#[tokio::test]
async fn a_start_executes_only_the_blocks_after_the_newest_state() {
    let world = World::new();
    let (dir, hash) = killed(&world).await;
    // Neither executed nor looked at, unless somebody asks for it.
    let path = dir.path().join("blocks");
    let mut blocks = std::fs::read(&path).unwrap();
    blocks[60] ^= 1;
    std::fs::write(&path, &blocks).unwrap();
    let node = world.keeping(dir.path(), ALL, 4).unwrap().without_executor();
    assert_eq!(node.chain.restored(), restored(Some(8), 2));
    assert_eq!((node.height(), node.hash()), (10, hash));
    let first = node.chain.decided(1).await;
    assert!(matches!(first, Err(NodeError::JournalCorrupt { record: 1, .. })), "{first:?}");
    assert!(node.chain.decided(2).await.unwrap().is_some());
    assert!(matches!(node.chain.block(1.into()), Err(NodeError::JournalCorrupt { .. })));
    let status = node.chain.rpc_call("cipherloom_nodeStatus", json!([])).unwrap();
    assert_eq!(
        (&status["stateAtStart"], &status["executedAtStart"], &status["stateKept"]),
        (&json!("0x8"), &json!("0x2"), &json!("0x8"))
    );
    node.chain.close();
    drop(node);

    let node = world.keeping(dir.path(), ALL, 4).unwrap();
    assert_eq!(
        node.chain.restored(),
        restored(Some(10), 0),
        "a node that ends in order writes its state"
    );
    assert_eq!(files(dir.path()).len(), 2, "the newest two are kept");
    assert_eq!(node.hash(), hash);
    let nonce = node.chain.nonce(world.users[0].address(), 9.into());
    assert!(matches!(nonce, Err(NodeError::StatePruned { number: 9, oldest: 10 })), "{nonce:?}");
    drop(node);

    // Everything is executed and looked at when there is no state.
    remove(dir.path());
    let opened = world.keeping(dir.path(), ALL, 4).map(|_| ());
    assert!(matches!(opened, Err(NodeError::JournalCorrupt { record: 1, .. })), "{opened:?}");
    blocks[60] ^= 1;
    std::fs::write(&path, blocks).unwrap();
    let node = world.keeping(dir.path(), ALL, 4).unwrap();
    assert_eq!((node.chain.restored(), node.hash()), (restored(None, 10), hash));
}

#[tokio::test]
async fn restarts_with_and_without_states_lead_to_the_same_blocks() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let other = world.node();
    let mut numbers = Numbers(77);
    let mut node = world.keeping(dir.path(), 3, 5).unwrap();
    for height in 1..=30 {
        traffic(&world, &node, &mut numbers);
        world.decide(&[&node, &other]).await;
        assert_eq!(
            (node.hash(), state_root(&node)),
            (other.hash(), state_root(&other)),
            "block {height}"
        );
        if height % 7 == 0 {
            match height % 3 {
                // Killed, perhaps while a state is written.
                0 => {}
                1 => node.chain.close(),
                _ => {
                    node.chain.wait_for_state();
                    remove(dir.path());
                }
            }
            drop(node);
            node = world.keeping(dir.path(), 3, 5).unwrap();
            assert_eq!((node.height(), node.hash()), (height, other.hash()));
        }
    }
    // The hashes that contracts can ask for reach back beyond the state that the node began with, to the first block and no further.
    node.chain.close();
    drop(node);
    let node = world.keeping(dir.path(), 3, 5).unwrap();
    assert_eq!(node.chain.restored(), restored(Some(30), 0));
    for back in 1..=32u8 {
        // Runs as the code of a new contract: return(blockhash(number - back)).
        let code = format!("0x60{back:02x}4303405f5260205ff3");
        let call = json!([{ "input": code }, "latest"]);
        let [one, two] = [&node, &other].map(|node| node.chain.rpc_call("eth_call", call.clone()).unwrap());
        assert_eq!(one, two, "{back} blocks back");
        assert_eq!(one == json!(B256::ZERO), back > 30, "{back} blocks back");
    }
}

#[tokio::test]
async fn a_state_that_was_not_written_completely_is_not_used() {
    let world = World::new();
    let (dir, hash) = killed(&world).await;
    let newest = files(dir.path()).pop().unwrap();
    let whole = std::fs::read(&newest).unwrap();
    let unfinished = newest.with_extension("tmp");
    for length in [0, 8, whole.len() / 2, whole.len()] {
        let left = image(dir.path());
        let name = |path: &Path| left.path().join(path.file_name().unwrap());
        std::fs::remove_file(name(&newest)).unwrap();
        std::fs::write(name(&unfinished), &whole[..length]).unwrap();
        let node = world.keeping(left.path(), ALL, 1000).unwrap();
        assert_eq!((node.chain.restored(), node.hash()), (restored(Some(4), 6), hash), "{length} bytes");
        assert!(!name(&unfinished).exists());
    }
}

#[tokio::test]
async fn damaged_states_are_skipped() {
    let world = World::new();
    let (dir, hash) = killed(&world).await;
    let names = files(dir.path());
    let [older, newest] = [0, 1].map(|index| std::fs::read(&names[index]).unwrap());
    let try_with = |content: &[u8], expected: Restored, what: &str| {
        let left = image(dir.path());
        std::fs::write(left.path().join(names[1].file_name().unwrap()), content).unwrap();
        let node = world.keeping(left.path(), ALL, 1000).unwrap();
        assert_eq!((node.chain.restored(), node.hash()), (expected, hash), "{what}");
    };
    let length = newest.len();
    let mut places = vec![
        0,
        7,
        8,
        39,
        40,
        47,
        48,
        79,
        80,
        81,
        101,
        120,
        length / 2,
        length - 33,
        length - 32,
        length - 1,
    ];
    places.extend((1..20).map(|part| part * length / 20));
    for at in places {
        let mut damaged = newest.clone();
        damaged[at] ^= 1 << (at % 8);
        try_with(&damaged, restored(Some(4), 6), &format!("byte {at}"));
    }
    for cut in [0, 1, 50, 79, 80, 112, length / 2, length - 1] {
        try_with(&newest[..cut], restored(Some(4), 6), &format!("cut at {cut}"));
    }
    try_with(&[&newest[..], &[0]].concat(), restored(Some(4), 6), "longer");
    // What is in a file counts, not its name.
    try_with(&older, restored(Some(4), 6), "the older one under the newer one's name");
    try_with(&newest, restored(Some(8), 2), "whole");

    // With both damaged, everything is executed.
    for name in &names {
        let mut damaged = std::fs::read(name).unwrap();
        damaged[length / 3] ^= 2;
        std::fs::write(name, damaged).unwrap();
    }
    let node = world.keeping(dir.path(), ALL, 1000).unwrap();
    assert_eq!((node.chain.restored(), node.hash()), (restored(None, 10), hash));
}

/// Makes the checksum of a state file fit again.
fn summed(mut content: Vec<u8>) -> Vec<u8> {
    content.truncate(content.len() - 32);
    content.extend(keccak256(&content).0);
    content
}

#[tokio::test]
async fn an_edited_state_has_another_root_and_is_skipped() {
    let world = World::new();
    let (dir, hash) = killed(&world).await;
    let newest = files(dir.path()).pop().unwrap();
    let whole = std::fs::read(&newest).unwrap();
    let user = world.users[2].address();
    let account = whole.windows(20).position(|window| window == user.as_slice()).unwrap();
    for (at, what) in [
        (account + 27, "nonce"),
        (account + 59, "balance"),
        (account, "address"),
        (account - 1, "accounts"),
    ] {
        let mut edited = whole.clone();
        edited[at] ^= 1;
        std::fs::write(&newest, summed(edited)).unwrap();
        let left = image(dir.path());
        let node = world.keeping(left.path(), ALL, 1000).unwrap();
        assert_eq!((node.chain.restored(), node.hash()), (restored(Some(4), 6), hash), "{what}");
    }
}

#[tokio::test]
async fn states_of_other_chains_and_of_blocks_that_are_not_there_are_skipped() {
    let world = World::new();
    let (dir, hash) = killed(&world).await;
    let newest = files(dir.path()).pop().unwrap();
    let whole = std::fs::read(&newest).unwrap();

    let strangers = World::with(3, crate::world::FHE_GAS);
    let (theirs, _) = killed(&strangers).await;
    let left = image(dir.path());
    let there = left.path().join(newest.file_name().unwrap());
    std::fs::copy(theirs.path().join(newest.file_name().unwrap()), &there).unwrap();
    let node = world.keeping(left.path(), ALL, 1000).unwrap();
    assert_eq!((node.chain.restored(), node.hash()), (restored(Some(4), 6), hash));
    drop(node);

    // Of this chain by its own words, and of another block of the number.
    for (at, length) in [(8, 32), (48, 32)] {
        let mut renamed = whole.clone();
        renamed[at..at + length].fill(0x11);
        std::fs::write(&there, summed(renamed)).unwrap();
        let node = world.keeping(left.path(), ALL, 1000).unwrap();
        assert_eq!(node.chain.restored().state, Some(4));
    }

    // Newer than the blocks: the file ends in block 8, which is cut off.
    let node = world.keeping(dir.path(), ALL, 1000).unwrap();
    let records = node.chain.decided(9).await.unwrap().unwrap();
    let ten = node.chain.decided(10).await.unwrap().unwrap();
    drop(node);
    let blocks = std::fs::read(dir.path().join("blocks")).unwrap();
    let after = [records, ten]
        .iter()
        .map(|decided| decided.block.len() + decided.sidecar.len())
        .sum::<usize>();
    std::fs::write(dir.path().join("blocks"), &blocks[..blocks.len() - after - 900]).unwrap();
    let node = world.keeping(dir.path(), ALL, 1000).unwrap();
    let found = node.chain.restored();
    assert_eq!((found.state, found.executed + 4), (Some(4), node.height()));
    assert!(node.height() < 8, "{}", node.height());
}

const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");
const SETS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("sets");

/// Changes a value of the index as somebody does who knows its form.
fn forge(dir: &Path, table: TableDefinition<'static, u64, &'static [u8]>, number: u64, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let database = Database::open(dir.join("index")).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(table).unwrap();
        let mut content = table.get(number).unwrap().map(|value| value.value().to_vec()).unwrap_or_default();
        content.truncate(content.len().saturating_sub(8));
        let mut content = change(content);
        let sum = keccak256([&number.to_be_bytes(), content.as_slice()].concat());
        content.extend_from_slice(&sum[..8]);
        table.insert(number, content.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
}

#[tokio::test]
async fn a_state_that_too_few_validators_signed_is_skipped() {
    let world = World::new();
    let (dir, hash) = killed(&world).await;
    forge(dir.path(), BLOCKS, 8, |entry| {
        let mut parts = Vec::<Bytes>::decode(&mut entry.as_slice()).unwrap();
        let kept = parts[2].len() - 2 * 85;
        parts[2] = parts[2].slice(..kept);
        alloy::rlp::encode(parts)
    });
    let node = world.keeping(dir.path(), ALL, 1000).unwrap();
    assert_eq!((node.chain.restored(), node.hash()), (restored(Some(4), 6), hash));
}

#[tokio::test]
async fn validators_that_nobody_named_sign_no_state() {
    let world = World::new();
    let (dir, hash) = killed(&world).await;
    let strangers = set_of(&[key("stranger", 0), key("stranger", 1)]);
    for first in [2, 5, 9] {
        let left = image(dir.path());
        forge(left.path(), SETS, first, |_| strangers.encode());
        let node = world.keeping(left.path(), ALL, 1000).unwrap();
        // Block 4's state names who signs block 5, and only block 8's has to do with block 9.
        let expected = if first <= 5 { restored(None, 10) } else { restored(Some(4), 6) };
        assert_eq!((node.chain.restored(), node.hash()), (expected, hash), "from block {first} on");
        assert_eq!(node.chain.validators_at(11).unwrap(), set_of(&world.keys));
    }
}

fn ask(node: &Node, method: &str, params: Value) -> Value {
    node.chain.rpc_call(method, params).unwrap()
}

#[tokio::test]
async fn sets_of_validators_are_known_after_a_start_with_a_state() {
    let mut world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let node = world.keeping(dir.path(), 2, 3).unwrap();
    for index in 4..7 {
        world.decide(&[&node]).await;
        let call = Contract::addValidatorCall {
            account: key("validator", index).address(),
            power: 1,
        };
        node.chain.wait_for_state();
        world.send(&node, 0, VALIDATOR_SET, call.abi_encode().into());
        world.decide(&[&node]).await;
        node.chain.wait_for_state();
        world.keys.push(key("validator", index));
    }
    for _ in 0..6 {
        world.decide(&[&node]).await;
        node.chain.wait_for_state();
    }
    let questions = (1..=13).map(|height| ("cipherloom_getValidatorSet", json!([format!("{height:#x}")])));
    let questions = questions.chain([
        ("cipherloom_validatorChanges", json!(["0x0"])),
        ("cipherloom_validatorChanges", json!(["0x4"])),
        ("cipherloom_nodeStatus", json!([])),
    ]);
    let answers = |node: &Node| {
        let mut answers = questions
            .clone()
            .map(|(method, params)| ask(node, method, params))
            .collect::<Vec<_>>();
        let status = answers.last_mut().unwrap().as_object_mut().unwrap();
        status.retain(|name, _| !["stateKept", "stateAtStart", "executedAtStart"].contains(&name.as_str()));
        answers
    };
    let before = answers(&node);
    assert_eq!(before[13].as_array().unwrap().len(), 3);
    let left = image(dir.path());
    node.chain.close();
    drop(node);
    for (dir, start) in [(left.path(), Some(12)), (dir.path(), Some(12))] {
        let node = world.keeping(dir, 2, 3).unwrap();
        assert_eq!(node.chain.restored().state, start);
        assert_eq!(answers(&node), before);
        world.decide(&[&node]).await;
        assert_eq!(node.chain.validators_at(14).unwrap(), set_of(&world.keys));
    }
}

#[tokio::test]
async fn an_index_behind_the_newest_state_makes_an_older_one_count() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let node = world.keeping(dir.path(), ALL, 1000).unwrap();
    grow(&world, &node, 4, 9).await;
    node.chain.close();
    drop(node);
    let four = image(dir.path());
    let node = world.keeping(dir.path(), ALL, 1000).unwrap();
    assert_eq!(node.chain.restored(), restored(Some(4), 0));
    grow(&world, &node, 4, 10).await;
    let hash = node.hash();
    node.chain.close();
    drop(node);
    std::fs::copy(four.path().join("index"), dir.path().join("index")).unwrap();
    let node = world.keeping(dir.path(), ALL, 1000).unwrap();
    assert_eq!((node.chain.restored(), node.hash()), (restored(Some(4), 4), hash));
    assert!(node.chain.decided(8).await.unwrap().is_some());
}
