//! Files that somebody changed, and left the hash that everybody compares.

use alloy::primitives::{Address, B256};
use cipherloom_chain::{ChainError, NativeGenesis};
use cipherloom_node::native::Genesis;
use cipherloom_primitives::{ciphertext_state::FHELIB, genesis_terms::TERMS_SLOT};
use serde_json::{Value, json};

use crate::real_node::genesis;

fn read(text: &[u8]) -> Result<NativeGenesis, String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("genesis.json");
    std::fs::write(&file, text).unwrap();
    NativeGenesis::read(&file).map_err(|error| match error {
        ChainError::NativeFile { reason, .. } => reason,
        other => panic!("{other:?}"),
    })
}

/// Changes a file, and says why it is refused: by the light client and by a node.
fn refused(file: &Value, change: &dyn Fn(&mut Value)) -> (String, String) {
    let mut file = file.clone();
    change(&mut file);
    let text = file.to_string();
    let by_node = Genesis::from_json(text.as_bytes()).unwrap_err().to_string();
    (read(text.as_bytes()).unwrap_err(), by_node)
}

#[test]
fn a_light_client_computes_the_hash_that_nodes_compute() {
    // Code, balances, nonces, storage of all lengths, and an account of nothing but zeros, which is none.
    let mut made = genesis();
    let nothing = made.alloc.entry(Address::repeat_byte(0x77)).or_default();
    nothing.storage.insert(B256::repeat_byte(1), B256::ZERO);
    let made = made.seal().unwrap();
    assert_eq!(made.hash, genesis().hash);
    let found = read(&made.to_json().unwrap()).unwrap();
    assert_eq!(Some(found.hash), made.hash);
    assert_eq!(found.key_set_id, made.key_set_id);
    assert_eq!(found.validators, made.validators);
}

#[test]
fn terms_that_the_first_block_does_not_commit_to_are_refused() {
    let file: Value = serde_json::from_slice(&genesis().to_json().unwrap()).unwrap();
    let zeros = json!(Address::ZERO);
    let executor = file["contracts"]["FHEVMExecutor"].clone();
    let word = json!(B256::repeat_byte(1));
    let changes: [&dyn Fn(&mut Value); 9] = [
        &|file| file["chainId"] = json!(1),
        &|file| file["fheGasLimit"] = json!(1_000_000),
        &|file| file["owner"] = zeros.clone(),
        // The KMS would decrypt under another key, or the gateway hand out another one.
        &|file| file["keySetId"] = word.clone(),
        &|file| file["crsDigest"] = word.clone(),
        // Rights would be read in the storage of another contract.
        &|file| file["contracts"]["ACL"] = executor.clone(),
        &|file| file["domains"]["gatewayChainId"] = json!(1),
        &|file| file["domains"]["decryption"] = zeros.clone(),
        &|file| file["domains"]["inputVerification"] = zeros.clone(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let (reason, by_node) = refused(&file, change);
        assert!(reason.contains("commits to other terms"), "change {number}: {reason}");
        assert!(by_node.contains("commits to other terms"), "change {number}: {by_node}");
    }
    let (reason, _) = refused(&file, &|file| file["publicKeyDigest"] = word.clone());
    assert!(reason.contains("commits to other terms"), "{reason}");
}

#[test]
fn a_first_block_that_the_hash_does_not_cover_is_refused() {
    let made = genesis();
    let file: Value = serde_json::from_slice(&made.to_json().unwrap()).unwrap();
    let fhelib = FHELIB.to_string().to_lowercase();
    let account = json!(made.alloc.iter().find(|(_, account)| !account.balance.is_zero()).unwrap().0);
    let account = account.as_str().unwrap().to_owned();
    let slot = TERMS_SLOT.to_string();
    let mut other = made.clone();
    other.key_set_id = B256::repeat_byte(1);
    let other_digest = json!(other.terms().digest());
    assert!(file["alloc"][&fhelib]["storage"][&slot].is_string());
    let changes: [&dyn Fn(&mut Value); 8] = [
        &|file| file["timestamp"] = json!(7),
        &|file| file["gasLimit"] = json!(29_000_000),
        &|file| file["hash"] = json!(B256::repeat_byte(1)),
        &|file| file["alloc"][&account]["balance"] = json!("0x1"),
        &|file| file["alloc"][&account]["nonce"] = json!(1),
        &|file| file["alloc"][&account]["code"] = json!("0x00"),
        &|file| drop(file["alloc"].as_object_mut().unwrap().remove(&account)),
        // With the commitment to other terms, the block is another one.
        &|file| {
            file["keySetId"] = json!(B256::repeat_byte(1));
            file["alloc"][&fhelib]["storage"][&slot] = other_digest.clone();
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let (reason, by_node) = refused(&file, change);
        assert!(reason.contains("names the hash"), "change {number}: {reason}");
        assert!(by_node.contains("names the hash"), "change {number}: {by_node}");
    }
    // Other validators: nodes compare them with the contract's storage first.
    let (reason, _) = refused(&file, &|file| file["validators"][0]["power"] = json!(2));
    assert!(reason.contains("names the hash"), "{reason}");
}

#[test]
fn a_file_of_another_form_is_refused() {
    let file: Value = serde_json::from_slice(&genesis().to_json().unwrap()).unwrap();
    let (reason, by_node) = refused(&file, &|file| file["version"] = json!(1));
    assert!(reason.contains("version 1") && by_node.contains("version 1"), "{reason} {by_node}");
    let (reason, _) = refused(&file, &|file| file["keysetId"] = json!(1));
    assert!(reason.contains("unknown field"), "{reason}");
    let (reason, _) = refused(&file, &|file| drop(file.as_object_mut().unwrap().remove("hash")));
    assert!(reason.contains("missing field"), "{reason}");
    assert!(read(b"{\"chainId\": 5}").is_err());
    let nowhere = NativeGenesis::read(std::path::Path::new("nowhere/genesis.json"));
    assert!(matches!(nowhere, Err(ChainError::NativeFile { .. })));
}
