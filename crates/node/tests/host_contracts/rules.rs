//! Rules between operands: types that must agree, bounds, casts, lists, and the right to use each operand.

use alloy::primitives::U256;
use cipherloom_contracts::bindings::FHEVMExecutor as Executor;
use cipherloom_primitives::{FheType, Handle, Operation};

use crate::stage::{Arg, Stage, assert_reverts, byte, foreign_handle, is_in_arguments, sum_arguments};

#[test]
fn operands_of_different_types_revert() {
    let stage = Stage::new();
    let (small, large) = (FheType::Uint8, FheType::Uint16);
    let attempt = |operation: Operation, arguments: &dyn Fn(Arg, Arg, Arg) -> Vec<Arg>| {
        let mut script = stage.script();
        let (a, b, condition) = (script.value(1, small), script.value(1, large), script.value(1, FheType::Bool));
        script.operation(operation, &arguments(a, b, condition));
        assert_reverts(stage.run(&script), Executor::IncompatibleTypes {});
    };
    attempt(Operation::Add, &|a, b, _| vec![a, b, byte(0)]);
    attempt(Operation::Eq, &|a, b, _| vec![a, b, byte(0)]);
    attempt(Operation::Shl, &|a, b, _| vec![b, a, byte(0)]);
    attempt(Operation::IfThenElse, &|a, b, condition| vec![condition, a, b]);
    attempt(Operation::Sum, &|a, b, _| sum_arguments(&[a, b], small));
    attempt(Operation::IsIn, &|a, b, _| is_in_arguments(a, &[a, b], small));
    attempt(Operation::IsIn, &|_, b, _| is_in_arguments(b, &[b], small));
    attempt(Operation::MulDiv, &|a, b, _| vec![a, b, 1.into(), byte(1)]);
}

#[test]
fn the_condition_of_a_choice_is_an_ebool() {
    let stage = Stage::new();
    let mut script = stage.script();
    let a = script.value(1, FheType::Uint8);
    script.operation(Operation::IfThenElse, &[a, a, a]);
    assert_reverts(stage.run(&script), Executor::UnsupportedType {});
}

#[test]
fn casts_change_the_type_to_an_integer() {
    let stage = Stage::new();
    let cast = |from: FheType, to: u64| {
        let mut script = stage.script();
        let a = script.value(1, from);
        script.operation(Operation::Cast, &[a, to.into()]);
        stage.run(&script)
    };
    assert_reverts(cast(FheType::Uint8, 2), Executor::InvalidType {});
    for target in [0, 1, 7, 9, 255] {
        assert_reverts(cast(FheType::Uint8, target), Executor::UnsupportedType {});
    }
    assert_reverts(cast(FheType::Address, 8), Executor::UnsupportedType {});
    let result = *cast(FheType::Bool, 8).unwrap().last().unwrap();
    assert_eq!(Handle::try_from(result).unwrap().fhe_type(), FheType::Uint256);
}

#[test]
fn random_bounds_are_powers_of_two_within_the_type() {
    let stage = Stage::new();
    let bounded = |bound: U256, ty: FheType| {
        let mut script = stage.script();
        script.operation(Operation::RandBounded, &[bound.into(), ty.into()]);
        stage.run(&script)
    };
    for bound in [0u64, 3, 6, 255] {
        assert_reverts(bounded(U256::from(bound), FheType::Uint8), Executor::NotPowerOfTwo {});
    }
    for ty in [FheType::Uint8, FheType::Uint16, FheType::Uint32, FheType::Uint64, FheType::Uint128] {
        let full = U256::ONE << ty.bits() as usize;
        bounded(full, ty).unwrap();
        assert_reverts(bounded(full << 1, ty), Executor::UpperBoundAboveMaxTypeValue {});
    }
    bounded(U256::ONE << 255, FheType::Uint256).unwrap();
}

#[test]
fn lists_have_a_longest_length_per_type() {
    let stage = Stage::new();
    for (ty, limit) in [
        (FheType::Uint8, 100),
        (FheType::Uint32, 100),
        (FheType::Uint64, 60),
        (FheType::Uint128, 60),
    ] {
        for length in [limit, limit + 1] {
            for operation in [Operation::Sum, Operation::IsIn] {
                let mut script = stage.script();
                let a = script.value(1, ty);
                let list = vec![a; length];
                let arguments = match operation {
                    Operation::Sum => sum_arguments(&list, ty),
                    _ => is_in_arguments(a, &list, ty),
                };
                script.operation(operation, &arguments);
                let result = stage.run(&script);
                if length == limit {
                    result.unwrap();
                } else {
                    let (size, limit) = (U256::from(length), U256::from(limit));
                    assert_reverts(result, Executor::FHECollectionSizeInvalid { size, limit });
                }
            }
        }
    }
}

#[test]
fn every_encrypted_operand_must_be_allowed() {
    let stage = Stage::new();
    let ty = FheType::Uint8;
    let stranger = Handle::try_from(foreign_handle(ty.id())).unwrap();
    let stranger_bool = Handle::try_from(foreign_handle(FheType::Bool.id())).unwrap();
    let refused = |operation: Operation, handle: Handle, arguments: &dyn Fn(Arg) -> Vec<Arg>| {
        let mut script = stage.script();
        let allowed = script.value(1, ty);
        script.operation(operation, &arguments(allowed));
        assert_reverts(stage.run(&script), stage.not_allowed(handle));
    };
    let x = Arg::from(stranger);
    refused(Operation::Add, stranger, &|a| vec![x, a, byte(0)]);
    refused(Operation::Add, stranger, &|a| vec![a, x, byte(0)]);
    refused(Operation::Add, stranger, &|_| vec![x, 1.into(), byte(1)]);
    refused(Operation::Div, stranger, &|_| vec![x, 1.into(), byte(1)]);
    refused(Operation::Lt, stranger, &|a| vec![a, x, byte(0)]);
    refused(Operation::Neg, stranger, &|_| vec![x]);
    refused(Operation::Cast, stranger, &|_| vec![x, FheType::Uint16.into()]);
    refused(Operation::IfThenElse, stranger_bool, &|a| vec![stranger_bool.into(), a, a]);
    refused(Operation::Sum, stranger, &|a| sum_arguments(&[a, x], ty));
    refused(Operation::IsIn, stranger, &|a| is_in_arguments(x, &[a], ty));
    refused(Operation::IsIn, stranger, &|a| is_in_arguments(a, &[a, x], ty));
    refused(Operation::MulDiv, stranger, &|a| vec![x, a, 1.into(), byte(1)]);
    refused(Operation::MulDiv, stranger, &|a| vec![a, x, 1.into(), byte(1)]);

    let mut script = stage.script();
    let (condition, a) = (script.value(1, FheType::Bool), script.value(1, ty));
    for arguments in [[condition, x, a], [condition, a, x]] {
        let mut script = script.clone();
        script.operation(Operation::IfThenElse, &arguments);
        assert_reverts(stage.run(&script), stage.not_allowed(stranger));
    }

    // A scalar that looks like a handle is a number: nobody needs a right to it.
    let mut script = stage.script();
    let a = script.value(1, ty);
    script.operation(Operation::Add, &[a, x, byte(1)]);
    stage.run(&script).unwrap();
}
