//! What is no genesis file.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256};
use cipherloom_contracts::HostContract;
use cipherloom_node::NodeError;
use cipherloom_node::native::{Genesis, GenesisAccount, NativeChain, NativeConfig, public_key_slots};
use cipherloom_primitives::ciphertext_state::{FHELIB, STORAGE_ACCOUNT};
use serde_json::{Value, json};

use crate::world::{World, key, set_of};

fn refused(genesis: Result<Genesis, NodeError>) -> String {
    match genesis {
        Err(NodeError::Genesis(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_comes_back_and_every_field_counts() {
    let world = World::new();
    let text = world.genesis.to_json().unwrap();
    assert_eq!(Genesis::from_json(&text).unwrap(), world.genesis);
    let file: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(file["contracts"]["ACL"], json!("0x50157cffd6bbfa2dece204a89ec419c23ef5755d"));
    let altered = |change: &dyn Fn(&mut Value)| {
        let mut file = file.clone();
        change(&mut file);
        refused(Genesis::from_json(file.to_string().as_bytes()))
    };
    assert!(altered(&|file| file["gasLimit"] = json!(30_000_000)).contains("names the hash"));
    assert!(altered(&|file| file["timestamp"] = json!(7)).contains("names the hash"));
    assert!(altered(&|file| file["validators"][0]["power"] = json!(2)).contains("differ"));
    assert!(altered(&|file| file["chainid"] = json!(1)).contains("unknown field"));
    assert!(altered(&|file| file["alloc"]["0x0000000000000000000000000000000000000001"] = json!({ "coins": 1 })).contains("unknown field"));
    assert!(altered(&|file| file["hash"] = Value::Null).contains("does not name its hash"));
    assert!(altered(&|file| file["version"] = json!(2)).contains("version 2"));
    assert!(altered(&|file| file["chainId"] = json!(0)).contains("must not be zero"));
    assert!(refused(Genesis::from_json(b"{}")).contains("missing field"));
}

#[test]
fn what_a_chain_cannot_do_without_must_be_there() {
    let world = World::new();
    let sealed = |change: &dyn Fn(&mut Genesis)| {
        let mut genesis = world.genesis.clone();
        change(&mut genesis);
        genesis.seal()
    };
    let nonce = |genesis: &mut Genesis, address| {
        genesis.alloc.insert(address, GenesisAccount::default());
    };
    assert!(refused(sealed(&|genesis| nonce(genesis, FHELIB))).contains("nonce 1"));
    assert!(refused(sealed(&|genesis| nonce(genesis, STORAGE_ACCOUNT))).contains("nonce 1"));
    assert!(refused(sealed(&|genesis| genesis.validators = set_of(&[key("validator", 9)]))).contains("differ"));
    let executor = world.genesis.contracts[&HostContract::FhevmExecutor];
    assert!(refused(sealed(&|genesis| drop(genesis.alloc.remove(&executor)))).contains("there is no code"));
    assert!(
        refused(sealed(&|genesis| genesis
            .contracts
            .retain(|contract, _| *contract != HostContract::Acl)))
        .contains("does not name ACL")
    );
    let gateway = HostContract::GatewayContract;
    let without = |genesis: &mut Genesis| {
        genesis.contracts.insert(gateway, Address::ZERO);
    };
    assert!(sealed(&without).is_ok());
    assert!(refused(sealed(&|genesis| genesis.public_key_digest = Some(B256::ZERO))).contains("publicKeyDigest"));
    assert!(refused(sealed(&|genesis| genesis.gas_limit = 20_000)).contains("gas limit"));
    assert!(refused(sealed(&|genesis| genesis.gas_limit = 300_000_001)).contains("at most"));
    assert!(refused(sealed(&|genesis| genesis.fhe_gas_limit = 75_000_001)).contains("at most"));
}

#[test]
fn the_hash_covers_the_public_key() {
    let world = World::new();
    let with_key = |key: &[u8]| {
        let mut genesis = world.genesis.clone();
        let slots = public_key_slots(key).unwrap();
        let storage = slots.into_iter().map(|(slot, word)| (B256::from(slot), B256::from(word)));
        genesis.alloc.get_mut(&FHELIB).unwrap().storage = storage.collect::<BTreeMap<_, _>>();
        genesis.public_key_digest = Some(alloy::primitives::keccak256(key));
        genesis.seal().unwrap()
    };
    let (one, other) = (with_key(&[1; 100]), with_key(&[2; 100]));
    assert_ne!(one.hash, other.hash);
    let mut mixed = one.clone();
    mixed.public_key_digest = other.public_key_digest;
    assert!(refused(mixed.seal()).contains("publicKeyDigest"));
    // A chain must not run on a file whose hash is another one, either.
    let mut lying = one;
    lying.hash = other.hash;
    let node = world.node();
    let opened = NativeChain::open(NativeConfig::new(lying), node.executor.clone(), node.inputs.clone());
    assert!(matches!(opened, Err(NodeError::Genesis(reason)) if reason.contains("names another")));
}
