//! Every operation on every type: what the table allows works and is announced, everything else reverts.

use alloy::primitives::{B256, U256, keccak256};
use cipherloom_contracts::bindings::{FHEVMExecutor as Executor, HCULimit};
use cipherloom_primitives::{
    Computation, FheType, Handle, Operand, Operation, TypedOperation,
    cost::cost_hcu,
    operation::{CAST_TARGETS, OperationSpec, ResultRule, ScalarRule, Shape, TABLE},
};

use crate::stage::{Arg, Mined, Script, Stage, assert_reverts, byte, foreign_handle, is_in_arguments, sum_arguments};

/// Adds an operation with operands that are right for `ty` in all its forms (scalar and encrypted).
fn add_forms(script: &mut Script, spec: &OperationSpec, ty: FheType) {
    let operation = spec.operation;
    let scalar = Arg::from(ty.max_value().min(U256::from(3)));
    match spec.shape {
        Shape::Binary(rule) => {
            let (lhs, rhs) = (script.value(1, ty), script.value(0, ty));
            script.operation(operation, &[lhs, scalar, byte(1)]);
            if rule == ScalarRule::Either {
                script.operation(operation, &[lhs, rhs, byte(0)]);
            }
        }
        Shape::Unary => {
            let operand = script.value(1, ty);
            script.operation(operation, &[operand]);
        }
        Shape::Cast => {
            let operand = script.value(1, ty);
            for target in CAST_TARGETS.iter().filter(|target| *target != ty) {
                script.operation(operation, &[operand, target.into()]);
            }
        }
        Shape::Trivial => drop(script.operation(operation, &[scalar, ty.into()])),
        Shape::Select => {
            let (control, a, b) = (script.value(1, FheType::Bool), script.value(1, ty), script.value(0, ty));
            script.operation(operation, &[control, a, b]);
        }
        Shape::Random { bounded: false } => drop(script.operation(operation, &[ty.into()])),
        Shape::Random { bounded: true } => drop(script.operation(operation, &[8.into(), ty.into()])),
        Shape::List => {
            let (a, b) = (script.value(1, ty), script.value(0, ty));
            script.operation(operation, &sum_arguments(&[a, b, a], ty));
            script.operation(operation, &sum_arguments(&[], ty));
        }
        Shape::Membership => {
            let (a, b) = (script.value(1, ty), script.value(0, ty));
            script.operation(operation, &is_in_arguments(a, &[b, a], ty));
            script.operation(operation, &is_in_arguments(a, &[], ty));
        }
        Shape::MulDiv => {
            let (a, b) = (script.value(1, ty), script.value(0, ty));
            script.operation(operation, &[a, b, 3.into(), byte(1)]);
            script.operation(operation, &[a, scalar, 3.into(), byte(3)]);
        }
        Shape::Input => {}
    }
}

/// Adds the operation with operands of a type it does not support.
fn add_unsupported(script: &mut Script, spec: &OperationSpec, number: u8) {
    let operand = Arg::Word(foreign_handle(number));
    let ty = Arg::from(u64::from(number));
    let operation = spec.operation;
    match spec.shape {
        Shape::Binary(_) => script.operation(operation, &[operand, 1.into(), byte(1)]),
        Shape::Unary => script.operation(operation, &[operand]),
        Shape::Cast => script.operation(operation, &[operand, FheType::Uint8.into()]),
        Shape::Trivial => script.operation(operation, &[1.into(), ty]),
        Shape::Select => {
            let control = script.value(1, FheType::Bool);
            script.operation(operation, &[control, operand, operand])
        }
        Shape::Random { bounded: false } => script.operation(operation, &[ty]),
        Shape::Random { bounded: true } => script.operation(operation, &[1.into(), ty]),
        Shape::List => script.operation(operation, &[64.into(), ty, 1.into(), operand]),
        Shape::Membership => script.operation(operation, &[operand, 96.into(), ty, 1.into(), operand]),
        Shape::MulDiv => script.operation(operation, &[operand, 1.into(), 1.into(), byte(3)]),
        // user 0, an empty proof
        Shape::Input => script.operation(operation, &[operand, 0.into(), 128.into(), ty, 0.into()]),
    };
}

#[test]
fn every_supported_operation_and_type_is_computed_announced_and_charged() {
    let stage = Stage::new();
    let mut seen = 0;
    for spec in TABLE.iter().filter(|spec| spec.operation != Operation::VerifyInput) {
        for ty in spec.types.iter() {
            let mut script = stage.script();
            add_forms(&mut script, spec, ty);
            let mined = stage
                .mine(&script)
                .unwrap_or_else(|revert| panic!("{} on {ty}: {revert:?}", spec.function));
            let found = stage.computations(&mined);
            let forms: Vec<&Computation> = found
                .iter()
                .filter(|computation| computation.operation.operation() == spec.operation)
                .collect();
            assert!(!forms.is_empty(), "{} on {ty}", spec.function);
            for computation in forms {
                let expected = match spec.result {
                    ResultRule::Bool => FheType::Bool,
                    ResultRule::Operand => ty,
                    ResultRule::Requested if spec.shape == Shape::Cast => computation.result.fhe_type(),
                    ResultRule::Requested => ty,
                };
                assert_eq!(computation.result.fhe_type(), expected, "{} on {ty}", spec.function);
                assert_eq!(
                    charged(&stage, computation),
                    cost_hcu(&computation.operation),
                    "{} on {ty}",
                    spec.function
                );
                seen += 1;
            }
        }
    }
    assert!(seen > 250, "{seen} forms of operations were seen");
}

/// What the contract charges for a computation.
fn charged(stage: &Stage, computation: &Computation) -> u64 {
    let (ty, scalar, size) = match &computation.operation {
        TypedOperation::Binary { ty, rhs, .. } => (*ty, matches!(rhs, Operand::Scalar(_)), 0),
        TypedOperation::MulDiv { ty, factor, .. } => (*ty, matches!(factor, Operand::Scalar(_)), 0),
        TypedOperation::Cast { from, .. } => (*from, false, 0),
        TypedOperation::Sum { ty, count } | TypedOperation::IsIn { ty, count } => (*ty, false, u64::from(*count)),
        other => (other.result_type(), false, 0),
    };
    let call = HCULimit::getHCUCall {
        operation: computation.operation.operation().id(),
        fheType: ty.id(),
        isScalar: scalar,
        collectionSize: U256::from(size),
    };
    stage.read(stage.host.hcu_limit, &call).to()
}

#[test]
fn list_costs_follow_the_length() {
    let stage = Stage::new();
    for operation in [Operation::Sum, Operation::IsIn] {
        for ty in operation.spec().types.iter() {
            let limit = u8::try_from(operation.spec().list_limit(ty).unwrap()).unwrap();
            for count in [0, 1, 10, 11, 30, 31, 60, 61, 100].into_iter().filter(|count| *count <= limit) {
                let typed = match operation {
                    Operation::Sum => TypedOperation::Sum { ty, count },
                    _ => TypedOperation::IsIn { ty, count },
                };
                let result = Handle::computed(B256::ZERO, 1, typed.result_type());
                let computation = Computation {
                    operation: typed.clone(),
                    inputs: Vec::new(),
                    result,
                };
                assert_eq!(charged(&stage, &computation), cost_hcu(&typed), "{operation} of {count} {ty}");
            }
        }
    }
}

#[test]
fn every_unsupported_type_reverts() {
    let stage = Stage::new();
    let mut refused = 0;
    for spec in &TABLE {
        // Known types that the operation lacks, euint4, the first unknown number, and the largest.
        let lacking = FheType::ALL.into_iter().filter(|ty| !spec.types.contains(*ty)).map(FheType::id);
        for number in lacking.chain([1, 9, 83, 255]) {
            let mut script = stage.script();
            add_unsupported(&mut script, spec, number);
            let failure = stage.run(&script).expect_err(&format!("{} on type {number}", spec.function));
            failure.is(Executor::UnsupportedType {});
            refused += 1;
        }
    }
    assert!(refused > 31 * 4, "{refused} refusals");
}

/// The last bytes of every pre-image: ACL, chain id, hash of the block before, timestamp.
fn tail(stage: &Stage, mined: &Mined) -> Vec<u8> {
    let mut bytes = stage.host.acl.to_vec();
    bytes.extend_from_slice(&U256::from(31337).to_be_bytes::<32>());
    bytes.extend_from_slice(mined.parent_hash.as_slice());
    bytes.extend_from_slice(&U256::from(mined.timestamp).to_be_bytes::<32>());
    bytes
}

fn word(value: u64) -> [u8; 32] {
    U256::from(value).to_be_bytes()
}

#[test]
fn handles_are_the_published_hashes() {
    let stage = Stage::new();
    let ty = FheType::Uint32;
    let mut script = stage.script();
    let (a, b) = (script.value(7, ty), script.value(8, ty));
    let control = script.value(1, FheType::Bool);
    script.operation(Operation::Sub, &[a, b, byte(0)]);
    script.operation(Operation::Lt, &[a, 9.into(), byte(1)]);
    script.operation(Operation::Not, &[a]);
    script.operation(Operation::Cast, &[a, FheType::Uint64.into()]);
    script.operation(Operation::IfThenElse, &[control, a, b]);
    script.operation(Operation::Sum, &sum_arguments(&[a, b], ty));
    script.operation(Operation::IsIn, &is_in_arguments(a, &[b], ty));
    script.operation(Operation::MulDiv, &[a, b, 3.into(), byte(1)]);
    script.operation(Operation::Rand, &[ty.into()]);
    script.operation(Operation::RandBounded, &[16.into(), ty.into()]);
    let mined = stage.mine(&script).unwrap();
    let results: Vec<Handle> = stage.computations(&mined).iter().map(|computation| computation.result).collect();

    let tail = tail(&stage, &mined);
    let check = |position: usize, ty: FheType, parts: &[&[u8]]| {
        let expected = Handle::computed(keccak256([&[b"FHE_comp".as_slice()], parts].concat().concat()), 31337, ty);
        assert_eq!(results[position], expected, "operation {position} of the script");
    };
    let (a, b, control) = (results[0], results[1], results[2]);
    check(0, ty, &[&[24], &word(7), &[4], &tail]);
    check(1, ty, &[&[24], &word(8), &[4], &tail]);
    check(2, FheType::Bool, &[&[24], &word(1), &[0], &tail]);
    check(3, ty, &[&[1], a.as_slice(), b.as_slice(), &[0], &tail]);
    check(4, FheType::Bool, &[&[17], a.as_slice(), &word(9), &[1], &tail]);
    check(5, ty, &[&[21], a.as_slice(), &tail]);
    check(6, FheType::Uint64, &[&[23], a.as_slice(), &[5], &tail]);
    check(7, ty, &[&[25], control.as_slice(), a.as_slice(), b.as_slice(), &tail]);
    check(8, ty, &[&[28], &word(2), a.as_slice(), b.as_slice(), &tail]);
    check(9, FheType::Bool, &[&[29], &word(1), a.as_slice(), b.as_slice(), &tail]);
    check(10, ty, &[&[30], a.as_slice(), b.as_slice(), &word(3), &[1], &tail]);
    let seed = |counter: u64| keccak256([b"FHE_seed".as_slice(), &word(counter), &tail].concat())[..16].to_vec();
    check(11, ty, &[&[26], &[4], &seed(0)]);
    check(12, ty, &[&[27], &word(16), &[4], &seed(1)]);
}

#[test]
fn random_values_never_repeat_but_equal_operations_of_a_block_do() {
    let stage = Stage::new();
    let mut script = stage.script();
    let a = script.value(1, FheType::Uint8);
    let again = script.value(1, FheType::Uint8);
    script.operation(Operation::Rand, &[FheType::Uint8.into()]);
    script.operation(Operation::Rand, &[FheType::Uint8.into()]);
    script.operation(Operation::Neg, &[a]);
    script.operation(Operation::Neg, &[again]);
    let results = stage.run(&script).unwrap();
    assert_eq!(results[0], results[1]);
    assert_ne!(results[2], results[3]);
    assert_eq!(results[4], results[5]);

    let first = stage.mine_handle(&script);
    assert_ne!(first, stage.mine_handle(&script), "handles of different blocks differ");
}

#[test]
fn the_executor_refuses_what_the_rules_of_scalars_refuse() {
    let stage = Stage::new();
    let ty = FheType::Uint8;
    let attempt = |operation: Operation, arguments: &dyn Fn(Arg) -> Vec<Arg>| {
        let mut script = stage.script();
        let operand = script.value(5, ty);
        script.operation(operation, &arguments(operand));
        stage.run(&script)
    };
    for spec in TABLE.iter().filter(|spec| spec.shape == Shape::Binary(ScalarRule::Either)) {
        for scalar_byte in [2, 3, 0x10, 0xff] {
            let mut script = stage.script();
            let operand_type = if spec.types.contains(ty) { ty } else { FheType::Bool };
            let operand = script.value(1, operand_type);
            script.operation(spec.operation, &[operand, operand, byte(scalar_byte)]);
            assert_reverts(stage.run(&script), Executor::ScalarByteIsNotBoolean {});
        }
    }
    for operation in [Operation::Div, Operation::Rem] {
        for scalar_byte in [0, 2] {
            assert_reverts(attempt(operation, &|a| vec![a, a, byte(scalar_byte)]), Executor::IsNotScalar {});
        }
        for zero in [0, 256, 512] {
            let divided = attempt(operation, &|a| vec![a, zero.into(), byte(1)]);
            assert_reverts(divided, Executor::DivisionByZero {});
        }
        attempt(operation, &|a| vec![a, 257.into(), byte(1)]).unwrap();
    }
    for scalar_byte in [0, 2, 4, 0xff] {
        let multiplied = attempt(Operation::MulDiv, &|a| vec![a, a, 1.into(), byte(scalar_byte)]);
        assert_reverts(multiplied, Executor::InvalidMulDivScalarByte {});
    }
    for zero in [0, 256] {
        let multiplied = attempt(Operation::MulDiv, &|a| vec![a, a, zero.into(), byte(1)]);
        assert_reverts(multiplied, Executor::DivisionByZero {});
    }
}
