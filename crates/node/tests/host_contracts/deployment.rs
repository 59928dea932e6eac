//! Deployment: addresses, versions, who can initialize and upgrade, and that upgrades keep what is stored.

use alloy::{
    primitives::{Address, Bytes, U256, Uint},
    rpc::types::TransactionRequest,
    sol_types::{SolCall, SolConstructor},
};
use cipherloom_contracts::{
    HostAddresses, SignerSet,
    bindings::{ACL, FHEVMExecutor, HCULimit, InputVerifier, KMSVerifier, PauserSet},
    development,
};
use cipherloom_node::{DevChain, DevChainConfig};
use cipherloom_primitives::{FheType, Operation};

use crate::stage::{LATEST, Stage, assert_reverts, deploy};

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
        host.pauser_set,
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
fn versions_are_those_of_protocol_0_12() {
    let stage = Stage::new();
    let host = stage.host;
    // All contracts have the same getter; the ACL's binding stands for it.
    let version = |address: Address| stage.read(address, &ACL::getVersionCall {});
    assert_eq!(version(host.acl), "ACL v0.3.0");
    assert_eq!(version(host.executor), "FHEVMExecutor v0.3.0");
    assert_eq!(version(host.kms_verifier), "KMSVerifier v0.2.0");
    assert_eq!(version(host.input_verifier), "InputVerifier v0.2.0");
    assert_eq!(version(host.hcu_limit), "HCULimit v0.2.0");
    assert_eq!(version(host.pauser_set), "PauserSet v0.1.0");
    assert_eq!(stage.read(host.executor, &FHEVMExecutor::getHandleVersionCall {}), 0);
    assert_eq!(stage.read(host.input_verifier, &InputVerifier::getHandleVersionCall {}), 0);
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
        initialSigners: vec![Address::repeat_byte(2)],
        initialThreshold: U256::ONE,
    };
    twice(host.acl, ACL::initializeFromEmptyProxyCall {}.abi_encode());
    twice(host.executor, FHEVMExecutor::initializeFromEmptyProxyCall {}.abi_encode());
    twice(host.kms_verifier, kms.abi_encode());
    twice(host.input_verifier, kms.abi_encode());
    let limits = HCULimit::initializeFromEmptyProxyCall {
        hcuPerBlock: Uint::from(1),
        maxHCUDepthPerTx: Uint::from(1),
        maxHCUPerTx: Uint::from(1),
    };
    twice(host.hcu_limit, limits.abi_encode());

    // The implementation itself, which a proxy only borrows, accepts nothing at all.
    let implementation = development::DEPLOYER.create(8);
    assert!(!stage.chain.code(implementation, LATEST).unwrap().is_empty());
    twice(implementation, ACL::initializeFromEmptyProxyCall {}.abi_encode());
}

fn new_acl(stage: &Stage, bridge: Address) -> Address {
    let host = stage.host;
    let arguments = ACL::constructorCall {
        executor: host.executor,
        pauserSet: host.pauser_set,
        bridge,
    };
    stage.create([ACL::BYTECODE.as_ref(), &arguments.abi_encode()].concat().into())
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
    let arguments = FHEVMExecutor::constructorCall {
        acl: host.acl,
        inputVerifier: host.input_verifier,
        hcuLimit: host.hcu_limit,
    };
    let code = stage.create([FHEVMExecutor::BYTECODE.as_ref(), &arguments.abi_encode()].concat().into());
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
    for address in [host.executor, host.kms_verifier, host.input_verifier, host.hcu_limit] {
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
    let single = || SignerSet::single(Address::repeat_byte(1));
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
