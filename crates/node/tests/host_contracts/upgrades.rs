//! Upgrades change code and nothing else: every slot of every proxy but that of its implementation stays as it was.

use alloy::{
    primitives::{Address, B256, Bytes, U256, Uint},
    sol_types::SolCall,
};
use cipherloom_contracts::{
    Face, HostContract, Wiring,
    bindings::{ACL, GatewayContract, HCULimit, IProtocolConfig::KmsThresholds, InputVerifier, ProtocolConfig},
    upgrade_call,
};
use cipherloom_primitives::{FheType, Operation};
use serde_json::{Value, json};

use crate::stage::{LATEST, Stage};

/// Where a proxy keeps its implementation's address (ERC-1967).
const IMPLEMENTATION_SLOT: &str = "360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc";

/// The root of an account's storage: equal roots mean equal storage.
fn storage_root(stage: &Stage, address: Address) -> B256 {
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "eth_getProof", "params": [address, [], "latest"]});
    let answer = stage.rpc(&request);
    answer["result"]["storageHash"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"))
        .parse()
        .unwrap()
}

fn implementation(stage: &Stage, proxy: Address) -> Address {
    let slot = U256::from_str_radix(IMPLEMENTATION_SLOT, 16).unwrap();
    let word = stage.chain.storage(proxy, slot, LATEST).unwrap();
    Address::from_word(word.into())
}

fn upgrade(stage: &Stage, proxy: Address, implementation: Address) {
    let call = ACL::upgradeToAndCallCall::abi_decode(&upgrade_call(implementation, Bytes::new())).unwrap();
    stage.administer(proxy, &call);
}

/// Writes something into every kind of storage that the contracts have.
fn live(stage: &Stage) {
    let host = stage.host;
    let mut script = stage.script();
    let a = script.value(1, FheType::Uint64);
    script.call(host.acl, "allow(bytes32,address)", &[a, stage.batch.into()]);
    script.call(host.acl, "allowForDecryption(bytes32[])", &[32.into(), 1.into(), a]);
    script.operation(Operation::Rand, &[FheType::Uint8.into()]);
    let mined = stage.mine(&script).unwrap();
    let handle = stage.computations(&mined)[0].result.as_b256();

    let delegation = ACL::delegateForUserDecryptionCall {
        delegate: stage.user(2),
        contractAddress: stage.batch,
        expirationDate: u64::MAX,
    };
    stage.send(stage.user(1), host.acl, &delegation).unwrap();
    let invalidation = ACL::invalidateDecryptionSignaturesBeforeCall { timestamp: U256::ZERO };
    stage.send(stage.user(1), host.acl, &invalidation).unwrap();
    stage.administer(host.acl, &ACL::blockAccountCall { account: stage.user(7) });
    stage.administer(host.acl, &ACL::transferOwnershipCall { newOwner: stage.user(8) });

    let limit = HCULimit::setMaxHCUPerTxCall {
        maxHCUPerTx: Uint::from(30_000_000),
    };
    stage.administer(host.hcu_limit, &limit);
    let block_limit = HCULimit::setHCUPerBlockCall {
        hcuPerBlock: Uint::from(100_000_000),
    };
    stage.administer(host.hcu_limit, &block_limit);
    stage.administer(host.hcu_limit, &HCULimit::addToBlockHCUWhitelistCall { account: stage.user(3) });
    stage.mine(&script).unwrap(); // the block's meter

    let signers = vec![stage.user(3), stage.user(4)];
    let context = InputVerifier::defineNewContextCall {
        newSigners: signers.clone(),
        newThreshold: U256::from(2),
    };
    stage.administer(host.input_verifier, &context);
    let context = ProtocolConfig::defineNewKmsContextCall {
        signers,
        thresholds: KmsThresholds {
            publicDecryption: U256::from(2),
            userDecryption: U256::from(1),
            mpc: U256::from(1),
        },
    };
    stage.administer(host.protocol_config, &context);
    stage.administer(host.protocol_config, &ProtocolConfig::defineNewKmsEpochCall {});
    let destroy = ProtocolConfig::destroyKmsContextCall {
        contextId: (U256::from(7) << 248) | U256::ONE,
    };
    stage.administer(host.protocol_config, &destroy);

    stage.administer(host.gateway_contract, &GatewayContract::addRelayerCall { relayer: stage.user(5) });
    let now = stage.chain.block(LATEST).unwrap().unwrap().header.timestamp;
    let request = GatewayContract::requestDecryptionCall {
        ctsHandles: vec![handle],
        callbackSelector: [1, 2, 3, 4].into(),
        msgValue: U256::from(5),
        maxTimestamp: U256::from(now + 3600),
        passSignaturesToCaller: true,
    };
    stage.send(stage.user(1), host.gateway_contract, &request).unwrap();
}

/// Everything the contracts tell without arguments, by contract and function.
fn answers(stage: &Stage) -> Vec<(String, Bytes)> {
    let mut found = Vec::new();
    for contract in HostContract::ALL {
        let path = format!("{}/../../contracts/artifacts/{contract}.json", env!("CARGO_MANIFEST_DIR"));
        let artifact: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for item in artifact["abi"].as_array().unwrap() {
            let is_getter = item["type"] == "function" && item["inputs"] == json!([]) && item["stateMutability"] == "view";
            // An implementation alone answers this one, and through a proxy it reverts.
            if !is_getter || item["name"] == "proxiableUUID" {
                continue;
            }
            let name = format!("{}()", item["name"].as_str().unwrap());
            let selector = Bytes::copy_from_slice(&alloy::primitives::keccak256(&name)[..4]);
            let answer = stage.call_raw(stage.user(0), contract.address(&stage.host), selector).unwrap();
            found.push((format!("{contract}.{name}"), answer));
        }
    }
    assert!(found.len() > 30, "{} getters", found.len());
    found
}

#[test]
fn an_upgrade_of_each_contract_changes_its_implementation_slot_alone() {
    let stage = Stage::with_signers(2, 2, 1);
    live(&stage);
    let before = answers(&stage);
    for contract in HostContract::ALL.into_iter().filter(|contract| contract.is_upgradeable()) {
        let proxy = contract.address(&stage.host);
        let (root, old) = (storage_root(&stage, proxy), implementation(&stage, proxy));
        let new = stage.create(contract.creation_code(&Wiring::new(stage.host, Face::default())));
        assert_ne!(old, new);
        upgrade(&stage, proxy, new);
        assert_eq!(implementation(&stage, proxy), new, "{contract}");
        assert_ne!(
            storage_root(&stage, proxy),
            root,
            "{contract}: the implementation's slot has changed"
        );
        assert_eq!(answers(&stage), before, "{contract}");
        // Back again, all storage must be what it was: nothing else was touched on the way.
        upgrade(&stage, proxy, old);
        assert_eq!(storage_root(&stage, proxy), root, "{contract}");
        upgrade(&stage, proxy, new);
    }
    assert_eq!(answers(&stage), before);
    // The chain goes on as before.
    let mut script = stage.script();
    script.value(1, FheType::Uint8);
    stage.mine(&script).unwrap();
}
