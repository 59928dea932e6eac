//! Chains that nobody knows: the deployer and the people of the demo have keys of their own.

use std::path::Path;

use alloy::signers::local::PrivateKeySigner;
use serde_json::Value;

use crate::{
    foreign_chain::{ForeignChain, errors, json, run},
    process,
};

/// A chain id that no library and no suite knows.
const CHAIN_ID: u64 = 424_242;

/// Makes an account with ether and the file with its key.
fn account(chain: &ForeignChain, name: &str) -> (PrivateKeySigner, String) {
    let signer = PrivateKeySigner::random();
    chain.endow(signer.address(), 10);
    let file = chain.file(name, &alloy::hex::encode(signer.to_bytes()));
    (signer, file.to_str().unwrap().to_owned())
}

#[test]
fn a_stack_deploys_with_a_key_of_its_owner_and_remembers_it() {
    let chain = ForeignChain::start(CHAIN_ID);
    let (deployer, deployer_key) = account(&chain, "deployer.key");
    let (_, alice_key) = account(&chain, "alice.key");

    chain.successful_demo(
        "elsewhere",
        &["--deployer-key-file", &deployer_key, "--account-key-file", &alice_key],
    );
    let manifest: Value = serde_json::from_slice(&std::fs::read(chain.manifest()).unwrap()).unwrap();
    assert_eq!(manifest["contracts"]["ACL"], deployer.address().create(1).to_checksum(None));
    assert_eq!(manifest["complete"], true);

    // The manifest is enough from now on, and Bob can pay for himself.
    let (_, bob_key) = account(&chain, "bob.key");
    let nonce = chain.nonce(deployer.address());
    chain.successful_demo(
        "elsewhere again",
        &["--account-key-file", &alice_key, "--account-key-file", &bob_key],
    );
    assert_eq!(chain.nonce(deployer.address()), nonce, "nothing is deployed again");

    let (dev, summary) = chain.dev(&[]);
    assert_eq!(summary["chainId"], CHAIN_ID);
    assert_eq!(summary["accounts"], serde_json::json!([]), "keys of people are not printed");
    assert_eq!(summary["contracts"]["ACL"], manifest["contracts"]["ACL"]);
    assert!(dev.interrupt());

    let said = errors(&chain.demo(&[]));
    assert!(said.contains("--account-key-file"), "{said}");
}

#[test]
fn an_operators_deployment_is_attached_to_by_its_manifest() {
    let chain = ForeignChain::start(CHAIN_ID);
    let (_, deployer_key) = account(&chain, "deployer.key");
    let (_, alice_key) = account(&chain, "alice.key");
    let manifest = Path::new(chain.data_dir()).join("mine.json");
    let manifest = manifest.to_str().unwrap();

    // What the stack says is what has to be typed.
    let said = errors(&run(&chain.arguments("dev", &[])));
    let (_, command) = said.split_once("`cipherloom ").unwrap();
    let (command, _) = command.split_once('`').unwrap();
    let mut arguments: Vec<&str> = command.split_whitespace().collect();
    assert_eq!(arguments.pop(), Some("FILE"), "{command}");
    arguments.extend([
        deployer_key.as_str(),
        "--deployment",
        manifest,
        "--out",
        chain.data_dir(),
        "--yes",
        "--json",
        // This chain makes no blocks without transactions, so that nothing gets deeper by waiting.
        "--confirmations",
        "1",
    ]);
    json(&process::run(&arguments));

    let attached = ["--deployment", manifest, "--account-key-file", &alice_key];
    chain.successful_demo("by a manifest", &attached);
    assert!(
        !chain.manifest().exists(),
        "what somebody else deployed is not this stack's to remember"
    );

    let stranger = ForeignChain::start(31337);
    let said = errors(&stranger.demo(&["--deployment", manifest]));
    assert!(said.contains("is on chain 424242, and the node serves chain 31337"), "{said}");
}
