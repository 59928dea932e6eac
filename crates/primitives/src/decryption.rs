//! Decryption requests and results as values and bytes.
//!
//! Source: public protocol, sections 2, 4.1–4.3 and 5.2.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::SolStruct;
use serde::{Deserialize, Serialize};

use crate::{
    eip712::{DelegatedUserDecryptRequestVerification, SigningDomains, UserDecryptRequestVerification},
    handle::Handle,
};

/// The most encrypted bits one request may decrypt; `ebool` counts 2.
pub const MAX_REQUEST_BITS: u32 = 2048;
/// The most contracts one permit may list.
pub const MAX_PERMIT_CONTRACTS: usize = 10;
/// The longest validity of a permit, in days.
pub const MAX_PERMIT_DAYS: u64 = 365;
/// The length of a user's public key: a serialized ML-KEM-512 key with its header.
pub const USER_PUBLIC_KEY_BYTES: usize = 869;
/// The most bytes of extra data: version, context id and epoch id.
pub const MAX_EXTRA_DATA_BYTES: usize = 65;

/// A handle together with the contract through which the user may read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HandleContractPair {
    /// The handle.
    pub handle: Handle,
    /// The contract.
    pub contract_address: Address,
}

/// A request to decrypt handles that were made public.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublicDecryptionRequest {
    /// The handles, in the order of the result.
    pub handles: Vec<Handle>,
    /// Which KMS context should answer: see [`crate::eip712::signed_extra_data`].
    pub extra_data: Bytes,
}

/// A user's request to decrypt handles to a key of theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserDecryptionRequest {
    /// What to decrypt, each with the contract it belongs to.
    pub pairs: Vec<HandleContractPair>,
    /// The account that signed, and that the answer is for; for delegated requests the delegate.
    pub user: Address,
    /// For delegated requests, whose values are decrypted.
    pub delegator: Option<Address>,
    /// The contracts the signature is for.
    pub contracts: Vec<Address>,
    /// From when the permit is valid, in seconds since 1970.
    pub start_timestamp: u64,
    /// How long the permit is valid, in days.
    pub duration_days: u64,
    /// The user's public key: [`USER_PUBLIC_KEY_BYTES`] bytes, kept whole because they are signed over.
    pub public_key: Bytes,
    /// Which KMS context should answer.
    pub extra_data: Bytes,
    /// The user's signature over [`Self::digest`].
    pub signature: Bytes,
}

/// A KMS answer to a public decryption.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublicDecryptionAnswer {
    /// The plaintexts as concatenated 32-byte ABI words, in the order of the handles.
    pub decrypted_result: Bytes,
    /// One 65-byte signature per KMS node.
    pub signatures: Vec<Bytes>,
    /// The extra data of the request.
    pub extra_data: Bytes,
}

/// One KMS node's answer to a user decryption.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserDecryptionShare {
    /// The encrypted answer; its layout is in section 5.3.
    pub payload: Bytes,
    /// The node's 65-byte signature.
    pub signature: Bytes,
    /// The extra data of the request.
    pub extra_data: Bytes,
}

/// Why a decryption request is refused before anything on chain is read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// There is nothing to decrypt.
    #[error("the request names no handles")]
    NoHandles,
    /// The request asks for too much at once.
    #[error("the request decrypts {bits} bits; at most {MAX_REQUEST_BITS} are allowed")]
    TooManyBits {
        /// The bits of all handles together.
        bits: u32,
    },
    /// A handle of another chain.
    #[error("handle {handle} belongs to chain {found}, not to {expected}")]
    WrongChain {
        /// The handle.
        handle: Handle,
        /// The chain of this deployment.
        expected: u64,
        /// The chain in the handle.
        found: u64,
    },
    /// The list of contracts is empty or too long.
    #[error("a permit lists 1 to {MAX_PERMIT_CONTRACTS} contracts, got {0}")]
    ContractCount(usize),
    /// A handle's contract is not in the permit.
    #[error("contract {0} is not in the permit's list of contracts")]
    ContractNotInPermit(Address),
    /// The permit lasts no time or too long.
    #[error("a permit lasts 1 to {MAX_PERMIT_DAYS} days, got {0}")]
    Duration(u64),
    /// The permit is not valid yet.
    #[error("the permit starts at {start}, which is after the current time {now} (seconds since 1970)")]
    NotYetValid {
        /// When it starts.
        start: u64,
        /// The time of the check.
        now: u64,
    },
    /// The permit is no longer valid.
    #[error("the permit expired at {end}; the current time is {now} (seconds since 1970)")]
    Expired {
        /// When it ended.
        end: u64,
        /// The time of the check.
        now: u64,
    },
    /// The user asks for values of a contract that is the user.
    #[error("user and contract are both {0}")]
    UserIsContract(Address),
    /// The public key has the wrong length.
    #[error("the public key has {0} bytes; a serialized ML-KEM-512 key has {USER_PUBLIC_KEY_BYTES}")]
    PublicKeyLength(usize),
    /// The extra data has no known form.
    #[error("the extra data is not of a known version (empty, 0x00, 0x01 with a context id, 0x02 with context and epoch ids)")]
    ExtraData,
}

impl RequestError {
    /// Returns the field of the HTTP request that is wrong (public protocol, section 4.2).
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::NoHandles | Self::TooManyBits { .. } | Self::WrongChain { .. } => "handles",
            Self::ContractCount(_) => "contractAddresses",
            Self::ContractNotInPermit(_) | Self::UserIsContract(_) => "handleContractPairs",
            Self::Duration(_) => "durationDays",
            Self::NotYetValid { .. } | Self::Expired { .. } => "startTimestamp",
            Self::PublicKeyLength(_) => "publicKey",
            Self::ExtraData => "extraData",
        }
    }
}

/// Which KMS context a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextSelector {
    /// Version 0: whichever is current.
    Current,
    /// Version 1: this context.
    Context(B256),
    /// Version 2: this context and epoch.
    ContextAndEpoch(B256, B256),
}

/// Reads the extra data of a request (public protocol, section 1.7).
///
/// # Errors
/// [`RequestError::ExtraData`] if the version is unknown or the length does not fit it.
pub fn context_selector(extra_data: &[u8]) -> Result<ContextSelector, RequestError> {
    if extra_data.len() > MAX_EXTRA_DATA_BYTES {
        return Err(RequestError::ExtraData);
    }
    match extra_data.split_first() {
        None | Some((0, _)) => Ok(ContextSelector::Current),
        Some((1, context)) => B256::try_from(context)
            .map(ContextSelector::Context)
            .map_err(|_| RequestError::ExtraData),
        Some((2, ids)) => {
            let (context, epoch) = ids.split_at_checked(32).ok_or(RequestError::ExtraData)?;
            match (B256::try_from(context), B256::try_from(epoch)) {
                (Ok(context), Ok(epoch)) => Ok(ContextSelector::ContextAndEpoch(context, epoch)),
                _ => Err(RequestError::ExtraData),
            }
        }
        Some(_) => Err(RequestError::ExtraData),
    }
}

impl PublicDecryptionRequest {
    /// Checks everything that needs no chain access.
    ///
    /// # Errors
    /// [`RequestError`] says what is wrong.
    pub fn validate(&self, host_chain_id: u64) -> Result<(), RequestError> {
        context_selector(&self.extra_data)?;
        validate_handles(self.handles.iter(), host_chain_id)
    }
}

impl UserDecryptionRequest {
    /// Checks everything that needs no chain access and no signature: limits, window, contracts.
    ///
    /// # Errors
    /// [`RequestError`] says what is wrong.
    pub fn validate(&self, host_chain_id: u64, now_seconds: u64) -> Result<(), RequestError> {
        context_selector(&self.extra_data)?;
        if self.contracts.is_empty() || self.contracts.len() > MAX_PERMIT_CONTRACTS {
            return Err(RequestError::ContractCount(self.contracts.len()));
        }
        if self.public_key.len() != USER_PUBLIC_KEY_BYTES {
            return Err(RequestError::PublicKeyLength(self.public_key.len()));
        }
        if self.duration_days == 0 || self.duration_days > MAX_PERMIT_DAYS {
            return Err(RequestError::Duration(self.duration_days));
        }
        if self.start_timestamp > now_seconds {
            return Err(RequestError::NotYetValid {
                start: self.start_timestamp,
                now: now_seconds,
            });
        }
        // A start in the past and at most a year: the sum cannot overflow.
        let end = self.start_timestamp + self.duration_days * 86_400;
        if now_seconds > end {
            return Err(RequestError::Expired { end, now: now_seconds });
        }
        validate_handles(self.pairs.iter().map(|pair| &pair.handle), host_chain_id)?;
        for pair in &self.pairs {
            if !self.contracts.contains(&pair.contract_address) {
                return Err(RequestError::ContractNotInPermit(pair.contract_address));
            }
            if pair.contract_address == self.owner() {
                return Err(RequestError::UserIsContract(pair.contract_address));
            }
        }
        Ok(())
    }

    /// Returns whose values are decrypted: the delegator, or the user.
    #[must_use]
    pub fn owner(&self) -> Address {
        self.delegator.unwrap_or(self.user)
    }

    /// Returns the digest the user (or delegate) signs.
    #[must_use]
    pub fn digest(&self, domains: &SigningDomains) -> B256 {
        let domain = domains.decryption_request_domain();
        match self.delegator {
            None => UserDecryptRequestVerification {
                publicKey: self.public_key.clone(),
                contractAddresses: self.contracts.clone(),
                startTimestamp: U256::from(self.start_timestamp),
                durationDays: U256::from(self.duration_days),
                extraData: self.extra_data.clone(),
            }
            .eip712_signing_hash(&domain),
            Some(delegator) => DelegatedUserDecryptRequestVerification {
                publicKey: self.public_key.clone(),
                contractAddresses: self.contracts.clone(),
                delegatorAddress: delegator,
                startTimestamp: U256::from(self.start_timestamp),
                durationDays: U256::from(self.duration_days),
                extraData: self.extra_data.clone(),
            }
            .eip712_signing_hash(&domain),
        }
    }
}

fn validate_handles<'a>(handles: impl Iterator<Item = &'a Handle>, host_chain_id: u64) -> Result<(), RequestError> {
    let mut bits = 0u32;
    let mut any = false;
    for handle in handles {
        any = true;
        if handle.chain_id() != host_chain_id {
            return Err(RequestError::WrongChain {
                handle: *handle,
                expected: host_chain_id,
                found: handle.chain_id(),
            });
        }
        bits = bits.saturating_add(handle.fhe_type().request_bits());
    }
    match (any, bits) {
        (false, _) => Err(RequestError::NoHandles),
        (true, bits) if bits > MAX_REQUEST_BITS => Err(RequestError::TooManyBits { bits }),
        _ => Ok(()),
    }
}

/// Writes plaintexts as the ABI words a contract decodes: one 32-byte big-endian word each.
#[must_use]
pub fn abi_words(plaintexts: &[U256]) -> Vec<u8> {
    plaintexts.iter().flat_map(|value| value.to_be_bytes::<32>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhe_type::FheType;

    const NOW: u64 = 1_800_000_000;

    fn request() -> UserDecryptionRequest {
        let contract = Address::repeat_byte(2);
        UserDecryptionRequest {
            pairs: vec![HandleContractPair {
                handle: Handle::computed(B256::ZERO, 31337, FheType::Uint64),
                contract_address: contract,
            }],
            user: Address::repeat_byte(1),
            delegator: None,
            contracts: vec![contract],
            start_timestamp: NOW,
            duration_days: 1,
            public_key: vec![0; USER_PUBLIC_KEY_BYTES].into(),
            extra_data: Bytes::new(),
            signature: Bytes::new(),
        }
    }

    #[test]
    fn the_window_is_checked_at_both_ends() {
        assert_eq!(request().validate(31337, NOW), Ok(()));
        assert_eq!(request().validate(31337, NOW + 86_400), Ok(()));
        assert!(matches!(request().validate(31337, NOW - 1), Err(RequestError::NotYetValid { .. })));
        assert!(matches!(request().validate(31337, NOW + 86_401), Err(RequestError::Expired { .. })));
        let eternal = UserDecryptionRequest {
            duration_days: u64::MAX,
            ..request()
        };
        assert_eq!(eternal.validate(31337, NOW), Err(RequestError::Duration(u64::MAX)));
    }

    #[test]
    fn contracts_outside_the_permit_are_refused() {
        let other = UserDecryptionRequest {
            contracts: vec![Address::repeat_byte(3)],
            ..request()
        };
        assert_eq!(
            other.validate(31337, NOW),
            Err(RequestError::ContractNotInPermit(Address::repeat_byte(2)))
        );
        let many = UserDecryptionRequest {
            contracts: vec![Address::repeat_byte(2); 11],
            ..request()
        };
        assert_eq!(many.validate(31337, NOW), Err(RequestError::ContractCount(11)));
        let own = UserDecryptionRequest {
            user: Address::repeat_byte(2),
            ..request()
        };
        assert_eq!(own.validate(31337, NOW), Err(RequestError::UserIsContract(Address::repeat_byte(2))));
    }

    #[test]
    fn requests_are_bounded_and_for_one_chain() {
        let pair = request().pairs[0];
        let many = UserDecryptionRequest {
            pairs: vec![pair; 33],
            ..request()
        };
        assert_eq!(many.validate(31337, NOW), Err(RequestError::TooManyBits { bits: 33 * 64 }));
        assert!(matches!(
            request().validate(1, NOW),
            Err(RequestError::WrongChain {
                expected: 1,
                found: 31337,
                ..
            })
        ));
        let empty = PublicDecryptionRequest {
            handles: vec![],
            extra_data: Bytes::new(),
        };
        assert_eq!(empty.validate(31337), Err(RequestError::NoHandles));
    }

    #[test]
    fn extra_data_has_three_versions() {
        assert_eq!(context_selector(&[]), Ok(ContextSelector::Current));
        assert_eq!(context_selector(&[0]), Ok(ContextSelector::Current));
        assert_eq!(
            context_selector(&[vec![1], vec![7; 32]].concat()),
            Ok(ContextSelector::Context(B256::repeat_byte(7)))
        );
        assert!(matches!(
            context_selector(&[vec![2], vec![7; 64]].concat()),
            Ok(ContextSelector::ContextAndEpoch(..))
        ));
        for bad in [vec![1; 32], vec![2; 64], vec![3; 33], vec![0; 66]] {
            assert_eq!(context_selector(&bad), Err(RequestError::ExtraData));
        }
    }
}
