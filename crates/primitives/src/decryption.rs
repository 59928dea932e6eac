//! Decryption requests and results as values and bytes.
//!
//! Source: public protocol, sections 2, 4.1–4.3 and 5.2.

mod permit;

use alloy_primitives::{Address, B256, Bytes, U256};
use serde::{Deserialize, Serialize};

use crate::handle::Handle;

pub use permit::{ClassicPermit, DecryptionPermit, RequestedValue, UnifiedPermit, UserDecryptionRequest};

/// The most encrypted bits one request may decrypt; `ebool` counts 2.
pub const MAX_REQUEST_BITS: u32 = 2048;
/// The most contracts one permit may list.
pub const MAX_PERMIT_CONTRACTS: usize = 10;
/// The longest validity of a permit, in days.
pub const MAX_PERMIT_DAYS: u64 = 365;
/// The longest validity of a permit, in seconds.
pub const MAX_PERMIT_SECONDS: u64 = MAX_PERMIT_DAYS * 86_400;
/// What requests under a unified permit call its signature in `attestationType`.
pub const UNIFIED_ATTESTATION_TYPE: &str = "eip712-unified-user-decrypt-v1";
/// The `version` of their payload.
pub const UNIFIED_PAYLOAD_VERSION: &str = "2.0";
/// The `type` of their payload.
pub const UNIFIED_PAYLOAD_TYPE: &str = "user_decryption";
/// The most bytes of a permit's signature: wallets that are contracts (ERC-1271) may need more than an account's 65.
pub const MAX_PERMIT_SIGNATURE_BYTES: usize = 4096;
/// The length of a user's public key: a serialized ML-KEM-512 key with its header.
pub const USER_PUBLIC_KEY_BYTES: usize = 869;
/// The most bytes of extra data: version, context id and epoch id.
pub const MAX_EXTRA_DATA_BYTES: usize = 65;

/// A request to decrypt handles that were made public.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublicDecryptionRequest {
    /// The handles, in the order of the result.
    pub handles: Vec<Handle>,
    /// Which KMS context should answer: see [`crate::eip712::signed_extra_data`].
    pub extra_data: Bytes,
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
    /// A value's owner is not the account that the permit is about.
    #[error("the permit is about values of {permitted}, not of {owner}")]
    OwnerNotInPermit {
        /// Whose values the permit allows.
        permitted: Address,
        /// Whose value is asked for.
        owner: Address,
    },
    /// A unified permit lists too many contracts.
    #[error("a unified permit lists at most {MAX_PERMIT_CONTRACTS} contracts, got {0}")]
    AllowedContractCount(usize),
    /// The permit lasts no time or too long.
    #[error("a permit lasts 1 to {MAX_PERMIT_DAYS} days, got {0}")]
    Duration(u64),
    /// A unified permit lasts no time or too long.
    #[error("a unified permit lasts 1 to {MAX_PERMIT_SECONDS} seconds, got {0}")]
    DurationSeconds(u64),
    /// The signature is longer than any wallet's.
    #[error("the signature has {0} bytes; at most {MAX_PERMIT_SIGNATURE_BYTES} are allowed")]
    SignatureLength(usize),
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
            Self::ContractNotInPermit(_) | Self::OwnerNotInPermit { .. } | Self::UserIsContract(_) => "handleContractPairs",
            Self::AllowedContractCount(_) => "allowedContracts",
            Self::Duration(_) => "durationDays",
            Self::DurationSeconds(_) => "durationSeconds",
            Self::SignatureLength(_) => "signature",
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

    #[test]
    fn public_requests_are_bounded_and_for_one_chain() {
        let handle = Handle::computed(B256::ZERO, 31337, FheType::Uint64);
        let request = |handles: Vec<Handle>| PublicDecryptionRequest {
            handles,
            extra_data: Bytes::new(),
        };
        assert_eq!(request(vec![handle; 32]).validate(31337), Ok(()));
        assert_eq!(
            request(vec![handle; 33]).validate(31337),
            Err(RequestError::TooManyBits { bits: 33 * 64 })
        );
        assert_eq!(request(vec![]).validate(31337), Err(RequestError::NoHandles));
        assert!(matches!(request(vec![handle]).validate(1), Err(RequestError::WrongChain { .. })));
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
