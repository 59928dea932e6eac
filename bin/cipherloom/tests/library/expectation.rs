//! What a function of the library is expected to ask of the executor, told from the probe's name and the operation table.

use cipherloom_primitives::{
    Computation, FheType, Operand, Operation, TypedOperation, U256,
    operation::{Shape, TABLE},
};

/// The plaintext of every operand of the probes that is no bool.
const VALUE: u64 = 8;

/// A parameter of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parameter {
    Encrypted(FheType),
    Plain(FheType),
    List(FheType),
    External(FheType),
    Proof,
}

/// Checks the computations of one probe.
pub(crate) fn check(probe: &str, computations: &[Computation]) {
    let mut parts = probe.split("__");
    let (name, types, variant) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let parameters: Vec<Parameter> = types.split('_').filter(|word| !word.is_empty()).map(parameter).collect();
    let stored = variant == "stored";

    let (last, earlier) = computations.split_last().unwrap_or_else(|| panic!("{probe} requests nothing"));
    let mut operation = last.operation.clone();
    if let TypedOperation::Rand { seed, .. } = &mut operation {
        assert_ne!(*seed, [0; 16], "{probe}");
        *seed = [0; 16];
    }
    assert_eq!(operation, expected(name, &parameters, stored), "{probe}");

    let casts = earlier.iter().filter(|c| c.operation.operation() == Operation::Cast).count();
    let trivial = earlier
        .iter()
        .filter(|c| c.operation.operation() == Operation::TrivialEncrypt)
        .count();
    assert_eq!(casts, widened(name, &parameters), "{probe}: casts");
    assert_eq!(trivial, made(name, &parameters), "{probe}: trivial encryptions");
    assert_eq!(earlier.len(), casts + trivial, "{probe}: nothing else");
    if !stored {
        let zeros = earlier
            .iter()
            .filter(|c| matches!(&c.operation, TypedOperation::TrivialEncrypt { value, .. } if value.is_zero()));
        let encrypted = parameters
            .iter()
            .filter(|p| matches!(p, Parameter::Encrypted(_) | Parameter::List(_)));
        assert_eq!(zeros.count(), encrypted.count(), "{probe}: zeros for what was never written");
    }
}

fn parameter(word: &str) -> Parameter {
    let plain = |name: &str| FheType::ALL.into_iter().find(|ty| ty.plain_solidity_name() == name);
    if word == "bytes" {
        Parameter::Proof
    } else if let Some(element) = word.strip_suffix("List").and_then(FheType::from_solidity_name) {
        Parameter::List(element)
    } else if let Some(name) = word.strip_prefix("externalE") {
        Parameter::External(FheType::from_solidity_name(&format!("e{name}")).unwrap())
    } else if let Some(ty) = FheType::from_solidity_name(word) {
        Parameter::Encrypted(ty)
    } else {
        Parameter::Plain(plain(word).unwrap_or_else(|| panic!("unknown type {word}")))
    }
}

fn value(ty: FheType) -> U256 {
    if ty == FheType::Bool { U256::ONE } else { U256::from(VALUE) }
}

fn is_shift(name: &str) -> bool {
    ["shl", "shr", "rotl", "rotr"].contains(&name)
}

/// The type in a name such as `asEuint16` or `randEbool`.
fn named_type(name: &str, prefix: &str) -> Option<FheType> {
    FheType::from_solidity_name(&name.strip_prefix(prefix)?.to_ascii_lowercase())
}

/// The operation that gives the result.
fn expected(name: &str, parameters: &[Parameter], stored: bool) -> TypedOperation {
    use Parameter::{Encrypted, External, List, Plain, Proof};
    if let Some(to) = named_type(name, "as") {
        return match parameters {
            [Encrypted(from)] if to == FheType::Bool => binary(Operation::Ne, *from, Operand::Scalar(U256::ZERO)),
            [Encrypted(from)] => TypedOperation::Cast { from: *from, to },
            [Plain(ty)] => TypedOperation::TrivialEncrypt { value: value(*ty), ty: to },
            other => panic!("{name} does not take {other:?}"),
        };
    }
    if let Some(ty) = named_type(name, "rand") {
        let random_bits = if parameters.is_empty() { ty.bits() } else { VALUE.ilog2() };
        return TypedOperation::Rand {
            ty,
            seed: [0; 16],
            random_bits,
        };
    }
    match (name, parameters) {
        ("neg", [Encrypted(ty)]) => TypedOperation::Neg { ty: *ty },
        ("not", [Encrypted(ty)]) => TypedOperation::Not { ty: *ty },
        ("select", [Encrypted(FheType::Bool), Encrypted(ty), Encrypted(_)]) => TypedOperation::IfThenElse { ty: *ty },
        ("sum", [List(ty)]) => TypedOperation::Sum { ty: *ty, count: 2 },
        ("isIn", [Encrypted(ty), List(_)]) => TypedOperation::IsIn { ty: *ty, count: 2 },
        ("mulDiv", [Encrypted(ty), factor, Plain(_)]) => {
            let factor = match factor {
                Encrypted(_) => Operand::Encrypted,
                _ => Operand::Scalar(value(*ty)),
            };
            TypedOperation::MulDiv {
                ty: *ty,
                factor,
                divisor: U256::from(VALUE),
            }
        }
        // Without a proof nothing is computed: the handle was made before, or a zero is made of the zero handle.
        ("fromExternal", [External(ty), Proof]) => {
            let value = if stored { value(*ty) } else { U256::ZERO };
            TypedOperation::TrivialEncrypt { value, ty: *ty }
        }
        (_, [Encrypted(left), Encrypted(_)]) if is_shift(name) => binary(table(name), *left, Operand::Encrypted),
        (_, [Encrypted(left), Plain(_)]) if is_shift(name) => binary(table(name), *left, Operand::Scalar(U256::from(VALUE))),
        (_, [Encrypted(left), Encrypted(right)]) => {
            let wide = if left.bits() < right.bits() { right } else { left };
            binary(table(name), *wide, Operand::Encrypted)
        }
        (_, [Encrypted(ty), Plain(_)]) => binary(table(name), *ty, Operand::Scalar(value(*ty))),
        ("sub", [Plain(_), Encrypted(ty)]) => binary(Operation::Sub, *ty, Operand::Encrypted),
        (_, [Plain(_), Encrypted(ty)]) => binary(turned_round(table(name)), *ty, Operand::Scalar(value(*ty))),
        other => panic!("no expectation for {other:?}"),
    }
}

fn binary(operation: Operation, ty: FheType, rhs: Operand) -> TypedOperation {
    TypedOperation::Binary { operation, ty, rhs }
}

fn table(name: &str) -> Operation {
    let is_binary = |shape| matches!(shape, Shape::Binary(_));
    TABLE
        .iter()
        .find(|spec| spec.library_name == name && is_binary(spec.shape))
        .unwrap()
        .operation
}

fn turned_round(operation: Operation) -> Operation {
    match operation {
        Operation::Ge => Operation::Le,
        Operation::Gt => Operation::Lt,
        Operation::Le => Operation::Ge,
        Operation::Lt => Operation::Gt,
        commutative => commutative,
    }
}

/// How many operands are converted before the operation.
fn widened(name: &str, parameters: &[Parameter]) -> usize {
    match parameters {
        [Parameter::Encrypted(left), Parameter::Encrypted(right)] if name != "isIn" => usize::from(left != right),
        _ => 0,
    }
}

/// How many trivial encryptions come before the operation: one per encrypted operand, be it the probe's or a zero.
fn made(name: &str, parameters: &[Parameter]) -> usize {
    let operands: usize = parameters
        .iter()
        .map(|parameter| match parameter {
            Parameter::Encrypted(_) => 1,
            Parameter::List(_) => 2,
            // The one that the probe makes is the last computation itself.
            Parameter::Plain(_) | Parameter::External(_) | Parameter::Proof => 0,
        })
        .sum();
    let left_scalar = name == "sub" && matches!(parameters, [Parameter::Plain(_), _]);
    operands + usize::from(left_scalar)
}
