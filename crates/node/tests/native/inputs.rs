//! Encrypted inputs: proofs that every validator checks, and values that enter the block.

use std::sync::atomic::Ordering;

use alloy::primitives::{Address, Bytes};
use alloy::sol_types::SolCall;
use cipherloom_contracts::bindings::FHEVMExecutor as Executor;
use cipherloom_contracts::development;
use cipherloom_node::native::{MOST_PROOFS, PROOF_HCU};
use cipherloom_primitives::input::{InputMetadata, input_handles};
use cipherloom_primitives::native::{NativeInputProof, native_input_handles};
use cipherloom_primitives::{FheType, Handle, Operation};

use crate::client::{BATCH, Batch, Client, SENDER};
use crate::hashing::{HashingExecutor, ToyInputs, input_bytes};
use crate::program::{Arg, Program, byte};

const USER: Address = Address::repeat_byte(0x05);
const TYPES: [FheType; 2] = [FheType::Uint64, FheType::Bool];

fn context() -> InputMetadata {
    InputMetadata {
        contract: BATCH,
        user: USER,
        acl: development::addresses().acl,
        chain_id: development::HOST_CHAIN_ID,
    }
}

/// A list with its handles and the proof that names them.
struct Input {
    list: Bytes,
    handles: Vec<Handle>,
    proof: Bytes,
}

impl Input {
    fn new(seed: u8, handles: impl FnOnce(&[u8]) -> Vec<Handle>) -> Self {
        let list = ToyInputs::list(&TYPES, seed, &context());
        let handles = handles(&list);
        let proof = NativeInputProof {
            handles: handles.clone(),
            list: &list,
        };
        Self {
            proof: proof.encode().unwrap().into(),
            handles,
            list,
        }
    }

    /// With the handles of the current protocol.
    fn current(seed: u8) -> Self {
        Self::new(seed, |list| input_handles(list, &TYPES, context().acl, context().chain_id).unwrap())
    }

    /// With the handles of the 0.6 generation.
    fn legacy(seed: u8) -> Self {
        Self::new(seed, |list| native_input_handles(list, &TYPES).unwrap())
    }
}

/// Adds the admission of a value.
fn admit(program: &mut Program, handle: Handle, user: Address, proof: &Bytes) -> Arg {
    let call = Executor::verifyInputCall {
        inputHandle: handle.as_b256(),
        userAddress: user,
        inputProof: proof.clone(),
        inputType: handle.fhe_type().id(),
    };
    program.call(development::addresses().executor, &call.abi_encode(), &[])
}

fn checked(client: &Client) -> usize {
    client.inputs.checked.load(Ordering::Relaxed)
}

#[test]
fn inputs_of_both_forms_are_operands_and_can_be_stored_as_they_are() {
    for input in [Input::current(1), Input::legacy(1)] {
        let mut client = Client::new();
        let mut program = Program::new();
        let value = admit(&mut program, input.handles[0], USER, &input.proof);
        let condition = admit(&mut program, input.handles[1], USER, &input.proof);
        let zero = program.value(0, FheType::Uint64);
        let chosen = program.operation(Operation::IfThenElse, &[condition, value, zero]);
        program.store(1, chosen);
        program.store(2, value);
        let (done, plan) = client.block_with(
            |block| {
                let done = block.run(&program.calls).unwrap();
                assert!(done.result.is_success(), "{:?}", done.result);
                // Two values of one list: one proof.
                assert_eq!(done.work.proofs_checked, 1);
                assert!(block.fhe_gas_used() > PROOF_HCU);
                done
            },
            |plan| HashingExecutor.results(plan.work()),
        );
        assert_eq!(checked(&client), 1);
        let [list] = &plan.work().inputs[..] else { panic!() };
        assert_eq!((&list.list, list.context), (&input.list, context()));
        let chosen = done.work.computations().last().unwrap().result;
        assert!(client.ciphertext(chosen).is_some());
        assert_eq!(
            client.ciphertext(input.handles[0]),
            Some(input_bytes(&input.list, input.handles[0]))
        );
        assert_eq!(client.ciphertext(input.handles[1]), None);
    }
}

#[test]
fn an_input_that_nothing_stored_needs_is_not_sent_to_the_executor() {
    let mut client = Client::new();
    let (used, unused) = (Input::current(1), Input::current(2));
    let mut program = Program::new();
    let value = admit(&mut program, used.handles[0], USER, &used.proof);
    admit(&mut program, unused.handles[0], USER, &unused.proof);
    program.store(1, value);
    let (_, plan) = client.block_with(
        |block| block.run(&program.calls).unwrap(),
        |plan| HashingExecutor.results(plan.work()),
    );
    let lists: Vec<&Bytes> = plan.work().inputs.iter().map(|input| &input.list).collect();
    assert_eq!(lists, [&used.list]);
}

#[test]
fn proofs_for_others_and_forged_types_are_refused_and_cost_fhe_gas() {
    let mut client = Client::new();
    let input = Input::current(1);
    let mut forged = input_handles(&input.list, &[FheType::Uint128, FheType::Bool], context().acl, context().chain_id).unwrap();
    let forged_proof: Bytes = NativeInputProof {
        handles: forged.clone(),
        list: &input.list,
    }
    .encode()
    .unwrap()
    .into();
    let forged = forged.remove(0);
    client.block(|block| {
        for (handle, user, proof) in [(input.handles[0], SENDER, &input.proof), (forged, USER, &forged_proof)] {
            let before = block.fhe_gas_used();
            let mut program = Program::new();
            admit(&mut program, handle, user, proof);
            let done = block.run(&program.calls).unwrap();
            assert!(!done.result.is_success());
            assert_eq!(done.work.noticed, []);
            assert_eq!(block.fhe_gas_used() - before, PROOF_HCU);
        }
    });
    assert_eq!(checked(&client), 2);
}

#[test]
fn calls_check_everything_but_the_proof() {
    let client = Client::new();
    let input = Input::current(1);
    let run = |user: Address, proof: &Bytes| {
        let mut program = Program::new();
        admit(&mut program, input.handles[0], user, proof);
        client.call(BATCH, Batch::runCall { calls: program.calls }.abi_encode())
    };
    assert!(run(USER, &input.proof).is_success());
    assert!(run(SENDER, &input.proof).is_success());
    let shortened = input.proof.slice(..input.proof.len() - 1);
    assert!(!run(USER, &shortened).is_success());
    assert_eq!(checked(&client), 0);
}

#[test]
fn an_operand_may_be_an_input_of_the_same_block_that_was_allowed_before() {
    let mut client = Client::new();
    let input = Input::current(1);
    let mut first = Program::new();
    let value = admit(&mut first, input.handles[0], USER, &input.proof);
    first.keep(value);
    let mut second = Program::new();
    let doubled = second.operation(Operation::Add, &[input.handles[0].into(), input.handles[0].into(), byte(0)]);
    second.store(1, doubled);
    let done = client.block(|block| {
        block.run(&first.calls).unwrap();
        block.run(&second.calls).unwrap()
    });
    assert!(client.ciphertext(done.work.computations().last().unwrap().result).is_some());
}

#[test]
fn a_transaction_has_only_so_many_lists_checked() {
    let mut client = Client::new();
    let most = u8::try_from(MOST_PROOFS).unwrap();
    let program = |lists: u8| {
        let mut program = Program::new();
        for seed in 0..lists {
            let input = Input::current(seed);
            admit(&mut program, input.handles[0], USER, &input.proof);
        }
        program
    };
    client.block(|block| {
        let allowed = block.run(&program(most).calls).unwrap();
        assert!(allowed.result.is_success(), "{:?}", allowed.result);
        let refused = block.run(&program(most + 1).calls).unwrap();
        assert!(!refused.result.is_success());
        assert_eq!(refused.work.proofs_checked, u64::from(most));
    });
    assert_eq!(checked(&client), 2 * usize::from(most));
    // A gas estimate finds it out, too.
    let call = |lists: u8| {
        client.call(
            BATCH,
            Batch::runCall {
                calls: program(lists).calls,
            }
            .abi_encode(),
        )
    };
    assert!(call(most).is_success());
    assert!(!call(most + 1).is_success());
}

#[test]
fn a_proof_needs_no_padding() {
    let mut client = Client::new();
    let input = Input::current(1);
    assert_ne!(input.proof.len() % 32, 0);
    let mut program = Program::new();
    let value = admit(&mut program, input.handles[0], USER, &input.proof);
    let call = program.calls.last_mut().unwrap();
    let unpadded = call.data.len() - (32 - input.proof.len() % 32);
    call.data.truncate(unpadded);
    program.store(1, value);
    let done = client.block(|block| block.run(&program.calls).unwrap());
    assert!(done.result.is_success(), "{:?}", done.result);
    assert!(client.ciphertext(input.handles[0]).is_some());
}
