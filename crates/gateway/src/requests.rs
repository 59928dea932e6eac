//! From the bytes of a request body to typed requests.
//!
//! Unknown fields are ignored, as SDKs add some over time; every known field is required. What needs the chain, a signature or a
//! clock is left to the services, which are the authority on it.
//!
//! Source: public protocol, section 4.2.

use std::ops::RangeInclusive;

use alloy_primitives::{Address, B256, Bytes, Keccak256};
use cipherloom_primitives::{
    Handle,
    decryption::{
        ClassicPermit, DecryptionPermit, MAX_EXTRA_DATA_BYTES, MAX_PERMIT_CONTRACTS, MAX_PERMIT_SIGNATURE_BYTES, MAX_REQUEST_BITS,
        PublicDecryptionRequest, RequestedValue, USER_PUBLIC_KEY_BYTES, UserDecryptionRequest,
    },
    input::MAX_INPUT_LIST_BYTES,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    error::Label,
    fields::{Field, Issues, address, bare_bytes, chain_id, decimal, handle, prefixed_bytes},
    services::{AdmissionRequest, ServiceError},
    unified::unified,
};

/// The most handles one request can name: the smallest type counts 2 of the bits allowed.
pub(crate) const MAX_HANDLES: usize = MAX_REQUEST_BITS as usize / 2;

/// What a client can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum OperationKind {
    InputProof,
    PublicDecrypt,
    UserDecrypt,
    DelegatedUserDecrypt,
    /// Under a unified permit: version 3 of `user-decrypt`.
    UnifiedUserDecrypt,
}

impl OperationKind {
    /// All kinds.
    pub(crate) const ALL: [Self; 5] = [
        Self::InputProof,
        Self::PublicDecrypt,
        Self::UserDecrypt,
        Self::DelegatedUserDecrypt,
        Self::UnifiedUserDecrypt,
    ];

    /// Finds a kind by its name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Returns the name, which is the last part of version 2's route where there is one.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::InputProof => "input-proof",
            Self::PublicDecrypt => "public-decrypt",
            Self::UserDecrypt => "user-decrypt",
            Self::DelegatedUserDecrypt => "delegated-user-decrypt",
            Self::UnifiedUserDecrypt => "unified-user-decrypt",
        }
    }

    /// Returns the most bytes a body may have.
    pub(crate) const fn max_body_bytes(self) -> usize {
        match self {
            // Twice the list as hexadecimal digits leaves as much again for the rest.
            Self::InputProof => 4 << 20,
            // The most handles with their contracts take 160 KiB, with their owners 220 KiB.
            _ => 256 << 10,
        }
    }
}

/// A request whose form is right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum GatewayRequest {
    Input(AdmissionRequest),
    Public(PublicDecryptionRequest),
    User(UserDecryptionRequest),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InputBody<'a> {
    #[serde(borrow)]
    contract_address: Field<'a>,
    #[serde(borrow)]
    user_address: Field<'a>,
    #[serde(borrow)]
    ciphertext_with_input_verification: Field<'a>,
    #[serde(borrow)]
    contract_chain_id: Field<'a>,
    #[serde(borrow)]
    extra_data: Field<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PublicBody<'a> {
    #[serde(borrow)]
    ciphertext_handles: Field<'a>,
    #[serde(borrow)]
    extra_data: Field<'a>,
}

/// Both kinds of user decryption: a delegated one has no `userAddress`, and its validity is not nested.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserBody<'a> {
    #[serde(borrow)]
    handle_contract_pairs: Field<'a>,
    #[serde(borrow)]
    request_validity: Field<'a>,
    #[serde(borrow)]
    start_timestamp: Field<'a>,
    #[serde(borrow)]
    duration_days: Field<'a>,
    #[serde(borrow)]
    contracts_chain_id: Field<'a>,
    #[serde(borrow)]
    contract_addresses: Field<'a>,
    #[serde(borrow)]
    user_address: Field<'a>,
    #[serde(borrow)]
    delegator_address: Field<'a>,
    #[serde(borrow)]
    delegate_address: Field<'a>,
    #[serde(borrow)]
    signature: Field<'a>,
    #[serde(borrow)]
    public_key: Field<'a>,
    #[serde(borrow)]
    extra_data: Field<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ValidityBody<'a> {
    #[serde(borrow)]
    start_timestamp: Field<'a>,
    #[serde(borrow)]
    duration_days: Field<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PairBody<'a> {
    #[serde(borrow)]
    handle: Field<'a>,
    #[serde(borrow)]
    contract_address: Field<'a>,
}

impl GatewayRequest {
    /// Reads a body of a request about one of these chains.
    ///
    /// # Errors
    /// `malformed_json`, `missing_fields` or `validation_failed`, naming every field at fault.
    pub(crate) fn parse(kind: OperationKind, body: &[u8], chains: &[u64]) -> Result<Self, ServiceError> {
        match kind {
            OperationKind::InputProof => input(object(body)?, chains).map(Self::Input),
            OperationKind::PublicDecrypt => public(object(body)?, chains).map(Self::Public),
            OperationKind::UserDecrypt => user(object(body)?, chains).map(Self::User),
            OperationKind::DelegatedUserDecrypt => delegated(object(body)?, chains).map(Self::User),
            OperationKind::UnifiedUserDecrypt => unified(object(body)?, chains).map(Self::User),
        }
    }

    /// Returns what is to be decrypted; nothing for inputs.
    pub(crate) fn handles(&self) -> Vec<Handle> {
        match self {
            Self::Input(_) => Vec::new(),
            Self::Public(request) => request.handles.clone(),
            Self::User(request) => request.handles(),
        }
    }

    /// Returns a digest that two requests share only if they ask for the same.
    pub(crate) fn content_digest(&self) -> B256 {
        let mut hasher = Keccak256::new();
        let mut part = |bytes: &[u8]| {
            // Lengths keep neighbouring parts from sliding into one another.
            hasher.update((bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        };
        match self {
            Self::Input(request) => {
                part(b"input");
                part(request.contract.as_slice());
                part(request.user.as_slice());
                part(&request.chain_id.to_be_bytes());
                part(&request.list);
                part(&request.extra_data);
            }
            Self::Public(request) => {
                part(b"public");
                request.handles.iter().for_each(|handle| part(handle.as_slice()));
                part(&request.extra_data);
            }
            Self::User(request) => {
                part(b"user");
                part(&(request.values.len() as u64).to_be_bytes());
                for value in &request.values {
                    part(value.handle.as_slice());
                    part(value.contract_address.as_slice());
                    part(value.owner.as_slice());
                }
                part(request.user.as_slice());
                match &request.permit {
                    DecryptionPermit::Classic(permit) => {
                        part(b"classic");
                        part(permit.delegator.as_ref().map_or(&[][..], |delegator| delegator.as_slice()));
                        part(&permit.duration_days.to_be_bytes());
                    }
                    DecryptionPermit::Unified(permit) => {
                        part(b"unified");
                        part(&permit.duration_seconds.to_be_bytes());
                    }
                }
                let contracts = request.permit.contracts();
                part(&(contracts.len() as u64).to_be_bytes());
                contracts.iter().for_each(|contract| part(contract.as_slice()));
                part(&request.permit.start_timestamp().to_be_bytes());
                part(&request.public_key);
                part(&request.extra_data);
                part(&request.signature);
            }
        }
        hasher.finalize()
    }
}

fn object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ServiceError> {
    // The check comes first because structs can be read from JSON arrays, too.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(ServiceError::new(Label::MalformedJson, "the body is not a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| ServiceError::new(Label::MalformedJson, format!("the body is not valid JSON: {error}")))
}

fn input(body: InputBody<'_>, chains: &[u64]) -> Result<AdmissionRequest, ServiceError> {
    let mut issues = Issues::default();
    let contract = issues.read("contractAddress", body.contract_address, address);
    let user = issues.read("userAddress", body.user_address, address);
    let list = issues.read(
        "ciphertextWithInputVerification",
        body.ciphertext_with_input_verification,
        bare_bytes(MAX_INPUT_LIST_BYTES),
    );
    let chain_id = issues.read("contractChainId", body.contract_chain_id, chain_id(chains));
    let extra_data = extra_data(&mut issues, body.extra_data);
    match (contract, user, list, chain_id, extra_data) {
        (Some(contract), Some(user), Some(list), Some(chain_id), Some(extra_data)) => Ok(AdmissionRequest {
            contract,
            user,
            chain_id,
            list,
            extra_data,
        }),
        _ => Err(issues.into_error()),
    }
}

fn public(body: PublicBody<'_>, chains: &[u64]) -> Result<PublicDecryptionRequest, ServiceError> {
    let mut issues = Issues::default();
    let handles = each(
        &mut issues,
        "ciphertextHandles",
        body.ciphertext_handles,
        1..=MAX_HANDLES,
        |issues, path, raw| issues.read(path, Some(raw), handle),
    );
    let extra_data = extra_data(&mut issues, body.extra_data);
    let (Some(handles), Some(extra_data)) = (handles, extra_data) else {
        return Err(issues.into_error());
    };
    let request = PublicDecryptionRequest { handles, extra_data };
    request
        .validate(chain_of(&request.handles, chains))
        .map_err(|error| renamed(error.into(), "ciphertextHandles"))?;
    Ok(request)
}

fn user(body: UserBody<'_>, chains: &[u64]) -> Result<UserDecryptionRequest, ServiceError> {
    let mut issues = Issues::default();
    let validity = object_field::<ValidityBody<'_>>(&mut issues, "requestValidity", body.request_validity);
    let start = validity
        .as_ref()
        .and_then(|it| issues.read("requestValidity.startTimestamp", it.start_timestamp, decimal));
    let days = validity
        .as_ref()
        .and_then(|it| issues.read("requestValidity.durationDays", it.duration_days, decimal));
    let user = issues.read("userAddress", body.user_address, address);
    user_request(
        issues,
        &body,
        chains,
        Permit {
            start,
            days,
            user,
            delegator: None,
        },
    )
}

fn delegated(body: UserBody<'_>, chains: &[u64]) -> Result<UserDecryptionRequest, ServiceError> {
    let mut issues = Issues::default();
    let start = issues.read("startTimestamp", body.start_timestamp, decimal);
    let days = issues.read("durationDays", body.duration_days, decimal);
    let user = issues.read("delegateAddress", body.delegate_address, address);
    let delegator = issues.read("delegatorAddress", body.delegator_address, address);
    user_request(
        issues,
        &body,
        chains,
        Permit {
            start,
            days,
            user,
            delegator,
        },
    )
}

/// The fields in which the two kinds of user decryption differ; absent ones are noted already.
struct Permit {
    start: Option<u64>,
    days: Option<u64>,
    user: Option<Address>,
    delegator: Option<Address>,
}

fn user_request(mut issues: Issues, body: &UserBody<'_>, chains: &[u64], permit: Permit) -> Result<UserDecryptionRequest, ServiceError> {
    let pairs = each(
        &mut issues,
        "handleContractPairs",
        body.handle_contract_pairs,
        1..=MAX_HANDLES,
        pair,
    );
    let chain = issues.read("contractsChainId", body.contracts_chain_id, chain_id(chains));
    let contracts = each(
        &mut issues,
        "contractAddresses",
        body.contract_addresses,
        1..=MAX_PERMIT_CONTRACTS,
        |issues, path, raw| issues.read(path, Some(raw), address),
    );
    let signature = issues.read("signature", body.signature, bare_bytes(MAX_PERMIT_SIGNATURE_BYTES));
    let public_key = issues.read("publicKey", body.public_key, bare_bytes(USER_PUBLIC_KEY_BYTES));
    let extra_data = extra_data(&mut issues, body.extra_data);
    let (Some(pairs), Some(chain), Some(contracts), Some(signature), Some(public_key), Some(extra_data)) =
        (pairs, chain, contracts, signature, public_key, extra_data)
    else {
        return Err(issues.into_error());
    };
    let (Some(start_timestamp), Some(duration_days), Some(user)) = (permit.start, permit.days, permit.user) else {
        return Err(issues.into_error());
    };
    if !issues.is_empty() {
        return Err(issues.into_error());
    }
    let owner = permit.delegator.unwrap_or(user);
    let value = |(handle, contract_address)| RequestedValue {
        handle,
        contract_address,
        owner,
    };
    let request = UserDecryptionRequest {
        values: pairs.into_iter().map(value).collect(),
        user,
        permit: DecryptionPermit::Classic(ClassicPermit {
            delegator: permit.delegator,
            contracts,
            start_timestamp,
            duration_days,
        }),
        public_key,
        extra_data,
        signature,
    };
    // Whether the permit is valid now is for the KMS to say, by its clock: here "now" is the permit's own start.
    request
        .validate(chain, start_timestamp)
        .map_err(|error| renamed(error.into(), "handleContractPairs"))?;
    Ok(request)
}

fn pair(issues: &mut Issues, path: &str, raw: &RawValue) -> Option<(Handle, Address)> {
    let Some(body) = nested::<PairBody<'_>>(raw) else {
        issues.invalid(path, "must be an object with handle and contractAddress");
        return None;
    };
    let handle = issues.read(&format!("{path}.handle"), body.handle, handle);
    let contract_address = issues.read(&format!("{path}.contractAddress"), body.contract_address, address);
    Some((handle?, contract_address?))
}

/// Returns the chain that a request is about: that of its first handle. If it is none of ours, one that its handles then contradict.
pub(crate) fn chain_of(handles: &[Handle], chains: &[u64]) -> u64 {
    let named = handles.first().map(Handle::chain_id).filter(|chain| chains.contains(chain));
    named.or_else(|| chains.first().copied()).unwrap_or_default()
}

fn extra_data(issues: &mut Issues, field: Field<'_>) -> Option<Bytes> {
    issues.read("extraData", field, prefixed_bytes(MAX_EXTRA_DATA_BYTES))
}

/// Reads a list entry by entry; `None` if any entry is wrong, after all were looked at.
pub(crate) fn each<'a, T>(
    issues: &mut Issues,
    path: &str,
    field: Field<'a>,
    counts: RangeInclusive<usize>,
    reader: impl Fn(&mut Issues, &str, &'a RawValue) -> Option<T>,
) -> Option<Vec<T>> {
    let entries = issues.list(path, field, counts)?;
    let read = entries
        .iter()
        .enumerate()
        .map(|(index, raw)| reader(issues, &format!("{path}[{index}]"), raw))
        .collect::<Vec<_>>();
    read.into_iter().collect()
}

/// Reads a required field that is an object.
pub(crate) fn object_field<'a, T: Deserialize<'a>>(issues: &mut Issues, path: &str, field: Field<'a>) -> Option<T> {
    let raw = issues.required(path, field)?;
    nested(raw).or_else(|| {
        issues.invalid(path, "must be an object");
        None
    })
}

pub(crate) fn nested<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    raw.get().starts_with('{').then(|| serde_json::from_str(raw.get()).ok()).flatten()
}

/// Names the field of this route that holds the handles.
fn renamed(mut error: ServiceError, handles_field: &str) -> ServiceError {
    error
        .details
        .iter_mut()
        .filter(|issue| issue.field == "handles")
        .for_each(|issue| handles_field.clone_into(&mut issue.field));
    error
}

#[cfg(test)]
mod tests {
    use cipherloom_primitives::FheType;

    use super::*;

    #[test]
    fn a_request_is_about_the_chain_of_its_handles_if_that_is_one_of_ours() {
        let handle = |chain| Handle::computed(B256::repeat_byte(1), chain, FheType::Uint8);
        let parse = |handles: &[Handle]| {
            let names: Vec<String> = handles.iter().map(ToString::to_string).collect();
            let body = serde_json::json!({ "ciphertextHandles": names, "extraData": "0x00" }).to_string();
            GatewayRequest::parse(OperationKind::PublicDecrypt, body.as_bytes(), &[5, 31337])
        };
        assert!(parse(&[handle(5), handle(5)]).is_ok());
        assert!(parse(&[handle(31337)]).is_ok());
        for others in [vec![handle(7)], vec![handle(5), handle(31337)]] {
            let error = parse(&others).unwrap_err();
            assert_eq!(error.label, Label::ValidationFailed);
            assert!(error.message.contains("belongs to chain"), "{}", error.message);
        }
    }
}
