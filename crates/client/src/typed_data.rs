//! Permits as wallets take them in `eth_signTypedData_v4`.

use alloy::sol_types::SolStruct;
use cipherloom_primitives::{
    Address,
    decryption::{DecryptionPermit, UserDecryptionRequest},
    eip712::{DelegatedUserDecryptRequestVerification, SigningDomains, UserDecryptRequestVerification, unified},
};
use serde_json::{Map, Value, json};

/// Writes the typed data of a request's permit: what its digest is the digest of.
pub(crate) fn of_request(request: &UserDecryptionRequest, domains: &SigningDomains) -> Value {
    let public_key = json!(request.public_key.to_string());
    let extra_data = json!(request.extra_data.to_string());
    let (encoded, values) = match &request.permit {
        DecryptionPermit::Classic(permit) => {
            let mut values = vec![public_key, addresses(&permit.contracts)];
            values.extend(permit.delegator.map(|delegator| json!(delegator.to_checksum(None))));
            values.extend([number(permit.start_timestamp), number(permit.duration_days), extra_data]);
            match permit.delegator {
                None => (UserDecryptRequestVerification::eip712_encode_type(), values),
                Some(_) => (DelegatedUserDecryptRequestVerification::eip712_encode_type(), values),
            }
        }
        DecryptionPermit::Unified(permit) => {
            let user = json!(request.user.to_checksum(None));
            let contracts = addresses(&permit.allowed_contracts);
            let window = [number(permit.start_timestamp), number(permit.duration_seconds)];
            let [start, duration] = window;
            let values = vec![user, public_key, contracts, start, duration, extra_data];
            (unified::UserDecryptRequestVerification::eip712_encode_type(), values)
        }
    };
    let (name, members) = members(&encoded);
    let message: Map<String, Value> = members.iter().map(|(_, name)| (*name).to_owned()).zip(values).collect();
    let types = |members: &[(&str, &str)]| -> Value { members.iter().map(|(ty, name)| json!({ "name": name, "type": ty })).collect() };
    json!({
        "types": {
            "EIP712Domain": types(&[("string", "name"), ("string", "version"), ("uint256", "chainId"), ("address", "verifyingContract")]),
            name: types(&members),
        },
        "primaryType": name,
        "domain": {
            "name": "Decryption",
            "version": "1",
            "chainId": domains.host_chain_id,
            "verifyingContract": domains.decryption.to_checksum(None),
        },
        "message": message,
    })
}

/// Takes `Name(type member,…)` apart: the types of permits have only members of simple types.
fn members(encoded: &str) -> (&str, Vec<(&str, &str)>) {
    let (name, list) = encoded.trim_end_matches(')').split_once('(').unwrap_or((encoded, ""));
    (name, list.split(',').filter_map(|member| member.split_once(' ')).collect())
}

fn addresses(list: &[Address]) -> Value {
    list.iter().map(|address| address.to_checksum(None)).collect()
}

/// Decimal digits in a string, which no wallet rounds.
fn number(number: u64) -> Value {
    json!(number.to_string())
}

#[cfg(test)]
mod tests {
    use alloy::dyn_abi::TypedData;
    use cipherloom_contracts::development;
    use cipherloom_primitives::{
        Bytes,
        decryption::{ClassicPermit, UnifiedPermit},
    };

    use super::*;

    #[test]
    fn wallets_sign_the_digest_of_the_request() {
        let domains = development::signing_domains();
        let classic = |delegator| {
            DecryptionPermit::Classic(ClassicPermit {
                delegator,
                contracts: vec![Address::repeat_byte(1), Address::repeat_byte(2)],
                start_timestamp: 1_800_000_000,
                duration_days: 3,
            })
        };
        let unified = DecryptionPermit::Unified(UnifiedPermit {
            allowed_contracts: vec![],
            start_timestamp: 1_800_000_000,
            duration_seconds: 90,
        });
        for permit in [classic(None), classic(Some(Address::repeat_byte(3))), unified] {
            let request = UserDecryptionRequest {
                values: vec![],
                user: Address::repeat_byte(9),
                permit,
                public_key: vec![7; 869].into(),
                extra_data: Bytes::from_static(&[0]),
                signature: Bytes::new(),
            };
            let typed: TypedData = serde_json::from_value(of_request(&request, &domains)).unwrap();
            assert_eq!(
                typed.eip712_signing_hash().unwrap(),
                request.digest(&domains),
                "{}",
                typed.primary_type
            );
        }
    }
}
