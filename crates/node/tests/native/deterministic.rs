//! Random blocks against a model that knows every value: state has exactly what contracts stored, as far as it could be computed.

use std::collections::HashMap;

use alloy::primitives::Bytes;
use cipherloom_primitives::{FheType, Handle, Operation};
use proptest::prelude::*;

use crate::client::Client;
use crate::hashing::computed_bytes;
use crate::program::{Arg, Program, byte};

/// What one transaction of a random block does, in order.
#[derive(Clone, Debug)]
enum Step {
    /// Encrypts a number.
    Value(u8),
    /// Adds two of the values that there are, by position.
    Add(usize, usize),
    /// Negates one of them.
    Neg(usize),
    /// Stores one of them.
    Store(u8, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        any::<u8>().prop_map(Step::Value),
        (any::<usize>(), any::<usize>()).prop_map(|(left, right)| Step::Add(left, right)),
        any::<usize>().prop_map(Step::Neg),
        (0..8u8, any::<usize>()).prop_map(|(slot, value)| Step::Store(slot, value)),
    ]
}

/// Transactions of up to eight steps; one in four fails at its end.
fn transaction() -> impl Strategy<Value = (Vec<Step>, bool)> {
    (prop::collection::vec(step(), 1..8), prop::bool::weighted(0.25))
}

fn blocks() -> impl Strategy<Value = Vec<Vec<(Vec<Step>, bool)>>> {
    prop::collection::vec(prop::collection::vec(transaction(), 1..4), 1..5)
}

/// Every value so far: a handle that may be used, and what its ciphertext would be if the chain had it now.
#[derive(Default)]
struct Model {
    usable: Vec<Handle>,
    /// What this block can compute.
    block: HashMap<Handle, Bytes>,
    /// What state has.
    state: HashMap<Handle, Bytes>,
}

impl Model {
    fn bytes(&self, handle: Handle) -> Option<Bytes> {
        self.state.get(&handle).or_else(|| self.block.get(&handle)).cloned()
    }
}

/// Makes the script of a transaction; says which values it makes usable, and what it stores where.
fn script(steps: &[Step], usable: &[Handle]) -> (Program, Vec<(u8, Arg)>) {
    let mut program = Program::new();
    let mut values: Vec<Arg> = usable.iter().copied().map(Arg::from).collect();
    let mut stores = Vec::new();
    for step in steps {
        let pick = |position: usize| (!values.is_empty()).then(|| values[position % values.len()]);
        let made = match *step {
            Step::Value(number) => Some(program.value(number.into(), FheType::Uint32)),
            Step::Add(left, right) => pick(left)
                .zip(pick(right))
                .map(|(left, right)| program.operation(Operation::Add, &[left, right, byte(0)])),
            Step::Neg(value) => pick(value).map(|value| program.operation(Operation::Neg, &[value])),
            Step::Store(slot, value) => {
                if let Some(value) = pick(value) {
                    program.store(slot.into(), value);
                    stores.push((slot, value));
                }
                None
            }
        };
        if let Some(value) = made {
            program.keep(value);
            values.push(value);
        }
    }
    (program, stores)
}

fn run(blocks: &[Vec<(Vec<Step>, bool)>]) -> (Client, Model) {
    let mut client = Client::new();
    let mut model = Model::default();
    // What is in each slot: a store of what is there already changes nothing.
    let mut slots: HashMap<u8, Handle> = HashMap::new();
    for transactions in blocks {
        let mut stored = Vec::new();
        client.block(|block| {
            for (steps, fails) in transactions {
                let (mut program, stores) = script(steps, &model.usable);
                if *fails {
                    let value = program.value(0, FheType::Uint8);
                    program.operation(Operation::Div, &[value, 0.into(), byte(1)]);
                }
                let done = block.run(&program.calls).unwrap();
                assert_eq!(done.result.is_success(), !fails, "{:?}", done.result);
                if *fails {
                    assert_eq!(done.work.noticed, []);
                    continue;
                }
                // Calls that returned a handle, by their number in the script.
                let executor = cipherloom_contracts::development::addresses().executor;
                let operations = program.calls.iter().enumerate().filter(|(_, call)| call.target == executor);
                let numbers: Vec<usize> = operations.map(|(number, _)| number).collect();
                let computations: Vec<_> = done.work.computations().cloned().collect();
                assert_eq!(numbers.len(), computations.len());
                let made: HashMap<usize, Handle> = numbers
                    .into_iter()
                    .zip(computations.iter().map(|computation| computation.result))
                    .collect();
                for computation in &computations {
                    let operands: Option<Vec<Bytes>> = computation.inputs.iter().map(|input| model.bytes(*input)).collect();
                    if let Some(operands) = operands {
                        let bytes = computed_bytes(computation, &operands);
                        model.block.insert(computation.result, bytes);
                    }
                    model.usable.push(computation.result);
                }
                let mut after = slots.clone();
                for (slot, value) in stores {
                    let handle = match value {
                        Arg::Word(word) => Handle::try_from(word).unwrap(),
                        Arg::Result(number) => made[&number],
                    };
                    after.insert(slot, handle);
                }
                stored.extend(
                    after
                        .iter()
                        .filter(|(slot, handle)| slots.get(slot) != Some(handle))
                        .map(|(_, handle)| *handle),
                );
                slots = after;
            }
        });
        for handle in stored {
            if let Some(bytes) = model.block.get(&handle) {
                model.state.entry(handle).or_insert_with(|| bytes.clone());
            }
        }
        model.block.clear();
    }
    (client, model)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn state_has_what_was_stored_and_could_be_computed(blocks in blocks()) {
        let (client, model) = run(&blocks);
        for handle in &model.usable {
            prop_assert_eq!(client.ciphertext(*handle), model.state.get(handle).cloned(), "{}", handle);
        }
    }
}
