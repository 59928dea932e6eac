//! Logs of the host contracts as events the rest of the system understands.
//!
//! Logs come from a node outside, so nothing in them is trusted: every handle, type and operation is checked, sizes are
//! limited before anything is allocated, and what does not fit gives a [`DecodeError`].

use alloy_primitives::{Address, B256, Bytes, FixedBytes, U256};
use alloy_sol_types::{
    SolEvent, SolType,
    abi::{AbiDecoderConfig, TokenSeq},
    sol_data::{self, Array, Uint},
};
use cipherloom_primitives::{Computation, Handle};

use crate::{addresses::HostAddresses, bindings::ACL, error::DecodeError, operation_events};

/// The most memory the fields of one event may take in bytes; the longest honest one is an input proof below 30 kB.
const MEMORY_LIMIT_BYTES: usize = 4 << 20;

/// What a host contract announced.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostEvent {
    /// An operation was requested.
    Computation(Computation),
    /// An encrypted input was admitted.
    InputVerified {
        /// The contract that admitted it.
        caller: Address,
        /// The account that encrypted it.
        user: Address,
        /// The input.
        handle: Handle,
        /// The proof with the coprocessors' signatures.
        proof: Bytes,
    },
    /// An account may use a handle for ever.
    Allowed {
        /// Who allowed it.
        caller: Address,
        /// The account.
        account: Address,
        /// The handle.
        handle: Handle,
    },
    /// Anyone may decrypt the handles.
    AllowedForDecryption {
        /// Who allowed it.
        caller: Address,
        /// The handles, at least one.
        handles: Vec<Handle>,
    },
    /// A delegate may decrypt values of a delegator.
    DelegatedForUserDecryption {
        /// Who delegates.
        delegator: Address,
        /// Who may decrypt.
        delegate: Address,
        /// The contract whose values it covers, or the wildcard.
        contract: Address,
        /// How often this delegation was changed, this change included.
        counter: u64,
        /// Unix time in seconds at which it would have ended, 0 if it is new.
        old_expiration: u64,
        /// Unix time in seconds at which it ends.
        new_expiration: u64,
    },
    /// A delegation has ended.
    RevokedDelegationForUserDecryption {
        /// Who delegated.
        delegator: Address,
        /// Who may no longer decrypt.
        delegate: Address,
        /// The contract whose values it covered, or the wildcard.
        contract: Address,
        /// How often this delegation was changed, this change included.
        counter: u64,
        /// Unix time in seconds at which it would have ended.
        old_expiration: u64,
    },
    /// Decryption permits that an account signed before a time are worthless.
    DecryptionSignaturesInvalidated {
        /// The account.
        account: Address,
        /// Unix time in seconds.
        before: U256,
    },
    /// An account was put on the deny list.
    BlockedAccount {
        /// The account.
        account: Address,
    },
    /// An account was taken off the deny list.
    UnblockedAccount {
        /// The account.
        account: Address,
    },
}

/// Reads a log.
///
/// Returns `None` for logs of other contracts, and for events of the host contracts that say nothing about encrypted
/// values (upgrades, ownership, pauses, limits).
///
/// # Errors
/// [`DecodeError`] if the log comes from the executor or the ACL and is not what they emit.
pub fn decode_log(emitter: Address, topics: &[B256], data: &[u8], addresses: &HostAddresses) -> Result<Option<HostEvent>, DecodeError> {
    let Some(topic) = topics.first() else { return Ok(None) };
    if emitter == addresses.executor {
        let Some(operation) = operation_events::operation_of(*topic) else {
            return Ok(None);
        };
        let [caller] = indexed_addresses(operation.spec().function, emitter, topics)?;
        return operation_events::decode(operation, caller, data).map(Some);
    }
    if emitter == addresses.acl {
        decode_acl(*topic, emitter, topics, data)
    } else {
        Ok(None)
    }
}

fn decode_acl(topic: B256, emitter: Address, topics: &[B256], data: &[u8]) -> Result<Option<HostEvent>, DecodeError> {
    type Word = sol_data::FixedBytes<32>;
    type Time = Uint<64>;
    let event = match topic {
        ACL::Allowed::SIGNATURE_HASH => {
            let event = "Allowed";
            let [caller, account] = indexed_addresses(event, emitter, topics)?;
            let (allowed,) = decode_data::<(Word,)>(event, data)?;
            HostEvent::Allowed {
                caller,
                account,
                handle: handle(event, allowed)?,
            }
        }
        ACL::AllowedForDecryption::SIGNATURE_HASH => {
            let event = "AllowedForDecryption";
            let [caller] = indexed_addresses(event, emitter, topics)?;
            let (list,) = decode_data::<(Array<Word>,)>(event, data)?;
            HostEvent::AllowedForDecryption {
                caller,
                handles: handles(event, &list)?,
            }
        }
        ACL::DelegatedForUserDecryption::SIGNATURE_HASH => {
            let event = "DelegatedForUserDecryption";
            let [delegator, delegate] = indexed_addresses(event, emitter, topics)?;
            let (contract, counter, old_expiration, new_expiration) = decode_data::<(sol_data::Address, Time, Time, Time)>(event, data)?;
            HostEvent::DelegatedForUserDecryption {
                delegator,
                delegate,
                contract,
                counter,
                old_expiration,
                new_expiration,
            }
        }
        ACL::RevokedDelegationForUserDecryption::SIGNATURE_HASH => {
            let event = "RevokedDelegationForUserDecryption";
            let [delegator, delegate] = indexed_addresses(event, emitter, topics)?;
            let (contract, counter, old_expiration) = decode_data::<(sol_data::Address, Time, Time)>(event, data)?;
            HostEvent::RevokedDelegationForUserDecryption {
                delegator,
                delegate,
                contract,
                counter,
                old_expiration,
            }
        }
        ACL::DecryptionSignaturesInvalidated::SIGNATURE_HASH => {
            let event = "DecryptionSignaturesInvalidated";
            let [account] = indexed_addresses(event, emitter, topics)?;
            let (before,) = decode_data::<(Uint<256>,)>(event, data)?;
            HostEvent::DecryptionSignaturesInvalidated { account, before }
        }
        ACL::BlockedAccount::SIGNATURE_HASH => {
            let [account] = indexed_addresses("BlockedAccount", emitter, topics)?;
            HostEvent::BlockedAccount { account }
        }
        ACL::UnblockedAccount::SIGNATURE_HASH => {
            let [account] = indexed_addresses("UnblockedAccount", emitter, topics)?;
            HostEvent::UnblockedAccount { account }
        }
        _ => return Ok(None),
    };
    Ok(Some(event))
}

/// Reads the indexed parameters, which are all addresses in the events of the host contracts.
fn indexed_addresses<const N: usize>(event: &'static str, emitter: Address, topics: &[B256]) -> Result<[Address; N], DecodeError> {
    let indexed = topics.get(1..).and_then(|rest| <&[B256; N]>::try_from(rest).ok());
    let Some(indexed) = indexed else {
        return Err(DecodeError::TopicCount {
            event,
            emitter,
            expected: N + 1,
            found: topics.len(),
        });
    };
    let mut addresses = [Address::ZERO; N];
    for (index, (address, topic)) in addresses.iter_mut().zip(indexed).enumerate() {
        let (padding, bytes) = topic.split_at(12);
        if padding.iter().any(|byte| *byte != 0) {
            return Err(DecodeError::TopicNotAddress { event, index: index + 1 });
        }
        *address = Address::from_slice(bytes);
    }
    Ok(addresses)
}

/// Reads the other parameters.
pub(crate) fn decode_data<'a, T>(event: &'static str, data: &'a [u8]) -> Result<T::RustType, DecodeError>
where
    T: SolType,
    T::Token<'a>: TokenSeq<'a>,
{
    let config = AbiDecoderConfig::new().memory_limit(MEMORY_LIMIT_BYTES).validate(true);
    T::abi_decode_params_with_config(data, config).map_err(|source| DecodeError::Data { event, source })
}

pub(crate) fn handle(event: &'static str, word: FixedBytes<32>) -> Result<Handle, DecodeError> {
    Handle::try_from(word).map_err(|source| DecodeError::Handle { event, source })
}

pub(crate) fn handles(event: &'static str, words: &[FixedBytes<32>]) -> Result<Vec<Handle>, DecodeError> {
    words.iter().map(|word| handle(event, *word)).collect()
}
