//! What a chain begins with.

use alloy::{
    primitives::{Address, U256},
    sol_types::SolCall,
};
use cipherloom_contracts::{KmsConfig, SignerSet, bindings::GatewayContract, development};
use cipherloom_node::native::{Genesis, NativeChain, NativeConfig};
use cipherloom_primitives::{
    ciphertext_state::FHELIB,
    quorum::{Validator, ValidatorSet},
};
use cipherloom_validator::ChainPlan;

use crate::ground::{WORKSHOP, call};

fn plan() -> ChainPlan {
    let member = |byte, power| Validator {
        address: Address::repeat_byte(byte),
        power,
    };
    let set = ValidatorSet::new(vec![member(1, 1), member(2, 3)]).unwrap();
    let kms = KmsConfig::from(SignerSet::single(Address::repeat_byte(5)));
    let mut plan = ChainPlan::new(4242, set, Address::repeat_byte(9), kms).unwrap();
    plan.timestamp = 1_700_000_000;
    plan.funded = [(Address::repeat_byte(7), U256::from(11))].into();
    plan.relayers = vec![Address::repeat_byte(8)];
    plan
}

#[test]
fn whoever_has_the_plan_and_the_keys_can_check_the_file() {
    let genesis = plan().build(&WORKSHOP.keys).unwrap();
    assert_eq!(plan().build(&WORKSHOP.keys).unwrap(), genesis);
    assert_eq!(Genesis::from_json(&genesis.to_json().unwrap()).unwrap(), genesis);
    for changed in [
        ChainPlan {
            owner: Address::repeat_byte(10),
            ..plan()
        },
        ChainPlan {
            funded: [(Address::repeat_byte(7), U256::from(12))].into(),
            ..plan()
        },
        ChainPlan {
            kms: KmsConfig::from(SignerSet::single(Address::repeat_byte(6))),
            ..plan()
        },
    ] {
        assert_ne!(changed.build(&WORKSHOP.keys).unwrap().hash, genesis.hash);
    }
}

#[test]
fn the_first_block_has_funds_contracts_and_the_public_key() {
    let genesis = plan().build(&WORKSHOP.keys).unwrap();
    let chain = NativeChain::open(
        NativeConfig::new(genesis.clone()),
        std::sync::Arc::clone(&WORKSHOP.executor) as _,
        std::sync::Arc::clone(&WORKSHOP.checks) as _,
    )
    .unwrap();
    assert_eq!(Some(chain.head().unwrap().hash), genesis.hash);
    assert_eq!(chain.validators_at(1).unwrap(), plan().validators);
    let balance = chain
        .rpc_call("eth_getBalance", serde_json::json!([Address::repeat_byte(7), "latest"]))
        .unwrap();
    assert_eq!(balance, "0xb");
    // fhePubKey(bytes1), whose answer is the key as it is.
    let mut question = vec![0xd9, 0xd4, 0x7b, 0xb0];
    question.extend([1].iter().chain(&[0; 31]));
    assert_eq!(call(&chain, FHELIB, question).unwrap().as_ref(), &*WORKSHOP.keys.public_key());
    let code = chain
        .rpc_call(
            "eth_getCode",
            serde_json::json!([development::addresses().input_verifier, "latest"]),
        )
        .unwrap();
    assert!(code.as_str().unwrap().len() > 4);
    // The owner and who was named deliver decryptions; nobody else does.
    for (account, expected) in [(8, true), (9, true), (7, false)] {
        let account = Address::repeat_byte(account);
        let question = GatewayContract::isRelayerCall { account }.abi_encode();
        let answer = call(&chain, development::addresses().gateway_contract, question).unwrap();
        let is_relayer = GatewayContract::isRelayerCall::abi_decode_returns(&answer).unwrap();
        assert_eq!(is_relayer, expected, "{account}");
    }
}
