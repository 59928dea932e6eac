//! Measures every operation on the types named, with secret operands and with a scalar, on this machine.
//!
//! `operation_times DIRECTORY [TYPE…]`: a key set's directory (`cipherloom dev` prints its own; `key_times` makes one) and Solidity
//! names of types, `euint8` and `euint64` if there are none. One operation at a time, as when the system is idle: with more processors than a
//! pool has threads, others run beside it at the same speed.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::{error::Error, path::Path, time::Instant};

use cipherloom_fhe::{Ciphertext, FheBackend, KeySet};
use cipherloom_primitives::{
    Address, FheType, Operand, Operation, TypedOperation, U256,
    input::InputMetadata,
    operation::{ScalarRule, Shape, TABLE},
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("usage: operation_times DIRECTORY [TYPE…]")?;
    let mut types = arguments
        .map(|name| FheType::from_solidity_name(&name).ok_or(format!("no type {name}")))
        .collect::<Result<Vec<_>, _>>()?;
    if types.is_empty() {
        types = vec![FheType::Uint8, FheType::Uint64];
    }
    let keys = KeySet::open(Path::new(&directory))?;
    let backend = keys.evaluation()?;
    let metadata = InputMetadata {
        contract: Address::ZERO,
        user: Address::ZERO,
        acl: Address::ZERO,
        chain_id: 31337,
    };
    // Two ciphertexts of each type: on one and the same, a difference is an exact zero and costs nothing.
    let values = [FheType::ALL, FheType::ALL].concat();
    let values: Vec<_> = values
        .into_iter()
        .map(|ty| (ty, ty.truncate(U256::from_be_bytes([0x6b; 32]))))
        .collect();
    let inputs = backend.expand_input(&keys.encryptor()?.encrypt(&values, &metadata)?)?;
    println!("{:<16} {:<10} {:>10} {:>10}", "operation", "type", "secret", "scalar");
    for ty in types {
        for spec in TABLE.iter().filter(|spec| spec.types.contains(ty)) {
            let (secret, scalar) = variants(spec.operation, ty);
            let secret = secret.map(|operation| time(&*backend, &operation, &inputs)).transpose()?;
            let scalar = scalar.map(|operation| time(&*backend, &operation, &inputs)).transpose()?;
            if secret.is_some() || scalar.is_some() {
                println!(
                    "{:<16} {:<10} {:>10} {:>10}",
                    spec.function,
                    ty.solidity_name(),
                    column(secret),
                    column(scalar)
                );
            }
        }
    }
    Ok(())
}

/// Returns the operation with secret operands and with a scalar, as far as they exist.
fn variants(operation: Operation, ty: FheType) -> (Option<TypedOperation>, Option<TypedOperation>) {
    let number = ty.truncate(U256::from(0x0123_4567_89ab_cdef_u64));
    match operation.spec().shape {
        Shape::Binary(rule) => {
            let with = |rhs| Some(TypedOperation::Binary { operation, ty, rhs });
            let secret = if rule == ScalarRule::Either {
                with(Operand::Encrypted)
            } else {
                None
            };
            (secret, with(Operand::Scalar(number)))
        }
        Shape::Unary if operation == Operation::Neg => (Some(TypedOperation::Neg { ty }), None),
        Shape::Unary => (Some(TypedOperation::Not { ty }), None),
        Shape::Select => (Some(TypedOperation::IfThenElse { ty }), None),
        Shape::Random { bounded: false } => {
            let random = TypedOperation::Rand {
                ty,
                seed: [1; 16],
                random_bits: ty.bits(),
            };
            (Some(random), None)
        }
        Shape::List => (Some(TypedOperation::Sum { ty, count: 8 }), None),
        Shape::Membership => (Some(TypedOperation::IsIn { ty, count: 8 }), None),
        Shape::MulDiv => {
            let with = |factor| {
                Some(TypedOperation::MulDiv {
                    ty,
                    factor,
                    divisor: number,
                })
            };
            (with(Operand::Encrypted), with(Operand::Scalar(number)))
        }
        // These take no bootstrap, or are the same as one above.
        Shape::Random { bounded: true } | Shape::Input | Shape::Cast | Shape::Trivial => (None, None),
    }
}

/// Evaluates once and returns the seconds.
fn time(backend: &dyn FheBackend, operation: &TypedOperation, inputs: &[Ciphertext]) -> Result<f64, Box<dyn Error>> {
    let two_of = |ty| inputs.iter().filter(move |input| input.fhe_type() == ty);
    let chosen = operation
        .input_types()
        .into_iter()
        .enumerate()
        .map(|(index, ty)| two_of(ty).nth(index % 2).ok_or("there is no such input"))
        .collect::<Result<Vec<_>, _>>()?;
    let start = Instant::now();
    backend.evaluate(operation, &chosen)?;
    Ok(start.elapsed().as_secs_f64())
}

fn column(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{:.1} ms", seconds * 1000.0))
}
