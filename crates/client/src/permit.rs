//! Permits: signed statements that let the KMS decrypt an account's values to one key.
//!
//! A permit is made once and used for as many requests as it covers. Its two kinds are [`PermitTerms`], the classic one that every gateway knows, and
//! [`UnifiedTerms`]. A wallet in this process signs with [`Client::permit`]; one elsewhere, or one that is a contract, is given an [`UnsignedPermit`].

use std::time::{SystemTime, UNIX_EPOCH};

use alloy::signers::Signer;
use cipherloom_primitives::{
    Address, B256, Bytes,
    decryption::{
        ClassicPermit, DecryptionPermit, MAX_PERMIT_SIGNATURE_BYTES, RequestError, RequestedValue, UnifiedPermit, UserDecryptionRequest,
    },
    eip712::SigningDomains,
};
use cipherloom_signcryption::UserKeypair;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{Client, EXTRA_DATA, error::ClientError, typed_data};

/// What a classic permit allows.
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
        Self {
            contracts,
            start_timestamp: now(),
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

impl From<PermitTerms> for DecryptionPermit {
    fn from(terms: PermitTerms) -> Self {
        Self::Classic(ClassicPermit {
            delegator: terms.delegator,
            contracts: terms.contracts,
            start_timestamp: terms.start_timestamp,
            duration_days: terms.duration_days,
        })
    }
}

/// What a unified permit allows: values of the signer, and of all who have delegated reading to the signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnifiedTerms {
    /// The contracts whose values may be decrypted; at most 10, and none means any.
    pub contracts: Vec<Address>,
    /// From when, in seconds since 1970; not in the future.
    pub start_timestamp: u64,
    /// For how many seconds; 1 to a year's.
    pub duration_seconds: u64,
}

impl UnifiedTerms {
    /// Allows whatever the signer may read in these contracts (any, if there are none) from now on, by this machine's clock.
    #[must_use]
    pub fn starting_now(contracts: Vec<Address>, duration_seconds: u64) -> Self {
        Self {
            contracts,
            start_timestamp: now(),
            duration_seconds,
        }
    }
}

impl From<UnifiedTerms> for DecryptionPermit {
    fn from(terms: UnifiedTerms) -> Self {
        Self::Unified(UnifiedPermit {
            allowed_contracts: terms.contracts,
            start_timestamp: terms.start_timestamp,
            duration_seconds: terms.duration_seconds,
        })
    }
}

/// A signed permit with the key pair it names. Whoever has it can read the values, so it is neither printable nor copyable.
pub struct Permit {
    terms: DecryptionPermit,
    user: Address,
    keys: UserKeypair,
    signature: Bytes,
}

/// A permit that waits for the signature of an account.
#[must_use = "a permit is of use once it is signed"]
pub struct UnsignedPermit {
    permit: Permit,
    domains: SigningDomains,
}

/// A permit as it is kept outside of this process.
#[derive(Serialize, Deserialize)]
struct KeptPermit<S> {
    format: u32,
    user: Address,
    permit: DecryptionPermit,
    seed: S,
    signature: Bytes,
}

/// The form of kept permits.
const KEPT_FORMAT: u32 = 1;

impl Client {
    /// Makes a key pair and has a wallet sign a permit for it. Nothing is sent.
    ///
    /// # Errors
    /// [`ClientError::Request`] if the terms are outside the protocol's limits, [`ClientError::Signing`] if the wallet refuses.
    pub async fn permit(&self, signer: &(impl Signer + Sync), terms: impl Into<DecryptionPermit> + Send) -> Result<Permit, ClientError> {
        self.permit_with_keys(signer, terms, UserKeypair::generate()?).await
    }

    /// As [`Self::permit`], with an existing key pair.
    ///
    /// # Errors
    /// As [`Self::permit`].
    pub async fn permit_with_keys(
        &self,
        signer: &(impl Signer + Sync),
        terms: impl Into<DecryptionPermit> + Send,
        keys: UserKeypair,
    ) -> Result<Permit, ClientError> {
        let unsigned = self.unsigned_permit_with_keys(signer.address(), terms, keys)?;
        let signature = signer.sign_hash(&unsigned.digest()).await?;
        unsigned.signed(signature.as_bytes())
    }

    /// Makes a key pair and a permit for it that `user` has yet to sign: a wallet on another device, or a contract (ERC-1271).
    ///
    /// # Errors
    /// [`ClientError::Request`] if the terms are outside the protocol's limits.
    pub fn unsigned_permit(&self, user: Address, terms: impl Into<DecryptionPermit>) -> Result<UnsignedPermit, ClientError> {
        self.unsigned_permit_with_keys(user, terms, UserKeypair::generate()?)
    }

    /// As [`Self::unsigned_permit`], with an existing key pair.
    ///
    /// # Errors
    /// As [`Self::unsigned_permit`].
    pub fn unsigned_permit_with_keys(
        &self,
        user: Address,
        terms: impl Into<DecryptionPermit>,
        keys: UserKeypair,
    ) -> Result<UnsignedPermit, ClientError> {
        let permit = Permit {
            terms: terms.into(),
            user,
            keys,
            signature: Bytes::new(),
        };
        // Everything but what is asked for under it is checked now: a request for nothing has no other fault.
        let host_chain_id = self.config().domains.host_chain_id;
        match permit.request(Vec::new()).validate(host_chain_id, permit.terms.start_timestamp()) {
            Ok(()) | Err(RequestError::NoHandles) => Ok(UnsignedPermit {
                permit,
                domains: self.config().domains,
            }),
            Err(error) => Err(error.into()),
        }
    }
}

impl UnsignedPermit {
    /// Returns the digest to sign (EIP-712).
    #[must_use]
    pub fn digest(&self) -> B256 {
        self.permit.request(Vec::new()).digest(&self.domains)
    }

    /// Returns what to sign as wallets take it in `eth_signTypedData_v4`, so that they can show it.
    #[must_use]
    pub fn typed_data(&self) -> serde_json::Value {
        typed_data::of_request(&self.permit.request(Vec::new()), &self.domains)
    }

    /// Completes the permit with a signature: 65 bytes of an account with a key, or whatever a wallet that is a contract accepts, which may be
    /// nothing. Whether it is valid is for the KMS to say.
    ///
    /// # Errors
    /// [`ClientError::Request`] if it is longer than any gateway takes.
    pub fn signed(self, signature: impl Into<Bytes>) -> Result<Permit, ClientError> {
        let signature = signature.into();
        if signature.len() > MAX_PERMIT_SIGNATURE_BYTES {
            return Err(RequestError::SignatureLength(signature.len()).into());
        }
        Ok(Permit { signature, ..self.permit })
    }
}

impl Permit {
    /// Returns what the permit allows.
    #[must_use]
    pub const fn terms(&self) -> &DecryptionPermit {
        &self.terms
    }

    /// Returns who signed it.
    #[must_use]
    pub const fn user(&self) -> Address {
        self.user
    }

    /// Says whether values of this contract can be asked for under it.
    #[must_use]
    pub fn covers(&self, contract: Address) -> bool {
        let listed = self.terms.contracts();
        listed.contains(&contract) || (listed.is_empty() && matches!(self.terms, DecryptionPermit::Unified(_)))
    }

    /// Returns when it ends, in seconds since 1970.
    #[must_use]
    pub const fn expires_at(&self) -> u64 {
        let (start, duration) = match &self.terms {
            DecryptionPermit::Classic(permit) => (permit.start_timestamp, permit.duration_days.saturating_mul(86_400)),
            DecryptionPermit::Unified(permit) => (permit.start_timestamp, permit.duration_seconds),
        };
        start.saturating_add(duration)
    }

    /// Says whether it is valid now by this machine's clock. The KMS goes by its own.
    #[must_use]
    pub fn is_valid_now(&self) -> bool {
        let now = now();
        self.terms.start_timestamp() <= now && now <= self.expires_at()
    }

    /// Writes the permit with its secret key as JSON, to be kept where secrets are kept.
    #[must_use]
    pub fn to_secret_json(&self) -> Zeroizing<String> {
        let seed = Zeroizing::new(hex::encode(self.keys.seed()));
        let kept = KeptPermit {
            format: KEPT_FORMAT,
            user: self.user,
            permit: self.terms.clone(),
            seed: seed.as_str(),
            signature: self.signature.clone(),
        };
        Zeroizing::new(serde_json::to_string(&kept).expect("strings, numbers and lists of them are JSON"))
    }

    /// Reads a permit that [`Self::to_secret_json`] wrote.
    ///
    /// # Errors
    /// [`ClientError::KeptPermit`] if it is none.
    pub fn from_secret_json(text: &str) -> Result<Self, ClientError> {
        let unreadable = |reason: &str| ClientError::KeptPermit(reason.to_owned());
        // What the parser says may quote the secret.
        let kept: KeptPermit<String> = serde_json::from_str(text).map_err(|_| unreadable("it is not the JSON of a permit"))?;
        let digits = Zeroizing::new(kept.seed);
        if kept.format != KEPT_FORMAT {
            return Err(ClientError::KeptPermit(format!("its format is {}, not {KEPT_FORMAT}", kept.format)));
        }
        let mut seed = Zeroizing::new([0u8; 64]);
        hex::decode_to_slice(digits.as_str(), seed.as_mut_slice()).map_err(|_| unreadable("its key is not 64 bytes of hexadecimal"))?;
        Ok(Self {
            terms: kept.permit,
            user: kept.user,
            keys: UserKeypair::from_seed(seed),
            signature: kept.signature,
        })
    }

    pub(crate) const fn keys(&self) -> &UserKeypair {
        &self.keys
    }

    /// Returns whose values are read unless it is said: the delegator's of a classic permit that names one, or the signer's.
    pub(crate) fn owner(&self) -> Address {
        match &self.terms {
            DecryptionPermit::Classic(permit) => permit.delegator.unwrap_or(self.user),
            DecryptionPermit::Unified(_) => self.user,
        }
    }

    /// Writes a request for these values under the permit.
    pub(crate) fn request(&self, values: Vec<RequestedValue>) -> UserDecryptionRequest {
        UserDecryptionRequest {
            values,
            user: self.user,
            permit: self.terms.clone(),
            public_key: self.keys.public_key().blob().to_vec().into(),
            extra_data: EXTRA_DATA.into(),
            signature: self.signature.clone(),
        }
    }
}

pub(crate) fn now() -> u64 {
    // A clock before 1970 reads as 0, at which no permit that others accept begins.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}
