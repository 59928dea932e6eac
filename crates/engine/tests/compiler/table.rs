//! How many bootstraps operations and transfers take. The numbers are those of `docs/engine.md`.

use cipherloom_engine::{Engine, lower::lower};
use cipherloom_primitives::{FheType, Handle, Operation, TypedOperation, U256};

use crate::support::{Transaction, encrypted, with_scalar};

/// Who may send how much to whom: the pattern of confidential tokens.
pub(crate) fn transfer(transaction: &mut Transaction) -> [Handle; 3] {
    let ty = FheType::Uint64;
    let (amount, from, to) = (transaction.input(ty), transaction.input(ty), transaction.input(ty));
    let enough = transaction.binary(Operation::Le, amount, from);
    let zero = transaction.public(ty, 0);
    let sent = transaction.select(enough, amount, zero);
    let left = transaction.binary(Operation::Sub, from, sent);
    let received = transaction.binary(Operation::Add, to, sent);
    [sent, left, received]
}

#[test]
fn a_token_transfer_takes_128_bootstraps() {
    let mut transaction = Transaction::default();
    let outputs = transfer(&mut transaction);
    let graph = transaction.graph(&outputs);
    let compiled = Engine::default().compile(&graph);
    assert_eq!(compiled.program.bootstraps(), 128);
    assert_eq!(compiled.program.opaque().count(), 0);
}

#[test]
fn counts_per_operation_are_those_of_the_documentation() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/engine.md");
    let document = std::fs::read_to_string(path).unwrap();
    let mut missing = Vec::new();
    let widths = [
        FheType::Uint8,
        FheType::Uint16,
        FheType::Uint32,
        FheType::Uint64,
        FheType::Uint128,
        FheType::Uint256,
    ];
    for (name, operation) in rows() {
        let cell = |ty: FheType| match operation(ty) {
            Some(operation) => count(&operation).to_string(),
            None => "–".to_owned(),
        };
        let cells: Vec<String> = widths.into_iter().map(cell).collect();
        let row = format!("| {name} | {} |", cells.join(" | "));
        if !document.contains(&row) {
            missing.push(row);
        }
    }
    assert!(missing.is_empty(), "docs/engine.md lacks these rows:\n{}", missing.join("\n"));
}

fn count(operation: &TypedOperation) -> usize {
    let mut transaction = Transaction::default();
    let inputs: Vec<_> = operation.input_types().into_iter().map(|ty| transaction.input(ty)).collect();
    let result = transaction.operation(operation.clone(), &inputs);
    let program = lower(&transaction.graph(&[result]));
    assert_eq!(program.opaque().count(), 0, "{operation:?}");
    program.bootstraps()
}

type Row = (&'static str, fn(FheType) -> Option<TypedOperation>);

fn supported(operation: Operation, ty: FheType) -> bool {
    operation.spec().types.contains(ty)
}

fn pair(operation: Operation, ty: FheType) -> Option<TypedOperation> {
    supported(operation, ty).then(|| encrypted(operation, ty))
}

fn scalar(operation: Operation, ty: FheType, value: u64) -> Option<TypedOperation> {
    supported(operation, ty).then(|| with_scalar(operation, ty, ty.truncate(U256::from(value))))
}

fn rows() -> Vec<Row> {
    use Operation as Op;
    vec![
        ("add", |ty| pair(Op::Add, ty)),
        ("sub", |ty| pair(Op::Sub, ty)),
        ("add 123", |ty| scalar(Op::Add, ty, 123)),
        ("neg", |ty| supported(Op::Neg, ty).then_some(TypedOperation::Neg { ty })),
        ("ge, lt, le, gt", |ty| pair(Op::Ge, ty)),
        ("ge 123", |ty| scalar(Op::Ge, ty, 123)),
        ("eq, ne", |ty| pair(Op::Eq, ty)),
        ("eq 123", |ty| scalar(Op::Eq, ty, 123)),
        ("min, max", |ty| pair(Op::Min, ty)),
        ("select", |ty| Some(TypedOperation::IfThenElse { ty })),
        ("and, or, xor", |ty| pair(Op::BitXor, ty)),
        ("shl 3", |ty| scalar(Op::Shl, ty, 3)),
        ("mul", |ty| pair(Op::Mul, ty)),
        ("mul 10", |ty| scalar(Op::Mul, ty, 10)),
        ("sum of 4", |ty| {
            supported(Op::Sum, ty).then_some(TypedOperation::Sum { ty, count: 4 })
        }),
        ("sum of 16", |ty| {
            supported(Op::Sum, ty).then_some(TypedOperation::Sum { ty, count: 16 })
        }),
        ("isIn of 8", |ty| {
            supported(Op::IsIn, ty).then_some(TypedOperation::IsIn { ty, count: 8 })
        }),
    ]
}
