//! The bar: on a chain that is not ours, precomputed addresses hold, and the demo runs before and after an upgrade.

use serde_json::Value;

use crate::{
    foreign_chain::{ForeignChain, json, report},
    process,
};

#[test]
fn the_development_chain_works_on_anvil_before_and_after_an_upgrade() {
    deploy_demo_upgrade_demo(31337, "0x8B8f5091f8b9817EF69cFC1E8B2f721BafF60DF4", "0.12");
}

#[test]
fn the_end_to_end_chain_works_on_anvil_before_and_after_an_upgrade_to_another_version() {
    deploy_demo_upgrade_demo(12345, "0xc45994e4098271c3140117ebD5c74C70dd56D9cd", "0.14");
}

/// Runs through it on a local chain, whose published address plan has this deployer, with an upgrade to a version of the protocol.
fn deploy_demo_upgrade_demo(chain_id: u64, deployer: &str, version: &str) {
    let chain = ForeignChain::start(chain_id);
    let precomputed = json(&process::run(&["contracts", "addresses", "--deployer", deployer, "--json"]));
    let names = [
        "ACL",
        "FHEVMExecutor",
        "KMSVerifier",
        "InputVerifier",
        "HCULimit",
        "ProtocolConfig",
        "GatewayContract",
    ];
    for name in names {
        assert!(!chain.has_code(&precomputed[name]), "{name} is there before anything was deployed");
    }

    chain.successful_demo("with deployment", &[]);
    let manifest: Value = serde_json::from_slice(&std::fs::read(chain.manifest()).unwrap()).unwrap();
    for name in names {
        assert!(chain.has_code(&precomputed[name]), "there is no {name} where it was to be");
        assert_eq!(manifest["contracts"][name], precomputed[name], "{name}");
    }
    report(
        &format!("chain {chain_id}: precomputed addresses"),
        &format!("{} of {} deployed as computed", names.len(), names.len()),
    );

    let before = manifest["implementations"].clone();
    upgrade(&chain, version);
    let manifest: Value = serde_json::from_slice(&std::fs::read(chain.manifest()).unwrap()).unwrap();
    let changed = before
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, implementation)| manifest["implementations"][name.as_str()]["address"] != implementation["address"]);
    let changed = changed.count();
    assert_eq!(
        changed,
        before.as_object().unwrap().len(),
        "every implementation is another contract now"
    );
    report(
        &format!("chain {chain_id}: upgrade"),
        &format!("{changed} contracts on new implementations"),
    );

    chain.successful_demo("after the upgrade", &[]);
}

/// Gives every contract a new implementation, which speaks for a version of the protocol.
fn upgrade(chain: &ForeignChain, version: &str) {
    let manifest = chain.manifest();
    let url = chain.url();
    json(&process::run(&[
        "contracts",
        "upgrade",
        "--rpc",
        &url,
        "--deployment",
        manifest.to_str().unwrap(),
        "--force",
        "--face",
        version,
        "--json",
    ]));
}
