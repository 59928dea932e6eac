//! Answers for clients of the 0.6 generation: opened here as such a client does, and against a committed one.
//!
//! `vectors/generation-0.6.json` is made with fixed keys and fixed randomness; `cargo xtask e2e legacy` opens it with the published WebAssembly. Run
//! with `CIPHERLOOM_WRITE_VECTORS=1` to write the file anew, on purpose only.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

use cipherloom_primitives::{Address, FheType, U256, generation_0_6::reencryption_digest};
use cipherloom_signcryption::{
    SigncryptionError, SigningKey,
    generation_0_6::{BoxKey, BoxRandomness, ReencryptionAnswer, ReencryptionContext, ciphertext_digest, seal_reencryption},
    node_address,
};
use crypto_box::{PublicKey, SalsaBox, SecretKey, aead::Aead};
use k256::ecdsa::{Signature, VerifyingKey, signature::Verifier};
use serde::{Deserialize, Serialize};
use sha3::{Digest, Sha3_256};

const USER: Address = Address::repeat_byte(0xa1);
const CONTRACT: Address = Address::repeat_byte(0x70);
const CHAIN: u64 = 31337;
const CIPHERTEXT: &[u8] = b"a ciphertext";

fn sent(key: &PublicKey) -> Vec<u8> {
    [32u64.to_le_bytes().as_slice(), key.as_bytes()].concat()
}

fn user_secret() -> SecretKey {
    SecretKey::from_bytes([0x17; 32])
}

fn node_key() -> SigningKey {
    SigningKey::from_slice(&[0x42; 32]).unwrap()
}

fn answer(ty: FheType, value: U256, randomness: &BoxRandomness) -> ReencryptionAnswer {
    let key = BoxKey::from_sent(&sent(&user_secret().public_key())).unwrap();
    let context = ReencryptionContext {
        request: reencryption_digest(CHAIN, CONTRACT, key.sent(), None),
        user: USER,
        key: &key,
        ciphertext_digest: ciphertext_digest(CIPHERTEXT),
    };
    seal_reencryption(&context, ty, value, &node_key(), randomness).unwrap()
}

fn fixed_randomness() -> BoxRandomness {
    BoxRandomness {
        secret: [0x23; 32],
        nonce: [0x29; 24],
    }
}

/// Reads fields off the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn number(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = u64::from_le_bytes(self.take(8).try_into().unwrap());
        self.take(usize::try_from(length).unwrap())
    }
}

/// Opens an answer with every check that the published client makes.
fn open(answer: &ReencryptionAnswer, secret: &SecretKey) -> Option<(i32, U256)> {
    let mut payload = Fields(&answer.payload);
    assert_eq!(payload.number(), 1, "the version");
    let node = Fields(payload.bytes()).bytes();
    let verifying = VerifyingKey::from_sec1_bytes(node).unwrap();
    assert_eq!(Address::from_public_key(&verifying), node_address(&node_key()));
    let link = payload.bytes();
    let digest = reencryption_digest(CHAIN, CONTRACT, &sent(&secret.public_key()), None);
    assert_eq!(link, [digest.as_slice(), &Sha3_256::digest(CIPHERTEXT)].concat());
    let ty = payload.number();
    let mut sealed = Fields(payload.bytes());
    assert_eq!([payload.number(), payload.number()], [1, 0], "party and degree");
    assert!(payload.0.is_empty());
    verifying
        .verify(&answer.payload, &Signature::from_slice(&answer.signature).unwrap())
        .ok()?;

    let (boxed, nonce, one_time) = (sealed.bytes(), sealed.bytes(), sealed.bytes());
    assert!(sealed.0.is_empty());
    let one_time_key = PublicKey::from_slice(one_time).unwrap();
    let content = SalsaBox::new(&one_time_key, secret).decrypt(nonce.into(), boxed).ok()?;
    let (message, rest) = content.split_at(content.len() - 128);
    let (signature, digests) = rest.split_at(64);
    let sha3 = |bytes: &[u8]| Sha3_256::digest([(bytes.len() as u64).to_le_bytes().as_slice(), bytes].concat());
    assert_eq!(digests, [sha3(node), sha3(one_time)].concat());
    let signed = [message, USER.as_slice(), &Sha3_256::digest(sent(&secret.public_key()))].concat();
    verifying.verify(&signed, &Signature::from_slice(signature).unwrap()).unwrap();
    let mut message = Fields(message);
    let value = U256::from_le_slice(message.bytes());
    let inner_type = i32::from_le_bytes(message.bytes().try_into().unwrap());
    assert_eq!(i64::from(inner_type), i64::from(ty));
    assert_eq!(message.bytes(), link);
    Some((inner_type, value))
}

#[test]
fn values_of_every_type_come_back() {
    for ty in FheType::ALL {
        for value in [U256::ZERO, ty.max_value()] {
            let answer = answer(ty, value, &BoxRandomness::generate().unwrap());
            assert_eq!(open(&answer, &user_secret()), Some((i32::from(ty.id()), value)));
        }
    }
}

#[test]
fn lengths_tell_nothing_about_the_value() {
    let length = |value| answer(FheType::Uint64, value, &fixed_randomness()).payload.len();
    assert_eq!(length(U256::ZERO), length(U256::from(u64::MAX)));
}

#[test]
fn what_was_changed_does_not_open() {
    let mut changed = answer(FheType::Uint64, U256::from(42), &fixed_randomness());
    let at = changed.payload.len() - 100;
    changed.payload[at] ^= 1;
    assert_eq!(open(&changed, &user_secret()), None);
}

#[test]
fn keys_of_another_form_and_of_low_order_are_refused() {
    let good = sent(&user_secret().public_key());
    assert_eq!(BoxKey::from_sent(&good).unwrap().sent().as_slice(), good);
    let zero = sent(&PublicKey::from_bytes([0; 32]));
    let one = sent(&PublicKey::from_bytes([[1].as_slice(), &[0; 31]].concat().try_into().unwrap()));
    let longer = [good.as_slice(), &[0]].concat();
    let wrong_length = [31u64.to_le_bytes().as_slice(), &good[8..]].concat();
    for bad in [&good[..39], &longer, &wrong_length, &zero, &one, &[]] {
        assert_eq!(BoxKey::from_sent(bad).unwrap_err(), SigncryptionError::BoxKey);
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    comment: String,
    chain_id: u64,
    user: String,
    contract: String,
    public_key: String,
    private_key: String,
    node: String,
    value: String,
    payload: String,
    signature: String,
    ciphertext_digest: String,
}

#[test]
fn the_committed_answer_is_made_byte_for_byte() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/generation-0.6.json");
    let value = U256::from(0x1234_5678_9abc_def0_u64);
    let made = answer(FheType::Uint64, value, &fixed_randomness());
    let made = Vector {
        comment: "user's secret 0x17…, node's 0x42…, one-time secret 0x23…, nonce 0x29…".into(),
        chain_id: CHAIN,
        user: USER.to_checksum(None),
        contract: CONTRACT.to_checksum(None),
        public_key: hex::encode(sent(&user_secret().public_key())),
        private_key: hex::encode([32u64.to_le_bytes().as_slice(), &user_secret().to_bytes()].concat()),
        node: node_address(&node_key()).to_checksum(None),
        value: value.to_string(),
        payload: hex::encode(&made.payload),
        signature: hex::encode(made.signature),
        ciphertext_digest: hex::encode(made.ciphertext_digest),
    };
    if std::env::var_os("CIPHERLOOM_WRITE_VECTORS").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&made).unwrap() + "\n").unwrap();
    }
    let committed: Vector = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(made, committed);
}
