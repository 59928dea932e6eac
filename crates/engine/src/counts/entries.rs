//! The rows of the table.

use cipherloom_primitives::{FheType, Operand, Operation, TypedOperation, U256};

use super::{Sample, WIDTHS};

/// A row before it is counted.
pub(super) struct Entry {
    pub(super) name: &'static str,
    /// What it counts, if it exists for a type.
    pub(super) sample: fn(FheType) -> Option<Sample>,
    /// tfhe-rs's bootstraps for each of the widths, 0 where they were not counted.
    pub(super) tfhe_rs: [u32; WIDTHS.len()],
}

/// A number without any pattern, of which each type takes the lowest bits. It is odd.
const CONSTANT: U256 = U256::from_limbs([
    0x9e37_79b9_7f4a_7c15,
    0xf39c_c060_5ced_c834,
    0x1082_276b_f3a2_7251,
    0xf86c_6a11_d0c1_8e95,
]);

fn supported(operation: Operation, ty: FheType) -> bool {
    operation.spec().types.contains(ty)
}

fn one(operation: TypedOperation) -> Option<Sample> {
    supported(operation.operation(), operand_type(&operation)?).then(|| Sample::of(operation))
}

/// The type that the operation table lists the operation for.
fn operand_type(operation: &TypedOperation) -> Option<FheType> {
    match operation {
        TypedOperation::IfThenElse { ty } => Some(*ty),
        _ => operation.input_types().first().copied(),
    }
}

fn pair(operation: Operation, ty: FheType) -> Option<Sample> {
    one(TypedOperation::Binary {
        operation,
        ty,
        rhs: Operand::Encrypted,
    })
}

/// With a public operand. One that the type does not hold has no row.
fn scalar(operation: Operation, ty: FheType, value: U256) -> Option<Sample> {
    if value > ty.max_value() {
        return None;
    }
    one(TypedOperation::Binary {
        operation,
        ty,
        rhs: Operand::Scalar(value),
    })
}

fn constant(operation: Operation, ty: FheType) -> Option<Sample> {
    scalar(operation, ty, ty.truncate(CONSTANT))
}

fn number(operation: Operation, ty: FheType, value: u64) -> Option<Sample> {
    scalar(operation, ty, U256::from(value))
}

fn select_with_zero(ty: FheType) -> Option<Sample> {
    let mut sample = Sample::default();
    let (condition, value) = (sample.input(FheType::Bool), sample.input(ty));
    let zero = sample.compute(TypedOperation::TrivialEncrypt { value: U256::ZERO, ty }, &[]);
    let chosen = sample.compute(TypedOperation::IfThenElse { ty }, &[condition, value, zero]);
    sample.outputs.push(chosen);
    Some(sample)
}

fn several(operations: [Option<TypedOperation>; 2], ty: FheType) -> Option<Sample> {
    let mut sample = Sample::default();
    let mut inputs = Vec::new();
    for operation in operations.into_iter().flatten() {
        while inputs.len() < operation.input_types().len() {
            inputs.push(sample.input(ty));
        }
        let operands: Vec<_> = inputs.iter().copied().take(operation.input_types().len()).collect();
        let result = sample.compute(operation, &operands);
        sample.outputs.push(result);
    }
    Some(sample)
}

fn both(first: Operation, second: Operation, ty: FheType, rhs: Operand) -> Option<Sample> {
    let fits = |operand: &Operand| !matches!(operand, Operand::Scalar(value) if *value > ty.max_value());
    if !supported(first, ty) || !supported(second, ty) || !fits(&rhs) {
        return None;
    }
    let operation = |operation| Some(TypedOperation::Binary { operation, ty, rhs });
    several([operation(first), operation(second)], ty)
}

fn mul_div(ty: FheType, factor: Operand, divisor: u64) -> Option<Sample> {
    let divisor = U256::from(divisor);
    let holds = |value: &U256| *value <= ty.max_value();
    if !holds(&divisor) || matches!(&factor, Operand::Scalar(factor) if !holds(factor)) {
        return None;
    }
    one(TypedOperation::MulDiv { ty, factor, divisor })
}

/// The naive token transfer: le, select with 0, sub, add.
fn transfer(ty: FheType) -> Option<Sample> {
    if !supported(Operation::Add, ty) {
        return None;
    }
    let binary = |operation| TypedOperation::Binary {
        operation,
        ty,
        rhs: Operand::Encrypted,
    };
    let mut sample = Sample::default();
    let [amount, from, to] = [(); 3].map(|()| sample.input(ty));
    let enough = sample.compute(binary(Operation::Le), &[amount, from]);
    let zero = sample.compute(TypedOperation::TrivialEncrypt { value: U256::ZERO, ty }, &[]);
    let sent = sample.compute(TypedOperation::IfThenElse { ty }, &[enough, amount, zero]);
    let left = sample.compute(binary(Operation::Sub), &[from, sent]);
    let received = sample.compute(binary(Operation::Add), &[to, sent]);
    sample.outputs.extend([sent, left, received]);
    Some(sample)
}

const fn entry(name: &'static str, sample: fn(FheType) -> Option<Sample>, tfhe_rs: [u32; WIDTHS.len()]) -> Entry {
    Entry { name, sample, tfhe_rs }
}

pub(super) static ENTRIES: &[Entry] = &[
    entry("add, sub", |ty| pair(Operation::Add, ty), [8, 16, 32, 64, 128, 0]),
    entry(
        "add a constant, neg",
        |ty| one(TypedOperation::Neg { ty }),
        [7, 15, 31, 63, 127, 255],
    ),
    entry("ge, lt, le, gt", |ty| pair(Operation::Ge, ty), [5, 11, 23, 47, 126, 0]),
    entry("ge a constant", |ty| constant(Operation::Ge, ty), [3, 5, 11, 23, 47, 0]),
    entry(
        "sub and ge of a pair",
        |ty| both(Operation::Sub, Operation::Ge, ty, Operand::Encrypted),
        [13, 27, 55, 111, 254, 0],
    ),
    entry("eq, ne", |ty| pair(Operation::Eq, ty), [5, 11, 21, 42, 81, 163]),
    entry("eq a constant", |ty| constant(Operation::Eq, ty), [3, 5, 11, 21, 42, 81]),
    entry("min, max", |ty| pair(Operation::Min, ty), [17, 35, 71, 143, 318, 0]),
    entry(
        "min and max of a pair",
        |ty| both(Operation::Min, Operation::Max, ty, Operand::Encrypted),
        [34, 70, 142, 286, 636, 0],
    ),
    entry("select", |ty| one(TypedOperation::IfThenElse { ty }), [12, 24, 48, 96, 192, 384]),
    entry("select with 0", select_with_zero, [4, 8, 16, 32, 64, 128]),
    entry("and, or, xor", |ty| pair(Operation::BitXor, ty), [4, 8, 16, 32, 64, 128]),
    entry("shl, shr by 3", |ty| number(Operation::Shl, ty, 3), [3, 7, 15, 31, 63, 127]),
    entry("shl, shr", |ty| pair(Operation::Shl, ty), [20, 42, 115, 239, 580, 1216]),
    entry("rotl, rotr", |ty| pair(Operation::Rotl, ty), [21, 49, 114, 258, 579, 1283]),
    entry("mul", |ty| pair(Operation::Mul, ty), [28, 111, 440, 1737, 6892, 0]),
    entry("mul by 10", |ty| number(Operation::Mul, ty, 10), [12, 24, 48, 96, 192, 0]),
    entry("mul by a constant", |ty| constant(Operation::Mul, ty), [6, 38, 128, 473, 1668, 0]),
    entry("div by 10", |ty| number(Operation::Div, ty, 10), [33, 102, 304, 995, 3454, 0]),
    entry("div by 10,000", |ty| number(Operation::Div, ty, 10_000), [0, 72, 306, 929, 3176, 0]),
    entry(
        "rem by 10,000",
        |ty| number(Operation::Rem, ty, 10_000),
        [0, 109, 394, 1130, 3600, 0],
    ),
    entry(
        "div and rem by 10,000",
        |ty| both(Operation::Div, Operation::Rem, ty, Operand::Scalar(U256::from(10_000))),
        [0, 181, 700, 2059, 6776, 0],
    ),
    entry("div by a constant", |ty| constant(Operation::Div, ty), [54, 70, 239, 1106, 3518, 0]),
    entry("rem by a constant", |ty| constant(Operation::Rem, ty), [68, 94, 342, 1334, 4058, 0]),
    entry(
        "mulDiv by 10,000",
        |ty| mul_div(ty, Operand::Encrypted, 10_000),
        [0, 545, 1842, 6719, 0, 0],
    ),
    entry(
        "mulDiv of 30 by 10,000",
        |ty| mul_div(ty, Operand::Scalar(U256::from(30)), 10_000),
        [0, 361, 1040, 3399, 0, 0],
    ),
    entry(
        "sum of 4",
        |ty| one(TypedOperation::Sum { ty, count: 4 }),
        [13, 29, 61, 125, 253, 0],
    ),
    entry(
        "sum of 16",
        |ty| one(TypedOperation::Sum { ty, count: 16 }),
        [39, 87, 183, 375, 759, 0],
    ),
    entry(
        "isIn of 8",
        |ty| one(TypedOperation::IsIn { ty, count: 8 }),
        [43, 91, 171, 339, 651, 1307],
    ),
    entry("token transfer", transfer, [25, 51, 103, 207, 446, 0]),
];
