//! What users sign so that their values are decrypted to a key of theirs, and requests under it.
//!
//! There are two kinds. The *classic* permit lists contracts and lasts days; it is about the values of one account: the signer's, or those of an
//! account that has delegated reading them to the signer. The *unified* permit lasts seconds, may leave the contracts open, and is
//! about values of any accounts: of the signer's own, and of every account that has delegated reading them. What a permit allows is never more
//! than what the chain allows.
//!
//! Source: public protocol, sections 4.2 and 4.3.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::SolStruct;
use serde::{Deserialize, Serialize};

use super::{
    MAX_PERMIT_CONTRACTS, MAX_PERMIT_DAYS, MAX_PERMIT_SECONDS, MAX_PERMIT_SIGNATURE_BYTES, RequestError, USER_PUBLIC_KEY_BYTES,
    context_selector, validate_handles,
};
use crate::{
    eip712::{DelegatedUserDecryptRequestVerification, SigningDomains, UserDecryptRequestVerification, unified},
    handle::Handle,
};

/// A value somebody wants to read, and by whose rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestedValue {
    /// The handle.
    pub handle: Handle,
    /// The contract through which it is read.
    pub contract_address: Address,
    /// Whose value it is: the account that asks, or one that has delegated reading to it.
    pub owner: Address,
}

/// A user's request to decrypt values to a key of theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserDecryptionRequest {
    /// What to decrypt, in the order of the answer.
    pub values: Vec<RequestedValue>,
    /// The account that signed, and that the answer is for. It may be a contract (ERC-1271).
    pub user: Address,
    /// What the account signed, except for the key and the extra data.
    pub permit: DecryptionPermit,
    /// The user's public key: [`USER_PUBLIC_KEY_BYTES`] bytes, kept whole because they are signed over.
    pub public_key: Bytes,
    /// Which KMS context should answer.
    pub extra_data: Bytes,
    /// The user's signature over [`Self::digest`]: 65 bytes of an account with a key, anything (nothing included) of one that is a contract.
    pub signature: Bytes,
}

/// What a signature allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum DecryptionPermit {
    /// Of `/v2/user-decrypt` and `/v2/delegated-user-decrypt`.
    Classic(ClassicPermit),
    /// Of `/v3/user-decrypt`.
    Unified(UnifiedPermit),
}

/// A permit for values of one account in listed contracts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassicPermit {
    /// Whose values, if not the signer's.
    pub delegator: Option<Address>,
    /// The contracts: 1 to [`MAX_PERMIT_CONTRACTS`].
    pub contracts: Vec<Address>,
    /// From when it is valid, in seconds since 1970.
    pub start_timestamp: u64,
    /// How long it is valid, in days: 1 to [`MAX_PERMIT_DAYS`].
    pub duration_days: u64,
}

/// A permit for whatever values the signer may read on chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnifiedPermit {
    /// The contracts: at most [`MAX_PERMIT_CONTRACTS`]. None means any.
    pub allowed_contracts: Vec<Address>,
    /// From when it is valid, in seconds since 1970.
    pub start_timestamp: u64,
    /// How long it is valid, in seconds: 1 to [`MAX_PERMIT_SECONDS`].
    pub duration_seconds: u64,
}

impl DecryptionPermit {
    /// Returns from when the permit is valid, in seconds since 1970.
    #[must_use]
    pub const fn start_timestamp(&self) -> u64 {
        match self {
            Self::Classic(permit) => permit.start_timestamp,
            Self::Unified(permit) => permit.start_timestamp,
        }
    }

    /// Returns the contracts that are listed; for a unified permit, none means any.
    #[must_use]
    pub fn contracts(&self) -> &[Address] {
        match self {
            Self::Classic(permit) => &permit.contracts,
            Self::Unified(permit) => &permit.allowed_contracts,
        }
    }

    /// Returns how long the permit is valid in seconds, after checking that and the length of its list.
    fn checked_duration(&self) -> Result<u64, RequestError> {
        match self {
            Self::Classic(permit) => {
                if permit.contracts.is_empty() || permit.contracts.len() > MAX_PERMIT_CONTRACTS {
                    return Err(RequestError::ContractCount(permit.contracts.len()));
                }
                if permit.duration_days == 0 || permit.duration_days > MAX_PERMIT_DAYS {
                    return Err(RequestError::Duration(permit.duration_days));
                }
                Ok(permit.duration_days * 86_400)
            }
            Self::Unified(permit) => {
                if permit.allowed_contracts.len() > MAX_PERMIT_CONTRACTS {
                    return Err(RequestError::AllowedContractCount(permit.allowed_contracts.len()));
                }
                if permit.duration_seconds == 0 || permit.duration_seconds > MAX_PERMIT_SECONDS {
                    return Err(RequestError::DurationSeconds(permit.duration_seconds));
                }
                Ok(permit.duration_seconds)
            }
        }
    }

    /// Checks that the permit, signed by `user`, is about this value.
    fn check_covers(&self, value: &RequestedValue, user: Address) -> Result<(), RequestError> {
        let contract = value.contract_address;
        let is_listed = match self {
            Self::Classic(permit) => {
                let permitted = permit.delegator.unwrap_or(user);
                if value.owner != permitted {
                    return Err(RequestError::OwnerNotInPermit {
                        permitted,
                        owner: value.owner,
                    });
                }
                permit.contracts.contains(&contract)
            }
            Self::Unified(permit) => permit.allowed_contracts.is_empty() || permit.allowed_contracts.contains(&contract),
        };
        if !is_listed {
            return Err(RequestError::ContractNotInPermit(contract));
        }
        // Neither may be the contract itself, as the ACL demands of delegations, too.
        if contract == value.owner || contract == user {
            return Err(RequestError::UserIsContract(contract));
        }
        Ok(())
    }
}

impl UserDecryptionRequest {
    /// Checks everything that needs no chain access and no signature: limits, window, contracts, owners.
    ///
    /// # Errors
    /// [`RequestError`] says what is wrong.
    pub fn validate(&self, host_chain_id: u64, now_seconds: u64) -> Result<(), RequestError> {
        context_selector(&self.extra_data)?;
        if self.public_key.len() != USER_PUBLIC_KEY_BYTES {
            return Err(RequestError::PublicKeyLength(self.public_key.len()));
        }
        if self.signature.len() > MAX_PERMIT_SIGNATURE_BYTES {
            return Err(RequestError::SignatureLength(self.signature.len()));
        }
        let duration = self.permit.checked_duration()?;
        let start = self.permit.start_timestamp();
        if start > now_seconds {
            return Err(RequestError::NotYetValid { start, now: now_seconds });
        }
        let end = start.saturating_add(duration);
        if now_seconds > end {
            return Err(RequestError::Expired { end, now: now_seconds });
        }
        validate_handles(self.values.iter().map(|value| &value.handle), host_chain_id)?;
        self.values.iter().try_for_each(|value| self.permit.check_covers(value, self.user))
    }

    /// Returns the handles in the order of the answer.
    #[must_use]
    pub fn handles(&self) -> Vec<Handle> {
        self.values.iter().map(|value| value.handle).collect()
    }

    /// Returns the digest the user (or delegate) signs.
    #[must_use]
    pub fn digest(&self, domains: &SigningDomains) -> B256 {
        let domain = domains.decryption_request_domain();
        let (public_key, extra_data) = (self.public_key.clone(), self.extra_data.clone());
        match &self.permit {
            DecryptionPermit::Classic(ClassicPermit {
                delegator: None,
                contracts,
                start_timestamp,
                duration_days,
            }) => UserDecryptRequestVerification {
                publicKey: public_key,
                contractAddresses: contracts.clone(),
                startTimestamp: U256::from(*start_timestamp),
                durationDays: U256::from(*duration_days),
                extraData: extra_data,
            }
            .eip712_signing_hash(&domain),
            DecryptionPermit::Classic(ClassicPermit {
                delegator: Some(delegator),
                contracts,
                start_timestamp,
                duration_days,
            }) => DelegatedUserDecryptRequestVerification {
                publicKey: public_key,
                contractAddresses: contracts.clone(),
                delegatorAddress: *delegator,
                startTimestamp: U256::from(*start_timestamp),
                durationDays: U256::from(*duration_days),
                extraData: extra_data,
            }
            .eip712_signing_hash(&domain),
            DecryptionPermit::Unified(permit) => unified::UserDecryptRequestVerification {
                userAddress: self.user,
                publicKey: public_key,
                allowedContracts: permit.allowed_contracts.clone(),
                startTimestamp: U256::from(permit.start_timestamp),
                durationSeconds: U256::from(permit.duration_seconds),
                extraData: extra_data,
            }
            .eip712_signing_hash(&domain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhe_type::FheType;

    const NOW: u64 = 1_800_000_000;
    const USER: Address = Address::repeat_byte(1);
    const CONTRACT: Address = Address::repeat_byte(2);
    const OTHER: Address = Address::repeat_byte(3);

    fn classic() -> ClassicPermit {
        ClassicPermit {
            delegator: None,
            contracts: vec![CONTRACT],
            start_timestamp: NOW,
            duration_days: 1,
        }
    }

    fn unified() -> UnifiedPermit {
        UnifiedPermit {
            allowed_contracts: vec![],
            start_timestamp: NOW,
            duration_seconds: 60,
        }
    }

    fn with(permit: DecryptionPermit) -> UserDecryptionRequest {
        UserDecryptionRequest {
            values: vec![RequestedValue {
                handle: Handle::computed(B256::ZERO, 31337, FheType::Uint64),
                contract_address: CONTRACT,
                owner: USER,
            }],
            user: USER,
            permit,
            public_key: vec![0; USER_PUBLIC_KEY_BYTES].into(),
            extra_data: Bytes::new(),
            signature: Bytes::new(),
        }
    }

    fn with_classic(change: impl FnOnce(&mut ClassicPermit)) -> UserDecryptionRequest {
        let mut permit = classic();
        change(&mut permit);
        with(DecryptionPermit::Classic(permit))
    }

    fn with_unified(change: impl FnOnce(&mut UnifiedPermit)) -> UserDecryptionRequest {
        let mut permit = unified();
        change(&mut permit);
        with(DecryptionPermit::Unified(permit))
    }

    fn of_owner(mut request: UserDecryptionRequest, owner: Address) -> UserDecryptionRequest {
        request.values[0].owner = owner;
        request
    }

    #[test]
    fn the_window_is_checked_at_both_ends() {
        for (request, seconds) in [(with_classic(|_| ()), 86_400), (with_unified(|_| ()), 60)] {
            assert_eq!(request.validate(31337, NOW), Ok(()));
            assert_eq!(request.validate(31337, NOW + seconds), Ok(()));
            assert_eq!(
                request.validate(31337, NOW - 1),
                Err(RequestError::NotYetValid { start: NOW, now: NOW - 1 })
            );
            assert!(matches!(
                request.validate(31337, NOW + seconds + 1),
                Err(RequestError::Expired { .. })
            ));
        }
    }

    #[test]
    fn permits_last_up_to_a_year() {
        for days in [0, 366, u64::MAX] {
            let request = with_classic(|permit| permit.duration_days = days);
            assert_eq!(request.validate(31337, NOW), Err(RequestError::Duration(days)));
        }
        assert_eq!(with_classic(|permit| permit.duration_days = 365).validate(31337, NOW), Ok(()));
        for seconds in [0, 365 * 86_400 + 1, u64::MAX] {
            let request = with_unified(|permit| permit.duration_seconds = seconds);
            assert_eq!(request.validate(31337, NOW), Err(RequestError::DurationSeconds(seconds)));
        }
        let longest = with_unified(|permit| permit.duration_seconds = 365 * 86_400);
        assert_eq!(longest.validate(31337, NOW), Ok(()));
        // At the end of time nothing overflows.
        let late = with_unified(|permit| permit.start_timestamp = u64::MAX);
        assert_eq!(late.validate(31337, u64::MAX), Ok(()));
    }

    #[test]
    fn contracts_outside_the_permit_are_refused() {
        for request in [
            with_classic(|permit| permit.contracts = vec![OTHER]),
            with_unified(|permit| permit.allowed_contracts = vec![OTHER]),
        ] {
            assert_eq!(request.validate(31337, NOW), Err(RequestError::ContractNotInPermit(CONTRACT)));
        }
        let listed = with_unified(|permit| permit.allowed_contracts = vec![OTHER, CONTRACT]);
        assert_eq!(listed.validate(31337, NOW), Ok(()));
        for count in [0, 11] {
            let request = with_classic(|permit| permit.contracts = vec![CONTRACT; count]);
            assert_eq!(request.validate(31337, NOW), Err(RequestError::ContractCount(count)));
        }
        let many = with_unified(|permit| permit.allowed_contracts = vec![CONTRACT; 11]);
        assert_eq!(many.validate(31337, NOW), Err(RequestError::AllowedContractCount(11)));
    }

    #[test]
    fn a_classic_permit_is_about_one_account() {
        let of_other = of_owner(with_classic(|_| ()), OTHER);
        let refusal = RequestError::OwnerNotInPermit {
            permitted: USER,
            owner: OTHER,
        };
        assert_eq!(of_other.validate(31337, NOW), Err(refusal));
        let delegated = with_classic(|permit| permit.delegator = Some(OTHER));
        assert!(matches!(delegated.validate(31337, NOW), Err(RequestError::OwnerNotInPermit { .. })));
        assert_eq!(of_owner(delegated, OTHER).validate(31337, NOW), Ok(()));
        // Of a unified one the chain decides.
        assert_eq!(of_owner(with_unified(|_| ()), OTHER).validate(31337, NOW), Ok(()));
    }

    #[test]
    fn neither_user_nor_owner_is_the_contract() {
        for request in [with_classic(|permit| permit.delegator = Some(OTHER)), with_unified(|_| ())] {
            let own = UserDecryptionRequest {
                user: CONTRACT,
                ..of_owner(request.clone(), OTHER)
            };
            assert_eq!(own.validate(31337, NOW), Err(RequestError::UserIsContract(CONTRACT)));
        }
        let owned = of_owner(with_unified(|_| ()), CONTRACT);
        assert_eq!(owned.validate(31337, NOW), Err(RequestError::UserIsContract(CONTRACT)));
    }

    #[test]
    fn requests_are_bounded_and_for_one_chain() {
        let mut many = with_unified(|_| ());
        many.values = vec![many.values[0]; 33];
        assert_eq!(many.validate(31337, NOW), Err(RequestError::TooManyBits { bits: 33 * 64 }));
        many.values.clear();
        assert_eq!(many.validate(31337, NOW), Err(RequestError::NoHandles));
        assert!(matches!(
            with_classic(|_| ()).validate(1, NOW),
            Err(RequestError::WrongChain {
                expected: 1,
                found: 31337,
                ..
            })
        ));
        let long = UserDecryptionRequest {
            signature: vec![0; MAX_PERMIT_SIGNATURE_BYTES + 1].into(),
            ..with_unified(|_| ())
        };
        assert_eq!(
            long.validate(31337, NOW),
            Err(RequestError::SignatureLength(MAX_PERMIT_SIGNATURE_BYTES + 1))
        );
    }

    #[test]
    fn every_signed_field_changes_the_digest() {
        let domains = SigningDomains {
            host_chain_id: 31337,
            gateway_chain_id: 10901,
            decryption: Address::repeat_byte(0xd1),
            input_verification: Address::repeat_byte(0xd2),
        };
        let mut requests = vec![
            with_classic(|_| ()),
            with_classic(|permit| permit.delegator = Some(USER)),
            with_classic(|permit| permit.contracts.push(OTHER)),
            with_classic(|permit| permit.start_timestamp += 1),
            with_classic(|permit| permit.duration_days += 1),
            with_unified(|_| ()),
            with_unified(|permit| permit.allowed_contracts.push(OTHER)),
            with_unified(|permit| permit.start_timestamp += 1),
            with_unified(|permit| permit.duration_seconds += 1),
            UserDecryptionRequest {
                user: OTHER,
                ..with_unified(|_| ())
            },
        ];
        for request in [with_classic(|_| ()), with_unified(|_| ())] {
            requests.push(UserDecryptionRequest {
                public_key: vec![1; USER_PUBLIC_KEY_BYTES].into(),
                ..request.clone()
            });
            requests.push(UserDecryptionRequest {
                extra_data: Bytes::from_static(&[0]),
                ..request
            });
        }
        let digests: std::collections::BTreeSet<B256> = requests.iter().map(|request| request.digest(&domains)).collect();
        assert_eq!(digests.len(), requests.len());
    }
}
