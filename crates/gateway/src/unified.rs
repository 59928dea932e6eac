//! Requests under unified permits, as version 3 of the routes takes them.
//!
//! The body is an envelope: what kind of attestation the signature is, what it attests to, and the signature, which may be empty for
//! wallets that are contracts. Unlike version 2, all bytes carry `0x`, and each value names its owner.
//!
//! Source: public protocol, section 4.2.

use alloy_primitives::Bytes;
use cipherloom_primitives::decryption::{
    DecryptionPermit, MAX_EXTRA_DATA_BYTES, MAX_PERMIT_CONTRACTS, MAX_PERMIT_SIGNATURE_BYTES, RequestError, RequestedValue,
    UNIFIED_ATTESTATION_TYPE, UNIFIED_PAYLOAD_TYPE, UNIFIED_PAYLOAD_VERSION, USER_PUBLIC_KEY_BYTES, UnifiedPermit, UserDecryptionRequest,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    fields::{Field, Issues, address, decimal, handle, prefixed_bytes},
    requests::{MAX_HANDLES, chain_of, each, nested, object_field},
    services::{FieldIssue, ServiceError},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Envelope<'a> {
    #[serde(borrow)]
    attestation_type: Field<'a>,
    #[serde(borrow)]
    attested_payload: Field<'a>,
    #[serde(borrow)]
    signature: Field<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    #[serde(borrow)]
    version: Field<'a>,
    #[serde(borrow, rename = "type")]
    kind: Field<'a>,
    #[serde(borrow)]
    handles: Field<'a>,
    #[serde(borrow)]
    user_address: Field<'a>,
    #[serde(borrow)]
    allowed_contracts: Field<'a>,
    #[serde(borrow)]
    request_validity: Field<'a>,
    #[serde(borrow)]
    public_key: Field<'a>,
    #[serde(borrow)]
    extra_data: Field<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Validity<'a> {
    #[serde(borrow)]
    start_timestamp: Field<'a>,
    #[serde(borrow)]
    duration_seconds: Field<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    #[serde(borrow)]
    ct_handle: Field<'a>,
    #[serde(borrow)]
    contract_address: Field<'a>,
    #[serde(borrow)]
    owner_address: Field<'a>,
}

/// Reads a request; its chain is that of its handles.
pub(crate) fn unified(body: Envelope<'_>, chains: &[u64]) -> Result<UserDecryptionRequest, ServiceError> {
    let mut issues = Issues::default();
    issues.read("attestationType", body.attestation_type, exactly(UNIFIED_ATTESTATION_TYPE));
    let signature = issues.read("signature", body.signature, signature);
    let request = object_field(&mut issues, "attestedPayload", body.attested_payload).and_then(|payload| read(&mut issues, payload));
    let (Some(request), Some(signature), true) = (request, signature, issues.is_empty()) else {
        return Err(issues.into_error());
    };
    let request = UserDecryptionRequest { signature, ..request };
    // Whether the permit is valid now is for the KMS to say, by its clock: here "now" is the permit's own start.
    request
        .validate(chain_of(&request.handles(), chains), request.permit.start_timestamp())
        .map_err(located)?;
    Ok(request)
}

/// Reads what is attested to; the signature stands elsewhere.
fn read(issues: &mut Issues, payload: Payload<'_>) -> Option<UserDecryptionRequest> {
    issues.read("attestedPayload.version", payload.version, exactly(UNIFIED_PAYLOAD_VERSION));
    issues.read("attestedPayload.type", payload.kind, exactly(UNIFIED_PAYLOAD_TYPE));
    let values = each(issues, "attestedPayload.handles", payload.handles, 1..=MAX_HANDLES, entry);
    let user = issues.read("attestedPayload.userAddress", payload.user_address, address);
    let contracts = each(
        issues,
        "attestedPayload.allowedContracts",
        payload.allowed_contracts,
        0..=MAX_PERMIT_CONTRACTS,
        |issues, path, raw| issues.read(path, Some(raw), address),
    );
    let validity = object_field::<Validity<'_>>(issues, "attestedPayload.requestValidity", payload.request_validity).map(|validity| {
        let start = issues.read("attestedPayload.requestValidity.startTimestamp", validity.start_timestamp, decimal);
        let duration = issues.read(
            "attestedPayload.requestValidity.durationSeconds",
            validity.duration_seconds,
            decimal,
        );
        (start, duration)
    });
    let public_key = issues.read(
        "attestedPayload.publicKey",
        payload.public_key,
        prefixed_bytes(USER_PUBLIC_KEY_BYTES),
    );
    let extra_data = issues.read(
        "attestedPayload.extraData",
        payload.extra_data,
        prefixed_bytes(MAX_EXTRA_DATA_BYTES),
    );
    let (start, duration) = validity?;
    Some(UserDecryptionRequest {
        values: values?,
        user: user?,
        permit: DecryptionPermit::Unified(UnifiedPermit {
            allowed_contracts: contracts?,
            start_timestamp: start?,
            duration_seconds: duration?,
        }),
        public_key: public_key?,
        extra_data: extra_data?,
        signature: Bytes::new(),
    })
}

fn entry(issues: &mut Issues, path: &str, raw: &RawValue) -> Option<RequestedValue> {
    let Some(body) = nested::<Entry<'_>>(raw) else {
        issues.invalid(path, "must be an object with ctHandle, contractAddress and ownerAddress");
        return None;
    };
    let handle = issues.read(&format!("{path}.ctHandle"), body.ct_handle, handle);
    let contract_address = issues.read(&format!("{path}.contractAddress"), body.contract_address, address);
    let owner = issues.read(&format!("{path}.ownerAddress"), body.owner_address, address);
    Some(RequestedValue {
        handle: handle?,
        contract_address: contract_address?,
        owner: owner?,
    })
}

/// Reads a word that can only be this one.
fn exactly(word: &'static str) -> impl Fn(&str) -> Result<(), String> {
    move |text| match text == word {
        true => Ok(()),
        false => Err(format!("must be {word:?}")),
    }
}

/// Reads a signature, which may be empty, with or without its `0x`.
fn signature(text: &str) -> Result<Bytes, String> {
    match text {
        "" => Ok(Bytes::new()),
        text => prefixed_bytes(MAX_PERMIT_SIGNATURE_BYTES)(text),
    }
}

/// Names the field of this route that is wrong.
fn located(error: RequestError) -> ServiceError {
    let field = match error.field() {
        "handles" | "handleContractPairs" => "attestedPayload.handles".to_owned(),
        field @ ("startTimestamp" | "durationSeconds") => format!("attestedPayload.requestValidity.{field}"),
        "signature" => "signature".to_owned(),
        field => format!("attestedPayload.{field}"),
    };
    let message = error.to_string();
    ServiceError {
        message: message.clone(),
        ..ServiceError::invalid(vec![FieldIssue::new(field, message)])
    }
}
