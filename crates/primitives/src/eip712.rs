//! The typed data (EIP-712) that users, coprocessors and KMS nodes sign.
//!
//! Source: public protocol, sections 1.6, 1.7, 4.3 and 5.3. Three rules are easy to miss: answers are signed under the
//! *gateway* chain id while user requests are signed under the *host* chain id; the verifying contracts are the two addresses
//! that the verifiers report in `eip712Domain()`, not the verifiers themselves; and an extra data of one zero byte
//! in a decryption request is signed as empty (see [`signed_extra_data`]).

use std::borrow::Cow;

use alloy_primitives::{Address, B256, Bytes, FixedBytes, U256, keccak256};
use alloy_sol_types::{Eip712Domain, SolStruct, sol};

use crate::handle::Handle;
pub use crate::recovery::recover_signer;

sol! {
    /// Signed by a coprocessor: these input handles belong to this user and contract.
    #[derive(Debug)]
    struct CiphertextVerification {
        bytes32[] ctHandles;
        address userAddress;
        address contractAddress;
        uint256 contractChainId;
        bytes extraData;
    }

    /// Signed by a KMS node: these handles decrypt to these bytes.
    #[derive(Debug)]
    struct PublicDecryptVerification {
        bytes32[] ctHandles;
        bytes decryptedResult;
        bytes extraData;
    }

    /// Signed by a user: decrypt values of these contracts to this public key within this window.
    #[derive(Debug)]
    struct UserDecryptRequestVerification {
        bytes publicKey;
        address[] contractAddresses;
        uint256 startTimestamp;
        uint256 durationDays;
        bytes extraData;
    }

    /// Signed by a delegate: the same on behalf of a delegator.
    #[derive(Debug)]
    struct DelegatedUserDecryptRequestVerification {
        bytes publicKey;
        address[] contractAddresses;
        address delegatorAddress;
        uint256 startTimestamp;
        uint256 durationDays;
        bytes extraData;
    }

    /// Links an answer to a user's key, account and handles; only its digest is used.
    #[derive(Debug)]
    struct UserDecryptionLinker {
        bytes publicKey;
        bytes32[] handles;
        address userAddress;
    }

    /// Signed by a KMS node: this is my answer to a user decryption.
    #[derive(Debug)]
    struct UserDecryptResponseVerification {
        bytes publicKey;
        bytes32[] ctHandles;
        bytes userDecryptedShare;
        bytes extraData;
    }
}

/// The type that has the name of an older one.
pub mod unified {
    use alloy_sol_types::sol;

    sol! {
        /// Signed by a user: decrypt what this account may read to this public key within this window.
        #[derive(Debug)]
        struct UserDecryptRequestVerification {
            address userAddress;
            bytes publicKey;
            address[] allowedContracts;
            uint256 startTimestamp;
            uint256 durationSeconds;
            bytes extraData;
        }
    }
}

/// Where signatures of a deployment are valid: chain ids and the addresses in the two EIP-712 domains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SigningDomains {
    /// The id of the host chain.
    pub host_chain_id: u64,
    /// The id in the domains of answers; at most 32 bits, since clients parse it so.
    pub gateway_chain_id: u64,
    /// The verifying contract of the "Decryption" domain.
    pub decryption: Address,
    /// The verifying contract of the "InputVerification" domain.
    pub input_verification: Address,
}

impl SigningDomains {
    /// Returns the domain of coprocessor signatures over input handles.
    #[must_use]
    pub fn input_verification_domain(&self) -> Eip712Domain {
        domain("InputVerification", self.gateway_chain_id, self.input_verification)
    }

    /// Returns the domain of KMS answers.
    #[must_use]
    pub fn decryption_answer_domain(&self) -> Eip712Domain {
        domain("Decryption", self.gateway_chain_id, self.decryption)
    }

    /// Returns the domain of user requests.
    #[must_use]
    pub fn decryption_request_domain(&self) -> Eip712Domain {
        domain("Decryption", self.host_chain_id, self.decryption)
    }

    /// Returns the digest a coprocessor signs to admit input handles.
    #[must_use]
    pub fn input_digest(&self, handles: &[Handle], user: Address, contract: Address, extra_data: &[u8]) -> B256 {
        CiphertextVerification {
            ctHandles: words(handles),
            userAddress: user,
            contractAddress: contract,
            contractChainId: U256::from(self.host_chain_id),
            extraData: Bytes::copy_from_slice(extra_data),
        }
        .eip712_signing_hash(&self.input_verification_domain())
    }

    /// Returns the digest a KMS node signs for a public decryption; `extra_data` as in the request.
    #[must_use]
    pub fn public_decryption_digest(&self, handles: &[Handle], result: &[u8], extra_data: &[u8]) -> B256 {
        PublicDecryptVerification {
            ctHandles: words(handles),
            decryptedResult: Bytes::copy_from_slice(result),
            extraData: Bytes::copy_from_slice(signed_extra_data(extra_data)),
        }
        .eip712_signing_hash(&self.decryption_answer_domain())
    }

    /// Returns the digest a KMS node signs over its answer to a user decryption; `extra_data` as in the request.
    #[must_use]
    pub fn user_decryption_answer_digest(&self, public_key: &[u8], handles: &[Handle], share: &[u8], extra_data: &[u8]) -> B256 {
        UserDecryptResponseVerification {
            publicKey: Bytes::copy_from_slice(public_key),
            ctHandles: words(handles),
            userDecryptedShare: Bytes::copy_from_slice(share),
            extraData: Bytes::copy_from_slice(signed_extra_data(extra_data)),
        }
        .eip712_signing_hash(&self.decryption_answer_domain())
    }

    /// Returns the digest that links an answer to the user's key, account and handles.
    #[must_use]
    pub fn user_decryption_link(&self, public_key: &[u8], handles: &[Handle], user: Address) -> B256 {
        UserDecryptionLinker {
            publicKey: Bytes::copy_from_slice(public_key),
            handles: words(handles),
            userAddress: user,
        }
        .eip712_signing_hash(&self.decryption_answer_domain())
    }
}

/// Returns the extra data that signatures of decryption answers cover: a lone zero byte counts as empty.
///
/// Source: public protocol, section 4.4.
#[must_use]
pub const fn signed_extra_data(extra_data: &[u8]) -> &[u8] {
    match extra_data {
        [0] => &[],
        other => other,
    }
}

/// Returns the digest a coprocessor signs to vouch for the bytes of a ciphertext.
///
/// It is the Keccak hash of a tag, a format version, the handle, the key set id and the Keccak hash of the stored bytes. KMS nodes decrypt
/// only ciphertexts that registered coprocessors vouch for.
#[must_use]
pub fn ciphertext_attestation_digest(handle: Handle, key_set_id: B256, ciphertext_digest: B256) -> B256 {
    keccak256(
        [
            b"CIPHERLOOM-CT".as_slice(),
            &[1],
            handle.as_slice(),
            key_set_id.as_slice(),
            ciphertext_digest.as_slice(),
        ]
        .concat(),
    )
}

/// Returns the digest a coprocessor signs to vouch for the bytes of the noise-squashed list of a handle.
///
/// It is the Keccak hash of a tag, a format version, the handle, the key set id and the Keccak hash of the list. The nodes of a committee decrypt
/// only lists that registered coprocessors vouch for; the tag keeps an attestation of one form from standing for the other.
#[must_use]
pub fn squashed_ciphertext_attestation_digest(handle: Handle, key_set_id: B256, list_digest: B256) -> B256 {
    keccak256(
        [
            b"CIPHERLOOM-SQUASHED".as_slice(),
            &[1],
            handle.as_slice(),
            key_set_id.as_slice(),
            list_digest.as_slice(),
        ]
        .concat(),
    )
}

fn domain(name: &'static str, chain_id: u64, verifying_contract: Address) -> Eip712Domain {
    Eip712Domain {
        name: Some(Cow::Borrowed(name)),
        version: Some(Cow::Borrowed("1")),
        chain_id: Some(U256::from(chain_id)),
        verifying_contract: Some(verifying_contract),
        salt: None,
    }
}

fn words(handles: &[Handle]) -> Vec<FixedBytes<32>> {
    handles.iter().map(Handle::as_b256).collect()
}

#[cfg(test)]
mod tests {
    use alloy_primitives::b256;

    use super::*;

    fn type_hash<S: SolStruct>() -> B256 {
        keccak256(S::eip712_encode_type().as_bytes())
    }

    #[test]
    fn type_hashes_are_the_published_ones() {
        let ends = |hash: B256, head: &str, tail: &str| {
            let text = alloy_primitives::hex::encode(hash);
            assert!(text.starts_with(head) && text.ends_with(tail), "{text}");
        };
        ends(type_hash::<CiphertextVerification>(), "7572bd9d", "801b4");
        ends(type_hash::<PublicDecryptVerification>(), "89bac15e", "c794");
        ends(type_hash::<UserDecryptRequestVerification>(), "9bf1f2b0", "1ab5");
        ends(type_hash::<DelegatedUserDecryptRequestVerification>(), "c93bc1d3", "ac45");
        ends(type_hash::<unified::UserDecryptRequestVerification>(), "4ee96520", "114e");
        ends(type_hash::<UserDecryptionLinker>(), "ca7d247a", "7410");
        ends(type_hash::<UserDecryptResponseVerification>(), "2c4b1a55", "0f5f");
    }

    #[test]
    fn a_lone_zero_byte_is_signed_as_empty() {
        assert!(signed_extra_data(&[0]).is_empty());
        assert_eq!(signed_extra_data(&[1, 2]), &[1, 2]);
        assert_eq!(signed_extra_data(&[0, 0]), &[0, 0]);
    }

    #[test]
    fn attestations_of_stored_and_squashed_ciphertexts_are_told_apart() {
        let handle = Handle::computed(B256::repeat_byte(1), 31337, crate::FheType::Uint64);
        let (key_set, digest) = (B256::repeat_byte(2), B256::repeat_byte(3));
        let squashed = squashed_ciphertext_attestation_digest(handle, key_set, digest);
        assert_ne!(squashed, ciphertext_attestation_digest(handle, key_set, digest));
        assert_ne!(squashed, squashed_ciphertext_attestation_digest(handle, digest, key_set));
    }

    #[test]
    fn malformed_signatures_recover_to_nobody() {
        let digest = b256!("1111111111111111111111111111111111111111111111111111111111111111");
        assert_eq!(recover_signer(digest, &[]), None);
        assert_eq!(recover_signer(digest, &[1; 64]), None);
        assert_eq!(recover_signer(digest, &[1; 66]), None);
        let mut with_v_zero = [1; 65];
        with_v_zero[64] = 0;
        assert_eq!(recover_signer(digest, &with_v_zero), None);
        let mut high_s = [0xff; 65];
        high_s[64] = 27;
        assert_eq!(recover_signer(digest, &high_s), None);
    }
}
