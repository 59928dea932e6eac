//! The chain across restarts, orderly and not.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use alloy::eips::BlockId;
use alloy::primitives::{Address, B256, TxKind, U256};
use alloy::rpc::types::{Filter, TransactionRequest};
use cipherloom_node::{AccountsConfig, DevChain, DevChainConfig, ManualClock, NodeError};

use crate::support::*;

fn config(dir: &Path) -> DevChainConfig {
    DevChainConfig {
        data_dir: Some(dir.to_owned()),
        clock: Arc::new(ManualClock::new(START)),
        ..DevChainConfig::default()
    }
}

fn hashes(chain: &DevChain) -> Vec<B256> {
    (0..=chain.block_number().unwrap())
        .map(|number| chain.block(number.into()).unwrap().unwrap().hash)
        .collect()
}

/// A chain with everything the journal can hold.
fn eventful(dir: &Path) -> (DevChain, Address) {
    let chain = DevChain::new(config(dir)).unwrap();
    let register = deploy(&chain, &REGISTER);
    chain.send_transaction(call_to(register, word(1))).unwrap();
    chain.set_storage(register, U256::from(9), U256::from(90)).unwrap();
    let id = chain.snapshot().unwrap();
    chain.increase_time(1000).unwrap();
    chain.send_transaction(call_to(register, word(2))).unwrap();
    chain.revert(id).unwrap();
    chain.mine(3).unwrap();
    chain.reorganize(2).unwrap();
    chain.rollback(1).unwrap();
    chain.increase_time(50).unwrap();
    chain.set_next_block_base_fee(77).unwrap();
    chain.mine(2).unwrap();
    chain.set_balance(register, U256::from(10u64.pow(18))).unwrap();
    chain.set_nonce(Address::repeat_byte(8), 4).unwrap();
    chain.set_code(Address::repeat_byte(8), TIMESTAMP).unwrap();
    chain.impersonate(register, true).unwrap();
    let impersonated = TransactionRequest {
        from: Some(register),
        value: Some(U256::from(3)),
        ..call_to(Address::repeat_byte(6), "".parse().unwrap())
    };
    chain.send_transaction(impersonated).unwrap();
    chain.set_block_gas_limit(20_000_000).unwrap();
    chain.set_coinbase(Address::repeat_byte(0xcb)).unwrap();
    chain.set_next_block_prevrandao(B256::repeat_byte(0x44)).unwrap();
    chain.load_state(&chain.dump_state().unwrap()).unwrap();
    chain.set_next_block_timestamp(START + 5000).unwrap();
    chain.send_transaction(call_to(register, word(3))).unwrap();
    (chain, register)
}

#[test]
fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (chain, register) = eventful(dir.path());
    let before = (hashes(&chain), chain.logs(&Filter::new().from_block(0u64)).unwrap());
    drop(chain);
    let chain = DevChain::new(config(dir.path())).unwrap();
    assert_eq!((hashes(&chain), chain.logs(&Filter::new().from_block(0u64)).unwrap()), before);
    assert_eq!(
        chain.call(&call_to(register, "".parse().unwrap()), BlockId::latest()).unwrap(),
        word(3)
    );
    assert_eq!(chain.call(&call_to(register, "".parse().unwrap()), 2.into()).unwrap(), word(1));
    assert_eq!(chain.storage(register, U256::from(9), BlockId::latest()).unwrap(), U256::from(90));
    assert_eq!(chain.balance(Address::repeat_byte(6), BlockId::latest()).unwrap(), U256::from(3));
    chain.send_transaction(call_to(register, word(4))).unwrap();
    let header = chain.block(BlockId::latest()).unwrap().unwrap().header.clone();
    assert_eq!(header.timestamp, START + 5000, "time goes on where it was");
    assert_eq!(
        (header.gas_limit, header.beneficiary),
        (20_000_000, Address::repeat_byte(0xcb)),
        "and so do settings"
    );
}

#[test]
fn a_reset_lasts_and_makes_another_instance() {
    let dir = tempfile::tempdir().unwrap();
    let (chain, _) = eventful(dir.path());
    let instance = |chain: &DevChain| chain.rpc_call("anvil_metadata", serde_json::Value::Null).unwrap()["instanceId"].clone();
    let first = instance(&chain);
    chain.reset().unwrap();
    let register = deploy(&chain, &REGISTER);
    let (before, second) = (hashes(&chain), instance(&chain));
    assert_ne!(first, second);
    drop(chain);
    let chain = DevChain::new(config(dir.path())).unwrap();
    assert_eq!((hashes(&chain), instance(&chain)), (before, second));
    assert_eq!(hashes(&chain).len(), 2);
    chain.send_transaction(call_to(register, word(1))).unwrap();
    assert_eq!(chain.storage(register, U256::from(9), BlockId::latest()).unwrap(), U256::ZERO);
}

#[test]
fn a_torn_write_loses_at_most_the_last_record() {
    let dir = tempfile::tempdir().unwrap();
    let (chain, register) = eventful(dir.path());
    let before = hashes(&chain);
    drop(chain);
    let path = dir.path().join("chain.journal");
    let journal = fs::read(&path).unwrap();
    for cut in [1, 2, 100] {
        fs::write(&path, &journal[..journal.len() - cut]).unwrap();
        let chain = DevChain::new(config(dir.path())).unwrap();
        assert_eq!(hashes(&chain), before[..before.len() - 1], "cut by {cut}");
        chain.send_transaction(call_to(register, word(9))).unwrap();
        drop(chain);
        let chain = DevChain::new(config(dir.path())).unwrap();
        assert_eq!(
            chain.call(&call_to(register, "".parse().unwrap()), BlockId::latest()).unwrap(),
            word(9),
            "writing goes on after the cut"
        );
    }
}

#[test]
fn a_damaged_journal_is_refused_not_repaired() {
    let dir = tempfile::tempdir().unwrap();
    drop(eventful(dir.path()));
    let path = dir.path().join("chain.journal");
    let mut journal = fs::read(&path).unwrap();
    let middle = journal.len() / 2;
    journal[middle] ^= 1;
    fs::write(&path, &journal).unwrap();
    assert!(matches!(DevChain::new(config(dir.path())), Err(NodeError::JournalCorrupt { .. })));
    assert_eq!(fs::read(&path).unwrap(), journal);
}

#[test]
fn other_settings_and_a_second_process_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let chain = DevChain::new(config(dir.path())).unwrap();
    assert!(matches!(DevChain::new(config(dir.path())), Err(NodeError::DataDirLocked(_))));
    drop(chain);
    let other_id = DevChainConfig {
        chain_id: 5,
        ..config(dir.path())
    };
    let other_accounts = DevChainConfig {
        accounts: AccountsConfig {
            count: 3,
            ..AccountsConfig::default()
        },
        ..config(dir.path())
    };
    for other in [other_id, other_accounts] {
        assert!(matches!(DevChain::new(other), Err(NodeError::JournalOfOtherChain { .. })));
    }
    assert!(DevChain::new(config(dir.path())).is_ok());
}

/// The directory for the process to be killed, in its environment.
const VICTIM_DIR: &str = "CIPHERLOOM_NODE_TEST_VICTIM_DIR";

/// The process that the next test starts and kills; in an ordinary run it only checks that it is none.
#[test]
fn victim() {
    let Ok(dir) = std::env::var(VICTIM_DIR) else {
        assert!(
            !std::env::args().any(|argument| argument == "restart::victim"),
            "started by hand without its directory"
        );
        return;
    };
    let chain = DevChain::new(config(Path::new(&dir))).unwrap();
    let register = deploy(&chain, &REGISTER);
    for value in 1.. {
        let hash = chain.send_transaction(call_to(register, word(value))).unwrap();
        println!("\nmined {hash} {}", chain.block(BlockId::latest()).unwrap().unwrap().hash);
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_seen() {
    let dir = tempfile::tempdir().unwrap();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["restart::victim", "--exact", "--nocapture"])
        .env(VICTIM_DIR, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let mut seen = Vec::new();
    let mut read = |seen: &mut Vec<(B256, B256)>| {
        for line in lines.by_ref() {
            let line = line.unwrap();
            if let Some((hash, block)) = line.strip_prefix("mined ").and_then(|pair| pair.split_once(' ')) {
                // The last line may be cut off by the kill.
                let (Ok(hash), Ok(block)) = (hash.parse(), block.parse()) else {
                    return false;
                };
                seen.push((hash, block));
                return true;
            }
        }
        false
    };
    while seen.len() < 200 {
        assert!(read(&mut seen), "the process ended by itself");
    }
    victim.kill().unwrap();
    while read(&mut seen) {}
    victim.wait().unwrap();
    let chain = DevChain::new(config(dir.path())).unwrap();
    for (hash, block) in seen {
        assert_eq!(chain.mined_transaction(&hash).unwrap().unwrap().0.hash, block);
    }
}

#[test]
fn a_thousand_transactions_replay_quickly() {
    let dir = tempfile::tempdir().unwrap();
    let chain = DevChain::new(config(dir.path())).unwrap();
    let register = deploy(&chain, &REGISTER);
    for nonce in 1..1000 {
        chain
            .send_raw_transaction(&raw(&chain, 0, transaction(&chain, nonce, TxKind::Call(register), word(nonce))))
            .unwrap();
    }
    let before = hashes(&chain);
    drop(chain);
    let begin = std::time::Instant::now();
    let chain = DevChain::new(config(dir.path())).unwrap();
    let took = begin.elapsed();
    assert_eq!(hashes(&chain), before);
    // A second is the aim on an idle machine; the bound leaves room for a busy one.
    assert!(took.as_secs() < 20, "replay took {took:?}");
    println!("replay of 1000 blocks took {took:?}");
}
