//! Handles of inputs and signatures of a coprocessor, a KMS and users as the 0.6 generation has them.
//!
//! Its contracts accept an input if the coprocessor signed the list of handles under the domain of the chain's `InputVerifier`, and the KMS the list
//! under that of its `KMSVerifier`. Who fetches ciphertexts compares the signature over handle and hash, whose domain names neither chain nor
//! contract. Users sign the key that a value is to be encrypted to, for one contract.

use alloy_primitives::{Address, B256, Bytes, Keccak256, U256, keccak256};
use alloy_sol_types::{Eip712Domain, SolStruct, eip712_domain, sol};

use crate::fhe_type::FheType;

/// The version of ciphertexts and handles in that generation.
pub const VERSION: u8 = 0;

sol! {
    /// Signed by a coprocessor: these handles stand for the values of this list.
    #[derive(Debug)]
    struct CiphertextVerificationForCopro {
        address aclAddress;
        bytes32 hashOfCiphertext;
        uint256[] handlesList;
        address userAddress;
        address contractAddress;
    }

    /// Signed by a coprocessor: this is the ciphertext of the handle.
    #[derive(Debug)]
    struct GetCiphertextResponseSignatureData {
        uint256 handle;
        bytes ciphertext_digest;
    }

    /// Signed by a KMS node: the proof of this list holds for this user and contract.
    #[derive(Debug)]
    struct CiphertextVerificationForKMS {
        address aclAddress;
        bytes32 hashOfCiphertext;
        address userAddress;
        address contractAddress;
    }

    /// Signed by a user: what the contract lets me read may be encrypted to this key.
    #[derive(Debug)]
    struct Reencrypt {
        bytes publicKey;
    }
}

/// What stands for an account that signs for another one; its type has the name of the one above, so that it needs a module.
mod on_behalf {
    alloy_sol_types::sol! {
        /// Signed by an account for another one that has let it read through the contract.
        #[derive(Debug)]
        struct Reencrypt {
            bytes publicKey;
            address delegatedAccount;
        }
    }
}

/// A user's request to have a value encrypted to a key.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ReencryptionRequest {
    /// The handle, in the form of that generation.
    pub handle: B256,
    /// The contract through which the user may read it, which the user's signature names.
    pub contract: Address,
    /// The account that may read it.
    pub user: Address,
    /// The key to encrypt to, as it was sent and signed.
    pub public_key: Bytes,
    /// The user's signature over [`reencryption_digest`], or that of an account that the user has let read on its behalf; 65 bytes.
    pub signature: Bytes,
}

/// An input list that a coprocessor vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedList {
    /// The Keccak hash of the list with its proof.
    pub hash: B256,
    /// The handles of its values, in order.
    pub handles: Vec<B256>,
    /// The access-control contract.
    pub acl: Address,
    /// The account that sends the inputs.
    pub user: Address,
    /// The contract that consumes them.
    pub contract: Address,
}

impl VerifiedList {
    /// Derives the handles of a list's values.
    ///
    /// The handle of value `i` is the Keccak hash of the list's hash, `i`, the access-control contract and the chain id in 8 bytes, with its last three
    /// bytes replaced by `i`, the type and the version. Returns `None` above 256 values.
    #[must_use]
    pub fn new(list: &[u8], types: &[FheType], chain_id: u64, acl: Address, user: Address, contract: Address) -> Option<Self> {
        let hash = keccak256(list);
        let handle = |(index, ty): (usize, &FheType)| Some(input_handle(hash, u8::try_from(index).ok()?, *ty, acl, chain_id));
        Some(Self {
            hash,
            handles: types.iter().enumerate().map(handle).collect::<Option<_>>()?,
            acl,
            user,
            contract,
        })
    }

    /// Returns the digest that the coprocessor signs for this chain and this `InputVerifier`.
    #[must_use]
    pub fn digest(&self, chain_id: u64, input_verifier: Address) -> B256 {
        let domain = eip712_domain! {
            name: "InputVerifier",
            version: "1",
            chain_id: chain_id,
            verifying_contract: input_verifier,
        };
        CiphertextVerificationForCopro {
            aclAddress: self.acl,
            hashOfCiphertext: self.hash,
            handlesList: self.handles.iter().map(|handle| U256::from_be_bytes(handle.0)).collect(),
            userAddress: self.user,
            contractAddress: self.contract,
        }
        .eip712_signing_hash(&domain)
    }
}

impl VerifiedList {
    /// Returns the digest that a KMS node signs for this chain and this `KMSVerifier` once it has checked the list's proof.
    #[must_use]
    pub fn kms_digest(&self, chain_id: u64, kms_verifier: Address) -> B256 {
        let domain = eip712_domain! {
            name: "KMSVerifier",
            version: "1",
            chain_id: chain_id,
            verifying_contract: kms_verifier,
        };
        CiphertextVerificationForKMS {
            aclAddress: self.acl,
            hashOfCiphertext: self.hash,
            userAddress: self.user,
            contractAddress: self.contract,
        }
        .eip712_signing_hash(&domain)
    }
}

/// Returns the digest that an account signs to have what it may read through a contract encrypted to a key, which is given as it is sent. With
/// `on_behalf_of`, it is about what that account may read.
#[must_use]
pub fn reencryption_digest(chain_id: u64, contract: Address, public_key: &[u8], on_behalf_of: Option<Address>) -> B256 {
    let domain = eip712_domain! {
        name: "Authorization token",
        version: "1",
        chain_id: chain_id,
        verifying_contract: contract,
    };
    let public_key = Bytes::copy_from_slice(public_key);
    match on_behalf_of {
        None => Reencrypt { publicKey: public_key }.eip712_signing_hash(&domain),
        Some(account) => on_behalf::Reencrypt {
            publicKey: public_key,
            delegatedAccount: account,
        }
        .eip712_signing_hash(&domain),
    }
}

fn input_handle(list_hash: B256, index: u8, ty: FheType, acl: Address, chain_id: u64) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update(list_hash);
    hasher.update([index]);
    hasher.update(acl);
    hasher.update(chain_id.to_be_bytes());
    let mut handle = hasher.finalize();
    handle.0[29] = index;
    handle.0[30] = ty.id();
    handle.0[31] = VERSION;
    handle
}

/// Returns the digest that a coprocessor signs over a ciphertext it serves, given the Keccak hash of the bytes.
#[must_use]
pub fn served_ciphertext_digest(handle: U256, ciphertext_digest: B256) -> B256 {
    const DOMAIN: Eip712Domain = eip712_domain! {
        name: "GetCiphertextResponse",
        version: "1",
    };
    GetCiphertextResponseSignatureData {
        handle,
        ciphertext_digest: ciphertext_digest.to_vec().into(),
    }
    .eip712_signing_hash(&DOMAIN)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::b256;

    use super::*;

    const ACL: Address = Address::repeat_byte(0xac);

    fn list(types: &[FheType]) -> Option<VerifiedList> {
        VerifiedList::new(b"list", types, 0x0102, ACL, Address::repeat_byte(1), Address::repeat_byte(2))
    }

    #[test]
    fn type_hashes_are_the_published_ones() {
        let hash = |text: &str| keccak256(text.as_bytes());
        assert_eq!(
            hash(&CiphertextVerificationForCopro::eip712_encode_type()),
            b256!("27efc925bfe01790b04501b403263befc2ffb1db152769bf31cbbfe87e93b820")
        );
        assert_eq!(
            hash(&GetCiphertextResponseSignatureData::eip712_encode_type()),
            b256!("a4964d1f059d46bfb27281bef0596d950f95a82ca6fff348209937b940ff3a77")
        );
        assert_eq!(
            hash(&CiphertextVerificationForKMS::eip712_encode_type()),
            b256!("c1749a8eccf1bdf43bb4b93ca9836592a79661fec43a47d13dc2f77550aab5de")
        );
        assert_eq!(hash(&Reencrypt::eip712_encode_type())[..4], [0xf1, 0xde, 0x29, 0x82]);
        assert_eq!(hash(&on_behalf::Reencrypt::eip712_encode_type())[..4], [0x54, 0x9e, 0x0f, 0x2d]);
    }

    #[test]
    fn reencryption_is_signed_for_one_chain_contract_key_and_account() {
        let contract = Address::repeat_byte(3);
        let digest = reencryption_digest(1, contract, &[7; 40], None);
        for other in [
            reencryption_digest(2, contract, &[7; 40], None),
            reencryption_digest(1, ACL, &[7; 40], None),
            reencryption_digest(1, contract, &[8; 40], None),
            reencryption_digest(1, contract, &[7; 40], Some(ACL)),
        ] {
            assert_ne!(digest, other);
        }
    }

    #[test]
    fn the_kms_signs_the_list_without_its_handles() {
        let list = list(&[FheType::Bool]).unwrap();
        let other = self::list(&[FheType::Uint64]).unwrap();
        assert_eq!(list.kms_digest(5, ACL), other.kms_digest(5, ACL));
        assert_ne!(list.kms_digest(5, ACL), list.kms_digest(6, ACL));
        assert_ne!(list.kms_digest(5, ACL), list.kms_digest(5, Address::ZERO));
    }

    #[test]
    fn handles_are_hashes_with_index_type_and_version_at_the_end() {
        let list = list(&[FheType::Bool, FheType::Uint64]).unwrap();
        let preimage = [keccak256(b"list").as_slice(), &[1], ACL.as_slice(), &[0, 0, 0, 0, 0, 0, 1, 2]].concat();
        assert_eq!(list.handles[1][..29], keccak256(preimage)[..29]);
        assert_eq!(list.handles[1][29..], [1, FheType::Uint64.id(), 0]);
    }

    #[test]
    fn the_index_has_one_byte() {
        assert!(list(&[FheType::Bool; 256]).is_some());
        assert!(list(&[FheType::Bool; 257]).is_none());
    }

    #[test]
    fn digests_are_those_of_eip_712_written_out() {
        let word = |address: Address| address.into_word();
        let separator = |parts: &[B256]| keccak256(parts.concat());
        let signed = |separator: B256, structure: B256| keccak256([b"\x19\x01".as_slice(), &separator[..], &structure[..]].concat());
        let list = list(&[FheType::Bool]).unwrap();
        let verifier = Address::repeat_byte(9);
        let domain = separator(&[
            keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
            keccak256("InputVerifier"),
            keccak256("1"),
            U256::from(0x0102).into(),
            word(verifier),
        ]);
        let structure = separator(&[
            b256!("27efc925bfe01790b04501b403263befc2ffb1db152769bf31cbbfe87e93b820"),
            word(ACL),
            list.hash,
            keccak256(list.handles[0]),
            word(list.user),
            word(list.contract),
        ]);
        assert_eq!(list.digest(0x0102, verifier), signed(domain, structure));

        let domain = separator(&[
            keccak256("EIP712Domain(string name,string version)"),
            keccak256("GetCiphertextResponse"),
            keccak256("1"),
        ]);
        let digest = B256::repeat_byte(7);
        let structure = separator(&[
            b256!("a4964d1f059d46bfb27281bef0596d950f95a82ca6fff348209937b940ff3a77"),
            U256::from(5).into(),
            keccak256(digest),
        ]);
        assert_eq!(served_ciphertext_digest(U256::from(5), digest), signed(domain, structure));
    }
}
