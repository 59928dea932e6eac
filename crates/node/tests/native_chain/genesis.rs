//! What is no genesis file.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256};
use cipherloom_contracts::HostContract;
use cipherloom_node::NodeError;
use cipherloom_node::native::{Genesis, GenesisAccount, NativeChain, NativeConfig, public_key_slots};
use cipherloom_primitives::ciphertext_state::{FHELIB, STORAGE_ACCOUNT};
use cipherloom_primitives::genesis_terms::TERMS_SLOT;
use serde_json::{Value, json};

use crate::world::{LATEST, World, key, set_of};

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
    assert!(altered(&|file| file["version"] = json!(1)).contains("version 1"));
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

/// Somebody changes what nodes, the KMS and gateways take from the file, and leaves the hash that everybody compares.
#[test]
fn terms_that_the_first_block_does_not_commit_to_are_refused() {
    let world = World::new();
    let file: Value = serde_json::from_slice(&world.genesis.to_json().unwrap()).unwrap();
    let altered = |change: &dyn Fn(&mut Value)| {
        let mut file = file.clone();
        change(&mut file);
        refused(Genesis::from_json(file.to_string().as_bytes()))
    };
    let zeros = json!(Address::ZERO);
    // There is code, so that it could be the access control.
    let other = file["contracts"]["FHEVMExecutor"].clone();
    let word = json!(B256::repeat_byte(1));
    let changes: [&dyn Fn(&mut Value); 9] = [
        &|file| file["chainId"] = json!(1),
        &|file| file["fheGasLimit"] = json!(1_000_000),
        &|file| file["owner"] = zeros.clone(),
        &|file| file["keySetId"] = word.clone(),
        &|file| file["crsDigest"] = word.clone(),
        &|file| file["contracts"]["ACL"] = other.clone(),
        &|file| file["domains"]["gatewayChainId"] = json!(1),
        &|file| file["domains"]["decryption"] = zeros.clone(),
        &|file| file["domains"]["inputVerification"] = zeros.clone(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let reason = altered(change);
        assert!(reason.contains("commits to other terms"), "change {number}: {reason}");
    }
    // Who changes the commitment as well describes another block.
    let mut other = world.genesis.clone();
    other.fhe_gas_limit -= 1;
    let digest = other.terms().digest();
    other.alloc.get_mut(&FHELIB).unwrap().storage.insert(TERMS_SLOT, digest);
    assert!(refused(Genesis::from_json(&other.to_json().unwrap())).contains("names the hash"));
    assert_ne!(other.seal().unwrap().hash, world.genesis.hash);
}

#[test]
fn the_terms_stand_in_the_state_of_a_sealed_genesis_whatever_stood_there() {
    let world = World::new();
    let mut genesis = world.genesis.clone();
    genesis
        .alloc
        .get_mut(&FHELIB)
        .unwrap()
        .storage
        .insert(TERMS_SLOT, B256::repeat_byte(1));
    assert_eq!(genesis.seal().unwrap(), world.genesis);
    let slot = alloy::primitives::U256::from_be_bytes(TERMS_SLOT.0);
    let found = world.node().chain.storage(FHELIB, slot, LATEST).unwrap();
    assert_eq!(B256::from(found), world.genesis.terms().digest());
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
