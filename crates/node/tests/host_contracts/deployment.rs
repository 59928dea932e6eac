//! Deployment: addresses, versions, who can initialize and upgrade, and that upgrades keep what is stored.

use alloy::{
    primitives::{Address, Bytes, U256, Uint},
    rpc::types::TransactionRequest,
    sol_types::{SolCall, SolConstructor},
};
use cipherloom_contracts::{
    Creation, Face, HostAddresses, HostContract, Part, SignerSet, Wiring,
    bindings::{
        ACL, FHEVMExecutor, GatewayContract, HCULimit, IProtocolConfig::KmsThresholds, InputVerifier, KMSVerifier, PauserSet,
        ProtocolConfig,
    },
    deployment_steps, development, empty_acl_runtime_code, empty_host_contract_runtime_code, gateway_deployment_steps, proxy_runtime_code,
};
use cipherloom_node::{DevChain, DevChainConfig, NodeError};
use cipherloom_primitives::{FheType, Operation};

use crate::stage::{LATEST, Revert, Stage, assert_reverts, deploy};

fn single() -> SignerSet {
    SignerSet::single(Address::repeat_byte(1))
}

#[test]
fn contracts_stand_where_libraries_look_for_them_and_know_each_other() {
    let stage = Stage::new();
    let host = stage.host;
    assert_eq!(host.acl.to_string(), "0x50157CFfD6bBFA2DECe204a89ec419c23ef5755D");
    for address in [
        host.acl,
        host.executor,
        host.kms_verifier,
        host.input_verifier,
        host.hcu_limit,
        host.protocol_config,
        host.pauser_set,
        host.gateway_contract,
    ] {
        assert!(!stage.chain.code(address, LATEST).unwrap().is_empty(), "{address}");
    }
    assert_eq!(stage.read(host.executor, &FHEVMExecutor::getACLAddressCall {}), host.acl);
    assert_eq!(
        stage.read(host.executor, &FHEVMExecutor::getInputVerifierAddressCall {}),
        host.input_verifier
    );
    assert_eq!(stage.read(host.executor, &FHEVMExecutor::getHCULimitAddressCall {}), host.hcu_limit);
    assert_eq!(stage.read(host.acl, &ACL::getFHEVMExecutorAddressCall {}), host.executor);
    assert_eq!(stage.read(host.acl, &ACL::getPauserSetAddressCall {}), host.pauser_set);
    assert_eq!(stage.read(host.acl, &ACL::getConfidentialBridgeAddressCall {}), Address::ZERO);
    assert_eq!(stage.read(host.hcu_limit, &HCULimit::getFHEVMExecutorAddressCall {}), host.executor);
    assert_eq!(stage.read(host.acl, &ACL::ownerCall {}), development::DEPLOYER);
}

#[test]
fn versions_are_those_of_the_face_that_the_deployment_chose() {
    for face in Face::ALL {
        let chain = DevChain::new(DevChainConfig::default()).unwrap();
        let mut config = development::deployment(single(), single());
        config.face = face;
        deploy(&chain, &config);
        for contract in HostContract::ALL {
            let call = TransactionRequest {
                to: Some(contract.address(&config.addresses()).into()),
                // All contracts have the same getter; the ACL's binding stands for it.
                input: Bytes::from(ACL::getVersionCall {}.abi_encode()).into(),
                ..Default::default()
            };
            let output = chain.call(&call, LATEST).unwrap();
            let version = ACL::getVersionCall::abi_decode_returns(&output).unwrap();
            assert_eq!(version, contract.version(face), "{face}");
        }
    }
    let stage = Stage::new();
    assert_eq!(
        stage.read(stage.host.acl, &ACL::getVersionCall {}),
        "ACL v0.3.0",
        "the default is 0.12"
    );
    assert_eq!(stage.read(stage.host.executor, &FHEVMExecutor::getHandleVersionCall {}), 0);
    assert_eq!(stage.read(stage.host.input_verifier, &InputVerifier::getHandleVersionCall {}), 0);
}

#[test]
fn an_upgrade_can_change_the_face() {
    let stage = Stage::new();
    let wiring = Wiring::new(stage.host, Face::V0_14);
    let code = stage.create(HostContract::Acl.creation_code(&wiring));
    stage.administer(stage.host.acl, &upgrade(code));
    assert_eq!(stage.read(stage.host.acl, &ACL::getVersionCall {}), "ACL v0.5.0");
}

#[test]
fn the_code_on_chain_is_the_artifacts_with_its_immutables() {
    let chain = DevChain::new(DevChainConfig::default()).unwrap();
    let mut config = development::deployment(single(), single());
    config.face = Face::V0_14;
    let gateway_deployer = chain.accounts()[9].address();
    config.gateway.deployer = Some(gateway_deployer);
    deploy(&chain, &config);
    let wiring = config.wiring();
    let creations = [deployment_steps(&config), gateway_deployment_steps(&config)].concat();
    let creations: Vec<Creation> = creations.into_iter().filter_map(|step| step.creates).collect();
    assert_eq!(creations.len(), 2 + 7 + 8, "two empty contracts, proxies, implementations");
    for Creation { part, address } in creations {
        let expected = match part {
            Part::EmptyAcl => empty_acl_runtime_code(&wiring, address),
            Part::EmptyHostContract => empty_host_contract_runtime_code(&wiring, address),
            Part::Proxy(_) => proxy_runtime_code().clone(),
            Part::Implementation(contract) => contract.runtime_code(&wiring, address),
            other => panic!("a part without code: {other:?}"),
        };
        assert_eq!(chain.code(address, LATEST).unwrap(), expected, "{part:?}");
    }
    let gateway = HostContract::GatewayContract.address(&wiring.addresses);
    assert_eq!(gateway, gateway_deployer.create(1));
    let other = Wiring::new(wiring.addresses, Face::V0_12);
    let acl = HostContract::Acl;
    assert_ne!(acl.runtime_code(&other, gateway), acl.runtime_code(&wiring, gateway));
}

#[test]
fn there_is_no_other_face() {
    let stage = Stage::new();
    let arguments = HCULimit::constructorCall {
        acl: stage.host.acl,
        executor: stage.host.executor,
        face: 13,
    };
    let request = TransactionRequest {
        input: Bytes::from([HCULimit::BYTECODE.as_ref(), &arguments.abi_encode()].concat()).into(),
        ..Default::default()
    };
    let NodeError::Reverted { data, .. } = stage.chain.call(&request, LATEST).unwrap_err() else {
        panic!("a creation with face 13 must revert")
    };
    Revert(data).is(HCULimit::UnknownProtocolFace { face: 13 });
}

#[test]
fn nothing_can_be_initialized_twice_or_behind_its_proxy() {
    let stage = Stage::new();
    let host = stage.host;
    let twice = |address: Address, call: Vec<u8>| {
        stage
            .call_raw(stage.owner(), address, call.into())
            .unwrap_err()
            .is_some::<ACL::NotInitializingFromEmptyProxy>();
    };
    let kms = KMSVerifier::initializeFromEmptyProxyCall {
        verifyingContractSource: Address::repeat_byte(1),
        chainIDSource: 1,
    };
    let inputs = InputVerifier::initializeFromEmptyProxyCall {
        verifyingContractSource: Address::repeat_byte(1),
        chainIDSource: 1,
        initialSigners: vec![Address::repeat_byte(2)],
        initialThreshold: U256::ONE,
    };
    let config = ProtocolConfig::initializeFromEmptyProxyCall {
        initialSigners: vec![Address::repeat_byte(2)],
        initialThresholds: KmsThresholds {
            publicDecryption: U256::ONE,
            userDecryption: U256::ONE,
            mpc: U256::ZERO,
        },
    };
    twice(host.acl, ACL::initializeFromEmptyProxyCall {}.abi_encode());
    twice(host.executor, FHEVMExecutor::initializeFromEmptyProxyCall {}.abi_encode());
    twice(host.kms_verifier, kms.abi_encode());
    twice(host.input_verifier, inputs.abi_encode());
    twice(host.protocol_config, config.abi_encode());
    let limits = HCULimit::initializeFromEmptyProxyCall {
        hcuPerBlock: Uint::from(1),
        maxHCUDepthPerTx: Uint::from(1),
        maxHCUPerTx: Uint::from(1),
    };
    twice(host.hcu_limit, limits.abi_encode());

    let gateway = GatewayContract::initializeCall {
        initialRelayers: vec![stage.user(1)],
    };
    let refused = stage.call(stage.owner(), host.gateway_contract, &gateway).map(|_| ());
    assert_reverts(refused, GatewayContract::InvalidInitialization {});

    // The implementation itself, which a proxy only borrows, accepts nothing at all.
    let steps = deployment_steps(&development::deployment(single(), single()));
    let implementation = |contract| {
        let mut created = steps.iter().filter_map(|step| step.creates);
        created
            .find(|creation| creation.part == Part::Implementation(contract))
            .unwrap()
            .address
    };
    twice(implementation(HostContract::Acl), ACL::initializeFromEmptyProxyCall {}.abi_encode());
    let refused = stage
        .call(stage.owner(), implementation(HostContract::GatewayContract), &gateway)
        .map(|_| ());
    assert_reverts(refused, GatewayContract::InvalidInitialization {});
}

fn new_acl(stage: &Stage, bridge: Address) -> Address {
    let wiring = Wiring {
        bridge,
        ..Wiring::new(stage.host, Face::default())
    };
    stage.create(HostContract::Acl.creation_code(&wiring))
}

fn upgrade(implementation: Address) -> ACL::upgradeToAndCallCall {
    ACL::upgradeToAndCallCall {
        newImplementation: implementation,
        data: Bytes::new(),
    }
}

#[test]
fn an_upgrade_keeps_what_is_stored() {
    let stage = Stage::new();
    let mut script = stage.script();
    let a = script.value(1, FheType::Uint8);
    script.call(stage.host.acl, "allow(bytes32,address)", &[a, stage.batch.into()]);
    let mined = stage.mine(&script).unwrap();
    let handle = stage.computations(&mined)[0].result;
    stage.administer(stage.host.acl, &ACL::blockAccountCall { account: stage.user(7) });

    let bridge = Address::repeat_byte(0xb1);
    stage.administer(stage.host.acl, &upgrade(new_acl(&stage, bridge)));

    assert_eq!(
        stage.read(stage.host.acl, &ACL::getConfidentialBridgeAddressCall {}),
        bridge,
        "the new code runs"
    );
    assert!(stage.read(
        stage.host.acl,
        &ACL::persistAllowedCall {
            handle: handle.as_b256(),
            account: stage.batch
        }
    ));
    assert!(stage.read(stage.host.acl, &ACL::isAccountDeniedCall { account: stage.user(7) }));
    assert_eq!(stage.read(stage.host.acl, &ACL::ownerCall {}), stage.owner());
    let mut later = stage.script();
    later.operation(Operation::Neg, &[handle.into()]);
    stage.mine(&later).unwrap();
}

#[test]
fn random_seeds_go_on_after_an_upgrade_of_the_executor() {
    let stage = Stage::new();
    let host = stage.host;
    let mut script = stage.script();
    script.operation(Operation::Rand, &[FheType::Uint8.into()]);
    stage.mine(&script).unwrap();
    let slot = "4613e1771f6b755d243e536fb5a23c5b15e2826575fee921e8fe7a22a760c800";
    let slot = U256::from_str_radix(slot, 16).unwrap();
    let counter = || stage.chain.storage(host.executor, slot, LATEST).unwrap().to::<u64>();
    assert_eq!(counter(), 1);
    let code = stage.create(HostContract::FhevmExecutor.creation_code(&Wiring::new(host, Face::default())));
    stage.administer(host.executor, &upgrade(code));
    stage.mine(&script).unwrap();
    assert_eq!(counter(), 2);
}

#[test]
fn only_the_owner_upgrades() {
    let stage = Stage::new();
    let (host, account) = (stage.host, stage.user(1));
    let code = new_acl(&stage, Address::ZERO);
    let refused = stage.send(account, host.acl, &upgrade(code));
    assert_reverts(refused, ACL::OwnableUnauthorizedAccount { account });
    for address in [
        host.executor,
        host.kms_verifier,
        host.input_verifier,
        host.hcu_limit,
        host.protocol_config,
        host.gateway_contract,
    ] {
        let refused = stage.send(account, address, &upgrade(code));
        assert_reverts(refused, FHEVMExecutor::NotHostOwner { sender: account });
    }
}

#[test]
fn ownership_moves_in_two_steps_and_takes_every_contract_along() {
    let stage = Stage::new();
    let (host, old, new) = (stage.host, stage.owner(), stage.user(3));
    stage.administer(host.acl, &ACL::transferOwnershipCall { newOwner: new });
    assert_eq!(stage.read(host.acl, &ACL::ownerCall {}), old);
    let stranger = stage.user(4);
    let refused = stage.send(stranger, host.acl, &ACL::acceptOwnershipCall {});
    assert_reverts(refused, ACL::OwnableUnauthorizedAccount { account: stranger });
    stage.send(new, host.acl, &ACL::acceptOwnershipCall {}).unwrap();
    assert_eq!(stage.read(host.acl, &ACL::ownerCall {}), new);
    let add = PauserSet::addPauserCall { account: new };
    assert_reverts(stage.send(old, host.pauser_set, &add), PauserSet::NotHostOwner { sender: old });
    stage.send(new, host.pauser_set, &add).unwrap();
}

#[test]
fn another_deployer_gets_other_addresses_and_the_same_stack() {
    let chain = DevChain::new(DevChainConfig::default()).unwrap();
    let deployer = chain.accounts()[9].address();
    let mut config = development::deployment(single(), single());
    config.deployer = deployer;
    config.owner = chain.accounts()[8].address();
    deploy(&chain, &config);
    let host = HostAddresses::of_deployer(deployer);
    assert_ne!(host, development::addresses());
    let pending = TransactionRequest {
        to: Some(host.acl.into()),
        input: Bytes::from(ACL::pendingOwnerCall {}.abi_encode()).into(),
        ..Default::default()
    };
    let output = chain.call(&pending, LATEST).unwrap();
    assert_eq!(ACL::pendingOwnerCall::abi_decode_returns(&output).unwrap(), config.owner);
}
