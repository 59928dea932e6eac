//! What cannot be computed fails alone, with its reason.

use std::collections::HashMap;

use cipherloom_engine::{Engine, EngineError, Graph, NodeError, Policy};
use cipherloom_fhe::Ciphertext;
use cipherloom_primitives::{Computation, FheType, Operation, TypedOperation, U256};

use crate::{
    encrypted::{clear_backend, encrypt},
    support::{Transaction, with_scalar},
};

#[test]
fn a_poisoned_operation_fails_with_what_depends_on_it_and_nothing_else() {
    let backend = clear_backend();
    let backend = backend.as_ref();
    let ty = FheType::Uint8;
    let mut transaction = Transaction::default();
    let (x, missing) = (transaction.input(ty), transaction.input(ty));
    let unknown = transaction.handle(ty);
    let wrong = transaction.input(FheType::Uint16);

    let by_zero = transaction.operation(with_scalar(Operation::Div, ty, U256::ZERO), &[x]);
    let after_division = transaction.scalar(Operation::Add, by_zero, 1);
    let on_unknown = transaction.binary(Operation::Add, x, unknown);
    let on_wrong = transaction.operation(TypedOperation::Neg { ty }, &[wrong]);
    let on_missing = transaction.binary(Operation::Add, x, missing);
    let fine = transaction.scalar(Operation::Add, x, 1);
    let never = transaction.handle(ty);
    let outputs = [by_zero, after_division, on_unknown, on_wrong, on_missing, fine, never];

    let engine = Engine::default();
    let compiled = engine.compile(&transaction.graph(&outputs));
    let inputs: HashMap<_, Ciphertext> = [(x, U256::from(41)), (wrong, U256::from(1))]
        .into_iter()
        .map(|(handle, value)| (handle, encrypt(backend, handle.fhe_type(), value)))
        .collect();
    let results = engine.evaluate(backend, &compiled.program, &inputs).unwrap();

    let error = |handle| results[handle].clone().unwrap_err();
    assert!(matches!(error(&by_zero), NodeError::DivisionByZero(Operation::Div)));
    assert!(matches!(error(&after_division), NodeError::DivisionByZero(Operation::Div)));
    assert!(matches!(error(&on_unknown), NodeError::UnknownOperand(handle) if handle == unknown));
    assert!(matches!(
        error(&on_wrong),
        NodeError::OperandType {
            expected: FheType::Uint8,
            found: FheType::Uint16,
            ..
        }
    ));
    assert!(matches!(error(&on_missing), NodeError::MissingInput(handle) if handle == missing));
    assert!(matches!(error(&never), NodeError::NotComputed(handle) if handle == never));
    let fine = results[&fine].clone().unwrap();
    assert_eq!(
        backend.serialize(&fine).unwrap(),
        backend.serialize(&encrypt(backend, ty, U256::from(42))).unwrap()
    );
}

#[test]
fn a_circle_of_computations_is_refused_where_it_closes() {
    let ty = FheType::Uint8;
    let mut transaction = Transaction::default();
    let (a, b) = (transaction.handle(ty), transaction.handle(ty));
    let circle = [(a, b), (b, a)].map(|(result, operand)| Computation {
        operation: TypedOperation::Neg { ty },
        inputs: vec![operand],
        result,
    });
    let graph = Graph::record(&circle, [a, b], []).unwrap();
    let program = Engine::default().compile(&graph).program;
    let results = program.simulate(&HashMap::new());
    assert!(
        results
            .values()
            .all(|result| matches!(result, Err(NodeError::UsedBeforeComputed(handle)) if *handle == b))
    );
}

#[test]
fn a_ciphertext_of_another_type_than_its_handle_is_refused() {
    let backend = clear_backend();
    let backend = backend.as_ref();
    let mut transaction = Transaction::default();
    let x = transaction.input(FheType::Uint8);
    let result = transaction.scalar(Operation::Add, x, 1);
    let engine = Engine::default();
    let program = engine.compile(&transaction.graph(&[result])).program;
    let inputs = HashMap::from([(x, encrypt(backend, FheType::Uint16, U256::ZERO))]);
    let results = engine.evaluate(backend, &program, &inputs).unwrap();
    assert!(matches!(
        results[&result],
        Err(NodeError::InputType {
            found: FheType::Uint16,
            ..
        })
    ));
}

#[test]
fn unknown_policies_are_named_in_the_error() {
    assert_eq!("MAX_PARALLELISM".parse(), Ok(Policy::MaxParallelism));
    let error = "FASTEST".parse::<Policy>().unwrap_err();
    assert_eq!(error, EngineError::UnknownPolicy("FASTEST".to_owned()));
    assert!(error.to_string().contains("FASTEST") && error.to_string().contains("FINE_GRAIN"));
}
