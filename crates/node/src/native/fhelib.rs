//! The precompiled contract FheLib, at `0x…5d`: what contracts and callers can ask the node itself.
//!
//! | function | selector | who, where | answer |
//! |---|---|---|---|
//! | `getCiphertext(uint256 handle)` | `0xff627e77` | anybody, in calls only (`eth_call`) | the stored bytes, raw |
//! | `fhePubKey(bytes1 kind)` | `0xd9d47bb0` | anybody, everywhere; kind 0x01 | the compact public key, raw |
//! | `verifyInput(address acl, address user, address contractAddress, bytes list)` | `0x35465a5d` | anybody, everywhere | ABI-encoded `bytes`: the type of each value |
//!
//! The first two are those of the 0.6 generation. In a transaction `getCiphertext` fails with all gas: contracts must not read ciphertexts, because what
//! they read would have to be paid for and executed by everybody. `verifyInput` is what the native `InputVerifier` asks: in a transaction the proof is
//! checked; calls and gas estimates check everything but the proof, and cost the same gas. A refused list is a revert; malformed call data, and more than
//! [`MOST_PROOFS`] lists in one transaction, fail with all gas.
//!
//! [`FheLib`] wraps the precompiled contracts of an EVM. It reads storage from the database, beneath the journal: nothing that a transaction does changes
//! these accounts' storage.

use std::fmt;
use std::sync::Arc;

use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::sol_types::abi::AbiDecoderConfig;
use alloy::sol_types::{SolCall, SolType, SolValue, sol_data};
use cipherloom_contracts::bindings::FheLib as Functions;
use cipherloom_primitives::ciphertext_state::FHELIB;
use cipherloom_primitives::input::{InputMetadata, MAX_INPUT_LIST_BYTES};
use cipherloom_primitives::{FheType, Handle};
use revm::Database;
use revm::context_interface::{Cfg, ContextTr};
use revm::handler::{PrecompileProvider, precompile_output_to_interpreter_result};
use revm::interpreter::{CallInputs, InterpreterResult};
use revm::precompile::{PrecompileHalt, PrecompileOutput};
use revm::primitives::AddressSet;

use super::ciphertexts::{ReadError, read_ciphertext, read_metadata, read_public_key, read_public_key_metadata};
use super::work::{CheckInputs, InputRefused};

/// Gas of reading anything from state.
pub const READ_GAS: u64 = 2_600;

/// Gas of each word read from state.
pub const READ_WORD_GAS: u64 = 200;

/// Gas of checking a list, whatever its length.
pub const VERIFY_GAS: u64 = 400_000;

/// Gas of checking a list, for each of its bytes.
pub const VERIFY_BYTE_GAS: u64 = 16;

/// How many lists one transaction can have checked; the call after the last one fails with all gas.
///
/// A transaction that asks for more FHE gas than a block has pays nothing, since it cannot be part of one. This bounds what it makes a proposer do in vain.
pub const MOST_PROOFS: u32 = 8;

/// The kind of key `fhePubKey` knows: the compact public key, with which clients encrypt.
const COMPACT_PUBLIC_KEY: u8 = 1;

/// Bytes of `verifyInput`'s call data beside the list and its padding: selector, four words, the list's length.
const VERIFY_OVERHEAD_BYTES: usize = 4 + 5 * 32;

/// What is being executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Execution {
    /// A transaction, of a block that is made, checked or traced.
    Transaction,
    /// A call or gas estimate, which changes nothing.
    Call,
}

/// An EVM's precompiled contracts, with FheLib, for one transaction or call.
pub struct FheLib<P> {
    inner: P,
    chain_id: u64,
    inputs: Arc<dyn CheckInputs>,
    execution: Execution,
    /// How many lists may still be checked.
    proofs_left: u32,
    /// The inner contracts' addresses and ours; empty before the first `set_spec`.
    addresses: AddressSet,
}

impl<P> FheLib<P> {
    /// Adds FheLib to `inner`.
    #[must_use]
    pub fn new(inner: P, chain_id: u64, inputs: Arc<dyn CheckInputs>, execution: Execution) -> Self {
        Self {
            inner,
            chain_id,
            inputs,
            execution,
            proofs_left: MOST_PROOFS,
            addresses: AddressSet::default(),
        }
    }

    /// Answers a call.
    ///
    /// # Errors
    /// Only those of the database.
    fn answer<D: Database>(&mut self, database: &mut D, input: &[u8], gas: u64) -> Result<Answer, D::Error> {
        let Some((selector, arguments)) = input.split_first_chunk::<4>() else {
            return Ok(Answer::Halt("FheLib: no function is named"));
        };
        let mut read = |account, slot| {
            // Databases that cache storage want to see the account first.
            database.basic(account)?;
            database.storage(account, slot)
        };
        match *selector {
            Functions::getCiphertextCall::SELECTOR if self.execution == Execution::Transaction => {
                Ok(Answer::Halt("FheLib: getCiphertext answers calls only, not transactions"))
            }
            Functions::getCiphertextCall::SELECTOR => get_ciphertext(arguments, gas, &mut read),
            Functions::fhePubKeyCall::SELECTOR => public_key(arguments, gas, &mut read),
            Functions::verifyInputCall::SELECTOR => Ok(self.verify(arguments, gas)),
            _ => Ok(Answer::Halt("FheLib: unknown function")),
        }
    }

    fn verify(&mut self, arguments: &[u8], gas: u64) -> Answer {
        let too_long = Answer::Halt("FheLib: the input list is too long");
        if arguments.len() > MAX_INPUT_LIST_BYTES.saturating_add(VERIFY_OVERHEAD_BYTES) {
            return too_long;
        }
        let Some((acl, user, contract, list)) = verify_arguments(arguments) else {
            return Answer::Halt("FheLib: verifyInput takes (address acl, address user, address contractAddress, bytes list)");
        };
        if list.len() > MAX_INPUT_LIST_BYTES {
            return too_long;
        }
        let cost = VERIFY_GAS.saturating_add(units(list.len()).saturating_mul(VERIFY_BYTE_GAS));
        if cost > gas {
            return Answer::OutOfGas;
        }
        let Some(left) = self.proofs_left.checked_sub(1) else {
            return Answer::Halt("FheLib: the transaction has had as many input lists checked as it may");
        };
        self.proofs_left = left;
        let context = InputMetadata {
            contract,
            user,
            acl,
            chain_id: self.chain_id,
        };
        let verdict = match self.execution {
            Execution::Transaction => self.inputs.check(&list, &context),
            Execution::Call => self.inputs.types(&list),
        };
        match verdict {
            Ok(types) => {
                let types: Bytes = types.into_iter().map(FheType::id).collect::<Vec<u8>>().into();
                Answer::Success(cost, types.abi_encode().into())
            }
            Err(refused @ InputRefused { .. }) => {
                tracing::debug!(%refused, %contract, %user, "an encrypted input is refused");
                Answer::Revert(cost)
            }
        }
    }
}

/// Reads what `verifyInput` is asked, without the selector: ACL, user, contract, list.
pub(super) fn verify_arguments(arguments: &[u8]) -> Option<(Address, Address, Address, Bytes)> {
    type Arguments = (sol_data::Address, sol_data::Address, sol_data::Address, sol_data::Bytes);
    let config = AbiDecoderConfig::new().memory_limit(MAX_INPUT_LIST_BYTES + 1024);
    Arguments::abi_decode_params_with_config(arguments, config).ok()
}

/// What becomes of a call.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// Gas and output.
    Success(u64, Bytes),
    /// Gas; what is left is returned.
    Revert(u64),
    /// All gas is lost.
    Halt(&'static str),
    OutOfGas,
}

fn get_ciphertext<E>(arguments: &[u8], gas: u64, read: &mut impl FnMut(Address, U256) -> Result<U256, E>) -> Result<Answer, E> {
    let Ok(word) = <[u8; 32]>::try_from(arguments) else {
        return Ok(Answer::Halt("FheLib: getCiphertext takes one word, the handle"));
    };
    let unknown = Answer::Halt("FheLib: there is no ciphertext for this handle");
    let Ok(handle) = Handle::try_from(B256::from(word)) else {
        return Ok(unknown);
    };
    let words = match undamaged(read_metadata(handle, read))? {
        Some(Some(metadata)) => metadata.words(),
        Some(None) | None => return Ok(unknown),
    };
    let cost = read_cost(words);
    if cost > gas {
        return Ok(Answer::OutOfGas);
    }
    Ok(match undamaged(read_ciphertext(handle, read))?.flatten() {
        Some(bytes) => Answer::Success(cost, bytes),
        None => unknown,
    })
}

fn public_key<E>(arguments: &[u8], gas: u64, read: &mut impl FnMut(Address, U256) -> Result<U256, E>) -> Result<Answer, E> {
    let Ok([kind, padding @ ..]) = <[u8; 32]>::try_from(arguments) else {
        return Ok(Answer::Halt("FheLib: fhePubKey takes one word, the kind of the key"));
    };
    if kind != COMPACT_PUBLIC_KEY || padding != [0; 31] {
        return Ok(Answer::Halt("FheLib: the only kind of key is 0x01, the compact public key"));
    }
    let none = Answer::Halt("FheLib: this chain has no public key");
    let words = match undamaged(read_public_key_metadata(read))? {
        Some(Some(metadata)) => metadata.words(),
        Some(None) | None => return Ok(none),
    };
    let cost = read_cost(words);
    if cost > gas {
        return Ok(Answer::OutOfGas);
    }
    Ok(match undamaged(read_public_key(read))?.flatten() {
        Some(bytes) => Answer::Success(cost, bytes),
        None => none,
    })
}

const fn read_cost(words: u64) -> u64 {
    READ_GAS.saturating_add(words.saturating_mul(READ_WORD_GAS))
}

fn units(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Takes what is damaged as absent; a failing database stays an error.
fn undamaged<T, E>(found: Result<T, ReadError<E>>) -> Result<Option<T>, E> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(ReadError::Damaged(error)) => {
            tracing::error!(%error, "state has damaged words where ciphertexts are");
            Ok(None)
        }
        Err(ReadError::Database(error)) => Err(error),
    }
}

impl<P> fmt::Debug for FheLib<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FheLib")
            .field("chain_id", &self.chain_id)
            .field("execution", &self.execution)
            .finish_non_exhaustive()
    }
}

impl<C, P> PrecompileProvider<C> for FheLib<P>
where
    C: ContextTr,
    P: PrecompileProvider<C, Output = InterpreterResult>,
{
    type Output = InterpreterResult;

    fn set_spec(&mut self, spec: <C::Cfg as Cfg>::Spec) -> bool {
        let changed = self.inner.set_spec(spec);
        if !changed && !self.addresses.is_empty() {
            return false;
        }
        self.addresses.clone_from(self.inner.warm_addresses());
        self.addresses.insert(FHELIB);
        true
    }

    fn run(&mut self, context: &mut C, inputs: &CallInputs) -> Result<Option<InterpreterResult>, String> {
        if inputs.bytecode_address != FHELIB {
            return self.inner.run(context, inputs);
        }
        let input = inputs.input.bytes(context);
        let answer = self
            .answer(context.db_mut(), &input, inputs.gas_limit)
            .map_err(|error| error.to_string())?;
        let output = match answer {
            Answer::Success(gas, bytes) => PrecompileOutput::new(gas, bytes, inputs.reservoir),
            Answer::Revert(gas) => PrecompileOutput::revert(gas, Bytes::new(), inputs.reservoir),
            Answer::Halt(reason) => PrecompileOutput::halt(PrecompileHalt::other_static(reason), inputs.reservoir),
            Answer::OutOfGas => PrecompileOutput::halt(PrecompileHalt::OutOfGas, inputs.reservoir),
        };
        Ok(Some(precompile_output_to_interpreter_result(output, inputs.gas_limit)))
    }

    fn warm_addresses(&self) -> &AddressSet {
        &self.addresses
    }
}
