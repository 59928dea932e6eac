//! tfhe-rs called directly gives what the backend gives.

use cipherloom_fhe::{CpuBackend, DirectTfhe, DirectVariant, FheBackend, insecure_test_keys};
use cipherloom_primitives::{Address, FheType, Operand, Operation, TypedOperation, U256, input::InputMetadata};

const METADATA: InputMetadata = InputMetadata {
    contract: Address::ZERO,
    user: Address::ZERO,
    acl: Address::ZERO,
    chain_id: 31337,
};

#[test]
fn both_variants_agree_with_plain_arithmetic_on_secret_and_public_values() {
    let keys = insecure_test_keys().unwrap();
    let evaluation = keys.evaluation_keys().unwrap();
    let (backend, direct) = (CpuBackend::new(evaluation.clone()), DirectTfhe::new(evaluation));
    let decryptor = keys.decryptor().unwrap();
    let ty = FheType::Uint8;
    let values = [(FheType::Bool, U256::ONE), (ty, U256::from(201)), (ty, U256::from(77))];
    let list = keys.encryptor().unwrap().encrypt(&values, &METADATA).unwrap();
    let secret = backend.expand_input(&list).unwrap();
    for variant in [DirectVariant::Usual, DirectVariant::Best] {
        let public = |value: u64| {
            let value = U256::from(value);
            direct
                .evaluate(variant, &TypedOperation::TrivialEncrypt { value, ty }, &[])
                .unwrap()
        };
        let (zero, seven) = (public(0), public(7));
        let binary = |operation, rhs| TypedOperation::Binary { operation, ty, rhs };
        let encrypted = |operation| binary(operation, Operand::Encrypted);
        let select = TypedOperation::IfThenElse { ty };
        for (operation, inputs, expected) in [
            (encrypted(Operation::Le), vec![&secret[1], &secret[2]], 0),
            (encrypted(Operation::Sub), vec![&secret[2], &secret[1]], 132),
            (encrypted(Operation::Add), vec![&secret[1], &seven], 208),
            (encrypted(Operation::Add), vec![&seven, &seven], 14),
            (binary(Operation::Mul, Operand::Scalar(U256::from(3))), vec![&secret[2]], 231),
            (select.clone(), vec![&secret[0], &secret[1], &zero], 201),
            (select.clone(), vec![&secret[0], &zero, &secret[1]], 0),
            (TypedOperation::Sum { ty, count: 3 }, vec![&secret[1], &seven, &secret[2]], 29),
        ] {
            let result = direct.evaluate(variant, &operation, &inputs).unwrap();
            let bytes = backend.serialize(&result).unwrap();
            let found = decryptor.decrypt(result.fhe_type(), &bytes).unwrap();
            assert_eq!(found, U256::from(expected), "{variant:?} {operation:?}");
        }
    }
}

#[test]
fn lists_of_released_clients_are_accepted_for_what_they_are_bound_to_only() {
    let keys = insecure_test_keys().unwrap();
    let evaluation = keys.evaluation_keys().unwrap();
    let (backend, direct) = (CpuBackend::new(evaluation.clone()), DirectTfhe::new(evaluation));
    let values = [(FheType::Uint64, U256::from(1234))];
    let list = direct.encrypt_like_released_clients(&values, &METADATA).unwrap();
    assert_eq!(backend.verify_input(&list, &METADATA).unwrap().types, [FheType::Uint64]);
    let other = InputMetadata { chain_id: 1, ..METADATA };
    backend.verify_input(&list, &other).unwrap_err();
}
