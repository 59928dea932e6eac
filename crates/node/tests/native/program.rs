//! Scripts of calls for one transaction, whose later calls use results of earlier ones.

use alloy::primitives::{Address, B256, U256, keccak256};
use cipherloom_contracts::{HostAddresses, development};
use cipherloom_primitives::operation::Shape;
use cipherloom_primitives::{FheType, Handle, Operation};

use crate::client::{Batch, STORE};

/// A word of call data.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg {
    Word(B256),
    /// What the script's call with this number returned.
    Result(usize),
}

impl From<Handle> for Arg {
    fn from(handle: Handle) -> Self {
        Self::Word(handle.as_b256())
    }
}

impl From<u64> for Arg {
    fn from(value: u64) -> Self {
        Self::Word(U256::from(value).into())
    }
}

impl From<FheType> for Arg {
    fn from(ty: FheType) -> Self {
        u64::from(ty.id()).into()
    }
}

/// A script.
#[derive(Clone)]
pub(crate) struct Program {
    host: HostAddresses,
    pub(crate) calls: Vec<Batch::Call>,
}

impl Program {
    pub(crate) fn new() -> Self {
        Self {
            host: development::addresses(),
            calls: Vec::new(),
        }
    }

    /// Adds a call: a target, what comes before the words, the words.
    pub(crate) fn call(&mut self, target: Address, prefix: &[u8], words: &[Arg]) -> Arg {
        let mut data = prefix.to_vec();
        let mut patches = Vec::new();
        for word in words {
            match word {
                Arg::Word(word) => data.extend_from_slice(word.as_slice()),
                Arg::Result(source) => {
                    patches.push(Batch::Patch {
                        offset: U256::from(data.len()),
                        source: U256::from(*source),
                    });
                    data.extend_from_slice(&[0; 32]);
                }
            }
        }
        self.calls.push(Batch::Call {
            target,
            data: data.into(),
            patches,
        });
        Arg::Result(self.calls.len() - 1)
    }

    /// Adds an operation.
    pub(crate) fn operation(&mut self, operation: Operation, words: &[Arg]) -> Arg {
        let (data, target) = (selector(operation), self.host.executor);
        self.call(target, &data, words)
    }

    /// Adds a value that everybody knows.
    pub(crate) fn value(&mut self, value: u64, ty: FheType) -> Arg {
        self.operation(Operation::TrivialEncrypt, &[value.into(), ty.into()])
    }

    /// Adds a store of a word.
    pub(crate) fn store(&mut self, slot: u64, value: Arg) {
        self.call(STORE, &[], &[slot.into(), value]);
    }

    /// Allows a value to the script's contract for later transactions.
    pub(crate) fn keep(&mut self, value: Arg) {
        let acl = self.host.acl;
        let batch = Arg::Word(B256::left_padding_from(crate::client::BATCH.as_slice()));
        self.call(acl, &keccak256("allow(bytes32,address)")[..4], &[value, batch]);
    }
}

/// A `bytes1` argument.
pub(crate) fn byte(value: u8) -> Arg {
    Arg::Word(B256::right_padding_from(&[value]))
}

/// The selector of an operation's function, from its signature.
pub(crate) fn selector(operation: Operation) -> Vec<u8> {
    let parameters = match operation.spec().shape {
        Shape::Binary(_) => "bytes32,bytes32,bytes1",
        Shape::Unary => "bytes32",
        Shape::Input => "bytes32,address,bytes,uint8",
        Shape::Cast => "bytes32,uint8",
        Shape::Trivial | Shape::Random { bounded: true } => "uint256,uint8",
        Shape::Select => "bytes32,bytes32,bytes32",
        Shape::Random { bounded: false } => "uint8",
        Shape::List => "bytes32[],uint8",
        Shape::Membership => "bytes32,bytes32[],uint8",
        Shape::MulDiv => "bytes32,bytes32,bytes32,bytes1",
    };
    let signature = format!("{}({parameters})", operation.spec().function);
    keccak256(signature)[..4].to_vec()
}
