//! One transaction: computations as they go over the wire, each next to what must come out.

use alloy_primitives::{B256, U256};
use bytes::Bytes;
use cipherloom_primitives::{FheType, Handle};
use cipherloom_rpc::fhevm::{
    common::FheOperation,
    coprocessor::{AsyncComputation, AsyncComputationInput, async_computation_input::Input},
};

use crate::{
    plain::{self, Plain, Second, Value},
    random::Random,
};

/// The longest name of a value.
const LONGEST_NAME_BYTES: usize = 256;

/// A transaction that is being written.
#[derive(Debug)]
pub struct Transaction<'a> {
    random: &'a mut Random,
    chain_id: u64,
    computations: Vec<AsyncComputation>,
    results: Vec<Value>,
}

impl<'a> Transaction<'a> {
    /// Starts a transaction of a chain.
    pub const fn new(random: &'a mut Random, chain_id: u64) -> Self {
        Self {
            random,
            chain_id,
            computations: Vec::new(),
            results: Vec::new(),
        }
    }

    /// Returns what was asked for, and its results.
    #[must_use]
    pub fn finish(self) -> (Vec<AsyncComputation>, Vec<Value>) {
        (self.computations, self.results)
    }

    /// The randomness that the transaction is made of.
    pub const fn random(&mut self) -> &mut Random {
        self.random
    }

    /// Asks for an operation on two values.
    pub fn binary(&mut self, operation: FheOperation, left: &Value, right: &Value) -> Value {
        let plain = plain::binary(operation, left.ty, left, Second::Encrypted(right));
        let ty = plain::binary_type(operation, left.ty);
        self.add(operation, vec![handle(left), handle(right)], ty, plain)
    }

    /// Asks for an operation on a value and a public number.
    pub fn binary_scalar(&mut self, operation: FheOperation, left: &Value, right: U256) -> Value {
        let plain = plain::binary(operation, left.ty, left, Second::Scalar(right));
        let ty = plain::binary_type(operation, left.ty);
        self.add(operation, vec![handle(left), number(right)], ty, plain)
    }

    /// Asks for a complement or a negative.
    pub fn unary(&mut self, operation: FheOperation, value: &Value) -> Value {
        self.add(operation, vec![handle(value)], value.ty, plain::unary(operation, value))
    }

    /// Asks for a value in another width.
    pub fn cast(&mut self, value: &Value, to: FheType) -> Value {
        let plain = plain::cast(value, to);
        self.add(FheOperation::FheCast, vec![handle(value), type_number(to)], to, plain)
    }

    /// Asks for one of two values.
    pub fn select(&mut self, condition: &Value, yes: &Value, no: &Value) -> Value {
        let plain = plain::select(condition, yes, no);
        let inputs = vec![handle(condition), handle(yes), handle(no)];
        self.add(FheOperation::FheIfThenElse, inputs, yes.ty, plain)
    }

    /// Asks for a public value as a ciphertext.
    pub fn trivial(&mut self, ty: FheType, value: U256) -> Value {
        let inputs = vec![number(value), type_number(ty)];
        self.add(FheOperation::FheTrivialEncrypt, inputs, ty, Plain::Exactly(value))
    }

    /// Asks for a random value.
    pub fn rand(&mut self, ty: FheType) -> Value {
        let inputs = vec![scalar(self.random.bytes(32)), type_number(ty)];
        self.add(FheOperation::FheRand, inputs, ty, Plain::AtMost(ty.max_value()))
    }

    /// Asks for a random value below a power of two.
    pub fn rand_below_power(&mut self, ty: FheType, bits: usize) -> Value {
        let bound = U256::ONE << bits;
        let inputs = vec![scalar(self.random.bytes(32)), number(bound), type_number(ty)];
        self.add(FheOperation::FheRandBounded, inputs, ty, Plain::AtMost(bound - U256::ONE))
    }

    fn add(&mut self, operation: FheOperation, inputs: Vec<AsyncComputationInput>, ty: FheType, plain: Plain) -> Value {
        let value = Value {
            name: self.name(ty),
            ty,
            plain,
        };
        self.computations.push(AsyncComputation {
            operation: operation.into(),
            output_handle: value.name.clone(),
            inputs,
        });
        self.results.push(value.clone());
        value
    }

    fn name(&mut self, ty: FheType) -> Bytes {
        name(self.random, self.chain_id, ty)
    }
}

/// Makes a name as nodes of different generations do: mostly a handle of the 0.6 generation, sometimes one of ours, sometimes bytes of any length.
pub(crate) fn name(random: &mut Random, chain_id: u64, ty: FheType) -> Bytes {
    match random.below(20) {
        0..=2 => {
            let hash = B256::from_slice(&random.bytes(32));
            Bytes::copy_from_slice(Handle::computed(hash, chain_id, ty).as_slice())
        }
        3 => {
            let length = 12 + random.below(19);
            random.bytes(length).into()
        }
        4 => random.bytes(LONGEST_NAME_BYTES).into(),
        _ => {
            let mut bytes = random.bytes(30);
            bytes.extend([ty.id(), 0]);
            bytes.into()
        }
    }
}

fn handle(value: &Value) -> AsyncComputationInput {
    AsyncComputationInput {
        input: Some(Input::InputHandle(value.name.clone())),
    }
}

fn scalar(bytes: Vec<u8>) -> AsyncComputationInput {
    AsyncComputationInput {
        input: Some(Input::Scalar(bytes.into())),
    }
}

fn number(value: U256) -> AsyncComputationInput {
    scalar(value.to_be_bytes::<32>().to_vec())
}

fn type_number(ty: FheType) -> AsyncComputationInput {
    scalar(vec![ty.id()])
}
