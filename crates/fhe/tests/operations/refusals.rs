//! What backends refuse to evaluate.

use std::sync::Arc;

use cipherloom_fhe::{FheBackend, FheError, KeySet, ParameterSet};
use cipherloom_primitives::{FheType, Operand, Operation, TypedOperation, U256};

use crate::{fixture::TOY, plain::expected};

fn clear_backend() -> Arc<dyn FheBackend> {
    let directory = tempfile::tempdir().unwrap();
    KeySet::generate(&directory.path().join("keys"), ParameterSet::InsecureClear, &())
        .unwrap()
        .evaluation()
        .unwrap()
}

const ADD: TypedOperation = TypedOperation::Binary {
    operation: Operation::Add,
    ty: FheType::Uint8,
    rhs: Operand::Encrypted,
};

#[test]
fn inputs_of_other_types_or_numbers_are_refused() {
    for backend in [clear_backend(), Arc::clone(&TOY.backend)] {
        let public = |ty| {
            backend
                .evaluate(&TypedOperation::TrivialEncrypt { value: U256::ONE, ty }, &[])
                .unwrap()
        };
        let (byte, short) = (public(FheType::Uint8), public(FheType::Uint16));
        for inputs in [&[&byte, &short][..], &[&byte], &[], &[&byte; 3]] {
            let found = inputs.iter().map(|input| input.fhe_type()).collect::<Vec<_>>();
            match backend.evaluate(&ADD, inputs) {
                Err(FheError::InputTypes {
                    operation: Operation::Add,
                    expected,
                    found: said,
                }) => {
                    assert_eq!(expected, [FheType::Uint8; 2]);
                    assert_eq!(said, found);
                }
                other => panic!("{found:?} gave {other:?}"),
            }
        }
    }
}

#[test]
fn backends_refuse_each_others_ciphertexts() {
    let (clear, cpu) = (clear_backend(), Arc::clone(&TOY.backend));
    let trivial = TypedOperation::TrivialEncrypt {
        value: U256::ONE,
        ty: FheType::Uint8,
    };
    let (of_clear, of_cpu) = (clear.evaluate(&trivial, &[]).unwrap(), cpu.evaluate(&trivial, &[]).unwrap());
    for (backend, foreign, own) in [(&clear, &of_cpu, &of_clear), (&cpu, &of_clear, &of_cpu)] {
        assert!(matches!(backend.evaluate(&ADD, &[own, foreign]), Err(FheError::ForeignCiphertext)));
        assert!(matches!(backend.serialize(foreign), Err(FheError::ForeignCiphertext)));
    }
}

#[test]
fn operations_outside_the_table_are_refused() {
    let uint8 = FheType::Uint8;
    let binary = |operation, ty, rhs| TypedOperation::Binary { operation, ty, rhs };
    let outside = [
        binary(Operation::Add, FheType::Uint256, Operand::Encrypted),
        binary(Operation::Add, FheType::Bool, Operand::Encrypted),
        binary(Operation::Neg, uint8, Operand::Encrypted),
        binary(Operation::Add, uint8, Operand::Scalar(U256::from(256))),
        binary(Operation::Div, uint8, Operand::Encrypted),
        binary(Operation::Div, uint8, Operand::Scalar(U256::ZERO)),
        binary(Operation::Rem, uint8, Operand::Scalar(U256::ZERO)),
        TypedOperation::Neg { ty: FheType::Address },
        TypedOperation::Cast { from: uint8, to: uint8 },
        TypedOperation::Cast {
            from: uint8,
            to: FheType::Bool,
        },
        TypedOperation::TrivialEncrypt {
            value: U256::from(256),
            ty: uint8,
        },
        TypedOperation::Rand {
            ty: uint8,
            seed: [0; 16],
            random_bits: 9,
        },
        TypedOperation::Rand {
            ty: FheType::Address,
            seed: [0; 16],
            random_bits: 160,
        },
        TypedOperation::Sum {
            ty: FheType::Uint64,
            count: 61,
        },
        TypedOperation::IsIn {
            ty: FheType::Bool,
            count: 1,
        },
        TypedOperation::MulDiv {
            ty: uint8,
            factor: Operand::Encrypted,
            divisor: U256::ZERO,
        },
        TypedOperation::MulDiv {
            ty: uint8,
            factor: Operand::Scalar(U256::from(256)),
            divisor: U256::ONE,
        },
        TypedOperation::MulDiv {
            ty: FheType::Uint128,
            factor: Operand::Encrypted,
            divisor: U256::ONE,
        },
    ];
    for backend in [clear_backend(), Arc::clone(&TOY.backend)] {
        for operation in &outside {
            let inputs: Vec<_> = (operation.input_types().into_iter())
                .map(|ty| {
                    backend
                        .evaluate(&TypedOperation::TrivialEncrypt { value: U256::ONE, ty }, &[])
                        .unwrap()
                })
                .collect();
            let result = backend.evaluate(operation, &inputs.iter().collect::<Vec<_>>());
            assert!(
                matches!(result, Err(FheError::InvalidOperation { .. })),
                "{operation:?} gave {result:?}"
            );
        }
    }
}

#[test]
fn the_clear_backend_evaluates_and_stores_like_the_others() {
    let backend = clear_backend();
    let public = |value: u64| {
        backend
            .evaluate(
                &TypedOperation::TrivialEncrypt {
                    value: U256::from(value),
                    ty: FheType::Uint8,
                },
                &[],
            )
            .unwrap()
    };
    let sum = backend.evaluate(&ADD, &[&public(200), &public(100)]).unwrap();
    let same = backend.deserialize(FheType::Uint8, &backend.serialize(&sum).unwrap()).unwrap();
    let equal = TypedOperation::Binary {
        operation: Operation::Eq,
        ty: FheType::Uint8,
        rhs: Operand::Scalar(U256::from(44)),
    };
    let flag = backend.evaluate(&equal, &[&same]).unwrap();
    let one = backend
        .evaluate(
            &TypedOperation::TrivialEncrypt {
                value: U256::ONE,
                ty: FheType::Bool,
            },
            &[],
        )
        .unwrap();
    assert_eq!(backend.serialize(&flag).unwrap(), backend.serialize(&one).unwrap());
    assert_eq!(expected(&ADD, &[U256::from(200), U256::from(100)]), Some(U256::from(44)));
}
