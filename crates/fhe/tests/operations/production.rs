//! A few operations on production parameters. A bootstrap takes some 15 ms here, so these are chosen to touch each kind of kernel once.

use cipherloom_primitives::{FheType, Operand, Operation, TypedOperation, U256};

use crate::{fixture::PRODUCTION, plain::expected};

#[test]
fn production_parameters_give_the_same_plaintexts() {
    let fixture = &*PRODUCTION;
    let binary = |operation, ty, rhs| TypedOperation::Binary { operation, ty, rhs };
    let number = |value: u64| U256::from(value);
    let address = U256::from_be_bytes([0xa5; 32]) >> 96;
    let cases = [
        (
            binary(Operation::Add, FheType::Uint64, Operand::Encrypted),
            vec![number(u64::MAX), number(7)],
        ),
        (
            binary(Operation::Le, FheType::Uint64, Operand::Encrypted),
            vec![number(1 << 63), number((1 << 63) - 1)],
        ),
        (binary(Operation::Sub, FheType::Uint16, Operand::Scalar(number(9))), vec![number(5)]),
        (
            binary(Operation::Mul, FheType::Uint8, Operand::Encrypted),
            vec![number(0xcd), number(0x9b)],
        ),
        (
            binary(Operation::Shl, FheType::Uint8, Operand::Encrypted),
            vec![number(0x81), number(0xfb)],
        ),
        (binary(Operation::Eq, FheType::Address, Operand::Encrypted), vec![address, address]),
        (
            binary(Operation::Ne, FheType::Address, Operand::Scalar(address)),
            vec![address - U256::ONE],
        ),
        (
            binary(Operation::Rem, FheType::Uint8, Operand::Scalar(number(10))),
            vec![number(237)],
        ),
        (
            TypedOperation::IfThenElse { ty: FheType::Uint64 },
            vec![U256::ONE, number(0x0123_4567_89ab_cdef), number(1)],
        ),
        (
            TypedOperation::Sum {
                ty: FheType::Uint8,
                count: 3,
            },
            vec![number(100), number(100), number(100)],
        ),
        (
            TypedOperation::Cast {
                from: FheType::Uint16,
                to: FheType::Uint8,
            },
            vec![number(0x1234)],
        ),
    ];
    for (operation, plaintexts) in cases {
        let inputs: Vec<_> = operation
            .input_types()
            .into_iter()
            .zip(&plaintexts)
            .map(|(ty, plaintext)| fixture.secret(ty, *plaintext))
            .collect();
        let result = fixture.evaluate(&operation, &inputs.iter().collect::<Vec<_>>());
        assert_eq!(
            Some(fixture.decrypt(&result)),
            expected(&operation, &plaintexts),
            "{operation:?} of {plaintexts:?}"
        );
    }
}

#[test]
fn production_random_values_repeat_with_the_seed() {
    let fixture = &*PRODUCTION;
    let make = |seed| {
        fixture.evaluate(
            &TypedOperation::Rand {
                ty: FheType::Uint8,
                seed,
                random_bits: 5,
            },
            &[],
        )
    };
    let first = make([1; 16]);
    assert!(fixture.decrypt(&first) < U256::from(32));
    assert_eq!(
        fixture.backend.serialize(&first).unwrap(),
        fixture.backend.serialize(&make([1; 16])).unwrap()
    );
    assert_ne!(
        fixture.backend.serialize(&first).unwrap(),
        fixture.backend.serialize(&make([2; 16])).unwrap()
    );
}
