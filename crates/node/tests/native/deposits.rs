//! Inputs that somebody deposits before their user needs them, so that the user's transaction brings nothing but handles.

use alloy::primitives::{Address, Bytes};
use alloy::sol_types::SolCall;
use cipherloom_contracts::bindings::{FHEVMExecutor as Executor, NativeInputContext, NativeInputVerifier};
use cipherloom_contracts::development;
use cipherloom_node::native::{PROOF_HCU, STORED_HCU};
use cipherloom_primitives::input::{InputMetadata, input_handles};
use cipherloom_primitives::native::NativeInputProof;
use cipherloom_primitives::{FheType, Handle, Operation};

use crate::client::{BATCH, Block, Client};
use crate::hashing::{ToyInputs, input_bytes};
use crate::program::{Arg, Program};

const USER: Address = Address::repeat_byte(0x05);
const TYPES: [FheType; 2] = [FheType::Uint64, FheType::Uint64];

/// A list for the user and the scripts' contract.
struct Input {
    list: Bytes,
    handles: Vec<Handle>,
}

impl Input {
    fn new(seed: u8) -> Self {
        let context = InputMetadata {
            contract: BATCH,
            user: USER,
            acl: development::addresses().acl,
            chain_id: development::HOST_CHAIN_ID,
        };
        let list = ToyInputs::list(&TYPES, seed, &context);
        let handles = input_handles(&list, &TYPES, context.acl, context.chain_id).unwrap();
        Self { list, handles }
    }

    /// The call that deposits it for a user.
    fn deposit(&self, user: Address) -> Vec<u8> {
        let proof = NativeInputProof {
            handles: self.handles.clone(),
            list: &self.list,
        };
        let call = NativeInputVerifier::depositInputCall {
            context: NativeInputContext {
                userAddress: user,
                contractAddress: BATCH,
            },
            inputProof: proof.encode().unwrap().into(),
        };
        call.abi_encode()
    }

    /// Adds the admission of its first value, as published SDKs ask for it.
    fn admit(&self, program: &mut Program) -> Arg {
        let mut proof = vec![2, 0];
        self.handles.iter().for_each(|handle| proof.extend_from_slice(handle.as_slice()));
        proof.push(0);
        let call = Executor::verifyInputCall {
            inputHandle: self.handles[0].as_b256(),
            userAddress: USER,
            inputProof: proof.into(),
            inputType: self.handles[0].fhe_type().id(),
        };
        program.call(development::addresses().executor, &call.abi_encode(), &[])
    }

    /// Uses and stores its first value.
    fn used(&self) -> Program {
        let mut program = Program::new();
        let value = self.admit(&mut program);
        let negated = program.operation(Operation::Neg, &[value]);
        program.store(1, negated);
        program
    }
}

fn verifier() -> Address {
    development::addresses().input_verifier
}

fn deposit(block: &mut Block<'_>, input: &Input) {
    let done = block.send(verifier(), input.deposit(USER)).unwrap();
    assert!(done.result.is_success(), "{:?}", done.result);
    assert_eq!((done.work.proofs_checked, done.work.noticed.len()), (1, TYPES.len()));
}

#[test]
fn deposited_inputs_are_state_and_operands_of_later_blocks() {
    let mut client = Client::new();
    let input = Input::new(1);
    client.block(|block| {
        deposit(block, &input);
        assert_eq!(block.fhe_gas_used(), PROOF_HCU + 2 * STORED_HCU);
    });
    for handle in &input.handles {
        assert_eq!(client.ciphertext(*handle), Some(input_bytes(&input.list, *handle)));
    }
    let done = client.block(|block| block.run(&input.used().calls).unwrap());
    assert!(done.result.is_success(), "{:?}", done.result);
    assert_eq!(done.work.proofs_checked, 0, "the user brings no proof");
    let negated = done.work.computations().last().unwrap();
    assert_eq!(negated.inputs, [input.handles[0]]);
    assert!(client.ciphertext(negated.result).is_some());
}

#[test]
fn deposit_and_use_can_be_in_one_block_or_one_transaction() {
    let mut client = Client::new();
    let (first, second) = (Input::new(1), Input::new(2));
    let done = client.block(|block| {
        deposit(block, &first);
        block.run(&first.used().calls).unwrap()
    });
    assert!(client.ciphertext(done.work.computations().last().unwrap().result).is_some());

    let mut program = Program::new();
    program.call(verifier(), &second.deposit(USER), &[]);
    let value = second.admit(&mut program);
    let negated = program.operation(Operation::Neg, &[value]);
    program.store(1, negated);
    let done = client.block(|block| block.run(&program.calls).unwrap());
    assert!(done.result.is_success(), "{:?}", done.result);
    assert!(client.ciphertext(done.work.computations().last().unwrap().result).is_some());
}

#[test]
fn a_deposit_again_changes_nothing_and_costs_the_check() {
    let mut client = Client::new();
    let input = Input::new(1);
    client.block(|block| deposit(block, &input));
    let before = client.ciphertext(input.handles[1]);
    client.block(|block| {
        deposit(block, &input);
        assert_eq!(block.fhe_gas_used(), PROOF_HCU);
    });
    assert_eq!(client.ciphertext(input.handles[1]), before);
}

#[test]
fn refused_and_reverted_deposits_leave_nothing() {
    let mut client = Client::new();
    let input = Input::new(1);
    let (done, plan) = client.block_with(
        |block| {
            // For somebody else the proof does not hold.
            let refused = block.send(verifier(), input.deposit(BATCH)).unwrap();
            assert!(!refused.result.is_success());
            assert_eq!((refused.work.proofs_checked, refused.work.noticed.len()), (1, 0));
            // A deposit that succeeds in a transaction that does not.
            let mut program = Program::new();
            program.call(verifier(), &input.deposit(USER), &[]);
            program.call(verifier(), &[1, 2, 3, 4], &[]);
            let reverted = block.run(&program.calls).unwrap();
            assert!(!reverted.result.is_success());
            assert_eq!((reverted.work.proofs_checked, reverted.work.noticed.len()), (1, 0));
            block.run(&input.used().calls).unwrap()
        },
        |plan| {
            assert!(plan.work().is_empty());
            Vec::new()
        },
    );
    assert!(!done.result.is_success(), "nothing was deposited");
    assert_eq!(plan.without(), []);
    assert_eq!(client.ciphertext(input.handles[0]), None);
}

#[test]
fn somebody_elses_event_deposits_nothing() {
    let mut client = Client::new();
    let input = Input::new(1);
    // What the chain's contract is to everybody else is another one here.
    client.input_verifier = Address::repeat_byte(0x66);
    let done = client.block(|block| block.send(verifier(), input.deposit(USER)).unwrap());
    assert!(done.result.is_success(), "{:?}", done.result);
    assert_eq!((done.work.proofs_checked, done.work.noticed.len()), (1, 0));
    assert_eq!(client.ciphertext(input.handles[0]), None);
}
