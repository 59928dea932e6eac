//! From the bytes of a request body to typed requests, in the words of the 0.6 generation.
//!
//! Hexadecimal digits stand without `0x`, addresses with it; `fhevmjs` writes them so. Either is read either way here, since that generation's
//! gateway was not strict about it, and nothing depends on it.

use alloy_primitives::{Address, B256, Bytes, hex};
use cipherloom_primitives::{generation_0_6::ReencryptionRequest, input::MAX_INPUT_LIST_BYTES};
use serde::Deserialize;

use super::services::LegacyInput;
use crate::{
    error::Label,
    services::{FieldIssue, ServiceError},
};

/// The length of a user's signature: accounts with a private key only, as that generation has it.
const SIGNATURE_BYTES: usize = 65;
/// The length of a user's key with its own length in front.
const PUBLIC_KEY_BYTES: usize = 40;
/// How many characters of a key's id are compared at most.
const ID_DIGITS: usize = 128;

#[derive(Deserialize)]
struct InputBody<'a> {
    #[serde(borrow)]
    contract_address: Text<'a>,
    #[serde(borrow)]
    caller_address: Text<'a>,
    #[serde(borrow)]
    ct_proof: Text<'a>,
    #[serde(borrow)]
    key_id: Text<'a>,
    #[serde(borrow)]
    crs_id: Text<'a>,
}

#[derive(Deserialize)]
struct ReencryptionBody<'a> {
    #[serde(borrow)]
    signature: Text<'a>,
    #[serde(borrow)]
    client_address: Text<'a>,
    #[serde(borrow)]
    enc_key: Text<'a>,
    #[serde(borrow)]
    ciphertext_handle: Text<'a>,
    #[serde(borrow)]
    eip712_verifying_contract: Text<'a>,
}

type Text<'a> = std::borrow::Cow<'a, str>;

/// Reads the body of `POST /verify_proven_ct`, which must name the keys that are served.
pub(super) fn input(body: &[u8], key_id: &str, crs_id: &str) -> Result<LegacyInput, ServiceError> {
    let body: InputBody<'_> = parse(body)?;
    for (field, given, served) in [("key_id", &body.key_id, key_id), ("crs_id", &body.crs_id, crs_id)] {
        if !given.eq_ignore_ascii_case(served) {
            let shown: String = given.chars().take(ID_DIGITS).collect();
            return Err(invalid(field, &format!("is {shown:?}; {served} is served, see /keyurl")));
        }
    }
    let list = bytes("ct_proof", &body.ct_proof, MAX_INPUT_LIST_BYTES)?;
    if list.is_empty() {
        return Err(invalid("ct_proof", "is empty"));
    }
    Ok(LegacyInput {
        contract: address("contract_address", &body.contract_address)?,
        user: address("caller_address", &body.caller_address)?,
        list: list.into(),
    })
}

/// Reads the body of `POST /reencrypt`.
pub(super) fn reencryption(body: &[u8]) -> Result<ReencryptionRequest, ServiceError> {
    let body: ReencryptionBody<'_> = parse(body)?;
    Ok(ReencryptionRequest {
        handle: B256::from(fixed::<32>("ciphertext_handle", &body.ciphertext_handle)?),
        contract: address("eip712_verifying_contract", &body.eip712_verifying_contract)?,
        user: address("client_address", &body.client_address)?,
        public_key: Bytes::copy_from_slice(&fixed::<PUBLIC_KEY_BYTES>("enc_key", &body.enc_key)?),
        signature: Bytes::copy_from_slice(&fixed::<SIGNATURE_BYTES>("signature", &body.signature)?),
    })
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ServiceError> {
    serde_json::from_slice(body)
        .map_err(|error| ServiceError::new(Label::MalformedJson, format!("the body is not what this route takes: {error}")))
}

fn address(field: &str, text: &str) -> Result<Address, ServiceError> {
    fixed::<20>(field, text).map(Address::from)
}

fn fixed<const N: usize>(field: &str, text: &str) -> Result<[u8; N], ServiceError> {
    let bytes = bytes(field, text, N)?;
    <[u8; N]>::try_from(bytes).map_err(|bytes| invalid(field, &format!("has {} bytes instead of {N}", bytes.len())))
}

fn bytes(field: &str, text: &str, limit: usize) -> Result<Vec<u8>, ServiceError> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.len() > limit.saturating_mul(2) {
        return Err(invalid(field, &format!("has more than {limit} bytes")));
    }
    // Of the decoder's leniencies only one is meant: a second prefix is none.
    if digits.starts_with("0x") {
        return Err(invalid(field, "is not hexadecimal"));
    }
    hex::decode(digits).map_err(|_| invalid(field, "is not an even number of hexadecimal digits"))
}

fn invalid(field: &str, issue: &str) -> ServiceError {
    ServiceError::invalid(vec![FieldIssue::new(field, issue)])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn input_body() -> serde_json::Value {
        json!({
            "contract_address": "0x00000000000000000000000000000000000000c0",
            "caller_address": "0x00000000000000000000000000000000000000ca",
            "key_id": "aa", "crs_id": "bb", "ct_proof": "0102ff",
        })
    }

    fn read(body: &serde_json::Value) -> Result<LegacyInput, ServiceError> {
        input(body.to_string().as_bytes(), "aa", "bb")
    }

    #[test]
    fn inputs_are_read_with_and_without_prefix() {
        let mut body = input_body();
        let expected = read(&body).unwrap();
        assert_eq!(expected.list.as_ref(), [1u8, 2, 0xff].as_slice());
        body["ct_proof"] = "0x0102FF".into();
        body["caller_address"] = "00000000000000000000000000000000000000ca".into();
        assert_eq!(read(&body).unwrap(), expected);
    }

    #[test]
    fn what_is_wrong_with_a_field_is_said() {
        for (field, value, said) in [
            ("key_id", "cc", "key_id is \"cc\"; aa is served"),
            ("crs_id", "", "crs_id is \"\""),
            ("ct_proof", "", "ct_proof is empty"),
            ("ct_proof", "123", "even number of hexadecimal digits"),
            ("ct_proof", "0x0x12", "not hexadecimal"),
            ("ct_proof", "zz", "even number of hexadecimal digits"),
            ("contract_address", "0x12", "has 1 bytes instead of 20"),
            ("caller_address", &"12".repeat(21), "has more than 20 bytes"),
        ] {
            let mut body = input_body();
            body[field] = value.into();
            let error = read(&body).unwrap_err();
            assert!(error.message.contains(said), "{error}");
        }
        let mut body = input_body();
        body["ct_proof"] = "00".repeat(MAX_INPUT_LIST_BYTES + 1).into();
        assert!(read(&body).is_err());
        assert!(input(b"[]", "aa", "bb").is_err());
        assert!(input(b"{}", "aa", "bb").unwrap_err().message.contains("contract_address"));
    }

    #[test]
    fn reencryptions_have_fixed_lengths() {
        let body = json!({
            "signature": "11".repeat(65), "client_address": "0x00000000000000000000000000000000000000ca", "enc_key": "22".repeat(40),
            "ciphertext_handle": "33".repeat(32), "eip712_verifying_contract": "0x00000000000000000000000000000000000000c0",
        });
        let read = |body: &serde_json::Value| reencryption(body.to_string().as_bytes());
        assert_eq!(read(&body).unwrap().handle, B256::repeat_byte(0x33));
        for (field, bytes) in [("signature", 64), ("enc_key", 39), ("enc_key", 41), ("ciphertext_handle", 31)] {
            let mut body = body.clone();
            body[field] = "11".repeat(bytes).into();
            assert!(read(&body).unwrap_err().message.contains(field));
        }
    }
}
