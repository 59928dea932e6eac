//! What every operation means, on plaintext.

use cipherloom_primitives::{FheType, Operand, Operation, TypedOperation, U256};
use sha3::{Digest, Keccak256};

/// Computes the plaintext result of an operation from the plaintexts of its inputs.
///
/// This is the reference for every backend. All numbers are unsigned and below 2^bits of their type; `ebool` is 0 or 1.
/// [`TypedOperation::Rand`] is the exception: its value is a fixed function of the seed here, and another one, which depends on
/// the secret key, in real encryption.
///
/// # Panics
/// If there are fewer inputs than [`TypedOperation::input_types`] lists, or if a divisor is zero, which [`TypedOperation::check`] rules
/// out.
#[must_use]
pub fn evaluate(operation: &TypedOperation, inputs: &[U256]) -> U256 {
    let input = |index: usize| *inputs.get(index).expect("the caller gives one plaintext per input type");
    let right = |operand: &Operand| match operand {
        Operand::Encrypted => input(1),
        Operand::Scalar(value) => *value,
    };
    match operation {
        TypedOperation::Binary { operation, ty, rhs } => binary(*operation, *ty, input(0), right(rhs)),
        TypedOperation::Neg { ty } => ty.truncate(input(0).wrapping_neg()),
        TypedOperation::Not { ty } => ty.truncate(!input(0)),
        TypedOperation::Cast { to, .. } => to.truncate(input(0)),
        TypedOperation::TrivialEncrypt { value, .. } => *value,
        TypedOperation::IfThenElse { .. } => input(if input(0).is_zero() { 2 } else { 1 }),
        TypedOperation::Rand { seed, random_bits, .. } => random(seed, *random_bits),
        TypedOperation::Sum { ty, .. } => inputs.iter().fold(U256::ZERO, |sum, value| ty.truncate(sum.wrapping_add(*value))),
        TypedOperation::IsIn { .. } => flag(inputs.iter().skip(1).any(|value| *value == input(0))),
        // The operation exists up to 64 bits, so 256 bits hold the product in full.
        TypedOperation::MulDiv { ty, factor, divisor } => ty.truncate(input(0).wrapping_mul(right(factor)) / *divisor),
    }
}

/// The operations with two operands.
fn binary(operation: Operation, ty: FheType, left: U256, right: U256) -> U256 {
    let width = ty.bits() as usize;
    // Amounts are reduced modulo the width; this changes nothing for the other operations, which do not use it.
    let amount = usize::try_from(right % U256::from(width)).expect("a number below 256 fits a usize");
    match operation {
        Operation::Add => ty.truncate(left.wrapping_add(right)),
        Operation::Sub => ty.truncate(left.wrapping_sub(right)),
        Operation::Mul => ty.truncate(left.wrapping_mul(right)),
        Operation::Div => left / right,
        Operation::Rem => left % right,
        Operation::BitAnd => left & right,
        Operation::BitOr => left | right,
        Operation::BitXor => left ^ right,
        Operation::Shl => ty.truncate(left << amount),
        Operation::Shr => left >> amount,
        Operation::Rotl => rotate_left(ty, left, amount),
        Operation::Rotr => rotate_left(ty, left, width - amount),
        Operation::Eq => flag(left == right),
        Operation::Ne => flag(left != right),
        Operation::Ge => flag(left >= right),
        Operation::Gt => flag(left > right),
        Operation::Le => flag(left <= right),
        Operation::Lt => flag(left < right),
        Operation::Min => left.min(right),
        Operation::Max => left.max(right),
        Operation::Neg
        | Operation::Not
        | Operation::VerifyInput
        | Operation::Cast
        | Operation::TrivialEncrypt
        | Operation::IfThenElse
        | Operation::Rand
        | Operation::RandBounded
        | Operation::Sum
        | Operation::IsIn
        | Operation::MulDiv => unreachable!("{operation} has no two operands; TypedOperation::check builds no such value"),
    }
}

/// Rotates within the width of the type; the amount is at most the width.
fn rotate_left(ty: FheType, value: U256, amount: usize) -> U256 {
    let width = ty.bits() as usize;
    // A shift by all 256 bits gives zero, so the two parts also join right where the amount is zero or the width.
    ty.truncate(value << amount) | (value >> (width - amount))
}

fn flag(condition: bool) -> U256 {
    U256::from(u8::from(condition))
}

/// A value of this many bits that is fixed by the seed and looks random.
fn random(seed: &[u8; 16], random_bits: u32) -> U256 {
    let digest = Keccak256::new()
        .chain_update(b"cipherloom insecure clear random value")
        .chain_update(seed)
        .finalize();
    // A shift by all 256 bits gives zero, which is the value with no random bits.
    U256::from_be_bytes::<32>(digest.into()) >> (256 - random_bits.min(256)) as usize
}
