//! The CPU backend on toy parameters, against plain arithmetic and the clear backend.

use cipherloom_fhe::{Ciphertext, clear};
use cipherloom_primitives::{
    FheType, Operand, TypedOperation, U256,
    operation::{Shape, TABLE},
};

use crate::{
    fixture::{Fixture, TOY},
    matrix::{Case, Random, Size, cases},
    plain::expected,
};

/// Runs every operation that takes this type.
fn every_operation_on(ty: FheType) {
    // Wide operations take tens of milliseconds even here.
    let size = match ty.bits() {
        ..=32 => Size { edges: 8, random: 12 },
        33..=64 => Size { edges: 5, random: 5 },
        _ => Size { edges: 3, random: 2 },
    };
    let mut random = Random::new(u64::from(ty.id()));
    for spec in TABLE.iter().filter(|spec| spec.types.contains(ty)) {
        let mut cases = cases(spec, ty, size);
        // The heaviest operations get a sample of their cases.
        let budget = if ty.bits() >= 64 { 40 } else { 160 };
        while cases.len() > budget {
            let drawn = random.below(cases.len());
            cases.swap_remove(drawn);
        }
        for case in cases {
            check(&TOY, &case, 0);
            // Sometimes some of the inputs are public.
            let public = random.next() % (1 << case.inputs.len().min(63));
            if public != 0 && random.below(2) == 0 {
                check(&TOY, &case, public);
            }
        }
    }
}

/// Evaluates a case, with those inputs as public ciphertexts whose bits are set, and compares.
fn check(fixture: &Fixture, case: &Case, public: u64) {
    let types = case.operation.input_types();
    let inputs: Vec<Ciphertext> = (case.inputs.iter().zip(types).enumerate())
        .map(|(index, (value, ty))| match public >> index.min(63) & 1 {
            1 => fixture.public(ty, *value),
            _ => fixture.secret(ty, *value),
        })
        .collect();
    let result = fixture.evaluate(&case.operation, &inputs.iter().collect::<Vec<_>>());
    let expected = expected(&case.operation, &case.inputs).unwrap();
    assert_eq!(
        result.fhe_type(),
        case.operation.result_type(),
        "{case:?}, public inputs {public:#b}"
    );
    assert_eq!(fixture.decrypt(&result), expected, "{case:?}, public inputs {public:#b}");
}

#[test]
fn every_operation_on_ebool() {
    every_operation_on(FheType::Bool);
}

#[test]
fn every_operation_on_euint8() {
    every_operation_on(FheType::Uint8);
}

#[test]
fn every_operation_on_euint16() {
    every_operation_on(FheType::Uint16);
}

#[test]
fn every_operation_on_euint32() {
    every_operation_on(FheType::Uint32);
}

#[test]
fn every_operation_on_euint64() {
    every_operation_on(FheType::Uint64);
}

#[test]
fn every_operation_on_euint128() {
    every_operation_on(FheType::Uint128);
}

#[test]
fn every_operation_on_eaddress() {
    every_operation_on(FheType::Address);
}

#[test]
fn every_operation_on_euint256() {
    every_operation_on(FheType::Uint256);
}

/// Every way to have public and secret operands, on the shapes that tell them apart.
#[test]
fn every_mix_of_public_and_secret_inputs() {
    let size = Size { edges: 2, random: 1 };
    for ty in [FheType::Bool, FheType::Uint8, FheType::Uint16] {
        for spec in TABLE.iter().filter(|spec| spec.types.contains(ty)) {
            for case in cases(spec, ty, size).into_iter().filter(|case| case.inputs.len() <= 4) {
                for public in 0..1 << case.inputs.len() {
                    check(&TOY, &case, public);
                }
            }
        }
    }
}

/// Shift amounts beyond the width, for every width and every amount around it.
#[test]
fn amounts_count_modulo_the_width() {
    let shifts = TABLE
        .iter()
        .filter(|spec| ["shl", "shr", "rotl", "rotr"].contains(&spec.library_name));
    for spec in shifts {
        for ty in spec.types.iter() {
            let value = ty.truncate(U256::from_be_bytes([0x9d; 32]));
            let width = ty.bits();
            let amounts = [0, 1, width - 1, width, width + 1, 2 * width - 1, 2 * width + 3, 255];
            for amount in amounts.map(U256::from).into_iter().filter(|amount| *amount <= ty.max_value()) {
                let operation = TypedOperation::Binary {
                    operation: spec.operation,
                    ty,
                    rhs: Operand::Encrypted,
                };
                check(
                    &TOY,
                    &Case {
                        operation,
                        inputs: vec![value, amount],
                    },
                    0,
                );
                let operation = TypedOperation::Binary {
                    operation: spec.operation,
                    ty,
                    rhs: Operand::Scalar(amount),
                };
                check(
                    &TOY,
                    &Case {
                        operation,
                        inputs: vec![value],
                    },
                    0,
                );
            }
        }
    }
}

/// Results are fit to be inputs: long random programs, whose every value comes from earlier operations or their stored form.
#[test]
fn any_result_is_an_input_of_any_operation() {
    let seed = 0xc1f3;
    let mut random = Random::new(seed);
    let size = Size { edges: 2, random: 1 };
    let types = [FheType::Bool, FheType::Uint8, FheType::Uint16, FheType::Uint32];
    let mut values: Vec<(Ciphertext, U256)> = Vec::new();
    for ty in types {
        for value in [random.value(ty), random.value(ty), U256::ONE] {
            values.push((TOY.secret(ty, value), value));
            values.push((TOY.public(ty, value), value));
        }
    }
    let operations: Vec<TypedOperation> = (TABLE.iter())
        .filter(|spec| !matches!(spec.shape, Shape::Random { .. } | Shape::Input | Shape::Trivial))
        .flat_map(|spec| {
            types
                .into_iter()
                .filter(|ty| spec.types.contains(*ty))
                .flat_map(move |ty| cases(spec, ty, size))
        })
        .map(|case| case.operation)
        .filter(|operation| types.contains(&operation.result_type()))
        .collect();
    for step in 0..600 {
        let operation = &operations[random.below(operations.len())];
        let chosen: Vec<usize> = (operation.input_types().iter())
            .map(|ty| {
                let fitting: Vec<usize> = (0..values.len()).filter(|index| values[*index].0.fhe_type() == *ty).collect();
                fitting[random.below(fitting.len())]
            })
            .collect();
        let plaintexts: Vec<U256> = chosen.iter().map(|index| values[*index].1).collect();
        let ciphertexts: Vec<&Ciphertext> = chosen.iter().map(|index| &values[*index].0).collect();
        let mut result = TOY.evaluate(operation, &ciphertexts);
        if step % 3 == 0 {
            let stored = TOY.backend.serialize(&result).unwrap();
            result = TOY.backend.deserialize(operation.result_type(), &stored).unwrap();
        }
        let expected = clear::evaluate(operation, &plaintexts);
        assert_eq!(
            TOY.decrypt(&result),
            expected,
            "seed {seed}, step {step}: {operation:?} of {plaintexts:?}"
        );
        values.push((result, expected));
    }
}

/// What the other tests rest on: their secret inputs are not plaintexts in disguise, which would take another path.
#[test]
fn secret_inputs_of_the_tests_are_encrypted() {
    for ty in FheType::ALL {
        let value = ty.truncate(U256::from_be_bytes([0x5a; 32]));
        let (secret, public) = (TOY.secret(ty, value), TOY.public(ty, value));
        assert_eq!(TOY.decrypt(&secret), TOY.decrypt(&public));
        // The stored form has a byte with the noise level of each block, after the header and the block's degree.
        let first_noise_level = |ciphertext: &Ciphertext| TOY.backend.serialize(ciphertext).unwrap()[17];
        assert_eq!((first_noise_level(&secret), first_noise_level(&public)), (1, 0), "{ty}");
        // A mask of zeros would be a plaintext too. Some zeros are normal: the transform rounds the lowest bits of each word away.
        let stored = TOY.backend.serialize(&secret).unwrap();
        assert!(stored.iter().filter(|byte| **byte == 0).count() < stored.len() / 2, "{ty}");
    }
}

/// Both operands may be one and the same ciphertext, whose difference is an exact zero.
#[test]
fn one_ciphertext_can_be_every_operand() {
    for ty in [FheType::Bool, FheType::Uint16, FheType::Uint64] {
        let value = ty.truncate(U256::from_be_bytes([0x2d; 32]));
        let secret = TOY.secret(ty, value);
        let flag = TOY.secret(FheType::Bool, U256::ONE);
        for spec in TABLE.iter().filter(|spec| spec.types.contains(ty)) {
            for case in cases(spec, ty, Size { edges: 1, random: 1 }) {
                let types = case.operation.input_types();
                let of = |input: &FheType| if *input == ty { (&secret, value) } else { (&flag, U256::ONE) };
                let (inputs, plaintexts): (Vec<_>, Vec<_>) = types.iter().map(of).unzip();
                let result = TOY.evaluate(&case.operation, &inputs);
                let expected = expected(&case.operation, &plaintexts).unwrap();
                assert_eq!(TOY.decrypt(&result), expected, "{:?} of {plaintexts:?}", case.operation);
            }
        }
    }
}
