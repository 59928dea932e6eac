//! The clear backend's arithmetic against Rust's own.

use cipherloom_fhe::clear::evaluate;
use cipherloom_primitives::{
    FheType, Operand, Operation, TypedOperation,
    operation::{ScalarRule, Shape, TABLE},
};

use crate::{
    matrix::{Random, Size, cases},
    plain::expected,
};

const SIZE: Size = Size { edges: 12, random: 100 };

#[test]
fn every_operation_is_plain_arithmetic_on_every_type() {
    for spec in &TABLE {
        for ty in spec.types.iter() {
            for case in cases(spec, ty, SIZE) {
                let expected = expected(&case.operation, &case.inputs).unwrap();
                assert_eq!(evaluate(&case.operation, &case.inputs), expected, "{case:?}");
            }
        }
    }
}

#[test]
fn the_matrix_has_cases_for_every_line_and_type_of_the_table() {
    for spec in &TABLE {
        for ty in spec.types.iter() {
            let cases = cases(spec, ty, SIZE);
            let has_scalar = cases.iter().any(|case| {
                matches!(
                    case.operation,
                    TypedOperation::Binary {
                        rhs: Operand::Scalar(_),
                        ..
                    }
                )
            });
            let has_encrypted = cases.iter().any(|case| {
                matches!(
                    case.operation,
                    TypedOperation::Binary {
                        rhs: Operand::Encrypted,
                        ..
                    }
                )
            });
            match spec.shape {
                Shape::Binary(ScalarRule::Either) => assert!(has_scalar && has_encrypted, "{} on {ty}", spec.function),
                Shape::Binary(ScalarRule::NonZeroScalarOnly) => assert!(has_scalar && !has_encrypted, "{} on {ty}", spec.function),
                // Tested in `random`, and with the proofs.
                Shape::Random { .. } | Shape::Input => assert!(cases.is_empty()),
                _ => assert!(!cases.is_empty(), "{} on {ty}", spec.function),
            }
            assert!(
                cases
                    .iter()
                    .all(|case| case.operation.operation() == spec.operation && case.operation.input_types().len() == case.inputs.len())
            );
        }
    }
}

#[test]
fn clear_random_values_are_a_function_of_the_seed_that_fills_its_bits() {
    let mut random = Random::new(26);
    for ty in FheType::ALL.into_iter().filter(|ty| Operation::Rand.spec().types.contains(*ty)) {
        for random_bits in [ty.bits(), ty.bits() / 2, 1, 0] {
            let mut seen_bits = cipherloom_primitives::U256::ZERO;
            for _ in 0..64 {
                let operation = TypedOperation::Rand {
                    ty,
                    seed: random.seed(),
                    random_bits,
                };
                let value = evaluate(&operation, &[]);
                assert_eq!(value, evaluate(&operation, &[]));
                assert!(value.bit_len() <= random_bits as usize, "{value} has more than {random_bits} bits");
                seen_bits |= value;
            }
            assert_eq!(
                seen_bits.count_ones(),
                random_bits as usize,
                "64 values of {ty} together set every one of {random_bits} bits"
            );
        }
    }
}
