//! Every operation, lowered alone, against the reference: all pairs of 8-bit numbers, and random ones of every type.

use std::collections::HashMap;

use cipherloom_engine::lower::lower;
use cipherloom_primitives::{FheType, Operand, Operation, TypedOperation, U256, operation::ScalarRule, operation::Shape};

use crate::support::{Random, Transaction, effort, encrypted, reference, with_scalar};

/// Runs one operation on values and compares.
fn check(operation: &TypedOperation, tuples: impl IntoIterator<Item = Vec<U256>>) {
    let mut transaction = Transaction::default();
    let inputs: Vec<_> = operation.input_types().into_iter().map(|ty| transaction.input(ty)).collect();
    let result = transaction.operation(operation.clone(), &inputs);
    let graph = transaction.graph(&[result]);
    let program = lower(&graph);
    for tuple in tuples {
        let values: HashMap<_, _> = inputs.iter().copied().zip(tuple.iter().copied()).collect();
        let expected = cipherloom_fhe::clear::evaluate(operation, &tuple);
        let found = program.simulate(&values).remove(&result).unwrap().unwrap();
        assert_eq!(found, expected, "{operation:?} of {tuple:?}");
    }
}

fn binary_operations() -> impl Iterator<Item = (Operation, ScalarRule)> {
    Operation::all().filter_map(|operation| match operation.spec().shape {
        Shape::Binary(rule) => Some((operation, rule)),
        _ => None,
    })
}

fn all_pairs() -> impl Iterator<Item = Vec<U256>> {
    (0..=u16::MAX).map(|pair| vec![U256::from(pair >> 8), U256::from(pair & 255)])
}

#[test]
fn every_pair_of_8_bit_numbers_is_right() {
    for (operation, _) in binary_operations().filter(|(_, rule)| *rule == ScalarRule::Either) {
        check(&encrypted(operation, FheType::Uint8), all_pairs());
    }
}

#[test]
fn every_8_bit_number_with_every_scalar_is_right() {
    for (operation, rule) in binary_operations() {
        for scalar in 0..=255_u8 {
            if rule == ScalarRule::NonZeroScalarOnly && scalar == 0 {
                continue;
            }
            let operation = with_scalar(operation, FheType::Uint8, U256::from(scalar));
            check(&operation, (0..=255_u8).map(|value| vec![U256::from(value)]));
        }
    }
}

#[test]
fn every_operation_on_every_type_is_right_for_random_numbers() {
    let mut random = Random(1);
    for (operation, rule) in binary_operations() {
        for ty in operation.spec().types.iter() {
            let tuples = |random: &mut Random, count| -> Vec<_> { (0..count).map(|_| vec![random.value(ty), random.value(ty)]).collect() };
            if rule == ScalarRule::Either {
                let tuples = tuples(&mut random, effort(60));
                check(&encrypted(operation, ty), tuples);
            }
            for _ in 0..effort(20) {
                let scalar = random.value(ty);
                if rule == ScalarRule::NonZeroScalarOnly && scalar.is_zero() {
                    continue;
                }
                let tuples: Vec<_> = (0..5).map(|_| vec![random.value(ty)]).chain([vec![scalar]]).collect();
                check(&with_scalar(operation, ty, scalar), tuples);
            }
        }
    }
}

#[test]
fn operations_of_other_shapes_are_right_for_random_numbers() {
    let mut random = Random(2);
    let mut operations = Vec::new();
    for ty in FheType::ALL {
        operations.push(TypedOperation::IfThenElse { ty });
        if Operation::Not.spec().types.contains(ty) {
            operations.push(TypedOperation::Not { ty });
            for to in cipherloom_primitives::operation::CAST_TARGETS.iter().filter(|to| *to != ty) {
                operations.push(TypedOperation::Cast { from: ty, to });
            }
        }
        if Operation::Neg.spec().types.contains(ty) {
            operations.push(TypedOperation::Neg { ty });
        }
        for count in [0, 1, 2, 3, 4, 5, 8, 16, 60] {
            if Operation::Sum.spec().types.contains(ty) {
                operations.push(TypedOperation::Sum { ty, count });
            }
            if Operation::IsIn.spec().types.contains(ty) {
                operations.push(TypedOperation::IsIn { ty, count: count.min(16) });
            }
        }
        if Operation::MulDiv.spec().types.contains(ty) {
            let factor = Operand::Scalar(random.value(ty));
            let divisor = U256::from(7);
            operations.push(TypedOperation::MulDiv { ty, factor, divisor });
        }
    }
    for operation in operations {
        let tuples: Vec<Vec<U256>> = (0..effort(40))
            .map(|_| {
                let mut tuple: Vec<U256> = operation.input_types().into_iter().map(|ty| random.value(ty)).collect();
                // Lists that hold the value are rare among random ones.
                if let (TypedOperation::IsIn { count: 1.., .. }, true) = (&operation, random.below(2) == 0) {
                    let position = 1 + random.below(tuple.len() - 1);
                    tuple[position] = tuple[0];
                }
                tuple
            })
            .collect();
        check(&operation, tuples);
    }
}

#[test]
fn sums_of_the_largest_numbers_stay_within_their_blocks() {
    for ty in [FheType::Uint8, FheType::Uint128] {
        for count in 0..=100 {
            let tuple = vec![ty.max_value(); usize::from(count)];
            check(&TypedOperation::Sum { ty, count }, [tuple]);
        }
    }
}

#[test]
fn smaller_and_larger_of_a_pair_share_all_bootstraps() {
    let mut transaction = Transaction::default();
    let (x, y) = (transaction.input(FheType::Uint64), transaction.input(FheType::Uint64));
    let smaller = transaction.binary(Operation::Min, x, y);
    let alone = lower(&transaction.graph(&[smaller])).bootstraps();
    let larger = transaction.binary(Operation::Max, y, x);
    let graph = transaction.graph(&[smaller, larger]);
    let program = lower(&graph);
    // Only the cleaning of the second result comes on top.
    assert_eq!((alone, program.bootstraps()), (96, 128));
    let mut random = Random(3);
    for _ in 0..200 {
        let values = transaction.values(&mut random);
        let found = program.simulate(&values);
        for (handle, expected) in reference(&graph, &values) {
            assert_eq!(found[&handle].clone().unwrap(), expected);
        }
    }
}

#[test]
fn a_comparison_comes_free_with_a_subtraction() {
    let mut transaction = Transaction::default();
    let (x, y) = (transaction.input(FheType::Uint64), transaction.input(FheType::Uint64));
    let difference = transaction.binary(Operation::Sub, x, y);
    let enough = transaction.binary(Operation::Le, y, x);
    assert_eq!(lower(&transaction.graph(&[difference, enough])).bootstraps(), 32);
    let less = transaction.scalar(Operation::Sub, x, 1_000_000_007);
    let at_least = transaction.scalar(Operation::Ge, x, 1_000_000_007);
    assert_eq!(
        lower(&transaction.graph(&[less])).bootstraps(),
        lower(&transaction.graph(&[less, at_least])).bootstraps()
    );
}
