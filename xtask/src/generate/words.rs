//! What each operation does, in words: for NatSpec and for `docs/operations.md`.

use cipherloom_primitives::{FheType, Operation, operation::OperationSpec};

/// Returns what the operation computes, as a sentence about `a` and `b`.
pub(super) fn sentence(operation: Operation) -> &'static str {
    use Operation as Op;
    match operation {
        Op::Add => "Adds `a` and `b`, modulo two to the number of bits.",
        Op::Sub => "Subtracts `b` from `a`, modulo two to the number of bits.",
        Op::Mul => "Multiplies `a` and `b`, modulo two to the number of bits.",
        Op::Div => "Divides `a` by the plaintext `b`, rounding down; reverts if `b` is zero.",
        Op::Rem => "Computes the remainder of `a` divided by the plaintext `b`; reverts if `b` is zero.",
        Op::BitAnd => "Computes the bitwise and of `a` and `b`.",
        Op::BitOr => "Computes the bitwise or of `a` and `b`.",
        Op::BitXor => "Computes the bitwise exclusive or of `a` and `b`.",
        Op::Shl => "Shifts `a` to the left by `b` bits; `b` is taken modulo the number of bits.",
        Op::Shr => "Shifts `a` to the right by `b` bits, filling with zeros; `b` is taken modulo the number of bits.",
        Op::Rotl => "Rotates `a` to the left by `b` bits; `b` is taken modulo the number of bits.",
        Op::Rotr => "Rotates `a` to the right by `b` bits; `b` is taken modulo the number of bits.",
        Op::Eq => "Computes whether `a` and `b` are equal.",
        Op::Ne => "Computes whether `a` and `b` differ.",
        Op::Ge => "Computes whether `a` is at least `b` (unsigned).",
        Op::Gt => "Computes whether `a` is above `b` (unsigned).",
        Op::Le => "Computes whether `a` is at most `b` (unsigned).",
        Op::Lt => "Computes whether `a` is below `b` (unsigned).",
        Op::Min => "Computes the smaller of `a` and `b` (unsigned).",
        Op::Max => "Computes the larger of `a` and `b` (unsigned).",
        Op::Neg => "Computes the two's complement of `value`.",
        Op::Not => "Computes the bitwise complement of `value`.",
        Op::VerifyInput => "Admits a value that a user encrypted, with the coprocessors' signatures as proof.",
        Op::Cast => "Converts to another width: widens with zeros, or keeps the low bits.",
        Op::TrivialEncrypt => "Makes an encrypted value of a plaintext that everybody can see.",
        Op::IfThenElse => "Computes `ifTrue` where `control` is true and `ifFalse` where it is not, without revealing which.",
        Op::Rand => "Draws a uniformly random value that nobody knows.",
        Op::RandBounded => "Draws a uniformly random value below `upperBound`, which is a power of two.",
        Op::Sum => "Adds all values of a list, modulo two to the number of bits.",
        Op::IsIn => "Computes whether `value` is in a list.",
        Op::MulDiv => {
            "Multiplies `a` and `b` without overflow, divides by the plaintext `divisor`, rounding down, and keeps the low bits; reverts if `divisor` is zero."
        }
    }
}

/// Returns the functions of the library that lead to the operation, for the document.
pub(super) fn library_functions(spec: &OperationSpec) -> String {
    let per_type = |prefix: &str, arguments: &str| format!("`{prefix}<type>({arguments})`");
    match spec.operation {
        Operation::VerifyInput => "`fromExternal(input, proof)`".to_owned(),
        Operation::Cast => per_type("as", "encrypted value"),
        Operation::TrivialEncrypt => per_type("as", "plaintext"),
        Operation::Rand => per_type("rand", ""),
        Operation::RandBounded => per_type("rand", "upperBound"),
        Operation::Neg | Operation::Not => format!("`{}(value)`", spec.library_name),
        Operation::IfThenElse => "`select(control, ifTrue, ifFalse)`".to_owned(),
        Operation::Sum => "`sum(values)`".to_owned(),
        Operation::IsIn => "`isIn(value, values)`".to_owned(),
        Operation::MulDiv => "`mulDiv(a, b, divisor)`".to_owned(),
        _ => format!("`{}(a, b)`", spec.library_name),
    }
}

/// Lists the names of types as one text, such as `euint8, euint16`.
pub(super) fn names(types: impl Iterator<Item = FheType>) -> String {
    types.map(FheType::solidity_name).collect::<Vec<_>>().join(", ")
}
