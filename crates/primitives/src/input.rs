//! Encrypted inputs: what their proofs are bound to, and the handles they get.
//!
//! Source: public protocol, sections 1.3, 1.6 and 5.1.

use alloy_primitives::{Address, B256, Keccak256, Signature, U256, keccak256};
use serde::{Deserialize, Serialize};

use crate::{
    fhe_type::FheType,
    handle::{Handle, MAX_INPUT_INDEX},
};

/// The most bits one input list can carry; `ebool` counts 2.
pub const MAX_INPUT_BITS: u32 = 2048;

/// The most values one input list can carry, given that the index is one byte below 255.
pub const MAX_INPUT_VALUES: usize = MAX_INPUT_INDEX as usize + 1;

/// The most bytes accepted as an input list with its proof: ten times the largest honest one.
pub const MAX_INPUT_LIST_BYTES: usize = 1 << 20;

const LIST_DOMAIN: &[u8] = b"ZK-w_rct";
const HANDLE_DOMAIN: &[u8] = b"ZK-w_hdl";

/// What the zero-knowledge proof of an input list is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InputMetadata {
    /// The contract that will consume the input.
    pub contract: Address,
    /// The account that will send it: the `msg.sender` of the contract.
    pub user: Address,
    /// The access-control contract of the host chain.
    pub acl: Address,
    /// The id of the host chain.
    pub chain_id: u64,
}

impl InputMetadata {
    /// The length of [`Self::to_bytes`].
    pub const BYTES: usize = 92;

    /// Writes the metadata as clients do: contract, user, ACL, then the chain id as a 32-byte big-endian number.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0u8; Self::BYTES];
        bytes[..20].copy_from_slice(self.contract.as_slice());
        bytes[20..40].copy_from_slice(self.user.as_slice());
        bytes[40..60].copy_from_slice(self.acl.as_slice());
        bytes[60..].copy_from_slice(&U256::from(self.chain_id).to_be_bytes::<32>());
        bytes
    }
}

/// Derives the handle of the value at `index` of an input list.
///
/// Returns `None` if the index is above [`MAX_INPUT_INDEX`].
#[must_use]
pub fn input_handle(list_digest: B256, index: u8, fhe_type: FheType, acl: Address, chain_id: u64) -> Option<Handle> {
    let mut hasher = Keccak256::new();
    hasher.update(HANDLE_DOMAIN);
    hasher.update(list_digest);
    hasher.update([index]);
    hasher.update(acl);
    hasher.update(U256::from(chain_id).to_be_bytes::<32>());
    Handle::input(hasher.finalize(), index, chain_id, fhe_type)
}

/// Hashes an input list with its proof, as [`input_handle`] needs it.
#[must_use]
pub fn list_digest(list: &[u8]) -> B256 {
    keccak256([LIST_DOMAIN, list].concat())
}

/// Derives the handles of all values of an input list.
///
/// Returns `None` if there are more values than [`MAX_INPUT_VALUES`].
#[must_use]
pub fn input_handles(list: &[u8], types: &[FheType], acl: Address, chain_id: u64) -> Option<Vec<Handle>> {
    let digest = list_digest(list);
    types
        .iter()
        .enumerate()
        .map(|(index, ty)| input_handle(digest, u8::try_from(index).ok()?, *ty, acl, chain_id))
        .collect()
}

/// Writes the `inputProof` argument of a contract call: counts, handles, coprocessor signatures, extra data.
///
/// Returns `None` if there are more than 255 handles or signatures.
#[must_use]
pub fn encode_input_proof(handles: &[Handle], signatures: &[Signature], extra_data: &[u8]) -> Option<Vec<u8>> {
    let mut proof = vec![u8::try_from(handles.len()).ok()?, u8::try_from(signatures.len()).ok()?];
    handles.iter().for_each(|handle| proof.extend_from_slice(handle.as_slice()));
    signatures
        .iter()
        .for_each(|signature| proof.extend_from_slice(&signature.as_bytes()));
    proof.extend_from_slice(extra_data);
    Some(proof)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_92_bytes_in_the_clients_order() {
        let metadata = InputMetadata {
            contract: Address::repeat_byte(1),
            user: Address::repeat_byte(2),
            acl: Address::repeat_byte(3),
            chain_id: 31337,
        };
        let bytes = metadata.to_bytes();
        assert_eq!((bytes[0], bytes[20], bytes[40], bytes[59]), (1, 2, 3, 3));
        assert_eq!(&bytes[60..90], &[0; 30]);
        assert_eq!(&bytes[90..], &[0x7a, 0x69]);
    }

    #[test]
    fn handles_depend_on_list_position_acl_and_chain() {
        let acl = Address::repeat_byte(9);
        let handles = input_handles(b"list", &[FheType::Bool, FheType::Bool], acl, 5).unwrap();
        assert_ne!(handles[0].as_slice()[..21], handles[1].as_slice()[..21]);
        assert_ne!(handles, input_handles(b"tsil", &[FheType::Bool, FheType::Bool], acl, 5).unwrap());
        assert_ne!(
            handles,
            input_handles(b"list", &[FheType::Bool, FheType::Bool], Address::ZERO, 5).unwrap()
        );
        assert_ne!(handles, input_handles(b"list", &[FheType::Bool, FheType::Bool], acl, 6).unwrap());
        assert!(input_handles(b"list", &[FheType::Bool; 255], acl, 5).is_some());
        assert!(input_handles(b"list", &[FheType::Bool; 256], acl, 5).is_none());
    }

    #[test]
    fn the_first_handle_is_the_hash_the_protocol_gives() {
        let acl = Address::repeat_byte(9);
        let handle = input_handles(b"list", &[FheType::Uint64], acl, 31337).unwrap()[0];
        let digest = keccak256([b"ZK-w_rct".as_slice(), b"list"].concat());
        let chain = U256::from(31337).to_be_bytes::<32>();
        let expected = keccak256([b"ZK-w_hdl".as_slice(), digest.as_slice(), &[0], acl.as_slice(), &chain].concat());
        assert_eq!(handle.as_slice()[..21], expected[..21]);
    }
}
