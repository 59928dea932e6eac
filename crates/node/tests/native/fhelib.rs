//! The precompiled contract.

use std::sync::LazyLock;

use alloy::primitives::{Address, B256, Bytes, FixedBytes, U256};
use alloy::sol_types::{SolCall, SolValue};
use cipherloom_contracts::bindings::FheLib;
use cipherloom_contracts::development;
use cipherloom_node::native::{READ_GAS, READ_WORD_GAS, VERIFY_BYTE_GAS, VERIFY_GAS, public_key_slots};
use cipherloom_primitives::ciphertext_state::FHELIB;
use cipherloom_primitives::input::InputMetadata;
use cipherloom_primitives::{FheType, Handle};
use proptest::prelude::*;
use revm::context::result::ExecutionResult;

use crate::client::{Client, STORE};
use crate::hashing::ToyInputs;
use crate::program::Program;

/// A chain without ciphertexts, for questions.
fn empty_client() -> &'static Client {
    static CLIENT: LazyLock<Client> = LazyLock::new(Client::new);
    &CLIENT
}

/// A chain that has one ciphertext.
fn client() -> (Client, Handle) {
    let mut client = Client::new();
    let mut program = Program::new();
    let value = program.value(5, FheType::Uint64);
    program.store(1, value);
    let done = client.block(|block| block.run(&program.calls).unwrap());
    let handle = done.work.computations().next().unwrap().result;
    (client, handle)
}

fn get_ciphertext(handle: Handle) -> Vec<u8> {
    let handle = U256::from_be_bytes(handle.as_b256().0);
    FheLib::getCiphertextCall { handle }.abi_encode()
}

fn public_key() -> Vec<u8> {
    let kind = FixedBytes([1]);
    FheLib::fhePubKeyCall { kind }.abi_encode()
}

/// Whether a call lost all its gas.
fn halted(result: &ExecutionResult) -> bool {
    matches!(result, ExecutionResult::Halt { .. })
}

#[test]
fn selectors_are_those_of_the_generation() {
    assert_eq!(get_ciphertext(client().1)[..4], [0xff, 0x62, 0x7e, 0x77]);
    assert_eq!(FheLib::fhePubKeyCall::SELECTOR, [0xd9, 0xd4, 0x7b, 0xb0]);
    assert_eq!(FheLib::verifyInputCall::SELECTOR, [0x35, 0x46, 0x5a, 0x5d]);
}

#[test]
fn calls_read_ciphertexts_raw_and_transactions_cannot() {
    let (mut client, handle) = client();
    let stored = client.ciphertext(handle).unwrap();
    let read = client.call(FHELIB, get_ciphertext(handle));
    assert_eq!(read.output(), Some(&stored));

    let done = client.block(|block| block.send(FHELIB, get_ciphertext(handle)).unwrap());
    assert!(halted(&done.result), "{:?}", done.result);
    // A contract cannot read either: its call fails, and the gas for it is lost.
    let mut program = Program::new();
    program.call(FHELIB, &get_ciphertext(handle), &[]);
    let done = client.block(|block| block.attempt(&program.calls).unwrap());
    assert!(done.result.is_success());
    assert!(done.result.tx_gas_used() > 190_000_000, "{}", done.result.tx_gas_used());
}

#[test]
fn what_is_not_there_or_not_asked_properly_fails() {
    let (client, handle) = client();
    let unknown = Handle::computed(B256::repeat_byte(9), 31337, FheType::Uint8);
    assert!(halted(&client.call(FHELIB, get_ciphertext(unknown))));
    let mut long = get_ciphertext(handle);
    long.push(0);
    assert!(halted(&client.call(FHELIB, long)));
    assert!(halted(&client.call(FHELIB, get_ciphertext(handle)[..35].to_vec())));
    // The bare handle, as an example of the generation has it.
    assert!(halted(&client.call(FHELIB, handle.as_slice().to_vec())));
    assert!(halted(&client.call(FHELIB, vec![0xff, 0x62])));
    // No key was put there.
    assert!(halted(&client.call(FHELIB, public_key())));
}

#[test]
fn the_public_key_is_read_everywhere() {
    let (mut client, _) = client();
    let key: Bytes = vec![7; 1000].into();
    for (slot, word) in public_key_slots(&key).unwrap() {
        client.database.insert_account_storage(FHELIB, slot, word).unwrap();
    }
    assert_eq!(client.call(FHELIB, public_key()).output(), Some(&key));
    let done = client.block(|block| block.send(FHELIB, public_key()).unwrap());
    assert_eq!(done.result.output(), Some(&key));
    // 1000 bytes are 32 words.
    assert!(done.result.tx_gas_used() >= 21_000 + READ_GAS + 32 * READ_WORD_GAS);

    let other = FheLib::fhePubKeyCall { kind: FixedBytes([2]) }.abi_encode();
    assert!(halted(&client.call(FHELIB, other)));
}

#[test]
fn anybody_may_ask_for_the_types_of_a_list() {
    let (mut client, _) = client();
    let context = InputMetadata {
        contract: STORE,
        user: Address::repeat_byte(5),
        acl: development::addresses().acl,
        chain_id: development::HOST_CHAIN_ID,
    };
    let list = ToyInputs::list(&[FheType::Address, FheType::Bool], 1, &context);
    let ask = |user: Address| FheLib::verifyInputCall {
        acl: context.acl,
        user,
        contractAddress: context.contract,
        list: list.clone(),
    };
    let types = Bytes::from_static(&[7, 0]).abi_encode();
    let call = client.call(FHELIB, ask(context.user).abi_encode());
    assert_eq!(call.output().unwrap().as_ref(), types);
    client.block(|block| {
        let accepted = block.send(FHELIB, ask(context.user).abi_encode()).unwrap();
        assert_eq!(accepted.result.output().unwrap().as_ref(), types);
        let least = VERIFY_GAS + VERIFY_BYTE_GAS * u64::try_from(list.len()).unwrap();
        assert!(accepted.result.tx_gas_used() > least);
        // The gas is that of the call.
        assert_eq!(accepted.result.tx_gas_used(), call.tx_gas_used());

        let refused = block.send(FHELIB, ask(Address::ZERO).abi_encode()).unwrap();
        assert!(matches!(refused.result, ExecutionResult::Revert { .. }));
        let malformed = ask(context.user).abi_encode()[..100].to_vec();
        assert!(halted(&block.send(FHELIB, malformed).unwrap().result));
    });
}

proptest! {
    /// Whatever comes after a selector, the answer is an answer.
    #[test]
    fn any_call_data_has_an_answer(
        selector in prop::sample::select(vec![
            FheLib::getCiphertextCall::SELECTOR,
            FheLib::fhePubKeyCall::SELECTOR,
            FheLib::verifyInputCall::SELECTOR,
            [1, 2, 3, 4],
        ]),
        words in prop::collection::vec(prop_oneof![0..200u64, any::<u64>()], 0..9),
        cut in 0..32usize,
    ) {
        let words: Vec<u8> = words.into_iter().flat_map(|word| U256::from(word).to_be_bytes::<32>()).collect();
        let data = [selector.as_slice(), &words[..words.len().saturating_sub(cut)]].concat();
        let result = empty_client().call(FHELIB, data);
        // No list of the tests is that short, and no ciphertext is there.
        prop_assert!(!result.is_success(), "{:?}", result);
    }
}
