//! What the first block of a native chain commits to besides its state and header: the terms that nodes, the KMS and gateways take from the genesis file.
//!
//! How much FHE gas a block has, which key set ciphertexts are under, which of the contracts is the access control, and where signatures are valid: none of
//! it is executed, and yet who believes a wrong one computes other blocks or reads rights in the wrong contract. So block 0 has the terms' digest in
//! one word of storage, at [`TERMS_SLOT`] of [`FHELIB`](crate::ciphertext_state::FHELIB), where nothing ever writes. The hash of block 0, which is
//! in everything that validators sign, covers it, and `eth_getProof` proves it at any block.
//!
//! The digest is the EIP-712 hash of the struct `GenesisTerms`, so that any such library computes it.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, b256};
use alloy_sol_types::{SolStruct, sol};

/// Where block 0 has the digest of the terms: keccak-256 of `cipherloom.native.genesis-terms`, far from the public key, whose words begin at slot 0.
pub const TERMS_SLOT: B256 = b256!("2fb5c49dbe8200b940154c2313529f709caf3f1b67e0bca48c5a9278950a5263");

mod encoded {
    use super::sol;

    sol! {
        struct NamedContract {
            string name;
            address at;
        }

        struct GenesisTerms {
            uint64 chainId;
            uint64 fheGasLimit;
            address owner;
            bytes32 keySetId;
            bytes32 publicKeyDigest;
            bytes32 crsDigest;
            uint64 gatewayChainId;
            address decryption;
            address inputVerification;
            NamedContract[] contracts;
        }
    }
}

/// The terms of a native chain, as its genesis file names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenesisTerms {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Most FHE gas of a block, in HCU.
    pub fhe_gas_limit: u64,
    /// Who may change the set of validators and upgrade the contracts.
    pub owner: Address,
    /// The key set that all ciphertexts of the chain are under.
    pub key_set_id: B256,
    /// keccak-256 of the public key in the first block's state; zeros if there is none.
    pub public_key_digest: B256,
    /// keccak-256 of the common reference string that proofs of inputs are made with; zeros if there is none.
    pub crs_digest: B256,
    /// The chain id in the domains of answers.
    pub gateway_chain_id: u64,
    /// The verifying contract of the "Decryption" domain.
    pub decryption: Address,
    /// The verifying contract of the "InputVerification" domain.
    pub input_verification: Address,
    /// Where the host contracts are, by their Solidity names; in the digest in the order of the names' bytes.
    pub contracts: BTreeMap<String, Address>,
}

impl GenesisTerms {
    /// Returns the word that block 0 has at [`TERMS_SLOT`].
    #[must_use]
    pub fn digest(&self) -> B256 {
        let contract = |(name, at): (&String, &Address)| encoded::NamedContract {
            name: name.clone(),
            at: *at,
        };
        let encoded = encoded::GenesisTerms {
            chainId: self.chain_id,
            fheGasLimit: self.fhe_gas_limit,
            owner: self.owner,
            keySetId: self.key_set_id,
            publicKeyDigest: self.public_key_digest,
            crsDigest: self.crs_digest,
            gatewayChainId: self.gateway_chain_id,
            decryption: self.decryption,
            inputVerification: self.input_verification,
            contracts: self.contracts.iter().map(contract).collect(),
        };
        encoded.eip712_hash_struct()
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{U256, keccak256};

    use super::*;

    fn terms() -> GenesisTerms {
        GenesisTerms {
            chain_id: 1,
            fhe_gas_limit: 2,
            owner: Address::repeat_byte(3),
            key_set_id: B256::repeat_byte(4),
            public_key_digest: B256::repeat_byte(5),
            crs_digest: B256::repeat_byte(6),
            gateway_chain_id: 7,
            decryption: Address::repeat_byte(8),
            input_verification: Address::repeat_byte(9),
            contracts: BTreeMap::from([
                ("KMSVerifier".to_owned(), Address::repeat_byte(11)),
                ("ACL".to_owned(), Address::repeat_byte(10)),
            ]),
        }
    }

    #[test]
    fn the_slot_is_where_the_documents_say() {
        assert_eq!(TERMS_SLOT, keccak256("cipherloom.native.genesis-terms"));
    }

    #[test]
    fn the_digest_is_that_of_eip_712() {
        const CONTRACT: &str = "NamedContract(string name,address at)";
        let of_type = format!(
            "GenesisTerms(uint64 chainId,uint64 fheGasLimit,address owner,bytes32 keySetId,bytes32 publicKeyDigest,bytes32 crsDigest,uint64 \
             gatewayChainId,address decryption,address inputVerification,NamedContract[] contracts){CONTRACT}"
        );
        let number = |number: u64| B256::from(U256::from(number));
        let contract = |name: &str, byte: u8| {
            let words = [keccak256(CONTRACT), keccak256(name), Address::repeat_byte(byte).into_word()];
            keccak256(words.concat())
        };
        let words = [
            keccak256(of_type),
            number(1),
            number(2),
            Address::repeat_byte(3).into_word(),
            B256::repeat_byte(4),
            B256::repeat_byte(5),
            B256::repeat_byte(6),
            number(7),
            Address::repeat_byte(8).into_word(),
            Address::repeat_byte(9).into_word(),
            keccak256([contract("ACL", 10), contract("KMSVerifier", 11)].concat()),
        ];
        assert_eq!(terms().digest(), keccak256(words.concat()));
    }

    #[test]
    fn every_term_counts() {
        let changes: [fn(&mut GenesisTerms); 12] = [
            |terms| terms.chain_id += 1,
            |terms| terms.fhe_gas_limit += 1,
            |terms| terms.owner = Address::ZERO,
            |terms| terms.key_set_id = B256::ZERO,
            |terms| terms.public_key_digest = B256::ZERO,
            |terms| terms.crs_digest = B256::ZERO,
            |terms| terms.gateway_chain_id += 1,
            |terms| terms.decryption = Address::ZERO,
            |terms| terms.input_verification = Address::ZERO,
            |terms| terms.contracts.clear(),
            |terms| {
                terms.contracts.insert("ACL".to_owned(), Address::ZERO);
            },
            |terms| {
                let at = terms.contracts.remove("ACL").unwrap();
                terms.contracts.insert("ACM".to_owned(), at);
            },
        ];
        let mut seen = std::collections::BTreeSet::from([terms().digest()]);
        for (number, change) in changes.into_iter().enumerate() {
            let mut changed = terms();
            change(&mut changed);
            assert!(seen.insert(changed.digest()), "change {number}");
        }
    }
}
