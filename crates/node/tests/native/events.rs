//! What is noticed in calls equals what the contract's events say.

use cipherloom_contracts::{HostEvent, decode_log, development};
use cipherloom_primitives::operation::{ScalarRule, Shape};
use cipherloom_primitives::{Computation, FheType, Operation};
use proptest::prelude::*;

use crate::client::{Client, Done};
use crate::program::{Arg, Program, byte};

/// The computations that a transaction's events tell.
fn told(done: &Done) -> Vec<Computation> {
    let event = |log: &alloy::primitives::Log| decode_log(log.address, log.topics(), &log.data.data, &development::addresses()).unwrap();
    let events = done.logs().iter().filter_map(event);
    events
        .filter_map(|event| match event {
            HostEvent::Computation(computation) => Some(computation),
            _ => None,
        })
        .collect()
}

/// Adds an operation on values of a type, in every form it has.
fn add_forms(program: &mut Program, operation: Operation, ty: FheType) {
    let (a, b) = (program.value(5, ty), program.value(9, ty));
    let bool_value = program.value(1, FheType::Bool);
    let list = [2.into(), a, b];
    match operation.spec().shape {
        Shape::Binary(rule) => {
            program.operation(operation, &[a, 3.into(), byte(1)]);
            if rule == ScalarRule::Either {
                program.operation(operation, &[a, b, byte(0)]);
            }
        }
        Shape::Unary => drop(program.operation(operation, &[a])),
        Shape::Cast => {
            let to = if ty == FheType::Uint64 { FheType::Uint32 } else { FheType::Uint64 };
            program.operation(operation, &[a, to.into()]);
        }
        Shape::Trivial => drop(program.operation(operation, &[7.into(), ty.into()])),
        Shape::Select => drop(program.operation(operation, &[bool_value, a, b])),
        Shape::Random { bounded: false } => {
            program.operation(operation, &[ty.into()]);
            program.operation(operation, &[ty.into()]);
        }
        Shape::Random { bounded: true } => drop(program.operation(operation, &[4.into(), ty.into()])),
        Shape::List => {
            program.operation(operation, &[&[64.into(), ty.into()], list.as_slice()].concat());
            program.operation(operation, &[64.into(), ty.into(), 0.into()]);
        }
        Shape::Membership => {
            let head: [Arg; 3] = [a, 96.into(), ty.into()];
            program.operation(operation, &[head.as_slice(), &list].concat());
        }
        Shape::MulDiv => {
            program.operation(operation, &[a, b, 3.into(), byte(1)]);
            program.operation(operation, &[a, 2.into(), 3.into(), byte(3)]);
        }
        Shape::Input => {}
    }
}

#[test]
fn every_operation_is_noticed_as_its_event_tells_it() {
    let mut client = Client::new();
    for operation in Operation::all() {
        client.block(|block| {
            for ty in FheType::ALL.into_iter().filter(|ty| operation.spec().types.contains(*ty)) {
                let mut program = Program::new();
                add_forms(&mut program, operation, ty);
                let done = block.run(&program.calls).unwrap();
                assert!(done.result.is_success(), "{operation} on {ty}: {:?}", done.result);
                let noticed: Vec<Computation> = done.work.computations().cloned().collect();
                assert!(!noticed.is_empty());
                assert_eq!(noticed, told(&done), "{operation} on {ty}");
            }
        });
    }
}

#[test]
fn calls_that_fail_leave_no_trace_and_neither_do_those_inside_them() {
    let mut client = Client::new();
    client.block(|block| {
        let mut inner = Program::new();
        let value = inner.value(1, FheType::Uint8);
        // Divides by zero: the whole inner script fails.
        inner.operation(Operation::Div, &[value, 0.into(), byte(1)]);
        let mut program = Program::new();
        program.value(2, FheType::Uint8);
        let run = crate::client::Batch::runCall { calls: inner.calls };
        program.call(crate::client::BATCH, &alloy::sol_types::SolCall::abi_encode(&run), &[]);
        program.value(3, FheType::Uint8);
        let done = block.attempt(&program.calls).unwrap();
        assert!(done.result.is_success());
        let noticed: Vec<Computation> = done.work.computations().cloned().collect();
        assert_eq!(noticed.len(), 2);
        assert_eq!(noticed, told(&done));

        let reverted = block.run(&program.calls).unwrap();
        assert!(!reverted.result.is_success());
        assert_eq!(reverted.work.noticed, []);
    });
}

#[test]
fn calls_in_odd_encodings_are_noticed_as_the_contract_understands_them() {
    let mut client = Client::new();
    client.block(|block| {
        let mut program = Program::new();
        let (a, b) = (program.value(5, FheType::Uint8), program.value(6, FheType::Uint8));
        // More bytes after the arguments.
        program.operation(Operation::Add, &[a, b, byte(0), 7.into(), 8.into()]);
        // A list that begins after a gap.
        program.operation(
            Operation::Sum,
            &[128.into(), FheType::Uint8.into(), 1.into(), 2.into(), 2.into(), a, b],
        );
        // A list whose length is the word of the type, which is 2.
        program.operation(Operation::Sum, &[32.into(), FheType::Uint8.into(), a, b]);
        // A list with a word behind it that is none of its own.
        program.operation(Operation::IsIn, &[a, 96.into(), FheType::Uint8.into(), 1.into(), a, b]);
        let done = block.run(&program.calls).unwrap();
        assert!(done.result.is_success(), "{:?}", done.result);
        let noticed: Vec<Computation> = done.work.computations().cloned().collect();
        assert_eq!(noticed.len(), 6);
        assert_eq!(noticed, told(&done));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever words follow the selector: what the contract takes is noticed as it takes it, and what it refuses is not noticed.
    #[test]
    fn calls_of_any_words_are_noticed_if_and_as_the_contract_takes_them(
        number in 0..31u8,
        words in prop::collection::vec(prop_oneof![
            Just(None),
            (0..9u64).prop_map(Some),
            (0..6u64).prop_map(|words| Some(32 * words)),
            any::<u64>().prop_map(Some),
        ], 1..8),
        cut in 0..32usize,
    ) {
        let operation = Operation::try_from(number).unwrap();
        let mut client = Client::new();
        client.block(|block| {
            let mut program = Program::new();
            let value = program.value(3, FheType::Uint8);
            let words: Vec<Arg> = words.iter().map(|word| word.map_or(value, Arg::from)).collect();
            program.operation(operation, &words);
            let call = program.calls.last_mut().unwrap();
            let patched = call.patches.last().map_or(0, |patch| patch.offset.to::<usize>() + 32);
            let length = call.data.len().saturating_sub(cut).max(patched);
            call.data.truncate(length);
            let done = block.attempt(&program.calls).unwrap();
            assert!(done.result.is_success());
            let noticed: Vec<Computation> = done.work.computations().cloned().collect();
            assert_eq!(noticed, told(&done));
        });
    }
}
