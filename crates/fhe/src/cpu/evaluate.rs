//! From a typed operation and its ciphertexts to the kernel that computes it.

use cipherloom_primitives::{FheType, Operand, TypedOperation, U256};
use tfhe::integer::{BooleanBlock, RadixCiphertext, ServerKey, oprf::OprfServerKey};

use super::{booleans, clean, integers, lists, random, select, trivial};
use crate::{
    ciphertext::{Ciphertext, Value},
    clear,
    error::FheError,
    stored::block_count,
};

/// Evaluates an operation whose shape and input types were checked.
///
/// # Errors
/// [`FheError::ForeignCiphertext`] if an input is not of this backend.
pub(super) fn evaluate(
    key: &ServerKey,
    oprf: &OprfServerKey,
    operation: &TypedOperation,
    inputs: &[&Ciphertext],
) -> Result<Ciphertext, FheError> {
    let ty = operation.result_type();
    if let TypedOperation::Rand { seed, random_bits, .. } = operation {
        let value = random::value(key, oprf, ty, seed, *random_bits);
        return Ok(Ciphertext {
            ty,
            value: cleaned(key, value),
        });
    }
    let inputs = inputs.iter().map(|input| Input::of(input)).collect::<Result<Vec<_>, _>>()?;
    let known = inputs.iter().map(|input| input.known).collect::<Option<Vec<_>>>();
    if let Some(plaintexts) = known {
        return Ok(trivial::encrypt(key, ty, clear::evaluate(operation, &plaintexts)));
    }
    let value = compute(key, operation, &inputs)?;
    Ok(Ciphertext {
        ty,
        value: cleaned(key, value),
    })
}

/// Evaluates as [`evaluate`] does, but takes ciphertexts of public values for secret ones, as tfhe-rs does.
///
/// # Errors
/// As [`evaluate`].
pub(super) fn evaluate_literally(
    key: &ServerKey,
    oprf: &OprfServerKey,
    operation: &TypedOperation,
    inputs: &[&Ciphertext],
) -> Result<Ciphertext, FheError> {
    if inputs.is_empty() {
        return evaluate(key, oprf, operation, inputs);
    }
    let inputs = inputs.iter().map(|input| Input::of(input)).collect::<Result<Vec<_>, _>>()?;
    let inputs: Vec<_> = inputs.into_iter().map(|input| Input { known: None, ..input }).collect();
    let value = compute(key, operation, &inputs)?;
    Ok(Ciphertext {
        ty: operation.result_type(),
        value: cleaned(key, value),
    })
}

/// Computes from inputs of which at least one is secret.
fn compute(key: &ServerKey, operation: &TypedOperation, inputs: &[Input<'_>]) -> Result<Value, FheError> {
    let input = |index: usize| inputs.get(index).expect("the number of inputs was checked");
    // The right operand as a scalar, also where it is a ciphertext of a public value.
    let scalar = |operand: &Operand| match operand {
        Operand::Scalar(value) => Some(*value),
        Operand::Encrypted => input(1).known,
    };
    Ok(match operation {
        TypedOperation::Binary {
            operation,
            ty: FheType::Bool,
            rhs,
        } => match (scalar(rhs), input(0).known) {
            (Some(right), _) => Value::Bool(booleans::scalar(key, *operation, input(0).boolean()?, !right.is_zero())),
            // Every operation on two bits is symmetric.
            (None, Some(left)) => Value::Bool(booleans::scalar(key, *operation, input(1).boolean()?, !left.is_zero())),
            (None, None) => Value::Bool(booleans::encrypted(key, *operation, input(0).boolean()?, input(1).boolean()?)),
        },
        TypedOperation::Binary { operation, ty, rhs } => match (scalar(rhs), input(0).known) {
            (Some(right), _) => integers::scalar(key, *operation, *ty, input(0).radix()?, right),
            (None, Some(left)) => integers::scalar_left(key, *operation, *ty, left, input(1).radix()?),
            (None, None) => integers::encrypted(key, *operation, *ty, input(0).radix()?, input(1).radix()?),
        },
        TypedOperation::Neg { .. } => Value::Radix(key.neg_parallelized(input(0).radix()?)),
        TypedOperation::Not { ty: FheType::Bool } => Value::Bool(key.boolean_bitnot(input(0).boolean()?)),
        TypedOperation::Not { .. } => Value::Radix(key.bitnot(input(0).radix()?)),
        TypedOperation::Cast { from: FheType::Bool, to } => Value::Radix(input(0).boolean()?.clone().into_radix(block_count(*to), key)),
        TypedOperation::Cast { from, to } => Value::Radix(integers::resize(key, input(0).radix()?, *from, *to)),
        TypedOperation::IfThenElse { ty: FheType::Bool } => Value::Bool(select::booleans(
            key,
            input(0).boolean()?,
            (input(1).boolean()?, input(1).known_flag()),
            (input(2).boolean()?, input(2).known_flag()),
        )),
        TypedOperation::IfThenElse { ty } => Value::Radix(select::integers(
            key,
            *ty,
            (input(0).boolean()?, input(0).known_flag()),
            (input(1).radix()?, input(1).known),
            (input(2).radix()?, input(2).known),
        )),
        TypedOperation::Sum { ty, .. } => {
            let (secret, public) = split(inputs)?;
            Value::Radix(lists::sum(key, *ty, &secret, &public))
        }
        TypedOperation::IsIn { .. } => {
            let (secret, public) = split(inputs.get(1..).unwrap_or_default())?;
            Value::Bool(match input(0).known {
                Some(value) => lists::contains_public(key, &secret, &public, value),
                None => lists::contains(key, &secret, &public, input(0).radix()?),
            })
        }
        TypedOperation::MulDiv { factor, divisor, .. } => Value::Radix(match (scalar(factor), input(0).known) {
            (Some(right), _) => integers::mul_div_scalar(key, input(0).radix()?, right, *divisor),
            (None, Some(left)) => integers::mul_div_scalar(key, input(1).radix()?, left, *divisor),
            (None, None) => integers::mul_div(key, input(0).radix()?, input(1).radix()?, *divisor),
        }),
        TypedOperation::TrivialEncrypt { .. } | TypedOperation::Rand { .. } => {
            unreachable!("operations without inputs are done before")
        }
    })
}

/// An input with its plaintext, if that is public.
struct Input<'a> {
    value: &'a Value,
    known: Option<U256>,
}

impl<'a> Input<'a> {
    /// Takes an input of this backend, whose blocks are as many as its type has.
    fn of(ciphertext: &'a Ciphertext) -> Result<Self, FheError> {
        let fits = match &ciphertext.value {
            Value::Clear(_) => false,
            Value::Bool(_) => ciphertext.ty == FheType::Bool,
            Value::Radix(radix) => ciphertext.ty != FheType::Bool && integers::block_count_of(radix) == block_count(ciphertext.ty),
        };
        if fits {
            Ok(Self {
                value: &ciphertext.value,
                known: trivial::known(ciphertext),
            })
        } else {
            Err(FheError::ForeignCiphertext)
        }
    }

    fn known_flag(&self) -> Option<bool> {
        self.known.map(|value| !value.is_zero())
    }

    fn boolean(&self) -> Result<&'a BooleanBlock, FheError> {
        match self.value {
            Value::Bool(block) => Ok(block),
            Value::Clear(_) | Value::Radix(_) => Err(FheError::ForeignCiphertext),
        }
    }

    fn radix(&self) -> Result<&'a RadixCiphertext, FheError> {
        match self.value {
            Value::Radix(radix) => Ok(radix),
            Value::Clear(_) | Value::Bool(_) => Err(FheError::ForeignCiphertext),
        }
    }
}

/// Separates secret list elements from those whose value is public.
fn split<'a>(list: &[Input<'a>]) -> Result<(Vec<&'a RadixCiphertext>, Vec<U256>), FheError> {
    let mut secret = Vec::with_capacity(list.len());
    let mut public = Vec::new();
    for element in list {
        match element.known {
            Some(value) => public.push(value),
            None => secret.push(element.radix()?),
        }
    }
    Ok((secret, public))
}

pub(super) fn cleaned(key: &ServerKey, value: Value) -> Value {
    match value {
        Value::Bool(block) => Value::Bool(clean::boolean(key, block)),
        Value::Radix(radix) => Value::Radix(clean::radix(key, radix)),
        Value::Clear(value) => Value::Clear(value),
    }
}
