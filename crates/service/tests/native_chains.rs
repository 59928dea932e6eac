//! Chains of a process that are native: what options may stand together, and what is known before anybody is asked.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

use std::{collections::BTreeMap, path::PathBuf};

use alloy::primitives::{Address, B256, Bytes};
use cipherloom_chain::LightOptions;
use cipherloom_contracts::{HostAddresses, HostContract};
use cipherloom_node::native::{GENESIS_VERSION, Genesis, GenesisAccount, GenesisDomains, VALIDATOR_SET, validator_slots};
use cipherloom_primitives::{
    ciphertext_state::{FHELIB, STORAGE_ACCOUNT},
    quorum::{Validator, ValidatorSet},
};
use cipherloom_service::chains::{self, Chain, ChainOptions, Trouble};
use tempfile::TempDir;

/// The genesis of a chain whose contracts do nothing, which nobody here asks.
fn founded() -> Genesis {
    let addresses = HostAddresses::of_deployer(Address::repeat_byte(1));
    let validator = Validator {
        address: Address::repeat_byte(2),
        power: 1,
    };
    let validators = ValidatorSet::new(vec![validator]).unwrap();
    let kept = || GenesisAccount {
        nonce: 1,
        ..GenesisAccount::default()
    };
    let contract = || GenesisAccount {
        code: Bytes::from_static(&[0]),
        ..kept()
    };
    let mut alloc: BTreeMap<_, _> = HostContract::ALL
        .iter()
        .map(|name| (name.address(&addresses), contract()))
        .collect();
    alloc.extend([FHELIB, STORAGE_ACCOUNT].map(|address| (address, kept())));
    let set = GenesisAccount {
        storage: validator_slots(&validators),
        ..contract()
    };
    alloc.insert(VALIDATOR_SET, set);
    let genesis = Genesis {
        version: GENESIS_VERSION,
        chain_id: 31338,
        timestamp: 1_800_000_000,
        gas_limit: 30_000_000,
        fhe_gas_limit: 40_000_000,
        owner: Address::repeat_byte(7),
        contracts: Genesis::named(&addresses),
        domains: GenesisDomains {
            gateway_chain_id: 10901,
            decryption: Address::repeat_byte(4),
            input_verification: Address::repeat_byte(5),
        },
        key_set_id: B256::repeat_byte(6),
        public_key_digest: None,
        crs_digest: None,
        validators,
        alloc,
        hash: None,
    };
    genesis.seal().unwrap()
}

fn genesis(directory: &TempDir) -> PathBuf {
    let file = directory.path().join("genesis.json");
    std::fs::write(&file, founded().to_json().unwrap()).unwrap();
    file
}

/// Nobody listens there, and nobody is asked.
fn native(directory: &TempDir) -> ChainOptions {
    ChainOptions {
        rpc_url: vec!["http://127.0.0.1:1".parse().unwrap()],
        native_genesis: Some(genesis(directory)),
        ..ChainOptions::default()
    }
}

async fn refusal(options: &ChainOptions) -> String {
    match Chain::open(options).await {
        Ok(_) => panic!("it was opened"),
        Err(Trouble::NotYet(error)) => panic!("it may pass: {error:#}"),
        Err(Trouble::Wrong(error)) => format!("{error:#}"),
    }
}

#[tokio::test]
async fn a_genesis_says_everything_about_a_native_chain() {
    let directory = tempfile::tempdir().unwrap();
    let options = native(&directory);
    assert_eq!(chains::all(&options, &[]).unwrap().len(), 1);
    let chain = Chain::open(&options).await.unwrap_or_else(|_| panic!("it cannot be opened"));
    assert_eq!(chain.id, 31338);
    assert_eq!(chain.domains.host_chain_id, 31338);
    assert_eq!(chain.domains.decryption, Address::repeat_byte(4));
    assert_eq!(chain.native().unwrap().key_set_id, B256::repeat_byte(6));
    assert!(chain.coprocessor().is_none() && !chain.is_known_plan);
    let client = chain.followed(LightOptions::default(), directory.path()).unwrap().unwrap();
    assert_eq!((client.trusted().height(), client.trusted().hash()), (0, founded().hash.unwrap()));
}

#[tokio::test]
async fn a_native_chain_has_neither_deployment_nor_coprocessor() {
    let directory = tempfile::tempdir().unwrap();
    let with = |change: fn(&mut ChainOptions)| {
        let mut options = native(&directory);
        change(&mut options);
        options
    };
    for options in [
        with(|options| options.deployment = Some("deployment-1.json".into())),
        with(|options| options.coprocessor_url = vec!["http://127.0.0.1:2".into()]),
        with(|options| options.coprocessor_api_key_file = Some("tenant.key".into())),
    ] {
        assert!(refusal(&options).await.contains("no coprocessor works for it"));
    }
    let alone = with(|options| {
        options.native_genesis = None;
        options.native_trusted_set = Some("validators.json".into());
    });
    assert!(refusal(&alone).await.contains("native-genesis is missing"));
    let nowhere = with(|options| options.native_genesis = Some("nowhere.json".into()));
    assert!(refusal(&nowhere).await.contains("nowhere.json"));
}

#[tokio::test]
async fn a_genesis_with_another_hash_than_the_one_that_is_told_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = native(&directory);
    options.native_genesis_hash = founded().hash;
    assert!(options.native_genesis_hash.is_some());
    let opened = Chain::open(&options).await;
    assert_eq!(
        opened.unwrap_or_else(|_| panic!("it cannot be opened")).native().unwrap().hash,
        founded().hash.unwrap()
    );
    // A whole genesis, sealed by whoever wrote it, of another chain.
    let mut other = founded();
    other.timestamp += 1;
    std::fs::write(directory.path().join("genesis.json"), other.seal().unwrap().to_json().unwrap()).unwrap();
    assert!(refusal(&options).await.contains("another chain, or the file was exchanged"));
    options.native_genesis = None;
    assert!(refusal(&options).await.contains("native-genesis is missing"));
}

/// The KMS would look for ciphertexts under another key set, and the gateway hand out its public key.
#[tokio::test]
async fn a_genesis_whose_key_set_was_changed_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let options = native(&directory);
    let mut changed = founded();
    changed.key_set_id = B256::repeat_byte(8);
    std::fs::write(directory.path().join("genesis.json"), changed.to_json().unwrap()).unwrap();
    assert!(refusal(&options).await.contains("commits to other terms"));
}

#[tokio::test]
async fn validators_that_cannot_be_trusted_are_not_replaced_by_those_of_the_genesis() {
    let directory = tempfile::tempdir().unwrap();
    let kept = directory.path().join("validators-31338.json");
    std::fs::write(&kept, "{}").unwrap();
    let chain = Chain::open(&native(&directory))
        .await
        .unwrap_or_else(|_| panic!("it cannot be opened"));
    let error = chain.followed(LightOptions::default(), directory.path()).unwrap_err();
    assert!(format!("{error:#}").contains("validators-31338.json"));
}
