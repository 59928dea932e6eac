//! Permits: signed statements that let the KMS decrypt an account's values to one key.

use alloy::signers::Signer;
use cipherloom_primitives::{
    Address, Bytes, Handle,
    decryption::{
        ClassicPermit, DecryptionPermit, MAX_PERMIT_CONTRACTS, MAX_PERMIT_DAYS, RequestError, RequestedValue, UserDecryptionRequest,
    },
};
use cipherloom_signcryption::UserKeypair;

use crate::{Client, EXTRA_DATA, error::ClientError};

/// What a permit allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermitTerms {
    /// The contracts whose values may be decrypted; 1 to 10.
    pub contracts: Vec<Address>,
    /// From when, in seconds since 1970; not in the future.
    pub start_timestamp: u64,
    /// For how many days; 1 to 365.
    pub duration_days: u64,
    /// Whose values, if they are not the signer's: an account that has delegated reading them to the signer.
    pub delegator: Option<Address>,
}

impl PermitTerms {
    /// Allows the signer's values of these contracts from now on, by this machine's clock.
    #[must_use]
    pub fn starting_now(contracts: Vec<Address>, duration_days: u64) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            contracts,
            start_timestamp: now.map_or(0, |now| now.as_secs()),
            duration_days,
            delegator: None,
        }
    }

    /// The same for the values of an account that has delegated reading them.
    #[must_use]
    pub fn on_behalf_of(self, delegator: Address) -> Self {
        Self {
            delegator: Some(delegator),
            ..self
        }
    }
}

/// A signed permit with the key pair it names. Whoever has it can read the values, so it is neither printable nor copyable.
pub struct Permit {
    terms: PermitTerms,
    user: Address,
    keys: UserKeypair,
    signature: Bytes,
}

impl Client {
    /// Makes a key pair and has a wallet sign a permit for it. Nothing is sent.
    ///
    /// # Errors
    /// [`ClientError::Request`] if the terms are outside the protocol's limits, [`ClientError::Signing`] if the wallet refuses.
    pub async fn permit(&self, signer: &(impl Signer + Sync), terms: PermitTerms) -> Result<Permit, ClientError> {
        self.permit_with_keys(signer, terms, UserKeypair::generate()?).await
    }

    /// As [`Self::permit`], with an existing key pair.
    ///
    /// # Errors
    /// As [`Self::permit`].
    pub async fn permit_with_keys(
        &self,
        signer: &(impl Signer + Sync),
        terms: PermitTerms,
        keys: UserKeypair,
    ) -> Result<Permit, ClientError> {
        if terms.contracts.is_empty() || terms.contracts.len() > MAX_PERMIT_CONTRACTS {
            return Err(RequestError::ContractCount(terms.contracts.len()).into());
        }
        if terms.duration_days == 0 || terms.duration_days > MAX_PERMIT_DAYS {
            return Err(RequestError::Duration(terms.duration_days).into());
        }
        let mut permit = Permit {
            terms,
            user: signer.address(),
            keys,
            signature: Bytes::new(),
        };
        let digest = permit.request(&[]).digest(&self.config().domains);
        permit.signature = signer.sign_hash(&digest).await?.as_bytes().into();
        Ok(permit)
    }
}

impl Permit {
    /// Returns what the permit allows.
    #[must_use]
    pub const fn terms(&self) -> &PermitTerms {
        &self.terms
    }

    /// Returns who signed it.
    #[must_use]
    pub const fn user(&self) -> Address {
        self.user
    }

    pub(crate) const fn keys(&self) -> &UserKeypair {
        &self.keys
    }

    /// Writes a request for these pairs under the permit.
    pub(crate) fn request(&self, pairs: &[(Handle, Address)]) -> UserDecryptionRequest {
        let owner = self.terms.delegator.unwrap_or(self.user);
        let value = |(handle, contract_address): &(_, _)| RequestedValue {
            handle: *handle,
            contract_address: *contract_address,
            owner,
        };
        UserDecryptionRequest {
            values: pairs.iter().map(value).collect(),
            user: self.user,
            permit: DecryptionPermit::Classic(ClassicPermit {
                delegator: self.terms.delegator,
                contracts: self.terms.contracts.clone(),
                start_timestamp: self.terms.start_timestamp,
                duration_days: self.terms.duration_days,
            }),
            public_key: self.keys.public_key().blob().to_vec().into(),
            extra_data: EXTRA_DATA.into(),
            signature: self.signature.clone(),
        }
    }
}
