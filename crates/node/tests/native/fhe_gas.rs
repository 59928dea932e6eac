//! How much a block may ask for.

use cipherloom_node::native::{FheGasExceeded, PROOF_HCU, STORED_HCU, fhe_gas};
use cipherloom_primitives::cost::cost_hcu;
use cipherloom_primitives::{FheType, Operation};

use crate::client::Client;
use crate::hashing::HashingExecutor;
use crate::program::{Program, byte};

/// Two values, their sum, and one store.
fn program() -> Program {
    let mut program = Program::new();
    let (a, b) = (program.value(1, FheType::Uint64), program.value(2, FheType::Uint64));
    let sum = program.operation(Operation::Add, &[a, b, byte(0)]);
    program.store(1, sum);
    program
}

/// What that costs: two trivial encryptions of 32, an addition of 162000, a stored ciphertext.
const PROGRAM_HCU: u64 = 2 * 32 + 162_000 + STORED_HCU;

#[test]
fn operations_and_what_is_stored_are_paid_for() {
    let mut client = Client::new();
    let (done, used) = client.block(|block| (block.run(&program().calls).unwrap(), block.fhe_gas_used()));
    assert_eq!(used, PROGRAM_HCU);
    let operations: u64 = done.work.computations().map(|computation| cost_hcu(&computation.operation)).sum();
    assert_eq!(used, operations + STORED_HCU);
    assert_eq!(fhe_gas(done.work.computations(), 2, 1), operations + 2 * PROOF_HCU + STORED_HCU);
}

#[test]
fn a_transaction_that_does_not_fit_is_not_part_of_the_block() {
    let mut client = Client::new();
    client.fhe_gas_limit = 2 * PROGRAM_HCU - 1;
    let (kept, plan) = client.block_with(
        |block| {
            let kept = block.run(&program().calls).unwrap();
            let mut other = program();
            let value = other.value(3, FheType::Uint64);
            other.store(2, value);
            let exceeded = block.run(&other.calls).err().unwrap();
            assert_eq!((exceeded.left_hcu, exceeded.limit_hcu), (PROGRAM_HCU - 1, 2 * PROGRAM_HCU - 1));
            assert_eq!(block.fhe_gas_used(), PROGRAM_HCU);
            // The same operations in one block have the same results, and what is stored already is not paid for again.
            block.run(&program().calls).unwrap();
            assert_eq!(block.fhe_gas_used(), 2 * PROGRAM_HCU - STORED_HCU);
            kept
        },
        |plan| HashingExecutor.results(plan.work()),
    );
    let outputs: Vec<_> = kept.work.computations().map(|computation| computation.result).skip(2).collect();
    assert_eq!(plan.work().outputs, outputs);
    assert_eq!(plan.work().computations.len(), 3);
}

#[test]
fn what_can_never_fit_says_so() {
    let mut client = Client::new();
    client.fhe_gas_limit = PROGRAM_HCU - 1;
    client.block(|block| {
        let exceeded = block.run(&program().calls).err().unwrap();
        assert_eq!(
            exceeded,
            FheGasExceeded {
                needed_hcu: PROGRAM_HCU,
                left_hcu: PROGRAM_HCU - 1,
                limit_hcu: PROGRAM_HCU - 1,
            }
        );
        assert_eq!(block.fhe_gas_used(), 0);
    });
}
