//! The JSON of the gateway's routes (public protocol, section 4.2).
//!
//! Where a `0x` stands and where it does not is part of the format when writing; reading accepts both.

use cipherloom_primitives::{
    Address, Handle,
    decryption::{
        ClassicPermit, DecryptionPermit, RequestedValue, UNIFIED_ATTESTATION_TYPE, UNIFIED_PAYLOAD_TYPE, UNIFIED_PAYLOAD_VERSION,
        UnifiedPermit, UserDecryptionRequest, UserDecryptionShare,
    },
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::FieldIssue;

/// The answer to a submitted job, and to asking for it.
#[derive(Deserialize)]
pub(crate) struct Envelope<T> {
    pub(crate) result: Option<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Submitted {
    pub(crate) job_id: String,
}

/// What the synchronous routes of version 1 answer.
#[derive(Deserialize)]
pub(crate) struct Response1 {
    pub(crate) response: Value,
}

/// An answer that version 1 has in a shape of its own.
pub(crate) trait FromVersion1: serde::de::DeserializeOwned {
    /// Reads the shape of version 1.
    fn from_version_1(response: Value) -> Result<Self, String>;
}

#[derive(Deserialize)]
pub(crate) struct Failure {
    pub(crate) error: FailureBody,
}

#[derive(Deserialize)]
pub(crate) struct FailureBody {
    pub(crate) label: String,
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) details: Vec<FieldIssue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InputResult {
    pub(crate) accepted: bool,
    #[serde(default)]
    pub(crate) handles: Vec<String>,
    #[serde(default)]
    pub(crate) signatures: Vec<String>,
    /// Version 1 does not repeat it.
    pub(crate) extra_data: Option<String>,
}

impl FromVersion1 for InputResult {
    fn from_version_1(response: Value) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Input1 {
            handles: Vec<String>,
            signatures: Vec<String>,
        }
        let Input1 { handles, signatures } = serde_json::from_value(response).map_err(|error| error.to_string())?;
        Ok(Self {
            accepted: true,
            handles,
            signatures,
            extra_data: None,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PublicResult {
    pub(crate) decrypted_value: String,
    pub(crate) signatures: Vec<String>,
    /// Version 1 does not repeat it.
    pub(crate) extra_data: Option<String>,
}

impl FromVersion1 for PublicResult {
    fn from_version_1(response: Value) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Public1 {
            decrypted_value: String,
            signatures: Vec<String>,
        }
        let [answer]: [Public1; 1] = serde_json::from_value(response).map_err(|error| error.to_string())?;
        Ok(Self {
            decrypted_value: answer.decrypted_value,
            signatures: answer.signatures,
            extra_data: None,
        })
    }
}

/// The list stands one level deeper than other results.
#[derive(Deserialize)]
pub(crate) struct UserResult {
    pub(crate) result: Vec<ShareResult>,
}

impl FromVersion1 for UserResult {
    fn from_version_1(response: Value) -> Result<Self, String> {
        let result = serde_json::from_value(response).map_err(|error| error.to_string())?;
        Ok(Self { result })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShareResult {
    pub(crate) payload: String,
    pub(crate) signature: String,
    pub(crate) extra_data: String,
}

#[derive(Deserialize)]
pub(crate) struct KeyUrl {
    pub(crate) response: KeyUrlResponse,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeyUrlResponse {
    pub(crate) fhe_key_info: Vec<KeyInfo>,
    pub(crate) crs: std::collections::BTreeMap<String, Located>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeyInfo {
    pub(crate) fhe_public_key: Located,
}

/// Where a file is, by its id.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Located {
    pub(crate) data_id: String,
    pub(crate) urls: Vec<String>,
}

pub(crate) fn input_body(contract: Address, user: Address, chain_id: u64, list: &[u8], extra_data: &[u8]) -> Value {
    json!({
        "contractAddress": contract.to_checksum(None),
        "userAddress": user.to_checksum(None),
        "ciphertextWithInputVerification": hex::encode(list),
        "contractChainId": format!("{chain_id:#x}"),
        "extraData": prefixed(extra_data),
    })
}

pub(crate) fn public_body(handles: &[Handle], extra_data: &[u8]) -> Value {
    json!({
        "ciphertextHandles": handles.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "extraData": prefixed(extra_data),
    })
}

/// The kinds of user decryption differ in where accounts and validity stand.
pub(crate) fn user_body(request: &UserDecryptionRequest, chain_id: u64) -> Value {
    match &request.permit {
        DecryptionPermit::Classic(permit) => classic_body(request, permit, chain_id),
        DecryptionPermit::Unified(permit) => unified_body(request, permit),
    }
}

fn classic_body(request: &UserDecryptionRequest, permit: &ClassicPermit, chain_id: u64) -> Value {
    let pair = |value: &RequestedValue| {
        let contract = value.contract_address.to_checksum(None);
        json!({ "handle": value.handle.to_string(), "contractAddress": contract })
    };
    let start = permit.start_timestamp.to_string();
    let days = permit.duration_days.to_string();
    let mut body = json!({
        "handleContractPairs": request.values.iter().map(pair).collect::<Vec<_>>(),
        "contractsChainId": chain_id.to_string(),
        "contractAddresses": addresses(&permit.contracts),
        "signature": hex::encode(&request.signature),
        "publicKey": hex::encode(&request.public_key),
        "extraData": prefixed(&request.extra_data),
    });
    let own = match permit.delegator {
        None => json!({
            "userAddress": request.user.to_checksum(None),
            "requestValidity": { "startTimestamp": start, "durationDays": days },
        }),
        Some(delegator) => json!({
            "delegatorAddress": delegator.to_checksum(None),
            "delegateAddress": request.user.to_checksum(None),
            "startTimestamp": start,
            "durationDays": days,
        }),
    };
    if let (Value::Object(body), Value::Object(own)) = (&mut body, own) {
        body.extend(own);
    }
    body
}

fn unified_body(request: &UserDecryptionRequest, permit: &UnifiedPermit) -> Value {
    let value = |value: &RequestedValue| {
        json!({
            "ctHandle": value.handle.to_string(),
            "contractAddress": value.contract_address.to_checksum(None),
            "ownerAddress": value.owner.to_checksum(None),
        })
    };
    json!({
        "attestationType": UNIFIED_ATTESTATION_TYPE,
        "attestedPayload": {
            "version": UNIFIED_PAYLOAD_VERSION,
            "type": UNIFIED_PAYLOAD_TYPE,
            "handles": request.values.iter().map(value).collect::<Vec<_>>(),
            "userAddress": request.user.to_checksum(None),
            "allowedContracts": addresses(&permit.allowed_contracts),
            "requestValidity": {
                "startTimestamp": permit.start_timestamp.to_string(),
                "durationSeconds": permit.duration_seconds.to_string(),
            },
            "publicKey": prefixed(&request.public_key),
            "extraData": prefixed(&request.extra_data),
        },
        "signature": prefixed(&request.signature),
    })
}

fn addresses(list: &[Address]) -> Vec<String> {
    list.iter().map(|address| address.to_checksum(None)).collect()
}

impl ShareResult {
    pub(crate) fn into_share(self) -> Result<UserDecryptionShare, String> {
        Ok(UserDecryptionShare {
            payload: bytes("payload", &self.payload)?.into(),
            signature: bytes("signature", &self.signature)?.into(),
            extra_data: bytes("extraData", &self.extra_data)?.into(),
        })
    }
}

/// Says whether an answer is about the extra data that was sent. Where it does not say, the signatures do, which cover it.
pub(crate) fn is_extra_data(answered: Option<&str>, sent: &[u8]) -> Result<bool, String> {
    answered.map_or(Ok(true), |text| Ok(bytes("extraData", text)? == sent))
}

/// Reads hexadecimal digits with or without `0x`.
pub(crate) fn bytes(field: &str, text: &str) -> Result<Vec<u8>, String> {
    hex::decode(text.strip_prefix("0x").unwrap_or(text)).map_err(|error| format!("{field} is not hexadecimal: {error}"))
}

pub(crate) fn prefixed(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}
