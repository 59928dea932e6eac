//! The bytes themselves: against the bincode crate, and against a committed answer.
//!
//! `vectors/centralised.json` is an answer with fixed keys and fixed randomness. It keeps the format from drifting: clients in the
//! field read exactly these bytes. Run the test with `CIPHERLOOM_WRITE_VECTORS=1` to write the file anew, on purpose only.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

mod support;

use cipherloom_primitives::{B256, Handle, U256, decryption::UserDecryptionShare};
use cipherloom_signcryption::{
    node_address, open, seal,
    wire::{Payload, Sealed, SealedValue},
};
use serde::{Deserialize, Serialize};
use support::{USER, context, domains, fixed_randomness, node_key, user_keys, values};

/// The payload as a structure that serde and bincode lay out.
#[derive(Serialize)]
struct BincodePayload {
    verification_key: Vec<u8>,
    digest: Vec<u8>,
    signcrypted_ciphertexts: Vec<BincodeValue>,
    party_id: u32,
    degree: u32,
}

#[derive(Serialize)]
struct BincodeValue {
    fhe_type: i32,
    signcrypted_ciphertext: Vec<u8>,
    external_handle: Vec<u8>,
    packing_factor: u32,
}

#[test]
fn payload_and_sealed_value_are_laid_out_as_bincode_does() {
    let payload = Payload {
        node_key: [2; 33],
        link: B256::repeat_byte(3),
        values: vec![
            SealedValue {
                fhe_type: 5,
                sealed: vec![1, 2, 3],
                handle: B256::repeat_byte(4),
                packing_factor: 1,
            },
            SealedValue {
                fhe_type: -1,
                sealed: vec![],
                handle: B256::repeat_byte(5),
                packing_factor: u32::MAX,
            },
        ],
        party_id: 1,
        degree: 0,
    };
    let same = BincodePayload {
        verification_key: bincode::serialize(&payload.node_key.to_vec()).unwrap(),
        digest: payload.link.to_vec(),
        signcrypted_ciphertexts: payload
            .values
            .iter()
            .map(|value| BincodeValue {
                fhe_type: value.fhe_type,
                signcrypted_ciphertext: value.sealed.clone(),
                external_handle: value.handle.to_vec(),
                packing_factor: value.packing_factor,
            })
            .collect(),
        party_id: payload.party_id,
        degree: payload.degree,
    };
    assert_eq!(payload.to_bytes(), bincode::serialize(&same).unwrap());
    assert_eq!(Payload::from_bytes(&payload.to_bytes()).unwrap(), payload);

    let sealed = Sealed {
        nonce: [7; 12],
        encapsulation: &[8; 768],
        ciphertext: &[9; 40],
    };
    let bytes = bincode::serialize(&([7u8; 12], vec![8u8; 768], vec![9u8; 40])).unwrap();
    assert_eq!(sealed.to_bytes(), bytes);
    assert_eq!(Sealed::from_bytes(&bytes).unwrap(), sealed);
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
struct Vector {
    comment: String,
    user_seed: String,
    public_key: String,
    private_key_for_wasm: String,
    user: String,
    node_private_key: String,
    node: String,
    decryption: String,
    handles: Vec<Handle>,
    values: Vec<U256>,
    extra_data: String,
    payload: String,
    signature: String,
}

/// The secret key as published WebAssembly clients store it: a length and FIPS 203's expanded form.
fn private_key_for_wasm() -> Vec<u8> {
    #[expect(deprecated, reason = "the expanded form is what those clients read")]
    let expanded = ml_kem::ExpandedKeyEncoding::to_expanded_bytes(&ml_kem::ml_kem_512::DecapsulationKey::from_seed([0x17; 64].into()));
    [&1632u64.to_le_bytes(), expanded.as_slice()].concat()
}

fn vector() -> (Vector, UserDecryptionShare) {
    let (domains, keys, values, node_key) = (domains(), user_keys(), values(), node_key());
    let share = seal(&context(&domains, &keys), &values, &node_key, fixed_randomness()).unwrap();
    let vector = Vector {
        comment: "domains: host 31337, gateway 10901, decryption 0xd1…d1; value n (from 1): encapsulation randomness 32 times n, nonce 12 times 255-n"
            .into(),
        user_seed: hex::encode([0x17; 64]),
        public_key: hex::encode(keys.public_key().blob()),
        private_key_for_wasm: hex::encode(private_key_for_wasm()),
        user: USER.to_checksum(None),
        node_private_key: hex::encode([0x42; 32]),
        node: node_address(&node_key).to_checksum(None),
        decryption: domains.decryption.to_checksum(None),
        handles: values.iter().map(|(handle, _)| *handle).collect(),
        values: values.iter().map(|(_, value)| *value).collect(),
        extra_data: "00".into(),
        payload: hex::encode(&share.payload),
        signature: hex::encode(&share.signature),
    };
    (vector, share)
}

#[test]
fn the_committed_answer_is_made_byte_for_byte_and_opens() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/centralised.json");
    let (made, share) = vector();
    if std::env::var_os("CIPHERLOOM_WRITE_VECTORS").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&made).unwrap() + "\n").unwrap();
    }
    let committed: Vector = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(made, committed);

    let (domains, keys) = (domains(), user_keys());
    let opened = open(
        &context(&domains, &keys),
        &committed.handles,
        &share,
        &keys,
        node_address(&node_key()),
    )
    .unwrap();
    assert_eq!(opened, committed.values);
}
