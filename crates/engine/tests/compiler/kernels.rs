//! Every operation, lowered alone, against the reference: all pairs of 8-bit numbers, and random ones of every type.

use std::collections::HashMap;

use cipherloom_engine::{
    Granularity, Profile,
    lower::{lower, lower_to},
};
use cipherloom_primitives::{FheType, Operand, Operation, TypedOperation, U256, operation::ScalarRule, operation::Shape};

use crate::support::{Random, Transaction, effort, encrypted, reference, with_scalar};

/// Runs one operation on values and compares.
fn check(operation: &TypedOperation, tuples: impl IntoIterator<Item = Vec<U256>>) {
    let mut transaction = Transaction::default();
    let inputs: Vec<_> = operation.input_types().into_iter().map(|ty| transaction.input(ty)).collect();
    let result = transaction.operation(operation.clone(), &inputs);
    let graph = transaction.graph(&[result]);
    let programs = Profile::ALL.map(|profile| (profile, lower_to(&graph, Granularity::Blocks, profile)));
    for tuple in tuples {
        let values: HashMap<_, _> = inputs.iter().copied().zip(tuple.iter().copied()).collect();
        let expected = cipherloom_fhe::clear::evaluate(operation, &tuple);
        for (profile, program) in &programs {
            let found = program.simulate(&values).remove(&result).unwrap().unwrap();
            assert_eq!(found, expected, "{operation:?} of {tuple:?} for {}", profile.name());
        }
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
            for divisor in [1, 2, 4, 7, 24, 100] {
                let divisor = U256::from(divisor);
                for factor in [Operand::Encrypted, Operand::Scalar(random.value(ty))] {
                    operations.push(TypedOperation::MulDiv { ty, factor, divisor });
                }
            }
            for _ in 0..effort(10) {
                let scalar = random.value(ty);
                let factor = random.pick(&[Operand::Encrypted, Operand::Scalar(scalar)]);
                let divisor = random.value(ty).max(U256::ONE);
                operations.push(TypedOperation::MulDiv { ty, factor, divisor });
            }
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

#[test]
fn numbers_of_every_width_are_divided_by_every_small_and_every_special_divisor() {
    let mut random = Random(6);
    for ty in [FheType::Uint8, FheType::Uint16, FheType::Uint32, FheType::Uint64, FheType::Uint128] {
        let small = (1..300_u64).map(U256::from);
        let around_powers =
            (1..ty.bits()).flat_map(|bit| [-3_i8, -1, 1, 3].map(|more| (U256::ONE << bit as usize).wrapping_add(signed(more))));
        let powers_of_ten = (0..39_u64).map(|power| U256::from(10).pow(U256::from(power)));
        let any: Vec<U256> = (0..effort(60)).map(|_| random.value(ty)).collect();
        for divisor in small.chain(around_powers).chain(powers_of_ten).chain(any) {
            if divisor.is_zero() || divisor > ty.max_value() {
                continue;
            }
            // Random numbers, and those around multiples of the divisor.
            let multiple = ty.truncate(divisor.wrapping_mul(random.value(ty)));
            let numbers = [
                random.value(ty),
                random.value(ty),
                multiple,
                multiple.saturating_sub(U256::ONE),
                ty.max_value(),
            ];
            for operation in [Operation::Div, Operation::Rem] {
                check(&with_scalar(operation, ty, divisor), numbers.iter().map(|number| vec![*number]));
            }
        }
    }
}

fn signed(value: i8) -> U256 {
    let magnitude = U256::from(value.unsigned_abs());
    if value < 0 { magnitude.wrapping_neg() } else { magnitude }
}

#[test]
fn quotient_and_remainder_share_their_bootstraps() {
    let mut transaction = Transaction::default();
    let x = transaction.input(FheType::Uint64);
    let quotient = transaction.scalar(Operation::Div, x, 10_000);
    let remainder = transaction.scalar(Operation::Rem, x, 10_000);
    let bootstraps = |outputs: &[_]| lower(&transaction.graph(outputs)).bootstraps();
    let (first, second) = (bootstraps(&[quotient]), bootstraps(&[remainder]));
    let both = bootstraps(&[quotient, remainder]);
    assert!(both < first + second / 10, "{first}, {second}, together {both}");
}

#[test]
fn every_operation_takes_numbers_as_choices_leave_them() {
    let mut random = Random(7);
    for (operation, rule) in binary_operations() {
        for ty in operation.spec().types.iter() {
            // A choice leaves blocks with the noise of two bootstraps.
            let mut transaction = Transaction::default();
            let mut choice = || {
                let inputs = [FheType::Bool, ty, ty].map(|ty| transaction.input(ty));
                transaction.select(inputs[0], inputs[1], inputs[2])
            };
            let (left, right) = (choice(), choice());
            let mut results = Vec::new();
            for _ in 0..3 {
                let scalar = random.value(ty).max(U256::ONE);
                results.push(transaction.operation(with_scalar(operation, ty, scalar), &[left]));
            }
            if rule == ScalarRule::Either {
                results.push(transaction.binary(operation, left, right));
                results.push(transaction.binary(operation, left, left));
            }
            let graph = transaction.graph(&results);
            let programs = Profile::ALL.map(|profile| lower_to(&graph, Granularity::Blocks, profile));
            for _ in 0..effort(40) {
                let values = transaction.values(&mut random);
                for program in &programs {
                    let found = program.simulate(&values);
                    for (handle, expected) in reference(&graph, &values) {
                        assert_eq!(found[&handle].clone().unwrap(), expected, "{operation} on {ty}");
                    }
                }
            }
        }
    }
}
