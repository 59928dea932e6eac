//! Calls of the executor, read as the operations they ask for.

use std::collections::BTreeSet;

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::SolCall;
use cipherloom_contracts::bindings::FHEVMExecutor as Executor;
use cipherloom_contracts::{DecodeError, ExecutorCall, HostEvent, call_selector, decode_call};
use cipherloom_primitives::{FheType, Handle, Operation};

fn value(seed: u8, ty: FheType) -> Handle {
    Handle::computed(B256::repeat_byte(seed), 31337, ty)
}

fn call<'a>(input: &'a [u8], output: &'a [u8]) -> ExecutorCall<'a> {
    ExecutorCall {
        caller: Address::repeat_byte(1),
        input,
        output,
        seed: None,
    }
}

#[test]
fn every_operation_has_a_selector_of_its_own() {
    let selectors: BTreeSet<_> = Operation::all().map(call_selector).collect();
    assert_eq!(selectors.len(), Operation::all().count());
}

#[test]
fn bytes_after_the_arguments_change_nothing() {
    let (operand, result) = (value(1, FheType::Uint8), value(2, FheType::Uint8));
    let mut input = Executor::fheNegCall { ct: operand.as_b256() }.abi_encode();
    let expected = decode_call(call(&input, result.as_slice())).unwrap().unwrap();
    let HostEvent::Computation(computation) = &expected else {
        panic!("{expected:?}")
    };
    assert_eq!((computation.inputs.as_slice(), computation.result), ([operand].as_slice(), result));
    input.extend_from_slice(b"more");
    assert_eq!(decode_call(call(&input, result.as_slice())).unwrap().unwrap(), expected);
}

#[test]
fn questions_to_the_contract_are_no_operations() {
    let input = Executor::getACLAddressCall {}.abi_encode();
    assert_eq!(decode_call(call(&input, &[0; 32])).unwrap(), None);
    assert_eq!(decode_call(call(&[1, 2], &[])).unwrap(), None);
}

#[test]
fn a_random_value_needs_the_seed_of_its_event() {
    let input = Executor::fheRandCall {
        randType: FheType::Uint8.id(),
    }
    .abi_encode();
    let result = value(3, FheType::Uint8);
    let mut call = call(&input, result.as_slice());
    assert_eq!(decode_call(call), Err(DecodeError::NoSeed { function: "fheRand" }));
    call.seed = Some([9; 16]);
    assert!(matches!(decode_call(call), Ok(Some(HostEvent::Computation(_)))));
}

#[test]
fn an_input_comes_with_its_user_and_proof() {
    let input_handle = value(4, FheType::Uint64);
    let input = Executor::verifyInputCall {
        inputHandle: input_handle.as_b256(),
        userAddress: Address::repeat_byte(7),
        inputProof: Bytes::from_static(b"proof"),
        inputType: FheType::Uint64.id(),
    }
    .abi_encode();
    let expected = HostEvent::InputVerified {
        caller: Address::repeat_byte(1),
        user: Address::repeat_byte(7),
        handle: input_handle,
        proof: Bytes::from_static(b"proof"),
    };
    assert_eq!(decode_call(call(&input, input_handle.as_slice())), Ok(Some(expected)));
    let other = value(5, FheType::Uint64);
    assert_eq!(decode_call(call(&input, other.as_slice())), Err(DecodeError::InputMismatch));
}

#[test]
fn what_the_contract_cannot_return_is_an_error() {
    let input = Executor::trivialEncryptCall {
        pt: U256::from(3),
        toType: FheType::Uint8.id(),
    }
    .abi_encode();
    assert!(matches!(decode_call(call(&input, &[])), Err(DecodeError::Data { .. })));
    let of_another_type = value(6, FheType::Uint16);
    assert!(matches!(
        decode_call(call(&input, of_another_type.as_slice())),
        Err(DecodeError::Operation { .. })
    ));
}
